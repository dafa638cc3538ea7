"""Time reading videos: opening, all frames in a row, single frames by index, and a few in one call.

    python benchmarks/videos.py FILE… [--json FILE]

Each file is read ``--rounds`` times; the table gives medians.
Frames come out as RGB arrays, so the change of colours is part of the time.
"""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from common import add_json, machine, positive, run, write_report

from hhmnet.benchmarks.measure import timed
from hhmnet.commands.terminal import Parser, console, table
from hhmnet.video import Video, open_video

JUMPS = 20
"""Single frames asked for in a round."""
SET = 8
"""Frames asked for in one call, spread over the video: as many as a sheet of body parts needs."""


def measure(file: Path, rounds: int) -> dict[str, Any]:
    """Medians of one file: milliseconds to open it, for one frame and for a few, and frames per second in a row."""
    times: dict[str, list[float]] = {"open": [], "row": [], "jump": [], "set": []}
    for number in range(rounds):
        times["open"].append(timed(lambda: open_video(file).close()))
        with open_video(file) as video:
            times["row"].append(timed(lambda video=video: sum(1 for _ in video)))
            spread = np.linspace(0, len(video) - 1, SET).round().astype(int)
            times["set"].append(
                timed(lambda video=video, spread=spread: [video.frame(int(index)) for index in spread])
            )
        times["jump"] += _jumps(file, number)
    with open_video(file) as video:
        return _figures(video, times) | {"file": file.name}


def _jumps(file: Path, seed: int) -> list[float]:
    """Seconds for each of some frames in random order."""
    with open_video(file) as video:
        indices = np.random.default_rng(seed).integers(0, len(video), JUMPS).tolist()
        return [timed(lambda index=index: video.frame(index)) for index in indices]


def _figures(video: Video, times: dict[str, list[float]]) -> dict[str, Any]:
    return {
        "frames": len(video),
        "size": f"{video.width} x {video.height}",
        "open_ms": 1000 * median(times["open"]),
        "frames_per_second": len(video) / median(times["row"]),
        "one_frame_ms": 1000 * median(times["jump"]),
        "set_ms": 1000 * median(times["set"]),
    }


def main(words: list[str]) -> None:
    """Run the benchmark."""
    parser = Parser("videos.py", "Time reading videos.")
    add = parser.add_argument
    add("files", nargs="+", type=Path, metavar="FILE")
    add("--rounds", type=positive(int), default=5, metavar="N", help="times each is read (5)")
    add_json(parser)
    options = parser.parse_args(words)
    about = machine()
    rows = [measure(file, options.rounds) for file in options.files]
    columns = (
        ">frames",
        "size",
        ">open, ms",
        ">frames/s",
        ">one frame, ms",
        f">{SET} at once, ms",
    )
    view = table(f"{about['cores']} cores, load before {about['load_before']:.1f}", "file", *columns)
    for row in rows:
        figures = (f"{row[key]:,.1f}" for key in ("open_ms", "frames_per_second", "one_frame_ms", "set_ms"))
        view.add_row(row["file"], str(row["frames"]), row["size"], *figures)
    console(stderr=False).print(view)
    write_report({"machine": about, "videos": rows}, options.json)


if __name__ == "__main__":
    sys.exit(run(main))

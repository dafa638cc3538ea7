"""Time reading videos: opening, all frames in a row, single frames by index, and a few in one call.

    python benchmarks/videos.py FILE… [--json FILE]

Each file is read ``--rounds`` times; the table gives medians.
Frames come out as RGB arrays, so the change of colours is part of the time.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from hhmnet.commands.terminal import Parser, UsageError, console, table
from hhmnet.files import replacing
from hhmnet.video import Video, VideoError, open_video

JUMPS = 20
"""Single frames asked for in a round."""
SET = 8
"""Frames asked for in one call, spread over the video: as many as a sheet of body parts needs."""


def seconds(work: Callable[[], object]) -> float:
    """How long a piece of work takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(file: Path, rounds: int) -> dict[str, Any]:
    """Medians of one file: milliseconds to open it, for one frame and for a few, and frames per second in a row."""
    times: dict[str, list[float]] = {"open": [], "row": [], "jump": [], "set": []}
    for number in range(rounds):
        times["open"].append(seconds(lambda: open_video(file).close()))
        with open_video(file) as video:
            times["row"].append(seconds(lambda video=video: sum(1 for _ in video)))
            spread = np.linspace(0, len(video) - 1, SET).round().astype(int)
            times["set"].append(seconds(lambda video=video, spread=spread: video.frames(spread)))
        times["jump"] += _jumps(file, number)
    with open_video(file) as video:
        return _figures(video, times) | {"file": file.name}


def _jumps(file: Path, seed: int) -> list[float]:
    """Seconds for each of some frames in random order."""
    with open_video(file) as video:
        indices = np.random.default_rng(seed).integers(0, len(video), JUMPS).tolist()
        return [seconds(lambda index=index: video.frame(index)) for index in indices]


def _figures(video: Video, times: dict[str, list[float]]) -> dict[str, Any]:
    return {
        "frames": len(video),
        "size": f"{video.width} x {video.height}",
        "open_ms": 1000 * median(times["open"]),
        "frames_per_second": len(video) / median(times["row"]),
        "one_frame_ms": 1000 * median(times["jump"]),
        "set_ms": 1000 * median(times["set"]),
    }


def main(words: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    parser = Parser("videos.py", "Time reading videos.")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument(
        "--rounds", type=_count, default=5, metavar="N", help="times each is read (%(default)s)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here as well")
    try:
        options = parser.parse_args(sys.argv[1:] if words is None else words)
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
        rows = [measure(file, max(1, options.rounds)) for file in options.files]
    except (UsageError, VideoError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    columns = (
        ">frames",
        "size",
        ">open, ms",
        ">frames/s",
        ">one frame, ms",
        f">{SET} at once, ms",
    )
    view = table(f"{os.cpu_count()} cores, load before {load:.1f}", "file", *columns)
    for row in rows:
        figures = (f"{row[key]:,.1f}" for key in ("open_ms", "frames_per_second", "one_frame_ms", "set_ms"))
        view.add_row(row["file"], str(row["frames"]), row["size"], *figures)
    console(stderr=False).print(view)
    if options.json:
        with replacing(options.json) as file:
            document = {"cores": os.cpu_count(), "load_before": load, "videos": rows}
            file.write((json.dumps(document, indent=1) + "\n").encode())
    return 0


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is not a number from 0")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())

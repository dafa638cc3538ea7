"""``python -m hhmnet.pose``: fetch the networks, or draw a sheet of overlays from a store."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from hhmnet.pose.assets import NETWORKS, PoseError, fetch_models
from hhmnet.pose.sheet import draw_sheet
from hhmnet.store import Store, StoreError


def main(words: Sequence[str] | None = None) -> int:
    """Run one of the two commands; returns its exit code."""
    options = _parser().parse_args(words)
    try:
        if options.command == "fetch":
            for name, file in fetch_models().items():
                print(f"{name:18} {file}  {NETWORKS[name].about}")
        else:
            _sheets(options.store, options.videos, options.out, options.rows)
    except (PoseError, StoreError, OSError) as error:
        print(f"hhmnet.pose: error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m hhmnet.pose", description="Joints from video: networks and sheets."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("fetch", help="fetch the networks, so that nothing needs the internet afterwards")
    sheet = commands.add_parser("sheet", help="draw skeletons over frames of their videos")
    sheet.add_argument("store", type=Path, help="a store that was made from videos")
    sheet.add_argument("--videos", type=Path, required=True, metavar="DIR", help="folder of the videos")
    sheet.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder of the sheets, sheet_001.png, …"
    )
    sheet.add_argument("--rows", type=int, default=10, help="clips on a sheet (10)")
    return parser


def _sheets(store: Path, videos: Path, out: Path, rows: int) -> None:
    opened = Store(store)
    out.mkdir(parents=True, exist_ok=True)
    for number, first in enumerate(range(0, len(opened), rows), start=1):
        samples = [opened.sample(i) for i in range(first, min(first + rows, len(opened)))]
        file = out / f"sheet_{number:03d}.png"
        draw_sheet(samples, opened.layout, videos, file)
        print(f"{file}: {', '.join(sample.sample_id for sample in samples)} (from above)")


if __name__ == "__main__":
    sys.exit(main())

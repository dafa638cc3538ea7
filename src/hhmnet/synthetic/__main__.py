"""``python -m hhmnet.synthetic OUT [--clips N] [--seed S] [--videos] [--jobs N]`` writes the sample data set."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hhmnet.synthetic.raw_files import generate


def main(words: list[str] | None = None) -> int:
    """Write the sample set; returns 0, or 2 after one line on standard error when the input is wrong."""
    parser = argparse.ArgumentParser("python -m hhmnet.synthetic", description="Write the sample data set.")
    parser.add_argument("out", type=Path, help="folder to write, new or empty")
    parser.add_argument("--clips", type=int, default=240, help="how many clips (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the whole set (default: %(default)s)")
    parser.add_argument("--videos", action="store_true", help="write the clips' videos, too, to OUT/videos")
    parser.add_argument("--jobs", type=int, default=1, help="number of processes (default: %(default)s)")
    options = parser.parse_args(words)
    try:
        paths = generate(**vars(options))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{len(paths)} clips in {options.out}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())

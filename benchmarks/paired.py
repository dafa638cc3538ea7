"""What one kind of model gains over another on the same clips, with an interval: from score files, one a seed or fold.

    python benchmarks/paired.py --ours R0/eval R1/eval R2/eval --theirs S0/eval S1/eval S2/eval

The n-th of each side are compared clip by clip. With ``--folds`` the pairs hold different clips and count side by side;
else each pair is a seed over the same clips, and clips and seeds are both drawn anew for the interval.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from ablation import difference
from common import BenchmarkError, run

from hhmnet.commands.terminal import Parser, console, table
from hhmnet.evaluation.scores import Scores, ScoresError


def right(file: Path) -> dict[str, bool]:
    """Which clips are right, by their names."""
    try:
        scores = Scores.load(file / "scores.parquet" if file.is_dir() else file)
    except ScoresError as error:
        raise BenchmarkError(str(error)) from None
    return dict(zip(scores.sample_ids.tolist(), scores.right.tolist(), strict=True))


def gains(ours: Path, theirs: Path) -> np.ndarray:
    """What each clip gains, ``(N,)``: -1, 0 or 1."""
    mine, other = right(ours), right(theirs)
    if mine.keys() != other.keys():
        raise BenchmarkError(f"{ours} and {theirs} are of different clips")
    return np.array([int(mine[name]) - int(other[name]) for name in mine])


def main(words: list[str]) -> None:
    """Compare, and table."""
    parser = Parser(
        "paired.py", "What one kind of model gains over another, by score files of `hhmnet evaluate`."
    )
    for name in ("--ours", "--theirs"):
        parser.add_argument(
            name, type=Path, nargs="+", required=True, metavar="SCORES", help="files, or their folders"
        )
    parser.add_argument(
        "--folds", action="store_true", help="pairs are folds with clips of their own, not seeds"
    )
    options = parser.parse_args(words)
    if len(options.ours) != len(options.theirs):
        raise BenchmarkError("--ours and --theirs must name equally many score files")
    each = [gains(ours, theirs) for ours, theirs in zip(options.ours, options.theirs, strict=True)]
    if not options.folds and len({len(gain) for gain in each}) > 1:
        raise BenchmarkError("the pairs hold different numbers of clips: folds? then add --folds")
    mean, low, high = difference([np.concatenate(each)[None] if options.folds else np.stack(each)])
    all_gains = np.concatenate(each)
    view = table("paired, top-1", ">clips", ">better", ">worse", ">gain", ">95 %")
    better, worse = int((all_gains > 0).sum()), int((all_gains < 0).sum())
    view.add_row(str(len(all_gains)), str(better), str(worse), f"{mean:+.2f}", f"{low:+.2f} to {high:+.2f}")
    console(stderr=False).print(view)


if __name__ == "__main__":
    sys.exit(run(main))

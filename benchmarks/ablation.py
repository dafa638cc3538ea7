"""What each part of ST&ST is worth: one part changed at a time, measured on validation folds.

``README.md`` beside this file says how to read the table.
"""

from __future__ import annotations

import argparse
import signal
import sys
from dataclasses import replace
from typing import Any

import study
from study_runs import Row

from hhmnet.commands.terminal import Parser
from hhmnet.config import TrainConfig

DEFAULT = "default"
PARTS: dict[str, Any] = {"mask": "topk", "reranking": "jaccard", "select": True}
ROWS: dict[str, dict[str, Any]] = {
    DEFAULT: {},
    "mask-none": {"mask": "none"},
    "mask-threshold": {"mask": "threshold"},
    "mask-random": {"mask": "random"},
    "reranking-none": {"reranking": "none"},
    "reranking-reciprocal": {"reranking": "reciprocal"},
    "plain-attention": {"mask": "none", "reranking": "none"},
    "select-false": {"select": False},
}


def make_row(base: TrainConfig, name: str) -> Row:
    """The recipe with all parts of ST&ST switched on, but for what the row changes."""
    settings = PARTS | ROWS[name]
    return Row(name, DEFAULT, settings, replace(base, model=replace(base.model, **settings)))


def rows(options: argparse.Namespace, base: TrainConfig) -> list[Row]:
    """The default, and the rows that are asked for."""
    return [make_row(base, name) for name in ROWS if name == DEFAULT or name in options.rows]


def add_options(parser: Parser) -> None:
    """``--rows``."""
    parser.add_argument(
        "--rows", nargs="+", choices=ROWS, default=list(ROWS), help="rows beside the default (all)"
    )


STUDY = study.Study(
    name="ablation",
    description="Change one part of ST&ST at a time and measure it on validation folds.",
    taken=frozenset(f"model.{name}" for name in PARTS),
    add_options=add_options,
    rows=rows,
)


def main(words: list[str] | None = None) -> int:
    """Run the ablation; returns the exit code."""
    return study.main(STUDY, sys.argv[1:] if words is None else words)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the runs get to checkpoint
    sys.exit(main())

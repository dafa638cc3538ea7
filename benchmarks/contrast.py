"""What contrast among the streams is worth: weights, positives and sets of streams beside no contrast at all.

``README.md`` beside this file says how to read the tables.
"""

from __future__ import annotations

import argparse
import math
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace

import study
from study_runs import Row, StudyError

from hhmnet.commands.terminal import Parser
from hhmnet.config import TrainConfig
from hhmnet.data.transform import split_names
from hhmnet.losses import POSITIVES


def rows(options: argparse.Namespace, base: TrainConfig) -> list[Row]:
    """For every set of streams the baseline without contrast, then every positives and weight.

    Raises:
        StudyError: a set isn't made of two of the recipe's streams or more.
    """
    found = []
    weights = sorted(set(options.lambdas) - {0.0})
    for names in dict.fromkeys(_chosen(text, base.data.streams) for text in options.streams or [""]):
        some = restricted(base, names)
        prefix = "" if names == base.data.streams else f"{some.data.stream}-"
        baseline = f"{prefix}lambda-0"
        found.append(_row(baseline, baseline, some, 0.0, POSITIVES[0]))
        for positives in (kind for kind in POSITIVES if kind in options.positives):
            for weight in weights:
                name = f"{prefix}lambda-{weight:g}-{positives}"
                found.append(_row(name, baseline, some, weight, positives))
    return found


def _chosen(text: str, streams: Sequence[str]) -> tuple[str, ...]:
    """The streams that a text such as ``joint+bone`` names, in the recipe's order; all of them for an empty one."""
    try:
        names = split_names(text) if text else tuple(streams)
    except ValueError as error:
        raise StudyError(f"--streams {text}: {error}") from None
    if unknown := set(names) - set(streams):
        raise StudyError(
            f"--streams {text}: the recipe has {'+'.join(streams)}, not {', '.join(sorted(unknown))}"
        )
    if len(names) < 2:
        raise StudyError(f"contrast takes two streams or more, not {'+'.join(names)} alone")
    return tuple(name for name in streams if name in names)


def restricted(base: TrainConfig, streams: Sequence[str]) -> TrainConfig:
    """The recipe with some of its streams, each with the weight that it has among all.

    Raises:
        StudyError: the streams' weights are all zero, or the recipe has not one for each stream.
    """
    fusion, every = base.fusion, base.data.streams
    if fusion.weights and len(fusion.weights) != len(every):
        raise StudyError(
            f"field 'fusion.weights' has {len(fusion.weights)} numbers for {len(every)} streams ({'+'.join(every)})"
        )
    try:
        if fusion.weights:
            weights = dict(zip(every, fusion.weights, strict=True))
            fusion = replace(fusion, weights=tuple(weights[name] for name in streams))
    except ValueError as error:
        raise StudyError(f"--streams {'+'.join(streams)}: {error}") from None
    return replace(base, fusion=fusion, data=replace(base.data, stream="+".join(streams)))


def _row(name: str, against: str, config: TrainConfig, weight: float, positives: str) -> Row:
    settings = {"stream": config.data.stream, "contrast": weight, "positives": positives if weight else None}
    fusion = replace(config.fusion, contrast=weight, positives=positives)
    return Row(name, against, settings, replace(config, fusion=fusion))


def add_options(parser: Parser) -> None:
    """``--lambdas``, ``--positives`` and ``--streams``."""
    add = parser.add_argument
    weights = "weights of the contrastive loss beside 0, which is always run (0.1 0.5)"
    add("--lambdas", nargs="+", type=_weight, default=[0.1, 0.5], metavar="L", help=weights)
    positives = "positives of the loss (class)"
    add("--positives", nargs="+", choices=POSITIVES, default=[POSITIVES[0]], help=positives)
    add("--streams", nargs="+", metavar="A+B", help="sets of streams, such as joint+bone (the recipe's)")


def _weight(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number from 0")
    return value


STUDY = study.Study(
    name="contrast",
    description="Train several streams with and without contrast among them, and measure it on validation folds.",
    taken=frozenset({"fusion.contrast", "fusion.positives"}),
    add_options=add_options,
    rows=rows,
    tests=True,
)


def main(words: list[str] | None = None) -> int:
    """Run the study; returns the exit code."""
    return study.main(STUDY, sys.argv[1:] if words is None else words)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the runs get to checkpoint
    sys.exit(main())

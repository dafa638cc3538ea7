"""Read the scores that `hhmnet evaluate` wrote, say what is taken for what, and draw it."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from hhmnet.evaluation.figures import draw_confusion
from hhmnet.evaluation.metrics import confusion
from hhmnet.evaluation.scores import Scores


def main() -> None:
    """Scores → confusion matrix → the pairs of classes that are mixed up most."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scores", type=Path, help="such as runs/phase2/eval-test/scores.parquet")
    parser.add_argument("picture", type=Path, help="PNG file to write")
    options = parser.parse_args()

    scores = Scores.load(options.scores)  # sample_ids (N,), labels (N,), logits (N, classes)
    matrix = confusion(scores)  # rows are true classes, columns answers
    print(f"{np.trace(matrix)} of {matrix.sum()} clips are right")

    wrong = matrix - np.diag(np.diag(matrix))
    worst = np.argsort(-wrong, axis=None)[:5]
    for true, answer in zip(*np.unravel_index(worst, wrong.shape), strict=True):
        if wrong[true, answer]:
            of = matrix[true].sum()
            print(f"{wrong[true, answer]} of {of} {scores.class_names[true]} → {scores.class_names[answer]}")
    draw_confusion(matrix, scores.class_names, options.picture)
    print(options.picture)


if __name__ == "__main__":
    main()

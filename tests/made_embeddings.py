"""Embeddings as a model might make them."""

from __future__ import annotations

import numpy as np

from hhmnet.evaluation.embedding import Embeddings


def made_embeddings(
    count: int = 40, classes: int = 4, streams: tuple[str, ...] = ("joint", "bone")
) -> Embeddings:
    """Clips that lie around one place a class, in every stream around others."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % classes
    places = {name: rng.normal(size=(classes, 6)) for name in streams}
    embeddings, projections = (
        {name: places[name][labels] + rng.normal(0, 0.3, (count, 6)) for name in streams} for _ in range(2)
    )
    ids = np.array([f"clip{i}" for i in range(count)])
    names = tuple(f"class {i}" for i in range(classes))
    return Embeddings(ids, labels, names, embeddings, projections)

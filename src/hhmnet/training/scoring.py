"""Scores of clips that several processes share out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from hhmnet.evaluation.scores import Scores, score_streams
from hhmnet.models.pretrained import ActionModel
from hhmnet.sample import MODALITIES
from hhmnet.store import Store
from hhmnet.training.distributed import Team


def score_together(
    team: Team,
    model: ActionModel,
    store: Store,
    indices: np.ndarray,
    device: torch.device,
    videos: Path | None = None,
    modalities: Sequence[str] = MODALITIES,
) -> dict[str, Scores]:
    """What :func:`~hhmnet.evaluation.scores.score_streams` gives, in every process; each clip is scored by one.

    Args:
        team: the processes; all of them must call.
        model: the model, the same in all.
        store: opened store.
        indices: positions of the clips; their number need not be a multiple of the team's size.
        device: where the model is.
        videos: folder of the clips' videos, for a model that looks at them.
        modalities: what the model is given.
    """
    mine = indices[team.rank :: team.size]
    each = score_streams(model, store, mine, device=device, videos=videos, modalities=modalities)
    if team.size == 1:
        return each
    ids, labels = store.sample_ids[indices], store.labels[indices]
    return {
        name: replace(part, sample_ids=ids, labels=labels, logits=team.join_rows(part.logits, len(indices)))
        for name, part in each.items()
    }

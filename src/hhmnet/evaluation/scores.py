"""Scores: one row of logits per clip, keyed by sample_id."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from hhmnet.data.dataset import ClipDataset, EpochSampler, make_loader
from hhmnet.files import replacing
from hhmnet.models.pretrained import ActionModel
from hhmnet.store import Store


class ScoresError(ValueError):
    """A score file that can't be used."""


@dataclass(frozen=True, eq=False)
class Scores:
    """Logits of some clips.

    Attributes:
        sample_ids: ``(N,)`` text.
        labels: ``(N,)`` int64, -1 where unknown.
        logits: ``(N, classes)`` float32.
        class_names: the columns' names.
    """

    sample_ids: np.ndarray
    labels: np.ndarray
    logits: np.ndarray
    class_names: tuple[str, ...]

    def save(self, file: Path) -> None:
        """Write a Parquet file: ``sample_id``, ``label``, one float32 column a class.

        Raises:
            ScoresError: where a class has the name of another column.
        """
        names = ("sample_id", "label", *self.class_names)
        if len(set(names)) < len(names):
            raise ScoresError(f"{file}: each column needs a name of its own, got {', '.join(names)}")
        columns = [pa.array(self.sample_ids.tolist(), pa.string()), pa.array(self.labels, pa.int64())]
        columns += [pa.array(column, pa.float32()) for column in self.logits.T]
        with replacing(file) as draft:
            pq.write_table(pa.table(columns, list(names)), draft)

    @classmethod
    def load(cls, file: Path) -> Scores:
        """Read what :meth:`save` wrote; raises ScoresError naming the file."""
        try:
            table = pq.read_table(file)
            names = tuple(table.column_names[2:])
            if table.column_names[:2] != ["sample_id", "label"] or not names:
                raise ScoresError("its columns must be sample_id, label, and one for each class")
            if any(column.null_count for column in table.columns):
                raise ScoresError("it has gaps")
            logits = np.stack([table[name].to_numpy() for name in names], 1).astype(np.float32)
            labels = table["label"].to_numpy().astype(np.int64)
            return cls(np.array(table["sample_id"].to_pylist(), np.str_), labels, logits, names)
        except (OSError, pa.ArrowException, ValueError) as error:
            raise ScoresError(f"{file}: not a score file ({' '.join(str(error).split())[:200]})") from None


def score(
    model: ActionModel,
    store: Store,
    indices: np.ndarray,
    batch_size: int = 64,
    device: torch.device | None = None,
) -> Scores:
    """Logits of the clips at ``indices`` of a store, in that order, in float32."""
    return next(iter(score_streams(model, store, indices, batch_size, device).values()))


@torch.inference_mode()
def score_streams(
    model: ActionModel,
    store: Store,
    indices: np.ndarray,
    batch_size: int = 64,
    device: torch.device | None = None,
) -> dict[str, Scores]:
    """Scores of the whole model, under the name "", and where it has several streams of each stream by name."""
    device = device or torch.device("cpu")
    training = model.training
    model.eval()
    dataset = ClipDataset(store, indices, model.spec.data.persons)
    loader = make_loader(dataset, EpochSampler(len(indices), batch_size))
    streams = model.spec.data.streams
    names = ("", *streams) if len(streams) > 1 else ("",)
    logits = [model.streams(batch.clips.to(device)).cpu() for batch in loader]
    model.train(training)
    none = torch.zeros(len(names), 0, len(model.spec.class_names))
    rows = torch.cat([none, *logits], dim=1).numpy()
    ids, labels = store.sample_ids[indices], store.labels[indices]
    return {
        name: Scores(ids, labels, part, model.spec.class_names)
        for name, part in zip(names, rows, strict=True)
    }

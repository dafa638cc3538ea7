"""Scores: one row of logits per clip, keyed by sample_id."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor
from torch.utils.data import BatchSampler

from hhmnet.confidence import Confidence
from hhmnet.data.dataset import ClipDataset, make_loader
from hhmnet.files import replacing
from hhmnet.models.pretrained import ActionModel
from hhmnet.sample import MODALITIES
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
        temperature: what the logits are divided by before they become probabilities; isn't saved with them.
    """

    sample_ids: np.ndarray
    labels: np.ndarray
    logits: np.ndarray
    class_names: tuple[str, ...]
    temperature: float = 1.0

    @cached_property
    def probabilities(self) -> np.ndarray:
        """Softmax of the logits at their temperature, ``(N, classes)`` float64."""
        return (torch.from_numpy(self.logits).double() / self.temperature).softmax(1).numpy()

    @cached_property
    def predictions(self) -> np.ndarray:
        """The class with the highest logit, ``(N,)`` int64; of equals the first."""
        return np.asarray(self.logits.argmax(1))

    @property
    def right(self) -> np.ndarray:
        """Which clips are recognised, ``(N,)`` bool; none without a label."""
        return np.asarray(self.predictions == self.labels)

    @property
    def answered(self) -> Scores:
        """Those of clips that had something to go by; of the others all logits are zero."""
        rows = np.asarray(self.logits.any(1))
        own = {name: getattr(self, name)[rows] for name in ("sample_ids", "labels", "logits")}
        return replace(self, **own)

    def save(self, file: Path) -> None:
        """Write a Parquet file: ``sample_id``, ``label``, one float32 column a class.

        Raises ScoresError where a class has the name of another column.
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
            if not pa.types.is_integer(table.schema.field("label").type):
                raise ScoresError("its labels must be whole numbers")
            with np.errstate(over="raise"):
                logits = np.stack([table[name].to_numpy() for name in names], 1).astype(np.float32)
            labels = table["label"].to_numpy().astype(np.int64)
            return cls(np.array(table["sample_id"].to_pylist(), np.str_), labels, logits, names)
        except FileNotFoundError:
            raise ScoresError(f"{file}: there is no such file or folder") from None
        except (OSError, pa.ArrowException, ValueError, TypeError, FloatingPointError) as error:
            raise ScoresError(f"{file}: not a score file ({' '.join(str(error).split())[:200]})") from None


def score(model: ActionModel, store: Store, indices: np.ndarray, **options: Any) -> Scores:
    """Logits of the clips at ``indices`` of a store, in that order, in float32; see :func:`score_streams`."""
    return score_streams(model, store, indices, **options)[""]


def score_streams(
    model: ActionModel,
    store: Store,
    indices: np.ndarray,
    *,
    modalities: Sequence[str] = MODALITIES,
    **options: Any,
) -> dict[str, Scores]:
    """Scores of the whole model, under the name "", and of every member that it joins, by name.

    Arguments and errors as of :func:`ask_batches`, which is asked for ``model.streams``.
    """
    names, spec = ("", *model.members), model.spec
    parts = [torch.zeros(len(names), 0, len(spec.class_names))]
    parts += ask_batches(model.streams, model, store, indices, modalities=modalities, **options)
    given = set(modalities) if spec.roi is not None else {"skeleton"}
    found = {}
    for name, logits in zip(names, torch.cat(parts, dim=1).numpy(), strict=True):
        used = {"video" if name == "video" else "skeleton"} if name else given
        sure = spec.confidence.get("+".join(one for one in MODALITIES if one in used), Confidence())
        about = store.sample_ids[indices], store.labels[indices]
        found[name] = Scores(*about, logits, spec.class_names, sure.temperature)
    return found


@torch.inference_mode()
def ask_batches(
    ask: Callable[..., Tensor],
    model: ActionModel,
    store: Store,
    indices: np.ndarray,
    batch_size: int = 64,
    device: torch.device | None = None,
    videos: Path | None = None,
    modalities: Sequence[str] = MODALITIES,
) -> Iterator[Tensor]:
    """The answers of ``ask``, on the CPU, to one batch of clips after another; the model is in eval mode meanwhile.

    Args:
        ask: answers ``(A, N, classes)`` to ``(clips, video)`` of N raw clips, as ``model.streams`` does.
        model, store, indices: which clips of which store are prepared for which model.
        batch_size: clips at a time.
        device: where the model is; the CPU if None.
        videos: folder of the clips' videos, for a model that looks at them; the store's own note if None.
        modalities: what the model is given: ``skeleton``, ``video`` or both.

    Raises:
        VideoFolderError: the model looks at videos, and nobody knows where they are.
    """
    training = model.training
    model.eval()
    looks, dataset = model.spec.roi is not None, ClipDataset(store, indices, model.spec.data.persons)
    if looks and "video" in modalities:
        # A model of skeletons alone does without the video reader.
        from hhmnet.data.crop_cache import CropCache

        dataset.cache, dataset.videos = CropCache(config=model.spec.roi), store.find_videos(videos)
    for batch in make_loader(dataset, BatchSampler(range(len(indices)), batch_size, drop_last=False)):
        there = batch.to(device or torch.device("cpu"))
        yield ask(there.clips if not looks or "skeleton" in modalities else None, there.video).cpu()
    model.train(training)

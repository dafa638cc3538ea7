"""Loading: clips of a store, by position, as ragged batches; and how long these clips are."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from hhmnet.data.crop_cache import CropCache
from hhmnet.data.places import pictures_of
from hhmnet.data.transform import SkeletonBatch
from hhmnet.data.video_batch import VideoBatch, stack_crops
from hhmnet.readers.joints import tallness
from hhmnet.sample import Sample
from hhmnet.store import Store, VideoFolderError
from hhmnet.video import VideoError, open_video

_GRACE_SECONDS = 60


class StoresError(ValueError):
    """Stores that can't be read together."""


class Stores:
    """Several stores as one: the clips one behind the other, and the classes too, each store's own.

    Args:
        stores: opened stores of the same joints, in folders of different names.

    Attributes:
        names: of the stores' folders.
        layout: the joints.
        class_names: of all stores, one behind the other; two stores may have a class of the same name.
        sample_ids: ``(N,)`` of all clips.
        first_clip, first_class: where each store's clips and classes begin.

    Raises:
        StoresError: the stores have different joints, or folders of the same name.
    """

    def __init__(self, stores: Sequence[Store]) -> None:
        self.stores, self.layout = tuple(stores), stores[0].layout
        self.names = tuple(store.path.resolve().name for store in stores)
        for store, name in zip(stores, self.names, strict=True):
            if store.layout.to_dict() != self.layout.to_dict():
                raise StoresError(
                    f"{store.path} has the joints of {store.layout.name}, {stores[0].path} those of "
                    f"{self.layout.name}: one encoder takes one kind of skeleton; train them apart"
                )
            if self.names.count(name) > 1:
                raise StoresError(
                    f"--data names two stores called '{name}': a head is named after its store's folder; rename one"
                )
        self.class_names = tuple(name for store in stores for name in store.class_names)
        self.sample_ids = np.concatenate([store.sample_ids for store in stores])
        self.first_clip = np.cumsum([0, *map(len, stores)])
        self.first_class = np.cumsum([0, *(len(store.class_names) for store in stores)])

    def offset_labels(self, number: int, labels: np.ndarray) -> np.ndarray:
        """Labels of one store's clips, counted among all classes; -1 stays."""
        return np.where(labels < 0, labels, labels + self.first_class[number])

    def joints(self, i: int) -> np.ndarray:
        """``(M, T, V, C)`` of one clip."""
        store, row = self._place(i)
        return store.joints(row)

    def present(self, i: int) -> np.ndarray:
        """``(M, T)`` of one clip."""
        store, row = self._place(i)
        return store.present(row)

    def _place(self, i: int) -> tuple[Store, int]:
        number = int(np.searchsorted(self.first_clip, i, side="right")) - 1
        return self.stores[number], i - int(self.first_clip[number])


class RawBatch(NamedTuple):
    """A batch before preprocessing.

    Attributes:
        clips: joints of all clips, ragged.
        index: ``(N,)`` int64, position of every clip in the store.
        video: crops of the same clips' videos; None where no video is loaded.
    """

    clips: SkeletonBatch
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    video: VideoBatch | None = None

    def to(self, device: torch.device) -> RawBatch:
        """The same batch on another device."""
        index = self.index.to(device, non_blocking=True)
        return RawBatch(self.clips.to(device), index, self.video and self.video.to(device))


def to_clips(joints: Sequence[np.ndarray], present: Sequence[np.ndarray], persons: int) -> SkeletonBatch:
    """Clips one behind the other, as preprocessing takes them.

    Args:
        joints: ``(M, T, V, C)`` of every clip.
        present: ``(M, T)`` of every clip.
        persons: persons kept of every clip; one with fewer is padded with absent ones.
    """
    joints, present = [clip[:persons] for clip in joints], [mask[:persons] for mask in present]
    lengths = np.array([clip.shape[1] for clip in joints])
    frames, ends = int(lengths.sum()), lengths.cumsum()
    flat = np.zeros((frames, persons, *joints[0].shape[2:]), np.float32)
    there = np.zeros((frames, persons), bool)
    for clip, mask, end, length in zip(joints, present, ends, lengths, strict=True):
        flat[end - length : end, : clip.shape[0]] = clip.swapaxes(0, 1)
        there[end - length : end, : clip.shape[0]] = mask.T
    return SkeletonBatch(
        torch.from_numpy(flat),
        None if there.all() else torch.from_numpy(there),
        torch.from_numpy(lengths),
    )


class ClipDataset(Dataset[RawBatch]):
    """Some clips of a store. It is indexed by whole batches of positions, and holds no clip in memory.

    Args:
        store: an opened store, or several as one.
        indices: positions of the clips in the store.
        persons: persons kept of every clip, M; a clip with fewer is padded with absent ones.
        cache: where the crops of one store's videos are, or are put when they are first needed; None without crops.
        videos: where that store's videos are.
    """

    def __init__(
        self,
        store: Store | Stores,
        indices: np.ndarray,
        persons: int,
        cache: CropCache | None = None,
        videos: Path | None = None,
    ) -> None:
        self.store, self.indices, self.persons = store, indices, persons
        self.cache, self.videos = cache, videos

    def __len__(self) -> int:
        return len(self.indices)

    def __getitems__(self, items: list[int]) -> RawBatch:
        """A batch of the clips at these positions among ``indices``."""
        rows = self.indices[items]
        joints = [self.store.joints(int(i)) for i in rows]
        present = [self.store.present(int(i)) for i in rows]
        batch = RawBatch(to_clips(joints, present, self.persons), torch.from_numpy(rows))
        if self.cache is None:
            return batch
        assert isinstance(self.store, Store)
        crops = [self.cache.get(self.store, int(i), self.videos) for i in rows]
        return batch._replace(video=stack_crops(crops))


class EpochSampler(Sampler[list[int]]):
    """Batches of positions for one epoch after another, a function of (seed, epoch, start) alone.

    A last, smaller batch is left out: a batch of one breaks batch normalisation.

    Args:
        count: clips.
        batch_size: clips a batch, or all of them where there are fewer.
        seed: of the order.
        part: which of how many equal parts of each batch: ``(1, 4)`` is the second quarter; all of it by default.
    """

    def __init__(self, count: int, batch_size: int, seed: int, part: tuple[int, int] = (0, 1)) -> None:
        self.count, self.batch_size, self.seed = count, min(batch_size, count), seed
        self.part = part
        self.epoch = self.start = 0

    def __len__(self) -> int:
        return self.count // self.batch_size

    def __iter__(self) -> Iterator[list[int]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.count)
        number, parts = self.part
        for batch in range(self.start, len(self)):
            whole = order[batch * self.batch_size : (batch + 1) * self.batch_size]
            yield whole[len(whole) * number // parts : len(whole) * (number + 1) // parts].tolist()


def _as_it_is(batch: Any) -> Any:
    return batch


def _on_start(worker: int) -> None:
    """A scheduler tells every process to stop, but the program still needs the clips of the step that it finishes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _obey_later)


def _obey_later(number: int, frame: FrameType | None) -> None:
    signal.alarm(_GRACE_SECONDS)  # a worker that hangs ends by this; others end when the program does


def make_loader(
    dataset: ClipDataset, sampler: Sampler[list[int]], workers: int = 0, pin: bool = False
) -> DataLoader[RawBatch]:
    """A loader that hands whole batches through; workers stay alive between epochs."""
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        collate_fn=_as_it_is,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=pin,
        worker_init_fn=_on_start,
    )


def clip_length(store: Store, rows: np.ndarray, videos: Path | None = None) -> tuple[int, float | None]:
    """Median length of some clips in frames, and how many of those there are in a second.

    A store doesn't say the rate of its skeletons; it is taken from the videos of five of the clips at ``rows``, and is
    None where no video can be had.
    """
    frames = max(round(float(np.median(store.lengths[rows]))), 1)
    try:
        folder = store.find_videos(videos)
    except VideoFolderError:
        return frames, None
    chosen = rows[np.unique(np.linspace(0, len(rows) - 1, 5).round().astype(int))]
    rates = [rate for row in chosen if (rate := _rate(store.sample(int(row)), folder)) is not None]
    return frames, round(float(np.median(rates)), 3) if rates else None


def body_size(store: Store, rows: np.ndarray) -> float | None:
    """Median length of the bodies of some clips along their longest axis, of 64 clips at the most; None of nobody."""
    chosen = rows[:: len(rows) // 64 + 1]
    return float(np.median([tallness(store.joints(int(row))) for row in chosen])) or None


def _rate(sample: Sample, folder: Path) -> float | None:
    """Skeletons a second of one clip, by its video's clock; None without a video of two frames or more."""
    if sample.video is None:
        return None
    try:
        with open_video(folder / sample.video) as video:
            times, pictures = video.times, pictures_of(sample, len(video))
    except (VideoError, OSError):
        return None
    shown = np.flatnonzero((pictures >= 0) & (pictures < len(times)))
    if len(shown) < 2:
        return None
    span = float(times[pictures[shown[-1]]] - times[pictures[shown[0]]])
    return float(shown[-1] - shown[0]) / span if span > 0 else None

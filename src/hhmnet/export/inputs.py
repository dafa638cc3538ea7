"""Clips as the inputs of an exported graph, and made-up ones where no others are at hand."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from hhmnet.data.dataset import RawBatch
from hhmnet.data.transform import SkeletonBatch, choose_frames
from hhmnet.models.spec import ModelSpec
from hhmnet.skeleton import PARTS


def inputs_of(spec: ModelSpec, batch: RawBatch) -> dict[str, np.ndarray]:
    """The exported graph's inputs, by name, of clips with at most ``spec.data.persons`` persons."""
    clips = batch.clips
    present = clips.present
    if present is None:
        present = torch.ones(clips.joints.shape[:2], dtype=torch.bool)
    feed = {"joints": clips.joints, "present": present, "lengths": clips.lengths}
    if spec.video is not None:
        from hhmnet.data.video_batch import prepare_video

        assert batch.video is not None
        sampled = choose_frames(clips.lengths, spec.data)
        feed |= prepare_video(batch.video, sampled.positions, None, spec.video)._asdict()
    return {name: value.contiguous().numpy() for name, value in feed.items()}


def made_clips(spec: ModelSpec, count: int, batch: int = 8, seed: int = 0) -> Iterator[RawBatch]:
    """Made-up clips in batches: bodies that swing about a pose of chance, of 20 to 90 frames, some of them absent.

    A model with video gets crops of noise; every fourth clip has none, and every fourth has a video alone.
    """
    draw = np.random.default_rng(seed)
    for start in range(0, count, batch):
        numbers = range(start, min(start + batch, count))
        lengths = draw.integers(20, 90, len(numbers))
        shape = (spec.data.persons, spec.layout.num_joints, spec.layout.dims)
        joints = np.concatenate([_swinging(int(length), shape, draw) for length in lengths])
        present = draw.random(joints.shape[:2]) > 0.1
        owner = np.repeat(np.array(numbers), lengths)
        if spec.video is not None:
            present[owner % 4 == 2] = False
        joints[~present] = 0
        clips = SkeletonBatch(torch.from_numpy(joints), torch.from_numpy(present), torch.from_numpy(lengths))
        rows = torch.tensor(list(numbers))
        raw = RawBatch(clips, torch.full_like(rows, -1), rows)
        yield raw if spec.video is None else _with_noise(spec, raw, draw)


def _swinging(frames: int, shape: tuple[int, int, int], draw: np.random.Generator) -> np.ndarray:
    """Joints ``(T, M, V, C)`` float32 in metres."""
    pose, reach, phase = (draw.normal(0, size, shape) for size in (0.5, 0.2, 3.0))
    pace = draw.uniform(0.02, 0.3, shape)
    time = np.arange(frames)[:, None, None, None]
    return (pose + reach * np.sin(pace * time + phase)).astype(np.float32)


def _with_noise(spec: ModelSpec, raw: RawBatch, draw: np.random.Generator) -> RawBatch:
    from hhmnet.data.roi import empty_crops
    from hhmnet.data.video_batch import stack_crops

    assert spec.roi is not None
    found = []
    for number, length in zip(raw.index.tolist(), raw.clips.lengths.tolist(), strict=True):
        crops = empty_crops(spec.roi, length)
        if number % 4 != 3:
            crops.parts[:] = draw.integers(0, 256, crops.parts.shape)
            crops.part_mask[:] = draw.random((len(crops.parts), len(PARTS))) > 0.2
            crops.scene[:] = draw.integers(0, 256, crops.scene.shape)
            crops.scene_mask[:] = number % 4 != 1
        found.append(crops)
    return raw._replace(video=stack_crops(found))

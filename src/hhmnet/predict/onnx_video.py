"""The videos of clips as an exported model's inputs; the one part of its way that needs PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from hhmnet.data.transform import choose_frames
from hhmnet.data.video_batch import prepare_video
from hhmnet.models.spec import ModelSpec
from hhmnet.predict.crops import cut_clips
from hhmnet.predict.sources import Clip


def show(
    clips: Sequence[Clip], settings: dict[str, Any], with_skeletons: bool
) -> tuple[dict[str, np.ndarray], np.ndarray, list[tuple[str, ...]]]:
    """What an exported model with a video side is shown of clips.

    Args:
        clips: with their videos' files.
        settings: the model's.
        with_skeletons: whether the model is given the skeletons too; without, it is shown the whole clip.

    Returns:
        The graph's inputs by name, the frame of its clip that each instant shows ``(N, K)``, and for each clip what
        couldn't be had.
    """
    spec = ModelSpec.from_dict(settings)
    assert spec.roi is not None
    assert spec.video is not None
    batch, notes = cut_clips(clips, spec.layout, spec.roi)
    lengths = torch.tensor([clip.sample.num_frames for clip in clips])
    positions = choose_frames(lengths, spec.data).positions if with_skeletons else None
    shown = prepare_video(batch, positions, None, spec.video)
    frames = spec.data.frames if with_skeletons else spec.roi.instants
    times = (shown.times + 0.5) * (lengths[:, None] / frames) - 0.5
    return {name: value.numpy() for name, value in shown._asdict().items()}, times.numpy(), notes

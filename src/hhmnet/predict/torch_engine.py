"""What of recognising needs PyTorch: crops of videos, and a trained model's logits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hhmnet.data.roi import RoiConfig, crop_clip, empty_crops
from hhmnet.data.transform import SkeletonBatch
from hhmnet.data.video_batch import VideoBatch, stack_crops
from hhmnet.models.heterogeneous import HeterogeneousNetwork
from hhmnet.models.pretrained import ActionModel
from hhmnet.predict.prediction import StreamLogits
from hhmnet.predict.recognizer import Engine, NetworkInput
from hhmnet.predict.sources import InputClip, InputError
from hhmnet.skeleton import SkeletonLayout
from hhmnet.video import VideoError, open_video


def choose_device(name: str) -> torch.device:
    """The device of a name: ``auto`` (a GPU if there is one), ``cpu``, ``cuda``; raises InputError without one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("there is no GPU that torch can use; choose the device cpu or auto")
    return torch.device(name)


class TorchEngine(Engine):
    """A trained model in memory.

    Args:
        model: the model.
        device: where it computes.
    """

    def __init__(self, model: ActionModel, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.model = model.to(self.device).eval()
        self.class_names, self.layout = model.spec.class_names, model.spec.layout
        self.persons = model.spec.data.persons
        self.looks_at_video = isinstance(model.network, HeterogeneousNetwork)

    @property
    def spec(self) -> Any:
        """All settings of the model."""
        return self.model.spec

    @torch.inference_mode()
    def logits(self, batch: NetworkInput) -> StreamLogits:
        """Logits of N clips, without notes."""
        spec, clips = self.spec, None
        if batch.with_skeletons:
            # Without a mask where everybody is there, as in training.
            present = None if batch.present.all() else torch.from_numpy(batch.present)
            clips = SkeletonBatch(torch.from_numpy(batch.joints), present, torch.from_numpy(batch.lengths))
            clips = clips.to(self.device)
        crops = None if batch.crops is None else batch.crops.to(self.device)
        with _watching(self.model.network) as views:
            output = self.model.answer(clips, crops)
        times = guidance = None
        if views:
            frames = spec.data.frames if clips is not None else spec.roi.instants
            times = np.mean(
                [
                    _in_clip(view.times, batch.lengths, frames, (n + 0.5) / len(views))
                    for n, view in enumerate(views)
                ],
                0,
            )
            guided = [view.guidance.cpu().numpy() for view in views if view.guidance is not None]
            guidance = np.mean(guided, 0) if guided else None
        members = {name: logits.float().cpu().numpy() for name, logits in output.each.items()}
        return StreamLogits(
            output.logits.float().cpu().numpy(), members, output.used.cpu().numpy(), guidance, times
        )


class _View(NamedTuple):
    """What one look of the heterogeneous network was at: instants among sampled frames, and the parts' weights."""

    times: Tensor
    guidance: Tensor | None


@contextmanager
def _watching(network: torch.nn.Module) -> Iterator[list[_View]]:
    """Collect what a heterogeneous network looks at, view by view; nothing of other networks."""
    views: list[_View] = []
    if not isinstance(network, HeterogeneousNetwork):
        yield views
        return

    def note(module: torch.nn.Module, given: tuple[Any, ...], output: Any) -> None:
        if given[2] is not None:
            views.append(_View(given[2].times, output.guidance))

    hook = network.register_forward_hook(note)
    try:
        yield views
    finally:
        hook.remove()


def _in_clip(times: Tensor, lengths: np.ndarray, frames: int, phase: float) -> np.ndarray:
    """Instants among ``frames`` sampled ones, ``(N, K)``, as frames of clips of ``lengths (N,)``."""
    return (times.cpu().numpy() + phase) * (lengths[:, None] / frames) - 0.5


def cut_clips(
    clips: Sequence[InputClip], layout: SkeletonLayout, config: RoiConfig
) -> tuple[VideoBatch, list[tuple[str, ...]]]:
    """The crops of clips as a batch, and for each clip its notes with what couldn't be had of its video.

    Args:
        clips: with their videos, by file or open.
        layout: of their joints.
        config: which crops.
    """
    crops, notes = [], []
    for clip in clips:
        problems: list[str] = []
        cut = empty_crops(config, clip.sample.num_frames)
        if clip.video is not None:
            try:
                with (
                    open_video(clip.video)
                    if isinstance(clip.video, Path)
                    else nullcontext(clip.video) as video
                ):
                    cut = crop_clip(clip.sample, layout, video, config, problems)
            except VideoError as error:
                problems.append(error.reason)
        crops.append(cut)
        more = f" ({len(problems)} pictures in all)" if len(problems) > 1 else ""
        notes.append((*clip.notes, *(f"video: {problem}{more}" for problem in problems[:1])))
    return stack_crops(crops), notes

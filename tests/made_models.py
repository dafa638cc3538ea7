"""Models of chance weights: as good as trained ones for finding out whether two ways lead to one answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from hhmnet.confidence import Confidence
from hhmnet.data.roi import RoiConfig
from hhmnet.data.transform import DataConfig
from hhmnet.data.video_batch import VideoConfig
from hhmnet.models.heterogeneous import HeterogeneousConfig
from hhmnet.models.pretrained import ActionModel, with_video
from hhmnet.models.spec import ModelSpec
from hhmnet.models.stst import STSTConfig
from hhmnet.predict import Recognizer
from hhmnet.predict.sources import InputClip
from hhmnet.sample import Sample
from hhmnet.skeleton import KINECT20, SkeletonLayout
from made_bodies import posed

CLASSES = ("nod", "wave", "kick", "sit")


def skeleton_model(
    layout: SkeletonLayout = KINECT20,
    streams: str = "joint+bone",
    class_names: tuple[str, ...] = CLASSES,
    **data: int,
) -> ActionModel:
    """A model of skeletons alone."""
    torch.manual_seed(3)
    spec = ModelSpec(
        STSTConfig(widths=(16,), strides=(4,), head_width=8),
        DataConfig(stream=streams, **{"frames": 8, **data}),
        layout,
        class_names,
    )
    model = ActionModel(spec.build(), spec).eval()
    _widen(model)
    return model


def video_model(class_names: tuple[str, ...] = CLASSES) -> ActionModel:
    """A model of skeleton and video."""
    torch.manual_seed(4)
    config = HeterogeneousConfig(backbone="small", projection=8, moments=2)
    roi = RoiConfig(instants=4, cell=20, scene=36, scene_instants=2)
    model = with_video(
        skeleton_model(class_names=class_names),
        config,
        VideoConfig(instants=2, cell=16, scene=32, motion=True),
        roi,
    )
    return model.eval()


KNOWN, UNKNOWN = "arms up", "crouch"


def telling_unknown(model: ActionModel) -> ActionModel:
    """The same model, to which the clip :data:`KNOWN` of made bodies, by the seed 0, is known and the other isn't."""
    there, frames = np.ones((1, 12), bool), np.arange(12, dtype=np.int32)
    samples = [Sample(pose, -1, posed(pose, 0)[None], there, frames) for pose in (KNOWN, UNKNOWN)]
    clips = [InputClip(sample.sample_id, sample) for sample in samples]
    logits = Recognizer(model)._logits(clips, ("skeleton",))[0].logits.astype(np.float64)
    near, far = logits / np.linalg.norm(logits, axis=1, keepdims=True)
    away = (near - far) / np.linalg.norm(near - far)
    thresholds = (-1.0, *[float((near + far) @ away) / 2] * 20)
    sure = Confidence(2.0, thresholds, away[None].astype(np.float16))
    model.spec = replace(model.spec, confidence={"skeleton": sure})
    return model


def _widen(model: ActionModel) -> None:
    """Make the answers of an untrained classifier differ from clip to clip."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "classifier" in name:
                weight.mul_(20)


def same_weights(one: Path, other: Path) -> bool:
    """Whether the models in two folders are equal, bit by bit."""
    ours, theirs = (load_file(run / "model.safetensors") for run in (one, other))
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)

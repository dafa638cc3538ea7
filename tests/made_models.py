"""Models of chance weights: as good as trained ones for finding out whether two ways lead to one answer."""

from __future__ import annotations

import torch

from hhmnet.data.roi import RoiConfig
from hhmnet.data.transform import DataConfig
from hhmnet.data.video_batch import VideoConfig
from hhmnet.models.heterogeneous import HeterogeneousConfig
from hhmnet.models.pretrained import ActionModel, with_video
from hhmnet.models.spec import ModelSpec
from hhmnet.models.stst import STSTConfig
from hhmnet.skeleton import KINECT20, SkeletonLayout

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
    config = HeterogeneousConfig(backbone="small", projection=8)
    roi = RoiConfig(instants=4, cell=20, scene=36, scene_instants=2)
    model = with_video(
        skeleton_model(class_names=class_names), config, VideoConfig(instants=2, cell=16, scene=32), roi
    )
    return model.eval()


def _widen(model: ActionModel) -> None:
    """Make the answers of an untrained classifier differ from clip to clip."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "classifier" in name:
                weight.mul_(20)

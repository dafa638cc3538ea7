"""Streams of skeletons, and the clips that they are made of."""

from __future__ import annotations

import numpy as np
import torch

from hhmnet.data.transform import DataConfig
from hhmnet.models.pretrained import ActionModel, ModelSpec
from hhmnet.models.stst import STSTConfig
from hhmnet.predict.live import LivePrediction, StreamingConfig, StreamingRecognizer
from hhmnet.predict.recognizer import Recognizer
from hhmnet.sample import Sample
from hhmnet.skeleton import KINECT20
from made_people import straight

CLASSES = ("kick", "nod", "wave")
RATE = 30.0
PLAYER = straight((100, 130), (0.8, 0), (60, 140))


def model(persons: int = 1, stream: str = "joint+bone") -> ActionModel:
    torch.manual_seed(0)
    config = STSTConfig(widths=(16, 16), strides=(1, 2), head_width=8)
    data = DataConfig(stream=stream, frames=8, persons=persons, scale="box")
    spec = ModelSpec(config, data, KINECT20, CLASSES)
    return ActionModel(spec.build(), spec).eval()


def movement(frames: int, persons: int = 1, seed: int = 0) -> np.ndarray:
    """Joints ``(M, T, V, C)`` that move."""
    random = np.random.default_rng(seed)
    rest = random.normal(0, 0.4, (persons, 1, KINECT20.num_joints, 3))
    way = np.sin(np.arange(frames)[None, :, None, None] * 0.2 + random.normal(size=rest.shape))
    return (rest + 0.3 * way).astype(np.float32)


def sample_of(joints: np.ndarray, present: np.ndarray | None = None) -> Sample:
    present = np.ones(joints.shape[:2], bool) if present is None else present
    frames = np.arange(joints.shape[1], dtype=np.int32)
    return Sample("clip", -1, joints * present[..., None, None].astype(np.float32), present, frames)


def whole(recognizer: StreamingRecognizer, sample: Sample) -> np.ndarray:
    """What the model says of a whole clip."""
    return Recognizer(recognizer.model).predict(sample).probabilities


def streaming(window: float = 2.0, persons: int = 1, **chosen: float) -> StreamingRecognizer:
    config = StreamingConfig(window=window, **{"smoothing": 0, **chosen})  # type: ignore[arg-type]
    return StreamingRecognizer(model(persons), config)


def probabilities(answer: LivePrediction | None) -> np.ndarray:
    assert answer is not None
    assert answer.probabilities is not None
    return answer.probabilities

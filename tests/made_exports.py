"""Exported models, made once in a test run: making one takes longer than all that is done with it."""

from __future__ import annotations

from functools import cache

import pytest

from hhmnet.models.pretrained import ActionModel
from made_models import skeleton_model, video_model


@cache
def exported(kind: str) -> tuple[ActionModel, bytes]:
    """A model and its ONNX file's content: ``skeletons`` (two streams, two persons) or ``video`` (both)."""
    for package in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(package, reason="exporting needs pip install 'hhmnet[export]'")
    from hhmnet.export.graph import to_onnx

    model = video_model() if kind == "video" else skeleton_model(persons=2)
    return model, to_onnx(model)

"""Exported models, made once in a test run by the command: making one takes longer than all that is done with it."""

from __future__ import annotations

import tempfile
from contextlib import redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path

import pytest

from hhmnet.cli import main
from hhmnet.models.pretrained import ActionModel
from made_models import skeleton_model, telling_unknown, video_model


@cache
def exported(kind: str) -> tuple[ActionModel, bytes]:
    """A model and its ONNX file's content: ``skeletons`` (two streams, two persons) or ``video`` (both)."""
    for package in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(package, reason="exporting needs pip install 'hhmnet[export]'")
    model = video_model() if kind == "video" else telling_unknown(skeleton_model(persons=2))
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        file = Path(folder, "below", "model.onnx")
        with redirect_stdout(StringIO()):
            assert main(["export", folder, "--out", str(file), "--clips", "2"]) == 0
        return model, file.read_bytes()

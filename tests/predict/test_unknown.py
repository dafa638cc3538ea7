"""A clip that is none of the classes is called so by every way to an answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hhmnet.cli import main
from hhmnet.predict.live import StreamingConfig, StreamingRecognizer
from made_bodies import posed, write_clip
from made_exports import exported
from made_models import CLASSES, KNOWN, UNKNOWN

# One worker makes the graphs for all of them.
pytestmark = pytest.mark.xdist_group("export")


def test_predict_says_unknown_from_a_folder_and_from_an_onnx_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, content = exported("skeletons")
    model.save_pretrained(tmp_path / "run")
    (tmp_path / "model.onnx").write_bytes(content)
    clips = [str(write_clip(tmp_path / f"{pose}.npz", pose, 0)) for pose in (KNOWN, UNKNOWN)]
    capsys.readouterr()
    sure = []
    for place in ("run", "model.onnx"):
        assert main(["predict", str(tmp_path / place), *clips, "--json"]) == 0
        known, unknown = json.loads(capsys.readouterr().out)
        assert (known["known"], known["label"]) == (True, known["top"][0]["label"])
        assert (unknown["known"], unknown["label"]) == (False, "unknown")
        assert unknown["top"][0]["label"] in CLASSES
        sure.append(unknown["top"][0]["probability"])
        assert main(["predict", str(tmp_path / place), *clips, "--json", "--unknown", "0"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert [one["label"] for one in found] == [one["top"][0]["label"] for one in found]
    assert sure[0] == pytest.approx(sure[1], abs=1e-4)  # the same temperature


def test_a_stream_says_unknown() -> None:
    model, _ = exported("skeletons")
    recognizer = StreamingRecognizer(model, StreamingConfig(window=0.4, every=12, still=0))
    for pose, is_unknown in ((KNOWN, False), (UNKNOWN, True)):
        recognizer.reset()
        for joints in posed(pose, 0):
            answer = recognizer.push_skeleton(joints)
        assert answer is not None
        assert (answer.label == "unknown") == is_unknown

"""What damaged inputs once did to the package, one small case each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_lines import run_words
from hunt import fault_of

import made_models
from hhmnet.cli import main
from hhmnet.commands.configuration import read_config
from hhmnet.commands.flags import ConfigError
from hhmnet.commands.terminal import UsageError
from hhmnet.data.crop_cache import DamagedError, read_crops, write_crops
from hhmnet.data.roi import RoiConfig, empty_crops
from hhmnet.evaluation.scores import Scores, ScoresError
from hhmnet.models.pretrained import PretrainedError, from_pretrained
from hhmnet.models.spec import ModelSpec, check_weights
from hhmnet.predict import engines
from hhmnet.skeleton import KINECT20
from hhmnet.video import VideoError, stored_size
from hhmnet.video.packets import scan
from made_video import write_sound


@contextmanager
def refused(kind: type[Exception], *words: str) -> Iterator[None]:
    """An error of this kind must come, one clear line with these words in it."""
    with pytest.raises(kind) as error:
        yield
    assert not fault_of(error.value), fault_of(error.value)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_yaml_that_is_nested_too_deeply(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("[" * 5000)
    with refused(ConfigError, "mine.yaml"):
        read_config(file)


@pytest.mark.parametrize("logit", [{"x": 1}, 1e300])
def test_scores_that_are_no_numbers(logit: Any, tmp_path: Path) -> None:
    file = tmp_path / "scores.parquet"
    pq.write_table(pa.table({"sample_id": ["a"], "label": [0], "nod": [logit]}), file)
    with refused(ScoresError, "scores.parquet"):
        Scores.load(file)


@pytest.mark.parametrize("shape", [["3", 11], [3, [11]], [-3, 11], [float("inf")], [2**40, 2**40], [743]])
def test_crops_whose_shapes_are_none(shape: list[Any], tmp_path: Path) -> None:
    file, config = tmp_path / "clip.safetensors", RoiConfig(instants=3, cell=9, scene=11, scene_instants=2)
    write_crops(file, empty_crops(config))
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["scene"]["shape"] = shape
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])
    with refused(DamagedError, "clip.safetensors"):
        read_crops(file)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"layout": {"joints": []}}, "layout"),
        ({"layout": KINECT20.to_dict() | {"edges": [[0]]}}, "layout"),
        ({"class_names": "abc"}, "class_names"),
        ({"data": {"persons": 10**9}}, "persons"),
        ({"data": None}, "metadata"),
        (None, "metadata"),
    ],
)
def test_an_onnx_file_with_odd_settings(
    change: dict[str, Any] | None, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told() -> Any:
        if change is None:
            return b"\x80".decode()
        spec = made_models.skeleton_model().spec.to_dict() | change
        notes = json.dumps({"model": spec, "members": ["joint", "bone"], "version": 1})
        return SimpleNamespace(custom_metadata_map={engines.METADATA: notes})

    session = SimpleNamespace(get_modelmeta=told, get_outputs=list)
    monkeypatch.setattr(engines, "open_session", lambda file, threads: session)
    with refused(engines.OnnxModelError, "model.onnx", word):
        engines.OnnxEngine(tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [
        ("data", "frames", 10**9),
        ("data", "frames", 8.5),
        ("data", "persons", 10**6),
        ("data", "views", 3),
        ("model", "widths", [16, 2**30]),
        ("model", "dilations", [1, 10**9]),
        ("model", "select", "yes"),
        ("fusion", "projection", 10**9),
        ("fusion", "weights", [[1], [2]]),
        ("video", "scenes", 10**8),
    ],
)
def test_a_model_that_asks_for_all_memory(section: str, field: str, value: Any, tmp_path: Path) -> None:
    made = made_models.video_model() if section == "video" else made_models.skeleton_model()
    made.save_pretrained(tmp_path)
    config = tmp_path / "config.json"
    fields = json.loads(config.read_text())
    fields[section][field] = value
    config.write_text(json.dumps(fields))
    with refused(PretrainedError, str(tmp_path)):
        from_pretrained(tmp_path)


def test_limits_leave_every_model_of_ours_alone() -> None:
    for folder in sorted((Path(__file__).parents[2] / "zoo").rglob("config.json")):
        spec = ModelSpec.from_dict(json.loads(folder.read_text()))
        check_weights(spec, folder.with_name("model.safetensors"))


def test_a_stream_that_a_video_had_not_announced_is_damage(tmp_path: Path) -> None:
    """PyAV looks for it in its list of streams, which has none of that number."""

    def demux(stream: Any) -> Any:
        yield SimpleNamespace(pos=0, pts=0, dts=0, size=9, is_keyframe=True, is_discard=False, duration=1)
        raise IndexError("list index out of range")

    with refused(VideoError, "sound.mp4", "no pictures"):
        stored_size(write_sound(tmp_path / "sound.mp4"))
    _, cut = scan(SimpleNamespace(demux=demux), None)  # type: ignore[arg-type]
    assert cut == "the file can't be read on: list index out of range"


def test_resume_without_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--resume"]) == 2
    assert "--data" in capsys.readouterr().err


def test_what_is_quoted_does_not_steer_the_terminal(tmp_path: Path) -> None:
    for words in (["inspect", "\x1b[31mred"], ["\x1b]0;title\x07"], ["train", "--config", "a\nb\x9b"]):
        with pytest.raises(UsageError) as error:
            run_words(words, tmp_path / "here")
        assert str(error.value).isprintable()
    with pytest.raises(UsageError) as error:
        run_words(["inspect", "s" * 100_000], tmp_path / "here")
    assert len(str(error.value)) < 1200

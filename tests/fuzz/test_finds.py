"""What damaged inputs once did to the package, one small case each."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
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
from hhmnet.readers import ReadError
from hhmnet.readers.arrays import ArrayConfig
from hhmnet.readers.formats import read_clip, read_skeleton
from hhmnet.readers.joints import settle
from hhmnet.readers.labels import read_labels
from hhmnet.skeleton import KINECT20, PARTS, LayoutError, SkeletonLayout, load_layout
from hhmnet.store import SAMPLES_FILE, Store, StoreError
from hhmnet.video import VideoError, stored_size
from hhmnet.video.packets import scan
from made_video import write_sound

LAYOUT = "joints: [a, b]\nedges: [[a, b]]\n"


def refusal(error: pytest.ExceptionInfo[Any], *words: str) -> None:
    """The error is one clear line with these words in it."""
    assert not fault_of(error.value), fault_of(error.value)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize("damage", ["\x01", "joints: [", "&a [*a]", "[" * 5000])
def test_bad_yaml_is_named_in_one_line(damage: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(LAYOUT + damage)
    with pytest.raises(LayoutError) as error:
        load_layout(file)
    refusal(error, "mine.yaml")
    with pytest.raises(ConfigError) as problem:
        read_config(file)
    refusal(problem, "mine.yaml")


def test_a_few_lines_of_yaml_that_stand_for_gigabytes(tmp_path: Path) -> None:
    file, lines = tmp_path / "recipe.yaml", ["a0: &a0 [x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    file.write_text("\n".join(lines))
    with pytest.raises(ConfigError) as error:
        read_config(file)
    refusal(error, "recipe.yaml", "line 2", "aliases")


@pytest.mark.parametrize("path", ["x" * 300 + ".npy", "a\0.npy", "y" * 5000 + "/a.npy"])
def test_a_path_that_no_system_has(path: str, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(f"path,label\n{path},wave\n")
    with pytest.raises(ValueError, match=r"column 'path'|holds zero bytes") as error:
        read_labels(tmp_path / "labels.csv")
    refusal(error, "labels.csv, line 2")
    assert len(ReadError("x" * 100_000).reason) < 600, "a reason that quotes a whole file is shortened"


def test_a_class_that_is_a_number_of_thousands_of_digits(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(f"path,label\na.npy,{'9' * 5000}\nb.npy,1\n")
    assert len(read_labels(tmp_path / "labels.csv").class_names) == 2


def test_a_nan_that_signals_warns_nobody() -> None:
    joints = np.ones((1, 2, 20, 3))
    joints.view(np.uint64)[0, 1, 4] = 0x7FF0000000000001
    assert settle(joints, Counter())["confidence"][0, 1, 4] == 0


def test_landmarks_of_a_number_and_pixels_beyond_float32(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text(json.dumps([{"pose_world_landmarks": 0.5}] * 2))
    with pytest.raises(ReadError) as error:
        read_clip(file)
    refusal(error, "frame 0", "landmarks")
    joints, pixels = np.random.default_rng(0).normal(size=(2, 20, 3)), np.full((2, 20, 2), 1e300)
    file.write_text(json.dumps({"joints": joints.tolist(), "pixels": pixels.tolist()}))
    with pytest.raises(ValueError, match="pixels") as error:
        read_skeleton(file, KINECT20, ArrayConfig(units="m"), None, Counter())
    refusal(error, "pixels")


def test_a_skeleton_of_too_many_joints_costs_no_time() -> None:
    joints = tuple(map(str, range(100_000)))
    edges = tuple((j, j - 1) for j in range(1, len(joints)))
    with pytest.raises(LayoutError, match="100000 joints; at most 1,000"):
        SkeletonLayout("long", joints, edges, (), dict.fromkeys(PARTS, ()))


@pytest.mark.parametrize(
    "change",
    [
        b"[" * 100_000,
        {"class_names": "abc"},
        {"class_names": [1, 2]},
        {"class_names": []},
        {"provenance": None},
        {"protocol": 3},
        *({"layout": KINECT20.to_dict() | wrong} for wrong in ({"parts": "head"}, {"edges": [[0, 1e400]]})),
    ],
)
def test_a_store_that_says_odd_things_of_itself(
    change: dict[str, Any] | bytes, store_folder: Path, tmp_path: Path
) -> None:
    with pa.ipc.open_file(store_folder / SAMPLES_FILE) as reader:
        record, ((key, facts),) = reader.get_batch(0), reader.schema.metadata.items()
    told = change if isinstance(change, bytes) else json.dumps(json.loads(facts) | change)
    schema = record.schema.with_metadata({key: told})
    with pa.ipc.new_file(str(tmp_path / SAMPLES_FILE), schema) as writer:
        writer.write_batch(pa.record_batch(record.columns, schema=schema))
    with pytest.raises(StoreError) as error:
        Store(tmp_path)
    refusal(error, SAMPLES_FILE, "hhmnet prepare")


@pytest.mark.parametrize("logit", [{"x": 1}, 1e300])
def test_scores_that_are_no_numbers(logit: Any, tmp_path: Path) -> None:
    file = tmp_path / "scores.parquet"
    pq.write_table(pa.table({"sample_id": ["a"], "label": [0], "nod": [logit]}), file)
    with pytest.raises(ScoresError) as error:
        Scores.load(file)
    refusal(error, "scores.parquet")


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
    with pytest.raises(DamagedError) as error:
        read_crops(file)
    refusal(error, "clip.safetensors")


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
    with pytest.raises(engines.OnnxModelError) as error:
        engines.OnnxEngine(tmp_path / "model.onnx")
    refusal(error, "model.onnx", word)


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
def test_a_model_that_asks_for_all_memory_or_for_nonsense(
    section: str, field: str, value: Any, tmp_path: Path
) -> None:
    made = made_models.video_model() if section == "video" else made_models.skeleton_model()
    made.save_pretrained(tmp_path)
    config = tmp_path / "config.json"
    fields = json.loads(config.read_text())
    fields[section][field] = value
    config.write_text(json.dumps(fields))
    with pytest.raises(PretrainedError) as error:
        from_pretrained(tmp_path)
    refusal(error, str(tmp_path))


def test_limits_leave_every_model_of_ours_alone() -> None:
    for folder in sorted((Path(__file__).parents[2] / "zoo").rglob("config.json")):
        spec = ModelSpec.from_dict(json.loads(folder.read_text()))
        check_weights(spec, folder.with_name("model.safetensors"))


def test_a_stream_that_a_video_had_not_announced_is_damage(tmp_path: Path) -> None:
    """PyAV looks for it in its list of streams, which has none of that number."""

    def demux(stream: Any) -> Any:
        yield SimpleNamespace(pos=0, pts=0, dts=0, size=9, is_keyframe=True, is_discard=False, duration=1)
        raise IndexError("list index out of range")

    with pytest.raises(VideoError) as error:
        stored_size(write_sound(tmp_path / "sound.mp4"))
    refusal(error, "sound.mp4", "no pictures")
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

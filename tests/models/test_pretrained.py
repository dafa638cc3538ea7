from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import hhmnet
from hhmnet.data.dataset import ClipDataset
from hhmnet.data.transform import DataConfig, SkeletonBatch, prepare
from hhmnet.models.pretrained import ActionModel, ModelSpec, PretrainedError, SpecError, from_pretrained
from hhmnet.models.stst import STSTConfig
from hhmnet.skeleton import COCO17, KINECT20, SkeletonLayout
from hhmnet.store import Store

SMALL = STSTConfig(widths=(16, 16), strides=(1, 2), head_width=8, density=(0.9, 0.4), mask="random")


def build(seed: int = 0, *, layout: SkeletonLayout = KINECT20, **data: Any) -> ActionModel:
    torch.manual_seed(seed)
    spec = ModelSpec(
        SMALL,
        DataConfig(**({"frames": 8, "persons": 2} | data)),
        layout,
        ("kick", "nod", "wave"),
        "nw_ucla_cross_view",
        1,
    )
    return ActionModel(spec.build(), spec).eval()


@pytest.fixture
def clips(patchy_store: Store) -> SkeletonBatch:
    return ClipDataset(patchy_store, np.arange(6), 2).__getitems__(list(range(6))).clips


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    build().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def change(file: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    fields = json.loads(file.read_text())
    edit(fields)
    file.write_text(json.dumps(fields))


def test_the_length_of_the_training_clips_is_kept_and_can_be_missing(saved: Path) -> None:
    assert from_pretrained(saved).spec.clip_seconds is None  # as folders from before it was noted
    change(saved / "config.json", lambda fields: fields.update(clip_frames=45))
    assert from_pretrained(saved).spec.clip_seconds == pytest.approx(1.5)
    change(saved / "config.json", lambda fields: fields.update(clip_rate=15.0))
    spec = from_pretrained(saved).spec
    assert spec.clip_seconds == pytest.approx(3)
    assert ModelSpec.from_dict(spec.to_dict()) == spec
    change(saved / "config.json", lambda fields: fields.update(clip_frames=-1))
    with pytest.raises(PretrainedError, match="field 'clip_frames'"):
        from_pretrained(saved)


def test_a_saved_model_answers_as_before(saved: Path, clips: SkeletonBatch) -> None:
    loaded = from_pretrained(saved)
    assert not loaded.training
    assert torch.equal(loaded(clips), build()(clips))
    assert loaded.spec == build().spec
    assert (build(seed=1)(clips) - loaded(clips)).abs().max() > 1e-3


def test_package_offers_the_loader(saved: Path, clips: SkeletonBatch) -> None:
    assert torch.equal(hhmnet.from_pretrained(saved)(clips), build()(clips))
    assert hhmnet.ActionModel is ActionModel
    with pytest.raises(AttributeError, match="no attribute 'train_everything'"):
        _ = hhmnet.train_everything  # type: ignore[attr-defined]


def test_folder_holds_two_files_and_no_pickle(saved: Path) -> None:
    assert sorted(file.name for file in saved.iterdir()) == ["config.json", "model.safetensors"]
    assert list(load_file(saved / "model.safetensors")) != []


def test_saving_again_replaces_the_old_model(saved: Path, clips: SkeletonBatch) -> None:
    build(seed=3).save_pretrained(saved)
    assert torch.equal(from_pretrained(saved)(clips), build(seed=3)(clips))
    assert len(list(saved.iterdir())) == 2


@pytest.mark.parametrize("layout", [KINECT20, COCO17], ids=lambda layout: layout.name)
def test_spec_survives_json(layout: SkeletonLayout) -> None:
    spec = build(layout=layout, stream="bone", views=3).spec
    found = ModelSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert found == spec
    assert isinstance(found.model.widths, tuple)
    assert ModelSpec.from_dict(dataclasses.replace(spec, fold=None).to_dict()).fold is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights_are_widened(saved: Path, clips: SkeletonBatch, dtype: torch.dtype) -> None:
    file = saved / "model.safetensors"
    weights = load_file(file)
    save_file({k: v.to(dtype) if v.is_floating_point() else v for k, v in weights.items()}, file)
    loaded = from_pretrained(saved)
    for name, value in loaded.network.state_dict().items():
        assert value.dtype == weights[name].dtype, name
        expected = (
            weights[name].to(dtype).to(weights[name].dtype) if value.is_floating_point() else weights[name]
        )
        assert torch.equal(value, expected), name
    torch.testing.assert_close(loaded(clips), build()(clips), atol=0.05, rtol=0.05)


def test_views_are_averaged(clips: SkeletonBatch) -> None:
    model = build(views=3)
    expected = torch.zeros(6, 3)
    for phase in (1 / 6, 3 / 6, 5 / 6):
        x, mask = prepare(clips, KINECT20, model.spec.data, phase=phase)
        expected += model.network(x, mask).logits / 3
    torch.testing.assert_close(model(clips), expected)
    one = build(views=1)
    x, mask = prepare(clips, KINECT20, one.spec.data)
    torch.testing.assert_close(one(clips), one.network(x, mask).logits)
    assert (one(clips) - model(clips)).abs().max() > 1e-6


def test_logits_are_float32_under_autocast(clips: SkeletonBatch) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert build()(clips).dtype == torch.float32


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(saved: Path, file: str) -> None:
    (saved / file).unlink()
    with pytest.raises(PretrainedError, match=rf"{file}: not found; no model there"):
        from_pretrained(saved)


def test_an_unfinished_run_is_told_from_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("optim: {}\n")
    with pytest.raises(PretrainedError, match=r"config\.json: not found; training has not finished there"):
        from_pretrained(tmp_path)


def cut(fields: dict[str, Any]) -> None:
    del fields["class_names"]


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda f: f.update(format="other"), "field 'format' is not 'hhmnet-model'"),
        (lambda f: f.update(version=2), "it has version 2, this hhmnet reads 1"),
        (cut, "the field 'class_names' is missing"),
        (lambda f: f["layout"].pop("edges"), "edges"),
        (lambda f: f["layout"].update(edges=[]), "edges"),
        (lambda f: f["model"].update(depth=3), "depth"),
        (lambda f: f["model"].update(mask="soft"), "field 'mask' must be one of"),
        (lambda f: f["model"].update(widths=[17, 17]), "field 'head_width'"),
        (lambda f: f["model"].update(widths=[-16, 16]), "field 'widths'"),
        (lambda f: f["model"].update(widths=[], strides=[]), "field 'widths'"),
        (lambda f: f["model"].update(head_width=0), "head_width"),
        (lambda f: f["model"].update(kernel=4), "field 'kernel'"),
        (lambda f: f["model"].update(k1="many"), ""),
        (lambda f: f["data"].update(stream="colour"), "field 'stream'"),
        (lambda f: f["data"].update(frames="many"), ""),
        (lambda f: f.update(model=[1, 2]), ""),
        (lambda f: f.update(model=None), ""),
        (lambda f: f.update(layout="kinect20"), ""),
        (lambda f: f.update(class_names=3), ""),
        (lambda f: f.update(class_names=[]), "class_names"),
        (lambda f: f.update(class_names="abc"), "class_names"),
    ],
)
def test_a_foreign_config_is_refused_by_name(
    saved: Path, edit: Callable[[dict[str, Any]], None], reason: str
) -> None:
    change(saved / "config.json", edit)
    with pytest.raises(PretrainedError) as caught:
        from_pretrained(saved)
    message = str(caught.value)
    assert message.startswith(f"{saved / 'config.json'}: ")
    assert reason in message
    assert "\n" not in message


def test_settings_that_do_not_go_together_are_refused_by_name() -> None:
    spec = build().spec
    with pytest.raises(SpecError, match=r"'data.facing' must be none for coco17, which has 2 dimensions"):
        dataclasses.replace(spec, layout=COCO17, data=DataConfig(facing="first"))
    with pytest.raises(
        SpecError, match=r"'model.chunks' is 3; it must divide the frames of every block, and one has 8"
    ):
        dataclasses.replace(spec, model=STSTConfig(chunks=3), data=DataConfig(frames=8))


def test_a_model_of_skeletons_is_its_own_skeleton_part() -> None:
    model = build()
    assert model.skeleton is model


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "null", "3", '"text"', "\udcff"])
def test_a_config_that_is_no_json_object_is_refused_by_name(saved: Path, text: str) -> None:
    (saved / "config.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(PretrainedError, match=r"config\.json: "):
        from_pretrained(saved)


@pytest.mark.parametrize("keep", [0, 5, 300, -40])
def test_damaged_weights_are_refused_by_name(saved: Path, keep: int) -> None:
    file = saved / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(PretrainedError, match=r"model\.safetensors: not the weights of this model \(.+\)"):
        from_pretrained(saved)


@pytest.mark.parametrize("edit", ["missing", "extra", "shape"])
def test_weights_of_another_model_are_refused_by_name(saved: Path, edit: str) -> None:
    file = saved / "model.safetensors"
    weights = load_file(file)
    if edit == "missing":
        del weights["classifier.bias"]
    elif edit == "extra":
        weights["classifier.more"] = torch.zeros(3)
    else:
        weights["classifier.bias"] = torch.zeros(4)
    save_file(weights, file)
    with pytest.raises(PretrainedError, match=r"model\.safetensors: .*classifier"):
        from_pretrained(saved)


def test_a_failed_save_leaves_the_old_model(
    saved: Path, clips: SkeletonBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    before = {file.name: file.read_bytes() for file in saved.iterdir()}
    monkeypatch.setattr("hhmnet.files.os.replace", fail)
    with pytest.raises(OSError, match="no space"):
        build(seed=1).save_pretrained(saved)
    assert {file.name: file.read_bytes() for file in saved.iterdir()} == before


def test_a_copied_folder_is_a_model_too(saved: Path, tmp_path: Path, clips: SkeletonBatch) -> None:
    shutil.copytree(saved, tmp_path / "copy")
    assert torch.equal(from_pretrained(str(tmp_path / "copy"))(clips), build()(clips))

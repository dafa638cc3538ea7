from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import hhmnet
from hhmnet.data.dataset import RawBatch
from hhmnet.data.transform import SkeletonBatch
from hhmnet.data.video_batch import prepare_video
from hhmnet.export.graph import METADATA, OPSET, ExportError, Graph, to_onnx
from hhmnet.export.inputs import inputs_of, made_clips
from hhmnet.export.parity import session
from hhmnet.models.pretrained import ActionModel
from made_exports import exported
from made_models import CLASSES, skeleton_model, video_model

# One worker makes the graphs for all of them.
pytestmark = pytest.mark.xdist_group("export")


def answer(content: bytes, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    graph = session(content)
    return dict(zip((node.name for node in graph.get_outputs()), graph.run(None, feed), strict=True))


def some_clips(lengths: list[int], absent: float = 0.2) -> RawBatch:
    """Clips of chance of two persons, of which the last clip has none."""
    draw = torch.Generator().manual_seed(sum(lengths))
    joints = torch.randn(sum(lengths), 2, 20, 3, generator=draw)
    present = torch.rand(sum(lengths), 2, generator=draw) > absent
    present[0] = True
    if len(lengths) > 1:
        present[-lengths[-1] :] = False
    rows = torch.arange(len(lengths))
    return RawBatch(
        SkeletonBatch(joints * present[..., None, None], present, torch.tensor(lengths)), rows, rows
    )


@pytest.mark.parametrize("lengths", [[1], [7], [200], [3, 40, 9], [5, 6, 7, 8, 100, 2, 31]])
def test_any_number_of_clips_of_any_length_gets_pytorchs_answer(lengths: list[int]) -> None:
    model, content = exported("skeletons")
    batch = some_clips(lengths)
    found = answer(content, inputs_of(model.spec, batch))
    with torch.inference_mode():
        wanted = model.answer(batch.clips)
    np.testing.assert_allclose(found["logits"], wanted.logits, atol=1e-4)
    np.testing.assert_allclose(found["members"], np.stack([*wanted.each.values()]), atol=1e-4)
    np.testing.assert_array_equal(found["used"], wanted.used)


def test_a_clip_does_not_depend_on_its_neighbours() -> None:
    model, content = exported("skeletons")
    together = some_clips([30, 12, 25])
    feed = inputs_of(model.spec, together)
    alone = {
        "joints": feed["joints"][30:42],
        "present": feed["present"][30:42],
        "lengths": feed["lengths"][1:2],
    }
    both = [answer(content, given)["logits"] for given in (feed, alone)]
    np.testing.assert_allclose(both[0][1], both[1][0], atol=1e-5)
    assert np.abs(both[0][0] - both[0][1]).max() > 1e-3


def test_video_and_skeleton_get_pytorchs_answer_whatever_is_missing() -> None:
    model, content = exported("video")
    batch = next(made_clips(model.spec, 8))
    found = answer(content, inputs_of(model.spec, batch))
    with torch.inference_mode():
        wanted = model.answer(batch.clips, batch.video)
    # Every fourth clip has no scene, no skeleton, no video.
    np.testing.assert_array_equal(wanted.used, [[True, True], [True, True], [False, True], [True, False]] * 2)
    np.testing.assert_array_equal(found["used"], wanted.used)
    np.testing.assert_allclose(found["logits"], wanted.logits, atol=1e-4)
    np.testing.assert_allclose(found["members"], np.stack([*wanted.each.values()]), atol=1e-4)


def test_the_guidance_is_the_networks() -> None:
    model, content = exported("video")
    batch = next(made_clips(model.spec, 4))
    feed = inputs_of(model.spec, batch)
    seen = []
    hook = model.network.register_forward_hook(lambda module, given, output: seen.append(output.guidance))
    with torch.inference_mode():
        model.answer(batch.clips, batch.video)
    hook.remove()
    assert np.ptp(seen[0][0].numpy()) == pytest.approx(2, abs=1e-4)
    np.testing.assert_allclose(answer(content, feed)["guidance"], seen[0], atol=1e-4)


def test_views_are_averaged() -> None:
    data = dataclasses.replace(skeleton_model().spec.data, views=3)
    model = skeleton_model()
    model = ActionModel(model.network, dataclasses.replace(model.spec, data=data)).eval()
    batch = next(made_clips(model.spec, 3))
    present = batch.clips.present
    assert present is not None
    with torch.inference_mode():
        found = Graph(model)(batch.clips.joints, present, batch.clips.lengths)
        wanted = model.answer(batch.clips)
        one = Graph(skeleton_model())(batch.clips.joints, present, batch.clips.lengths)
    np.testing.assert_allclose(found[0], wanted.logits, atol=1e-5)
    np.testing.assert_allclose(found[1], np.stack([*wanted.each.values()]), atol=1e-5)
    assert (found[0] - one[0]).abs().max() > 1e-3


@pytest.mark.parametrize("guidance", ["none", "input", "feature"])
@pytest.mark.parametrize("scene", [True, False])
def test_every_kind_of_guidance_gives_the_networks_answer(guidance: str, scene: bool) -> None:
    made = video_model()
    config = dataclasses.replace(made.spec.heterogeneous, guidance=guidance, scene=scene)  # type: ignore[type-var]
    spec = dataclasses.replace(made.spec, heterogeneous=config)
    model = ActionModel(spec.build(pretrained=False), spec).eval()
    batch = next(made_clips(spec, 4))
    graph = Graph(model).eval()
    with torch.inference_mode():
        feed = [torch.from_numpy(array) for array in inputs_of(spec, batch).values()]
        found = dict(zip(graph.outputs, graph(*feed), strict=True))
        wanted = model.answer(batch.clips, batch.video)
    np.testing.assert_allclose(found["logits"], wanted.logits, atol=1e-5)
    np.testing.assert_allclose(found["members"], np.stack([*wanted.each.values()]), atol=1e-5)
    assert ("guidance" in found) == (guidance != "none")


def test_the_model_that_is_exported_stays_as_it_is() -> None:
    model = video_model()
    before = {name: type(module) for name, module in model.named_modules()}
    Graph(model)
    assert {name: type(module) for name, module in model.named_modules()} == before


@pytest.mark.parametrize("kind", ["skeletons", "video"])
def test_the_file_says_what_it_is_and_nothing_of_this_machine(kind: str) -> None:
    onnx = pytest.importorskip("onnx")
    model, content = exported(kind)
    proto = onnx.load_from_string(content)
    notes = json.loads({entry.key: entry.value for entry in proto.metadata_props}[METADATA])
    assert notes["version"] == hhmnet.__version__
    assert notes["model"] == json.loads(json.dumps(model.spec.to_dict()))
    assert notes["model"]["class_names"] == list(CLASSES)
    assert notes["members"] == list(model.members)
    assert [(entry.domain, entry.version) for entry in proto.opset_import if not entry.domain] == [
        ("", OPSET)
    ]
    assert not [entry.domain for entry in proto.opset_import if entry.domain]  # ONNX's own operators alone
    for place in (Path(torch.__file__).parent.parent, Path(hhmnet.__file__).parent, Path.home() / ""):
        assert str(place).encode() + b"/" not in content
    sizes = {
        node.name: [size.dim_param or size.dim_value for size in node.type.tensor_type.shape.dim]
        for node in proto.graph.input
    }
    persons = model.spec.data.persons
    assert sizes["joints"] == ["frames", persons, 20, 3]
    assert sizes["present"] == ["frames", persons]
    assert sizes["lengths"] == ["clips"]
    assert ("grid" in sizes) == (kind == "video")


def test_what_cannot_be_exported_is_refused_with_a_reason() -> None:
    model = video_model()
    data = dataclasses.replace(model.spec.data, views=2)
    with pytest.raises(ExportError, match=r"field 'data\.views' is 2"):
        Graph(ActionModel(model.network, dataclasses.replace(model.spec, data=data)))
    model.network.video.backbone.video = True
    with pytest.raises(ExportError, match="several frames at once"):
        Graph(model)


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_a_missing_package_is_named(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ExportError, match=f"'{package}', which isn't installed; pip install"):
        to_onnx(skeleton_model())


def test_made_clips_are_what_the_graph_takes() -> None:
    spec = video_model().spec
    batches = list(made_clips(spec, 11, batch=4))
    assert [len(batch.labels) for batch in batches] == [4, 4, 3]
    again = list(made_clips(spec, 11, batch=4))
    for one, other in zip(batches, again, strict=True):
        np.testing.assert_array_equal(one.clips.joints, other.clips.joints)
        feed = inputs_of(spec, one)
        assert feed["joints"].shape[0] == feed["lengths"].sum()
        assert not feed["joints"][~feed["present"]].any()
        assert one.video is not None
        assert spec.video is not None
        slot = (torch.arange(spec.data.frames) + 0.5) / spec.data.frames
        positions = slot * one.clips.lengths[:, None] - 0.5
        wanted = prepare_video(one.video, positions, None, spec.video)
        np.testing.assert_array_equal(feed["grid"], wanted.grid)
        np.testing.assert_array_equal(feed["times"], wanted.times)

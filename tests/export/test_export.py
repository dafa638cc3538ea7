"""A model as an ONNX file: the answers of PyTorch, what the file says, and how answers are compared."""

from __future__ import annotations

import copy
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import hhmnet
from hhmnet.data.dataset import RawBatch
from hhmnet.data.transform import SkeletonBatch
from hhmnet.export import (
    OPSET,
    TOLERANCE,
    Graph,
    inputs_of,
    made_clips,
    measure_parity,
    to_onnx,
)
from hhmnet.models.pretrained import ActionModel, ModelSpec
from hhmnet.predict.engines import METADATA, open_session
from hhmnet.predict.sources import InputError
from made_exports import exported
from made_models import skeleton_model, video_model

# One worker makes the graphs for all of them.
pytestmark = pytest.mark.xdist_group("export")


def answer(content: bytes, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    graph = open_session(content, threads=1)
    return dict(zip((node.name for node in graph.get_outputs()), graph.run(None, feed), strict=True))


@pytest.mark.parametrize("lengths", [[1], [5, 6, 100, 2, 31]])
def test_any_number_of_clips_of_any_length_gets_pytorchs_answer(lengths: list[int]) -> None:
    """Of two persons, of which the last of several clips has none."""
    model, content = exported("skeletons")
    draw = torch.Generator().manual_seed(sum(lengths))
    joints = torch.randn(sum(lengths), 2, 20, 3, generator=draw)
    present = torch.rand(sum(lengths), 2, generator=draw) > 0.2
    present[0] = True
    if len(lengths) > 1:
        present[-lengths[-1] :] = False
    rows = torch.arange(len(lengths))
    clips = SkeletonBatch(joints * present[..., None, None], present, torch.tensor(lengths))
    feed = inputs_of(model.spec, RawBatch(clips, rows, rows))
    found = answer(content, feed)
    with torch.inference_mode():
        wanted = model.answer(clips)
    np.testing.assert_allclose(found["logits"], wanted.logits, atol=1e-4)
    np.testing.assert_allclose(found["members"], np.stack([*wanted.each.values()]), atol=1e-4)
    np.testing.assert_array_equal(found["used"], wanted.used)
    # A clip has no neighbours.
    alone = {name: array[: 1 if name == "lengths" else lengths[0]] for name, array in feed.items()}
    np.testing.assert_allclose(answer(content, alone)["logits"][0], found["logits"][0], atol=1e-5)


def test_a_video_network_without_guidance_or_scene_has_fewer_outputs() -> None:
    made = video_model()
    assert made.spec.heterogeneous is not None
    config = dataclasses.replace(made.spec.heterogeneous, guidance="none", scene=False)
    spec = dataclasses.replace(made.spec, heterogeneous=config)
    model = ActionModel(spec.build(pretrained=False), spec).eval()
    batch = next(made_clips(spec, 4))
    graph = Graph(model).eval()
    with torch.inference_mode():
        feed = [torch.from_numpy(array) for array in inputs_of(spec, batch).values()]
        found = dict(zip(graph.outputs, graph(*feed), strict=True))
        wanted = model.answer(batch.clips, batch.video)
    torch.testing.assert_close(found["logits"], wanted.logits, atol=1e-5, rtol=1e-5)
    assert "guidance" not in found


@pytest.mark.parametrize("kind", ["skeletons", "video"])
def test_the_file_says_what_it_is_and_nothing_of_this_machine(kind: str) -> None:
    model, content = exported(kind)
    proto = pytest.importorskip("onnx").load_from_string(content)
    notes = json.loads({entry.key: entry.value for entry in proto.metadata_props}[METADATA])
    assert (notes["version"], tuple(notes["members"])) == (hhmnet.__version__, model.members)
    assert ModelSpec.from_dict(notes["model"]) == model.spec
    # ONNX's own operators alone
    assert [(entry.domain, entry.version) for entry in proto.opset_import] == [("", OPSET)]
    for place in (Path(torch.__file__).parent.parent, Path(hhmnet.__file__).parent, Path.home() / ""):
        assert str(place).encode() + b"/" not in content


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(InputError, match="'onnxscript', which isn't installed; pip install"):
        to_onnx(skeleton_model())


@pytest.mark.parametrize("kind", ["skeletons", "video"])
def test_a_graph_agrees_with_its_own_model_and_not_with_other_weights(kind: str) -> None:
    model, content = exported(kind)
    parity = measure_parity(model, content, made_clips(model.spec, 12))
    assert (parity.plain.shape, parity.holds, parity.same.all()) == ((12,), True, True)
    assert np.median(parity.plain) < 1e-5
    if kind == "skeletons":
        other = copy.deepcopy(model)
        with torch.no_grad():
            other.network.encoders["bone"].classifier.bias += 1e-3  # type: ignore[union-attr, index]
        parity = measure_parity(other, content, made_clips(model.spec, 6))
        assert (parity.holds, parity.on_edge.any()) == (False, False)
        np.testing.assert_allclose(parity.plain, 1e-3, atol=2e-5)


class Jumping(ActionModel):
    """A model whose logits jump where the sum of a clip's joints reaches what it is in the first clip it sees."""

    pivot: float | None = None

    def streams(self, clips: SkeletonBatch | None, video: Any = None) -> Tensor:
        assert clips is not None
        sums = torch.stack([part.double().sum() for part in clips.joints.split(clips.lengths.tolist())])
        if self.pivot is None:
            self.pivot = float(sums[0])
        return super().streams(clips, video) + 0.5 * (sums >= self.pivot)[None, :, None]


def test_a_clip_on_an_edge_is_told_from_a_wrong_answer() -> None:
    model, content = exported("skeletons")
    batches = list(made_clips(model.spec, 1, batch=1))
    jumping = Jumping(model.network, model.spec).eval()
    parity = measure_parity(jumping, content, batches)
    assert parity.plain[0] == pytest.approx(0.5, abs=1e-3)
    assert parity.nearest[0] < TOLERANCE
    assert (parity.on_edge.all(), parity.holds) == (True, True)
    # The same jump far from the edge is no rounding error.
    jumping.pivot = -np.inf
    parity = measure_parity(jumping, content, batches)
    assert parity.nearest[0] == pytest.approx(0.5, abs=1e-3)
    assert (parity.on_edge.any(), parity.holds) == (False, False)

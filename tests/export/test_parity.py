from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hhmnet.data.transform import SkeletonBatch
from hhmnet.export.inputs import made_clips
from hhmnet.export.parity import TOLERANCE, Parity, measure_parity
from hhmnet.models.pretrained import ActionModel
from made_exports import exported

# One worker makes the graphs for all of them.
pytestmark = pytest.mark.xdist_group("export")


@pytest.mark.parametrize("kind", ["skeletons", "video"])
def test_a_graph_agrees_with_its_own_model(kind: str) -> None:
    model, content = exported(kind)
    parity = measure_parity(model, content, made_clips(model.spec, 12))
    assert parity.plain.shape == (12,)
    assert parity.holds
    assert parity.same.all()
    assert np.median(parity.plain) < 1e-5


def test_a_graph_of_other_weights_does_not() -> None:
    model, content = exported("skeletons")
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.network.encoders["bone"].classifier.bias += 1e-3
    parity = measure_parity(other, content, made_clips(model.spec, 6))
    assert not parity.holds
    assert not parity.on_edge.any()
    np.testing.assert_allclose(parity.plain, 1e-3, atol=2e-5)
    assert parity.to_dict()["holds"] is False


class Jumping(ActionModel):
    """A model whose logits jump where the sum of a clip's joints reaches what it is in the first clip it sees."""

    pivot: float | None = None
    jump = 0.5

    def streams(self, clips: SkeletonBatch | None, video: Any = None) -> Tensor:
        assert clips is not None
        sums = torch.stack([part.double().sum() for part in clips.joints.split(clips.lengths.tolist())])
        if self.pivot is None:
            self.pivot = float(sums[0])
        return super().streams(clips, video) + self.jump * (sums >= self.pivot)[None, :, None]


def test_a_clip_on_an_edge_is_told_from_a_wrong_answer() -> None:
    model, content = exported("skeletons")
    batches = list(made_clips(model.spec, 3, batch=1))
    jumping = Jumping(model.network, model.spec).eval()
    parity = measure_parity(jumping, content, batches[:1])
    assert parity.plain[0] == pytest.approx(0.5, abs=1e-3)
    assert parity.nearest[0] < TOLERANCE
    assert parity.on_edge.all()
    assert parity.holds
    # The same jump far from the edge is no rounding error.
    jumping.pivot = -np.inf
    parity = measure_parity(jumping, content, batches[:1])
    assert parity.nearest[0] == pytest.approx(0.5, abs=1e-3)
    assert not parity.on_edge.any()
    assert not parity.holds


def test_other_classes_are_counted() -> None:
    model, content = exported("skeletons")
    other = copy.deepcopy(model)
    batches = list(made_clips(model.spec, 6))
    with torch.inference_mode():
        labels = model.answer(batches[0].clips).logits.argmax(1)
    # Another class wins on every clip but those that had it already.
    with torch.no_grad():
        for encoder in other.network.encoders.values():
            encoder.classifier.bias[1] += 100
    parity = measure_parity(other, content, batches)
    assert parity.same.tolist() == (labels == 1).tolist()
    assert not parity.same.all()


def test_figures_of_a_comparison() -> None:
    same = np.array([True, False, True, True])
    parity = Parity(np.array([1e-6, 2e-3, 3e-6, 1e-6]), np.array([1e-6, 4e-6, 3e-6, 1e-6]), same)
    assert parity.on_edge.tolist() == [False, True, False, False]
    assert parity.to_dict() == {
        "clips": 4,
        "tolerance": 1e-4,
        "largest_difference": 2e-3,
        "median_difference": 2e-6,
        "on_edge": 1,
        "largest_difference_off_edge": 3e-6,
        "largest_difference_from_nearest": 4e-6,
        "same_class": 3,
        "holds": True,
    }
    assert not Parity(np.array([1e-6, 2e-4]), np.array([1e-6, 2e-4]), same[2:]).holds

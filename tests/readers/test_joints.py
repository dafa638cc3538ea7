from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hhmnet.readers import ReadError
from hhmnet.readers.joints import HIDDEN, LEFT_OUT, MISSING, ORDERED, motion, settle


def plain(
    joints: np.ndarray, trust: np.ndarray | None, present: np.ndarray | None
) -> tuple[list[list[Any]], Counter[str]]:
    """The rules of ``settle``, one joint at a time: joints, confidence and presence of who is there."""
    notes: Counter[str] = Counter()
    kept = []
    for person, body in enumerate(joints):
        points, sure = np.zeros_like(body), np.zeros(body.shape[:2])
        for frame, joint in np.ndindex(sure.shape):
            known = 1.0 if trust is None else trust[person, frame, joint]
            if not np.isnan(body[frame, joint]).any() and known > 0:
                points[frame, joint], sure[frame, joint] = body[frame, joint], known
        there = points.any(axis=(1, 2))
        for frame in np.flatnonzero(there):
            if present is not None and not present[person, frame]:
                there[frame] = False
                notes[HIDDEN] += 1
            else:
                notes[MISSING] += int(np.isnan(body[frame]).any(-1).sum())
        points[~there], sure[~there] = 0, 0
        if there.any():
            kept.append([points.tolist(), sure.tolist(), there.tolist()])
    notes[LEFT_OUT] = len(joints) - len(kept)
    return kept, +notes


COORDINATES = st.sampled_from([0.0, 1.0, -2.5, np.nan])


@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_as_a_plain_loop_has_it(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(*[st.integers(1, 3)] * 4))
    joints = data.draw(hnp.arrays(np.float64, shape, elements=COORDINATES))
    sure = st.sampled_from([0, 0.5, 1, np.nan])
    trust = data.draw(st.none() | hnp.arrays(np.float32, shape[:3], elements=sure))
    present = data.draw(st.none() | hnp.arrays(np.bool_, shape[:2]))
    expected, counted = plain(joints, trust, present)
    notes: Counter[str] = Counter()
    if not expected:
        with pytest.raises(ReadError, match="no frame has a body"):
            settle(joints, notes, confidence=trust, present=present)
        return
    given_joints, given_trust = joints.copy(), None if trust is None else trust.copy()
    fields = settle(joints, notes, confidence=trust, present=present)
    np.testing.assert_array_equal(joints, given_joints)  # the input is left alone
    np.testing.assert_array_equal(trust, given_trust)
    del notes[ORDERED]
    assert notes == counted
    assert fields["joints"].dtype == np.float32
    there = fields["present"][..., None].repeat(shape[2], 2)
    is_whole = all(np.array(sure)[there].all() for _, sure, there in expected)
    assert (fields["confidence"] is None) == (trust is None and is_whole)
    sure = there.astype(float) if fields["confidence"] is None else fields["confidence"]
    found = zip(fields["joints"], sure, fields["present"], strict=True)
    assert sorted([part.tolist() for part in one] for one in found) == sorted(expected)


@pytest.mark.parametrize(
    ("value", "options", "reason"),
    [
        (1e39, {"field": "it"}, "field 'it': infinite or too large"),
        (-1500, {"largest": 1400, "remedy": " m; why?"}, "field 'joints': beyond 1,400 m; why\\?"),
        (-0.1, {"confidence": True}, "field 'confidence': not from 0 to 1"),
        (1.5, {"confidence": True}, "field 'confidence': not from 0 to 1"),
        (1e300, {"pixels": True}, "field 'pixels': not a number, or infinite, for a joint that is there"),
    ],
)
def test_what_is_too_large_is_refused(value: float, options: dict[str, Any], reason: str) -> None:
    joints, pixels = np.ones((2, 3, 4, 3)), np.ones((2, 3, 4, 2))
    arrays = {"confidence": np.ones((2, 3, 4)), "pixels": pixels}
    field = next((name for name in arrays if name in options), "")
    arrays.get(field, joints)[1, 2, 3] = value
    with pytest.raises(ReadError, match=rf"{reason} \(person 1, frame 2, joint 3\)"):
        settle(joints, Counter(), **(options | arrays))
    arrays = {name: np.clip(array, 0, 1) for name, array in arrays.items()}
    settle(np.clip(joints, -1400, 1400), Counter(), **(options | arrays))


def test_a_nan_that_signals_warns_nobody() -> None:
    joints = np.ones((1, 2, 20, 3))
    joints.view(np.uint64)[0, 1, 4] = 0x7FF0000000000001
    assert settle(joints, Counter())["confidence"][0, 1, 4] == 0


def test_who_moves_most_comes_first() -> None:
    """As for NTU: motion times presence; a joint that isn't seen makes no motion."""
    rng = np.random.default_rng(0)
    still, brief, mover = rng.normal(3, np.reshape([0.001, 0.3, 0.2], (3, 1, 1, 1)), (3, 20, 5, 3))
    still[::2, 0] = 0
    brief[4:] = 0
    present = np.arange(20) < np.array([20, 4, 20])[:, None]
    seen = [[one[one.any(axis=1)] for one in body.transpose(1, 0, 2)] for body in (still, brief, mover)]
    slow = np.array([sum(one.var(0).sum() for one in body) for body in seen]) * (1, 0.2, 1)
    np.testing.assert_allclose(motion(np.stack([still, brief, mover]), present), slow)
    notes: Counter[str] = Counter()
    found = settle(np.stack([still, brief, mover]), notes)["joints"]
    np.testing.assert_array_equal(found, np.stack([mover, brief, still]).astype(np.float32))
    settle(np.stack([mover, still]), notes)
    assert notes == {ORDERED: 1}

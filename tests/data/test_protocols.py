from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hhmnet.data.protocols import NW_UCLA_CROSS_VIEW, PROTOCOLS, Protocol, ProtocolError, get_protocol
from hhmnet.sample import Sample
from hhmnet.store import Store

FOLDS = [None, 0, 1]


def test_nw_ucla_trains_on_cameras_1_and_2_and_tests_on_3(tiny_store: Store) -> None:
    protocol = NW_UCLA_CROSS_VIEW
    cameras = {
        (part, fold): set(tiny_store.cameras[protocol.indices(tiny_store, part, fold)])
        for part in ("train", "val", "test")
        for fold in FOLDS
    }
    assert cameras == {
        ("train", None): {"1", "2"},
        ("train", 0): {"1"},
        ("train", 1): {"2"},
        ("val", None): set(),
        ("val", 0): {"2"},
        ("val", 1): {"1"},
        ("test", None): {"3"},
        ("test", 0): {"3"},
        ("test", 1): {"3"},
    }


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS.keys())
@pytest.mark.parametrize("fold", FOLDS)
def test_parts_are_disjoint_whole_and_in_order(
    tiny_store: Store, protocol: Protocol, fold: int | None
) -> None:
    train, val, test = (
        protocol.indices(tiny_store, part, fold).tolist() for part in ("train", "val", "test")
    )
    assert sorted(train + val + test) == protocol.indices(tiny_store, "all", fold).tolist() == list(range(30))
    for rows in (train, val, test):
        assert rows == sorted(rows)


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS.keys())
def test_folds_share_out_the_training_clips(tiny_store: Store, protocol: Protocol) -> None:
    whole = set(protocol.indices(tiny_store, "train").tolist())
    held = [set(protocol.indices(tiny_store, "val", fold).tolist()) for fold in range(len(protocol.folds))]
    assert set.union(*held) == whole
    assert sum(map(len, held)) == len(whole)
    for fold, rows in enumerate(held):
        assert rows
        assert set(protocol.indices(tiny_store, "train", fold).tolist()) == whole - rows


@pytest.mark.parametrize("axis", ["camera", "subject", "setup"])
def test_every_attribute_can_decide(tiny_store: Store, axis: str) -> None:
    values = {"camera": tiny_store.cameras, "subject": tiny_store.subjects, "setup": tiny_store.setups}[axis]
    protocol = Protocol("made", axis, frozenset({"1"}), (), "nowhere")
    assert protocol.indices(tiny_store, "test").tolist() == [i for i in range(30) if values[i] == "1"]
    assert protocol.indices(tiny_store, "train").tolist() == [i for i in range(30) if values[i] != "1"]


def test_test_clips_never_validate_nor_train(tiny_store: Store) -> None:
    """Not even where a fold's group names a tested value by mistake."""
    protocol = Protocol("made", "camera", frozenset({"3"}), (frozenset({"2", "3"}),), "nowhere")
    test = protocol.indices(tiny_store, "test")
    for part in ("train", "val"):
        assert not np.isin(protocol.indices(tiny_store, part, 0), test).any()
    assert len(test) == 10


def test_a_store_of_test_clips_only_leaves_nothing_to_train(
    tmp_path: Path, make_sample: Callable[..., Sample], write_clips: Callable[..., Store]
) -> None:
    store = write_clips(tmp_path, [make_sample(n, camera="3") for n in range(4)])
    assert NW_UCLA_CROSS_VIEW.indices(store, "train").size == 0
    assert NW_UCLA_CROSS_VIEW.indices(store, "test").tolist() == [0, 1, 2, 3]


def test_protocols_are_found_by_name() -> None:
    for name, protocol in PROTOCOLS.items():
        assert get_protocol(name) is protocol
        assert protocol.name == name
    with pytest.raises(ProtocolError, match="unknown protocol 'x_ray'; known: nw_ucla_cross_view"):
        get_protocol("x_ray")


@pytest.mark.parametrize(
    ("part", "fold", "message"),
    [
        ("testing", None, "unknown split 'testing'; known: train, val, test, all"),
        ("train", 2, "nw_ucla_cross_view has folds 0 to 1, got 2"),
        ("val", -1, "nw_ucla_cross_view has folds 0 to 1, got -1"),
    ],
)
def test_unknown_parts_and_folds_are_refused(
    tiny_store: Store, part: str, fold: int | None, message: str
) -> None:
    with pytest.raises(ProtocolError, match=message):
        NW_UCLA_CROSS_VIEW.indices(tiny_store, part, fold)

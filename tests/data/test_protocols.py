from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hhmnet.data.protocols import NW_UCLA_CROSS_VIEW, PROTOCOLS, Protocol, ProtocolError, get_protocol

# As the papers list them, written out anew.
TRAIN60 = [1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38]
TRAIN120 = [
    *TRAIN60,
    *(45, 46, 47, 49, 50, 52, 53, 54, 55, 56, 57, 58, 59, 70, 74, 78, 80, 81, 82, 83, 84, 85, 86),
    *(89, 91, 92, 93, 94, 95, 97, 98, 100, 103),
]


def columns(**values: list[str]) -> Any:
    """What a protocol looks at of a store: text, "" where nothing is said."""
    nothing = [""] * max(map(len, values.values()))
    axes = ("camera", "subject", "setup", "split")
    return SimpleNamespace(**{f"{axis}s": np.array(values.get(axis, nothing)) for axis in axes})


def num_folds(protocol: Protocol, values: Any) -> int:
    for fold in itertools.count():
        try:
            protocol.indices(values, "val", fold)
        except ProtocolError:
            return fold
    raise AssertionError


# Name, attribute, the values that train, all values, folds.
PUBLISHED: list[tuple[str, str, Iterable[int], Iterable[int], int]] = [
    ("nw_ucla_cross_view", "camera", [1, 2], range(1, 4), 2),
    ("ntu60_xsub", "subject", TRAIN60, range(1, 41), 4),
    ("ntu60_xview", "camera", [2, 3], range(1, 4), 2),
    ("ntu120_xsub", "subject", TRAIN120, range(1, 107), 4),
    ("ntu120_xset", "setup", range(2, 33, 2), range(1, 33), 4),
    ("utd_mhad", "subject", [1, 3, 5, 7], range(1, 9), 2),
    ("msr_action3d", "subject", [1, 3, 5, 7, 9], range(1, 11), 2),
    ("kinder_gator", "subject", range(103, 123), range(103, 123), 2),
]


@pytest.mark.parametrize(("name", "axis", "trains", "every", "folds"), PUBLISHED)
def test_who_trains_who_is_tested_and_what_is_held_out(name, axis, trains, every, folds):
    """Folds hold out whole values along the test's shift, and share out the training clips."""
    protocol, each = PROTOCOLS[name], [str(value) for value in [*every, *every]]
    values = columns(**{axis: each})

    def found(part: str, fold: int | None = None) -> set[int]:
        return {int(each[row]) for row in protocol.indices(values, part, fold)}

    assert found("train") == set(trains)
    assert found("test") == set(every) - set(trains)
    assert len(protocol.indices(values, "all")) == len(each)
    assert num_folds(protocol, values) == folds
    held = [found("val", fold) for fold in range(folds)]
    assert all(held)
    assert sum(map(len, held)) == len(set.union(*held))
    assert set.union(*held) == set(trains)
    for fold, own in enumerate(held):
        assert found("train", fold) == set(trains) - own


def test_test_clips_never_validate_nor_train(tiny_store):
    """Not even where a fold's group names a tested value by mistake."""
    protocol = Protocol("made", "camera", frozenset({"3"}), "nowhere", (frozenset({"2", "3"}),))
    test = protocol.indices(tiny_store, "test")
    for part in ("train", "val"):
        assert not np.isin(protocol.indices(tiny_store, part, 0), test).any()
    assert len(test) == 10


def test_unknown_parts_and_folds_are_refused(tiny_store):
    for part, fold, message in (
        ("testing", None, "unknown split 'testing'; known: train, val, test, all"),
        ("val", 2, "nw_ucla_cross_view has folds 0 to 1, got 2"),
        ("train", -1, "nw_ucla_cross_view has folds 0 to 1, got -1"),
    ):
        with pytest.raises(ProtocolError, match=message):
            NW_UCLA_CROSS_VIEW.indices(tiny_store, part, fold)


@pytest.mark.parametrize(
    ("name", "file", "counts"),
    [
        ("ntu60_xsub", "available_60.txt", (40_091, 16_487)),
        ("ntu60_xview", "available_60.txt", (37_646, 18_932)),
        ("ntu120_xsub", "available_120.txt", (63_026, 50_919)),
        ("ntu120_xset", "available_120.txt", (54_468, 59_477)),
    ],
)
def test_the_published_counts(name, file, counts):
    listed = Path(os.environ.get("HHMNET_DATA", "/nowhere")) / "ntu" / file
    if not listed.is_file():
        pytest.skip(f"HHMNET_DATA names no data folder with ntu/{file}")
    parts = re.findall(r"S(\d{3})C(\d{3})P(\d{3})R\d{3}A\d{3}", listed.read_text())
    each = zip(("setup", "camera", "subject"), zip(*parts, strict=True), strict=True)
    values = columns(**{axis: [str(int(number)) for number in numbers] for axis, numbers in each})
    protocol = PROTOCOLS[name]
    assert tuple(len(protocol.indices(values, part)) for part in ("train", "test")) == counts
    held = [len(protocol.indices(values, "val", fold)) for fold in range(num_folds(protocol, values))]
    assert sum(held) == counts[0]
    assert min(held) > counts[0] / len(held) / 2


def test_automatic_folds_deal_the_values_out_in_order():
    """Numbers by size, before words; a clip without a value is never held out."""
    subjects = ["10", "9", "", "2", "x", "1", "2", "7"]
    values = columns(split=["train"] * 7 + ["test"], subject=subjects)
    protocol = PROTOCOLS["given"]
    held = [protocol.indices(values, "val", fold) for fold in range(num_folds(protocol, values))]
    assert [sorted(set(values.subjects[rows])) for rows in held] == [["1", "x"], ["2"], ["9"], ["10"]]
    assert all(2 in protocol.indices(values, "train", fold) for fold in range(4))
    assert held[1].tolist() == [3, 6]
    both = columns(split=["xsub_train xsub_test", "xsub_train", "xsub_test"], subject=["1", "2", "3"])
    assert get_protocol("pyskl:xsub").indices(both, "train").tolist() == [1], "a clip of both parts is tested"


def test_given_parts_fall_back_on_setups_and_say_where_there_are_none():
    protocol = PROTOCOLS["given"]
    values = columns(split=["", "train", "train", "test"], subject=["1", "1", "", "2"], setup=list("ABCD"))
    assert num_folds(protocol, values) == 3
    assert protocol.indices(values, "val", 1).tolist() == [1]
    assert protocol.indices(values, "test").tolist() == [3]
    alone = columns(split=["train", "test"])
    assert protocol.indices(alone, "train").tolist() == [0]
    with pytest.raises(ProtocolError, match=r"no two training clips differ in their subject or setup"):
        protocol.indices(alone, "val", 0)


def test_a_published_validation_part_is_the_only_fold():
    protocol = PROTOCOLS["given"]
    values = columns(split=["train", "val", "test", "val", "train"], subject=list("abcde"))
    assert num_folds(protocol, values) == 1
    assert protocol.indices(values, "train").tolist() == [0, 1, 3, 4]
    assert protocol.indices(values, "train", 0).tolist() == [0, 4]
    assert protocol.indices(values, "val", 0).tolist() == [1, 3]


@pytest.mark.parametrize("prefix", ["", "fold"])
def test_tennis_tests_fold_2_and_holds_out_scenes(prefix):
    folds = [prefix + number for number in "0011222"]
    values = columns(split=folds, setup=["19", "25", "2", "44", "3", "19", "11"])
    protocol = PROTOCOLS["tennis"]
    assert protocol.indices(values, "train").tolist() == [0, 1, 2, 3]
    assert protocol.indices(values, "test").tolist() == [4, 5, 6]
    assert [protocol.indices(values, "val", fold).tolist() for fold in range(2)] == [[0, 3], [2]]
    assert protocol.indices(values, "train", 0).tolist() == [1, 2]  # scene 25 always trains


def test_pyskl_validates_on_the_val_part_where_there_is_a_test_part():
    values = columns(split=["train", "val", "test", "train"])
    protocol = get_protocol("pyskl:")
    assert protocol.indices(values, "test").tolist() == [2]
    assert protocol.indices(values, "train").tolist() == [0, 1, 3]
    assert protocol.indices(values, "val", 0).tolist() == [1]
    numbered = columns(split=["train1 test2", "test1 train2"])
    assert get_protocol("pyskl:1").indices(numbered, "train").tolist() == [0]
    assert get_protocol("pyskl:2").indices(numbered, "test").tolist() == [0]


def test_a_store_of_another_data_set_is_refused():
    values = columns(split=["xsub_train", "xsub_val xset_train"], subject=["a", "b"])
    with pytest.raises(
        ProtocolError, match=r"no clip has one of .*nope_train.*; the clips have xset_train, xsub"
    ):
        get_protocol("pyskl:nope").indices(values, "train")
    with pytest.raises(ProtocolError, match=r"ntu60_xsub goes by subject, .*; the clips have a, b"):
        PROTOCOLS["ntu60_xsub"].indices(values, "test")
    assert PROTOCOLS["ntu60_xsub"].indices(values, "all").tolist() == [0, 1]


def test_labels_that_cannot_be_corrected_are_named(tiny_store):
    train, test = (str(tiny_store.sample_ids[tiny_store.cameras == camera][0]) for camera in "13")
    with pytest.raises(ProtocolError, match=f"gives {train} the class 'waving'; the store has"):
        NW_UCLA_CROSS_VIEW.labels(tiny_store, {train: "waving"})
    with pytest.raises(ProtocolError, match=f"field 'relabel' names {test}, which is a test clip"):
        NW_UCLA_CROSS_VIEW.labels(tiny_store, {test: "wave"})

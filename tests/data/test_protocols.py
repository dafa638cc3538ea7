"""Protocols, against the papers' lists: who trains, who is tested, who is held out, and what is refused."""

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

from hhmnet.data.protocols import AXES, PROTOCOLS, Protocol, ProtocolError, get_protocol

# As the papers list them, written out anew.
TRAIN60 = [1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38]
TRAIN120 = [
    *TRAIN60,
    *(45, 46, 47, 49, 50, 52, 53, 54, 55, 56, 57, 58, 59, 70, 74, 78, 80, 81, 82, 83, 84, 85, 86),
    *(89, 91, 92, 93, 94, 95, 97, 98, 100, 103),
]


def columns(**values: Iterable[str]) -> Any:
    """What a protocol looks at of a store: text, "" where nothing is said."""
    each = {axis: list(cells) for axis, cells in values.items()}
    nothing = [""] * max(map(len, each.values()))
    return SimpleNamespace(**{f"{axis}s": np.array(each.get(axis, nothing)) for axis in AXES})


def held_out(protocol: Protocol, values: Any) -> list[list[int]]:
    """The clips of every fold."""
    found: list[list[int]] = []
    for fold in itertools.count():
        try:
            found.append(protocol.indices(values, "val", fold).tolist())
        except ProtocolError:
            break
    return found


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
    held = [found("val", fold) for fold in range(len(held_out(protocol, values)))]
    assert len(held) == folds
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
    assert tuple(len(PROTOCOLS[name].indices(values, part)) for part in ("train", "test")) == counts
    held = [len(rows) for rows in held_out(PROTOCOLS[name], values)]
    assert sum(held) == counts[0]
    assert min(held) > counts[0] / len(held) / 2


TENNIS = {"setup": ["19", "25", "2", "44", "3", "19", "11"]}
# What a protocol makes of clips: those that train, those that are tested, those that each fold holds out.
PARTS: dict[str, tuple[str, dict[str, Iterable[str]], list[int], list[int], list[list[int]]]] = {
    "folds deal values out in order, numbers by size before words; who has none is never held out": (
        *("given", {"split": ["train"] * 7 + ["test"], "subject": ["10", "9", "", "2", "x", "1", "2", "7"]}),
        *([0, 1, 2, 3, 4, 5, 6], [7], [[4, 5], [3, 6], [1], [0]]),
    ),
    "folds fall back on setups where all subjects are one": (
        *(
            "given",
            {"split": ["", "train", "train", "test"], "subject": ["1", "1", "", "2"], "setup": "ABCD"},
        ),
        *([0, 1, 2], [3], [[0], [1], [2]]),
    ),
    "a published validation part is the only fold": (
        *("given", {"split": ["train", "val", "test", "val", "train"], "subject": "abcde"}),
        *([0, 1, 3, 4], [2], [[1, 3]]),
    ),
    "tennis tests fold 2 and holds out scenes, of which 25 always trains": (
        *("tennis", {"split": "0011222"} | TENNIS),
        *([0, 1, 2, 3], [4, 5, 6], [[0, 3], [2]]),
    ),
    "the same by other names": (
        *("tennis", {"split": [f"fold{n}" for n in "0011222"]} | TENNIS),
        *([0, 1, 2, 3], [4, 5, 6], [[0, 3], [2]]),
    ),
    "a clip of both parts is tested": (
        *("pyskl:xsub", {"split": ["xsub_train xsub_test", "xsub_train", "xsub_test"]}),
        *([1], [0, 2], []),
    ),
    "pyskl's val is tested where there is no test": (
        *("pyskl:xsub", {"split": ["xsub_train", "xsub_val", "xsub_train"], "subject": "aab"}),
        *([0, 2], [1], [[0], [2]]),
    ),
    "and validates where there is one": (
        *("pyskl:", {"split": ["train", "val", "test", "train"]}),
        *([0, 1, 3], [2], [[1]]),
    ),
    "numbered parts": ("pyskl:1", {"split": ["train1 test2", "test1 train2"]}, [0], [1], []),
    "the other number": ("pyskl:2", {"split": ["train1 test2", "test1 train2"]}, [1], [0], []),
}


@pytest.mark.parametrize(("name", "given", "trains", "tests", "folds"), PARTS.values(), ids=PARTS)
def test_parts_that_files_name(name, given, trains, tests, folds):
    protocol, values = get_protocol(name), columns(**given)
    assert protocol.indices(values, "train").tolist() == trains
    assert protocol.indices(values, "test").tolist() == tests
    assert held_out(protocol, values) == folds
    for fold, held in enumerate(folds):
        assert protocol.indices(values, "train", fold).tolist() == [row for row in trains if row not in held]


@pytest.mark.parametrize(
    ("name", "part", "fold", "message"),
    [
        ("nw_ucla_cross_view", "testing", None, "unknown split 'testing'; known: train, val, test, all"),
        ("nw_ucla_cross_view", "val", 2, "nw_ucla_cross_view has folds 0 to 1, got 2"),
        ("nw_ucla_cross_view", "train", -1, "nw_ucla_cross_view has folds 0 to 1, got -1"),
        ("given", "val", 0, "no folds here: no two training clips differ in their subject or setup"),
        ("pyskl:nope", "train", None, r"no clip has one of .*nope_train.*; the clips have xset_train, xsub"),
        ("ntu60_xsub", "test", None, "ntu60_xsub goes by subject, .*; the clips have a"),
    ],
)
def test_what_a_store_has_not_is_refused(name, part, fold, message):
    values = columns(split=["xsub_train", "xsub_val xset_train"], subject="aa", camera="12")
    with pytest.raises(ProtocolError, match=message):
        get_protocol(name).indices(values, part, fold)
    assert PROTOCOLS["ntu60_xsub"].indices(values, "all").tolist() == [0, 1]


def test_labels_that_cannot_be_corrected_are_named(tiny_store):
    train, test = (str(tiny_store.sample_ids[tiny_store.cameras == camera][0]) for camera in "13")
    protocol = PROTOCOLS["nw_ucla_cross_view"]
    with pytest.raises(ProtocolError, match=f"gives {train} the class 'waving'; the store has"):
        protocol.labels(tiny_store, {train: "waving"})
    with pytest.raises(ProtocolError, match=f"field 'relabel' names {test}, which is a test clip"):
        protocol.labels(tiny_store, {test: "wave"})

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hhmnet.readers.labels import count_splits, hold_out


def held_out(groups: list[str]) -> list[str]:
    """The groups that are tested; every clip of a group is where the others are."""
    clips = {f"clip{n}": group for n, group in enumerate(groups * 2)}
    split, _ = hold_out(clips)
    assert all(len({split[clip] for clip in clips if clips[clip] == group}) == 1 for group in groups)
    return sorted({clips[clip] for clip, part in split.items() if part == "test"})


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        (["1", "2", "3", "4"], ["4"]),
        ([str(n) for n in range(1, 13)], ["12", "4", "8"]),  # counted as numbers: 4, 8, 12
        (["ann", "bob"], ["bob"]),
        (["p1", "p2", "p10"], ["p10"]),
        (["ann", "bob", ""], ["bob"]),
    ],
)
def test_every_fourth_group_is_tested(groups: list[str], expected: list[str]) -> None:
    assert held_out(groups) == expected


def test_it_says_which_groups() -> None:
    _, rule = hold_out({str(n): str(n) for n in range(8)} | {"x": ""})
    assert rule == "tested are the groups 3, 7, 2 of 8. Warning: 1 clips have no subject or group; they train"


@given(st.lists(st.text(min_size=1), min_size=1, max_size=50, unique=True), st.text(min_size=1))
def test_without_groups_a_clip_stays_where_it_is(clips: list[str], other: str) -> None:
    split, rule = hold_out(dict.fromkeys(clips, ""))
    more, _ = hold_out(dict.fromkeys([*clips, other], ""))
    assert all(more[clip] == part for clip, part in split.items())
    assert "the same persons may be in training and test" in rule
    assert hold_out(dict.fromkeys(clips, "ann"))[0] == split


def test_about_one_clip_in_five_is_tested() -> None:
    split, _ = hold_out({f"clips/{n:04d}.npz": "" for n in range(2000)})
    assert 340 < list(split.values()).count("test") < 460


def test_counts() -> None:
    assert count_splits(["train", "test extra", "", "train"]) == "(none) 1, extra 1, test 1, train 2"

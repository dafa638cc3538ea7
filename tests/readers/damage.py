"""Damaged copies of a file's bytes: cut, swapped, overwritten, filled in."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def damaged(*wholes: bytes, pieces: Sequence[bytes] = (b"\x00", b"\xff")) -> st.SearchStrategy[bytes]:
    """One of ``wholes`` with one kind of damage, or a few bytes of anything; ``pieces`` hurt the format most."""
    return st.sampled_from(wholes).flatmap(lambda whole: _damaged(whole, pieces)) | st.binary(max_size=60)


def _damaged(whole: bytes, pieces: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    place = st.integers(0, len(whole))
    piece = st.sampled_from(list(pieces)) | st.binary(min_size=1, max_size=4)
    few = st.lists(st.tuples(place, piece), min_size=1, max_size=3)
    return st.one_of(
        place.map(lambda at: whole[:at]),
        st.tuples(place, place).map(lambda ends: whole[: min(ends)] + whole[max(ends) :]),
        few.map(lambda changes: _changed(whole, changes, over=True)),
        few.map(lambda changes: _changed(whole, changes, over=False)),
    )


def _changed(whole: bytes, changes: Sequence[tuple[int, bytes]], *, over: bool) -> bytes:
    for place, piece in changes:
        whole = whole[:place] + piece + whole[place + (len(piece) if over else 0) :]
    return whole

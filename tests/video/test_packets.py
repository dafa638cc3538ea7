from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hhmnet.video.packets import (
    LostError,
    Packets,
    certain_order,
    distinct_field,
    gives_all_frames,
    open_stream,
    scan,
    shown_order,
)
from made_video import FRAMES, KINDS, write_video

WITH_B_FRAMES = ["constant rate, B-frames", "variable rate, B-frames, Matroska", "open GOPs", "MPEG-4 in AVI"]


def read(folder: Path, kind: str) -> tuple[Packets, Any, str]:
    file = write_video(folder / KINDS[kind].file, **KINDS[kind].settings)
    container, stream = open_stream(file, 1, False)
    with container:
        packets, cut = scan(container, stream)
        context = stream.codec_context
        plain = SimpleNamespace(name=context.name, reorder_depth=context.reorder_depth, field_order=0)
    return packets, SimpleNamespace(codec_context=plain), cut


def first(packets: Packets, count: int) -> Packets:
    """The packets that are left when a file is cut off."""
    lists = [column[:count] for column in (packets.pos, packets.pts, packets.dts, packets.sizes)]
    return Packets(
        *lists, {n for n in packets.keyframes if n < count}, [n for n in packets.shown if n < count]
    )


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_whole_files_are_whole(tmp_path: Path, kind: str) -> None:
    packets, stream, cut = read(tmp_path, kind)
    assert cut == ""
    assert len(packets.shown) == len(KINDS[kind].numbers)
    assert 0 in packets.keyframes
    assert distinct_field(packets) == "pos"
    assert gives_all_frames(packets, shown_order(packets, stream), stream) == (kind != "VP8")


@pytest.mark.parametrize("kind", WITH_B_FRAMES)
def test_order_before_a_cut_is_right_wherever_it_is(tmp_path: Path, kind: str) -> None:
    packets, stream, _ = read(tmp_path, kind)
    order = shown_order(packets, stream)
    assert order is not None
    assert order != packets.shown
    wrong = 0
    for count in range(1, FRAMES):
        rest = first(packets, count)
        naive = shown_order(rest, stream)
        if naive is None:  # so few packets that none stands out of order
            assert count < 4
            continue
        certain = certain_order(rest, naive)
        assert certain == order[: len(certain)]
        assert count - 5 <= len(certain) <= count
        wrong += naive != order[:count]
    assert wrong > 0


@pytest.mark.parametrize(
    "kind", ["raw H.264, no times", "H.264 in AVI, times made up"], ids=["no times", "made up times"]
)
def test_order_that_the_file_does_not_tell(tmp_path: Path, kind: str) -> None:
    packets, stream, _ = read(tmp_path, kind)
    assert shown_order(packets, stream) is None


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, True),
        ({"name": "vp8"}, False),
        ({"name": "mpeg4", "sizes": [400, 7, 300]}, False),
        ({"name": "mpeg4", "sizes": [400, 70, 300]}, True),
        ({"field_order": 2}, False),
        ({"keyframes": {1}}, False),
        ({"order": [1, 0, 2]}, False),
        ({"order": [1, 2], "shown": [1, 2]}, True),
    ],
)
def test_packets_that_may_hold_no_frame(change: dict[str, Any], expected: bool) -> None:
    context = SimpleNamespace(name=change.get("name", "h264"), field_order=change.get("field_order", 0))
    sizes, keyframes = change.get("sizes", [400, 20, 300]), change.get("keyframes", {0})
    packets = Packets([0, 400, 420], [0, 1, 2], [0, 1, 2], sizes, keyframes, change.get("shown", [0, 1, 2]))
    stream: Any = SimpleNamespace(codec_context=context)
    assert gives_all_frames(packets, change.get("order", [0, 1, 2]), stream) is expected


@pytest.mark.parametrize(
    ("pos", "pts", "expected"),
    [
        ([0, 5], [0, 1], "pos"),
        ([0, 0], [0, 1], "pts"),
        ([-1, -1], [None, 1], None),
        ([None, 4], [1, 1], None),
    ],
)
def test_field_that_tells_packets_apart(pos: list[Any], pts: list[Any], expected: str | None) -> None:
    assert distinct_field(Packets(pos, pts, [0, 1], [9, 9], {0}, [0, 1])) == expected


def test_nothing_to_open(tmp_path: Path) -> None:
    with pytest.raises(LostError, match="No such file"):
        open_stream(tmp_path / "a.mp4", 1, False)

from __future__ import annotations

import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hhmnet.video import VideoError, open_video
from hhmnet.video.packets import PacketInfo, frame_order, open_stream, packet_keys, scan
from made_video import FRAMES, KINDS, write_video

# VP8 packets may hold no frame; the others' times are missing or made up.
UNTOLD = ["VP8", "raw H.264, no times", "H.264 in AVI, times made up"]


def read(folder: Path, kind: str) -> tuple[list[PacketInfo], Any, str]:
    container, stream = open_stream(write_video(folder / KINDS[kind].file, **KINDS[kind].settings))
    with container:
        packets, cut = scan(container, stream)
        context = stream.codec_context
        plain = SimpleNamespace(name=context.name, reorder_depth=context.reorder_depth, field_order=0)
    return packets, SimpleNamespace(codec_context=plain), cut


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_whole_files_are_whole(tmp_path: Path, kind: str) -> None:
    packets, stream, cut = read(tmp_path, kind)
    assert cut == ""
    assert sum(packet.is_shown for packet in packets) == len(KINDS[kind].numbers)
    assert packets[0].is_keyframe
    assert len(packet_keys(packets)) == len(packets)
    assert (frame_order(packets, stream, is_cut=False) is None) == (kind in UNTOLD)
    assert packet_keys([packets[0]] * 2) == {}  # nothing tells these two apart


@pytest.mark.parametrize(
    "kind", ["constant rate, B-frames", "variable rate, B-frames, Matroska", "open GOPs", "MPEG-4 in AVI"]
)
def test_order_before_a_cut_is_right_wherever_it_is(tmp_path: Path, kind: str) -> None:
    packets, stream, _ = read(tmp_path, kind)
    order = frame_order(packets, stream, is_cut=False)
    assert order is not None
    wrong = 0
    for count in range(1, FRAMES):
        naive, certain = (frame_order(packets[:count], stream, is_cut=cut) for cut in (False, True))
        if naive is None or certain is None:  # so few packets that none stands out of order
            assert count < 4
            continue
        assert certain == order[: len(certain)]
        assert count - 5 <= len(certain) <= count
        wrong += naive != order[:count]
    assert wrong > 0


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, True),
        ({"name": "vp8"}, False),
        ({"name": "mpeg4", "sizes": [400, 7, 300]}, False),
        ({"name": "mpeg4", "sizes": [400, 70, 300]}, True),
        ({"field_order": 2}, False),
        ({"is_keyframe": False}, False),
        ({"pts": [1, 0, 2]}, False),
        ({"pts": [1, 1, 2]}, False),
        ({"pts": [2, 0, 1], "is_shown": False}, True),
    ],
)
def test_packets_that_may_hold_no_frame(change: dict[str, Any], expected: bool) -> None:
    sizes, pts = change.get("sizes", [400, 20, 300]), change.get("pts", [0, 1, 2])
    first = PacketInfo(0, pts[0], 0, sizes[0], change.get("is_keyframe", True), change.get("is_shown", True))
    packets = [first, *(PacketInfo(400 * n, pts[n], n, sizes[n], False, True) for n in (1, 2))]
    context = SimpleNamespace(
        name=change.get("name", "h264"), field_order=change.get("field_order", 0), reorder_depth=0
    )
    stream: Any = SimpleNamespace(codec_context=context)
    assert (frame_order(packets, stream, is_cut=False) is not None) is expected


@pytest.mark.parametrize("table", [b"stsz", b"stts", b"ctts"])
@pytest.mark.parametrize("count", [50_000, 2**32 - 1])
def test_tables_that_announce_more_frames_than_bytes(table: bytes, count: int, tmp_path: Path) -> None:
    """FFmpeg would make room for all of them: gigabytes."""
    kind = KINDS["variable rate, B-frames"]
    file = write_video(tmp_path / kind.file, **kind.settings)
    content = bytearray(file.read_bytes())
    place = content.index(table) + 4
    struct.pack_into(">I", content, place + 8, count)
    if table == b"stsz":
        struct.pack_into(">I", content, place + 4, 1)
    file.write_bytes(content)
    with pytest.raises(VideoError, match=r"announces [\d,]+ frames in [\d,]+ bytes"):
        open_video(file)


@pytest.mark.parametrize(
    "content",
    [
        b"\0\0\0\0ftyp",
        b"\0\0\0\x01ftyp\0\0\0\0\0\0\0\0",
        b"\0\0\0\x07moov" * 50,
        b"\xff\xff\xff\xffmoov" * 50,
        b"\0\0\0\0moov" * 5000,
        b"\0\0\0\x10ftypisom\0\0\0\0\0\0\0\x14moov\0\0\0\x0cstts\0\0\0\0",
    ],
)
def test_damaged_tables_are_no_other_error(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(VideoError, match=r"can't be opened as a video|has no pictures"):
        open_video(tmp_path / "a.mp4")

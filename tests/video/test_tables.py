"""Files that announce more than they can hold, and those that don't."""

from __future__ import annotations

import struct
import time
from pathlib import Path

import pytest

from hhmnet.video import VideoError, open_video
from hhmnet.video.tables import problem_of
from made_video import KINDS, write_video


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    kind = KINDS["variable rate, B-frames"]
    return write_video(tmp_path_factory.mktemp("whole") / kind.file, **kind.settings).read_bytes()


def announcing(whole: bytes, table: bytes, count: int) -> bytes:
    """The file with another number of samples in one of its tables."""
    found = bytearray(whole)
    place = found.index(table) + 4
    struct.pack_into(">I", found, place + 8, count)
    if table == b"stsz":
        struct.pack_into(">I", found, place + 4, 1)
    return bytes(found)


@pytest.mark.parametrize("table", [b"stsz", b"stts", b"ctts"])
@pytest.mark.parametrize("count", [50_000, 10**7, 2**32 - 1])
def test_more_frames_than_bytes(table: bytes, count: int, whole: bytes, tmp_path: Path) -> None:
    file, began = tmp_path / "a.mp4", time.process_time()
    file.write_bytes(announcing(whole, table, count))
    with pytest.raises(VideoError, match=r"announces [\d,]+ frames in [\d,]+ bytes"):
        open_video(file)
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    "name", ["constant rate, B-frames", "fragmented", "edit list hides the beginning", "VP9"]
)
def test_what_is_right_is_let_through(name: str, tmp_path: Path) -> None:
    file = write_video(tmp_path / KINDS[name].file, **KINDS[name].settings)
    assert problem_of(file) == ""


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"\0\0\0\0ftyp",
        b"\0\0\0\x01ftyp\0\0\0\0\0\0\0\0",
        b"\0\0\0\x07moov" * 50,
        b"\xff\xff\xff\xffmoov" * 50,
        b"\0\0\0\0moov" * 5000,
        b"\0\0\0\x10ftypisom\0\0\0\0\0\0\0\x14moov\0\0\0\x0cstts\0\0\0\0",
    ],
)
def test_damaged_boxes_are_no_reason_to_fail(damage: bytes, tmp_path: Path) -> None:
    file = tmp_path / "a.mp4"
    file.write_bytes(damage)
    assert problem_of(file) == ""

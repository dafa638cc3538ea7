from __future__ import annotations

import os
import re
import socket
import struct
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from hhmnet.video import VideoError, open_video, packets
from made_video import (
    FRAMES,
    HEIGHT,
    KINDS,
    WIDTH,
    Kind,
    number_in,
    picture,
    write_kind,
    write_sound,
    write_video,
)

CUT = {
    "AVI": KINDS["MPEG-4 in AVI"],
    "AVI, order learned": KINDS["H.264 in AVI, times made up"],
    "AVI, intra only": KINDS["intra only"],
    "Matroska": KINDS["variable rate, B-frames, Matroska"],
    "WebM": KINDS["VP9"],
    "MP4, index first": Kind("a.mp4", {"b_frames": 2, "container": {"movflags": "faststart"}}),
    "MP4, fragmented": KINDS["fragmented"],
}


@pytest.mark.parametrize("name", CUT)
@pytest.mark.parametrize(("share", "part"), [(0.6, 0), (0.8, 0.5)])
def test_a_file_that_was_cut_off(
    tmp_path: Path, name: str, share: float, part: float, capfd: pytest.CaptureFixture[str]
) -> None:
    file = write_kind(tmp_path, "a", CUT[name])
    with av.open(str(file)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    last = packets[int(share * len(packets))]
    assert last.pos is not None
    os.truncate(file, last.pos + int(part * last.size))
    capfd.readouterr()
    with open_video(file) as video:
        numbers, error = [number_in(image) for _, image in video], video.damage
    assert numbers == list(range(len(numbers)))
    assert error is not None
    assert (error.path, error.frame) == (file, len(numbers))
    assert len(numbers) >= video.num_frames - 3
    assert "cut off" in error.reason
    assert str(error) == f"{file}: frame {error.frame}: {error.reason}"
    assert capfd.readouterr() == ("", "")


def broken(folder: Path, kind: Kind, at: int) -> Path:
    """A video with packet ``at`` zeroed behind its first eight bytes."""
    file = write_kind(folder, "broken", kind)
    with av.open(str(file)) as container:
        packet = list(container.demux(video=0))[at]
    data = bytearray(file.read_bytes())
    assert packet.pos is not None
    data[packet.pos + 8 : packet.pos + packet.size] = bytes(packet.size - 8)
    file.write_bytes(data)
    return file


def test_a_broken_frame_is_named_and_later_keyframes_lead_on(tmp_path: Path) -> None:
    file = broken(tmp_path, KINDS["intra only"], 17)
    with open_video(file) as video:
        assert [number_in(video.frame(index)) for index in (18, 40)] == [18, 40]
        assert video.damage is None
        assert [number_in(image) for _, image in video] == list(range(17))
        error = video.damage
        assert error is not None
        assert (error.path, error.frame) == (file, 17)
        assert "can't be decoded" in error.reason
        with pytest.raises(VideoError, match="frame 17"):
            video.frame(17)
        assert [number_in(video.frame(index)) for index in (18, 40)] == [18, 40]


def test_a_lost_frame_ends_its_group_of_pictures(tmp_path: Path) -> None:
    with open_video(broken(tmp_path, Kind("a.mp4", {"options": {"x264-params": "scenecut=0"}}), 13)) as video:
        with pytest.raises(VideoError, match="frame 16: can't be reached, for frame 13 is lost: "):
            video.frame(16)
        assert video.damage is not None
        assert video.damage.frame == 13
        assert [number_in(video.frame(i)) for i in (12, 20, 5)] == [12, 20, 5]


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.webm", "libvpx"), ("a.ts", "libx264"), ("a.mkv", "mjpeg")],
)
def test_a_picture_that_changes_its_size_is_read_on_at_the_first_one(
    tmp_path: Path, name: str, codec: str
) -> None:
    """As browsers record where the connection gets slow, or a telephone is turned."""
    sizes, file = ((96, 64), (48, 32), (64, 96)), tmp_path / name
    pixels, stream, start = "yuvj420p" if codec == "mjpeg" else "yuv420p", None, 0
    with av.open(str(file), "w") as output:
        for size in sizes:
            part = write_video(tmp_path / f"part.{name[2:]}", codec, size=size, pixels=pixels)
            with av.open(str(part)) as source:
                stream = stream or output.add_stream_from_template(source.streams.video[0])
                for packet in list(source.demux(video=0)):
                    if packet.size and packet.pts is not None and packet.dts is not None:
                        packet.pts, packet.dts, packet.stream = packet.pts + start, packet.dts + start, stream
                        output.mux(packet)
                start += round(FRAMES / 25 / source.streams.video[0].time_base)
    with open_video(file) as video:
        late = video.frame(len(video) - 1)
        images = [image for _, image in video]
        assert (len(images), video.damage) == (3 * FRAMES, None)
        assert (video.width, video.height, late.shape) == (96, 64, (64, 96, 3))
    np.testing.assert_array_equal(late, images[-1])
    second = [image[::2, ::2] for image in images[FRAMES : 2 * FRAMES]]  # twice as large now
    assert [number_in(image) for image in images[:FRAMES] + second] == 2 * list(range(FRAMES))
    assert late[16:, :26].mean() < 30 < late[16:, 30:66].mean()  # a standing picture keeps its shape


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file"),
        (b"", "Invalid data"),
        (b"joints, not pixels\n" * 9, "opened"),
        ("folder", "opened"),
    ],
)
def test_what_is_no_video(tmp_path: Path, content: bytes | str | None, reason: str) -> None:
    file = tmp_path / "a.mp4"
    if content == "folder":
        file.mkdir()
    elif isinstance(content, bytes):
        file.write_bytes(content)
    with pytest.raises(VideoError, match=rf"a\.mp4.*{reason}") as caught:
        open_video(file)
    assert "\n" not in str(caught.value)
    with pytest.raises(VideoError, match="has no pictures"):
        open_video(write_sound(tmp_path / "sound.mp4"))


@pytest.mark.parametrize("table", [b"stsz", b"stts", b"ctts", b"trun"])
@pytest.mark.parametrize("count", [2_000, 50_000, 2**32 - 1])
def test_tables_that_announce_more_frames_than_bytes(table: bytes, count: int, tmp_path: Path) -> None:
    """FFmpeg would make room for all of them: gigabytes. Fragments count together."""
    kind = KINDS["fragmented" if table == b"trun" else "variable rate, B-frames"]
    file = write_video(tmp_path / kind.file, **kind.settings)
    content = bytearray(file.read_bytes())
    for found in re.finditer(table, content):
        place = found.end()
        struct.pack_into(">I", content, place + (4 if table == b"trun" else 8), count)
        if table == b"stsz":
            struct.pack_into(">I", content, place + 4, 1)
    file.write_bytes(content)
    with pytest.raises(VideoError, match=r"announces [\d,]+ frames in [\d,]+ bytes"):
        open_video(file)


def test_sound_of_a_few_bytes_each_is_no_damage(tmp_path: Path) -> None:
    """A sample of sound counts as a frame there."""
    with av.open(str(tmp_path / "a.mov"), "w") as output:
        pictures: Any = output.add_stream("libx264", rate=25)
        pictures.width, pictures.height, pictures.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        sound: Any = output.add_stream("pcm_s16le", rate=48_000)
        heard = av.AudioFrame.from_ndarray(np.zeros((1, 48_000), np.int16), format="s16", layout="mono")
        heard.sample_rate = 48_000
        for stream, frame in ((sound, heard), (pictures, av.VideoFrame.from_ndarray(picture(5)))):
            output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
    with open_video(tmp_path / "a.mov") as video:
        assert [number_in(image) for _, image in video] == [5]


def test_pictures_beyond_all_sizes_are_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few bytes can say that they are of gigabytes, in the file's header or only in the stream."""
    file = write_video(tmp_path / "a.avi", "libvpx")
    monkeypatch.setattr(packets, "LARGEST_PICTURE", WIDTH * HEIGHT - 1)
    with pytest.raises(VideoError, match=f"announces pictures of {WIDTH} x {HEIGHT} pixels"):
        open_video(file)
    content = bytearray(file.read_bytes())
    struct.pack_into("<I", content, content.index(b"strf") + 12, 8)
    file.write_bytes(content)
    with pytest.raises(VideoError, match="no picture that can be decoded"):
        open_video(file)
    monkeypatch.undo()
    with open_video(file) as video:
        assert video.width == WIDTH


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


def test_playlists_reach_no_network(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.3)
        file = tmp_path / "a.m3u8"
        url = f"http://127.0.0.1:{server.getsockname()[1]}/a.ts"
        file.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{url}\n#EXT-X-ENDLIST\n")
        with pytest.raises(VideoError):
            open_video(file)
        with pytest.raises(TimeoutError):
            server.accept()

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hhmnet.video import Video, VideoError, open_video
from made_video import (
    KINDS,
    Kind,
    number_in,
    picture,
    write_kind,
    write_sound,
    write_video,
)

DAMAGED = {
    "AVI": KINDS["MPEG-4 in AVI"],
    "AVI, order learned": KINDS["H.264 in AVI, times made up"],
    "AVI, intra only": KINDS["intra only"],
    "Matroska": KINDS["variable rate, B-frames, Matroska"],
    "WebM": KINDS["VP9"],
    "MP4, index first": Kind("a.mp4", {"b_frames": 2, "container": {"movflags": "faststart"}}),
    "MP4, fragmented": KINDS["fragmented"],
    "raw": KINDS["raw H.264, no times"],
    "transport stream": KINDS["MPEG-2 in a transport stream"],
}


def good_until_error(video: Video) -> tuple[list[int], VideoError | None]:
    """The numbers of the frames up to the first error."""
    numbers = []
    try:
        for _, image in video:
            numbers.append(number_in(image))
    except VideoError as error:
        return numbers, error
    return numbers, None


class TestDamage:
    @pytest.mark.parametrize("name", sorted(set(DAMAGED) - {"raw", "transport stream"}))
    @pytest.mark.parametrize(("share", "part"), [(0.6, 0), (0.8, 0.5)])
    def test_cut_off(self, folder: Path, name: str, share: float, part: float) -> None:
        kind = DAMAGED[name]
        file = write_kind(folder, f"{name} cut", kind)
        with av.open(str(file)) as container:
            packets = [packet for packet in container.demux(video=0) if packet.size]
        last = packets[int(share * len(packets))]
        assert last.pos is not None
        os.truncate(file, last.pos + int(part * last.size))
        with open_video(file) as video:
            numbers, error = good_until_error(video)
        assert numbers == list(range(len(numbers)))
        assert error is not None
        assert error.path == file
        assert error.frame == len(numbers) >= video.num_frames - 3
        assert "cut off" in error.reason
        assert video.damage is not None
        assert video.damage.frame == error.frame
        assert str(error) == f"{file}: frame {error.frame}: {error.reason}"

        with open_video(file, errors="stop") as video:
            assert [number_in(image) for _, image in video] == numbers
            assert video.damage is not None
            assert video.damage.frame == len(numbers)

    def broken(self, folder: Path, at: int) -> Path:
        """A video of one picture a packet, with packet ``at`` broken."""
        file = write_kind(folder, "broken", KINDS["intra only"])
        with av.open(str(file)) as container:
            packet = list(container.demux(video=0))[at]
        data = bytearray(file.read_bytes())
        assert packet.pos is not None
        data[packet.pos + 8 : packet.pos + packet.size] = bytes(packet.size - 8)
        file.write_bytes(data)
        return file

    def test_broken_frame_is_named(self, folder: Path) -> None:
        file = self.broken(folder, 17)
        with open_video(file) as video:
            numbers, error = good_until_error(video)
            assert numbers == list(range(17))
            assert error is not None
            assert (error.path, error.frame) == (file, 17)
            assert "can't be decoded" in error.reason
            with pytest.raises(VideoError, match="frame 17"):
                video.frames([3, 17, 20])

    def test_frames_after_a_later_keyframe(self, folder: Path) -> None:
        with open_video(self.broken(folder, 17)) as video:
            assert [number_in(image) for image in video.frames([18, 40])] == [18, 40]
            assert video.damage is None
            good_until_error(video)
            assert [number_in(image) for image in video.frames([18, 40])] == [18, 40]

    def test_a_lost_frame_ends_its_gop(self, folder: Path) -> None:
        file = write_kind(folder, "gop", Kind("a.mp4", {"options": {"x264-params": "scenecut=0"}}))
        with open_video(file) as video:
            pos, size = video._packets[13].pos, video._packets[13].size
        assert pos is not None
        data = bytearray(file.read_bytes())
        data[pos + 4 : pos + size] = bytes(size - 4)
        file.write_bytes(data)
        with open_video(file) as video:
            with pytest.raises(VideoError, match="frame 16: can't be reached, for frame 13 is lost: "):
                video.frame(16)
            assert video.damage is not None
            assert video.damage.frame == 13
            assert [number_in(video.frame(i)) for i in (12, 20, 5)] == [12, 20, 5]

    def test_errors_travel_between_processes(self) -> None:
        error = pickle.loads(pickle.dumps(VideoError(Path("a.mp4"), 3, "is lost")))
        assert (error.path, error.frame, error.reason) == (Path("a.mp4"), 3, "is lost")
        assert str(error) == "a.mp4: frame 3: is lost"

    def test_changing_size(self, tmp_path: Path) -> None:
        small = write_video(tmp_path / "s.mjpeg", "mjpeg", pixels="yuvj420p", pictures=[picture(1)] * 3)
        large = write_video(
            tmp_path / "l.mjpeg", "mjpeg", pixels="yuvj420p", pictures=[picture(2, 96, 64)] * 3
        )
        both = tmp_path / "both.mjpeg"
        both.write_bytes(small.read_bytes() + large.read_bytes())
        with open_video(both) as video:
            numbers, error = good_until_error(video)
        assert numbers == [1, 1, 1]
        assert error is not None
        assert error.frame == 3
        assert "96 x 64" in error.reason
        assert "64 x 48" in error.reason


class TestNoVideo:
    @pytest.mark.parametrize(
        ("content", "reason"),
        [(None, "No such file"), (b"", "Invalid data"), (b"joints, not pixels\n" * 9, "opened")],
    )
    def test_not_a_video(self, tmp_path: Path, content: bytes | None, reason: str) -> None:
        file = tmp_path / "a.mp4"
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(VideoError, match=reason) as caught:
            open_video(file)
        assert str(file) in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_folder(self, tmp_path: Path) -> None:
        with pytest.raises(VideoError, match="opened as a video"):
            open_video(tmp_path)

    def test_sound_only(self, tmp_path: Path) -> None:
        with pytest.raises(VideoError, match="has no pictures"):
            open_video(write_sound(tmp_path / "a.mp4"))

    def test_header_only(self, tmp_path: Path) -> None:
        file = write_video(tmp_path / "a.avi", "mpeg4")
        data = file.read_bytes()
        file.write_bytes(data[: data.index(b"movi") + 4])
        with pytest.raises(VideoError, match=r"no pictures|opened"):
            open_video(file)

    def test_playlists_reach_no_network(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(0.3)
            file = tmp_path / "a.m3u8"
            url = f"http://127.0.0.1:{server.getsockname()[1]}/a.ts"
            file.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{url}\n#EXT-X-ENDLIST\n")
            with pytest.raises(VideoError):
                open_video(file)
            with pytest.raises(TimeoutError):
                server.accept()

    def test_nothing_is_printed(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        file = write_video(tmp_path / "a.mp4", container={"movflags": "faststart"})
        data = file.read_bytes()
        file.write_bytes(data[: len(data) * 7 // 10])
        with open_video(file, errors="stop") as video:
            assert sum(1 for _ in video) > 10
        assert capfd.readouterr() == ("", "")


@pytest.fixture(scope="module")
def sound_bytes(folder: Path) -> dict[str, bytes]:
    return {name: write_kind(folder, f"fuzz {name}", kind).read_bytes() for name, kind in DAMAGED.items()}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_bytes_give_frames_or_a_video_error(
    sound_bytes: dict[str, bytes], tmp_path: Path, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(DAMAGED)))
    content = bytearray(sound_bytes[name])
    for _ in range(data.draw(st.integers(0, 4), "changes")):
        at = data.draw(st.integers(0, len(content) - 1), "at")
        content[at : at + 4] = data.draw(st.binary(min_size=1, max_size=8), "bytes")
    content = (
        content[: data.draw(st.integers(0, len(content)), "end")]
        if data.draw(st.booleans(), "cut")
        else content
    )
    file = tmp_path / DAMAGED[name].file
    file.write_bytes(content)
    try:
        with open_video(file) as video:
            check_use(video, data.draw(st.lists(st.integers(0, max(0, len(video) - 1)), max_size=3)))
    except VideoError:
        pass


def check_use(video: Video, indices: Sequence[int]) -> None:
    """Use all that a video offers; only VideoError may come of it."""
    assert len(video.times) == video.num_frames > 0
    assert video.fps >= 0
    if indices:
        assert video.frames(indices).shape == (len(indices), video.height, video.width, 3)
    shapes: set[Any] = {image.shape for _, image in video}
    assert len(shapes) <= 1

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from hhmnet.video import Video, VideoError, open_video
from made_video import (
    FRAMES,
    HEIGHT,
    KINDS,
    WIDTH,
    Kind,
    decode_all,
    number_in,
    picture,
    write_kind,
    write_video,
)


@pytest.fixture(scope="module", params=KINDS)
def made(request: pytest.FixtureRequest, folder: Path) -> tuple[Path, Kind]:
    return write_kind(folder, request.param, KINDS[request.param]), KINDS[request.param]


def passed_frames(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The frames that are decoded from now on."""
    passed: list[int] = []
    run = Video._frames_from

    def watched(self: Video, start: int) -> Iterator[tuple[int, av.VideoFrame]]:
        for rank, frame in run(self, start):
            passed.append(rank)
            yield rank, frame

    monkeypatch.setattr(Video, "_frames_from", watched)
    return passed


class TestFrames:
    def test_every_frame_shows_its_number(self, made: tuple[Path, Kind]) -> None:
        file, kind = made
        with open_video(file) as video:
            assert video.num_frames == len(video) == len(kind.numbers)
            assert [number_in(video.frame(i)) for i in range(len(video))] == list(kind.numbers)

    def test_any_order_equals_a_full_decode(self, made: tuple[Path, Kind]) -> None:
        file, _ = made
        full = decode_all(file)
        with open_video(file) as video:
            for index in np.random.default_rng(0).permutation(len(full)):
                np.testing.assert_array_equal(video.frame(int(index)), full[index])
            assert video.damage is None

    def test_sets_equal_a_full_decode(self, made: tuple[Path, Kind]) -> None:
        file, _ = made
        full = np.stack(decode_all(file))
        rng = np.random.default_rng(1)
        with open_video(file) as video:
            for count in (1, 7, 30):
                indices = rng.integers(0, len(full), count)
                np.testing.assert_array_equal(video.frames(indices), full[indices])

    def test_iteration_survives_jumps(self, made: tuple[Path, Kind]) -> None:
        file, _ = made
        full = decode_all(file)
        indices = []
        with open_video(file) as video:
            for index, image in video:
                np.testing.assert_array_equal(image, full[index])
                indices.append(index)
                if index % 9 == 4:
                    video.frame(index * 7 % len(full))
        assert indices == list(range(len(full)))

    def test_no_frames(self, folder: Path) -> None:
        with open_video(write_kind(folder, "none", Kind("a.mp4", {}))) as video:
            assert video.frames([]).shape == (0, HEIGHT, WIDTH, 3)

    @pytest.mark.parametrize("index", [-1, FRAMES])
    def test_outside(self, folder: Path, index: int) -> None:
        file = write_kind(folder, "outside", Kind("a.mp4", {}))
        with (
            open_video(file) as video,
            pytest.raises(VideoError, match=f"frame {index}: isn't one of .* 0 to 40"),
        ):
            video.frame(index)

    def test_wrong_errors(self, folder: Path) -> None:
        with pytest.raises(ValueError, match="errors must be"):
            Video(folder / "a.mp4", errors="ignore")  # type: ignore[arg-type]


class TestEffort:
    """How much is decoded for what is asked."""

    @pytest.mark.parametrize("kind", ["constant rate, B-frames", "MPEG-4 in AVI", "variable rate"])
    def test_single_frame_from_its_keyframe(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str
    ) -> None:
        passed = passed_frames(monkeypatch)
        with open_video(write_kind(folder, kind, KINDS[kind])) as video:
            video.frame(38)
        assert 0 < len(passed) <= 10
        assert passed[-1] == 38

    @pytest.mark.parametrize("kind", ["constant rate, B-frames", "one keyframe", "raw H.264, no times"])
    def test_nothing_twice_in_a_call(self, folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
        passed = passed_frames(monkeypatch)
        with open_video(write_kind(folder, kind, KINDS[kind])) as video:
            video.frames([38, 3, 17, 3, 12, 18, 39])
        assert len(passed) == len(set(passed))

    def test_parts_between_are_left_out(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        passed = passed_frames(monkeypatch)
        with open_video(
            write_kind(folder, "between", Kind("a.mp4", {"options": {"x264-params": "scenecut=0"}}))
        ) as video:
            video.frames([2, 33])
        assert set(passed) == {0, 1, 2, 30, 31, 32, 33}

    def test_in_a_row_once_through(self, made: tuple[Path, Kind], monkeypatch: pytest.MonkeyPatch) -> None:
        file, kind = made
        with open_video(file) as video:
            passed = passed_frames(monkeypatch)
            for _ in video:
                pass
        if kind is not KINDS["times that contradict the pictures"]:
            assert passed == list(range(len(kind.numbers)))

    def test_learned_order_allows_jumps(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with open_video(write_kind(folder, "learned", KINDS["raw H.264, no times"])) as video:
            for _ in video:
                pass
            passed = passed_frames(monkeypatch)
            video.frame(38)
        # A raw stream can't be searched, but it is known where in it to begin decoding.
        assert len(passed) <= 10


class TestProperties:
    def test_times_of_variable_rate(self, folder: Path) -> None:
        for name in ("variable rate", "variable rate, B-frames"):
            kind = KINDS[name]
            shown = np.array(kind.settings["milliseconds"]) / 1000
            with open_video(write_kind(folder, name, kind)) as video:
                np.testing.assert_allclose(video.times, shown - shown[0], atol=1e-3)
                assert video.fps == pytest.approx((FRAMES - 1) / (shown[-1] - shown[0]), rel=1e-3)

    @pytest.mark.parametrize(
        "name",
        [
            "constant rate",
            "raw H.264, no times",
            "edit list hides the beginning",
            "MPEG-2 in a transport stream",
        ],
    )
    def test_times_of_constant_rate(self, folder: Path, name: str) -> None:
        with open_video(write_kind(folder, name, KINDS[name])) as video:
            np.testing.assert_allclose(video.times, np.arange(len(video)) / 25, atol=1e-9)
            assert video.fps == pytest.approx(25)

    def test_single_picture(self, folder: Path) -> None:
        file = write_kind(folder, "single", Kind("a.mp4", {"pictures": [picture(7)]}))
        with open_video(file) as video:
            assert (video.num_frames, video.width, video.height, video.fps) == (1, WIDTH, HEIGHT, 25)
            assert number_in(video.frame(0)) == 7
            assert video.times.tolist() == [0]

    def test_grey_has_equal_channels(self, folder: Path) -> None:
        with open_video(write_kind(folder, "grey", KINDS["grey"])) as video:
            image = video.frame(5)
        assert (image == image[..., :1]).all()

    def test_odd_size(self, folder: Path) -> None:
        with open_video(write_kind(folder, "odd", KINDS["odd size"])) as video:
            assert (video.width, video.height) == (65, 49)
            assert video.frames([3, 9]).shape == (2, 49, 65, 3)

    def test_closed_file_is_freed(self, folder: Path) -> None:
        file = write_kind(folder, "closed", Kind("a.mp4", {}))
        with open_video(file) as video:
            video.frame(3)
        file.unlink()


class TestRotation:
    @pytest.mark.parametrize("degrees", [0, 90, 180, 270])
    @pytest.mark.parametrize(("across", "down"), [(False, False), (True, False), (False, True)])
    def test_display_matrix(self, tmp_path: Path, degrees: int, across: bool, down: bool) -> None:
        corners = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        corners[: HEIGHT // 2, : WIDTH // 2] = (220, 20, 20)
        corners[HEIGHT // 2 :, WIDTH // 2 :] = (20, 20, 220)
        corners[HEIGHT // 2 :, : WIDTH // 2] = (20, 220, 20)
        file = write_video(
            tmp_path / "a.mp4", pictures=[corners] * 4, rotation=(degrees, across, down), pixels="yuv444p"
        )
        stored = decode_all(file)[0]
        shown = np.rot90(stored, degrees // 90)[:: -1 if down else 1, :: -1 if across else 1]
        with open_video(file) as video:
            np.testing.assert_array_equal(video.frame(2), shown)
            assert (video.height, video.width) == shown.shape[:2]
            assert video.frames([1, 3]).shape == (2, *shown.shape)


@pytest.mark.skipif(
    "HHMNET_DATA" not in os.environ, reason="needs HHMNET_DATA, the folder of the real data sets"
)
class TestRealVideos:
    @pytest.mark.parametrize(
        "pattern",
        [
            "ntu/S001C001P001R001A001_rgb.avi",
            "tennis/videos/t*1.mp4",
            "nw_ucla/depth_video/a0*_s01_*.avi",
        ],
    )
    def test_equal_a_full_decode(self, pattern: str) -> None:
        files = sorted(Path(os.environ["HHMNET_DATA"]).glob(pattern))[:12]
        assert files
        for file in files:
            full = decode_all(file)
            order = np.random.default_rng(1).permutation(len(full))[:10]
            with open_video(file) as video:
                assert (len(video), video.damage) == (len(full), None)
                for index in order:
                    np.testing.assert_array_equal(video.frame(int(index)), full[index])
                np.testing.assert_array_equal(video.frames(order), np.stack([full[index] for index in order]))


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc to see the threads")
def test_no_threads_are_left_for_a_forked_process_to_wait_for(tmp_path: Path) -> None:
    script = (
        "import os, sys; from hhmnet.video import open_video\n"
        "before = len(os.listdir('/proc/self/task'))\n"
        "video = open_video(sys.argv[1]); images = [image.copy() for _, image in video]\n"
        "print(len(images), len(os.listdir('/proc/self/task')) - before)"
    )
    file = write_video(tmp_path / "a.mp4", size=(640, 480))
    command = [sys.executable, "-c", script, str(file)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.check_output(command, text=True, env=environment).split() == [str(FRAMES), "0"]

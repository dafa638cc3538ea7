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
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Kind]:
    kind = KINDS[request.param]
    return write_kind(tmp_path_factory.mktemp("videos"), "a", kind), kind


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


def test_every_way_to_the_frames_equals_a_full_decode(
    made: tuple[Path, Kind], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, kind = made
    full, rng = np.stack(decode_all(file)), np.random.default_rng(0)
    assert [number_in(image) for image in full] == list(kind.numbers)
    with open_video(file) as video:
        assert video.num_frames == len(video) == len(full)
        passed = passed_frames(monkeypatch)
        for index, image in video:
            np.testing.assert_array_equal(image, full[index])
        if kind is not KINDS["times that contradict the pictures"]:
            assert passed == list(range(len(full)))  # in a row all is decoded once
        assert (video.height, video.width) == full.shape[1:3]
        for index in rng.permutation(len(full)):  # any order
            np.testing.assert_array_equal(video.frame(int(index)), full[index])
        indices = []
        for index, image in video:  # iterating survives jumps
            np.testing.assert_array_equal(image, full[index])
            indices.append(index)
            if index % 9 == 4:
                video.frame(index * 7 % len(full))
        assert indices == list(range(len(full)))
        assert video.damage is None
        for index in (-1, len(full)):
            with pytest.raises(VideoError, match=f"frame {index}: isn't one of .* 0 to {len(full) - 1}"):
                video.frame(index)
    file.rename(file.with_suffix(".moved"))  # a closed file is free
    file.with_suffix(".moved").rename(file)


SPREAD = {"options": {"x264-params": "scenecut=0"}}


# Ten frames from a keyframe to the next, and the first, by which the size is known.
@pytest.mark.parametrize(
    ("kind", "indices", "most"),
    [
        *((KINDS[name], [38], 11) for name in ("constant rate, B-frames", "MPEG-4 in AVI", "variable rate")),
        # It can't be searched, but it is known where in it to begin decoding.
        (KINDS["raw H.264, no times"], [38], 11),
        # What lies between is left out.
        (Kind("a.mp4", SPREAD), [2, 33], 7),
        (KINDS["one keyframe"], [3, 3, 12, 17, 18, 38, 39], 40),
    ],
)
def test_no_more_is_decoded_than_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Kind, indices: list[int], most: int
) -> None:
    with open_video(write_kind(tmp_path, "a", kind)) as video:
        passed = passed_frames(monkeypatch)
        assert [number_in(video.frame(index)) for index in indices] == indices
    assert len(set(passed)) == len(passed) <= most


TIMED = (
    "variable rate;variable rate, B-frames;constant rate;raw H.264, no times;edit list hides the beginning"
)


@pytest.mark.parametrize("name", [*TIMED.split(";"), "MPEG-2 in a transport stream"])
def test_times_and_rate(tmp_path: Path, name: str) -> None:
    kind = KINDS[name]
    with open_video(write_kind(tmp_path, "a", kind)) as video:
        shown = np.arange(len(video)) / 25
        if name.startswith("variable"):
            shown = np.array(kind.settings["milliseconds"]) / 1000
        np.testing.assert_allclose(video.times, shown - shown[0], atol=1e-3)
        assert video.fps == pytest.approx((len(shown) - 1) / (shown[-1] - shown[0]), rel=1e-3)


def test_a_single_picture(tmp_path: Path) -> None:
    with open_video(write_kind(tmp_path, "a", Kind("a.mp4", {"pictures": [picture(7)]}))) as video:
        assert (video.num_frames, video.width, video.height, video.fps) == (1, WIDTH, HEIGHT, 25)
        assert (number_in(video.frame(0)), video.times.tolist()) == (7, [0])


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize(("across", "down"), [(False, False), (True, False), (False, True)])
def test_pictures_are_turned_as_the_display_matrix_says(
    tmp_path: Path, degrees: int, across: bool, down: bool
) -> None:
    corners = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    corners[: HEIGHT // 2, : WIDTH // 2] = (220, 20, 20)
    corners[HEIGHT // 2 :, WIDTH // 2 :] = (20, 20, 220)
    corners[HEIGHT // 2 :, : WIDTH // 2] = (20, 220, 20)
    matrix = (degrees, across, down)
    file = write_video(tmp_path / "a.mp4", pictures=[corners] * 2, rotation=matrix, pixels="yuv444p")
    shown = np.rot90(decode_all(file)[0], degrees // 90)[:: -1 if down else 1, :: -1 if across else 1]
    with open_video(file) as video:
        np.testing.assert_array_equal(video.frame(1), shown)
        assert (video.height, video.width) == shown.shape[:2]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc to see the threads")
def test_no_threads_are_left_for_a_forked_process_to_wait_for(tmp_path: Path) -> None:
    script = (
        "import os, sys; from hhmnet.video import open_video\n"
        "before = len(os.listdir('/proc/self/task'))\n"
        "video = open_video(sys.argv[1]); images = [image.copy() for _, image in video]\n"
        "print(len(images), len(os.listdir('/proc/self/task')) - before)"
    )
    file = write_video(tmp_path / "a.mp4", size=(640, 480))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    output = subprocess.check_output([sys.executable, "-c", script, str(file)], text=True, env=environment)
    assert output.split() == [str(FRAMES), "0"]

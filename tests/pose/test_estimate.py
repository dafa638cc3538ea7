from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hhmnet.pose import estimate
from hhmnet.pose.estimate import PoseConfig, VideoPoseEstimator, VideoPoses, clip_fields
from hhmnet.skeleton import BLAZEPOSE33
from made_people import BoxEstimator, KnowingDetector, MadeVideo, Way, straight

FRAMES = 48
PLAYER = straight((100, 130), (0.8, 0), (60, 140))
BYSTANDER = straight((280, 60), (0, 0), (16, 40))


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("videos") / "clip.mkv"
    MadeVideo(path, FRAMES)
    return path


def run(video: Path, *ways: Way, estimator: BoxEstimator | None = None, **chosen: object) -> VideoPoses:
    config = PoseConfig(**chosen)  # type: ignore[arg-type]
    return VideoPoseEstimator(config, KnowingDetector(*ways), estimator or BoxEstimator()).estimate(video)


def test_the_actor_is_followed_through_the_whole_video(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = torch.get_num_threads()
    found = run(video, BYSTANDER, PLAYER)
    assert torch.get_num_threads() == threads
    assert found.present.tolist() == [[True] * FRAMES]
    assert (found.others, found.size, found.damage) == (1, (320, 240), "")
    assert found.fps == pytest.approx(30, rel=1e-3)  # the file counts milliseconds
    for frame in range(0, FRAMES, 3):
        place = PLAYER(frame)
        assert place is not None
        center = (found.boxes[0, frame, :2] + found.boxes[0, frame, 2:]) / 2
        np.testing.assert_allclose(center, place[:2], atol=40)
    detector = KnowingDetector(PLAYER, BYSTANDER)
    both = VideoPoseEstimator(PoseConfig(every=7, persons=4), detector, BoxEstimator()).estimate(video)
    assert detector.asked == list(range(0, FRAMES, 7))
    tall = both.boxes[:, 20, 3] - both.boxes[:, 20, 1]
    assert tall[0] > 100 > tall[1], "the most important person comes first"
    monkeypatch.setattr(estimate, "KEPT_BYTES", 0)  # a large video is decoded twice, with the same result
    detector = KnowingDetector(BYSTANDER, PLAYER)
    again = VideoPoseEstimator(PoseConfig(), detector, BoxEstimator(), threads=3).estimate(video)
    np.testing.assert_array_equal(again.pixels, found.pixels)


@pytest.mark.parametrize(("rate", "every"), [(10, 2), (25, 5), (60, 12)])
def test_persons_are_looked_for_as_often_a_second_in_any_video(tmp_path: Path, rate: int, every: int) -> None:
    MadeVideo(tmp_path / "a.mkv", 30, rate=rate)
    detector = KnowingDetector(PLAYER)
    VideoPoseEstimator(PoseConfig(), detector, BoxEstimator()).estimate(tmp_path / "a.mkv")
    assert detector.asked == list(range(0, 30, every))


def test_what_is_not_seen_is_missing_or_filled_and_marked(video: Path) -> None:
    doubtful = {5: range(FRAMES), 7: range(44, 47)}
    estimator = BoxEstimator(blind=[*range(10, 14), *range(20, 40)], doubtful=doubtful)
    found = run(video, PLAYER, estimator=estimator)
    assert np.flatnonzero(found.interpolated[0]).tolist() == [10, 11, 12, 13]
    assert np.flatnonzero(~found.present[0]).tolist() == list(range(20, 40))
    assert not found.boxes[0, 20:40].any()
    middle = (found.pixels[0, 9] + found.pixels[0, 14]) / 2
    np.testing.assert_allclose((found.pixels[0, 11] + found.pixels[0, 12]) / 2, middle, atol=1e-3)
    assert not found.pixels[0, :, 5].any()
    assert not found.confidence[0, :, 5].any()
    assert found.world[0, :10, 5].any()  # where it is supposed
    np.testing.assert_allclose(found.confidence[0, 44:47, 7], 0.1)  # filled in, and told by this
    assert found.pixels[0, 44:47, 7].all()


def test_left_and_right_and_the_axes_of_mirrored_videos(video: Path) -> None:
    """Metres have a Kinect's axes, x to the camera's left; in a sample (0, 0) is the middle of the first pixel."""
    plain, mirrored = (
        run(video, PLAYER, estimator=BoxEstimator(leads=False), mirrored=value) for value in (False, True)
    )
    left, right = (BLAZEPOSE33.index(f"{side}_wrist") for side in ("left", "right"))
    np.testing.assert_array_equal(plain.pixels[:, :, left], mirrored.pixels[:, :, right])
    np.testing.assert_array_equal(plain.world[:, :, right], mirrored.world[:, :, left])
    for found, sign in ((plain, -1), (mirrored, 1)):
        fields = clip_fields(found, BLAZEPOSE33, PoseConfig(mirrored=sign > 0))
        np.testing.assert_allclose(fields["pixels"], found.pixels - 0.5, atol=1e-5)
        way = np.diff(fields["joints"][0, [0, -1]].mean(1), axis=0)[0]
        assert way[0] * sign > 0.2, "the player walks to the right of the picture"

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hhmnet.pose import estimate
from hhmnet.pose.estimate import PoseConfig, VideoPoseEstimator, VideoPoses, networks_of
from hhmnet.pose.networks import PoseError
from hhmnet.skeleton import BLAZEPOSE33, COCO17
from hhmnet.video import VideoError
from made_people import BoxEstimator, KnowingDetector, MadeVideo, Way, straight

FRAMES = 48


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("videos") / "clip.mkv"
    MadeVideo(path, FRAMES)
    return path


def run(video: Path, *ways: Way, estimator: BoxEstimator | None = None, **chosen: object) -> VideoPoses:
    config = PoseConfig(**chosen)  # type: ignore[arg-type]
    return VideoPoseEstimator(config, KnowingDetector(*ways), estimator or BoxEstimator()).estimate(video)


PLAYER = straight((100, 130), (0.8, 0), (60, 140))
BYSTANDER = straight((280, 60), (0, 0), (16, 40))


def test_the_actor_is_followed_through_the_whole_video(video: Path) -> None:
    found = run(video, BYSTANDER, PLAYER)
    assert found.present.shape == (1, FRAMES)
    assert found.present.all()
    assert found.others == 1
    assert found.size == (320, 240)
    assert found.fps == pytest.approx(30, rel=1e-3)  # the file counts milliseconds
    assert found.damage == ""
    assert found.world is not None
    assert found.world.shape == (1, FRAMES, 33, 3)
    for frame in range(0, FRAMES, 3):
        place = PLAYER(frame)
        assert place is not None
        center = (found.boxes[0, frame, :2] + found.boxes[0, frame, 2:]) / 2
        np.testing.assert_allclose(center, place[:2], atol=40)


def test_two_persons_in_the_order_of_their_importance(video: Path) -> None:
    found = run(video, BYSTANDER, PLAYER, persons=2)
    assert len(found.present) == len(found.tracks) == 2
    assert found.tracks[0][1].importance > found.tracks[1][1].importance
    assert found.boxes[0, 20, 3] - found.boxes[0, 20, 1] > 100 > found.boxes[1, 20, 3] - found.boxes[1, 20, 1]


def test_fewer_persons_than_asked_for(video: Path) -> None:
    assert len(run(video, PLAYER, persons=4).present) == 1


@pytest.mark.parametrize("every", [1, 4, 7])
def test_persons_are_looked_for_in_every_nth_frame(video: Path, every: int) -> None:
    detector = KnowingDetector(PLAYER)
    VideoPoseEstimator(PoseConfig(every=every), detector, BoxEstimator()).estimate(video)
    assert detector.asked == list(range(0, FRAMES, every))


def test_a_large_video_is_decoded_twice_with_the_same_result(
    video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = run(video, BYSTANDER, PLAYER)
    monkeypatch.setattr(estimate, "KEPT_BYTES", 0)
    again = run(video, BYSTANDER, PLAYER)
    np.testing.assert_array_equal(kept.pixels, again.pixels)
    np.testing.assert_array_equal(kept.present, again.present)


def test_short_gaps_are_filled_and_marked_and_long_ones_are_not(video: Path) -> None:
    blind = [*range(10, 14), *range(20, 40)]
    found = run(video, PLAYER, estimator=BoxEstimator(blind=blind), max_gap=5)
    assert np.flatnonzero(found.interpolated[0]).tolist() == [10, 11, 12, 13]
    assert np.flatnonzero(~found.present[0]).tolist() == list(range(20, 40))
    assert not found.pixels[0, 20:40].any()
    assert not found.boxes[0, 20:40].any()
    middle = (found.pixels[0, 9] + found.pixels[0, 14]) / 2
    np.testing.assert_allclose((found.pixels[0, 11] + found.pixels[0, 12]) / 2, middle, atol=1e-3)


def test_joints_that_cannot_be_trusted_are_missing(video: Path) -> None:
    doubtful = {5: range(FRAMES), 7: range(20, 23)}
    found = run(video, PLAYER, estimator=BoxEstimator(doubtful=doubtful), max_gap=5)
    assert not found.confidence[0, :, 5].any()
    assert not found.pixels[0, :, 5].any()
    certain = run(video, PLAYER)
    assert found.world is not None
    assert certain.world is not None
    np.testing.assert_array_equal(found.world[0, :, 5], certain.world[0, :, 5])  # where it supposes it
    np.testing.assert_allclose(found.confidence[0, 20:23, 7], 0.1)  # filled in, and told by this
    assert found.pixels[0, 20:23, 7].all()


def test_mirrored_videos_swap_left_and_right(video: Path) -> None:
    plain, mirrored = run(video, PLAYER), run(video, PLAYER, mirrored=True)
    left, right = (BLAZEPOSE33.index(f"{side}_wrist") for side in ("left", "right"))
    np.testing.assert_array_equal(plain.pixels[:, :, left], mirrored.pixels[:, :, right])
    assert plain.world is not None
    assert mirrored.world is not None
    np.testing.assert_array_equal(plain.world[:, :, right], mirrored.world[:, :, left])


def test_an_estimator_of_two_dimensions_gives_no_metres(video: Path) -> None:
    found = run(video, PLAYER, estimator=BoxEstimator(COCO17))
    assert found.world is None
    assert found.layout is COCO17


def test_a_video_without_persons_is_refused(video: Path) -> None:
    with pytest.raises(PoseError, match="no person was found"):
        run(video)


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("hello")
    with pytest.raises(VideoError, match=r"text\.mp4"):
        run(tmp_path / "text.mp4", PLAYER)


def test_a_damaged_video_gives_what_comes_before(tmp_path: Path) -> None:
    path = tmp_path / "clip.mkv"
    MadeVideo(path, FRAMES)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    found = run(path, PLAYER)
    assert 10 < found.present.shape[1] < FRAMES
    assert found.damage


def test_the_number_of_threads_is_put_back(video: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        run(video, PLAYER)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("field", "value"),
    [("estimator", "openpose"), ("detector", "yolo"), ("every", 0), ("persons", 0), ("min_confidence", 2)],
)
def test_wrong_choices_are_named(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"field '{field}' must be"):
        PoseConfig(**{field: value})  # type: ignore[arg-type]


def test_networks_that_a_choice_needs() -> None:
    assert networks_of(PoseConfig()) == ["ssd", "blazepose"]
    assert networks_of(PoseConfig(detector="close", estimator="movenet")) == ["blazepose_detector", "movenet"]

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hhmnet.conversion import convert
from hhmnet.pose import estimate
from hhmnet.pose.estimate import PoseConfig, VideoPoseEstimator, VideoPoses, clip_fields
from hhmnet.pose.networks import PoseError
from hhmnet.sample import Sample
from hhmnet.skeleton import BLAZEPOSE33, COCO17, KINECT20, NTU25
from hhmnet.video import VideoError
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
    np.testing.assert_array_equal(run(video, BYSTANDER, PLAYER).pixels, found.pixels)


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


def test_mirrored_videos_swap_left_and_right(video: Path) -> None:
    plain, mirrored = run(video, PLAYER), run(video, PLAYER, mirrored=True)
    left, right = (BLAZEPOSE33.index(f"{side}_wrist") for side in ("left", "right"))
    np.testing.assert_array_equal(plain.pixels[:, :, left], mirrored.pixels[:, :, right])
    np.testing.assert_array_equal(plain.world[:, :, right], mirrored.world[:, :, left])


def test_videos_without_persons_or_pictures_are_refused(video: Path, tmp_path: Path) -> None:
    with pytest.raises(PoseError, match="no person was found"):
        run(video)
    (tmp_path / "text.mp4").write_text("hello")
    with pytest.raises(VideoError, match=r"text\.mp4"):
        run(tmp_path / "text.mp4", PLAYER)
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(video.read_bytes()[: video.stat().st_size * 2 // 3])
    found = run(cut, PLAYER)  # what comes before the damage
    assert 10 < found.present.shape[1] < FRAMES
    assert found.damage


def poses() -> VideoPoses:
    """Two persons in six frames; the first's left wrist isn't seen, the second is there in four frames."""
    world = np.random.default_rng(0).normal(0, 0.4, (2, 6, 33, 3)).astype(np.float32)
    confidence, present = np.full((2, 6, 33), 0.9, np.float32), np.ones((2, 6), bool)
    confidence[0, :, BLAZEPOSE33.index("left_wrist")] = 0
    present[1, 4:] = False
    pixels = world[..., :2] * 100 + 160
    for array in (world, confidence, pixels):
        array[~present] = 0
    pixels[confidence == 0] = 0  # its place in the room is a guess, and stays
    boxes, filled = np.full((2, 6, 4), 5, np.float32), np.zeros((2, 6), bool)
    return VideoPoses(BLAZEPOSE33, pixels, confidence, world, boxes, present, filled, (320, 240), 30.0, 0, "")


def test_the_fields_make_a_sample() -> None:
    for layout in (KINECT20, NTU25, COCO17, BLAZEPOSE33):
        sample = Sample("a", -1, video="a.mp4", **clip_fields(poses(), layout, PoseConfig()))
        layout.check(sample.joints)
        assert (sample.num_persons, sample.num_frames) == (2, 6)
        assert sample.video_frames is not None
        assert sample.video_frames.tolist() == sample.frame_index.tolist() == [*range(6)]
    known = poses().confidence > 0  # pixels count from the middle of the first
    fields = clip_fields(poses(), BLAZEPOSE33, PoseConfig())
    np.testing.assert_allclose(fields["pixels"][known], poses().pixels[known] - 0.5, atol=1e-5)
    assert not fields["pixels"][~known].any()


@pytest.mark.parametrize("mirrored", [False, True])
def test_axes_are_a_kinects_and_unseen_joints_stay_with_their_body(mirrored: bool) -> None:
    """A zero would put such a joint at the camera, some metres away from the others."""
    seen, wrist = poses(), KINECT20.index("left_wrist")
    wanted, _ = convert(seen.world, BLAZEPOSE33, KINECT20, seen.confidence, keep_missing=True)
    fields = clip_fields(seen, KINECT20, PoseConfig(mirrored=mirrored))
    joints = fields["joints"]
    way = joints - wanted * (1 if mirrored else -1, -1, 1)  # the same for all joints
    np.testing.assert_allclose(way[seen.present], np.repeat(way[:, :, :1], 20, 2)[seen.present], atol=1e-4)
    assert not fields["confidence"][0, :, wrist].any()
    assert not fields["pixels"][0, :, wrist].any()
    hips = joints[..., [KINECT20.index("left_hip"), KINECT20.index("right_hip")], :].mean(-2)
    assert (np.linalg.norm(joints[..., wrist, :] - hips, axis=-1)[seen.present] < 3).all()
    assert not joints[~seen.present].any()

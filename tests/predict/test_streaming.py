from __future__ import annotations

import gc
import os
import tracemalloc
from collections import deque
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hhmnet.models.pretrained import PretrainedError
from hhmnet.pose.base import Poses
from hhmnet.pose.clips import ClipConfig, clip_fields
from hhmnet.pose.estimate import PoseConfig, VideoPoseEstimator, networks_of
from hhmnet.pose.networks import is_cached
from hhmnet.predict.live_pose import LivePose
from hhmnet.predict.recognizer import Recognizer
from hhmnet.predict.streaming import StreamError, StreamingConfig, StreamingRecognizer
from hhmnet.sample import Sample
from hhmnet.skeleton import KINECT20
from hhmnet.video import open_video
from made_models import video_model
from made_people import BoxEstimator, KnowingDetector, MadeVideo, Way, straight
from made_stream import CLASSES, PLAYER, RATE, model, movement, noisy, said, sample_of, streaming, whole


@pytest.mark.parametrize("views", [1, 3])
@pytest.mark.parametrize("persons", [1, 2])
def test_skeletons_of_a_whole_clip_give_what_the_clip_gives(persons: int, views: int) -> None:
    recognizer = streaming(persons=persons, views=views)
    joints = movement(45, persons)
    present = np.ones((persons, 45), bool)
    present[0, 12:15] = present[-1, 30] = False
    joints *= present[..., None, None]
    for t in range(45):
        recognizer.push_skeleton(joints[:, t])
    answer = recognizer.answer()
    assert answer.window_probabilities is not None
    np.testing.assert_allclose(
        answer.window_probabilities, whole(recognizer, sample_of(joints, present)), atol=1e-6
    )
    assert set(answer.members) == {"joint", "bone"}
    assert answer.covered == pytest.approx(45 / 60)


@pytest.mark.parametrize("detect_every", [1, 3])
def test_pictures_of_a_whole_clip_give_what_the_clip_gives(tmp_path: Path, detect_every: int) -> None:
    MadeVideo(tmp_path / "clip.mkv", 50)
    pose = ClipConfig(every=detect_every, max_gap=5)

    def estimator() -> BoxEstimator:
        # Where the person is lost between two detections, the second look at a video knows more.
        return BoxEstimator(
            blind=[20, 21, 22] if detect_every == 1 else [], doubtful={7: range(30, 33), 15: range(50)}
        )

    poses = VideoPoseEstimator(pose, KnowingDetector(PLAYER), estimator()).estimate(tmp_path / "clip.mkv")
    sample = Sample("clip", -1, **clip_fields(poses, KINECT20, pose), video="clip.mkv")
    live = LivePose(pose, 60, RATE, KnowingDetector(PLAYER), estimator())
    recognizer = StreamingRecognizer(model(), StreamingConfig(), pose, live)
    with open_video(tmp_path / "clip.mkv") as video:
        for _, image in video:
            recognizer.push_frame(image)
    found = recognizer.pose.poses() if recognizer.pose else None
    assert found is not None
    np.testing.assert_array_equal(found.pixels, poses.pixels)
    np.testing.assert_array_equal(found.confidence, poses.confidence)
    np.testing.assert_array_equal(found.interpolated, poses.interpolated)
    answer = recognizer.answer()
    assert answer.window_probabilities is not None
    np.testing.assert_allclose(answer.window_probabilities, whole(recognizer, sample), atol=1e-6)


GROWING: Way = lambda frame: (90 + 6.0 * frame, 170, 60 + 0.4 * frame, 140 + 0.7 * frame)  # noqa: E731
OTHER = straight((300, 120), (-0.5, 0), (50, 110))


@pytest.mark.parametrize("chosen", [(), ("skeleton",), ("video",)])
def test_a_model_that_looks_at_the_video_gives_what_the_clip_gives(
    tmp_path: Path, chosen: tuple[str, ...]
) -> None:
    size = (640, 480)
    MadeVideo(tmp_path / "clip.mkv", 40, size, noisy=True)
    pose, estimator = ClipConfig(every=1), BoxEstimator(blind=[20, 21])
    poses = VideoPoseEstimator(pose, KnowingDetector(GROWING), estimator).estimate(tmp_path / "clip.mkv")
    sample = Sample("clip", -1, **clip_fields(poses, KINECT20, pose), video="clip.mkv")
    live = LivePose(pose, 40, RATE, KnowingDetector(GROWING), BoxEstimator(blind=[20, 21]))
    config = StreamingConfig(window=40 / RATE, smoothing=0, every=1000, modalities=chosen)
    recognizer = StreamingRecognizer(video_model(), config, pose, live)
    with open_video(tmp_path / "clip.mkv") as video:
        for _, image in video:
            recognizer.push_frame(image)
    answer, whole = recognizer.answer(), Recognizer(recognizer.model)
    both = ("skeleton", "video")
    (expected,) = whole.predict_samples([sample], tmp_path, chosen or both)
    np.testing.assert_allclose(said(answer), expected.probabilities, atol=1e-6)
    assert answer.modalities == expected.modalities == (chosen or both)
    assert set(answer.members) == set(expected.members)
    # Not the pictures were kept, but what is around the person.
    kept = sum(patches.nbytes for patches in recognizer._patches.values())
    assert kept < 0.75 * 40 * 3 * size[0] * size[1]
    assert bool(kept) == (chosen != ("skeleton",))
    if not chosen:
        (alone,) = whole.predict_samples([sample], tmp_path, ["skeleton"])
        assert np.abs(alone.probabilities - said(answer)).max() > 1e-3  # the video counts


def test_a_window_that_slid_sees_its_own_pictures_and_gaps_show_the_nearest(tmp_path: Path) -> None:
    MadeVideo(tmp_path / "clip.mkv", 40, noisy=True)
    pose = ClipConfig(every=1)
    live = LivePose(pose, 24, RATE, KnowingDetector(PLAYER), BoxEstimator())
    config = StreamingConfig(window=0.8, smoothing=0, every=1000)
    recognizer = StreamingRecognizer(video_model(), config, pose, live)
    lost = (25, 26, 31)
    with open_video(tmp_path / "clip.mkv") as video:
        for number, image in video:
            if number not in lost:
                recognizer.push_frame(image, number / RATE)
    found = live.poses()
    assert found is not None
    fields = clip_fields(found, KINECT20, pose)
    frames = np.array([-1 if t in lost else t for t in range(16, 40)], np.int32)
    sample = Sample("clip", -1, **fields | {"video": "clip.mkv", "video_frames": frames})
    (expected,) = Recognizer(recognizer.model).predict_samples([sample], tmp_path)
    np.testing.assert_allclose(said(recognizer.answer()), expected.probabilities, atol=1e-6)


def test_each_person_gets_the_answer_that_they_would_get_alone() -> None:
    def people(*ways: Way, most: int) -> StreamingRecognizer:
        live = LivePose(ClipConfig(), 30, RATE, KnowingDetector(*ways), BoxEstimator(), most)
        config = StreamingConfig(window=1.0, smoothing=0, every=1000, persons=most)
        recognizer = StreamingRecognizer(video_model(), config, live_pose=live)
        for image in noisy(45, (480, 360)):
            recognizer.push_frame(image)
        return recognizer

    both = people(PLAYER, OTHER, most=2).answer()
    assert [one.person for one in both.everyone] == [1, 2]
    assert both.more == 0
    for one, way in zip(both.everyone, (PLAYER, OTHER), strict=True):
        np.testing.assert_allclose(said(one), said(people(way, most=1).answer()), atol=1e-6)
    document = both.to_dict(tuple("abcd"))
    assert [one["person"] for one in document["others"]] == [2]
    assert document["others"][0]["answer_ms"] > 0
    only = people(PLAYER, OTHER, most=1).answer()
    assert (only.person, only.others, only.more) == (1, (), 1)


def test_who_has_left_is_forgotten() -> None:
    def way(frame: int) -> tuple[float, float, float, float] | None:
        return OTHER(frame) if frame < 30 else None

    class Blind(BoxEstimator):
        def estimate(self, image: np.ndarray, boxes: np.ndarray, regions: np.ndarray | None = None) -> Poses:
            found = super().estimate(image, boxes, regions)
            gone = (found.pixels[:, :, 0].mean(1) > 200) & (image[0, 0, 0] >= 30)
            return replace(found, found=np.where(gone, 0, found.found))

    live = LivePose(ClipConfig(), 30, RATE, KnowingDetector(straight((100, 130), (0, 0)), way), Blind(), 2)
    config = StreamingConfig(window=1.0, every=10, persons=2)
    recognizer = StreamingRecognizer(video_model(), config, live_pose=live)
    answers = [answer for image in noisy(110) if (answer := recognizer.push_frame(image))]
    assert [len(answer.everyone) for answer in answers] == [2] * 9 + [1] * 2
    assert set(recognizer._patches) == set(recognizer._smooth) == {1}


@pytest.mark.parametrize("kind", ["skeleton", "video"])
def test_memory_does_not_grow(kind: str) -> None:
    detector, estimator = KnowingDetector(straight((100, 120), (0, 0))), BoxEstimator()
    detector.asked, estimator.led = deque(maxlen=1), deque(maxlen=1)  # type: ignore[assignment]
    live = LivePose(ClipConfig(), 60, RATE, detector, estimator)
    # The first answers of a network leave things behind; patches are kept whether there are answers or not.
    config = StreamingConfig(window=2.0, every=50 if kind == "skeleton" else 10_000)
    recognizer = StreamingRecognizer(model() if kind == "skeleton" else video_model(), config, live_pose=live)
    image = np.zeros((240, 320, 3), np.uint8)

    def push(count: int) -> int:
        for _ in range(count):
            recognizer.push_frame(image)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        first, second, third = push(150), push(450), push(450)
    finally:
        tracemalloc.stop()
    # One frame's joints alone are 800 bytes, and a detection as much again. What is kept of frames grows each time,
    # a library's cache that happens to grow does so once.
    assert min(second - first, third - second) < 20_000


def test_json_of_an_answer() -> None:
    recognizer = streaming()
    for frame in movement(40)[0]:
        recognizer.push_skeleton(frame)
    answer = recognizer.answer()
    document = answer.to_dict(CLASSES, top=2)
    assert document["label"] == document["top"][0]["label"] == answer.label
    assert len(document["top"]) == 2
    assert document["top"][0]["probability"] == pytest.approx(said(answer).max())
    assert document["frame"] == 39
    assert document["time"] == pytest.approx(1.3)


@pytest.mark.parametrize(
    ("joints", "reason"),
    [
        (np.zeros((25, 3)), r"\(20, 3\) of kinect20"),
        (np.zeros((20, 2)), r"\(20, 3\) of kinect20"),
        (np.zeros(60), r"got \(60,\)"),
        (np.full((20, 3), np.nan), "finite"),
    ],
)
def test_joints_that_do_not_fit_are_refused(joints: np.ndarray, reason: str) -> None:
    with pytest.raises(StreamError, match=reason):
        streaming().push_skeleton(joints)


def test_what_is_no_picture_is_refused() -> None:
    with pytest.raises(StreamError, match=r"\(H, W, 3\) uint8"):
        streaming().push_frame(np.zeros((10, 10), np.uint8))


def test_pictures_and_skeletons_do_not_mix() -> None:
    recognizer, image = streaming(), np.zeros((240, 320, 3), np.uint8)
    recognizer.pose = LivePose(None, 60, RATE, KnowingDetector(), BoxEstimator())
    recognizer.push_skeleton(movement(1)[0, 0])
    with pytest.raises(StreamError, match=r"reset\(\)"):
        recognizer.push_frame(image)
    recognizer.reset()
    recognizer.push_frame(image)
    with pytest.raises(StreamError, match=r"reset\(\)"):
        recognizer.push_skeleton(movement(1)[0, 0])


@pytest.mark.parametrize("field", ["window", "every", "rate", "least", "smoothing"])
def test_settings_out_of_range_are_refused(field: str) -> None:
    with pytest.raises(ValueError, match=f"field '{field}'"):
        StreamingConfig(**{field: -1})  # type: ignore[arg-type]


def test_the_joints_window_must_be_the_answers() -> None:
    live = LivePose(None, 30, RATE, KnowingDetector(), BoxEstimator())
    with pytest.raises(StreamError, match="60 frames"):
        StreamingRecognizer(model(), StreamingConfig(), live_pose=live)


def test_a_model_from_its_folder(tmp_path: Path) -> None:
    model().save_pretrained(tmp_path / "model")
    recognizer = StreamingRecognizer.from_pretrained(tmp_path / "model", "cpu", StreamingConfig(smoothing=0))
    for frame in movement(40)[0]:
        recognizer.push_skeleton(frame)
    np.testing.assert_allclose(
        said(recognizer.answer()), whole(recognizer, sample_of(movement(40))), atol=1e-6
    )
    with pytest.raises(PretrainedError, match="not found"):
        StreamingRecognizer.from_pretrained(tmp_path)


def test_a_real_video_gives_what_the_file_gives() -> None:
    video = Path(os.environ.get("HHMNET_DATA", "/nowhere")) / "tennis/videos/t004.mp4"
    if not video.is_file():
        pytest.skip("HHMNET_DATA names no data folder with tennis/videos")
    if not all(is_cached(name) for name in networks_of(PoseConfig())):
        pytest.skip("the networks aren't in the cache; `python -m hhmnet.pose fetch`")
    expected = Recognizer(model()).predict(video).probabilities
    with open_video(video) as pictures:
        recognizer = streaming(rate=pictures.fps, every=1000)
        for _, image in pictures:
            recognizer.push_frame(image)
    np.testing.assert_allclose(said(recognizer.answer()), expected, atol=1e-5)

"""Streams of skeletons and pictures: a window gives what a whole clip gives, whatever frames come when."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from hhmnet.pose.estimate import PoseConfig, VideoPoseEstimator, VideoPoses, clip_fields
from hhmnet.predict.live import LivePrediction, StreamingConfig, StreamingRecognizer
from hhmnet.predict.live_pose import LivePose
from hhmnet.predict.recognizer import Recognizer
from hhmnet.predict.sources import InputError
from hhmnet.sample import Sample
from hhmnet.skeleton import KINECT20
from hhmnet.video import open_video
from made_bodies import posed
from made_models import CLASSES, KNOWN, UNKNOWN, skeleton_model, telling_unknown, video_model
from made_people import BoxEstimator, KnowingDetector, MadeVideo, Way, straight

RATE = 30.0
PLAYER = straight((100, 130), (0.8, 0), (60, 140))
GROWING: Way = lambda frame: (90 + 6.0 * frame, 170, 60 + 0.4 * frame, 140 + 0.7 * frame)  # noqa: E731


def movement(frames: int, persons: int = 1, seed: int = 0) -> np.ndarray:
    """Joints ``(M, T, V, C)`` that move."""
    random = np.random.default_rng(seed)
    rest = random.normal(0, 0.4, (persons, 1, KINECT20.num_joints, 3))
    way = np.sin(np.arange(frames)[None, :, None, None] * 0.2 + random.normal(size=rest.shape))
    return (rest + 0.3 * way).astype(np.float32)


def sample_of(joints: np.ndarray, present: np.ndarray | None = None) -> Sample:
    present = np.ones(joints.shape[:2], bool) if present is None else present
    frames = np.arange(joints.shape[1], dtype=np.int32)
    return Sample("clip", -1, joints * present[..., None, None].astype(np.float32), present, frames)


def whole(recognizer: StreamingRecognizer, sample: Sample) -> np.ndarray:
    """What the model says of a whole clip."""
    return Recognizer(recognizer.model).predict(sample).probabilities


def streaming(window: float = 2.0, persons: int = 1, **chosen: float) -> StreamingRecognizer:
    config = StreamingConfig(window=window, **{"smoothing": 0, **chosen})  # type: ignore[arg-type]
    return StreamingRecognizer(skeleton_model(persons=persons, scale="box"), config)


def probabilities(answer: LivePrediction | None) -> np.ndarray:
    assert answer is not None
    assert answer.probabilities is not None
    return answer.probabilities


@pytest.mark.parametrize("persons", [1, 2])
def test_skeletons_of_a_whole_clip_give_what_the_clip_gives(persons: int) -> None:
    recognizer = streaming(persons=persons)
    joints, present = movement(45, persons), np.ones((persons, 45), bool)
    present[0, 12:15] = present[-1, 30] = False
    joints *= present[..., None, None]
    for t in range(45):
        recognizer.push_skeleton(joints[:, t])
    answer, wanted = recognizer.answer(), whole(recognizer, sample_of(joints, present))
    np.testing.assert_allclose(probabilities(answer), wanted, atol=1e-6)
    document = answer.to_dict(CLASSES, top=2)
    assert document["label"] == document["top"][0]["label"] == answer.label
    assert document["top"][0]["probability"] == pytest.approx(wanted.max())
    assert (document["frame"], document["time"], document["covered"]) == (44, 1.467, 0.75)


@pytest.mark.parametrize("detect_every", [1, 3])
def test_pictures_of_a_whole_clip_give_what_the_clip_gives(tmp_path: Path, detect_every: int) -> None:
    MadeVideo(tmp_path / "clip.mkv", 40)
    pose = PoseConfig(every=detect_every)

    def networks() -> VideoPoseEstimator:
        # Where the person is lost between two detections, the second look at a video knows more.
        blind = [20, 21, 22] if detect_every == 1 else []
        estimator = BoxEstimator(blind=blind, doubtful={7: range(30, 33), 15: range(50)})
        return VideoPoseEstimator(pose, KnowingDetector(PLAYER), estimator)

    poses = networks().estimate(tmp_path / "clip.mkv")
    sample = Sample("clip", -1, **clip_fields(poses, KINECT20, pose), video="clip.mkv")
    recognizer = StreamingRecognizer(skeleton_model(scale="box"), StreamingConfig(smoothing=0), networks())
    with open_video(tmp_path / "clip.mkv") as video:
        for _, image in video:
            recognizer.push_frame(image)
    found = followed(recognizer)
    for name in ("pixels", "confidence", "interpolated"):
        np.testing.assert_array_equal(getattr(found, name), getattr(poses, name))
    np.testing.assert_allclose(probabilities(recognizer.answer()), whole(recognizer, sample), atol=1e-6)


def followed(recognizer: StreamingRecognizer) -> VideoPoses:
    """The joints that a stream of pictures has kept."""
    assert isinstance(recognizer.kept, LivePose)
    return recognizer.kept.poses()


def test_a_model_that_looks_at_the_video_gives_what_the_clip_gives(tmp_path: Path) -> None:
    """The window slid, and some frames were lost; those show the nearest picture."""
    MadeVideo(tmp_path / "clip.mkv", 34, (480, 360), noisy=True)
    pose, network, lost = PoseConfig(every=1), video_model(), (25, 26, 31)
    clips, predictions = Recognizer(network), []
    for modalities in (("skeleton", "video"), ("video",)):
        networks = VideoPoseEstimator(pose, KnowingDetector(GROWING), BoxEstimator(blind=[20, 21]))
        config = StreamingConfig(window=0.8, smoothing=0, every=1000, modalities=modalities)
        recognizer = StreamingRecognizer(network, config, networks)
        with open_video(tmp_path / "clip.mkv") as video:
            for number, image in video:
                if number not in lost:
                    recognizer.push_frame(image, number / RATE)
        answer, found = recognizer.answer(), followed(recognizer)
        frames = np.array([-1 if t in lost else t for t in range(10, 34)], np.int32)
        fields = clip_fields(found, KINECT20, pose) | {"video": "clip.mkv", "video_frames": frames}
        recorded = Sample("clip", -1, **fields)
        expected = clips.predict(recorded, modalities=modalities, videos=tmp_path)
        np.testing.assert_allclose(probabilities(answer), expected.probabilities, atol=1e-6)
        assert answer.modalities == expected.modalities == modalities
        predictions.append(expected.probabilities)
    alone = clips.predict(recorded, modalities=["skeleton"])
    assert np.abs(alone.probabilities - predictions[0]).max() > 1e-3  # the video counts


def test_what_does_not_fit_or_go_together_is_refused() -> None:
    networks = VideoPoseEstimator(None, KnowingDetector(), BoxEstimator())
    recognizer, image = (
        StreamingRecognizer(skeleton_model(), None, networks),
        np.zeros((240, 320, 3), np.uint8),
    )
    for joints, reason in (
        (np.zeros((25, 3)), r"\(20, 3\) of kinect20"),
        (np.full((20, 3), np.nan), "finite"),
    ):
        with pytest.raises(InputError, match=reason):
            recognizer.push_skeleton(joints)
    with pytest.raises(InputError, match=r"\(H, W, 3\) uint8"):
        recognizer.push_frame(image[..., 0])
    recognizer.push_skeleton(movement(1)[0, 0])
    with pytest.raises(InputError, match=r"reset\(\)"):
        recognizer.push_frame(image)
    recognizer.reset()
    recognizer.push_frame(image)
    with pytest.raises(InputError, match=r"reset\(\)"):
        recognizer.push_skeleton(movement(1)[0, 0])
    for field in ("window", "every", "rate", "least", "smoothing"):
        with pytest.raises(ValueError, match=f"field '{field}'"):
            StreamingConfig(**{field: -1})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("frames", "rate", "given", "expected"),
    [(45, 25.0, None, 1.8), (60, None, None, 2.0), (45, 25.0, 3.0, 3.0)],
)
def test_the_window_is_as_long_as_the_training_clips(
    frames: int, rate: float | None, given: float | None, expected: float
) -> None:
    trained = skeleton_model()
    trained.spec = replace(trained.spec, clip_frames=frames, clip_rate=rate)
    config = StreamingRecognizer(trained, StreamingConfig(window=given)).config
    assert (config.window, config.frames) == (pytest.approx(expected), round(expected * 30))


def test_a_long_stream_is_answered_by_its_last_frames_alone_once_it_is_long_enough() -> None:
    recognizer = streaming(window=1.0, smoothing=0, every=7, least=0.5)
    joints = movement(150)
    answers = [answer for t in range(150) if (answer := recognizer.push_skeleton(joints[0, t]))]
    assert [answer.frame for answer in answers] == list(range(6, 150, 7))
    assert [answer.label is not None for answer in answers] == [False, False] + [True] * 19
    assert [round(answer.covered * 30) for answer in answers[:5]] == [7, 14, 21, 28, 30]
    for answer in answers[5::7]:
        window = joints[:, answer.frame - 29 : answer.frame + 1]
        np.testing.assert_allclose(probabilities(answer), whole(recognizer, sample_of(window)), atol=1e-6)


def test_probabilities_are_smoothed_over_time() -> None:
    plain, smooth = (streaming(window=1.0, every=10, smoothing=value) for value in (0, 0.4))
    joints = 2 * movement(100) * np.linspace(-1, 1, 100)[None, :, None, None]
    expected, kept = None, math.exp(-(10 / RATE) / 0.4)
    for frame in joints[0]:
        own, mixed = plain.push_skeleton(frame), smooth.push_skeleton(frame)
        if own is not None and own.probabilities is not None:
            now = own.probabilities
            expected = now if expected is None else kept * expected + (1 - kept) * now
            np.testing.assert_allclose(probabilities(mixed), expected, atol=1e-6)
    assert expected is not None


def check_timed(frames: Iterable[tuple[float, np.ndarray]], wanted: np.ndarray) -> None:
    """Bodies at their times, in frames of the stream's rate, are answered as a clip of the ``wanted`` joints."""
    recognizer = streaming()
    for frame, joints in frames:
        recognizer.push_skeleton(joints, time=frame / RATE)
    answer = recognizer.answer()
    assert (answer.frame, answer.present) == (wanted.shape[1] - 1, 1)
    np.testing.assert_allclose(probabilities(answer), whole(recognizer, sample_of(wanted)), atol=1e-5)


def test_dropped_frames_are_filled_with_a_straight_line() -> None:
    joints = movement(40)
    kept = [t for t in range(40) if t not in (*range(10, 15), 20, *range(25, 38))]
    line = joints.copy()
    for before, after in pairwise(kept):
        for t in range(before + 1, after):
            share = (t - before) / (after - before)
            line[:, t] = (1 - share) * joints[:, before] + share * joints[:, after]
    check_timed(((3000 + t, joints[0, t]) for t in kept), line)


@pytest.mark.parametrize("factor", [1, 2])
def test_trembling_times_and_a_faster_source_change_nothing(factor: int) -> None:
    joints, trembling = movement(40), np.random.default_rng(1).uniform(-0.2, 0.2, 80) * (factor == 1)
    trembling[0] = 0
    check_timed(((t / factor + trembling[t], joints[0, t // factor]) for t in range(40 * factor)), joints)


def test_a_source_that_begins_anew_begins_a_new_window() -> None:
    joints = movement(40)
    before = [(30_000 + t, joints[0, t]) for t in range(40)]
    check_timed([*before, *((t, -joints[0, t]) for t in range(30))], -joints[:, :30])


def test_who_comes_back_soon_is_the_same_person_and_later_another_of_whom_nothing_is_smoothed() -> None:
    recognizer, joints = streaming(window=4.0, every=10, least=0, smoothing=60), movement(40)
    frames = [*range(40), *[-1] * 50, *range(40), *[-1] * 70, *range(40)]
    pushed = [recognizer.push_skeleton(None if t < 0 else joints[0, t]) for t in frames]
    answers = {answer.frame: answer for answer in pushed if answer is not None}
    persons = {frame: answer.person for frame, answer in answers.items()}
    assert persons == dict.fromkeys(range(9, 190, 10), 1) | {199: 0} | dict.fromkeys(range(209, 240, 10), 2)
    assert answers[199].probabilities is answers[199].label is None
    expected = whole(recognizer, sample_of(joints[:, :10]))
    np.testing.assert_allclose(probabilities(answers[209]), expected, atol=1e-6)  # nothing of the first


def test_a_stream_says_unknown() -> None:
    model = telling_unknown(skeleton_model())
    recognizer = StreamingRecognizer(model, StreamingConfig(window=0.4, every=12, still=0))
    for pose, is_unknown in ((KNOWN, False), (UNKNOWN, True)):
        recognizer.reset()
        for joints in posed(pose, 0):
            answer = recognizer.push_skeleton(joints)
        assert answer is not None
        assert (answer.label == "unknown") == is_unknown

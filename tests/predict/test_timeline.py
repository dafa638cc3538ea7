from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from hhmnet.pose import estimate
from hhmnet.predict.recognizer import Recognizer
from hhmnet.predict.segments import TimelineConfig
from hhmnet.predict.sources import Input, InputError
from hhmnet.predict.timeline import RecentVideo, recognise_long, sliced
from hhmnet.predict.timeline_files import to_dict, write_timeline
from hhmnet.sample import Sample
from hhmnet.store import Store
from hhmnet.video import VideoError, open_video
from made_models import CLASSES
from made_people import BoxEstimator, KnowingDetector, MadeVideo, straight
from made_video import FRAMES, number_in, write_video

CONFIG = TimelineConfig(window=1.0, stride=0.5, smooth=0, enter=0.3, leave=0.2, shortest=0)


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """Two persons in 90 frames of 30 a second; the second one is there in the last third alone."""
    rng = np.random.default_rng(7)
    still = rng.normal(0, 0.4, (2, 1, 20, 3))
    joints = still + rng.normal(0, 0.05, (2, 90, 20, 3)).cumsum(1)
    joints[1, :60] = 0
    file = tmp_path / "two.npz"
    np.savez(file, joints=joints)
    return file


def test_each_window_gets_the_answer_of_a_clip(of_skeletons: Recognizer, two: Path) -> None:
    found = recognise_long(of_skeletons, two, CONFIG)
    np.testing.assert_allclose(found.starts, [0, 0.5, 1, 1.5, 2])
    assert found.duration == pytest.approx(3)
    whole = of_skeletons.sources.read(two).sample
    first, second = found.persons
    for number, start in enumerate((0, 15, 30, 45, 60)):
        part = sliced(whole, 0, slice(start, start + 30))
        np.testing.assert_allclose(
            first.probabilities[number], of_skeletons.predict(part).probabilities, atol=1e-5
        )
    assert found.modalities == ("skeleton",)
    # Who is there for less than half of a window has no answer; at exactly half there is one.
    assert np.isnan(second.probabilities[:3]).all()
    part = sliced(whole, 1, slice(60, 90))
    np.testing.assert_allclose(second.probabilities[4], of_skeletons.predict(part).probabilities, atol=1e-5)
    assert np.isfinite(second.probabilities[3]).all()
    assert second.segments
    assert {segment.person for segment in second.segments} == {2}
    assert second.segments[0].start >= 1.75


def test_windows_are_as_long_as_the_training_clips(of_skeletons: Recognizer, two: Path) -> None:
    spec = of_skeletons.model.spec
    assert recognise_long(of_skeletons, two).config.window == 2.0
    try:
        of_skeletons.model.spec = dataclasses.replace(spec, clip_frames=25, clip_rate=20.0)
        assert recognise_long(of_skeletons, two).config.window == 1.25
        assert recognise_long(of_skeletons, two, CONFIG).config.window == 1.0
    finally:
        of_skeletons.model.spec = spec


def test_persons_do_not_see_each_other(of_skeletons: Recognizer, two: Path, tmp_path: Path) -> None:
    joints = np.load(two)["joints"]
    np.savez(tmp_path / "alone.npz", joints=joints[1:])
    ours = recognise_long(of_skeletons, two, CONFIG).persons[1]
    alone = recognise_long(of_skeletons, tmp_path / "alone.npz", CONFIG).persons[0]
    np.testing.assert_allclose(ours.probabilities, alone.probabilities, atol=1e-6)
    assert [segment[1:] for segment in ours.segments] == [segment[1:] for segment in alone.segments]


def test_a_recording_shorter_than_a_window(of_skeletons: Recognizer, tiny_store: Store) -> None:
    item = Input("short", tiny_store.path, 0)
    found = recognise_long(of_skeletons, item, TimelineConfig(window=5))
    (person,) = found.persons
    assert len(person.probabilities) == 1
    wanted = of_skeletons.predict(tiny_store.sample(0)).probabilities
    np.testing.assert_allclose(person.probabilities[0], wanted, atol=1e-5)


def test_joints_are_estimated_once_and_each_person_has_a_timeline(
    of_skeletons: Recognizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ways = straight((80, 120), (0.5, 0), (50, 120)), straight((240, 130), (-0.2, 0), (50, 140))
    estimator = BoxEstimator()
    monkeypatch.setattr(estimate, "_load_detector", lambda config: KnowingDetector(*ways))
    monkeypatch.setattr(estimate, "_load_estimator", lambda config: estimator)
    MadeVideo(tmp_path / "a.mkv", 75, rate=25)
    recognizer = Recognizer(of_skeletons.model, pose=estimate.PoseConfig(persons=2))
    found = recognise_long(recognizer, tmp_path / "a.mkv", CONFIG)
    assert len(found.persons) == 2
    assert found.duration == pytest.approx(3, abs=0.01)
    assert len(found.starts) == 5
    assert all(np.isfinite(person.probabilities).all() for person in found.persons)
    assert len(estimator.led) == 2 * 75  # once a person and frame, however many windows there are


def test_windows_of_a_model_with_video(of_both: Recognizer, filmed: Store) -> None:
    item = Input("filmed", filmed.path, 0)
    config = TimelineConfig(window=0.6, stride=0.3, smooth=0)
    found = recognise_long(of_both, item, config)
    assert found.modalities == ("skeleton", "video")
    sample = filmed.sample(0)
    assert sample.video is not None
    assert filmed.video_folder is not None
    with open_video(filmed.video_folder / sample.video) as video:
        times = video.times[sample.video_frames]
    for number, (start, end) in enumerate(zip(found.starts, found.ends, strict=True)):
        first, last = np.searchsorted(times - times[0], [start, end])
        part = sliced(sample, 0, slice(first, last))
        wanted = of_both.predict(part, videos=filmed.video_folder)
        np.testing.assert_allclose(found.persons[0].probabilities[number], wanted.probabilities, atol=1e-5)
    alone = recognise_long(of_both, item, config, modalities=("skeleton",))
    assert alone.modalities == ("skeleton",)


@pytest.mark.usefixtures("nobody")
def test_a_recording_of_nobody_is_named(of_skeletons: Recognizer, tmp_path: Path) -> None:
    MadeVideo(tmp_path / "empty.mkv", 40)
    with pytest.raises(InputError, match=r"empty\.mkv: no person was found"):
        recognise_long(of_skeletons, tmp_path / "empty.mkv")


def test_progress_ends_with_all_windows(of_skeletons: Recognizer, two: Path) -> None:
    seen: list[tuple[int, int]] = []
    recognise_long(of_skeletons, two, CONFIG, progress=lambda done, total: seen.append((done, total)))
    assert {total for _, total in seen} == {10}
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_its_files(of_skeletons: Recognizer, two: Path, tmp_path: Path) -> None:
    found = recognise_long(of_skeletons, two, CONFIG)
    files = write_timeline(found, tmp_path / "new" / "out")
    assert [file.name for file in files] == ["segments.csv", "timeline.json", "timeline.png"]
    assert files[2].read_bytes()[:4] == b"\x89PNG"
    with open(files[0], newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [(row["label"], int(row["person"])) for row in rows] == [
        (segment.label, segment.person) for segment in found.segments
    ]
    assert [float(row["start"]) for row in rows] == sorted(float(row["start"]) for row in rows)
    document = json.loads(files[1].read_text())
    assert document == json.loads(json.dumps(to_dict(found)))
    assert document["classes"] == list(CLASSES)
    assert document["persons"][1]["windows"][0]["probabilities"] is None
    window = document["persons"][0]["windows"][2]
    assert (window["start"], window["end"]) == (1.0, 2.0)
    assert window["probabilities"] == pytest.approx(found.persons[0].probabilities[2].tolist(), abs=1e-5)
    assert window["label"] == CLASSES[int(found.persons[0].probabilities[2].argmax())]


def test_recent_pictures_are_the_videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(tmp_path / "a.mp4")
    monkeypatch.setattr("hhmnet.predict.timeline.KEPT_BYTES", 8 * 64 * 48 * 3)  # eight pictures
    with RecentVideo(tmp_path / "a.mp4") as video:
        for index in (0, 3, 9, 5, 9, 11, 2, 30, 28, 31, 40, 0):
            assert number_in(video.frame(index)) == index
            assert len(video._recent) <= 8
        with pytest.raises(VideoError, match="isn't one of"):
            video.frame(FRAMES)


def test_a_slice_keeps_what_belongs_together() -> None:
    frames = np.arange(10, dtype=np.int32)
    sample = Sample(
        "a",
        -1,
        np.arange(2 * 10 * 6, dtype=np.float32).reshape(2, 10, 3, 2) + 1,
        np.ones((2, 10), bool),
        frames,
        confidence=np.ones((2, 10, 3), np.float32),
        video="a.mp4",
        video_frames=frames + 2,
    )
    part = sliced(sample, 1, slice(3, 6))
    np.testing.assert_array_equal(part.joints[0], sample.joints[1, 3:6])
    assert part.frame_index.tolist() == [3, 4, 5]
    assert part.video_frames is not None
    assert part.video_frames.tolist() == [5, 6, 7]
    assert part.confidence is not None
    assert part.confidence.shape == (1, 3, 3)

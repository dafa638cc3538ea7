from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from hhmnet.data.crop_cache import CropCache
from hhmnet.evaluation.scores import score_streams
from hhmnet.models.pretrained import PretrainedError
from hhmnet.pose.assets import CACHE_VARIABLE
from hhmnet.pose.estimate import PoseConfig
from hhmnet.predict import InputError, Prediction, Recognizer
from hhmnet.predict.prediction import softmax
from hhmnet.predict.sources import find_inputs
from hhmnet.readers import videos
from hhmnet.readers.videos import Videos
from hhmnet.sample import MODALITIES
from hhmnet.store import Store
from made_models import CLASSES, skeleton_model
from made_people import BoxEstimator, MadeVideo

FRAMES = 30


def scored(
    recognizer: Recognizer, store: Store, modalities: Sequence[str], folder: Path, patch: pytest.MonkeyPatch
) -> dict[str, np.ndarray]:
    """What evaluation says of all clips: logits of the model and its members."""
    patch.setenv(CACHE_VARIABLE, str(folder))
    found = score_streams(recognizer.model, store, np.arange(len(store)), modalities=modalities)
    return {name: scores.logits for name, scores in found.items()}


@pytest.mark.parametrize("modalities", [MODALITIES, ("skeleton",), ("video",)])
def test_a_clip_of_a_store_gets_the_answer_of_evaluation(
    of_both: Recognizer,
    filmed: Store,
    modalities: Sequence[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted = scored(of_both, filmed, modalities, tmp_path, monkeypatch)
    assert np.ptp(wanted[""], axis=0).max() > 1e-3  # the clips differ
    for row in range(len(filmed)):
        said = of_both.ask([of_both.sources.read(find_inputs([filmed.path])[row])], modalities)
        np.testing.assert_allclose(said.answer.logits[0], wanted[""][row], atol=1e-5)
        for name, logits in said.answer.each.items():
            np.testing.assert_allclose(logits[0], wanted[name][row], atol=1e-5)
        found = of_both.predict(filmed.sample(row), modalities=modalities, videos=filmed.video_folder)
        np.testing.assert_allclose(found.probabilities, softmax(wanted[""])[row], atol=1e-5)
        assert found.modalities == tuple(modalities)


def test_skeletons_alone_likewise_with_gaps_and_several_persons(
    patchy_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recognizer = Recognizer(skeleton_model(persons=2, views=2, class_names=patchy_store.class_names))
    wanted = scored(recognizer, patchy_store, MODALITIES, tmp_path, monkeypatch)
    samples = [patchy_store.sample(row) for row in range(len(patchy_store))]
    together = recognizer.predict_samples(samples)
    for row, sample in enumerate(samples):
        alone = recognizer.predict(sample)
        for found in (alone, together[row]):
            np.testing.assert_allclose(found.probabilities, softmax(wanted[""])[row], atol=1e-5)
            np.testing.assert_allclose(found.members["bone"], softmax(wanted["bone"])[row], atol=1e-5)


def test_the_form_of_an_answer(of_both: Recognizer, filmed: Store) -> None:
    found = of_both.predict(filmed.sample(2), top=3, videos=filmed.video_folder)
    assert found.input == filmed.sample_ids[2]
    assert found.label == found.top[0][0] == CLASSES[int(found.probabilities.argmax())]
    assert [share for _, share in found.top] == sorted(found.probabilities.tolist(), reverse=True)[:3]
    assert found.probabilities.sum() == pytest.approx(1)
    assert list(found.members) == ["joint", "bone", "video"]
    assert found.seconds > 0
    document = found.to_dict()
    assert document["top"][0] == {"label": found.label, "probability": found.top[0][1]}
    assert document["modalities"] == ["skeleton", "video"]
    assert document["members"]["bone"] == pytest.approx(found.members["bone"].tolist())


def test_guidance_and_the_frames_that_it_is_about(of_both: Recognizer, filmed: Store, tmp_path: Path) -> None:
    found = of_both.predict(filmed.sample(1), videos=filmed.video_folder)
    assert found.guidance is not None
    assert found.times is not None
    assert found.guidance.shape == (5, 2)
    assert found.guidance.min() == 0
    assert found.guidance.max() == 2
    # The instants shown are among those that were cut out.
    cut = CropCache(tmp_path, of_both.model.spec.roi).get(filmed, 1, filmed.video_folder).times
    np.testing.assert_allclose(np.abs(cut[:, None] - found.times).min(0), 0, atol=1e-3)
    assert found.times[1] - found.times[0] > filmed.lengths[1] / 4
    alone = of_both.predict(filmed.sample(1), modalities=("skeleton",), videos=filmed.video_folder)
    assert alone.guidance is None
    assert alone.times is None
    assert alone.modalities == ("skeleton",)
    assert "video" not in alone.members


@pytest.mark.usefixtures("made_networks")
def test_a_video_is_seen_as_the_reader_of_videos_sees_it(
    of_skeletons: Recognizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    MadeVideo(tmp_path / "a.mkv", FRAMES)
    (tmp_path / "labels.csv").write_text("video,label\na.mkv,wave\n")
    monkeypatch.setattr(videos, "fetch_models", lambda names: {})
    videos._estimator.cache_clear()
    read = Videos(tmp_path).read("a.mkv", Counter())
    found = of_skeletons.predict(tmp_path / "a.mkv")
    assert found.sample is not None
    for field in dataclasses.fields(read):
        if field.name not in ("label", "split"):
            np.testing.assert_array_equal(getattr(found.sample, field.name), getattr(read, field.name))
    assert found.input == str(tmp_path / "a.mkv")
    assert found.video == tmp_path / "a.mkv"
    np.testing.assert_allclose(found.probabilities, of_skeletons.predict(read).probabilities, atol=1e-6)
    videos._estimator.cache_clear()


@pytest.mark.usefixtures("made_networks")
def test_a_video_for_both_modalities(of_both: Recognizer, tmp_path: Path) -> None:
    MadeVideo(tmp_path / "a.mkv", FRAMES)
    found = of_both.predict(str(tmp_path / "a.mkv"))
    assert found.modalities == MODALITIES
    assert not found.notes
    assert found.guidance is not None
    # Nothing is left in the caches that training uses.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mkv"]


@pytest.mark.usefixtures("nobody")
def test_a_video_with_nobody_in_it(of_skeletons: Recognizer, of_both: Recognizer, tmp_path: Path) -> None:
    file = tmp_path / "empty.mkv"
    MadeVideo(file, FRAMES)
    with pytest.raises(InputError, match=r"empty\.mkv: no person was found"):
        of_skeletons.predict(file)
    found = of_both.predict(file)
    assert found.modalities == ("video",)
    assert list(found.members) == ["video"]
    np.testing.assert_allclose(found.probabilities, found.members["video"], atol=1e-6)
    assert found.notes == ("no person was found in it",)


def test_a_video_that_cannot_be_read_leaves_the_skeleton(
    of_both: Recognizer, filmed: Store, tmp_path: Path
) -> None:
    sample = filmed.sample(0)
    assert sample.video is not None
    (tmp_path / sample.video).write_text("no video")
    broken = of_both.predict(sample, videos=tmp_path)
    assert broken.modalities == ("skeleton",)
    assert "can't be opened" in broken.notes[0]
    alone = of_both.predict(sample, modalities=("skeleton",))
    np.testing.assert_allclose(broken.probabilities, alone.probabilities, atol=1e-6)
    with pytest.raises(InputError, match="can't be opened"):
        of_both.predict(sample, modalities=("video",), videos=tmp_path)
    with pytest.raises(InputError, match="it has no video"):
        of_both.predict(sample, modalities=("video",))


@pytest.mark.usefixtures("made_networks")
def test_a_video_file_that_cannot_be_read_is_named(of_skeletons: Recognizer, tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_text("no video")
    with pytest.raises(InputError, match=r"bad\.mp4: .*can't be opened"):
        of_skeletons.predict(tmp_path / "bad.mp4")


def test_wrong_modalities_are_named(of_skeletons: Recognizer, tiny_store: Store) -> None:
    with pytest.raises(InputError, match="looks at skeletons alone"):
        of_skeletons.predict(tiny_store.sample(0), modalities=("video",))
    with pytest.raises(InputError, match="must be among skeleton, video; got sound"):
        of_skeletons.predict(tiny_store.sample(0), modalities=("sound",))
    assert of_skeletons.predict_samples([]) == []


def test_how_joints_are_found_can_be_chosen(made_networks: BoxEstimator, tmp_path: Path) -> None:
    MadeVideo(tmp_path / "a.mkv", FRAMES)
    made_networks.doubtful = {15: range(FRAMES)}
    strict = Recognizer(skeleton_model(), pose=PoseConfig(min_confidence=0.2)).predict(tmp_path / "a.mkv")
    lax = Recognizer(skeleton_model(), pose=PoseConfig(min_confidence=0.0)).predict(tmp_path / "a.mkv")
    assert strict.sample is not None
    assert lax.sample is not None
    assert (strict.sample.confidence == 0).any()  # type: ignore[union-attr]
    assert (lax.sample.confidence > 0).all()  # type: ignore[operator]


def test_from_a_folder(of_both: Recognizer, filmed: Store, tmp_path: Path) -> None:
    of_both.model.save_pretrained(tmp_path / "model")
    loaded = Recognizer.from_pretrained(tmp_path / "model", device="cpu")
    assert loaded.looks_at_video
    assert loaded.class_names == CLASSES
    ours, theirs = (one.predict(filmed.sample(0), videos=filmed.video_folder) for one in (of_both, loaded))
    assert isinstance(theirs, Prediction)
    np.testing.assert_array_equal(ours.probabilities, theirs.probabilities)
    with pytest.raises(PretrainedError, match="no model there"):
        Recognizer.from_pretrained(tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no GPU"):
        Recognizer.from_pretrained(tmp_path, device="cuda")


def test_files_are_read_without_torch(filmed: Store) -> None:
    """An exported model answers on skeleton files where torch isn't installed."""
    file = filmed.path.parent / "raw" / f"{filmed.sample_ids[0]}.json"
    code = (
        "import sys; from hhmnet.predict.sources import Sources, find_inputs; from hhmnet.skeleton import KINECT20; "
        "import hhmnet.predict.prediction; "
        f"Sources(KINECT20).read(find_inputs([{str(file)!r}])[0]); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

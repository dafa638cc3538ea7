"""One recognizer with two engines: what it says of samples, files and videos."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from hhmnet.cli import main
from hhmnet.confidence import softmax
from hhmnet.evaluation.scores import score_streams
from hhmnet.pose.networks import CACHE_VARIABLE
from hhmnet.predict import InputError, Prediction, Recognizer
from hhmnet.predict.engines import OnnxEngine, OnnxModelError
from hhmnet.predict.sources import find_inputs
from hhmnet.readers import videos
from hhmnet.readers.videos import Videos
from hhmnet.sample import MODALITIES
from hhmnet.store import Store
from made_bodies import standing, write_clip
from made_exports import exported
from made_models import CLASSES, KNOWN, UNKNOWN, skeleton_model
from made_people import MadeVideo

FRAMES = 20

# One worker makes the graphs for all of them.
pytestmark = pytest.mark.xdist_group("export")


@pytest.fixture(scope="session")
def onnx_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Exported models as files: ``skeletons`` of two streams and two persons, ``video`` of both modalities."""
    found = {kind: tmp_path_factory.mktemp("exported") / f"{kind}.onnx" for kind in ("skeletons", "video")}
    for kind, file in found.items():
        file.write_bytes(exported(kind)[1])
    return found


@pytest.fixture(scope="session")
def onnx_of_both(onnx_files: dict[str, Path]) -> Recognizer:
    return Recognizer(OnnxEngine(onnx_files["video"], threads=1))


def check_same(found: Prediction, wanted: Prediction) -> None:
    np.testing.assert_allclose(found.probabilities, wanted.probabilities, atol=1e-4)
    assert [name for name, _ in found.top] == [name for name, _ in wanted.top]
    assert (found.label, found.modalities, found.notes) == (wanted.label, wanted.modalities, wanted.notes)
    assert list(found.members) == list(wanted.members)
    for name, part in wanted.members.items():
        np.testing.assert_allclose(found.members[name], part, atol=1e-4)
    for ours, theirs in ((found.guidance, wanted.guidance), (found.times, wanted.times)):
        assert (ours is None) == (theirs is None)
        if ours is not None and theirs is not None:
            np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize("modalities", [MODALITIES, ("skeleton",), ("video",), ()])
def test_a_clip_gets_the_answer_of_evaluation_from_both_engines(
    of_both: Recognizer,
    onnx_of_both: Recognizer,
    filmed: Store,
    patchy_store: Store,
    modalities: Sequence[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The last one is a model of skeletons alone, on clips with gaps and several persons."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    recognizer, store = of_both, filmed
    if not modalities:
        names = patchy_store.class_names
        recognizer, store = Recognizer(skeleton_model(persons=2, class_names=names)), patchy_store
    modalities, model = modalities or ("skeleton",), recognizer.engine.model  # type: ignore[attr-defined]
    scores = score_streams(model, store, np.arange(len(store)), modalities=modalities)
    wanted = {name: softmax(of_stream.logits) for name, of_stream in scores.items()}
    assert np.ptp(scores[""].logits, axis=0).max() > 1e-3  # the clips differ
    clips = [recognizer.sources.read(item) for item in find_inputs([store.path])]
    for row, found in enumerate(recognizer.predict_clips(clips, modalities)):
        assert found.modalities == tuple(modalities)
        np.testing.assert_allclose(found.probabilities, wanted[""][row], atol=1e-5)
        for name, part in found.members.items():
            np.testing.assert_allclose(part, wanted[name][row], atol=1e-5)
        videos = store.video_folder
        alone = recognizer.predict(store.sample(row), modalities=modalities, videos=videos)
        np.testing.assert_allclose(alone.probabilities, found.probabilities, atol=1e-5)
        if store is filmed:
            check_same(onnx_of_both.predict(store.sample(row), modalities=modalities, videos=videos), alone)


@pytest.mark.usefixtures("made_networks")
def test_a_video_is_seen_as_the_reader_of_videos_sees_it(
    of_both: Recognizer, onnx_of_both: Recognizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.mkv"
    MadeVideo(file, FRAMES)
    found = of_both.predict(str(file))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mkv"]  # nothing in training's caches
    check_same(onnx_of_both.predict(file), found)
    (tmp_path / "labels.csv").write_text("video,label\na.mkv,wave\n")
    monkeypatch.setattr(videos, "fetch_models", dict)
    videos._estimator.cache_clear()
    read = Videos(tmp_path).read("a.mkv", Counter())
    videos._estimator.cache_clear()
    for field in dataclasses.fields(read):
        if field.name not in ("label", "split"):
            np.testing.assert_array_equal(getattr(found.sample, field.name), getattr(read, field.name))
    assert (found.input, found.video, found.modalities) == (str(file), file, MODALITIES)
    # The instants shown lie in the clip, and P parts are weighted at each.
    assert found.guidance is not None
    assert found.times is not None
    assert (found.guidance.shape, found.guidance.min(), found.guidance.max()) == ((5, 2), 0, 2)
    assert 0 <= found.times[0] < found.times[1] - FRAMES / 4 < FRAMES


@pytest.mark.usefixtures("nobody")
def test_a_video_with_nobody_in_it(of_skeletons: Recognizer, of_both: Recognizer, tmp_path: Path) -> None:
    file = tmp_path / "empty.mkv"
    MadeVideo(file, FRAMES)
    with pytest.raises(InputError, match=r"empty\.mkv: no person was found"):
        of_skeletons.predict(file)
    found = of_both.predict(file)
    assert (found.modalities, list(found.members)) == (("video",), ["video"])
    np.testing.assert_allclose(found.probabilities, found.members["video"], atol=1e-6)
    assert found.notes == ("no person was found in it",)


@pytest.mark.parametrize("engine", ["of_both", "onnx_of_both"])
def test_a_video_that_cannot_be_read_leaves_the_skeleton(
    engine: str, filmed: Store, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    recognizer, sample = request.getfixturevalue(engine), filmed.sample(0)
    (tmp_path / str(sample.video)).write_text("no video")
    broken = recognizer.predict(sample, videos=tmp_path)
    assert broken.modalities == ("skeleton",)
    assert "can't be opened" in broken.notes[0]
    check_same(dataclasses.replace(broken, notes=()), recognizer.predict(sample, modalities=("skeleton",)))
    for folder, reason in ((tmp_path, "can't be opened"), (None, "it has no video")):
        with pytest.raises(InputError, match=reason):
            recognizer.predict(sample, modalities=("video",), videos=folder)


def test_without_torch_skeletons_are_answered_and_videos_refused(
    onnx_files: dict[str, Path], tmp_path: Path
) -> None:
    """torch can't be imported, as where it isn't installed."""
    np.savez(tmp_path / "clip.npz", joints=standing(np.random.default_rng(1), frames=9))
    MadeVideo(tmp_path / "film.mkv", 5)
    MadeVideo(tmp_path / "clip.mkv", 9)
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from hhmnet.cli import main\n"
        "sys.exit(main(['predict', *sys.argv[1:], '--json']))"
    )
    inputs = [str(tmp_path / "clip.npz"), str(tmp_path / "film.mkv")]
    words = [sys.executable, "-c", code, str(onnx_files["video"]), *inputs]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    found = json.loads(done.stdout)
    assert found[0]["modalities"] == ["skeleton"]
    assert "pictures are cut out of it with PyTorch, which isn't installed" in found[0]["notes"][0]
    (line,) = [line for line in done.stderr.splitlines() if "error" in line]
    assert f"{inputs[1]}: joints are found in videos with PyTorch, which isn't installed" in line


def test_files_that_are_no_models_are_refused(
    tmp_path: Path, onnx_files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = onnx_files["skeletons"].read_bytes()
    proto = pytest.importorskip("onnx").load_from_string(content)
    proto.metadata_props[0].value = '{"model": {"format": "other"}, "members": []}'
    files = {
        "missing": (None, "not found; hhmnet export"),
        "text": (b"no graph", "no ONNX file that onnxruntime can run"),
        "cut": (content[: len(content) // 2], "no ONNX file that onnxruntime can run"),
        "other": (proto.SerializeToString(), "its metadata has no settings of hhmnet"),
    }
    for name, (broken, reason) in files.items():
        if broken is not None:
            (tmp_path / f"{name}.onnx").write_bytes(broken)
        with pytest.raises(OnnxModelError, match=rf"{name}\.onnx: {reason}"):
            Recognizer.from_pretrained(tmp_path / f"{name}.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(OnnxModelError, match="'onnxruntime', which isn't installed; pip install"):
        Recognizer.from_pretrained(onnx_files["skeletons"])


def test_predict_says_unknown_from_a_folder_and_from_an_onnx_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, content = exported("skeletons")
    model.save_pretrained(tmp_path / "run")
    (tmp_path / "model.onnx").write_bytes(content)
    clips = [str(write_clip(tmp_path / f"{pose}.npz", pose, 0)) for pose in (KNOWN, UNKNOWN)]
    capsys.readouterr()
    sure = []
    for place in ("run", "model.onnx"):
        assert main(["predict", str(tmp_path / place), *clips, "--json"]) == 0
        known, unknown = json.loads(capsys.readouterr().out)
        assert (known["known"], known["label"]) == (True, known["top"][0]["label"])
        assert (unknown["known"], unknown["label"]) == (False, "unknown")
        assert unknown["top"][0]["label"] in CLASSES
        sure.append(unknown["top"][0]["probability"])
        assert main(["predict", str(tmp_path / place), *clips, "--json", "--unknown", "0"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert [one["label"] for one in found] == [one["top"][0]["label"] for one in found]
    assert sure[0] == pytest.approx(sure[1], abs=1e-4)  # the same temperature

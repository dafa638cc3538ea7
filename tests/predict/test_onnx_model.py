from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from hhmnet.predict import InputError, Recognizer
from hhmnet.predict.onnx_model import METADATA, OnnxModelError, OnnxRecognizer
from hhmnet.predict.prediction import Prediction
from hhmnet.sample import MODALITIES, Sample
from hhmnet.store import Store
from made_exports import exported
from made_models import CLASSES
from made_people import BoxEstimator, MadeVideo

# One worker makes the graphs for all of them.
pytestmark = pytest.mark.xdist_group("export")


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Exported models as files, by kind; only for reading."""
    folder = tmp_path_factory.mktemp("exported")
    found = {kind: folder / f"{kind}.onnx" for kind in ("skeletons", "video")}
    for kind, file in found.items():
        file.write_bytes(exported(kind)[1])
    return found


@pytest.fixture(scope="session")
def of_two(files: dict[str, Path]) -> OnnxRecognizer:
    """Two streams, two persons."""
    return OnnxRecognizer(files["skeletons"], threads=1)


@pytest.fixture(scope="session")
def with_pictures(files: dict[str, Path]) -> OnnxRecognizer:
    """Two streams and video."""
    return OnnxRecognizer(files["video"], threads=1)


def some_sample(persons: int = 2, frames: int = 17, seed: int = 0) -> Sample:
    draw = np.random.default_rng(seed)
    joints = draw.normal(size=(persons, frames, 20, 3)).astype(np.float32)
    present = draw.random((persons, frames)) > 0.2
    present[:, 0] = True
    joints[~present] = 0
    return Sample(f"clip{seed}", -1, joints, present, np.arange(frames, dtype=np.int32))


def check_same(found: Prediction, wanted: Prediction) -> None:
    np.testing.assert_allclose(found.probabilities, wanted.probabilities, atol=1e-4)
    assert found.label == wanted.label
    assert [name for name, _ in found.top] == [name for name, _ in wanted.top]
    assert found.modalities == wanted.modalities
    assert list(found.members) == list(wanted.members)
    for name, part in wanted.members.items():
        np.testing.assert_allclose(found.members[name], part, atol=1e-4)
    for ours, theirs in ((found.guidance, wanted.guidance), (found.times, wanted.times)):
        assert (ours is None) == (theirs is None)
        if ours is not None and theirs is not None:
            np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert found.notes == wanted.notes


def test_the_file_tells_what_it_takes(of_two: OnnxRecognizer, with_pictures: OnnxRecognizer) -> None:
    assert of_two.class_names == with_pictures.class_names == CLASSES
    assert of_two.layout == exported("skeletons")[0].spec.layout
    assert (of_two.persons, with_pictures.persons) == (2, 1)
    assert of_two.members == ("joint", "bone")
    assert with_pictures.members == ("joint", "bone", "video")
    assert not of_two.looks_at_video
    assert with_pictures.looks_at_video


@pytest.mark.parametrize("persons", [1, 2, 4])
def test_a_sample_gets_the_recognizers_answer(persons: int, of_two: OnnxRecognizer) -> None:
    wanted = Recognizer(exported("skeletons")[0])
    for seed in range(3):
        sample = some_sample(persons, 10 + 9 * seed, seed)
        found = of_two.predict(sample, top=3)
        check_same(found, wanted.predict(sample, top=3, modalities=("skeleton",)))
        assert found.input == f"clip{seed}"
        assert len(found.top) == 3
        assert found.seconds > 0


def test_a_batch_gets_the_answers_of_its_clips(of_two: OnnxRecognizer) -> None:
    samples = [some_sample(seed % 3 + 1, 5 + 7 * seed, seed) for seed in range(4)]
    found = of_two.predict_samples(samples)
    for one, sample in zip(found, samples, strict=True):
        np.testing.assert_allclose(one.probabilities, of_two.predict(sample).probabilities, atol=1e-5)
    assert np.ptp([one.probabilities for one in found], axis=0).max() > 1e-3
    assert of_two.predict_samples([]) == []


def test_a_skeleton_file_gets_the_answer_of_its_joints(of_two: OnnxRecognizer, tmp_path: Path) -> None:
    sample = some_sample(1)
    joints = np.where(sample.present[0][:, None, None], sample.joints[0], 0)
    (tmp_path / "clip.json").write_text(json.dumps({"joints": joints.tolist()}))
    np.savez(tmp_path / "clip.npz", joints=joints)
    wanted = of_two.predict(sample).probabilities
    for name in ("clip.json", "clip.npz"):
        found = of_two.predict(tmp_path / name)
        np.testing.assert_allclose(found.probabilities, wanted, atol=1e-5)
        assert found.input == str(tmp_path / name)


@pytest.mark.parametrize("modalities", [MODALITIES, ("skeleton",), ("video",)])
def test_a_clip_with_its_video_gets_the_recognizers_answer(
    modalities: tuple[str, ...], with_pictures: OnnxRecognizer, of_both: Recognizer, filmed: Store
) -> None:
    for row in range(3):
        sample = filmed.sample(row)
        found = with_pictures.predict(sample, modalities=modalities, videos=filmed.video_folder)
        check_same(found, of_both.predict(sample, modalities=modalities, videos=filmed.video_folder))
        assert found.modalities == modalities


def test_a_skeleton_alone_is_enough_for_a_model_with_video(
    with_pictures: OnnxRecognizer, of_both: Recognizer, filmed: Store
) -> None:
    sample = dataclasses.replace(filmed.sample(0), video=None, video_frames=None)
    found = with_pictures.predict(sample)
    check_same(found, of_both.predict(sample))
    assert found.modalities == ("skeleton",)
    assert found.times is None


def test_joints_of_a_video_are_found_where_torch_is_there(
    of_two: OnnxRecognizer, made_networks: BoxEstimator, tmp_path: Path
) -> None:
    MadeVideo(tmp_path / "clip.mkv", 20)
    wanted = Recognizer(exported("skeletons")[0]).predict(tmp_path / "clip.mkv", modalities=("skeleton",))
    check_same(of_two.predict(tmp_path / "clip.mkv"), wanted)


def test_without_torch_skeletons_are_answered_and_videos_refused(
    files: dict[str, Path], tmp_path: Path
) -> None:
    draw = np.random.default_rng(1)
    np.savez(tmp_path / "clip.npz", joints=draw.normal(size=(9, 20, 3)))
    MadeVideo(tmp_path / "film.mkv", 5)
    MadeVideo(tmp_path / "clip.mkv", 9)
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from hhmnet.cli import main\n"
        "sys.exit(main(['predict', *sys.argv[1:], '--json']))"
    )
    words = [sys.executable, "-c", code, str(files["video"])]
    inputs = [str(tmp_path / "clip.npz"), str(tmp_path / "film.mkv")]
    done = subprocess.run([*words, *inputs], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    found = json.loads(done.stdout)
    assert found[0]["modalities"] == ["skeleton"]
    assert found[0]["notes"] == ["video: pictures are cut out of it with PyTorch, which isn't installed"]
    lines = [line for line in done.stderr.splitlines() if "error" in line]
    assert lines == [
        f"hhmnet predict: error: {inputs[1]}: joints are found in videos with PyTorch, which isn't installed; "
        "give a skeleton file, or pip install torch"
    ]


def test_modalities_that_the_model_does_not_have_are_refused(of_two: OnnxRecognizer) -> None:
    with pytest.raises(InputError, match="it has no modality 'video'"):
        of_two.predict(some_sample(), modalities=("video",))
    with pytest.raises(InputError, match="modalities must be among skeleton, video; got sound"):
        of_two.predict(some_sample(), modalities=("sound",))


def test_a_clip_with_nothing_to_look_at_is_refused(with_pictures: OnnxRecognizer) -> None:
    with pytest.raises(InputError, match="clip0: it has no video"):
        with_pictures.predict(some_sample(), modalities=("video",))


def test_files_that_are_no_models_are_refused(tmp_path: Path, files: dict[str, Path]) -> None:
    onnx = pytest.importorskip("onnx")
    with pytest.raises(OnnxModelError, match=r"missing\.onnx: not found; hhmnet export"):
        OnnxRecognizer(tmp_path / "missing.onnx")
    (tmp_path / "text.onnx").write_text("no graph")
    with pytest.raises(OnnxModelError, match=r"text\.onnx: no ONNX file that onnxruntime can run"):
        OnnxRecognizer(tmp_path / "text.onnx")
    content = files["skeletons"].read_bytes()
    (tmp_path / "cut.onnx").write_bytes(content[: len(content) // 2])
    with pytest.raises(OnnxModelError, match=r"cut\.onnx: no ONNX file that onnxruntime can run"):
        OnnxRecognizer(tmp_path / "cut.onnx")
    for value in (
        "",
        "[]",
        '{"model": {}}',
        '{"model": {"format": "another"}, "members": [], "version": "1"}',
    ):
        proto = onnx.load_from_string(content)
        onnx.helper.set_model_props(proto, {METADATA: value})
        onnx.save(proto, tmp_path / "other.onnx")
        with pytest.raises(OnnxModelError, match=r"other\.onnx: its metadata has no settings of hhmnet"):
            OnnxRecognizer(tmp_path / "other.onnx")


def test_a_missing_onnxruntime_is_named(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(OnnxModelError, match="'onnxruntime', which isn't installed; pip install"):
        OnnxRecognizer(files["skeletons"])


def test_run_gives_the_graphs_own_outputs(of_two: OnnxRecognizer) -> None:
    sample = some_sample(2, 12)
    found = of_two.run(
        {
            "joints": sample.joints.swapaxes(0, 1).copy(),
            "present": sample.present.T.copy(),
            "lengths": np.array([12]),
        }
    )
    assert {name: part.shape for name, part in found.items()} == {
        "logits": (1, 4),
        "members": (2, 1, 4),
        "used": (1, 2),
    }
    wanted = torch.softmax(torch.from_numpy(found["logits"]), 1)[0]
    np.testing.assert_allclose(of_two.predict(sample).probabilities, wanted, atol=1e-6)

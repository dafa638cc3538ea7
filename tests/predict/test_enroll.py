"""Models of one's own classes from a few examples."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from hhmnet.cli import main
from hhmnet.confidence import softmax
from hhmnet.data.protocols import get_protocol
from hhmnet.data.transform import SkeletonBatch
from hhmnet.models.hub import FILES
from hhmnet.models.pretrained import from_pretrained
from hhmnet.pose import estimate
from hhmnet.predict import Recognizer
from hhmnet.predict.enroll import Examples, embed, enrolled, fit_head
from hhmnet.readers.arrays import ArrayConfig
from hhmnet.sample import Sample
from hhmnet.store import Store, write_store
from made_bodies import POSES, standing, write_clip
from made_models import skeleton_model, video_model
from made_people import BoxEstimator, KnowingDetector, MadeVideo, straight


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for pose in POSES:
        for seed in range(4):
            write_clip(tmp_path / "examples" / pose / f"{seed}.npz", pose, seed)
    return tmp_path / "examples"


@pytest.fixture(scope="module", params=["one stream", "two streams", "with video"])
def model_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = {
        "one stream": lambda: skeleton_model(streams="joint"),
        "two streams": skeleton_model,
        "with video": video_model,
    }
    folder = tmp_path_factory.mktemp("model")
    made[request.param]().save_pretrained(folder)
    return folder


def store_without(whole: Store, folder: Path, label: int) -> Path:
    """The same clips but for a class's training clips."""
    train = set(get_protocol(whole.protocol).indices(whole, "train").tolist())
    kept = [row for row in range(len(whole)) if row not in train or whole.labels[row] != label]
    about = {"class_names": whole.class_names, "protocol": whole.protocol, "provenance": {}}
    write_store(folder, [whole.sample(row) for row in kept], layout=whole.layout, **about)
    return folder


def enroll(model: Path, examples: Path, new: Path, *more: str, code: int = 0) -> None:
    """Run the command."""
    assert main(["enroll", str(model), "--examples", str(examples), "--out", str(new), *more]) == code


def test_examples_make_a_model_that_knows_the_next_clip(
    model_folder: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new, odd = tmp_path / "new", folder / "crouch" / "0.npz"
    np.savez(odd, joints=np.load(odd)["joints"] * [1, -1, 1])
    enroll(model_folder, folder, new, "--json")
    output = capsys.readouterr()
    counts = json.loads(output.out)["classes"]
    assert {name: examples for name, (examples, _) in counts.items()} == dict.fromkeys(sorted(POSES), 4)
    assert f"{odd}: doubt: head below the feet" in output.err  # what is odd about an example is said
    for pose in POSES:
        clip = write_clip(tmp_path / "later" / f"{pose}.npz", pose, 50)
        assert main(["predict", str(new), str(clip), "--json"]) == 0
        (answer,) = json.loads(capsys.readouterr().out)
        assert answer["label"] == pose
        assert 0.5 < answer["top"][0]["probability"] < 0.995  # of few examples it isn't sure
    enroll(model_folder, folder, new, code=2)
    assert "holds a model already" in capsys.readouterr().err


def test_a_store_gives_its_training_clips(
    store_folder: Path,
    finished_run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    enroll(finished_run, store_folder, tmp_path / "new", "--json")
    counts = json.loads(capsys.readouterr().out)["classes"]
    wanted = dict.fromkeys(Store(store_folder).class_names, 4)
    assert {name: count for name, (count, _) in counts.items()} == wanted
    assert main(["evaluate", str(tmp_path / "new"), "--data", str(store_folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 20
    left = {file.name for file in (tmp_path / "new").iterdir() if file.is_file()}
    assert left >= {"neighbours.safetensors", "examples.safetensors"}
    assert left <= {*FILES}, "from the hub it comes whole"
    train = get_protocol(Store(store_folder).protocol).indices(Store(store_folder), "train")
    frames = np.median(Store(store_folder).lengths[train])
    assert from_pretrained(tmp_path / "new").spec.clip_seconds == pytest.approx(frames / 30, abs=0.02)
    monkeypatch.setattr("hhmnet.commands.enroll.clip_length", lambda *whole: (int(frames), 10.0))
    enroll(finished_run, store_folder, tmp_path / "slow")
    assert from_pretrained(tmp_path / "slow").spec.clip_seconds == pytest.approx(frames / 10, abs=0.05)
    few = store_without(Store(store_folder), tmp_path / "few", label=1)
    enroll(finished_run, few, tmp_path / "fewer")
    first, second, *others = Store(few).class_names
    assert f"left out, for want of training clips: {second}" in capsys.readouterr().err
    assert from_pretrained(tmp_path / "fewer").spec.class_names == (first, *others)
    # By it phase 2 knows which clips it has seen.
    assert from_pretrained(tmp_path / "new").spec.protocol == Store(store_folder).protocol


def test_classes_are_added_to_what_was_enrolled(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, first, second, begun = (tmp_path / name for name in ("model", "first", "second", "begun"))
    skeleton_model().save_pretrained(model)
    begun.mkdir()
    for pose in ("arms up", "arms out"):
        (folder / pose).rename(begun / pose)
    enroll(model, begun, first)
    enroll(first, folder, second, "--add")
    assert from_pretrained(second).spec.class_names == ("arms out", "arms up", "crouch")
    clip = write_clip(tmp_path / "crouch.npz", "crouch", 60)
    assert Recognizer.from_pretrained(second).predict(clip).label == "crouch"
    for wrong, message in (
        (second, "give all its examples at once, without --add"),
        (model, "without --add"),
    ):
        enroll(wrong, begun, tmp_path / "x", "--add", code=2)
        assert message in capsys.readouterr().err


def test_a_place_that_holds_no_model_is_found_out_before_the_work(folder, tmp_path, monkeypatch, capsys):
    skeleton_model().save_pretrained(tmp_path / "model")
    monkeypatch.setattr("hhmnet.commands.enroll.read_examples", None)
    enroll(tmp_path / "model", folder, folder / "crouch" / "0.npz" / "new", code=2)
    assert "Not a directory" in capsys.readouterr().err


def test_its_windows_last_as_long_as_the_examples(tmp_path, monkeypatch):
    way = straight((100, 130), (0.8, 0), (60, 140))
    monkeypatch.setattr(estimate, "_load_detector", lambda config: KnowingDetector(way))
    monkeypatch.setattr(estimate, "_load_estimator", lambda threads: BoxEstimator())
    films = {name: [tmp_path / f"{name}{number}.mkv" for number in range(2)] for name in "ab"}
    for film in (*films["a"], *films["b"]):
        MadeVideo(film, 20, rate=10)
    model = skeleton_model()
    model.spec = dataclasses.replace(model.spec, clip_frames=30, clip_rate=60.0)
    assert Recognizer(model).enroll(films).clip_seconds == pytest.approx(2.0)


def test_what_lies_beside_the_classes_is_told(folder, tmp_path, capsys):
    skeleton_model().save_pretrained(tmp_path / "model")
    write_clip(folder / "stray.npz", "crouch", 7)
    (folder / ".DS_Store").touch()
    enroll(tmp_path / "model", folder, tmp_path / "new")
    assert "passed over, as they lie in no class's folder: .npz 1" in capsys.readouterr().err


def test_who_knows_other_classes_reads_files_and_calls_unknown_as_before(folder: Path) -> None:
    for file in folder.glob("*/*.npz"):
        np.savez(file, joints=np.load(file)["joints"] * [1, -1, 1])
    recognizer = Recognizer(skeleton_model(), arrays=ArrayConfig(up="minus_y"), unknown=0)
    wider = recognizer.enroll({pose: sorted((folder / pose).iterdir()) for pose in POSES})
    assert wider.unknown == 0
    assert wider.predict(folder / "crouch" / "0.npz").notes == ()


def test_labels_by_chance_are_not_told_by_the_others() -> None:
    rng = np.random.default_rng(3)
    embeddings = rng.normal(size=(60, 1, 200)).astype(np.float32)
    head = fit_head(Examples(("a", "b", "c"), np.arange(60) % 3, embeddings, np.full(60, 9)), np.ones(1))
    assert (head.held_out.argmax(1) == np.arange(60) % 3).mean() < 0.55


def test_the_streams_together_say_what_the_head_says() -> None:
    model, rng = skeleton_model(), np.random.default_rng(1)
    there, frames = np.ones((1, 11), bool), np.arange(11, dtype=np.int32)
    bodies = [standing(rng, frames=11, persons=1).astype(np.float32) for _ in range(6)]
    samples = [
        Sample(str(n), -1, joints=body, present=there, frame_index=frames) for n, body in enumerate(bodies)
    ]
    embeddings = embed(model, samples)
    made, head = enrolled(model, Examples(("a", "b"), np.arange(6) % 2, embeddings, np.full(6, 11)))
    joints = torch.from_numpy(samples[0].joints.swapaxes(0, 1))
    answer = made.answer(SkeletonBatch(joints, None, torch.tensor([11]))).logits[0].detach().numpy()
    expected = np.einsum("ksd,sd->k", head.weight, embeddings[0]) + head.bias
    np.testing.assert_allclose(answer, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("spread", [0.5, 3.0])
def test_it_is_as_sure_as_it_is_right(spread: float) -> None:
    rng, labels = np.random.default_rng(2), np.arange(100) % 25  # four clips a class, as few as people give
    embeddings = rng.normal(size=(25, 2, 320))[labels] + spread * rng.normal(size=(100, 2, 320))
    examples = Examples(
        tuple(f"c{n}" for n in range(25)), labels, embeddings.astype(np.float32), np.full(100, 9)
    )
    made, head = enrolled(skeleton_model(), examples)
    sure = softmax(head.held_out, made.spec.confidence["skeleton"].temperature).max(1)
    assert sure.mean() == pytest.approx((head.held_out.argmax(1) == labels).mean(), abs=0.03)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({}, "holds no folders"),
        ({"wave": 3}, "telling apart takes two"),
        ({"wave": 3, "Wave ": 3}, "named alike: 'Wave ' and 'wave'; rename one"),
        (
            {"train": 3, "dev": 1, "Test": 3},
            "its folders are parts of a data set, Test, dev, train: give the training part",
        ),
        ({"wave": 3, "kick": 0}, "kick: holds no videos"),
        ({"wave": 3, "kick": 1}, "class 'kick' has 1 clips"),
        ({"wave": 3, "kick": -2}, "class 'kick' has 0 clips"),
    ],
)
def test_examples_that_make_no_model_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], classes: dict[str, int], message: str
) -> None:
    skeleton_model().save_pretrained(tmp_path / "model")
    (tmp_path / "examples").mkdir()
    for name, count in classes.items():
        (tmp_path / "examples" / name).mkdir()
        for number in range(abs(count)):
            file = write_clip(tmp_path / "examples" / name / f"{number}.npz", "crouch", number)
            if count < 0:
                file.write_bytes(b"no clip")
    enroll(tmp_path / "model", tmp_path / "examples", tmp_path / "new", code=2)
    assert message in capsys.readouterr().err
    assert not (tmp_path / "new").exists()

"""``hhmnet evaluate`` of a model with video, as a user runs it, and what such a model leans on."""

from __future__ import annotations

import io
import json
import shutil
from contextlib import nullcontext, redirect_stdout
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hhmnet.cli import main
from hhmnet.evaluation import knock_out
from hhmnet.evaluation.knock_out import WHOLE, answers_without
from hhmnet.evaluation.scores import Scores, score
from hhmnet.models.heterogeneous import HeterogeneousNetwork
from hhmnet.models.pretrained import from_pretrained
from hhmnet.pose.networks import CACHE_VARIABLE
from hhmnet.store import Store
from made_video_world import VideoWorld

MEMBERS = ("joint", "bone", "video")


def evaluate(world: VideoWorld, out: Path, *more: str) -> int:
    data = ("--data", str(world.store), "--out", str(out), "--device", "cpu")
    return main(["evaluate", str(world.run), *data, *more])


@pytest.fixture(scope="module")
def results(video_world: VideoWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out, printed = tmp_path_factory.mktemp("results") / "test", io.StringIO()
    with redirect_stdout(printed):
        assert evaluate(video_world, out) == 0
    for name in ("stream joint", "stream video", "skeleton alone", "beside skeleton alone"):
        assert name in printed.getvalue()
    return out


def top1(scores: Scores) -> float:
    return 100 * float((scores.logits.argmax(1) == scores.labels).mean())


def test_every_member_and_every_modality_is_measured(video_world: VideoWorld, results: Path) -> None:
    metrics = json.loads((results / "metrics.json").read_text())
    assert metrics["n"] == 10
    whole = Scores.load(results / "scores.parquet")
    each = {name: Scores.load(results / f"scores-{name}.parquet") for name in MEMBERS}
    assert metrics["top1"] == pytest.approx(top1(whole))
    streams = {name: part["top1"] for name, part in metrics["streams"].items()}
    assert streams == pytest.approx({name: top1(part) for name, part in each.items()})
    assert list(metrics["modalities"]) == ["skeleton", "video"]
    assert "What joining them changes" in (results / "report.html").read_text()
    store = Store(video_world.store)
    rows = np.flatnonzero(store.cameras == "3")
    for name, changes in metrics["fusion"].items():
        gain = metrics["top1"] - metrics["modalities"][name]["top1"]
        assert (changes["mended"]["n"] - changes["broken"]["n"]) * 10 == pytest.approx(gain)
    first = score(from_pretrained(video_world.phase1), store, rows)
    assert metrics["modalities"]["skeleton"]["top1"] == pytest.approx(top1(first))
    alone = score(from_pretrained(video_world.run), store, rows, modalities=("video",))
    assert metrics["modalities"]["video"]["top1"] == pytest.approx(top1(alone))
    assert not np.allclose(alone.logits, each["video"].logits)  # no skeleton guides it
    assert whole.sample_ids.tolist() == store.sample_ids[rows].tolist()
    # Streams weigh alike here, and the video as much as one of them.
    mean = np.mean([part.logits for part in each.values()], 0)
    np.testing.assert_allclose(whole.logits, mean, rtol=1e-4, atol=1e-4)


def test_a_clip_without_its_video_is_answered_by_its_skeleton(video_world, results, tmp_path, capsys):
    videos = Path(shutil.copytree(video_world.videos, tmp_path / "videos"))
    store = Store(video_world.store)
    rows = np.flatnonzero(store.cameras == "3")
    gone, damaged = (store.sample(int(i)) for i in rows[:2])
    (videos / str(gone.video)).unlink()
    (videos / str(damaged.video)).write_bytes(b"no video")
    assert evaluate(video_world, tmp_path / "out", "--videos", str(videos)) == 0
    err = capsys.readouterr().err
    for text in ("2 of 10 clips have no picture at all", gone.sample_id, damaged.sample_id):
        assert text in err
    before, after = (Scores.load(folder / "scores.parquet").logits for folder in (results, tmp_path / "out"))
    np.testing.assert_array_equal(before[2:], after[2:])
    each = [Scores.load(tmp_path / f"out/scores-{name}.parquet").logits for name in MEMBERS]
    np.testing.assert_allclose(after[:2], (each[0][:2] + each[1][:2]) / 2, rtol=1e-4, atol=1e-5)


def test_what_a_video_is_worth(video_world: VideoWorld) -> None:
    model, store = from_pretrained(video_world.run), Store(video_world.store)
    network = model.network
    assert isinstance(network, HeterogeneousNetwork)
    network.register_buffer("weights", torch.tensor([0.0, 0.0, 1.0]))  # the video's answer alone

    def logits() -> np.ndarray:
        return score(model, store, np.arange(30), batch_size=7).logits

    found = answers_without(model, store, np.arange(30), batch_size=7)
    whole = found[WHOLE]
    np.testing.assert_array_equal(logits(), whole)
    assert list(found)[-7:] == [
        *("stream joint", "stream bone", "video", "guidance", "guidance, against another clip's"),
        *("pictures of body parts", "picture of the scene"),
    ]
    # The video's answer is a sum: of parts, scene and one bias.
    bias = network.video.part_head.bias.detach().numpy()
    scenes = found["pictures of body parts"] - bias
    np.testing.assert_allclose(whole - found["picture of the scene"], scenes, atol=1e-4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "config", replace(network.config, guidance="none"))
        np.testing.assert_allclose(found["guidance"], logits(), atol=1e-5)
    assert abs(found["guidance, against another clip's"] - whole).max() > 1e-4


def test_what_is_computed_once_is_what_every_part_would_compute(video_world: VideoWorld) -> None:
    model, rows = from_pretrained(video_world.run), np.arange(30)
    found = answers_without(model, Store(video_world.store), rows, batch_size=7)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(knock_out, "once", lambda *what: nullcontext())
        expected = answers_without(model, Store(video_world.store), rows, batch_size=7)
    assert list(found) == list(expected)
    for part, logits in expected.items():
        np.testing.assert_array_equal(found[part], logits, err_msg=part)


def test_the_command_has_the_table(video_world, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    words = ["evaluate", str(video_world.phase1), "--data", str(video_world.store), "--out", str(tmp_path)]
    assert main([*words, "--knock-out"]) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    parts = [part["part"] for part in metrics["knock_out"]]
    assert {"dynamic mask", "stream joint", "stream bone"} < set(parts)
    printed, page = capsys.readouterr().out, (tmp_path / "report.html").read_text()
    for part in metrics["knock_out"]:
        clips = (part["top1"] - metrics["top1"]) / 100 * metrics["n"]
        assert part["won"] - part["lost"] == pytest.approx(clips)
        assert part["interval"][0] <= metrics["top1"] - part["top1"] <= part["interval"][1]
        assert f"<td>without {part['part']}</td>".replace("'", "&#x27;") in page
    assert "without reranking" in printed
    assert 0 < metrics["static_share"] < 1
    assert f"{100 * metrics['static_share']:.0f} % is the learned graph" in page

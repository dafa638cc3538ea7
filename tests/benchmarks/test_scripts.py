"""The scripts in benchmarks/: each runs on made data, and says what it was meant to say."""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path

import house
import latency
import loading
import ntu_reading
import numpy as np
import paired
import peers
import preparing
import pytest
import torch
import transfer
import unknown
import videos

from hhmnet.commands.configuration import read_config
from hhmnet.config import TrainConfig
from hhmnet.evaluation.scores import Scores
from hhmnet.readers import get_reader
from hhmnet.store import Store
from made_exports import exported
from made_models import skeleton_model
from made_ntu import put
from made_video import write_video

ROOT = Path(__file__).parents[2]
Printed = pytest.CaptureFixture[str]


def test_a_checkout_is_measured(tmp_path: Path) -> None:
    assert house.run(house.main, [str(ROOT), "--json", str(tmp_path / "r.json")]) == 0
    found = json.loads((tmp_path / "r.json").read_text())
    assert (found["circle"], found["up"]) == ([], [])
    assert found["src lines"] > found["src modules"] > 100


@pytest.mark.xdist_group("export")  # one worker makes the graphs for all
def test_latency_of_ways_that_answer_alike(tmp_path, monkeypatch, capsys):
    model, content = exported("skeletons")
    model.save_pretrained(tmp_path / "two")
    (tmp_path / "two.onnx").write_bytes(content)
    words = ["--model", str(tmp_path / "two"), str(tmp_path / "two.onnx"), "--calls", "4", "--frames", "20"]
    monkeypatch.setattr(sys, "argv", ["latency.py", *words])
    threads = torch.get_num_threads()
    latency.main()
    torch.set_num_threads(threads)
    lines = capsys.readouterr().out.splitlines()[2:]
    assert len(lines) == len(latency.ways_of(model, content, 33, 1))
    for line in lines:
        middle, late, least = map(float, line.split()[-3:])
        assert 0 < least <= middle <= late


def test_videos_are_timed(tmp_path: Path) -> None:
    file, report = write_video(tmp_path / "a.mp4"), tmp_path / "report.json"
    assert videos.run(videos.main, [str(file), "--rounds", "1", "--json", str(report)]) == 0
    (row,) = json.loads(report.read_text())["videos"]
    assert (row["file"], row["frames"], row["size"]) == ("a.mp4", 41, "64 x 48")


NAME = "S001C001P001R001A001"
# Stands for the published reader, and it prints.
PEER = """\
def get_raw_bodies_data(folder, name, dropped, log):
    print("Reading", name)
    return {{"name": name, "num_frames": {frames}}}
"""


def test_both_readers_of_ntu_take_turns_and_must_see_the_same(tmp_path: Path, capsys: Printed) -> None:
    put(tmp_path / "raw", name=NAME)
    peer = tmp_path / "ctrgcn" / ntu_reading.PEER_FILE
    peer.parent.mkdir(parents=True)
    words = ["--source", str(tmp_path / "raw"), "--rounds", "1", "--seconds", "0.01"]
    words += ["--ctrgcn", str(tmp_path / "ctrgcn")]
    peer.write_text(PEER.format(frames=20))
    assert ntu_reading.run(ntu_reading.main, words) == 0
    assert "Reading" not in capsys.readouterr().out
    peer.write_text(PEER.format(frames=19))
    assert ntu_reading.run(ntu_reading.main, words) == 2
    assert f"CTR-GCN's reader sees 19 frames in {NAME}, hhmnet 20" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("script", "words", "message"),
    [
        ("house", "{}", "not a checkout"),
        ("ntu_pair", "--source {} --out {}/a.png", "holds no NTU RGB+D 120 files"),
        ("ntu_reading", "--source {} --rounds 0", "0: give a number above 0"),
        ("loading", "--probe first-batch --data {} --started 0", "no store"),
        ("preparing", "--reader nw_ucla --source {}/none", "no folder at"),
    ],
)
def test_mistakes_are_one_line(script, words, message, tmp_path, capsys):
    module = importlib.import_module(script)
    assert module.run(module.main, words.format(tmp_path, tmp_path).split()) == 2
    *_, line = capsys.readouterr().err.splitlines()  # a busy machine is told above
    assert line.startswith("error: ")
    assert message in line


def test_what_one_kind_of_model_gains_over_another(tmp_path: Path, capsys: Printed) -> None:
    names, labels = np.array(["a", "b", "c", "d"]), np.array([0, 1, 0, 1])
    files = []
    for number, answers in enumerate(([0, 1, 0, 1], [0, 1, 0, 0], [0, 1, 1, 0], [1, 1, 0, 1])):
        files.append(tmp_path / f"{number}.parquet")
        Scores(names, labels, np.eye(2, dtype=np.float32)[answers], ("x", "y")).save(files[-1])
    paired.main(["--ours", str(files[0]), str(files[1]), "--theirs", str(files[2]), str(files[3])])
    *_, row, _ = capsys.readouterr().out.splitlines()
    assert [cell.strip() for cell in row.split("│")[1:4]] == ["8", "3", "1"]
    assert "+25.00" in row
    with pytest.raises(paired.BenchmarkError, match="equally many"):
        paired.main(["--ours", str(files[0]), str(files[1]), "--theirs", str(files[2])])


def test_the_large_store_is_like_ntu_and_stages_and_parts_add_up(tmp_path, store_folder, recipe):
    loading.make_large_store(tmp_path, 150)
    store = Store(tmp_path)
    assert (store.layout.name, len(store), len(store.class_names)) == ("ntu25", 150, 120)
    assert np.bincount(store.persons).tolist() == [0, 120, 30]
    with pytest.raises(loading.BenchmarkError, match="holds another store"):
        loading.make_large_store(tmp_path, 151)
    seconds = dict(loading.first_batch(tmp_path, time.time())["s"])
    total, after = seconds.pop("total"), seconds.pop("total after imports")
    assert total == pytest.approx(sum(seconds.values()))
    assert after == pytest.approx(total - seconds["interpreter and imports"])
    figures = loading.training_step(Store(store_folder), read_config(recipe), steps=3)
    ms = figures["ms"]
    data = ms["loading"] + ms["prepare()"]
    assert 0 < data < ms["whole step"]
    assert figures["%"]["data share"] == pytest.approx(100 * data / ms["whole step"])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_prepare_is_watched_on_repeated_files(raw_folder: Path, tmp_path: Path) -> None:
    assert preparing.repeat_files(get_reader("nw_ucla", raw_folder), tmp_path / "many", 70) == 70
    found = preparing.prepare_once("nw_ucla", tmp_path / "many", tmp_path / "store", 1)
    assert (found["jobs"], found["files"]) == (1, 70)
    assert found["rejected"] == 0  # those under new names are usable
    assert found["files_per_second"] == pytest.approx(70 / found["seconds"])
    assert 0 < found["peak_own_mib"] <= found["peak_resident_mib"]
    assert found["processes"] >= 1


def test_scores_that_tell_unknown_classes_are_compared(tiny_store, tmp_path, capsys):
    words = ["--data", str(tiny_store.path), "--out", str(tmp_path / "draws"), "--draws", "1"]
    words += ["--model.widths=[16]", "--model.strides=[2]", "--data.frames=8", "--optim.epochs=1"]
    for _ in range(2):  # the second call only tables
        assert unknown.run(unknown.main, [*words, "--run.device=cpu"]) == 0
    out, err = capsys.readouterr()
    assert err.count("draw 0: without") == 1
    assert out.count("neighbour, logits") == 8
    assert [file.name for file in (tmp_path / "draws").iterdir()] == ["0.npz"]


CTR_GCN = {
    "config/ucla/default.yaml": "model_args: {num_class: 10}\ntrain_feeder_args: {window_size: 6}\n",
    "model/ctrgcn.py": "from torch import nn\n"
    "def Model(num_class):\n    return nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(3, num_class))\n",
}
"""What stands in for CTR-GCN's: its recipe, and a model by the same name."""


def call(*words: str | Path) -> int:
    short = ("--rounds", "2", "--seconds", "0.01", "--batch", "2", "--threads", "1", "--give-back")
    return peers.run(peers.main, [*map(str, words), *short])


def test_a_speed_stands_beside_the_accuracy_of_the_same_weights(tmp_path, capsys):
    folder, checkout = tmp_path / "model", tmp_path / "peer"
    model = skeleton_model(streams="joint", class_names=tuple("abcdefghij"))
    frames = model.spec.data.frames
    model.save_pretrained(folder)
    (folder / "metrics.json").write_text('{"top1": 94.61}')
    for name, text in CTR_GCN.items():
        (checkout / name).parent.mkdir(parents=True)
        (checkout / name).write_text(text)
    assert call(folder, "--ctrgcn", checkout, "--json", tmp_path / "r.json") == 0
    assert "top-1 94.61 %" in capsys.readouterr().out
    report = json.loads((tmp_path / "r.json").read_text())
    ours, peer = report["models"]["ST&ST"], report["models"]["CTR-GCN"]
    assert (ours["top1"], ours["frames"], peer["frames"]) == (94.61, frames, 6)
    for phase in ("train", "infer"):
        speeds = [model[phase]["samples_per_second"]["rounds"] for model in (ours, peer)]
        expected = [one / other for one, other in zip(*speeds, strict=True)]
        assert report["speed_ratio"][phase]["rounds"] == pytest.approx(expected)

    assert call(folder, "--frames", str(2 * frames)) == 0  # nobody measured the accuracy there
    assert "(top-1 not measured like this)" in " ".join(capsys.readouterr().out.split())
    (folder / "metrics.json").unlink()
    assert call(folder) == 2
    assert "holds no metrics.json; run hhmnet evaluate on it first" in capsys.readouterr().err


CONFIG = (
    "protocol: nw_ucla_cross_view\noptim: {epochs: 4, batch_size: 4, warmup_epochs: 1}\nrun: {device: cpu}\n"
)


def test_transfers_are_made_once_tabled_and_drawn(tiny_store, tmp_path, capsys):
    skeleton_model(streams="joint").save_pretrained(tmp_path / "model")
    (tmp_path / "c.yaml").write_text(CONFIG)
    out, picture = tmp_path / "out.jsonl", tmp_path / "curve.png"
    words = ["--data", str(tiny_store.path), "--init", str(tmp_path / "model")]
    words += ["--config", str(tmp_path / "c.yaml"), "--out", str(out), "--draws", "1", "--steps", "2"]
    transfer.main([*words, "--sizes", "2", "--time-limit", "0.000001s"])
    assert "0 of 3 outcomes are there" in capsys.readouterr().err
    transfer.main([*words, "--sizes", "2"])
    first = out.read_bytes()
    transfer.main([*words, "--sizes", "2", "3", "--picture", str(picture)])
    assert out.read_bytes().startswith(first)
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(line["way"], line["clips"], len(line["right"])) for line in lines] == [
        (way, 3 * size, 10) for size in (2, 3) for way in ("nothing", "init", "head")
    ]
    assert f"{10 * lines[-1]['right'].count('1'):.1f}" in capsys.readouterr().out
    assert picture.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(transfer.BenchmarkError, match="with another steps"):
        transfer.main([*words, "--sizes", "2", "--steps", "3"])
    clips = transfer.Clips(tiny_store, TrainConfig(fold=0))
    few, more = (set(clips.draw(size, 3, "class").tolist()) for size in (1, 3))
    assert few < more
    assert not more & set(clips.scored.tolist())

from __future__ import annotations

import dataclasses
import io
import json
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from hhmnet.cli import main
from hhmnet.evaluation.scores import Scores
from hhmnet.skeleton import KINECT20
from hhmnet.store import Store, write_store
from hhmnet.synthetic import ACTIONS

NAMES = [action.name for action in ACTIONS]
RENAMED = dataclasses.replace(KINECT20, joints=("hips", *KINECT20.joints[1:]))


def evaluate(run: Path, store: Path, *more: str) -> int:
    return main(["evaluate", str(run), "--data", str(store), *more])


@pytest.fixture
def altered_store(store_folder: Path, tmp_path: Path):
    """The sample's clips of some classes, under other names of classes, with another skeleton or other fields."""

    def write(classes=NAMES, layout=KINECT20, protocol="nw_ucla_cross_view", renamed=None, **fields):
        store, samples = Store(store_folder), []
        for i in range(len(store)):
            name = NAMES[store[i].label]
            name = (renamed or {}).get(name, name)
            if name in classes:
                samples.append(dataclasses.replace(store[i], **{"label": classes.index(name)} | fields))
        about = {"layout": layout, "class_names": classes, "protocol": protocol, "provenance": {}}
        write_store(tmp_path / "other", samples, **about)
        return tmp_path / "other"

    return write


@pytest.fixture(scope="module")
def results(finished_run, store_folder, tmp_path_factory):
    """A folder of results, and what was printed."""
    out, printed = tmp_path_factory.mktemp("results") / "deep" / "test", io.StringIO()
    with redirect_stdout(printed):
        assert evaluate(finished_run, store_folder, "--out", str(out)) == 0
    return out, printed.getvalue()


def test_writes_metrics_scores_and_pictures(results, store_folder):
    out, printed = results
    metrics = json.loads((out / "metrics.json").read_text())
    scores = pq.read_table(out / "scores.parquet")
    store = Store(store_folder)
    rows = np.flatnonzero(store.cameras == "3")

    assert scores.column_names == ["sample_id", "label", *store.class_names]
    assert scores["sample_id"].to_pylist() == store.sample_ids[rows].tolist()
    assert scores["label"].to_pylist() == store.labels[rows].tolist()

    logits = np.stack([scores[name].to_numpy() for name in store.class_names], 1)
    top1 = 100 * float(np.mean(logits.argmax(1) == store.labels[rows]))
    assert metrics["top1"] == pytest.approx(top1)
    low, high = metrics["top1_interval"]
    assert low <= top1 <= high
    about = [metrics[key] for key in ("n", "split", "protocol", "store", "fold")]
    assert about == [20, "test", "nw_ucla_cross_view", "sample", None]

    assert f"{top1:.2f}" in printed
    assert (out / "confusion.png").read_bytes().startswith(b"\x89PNG")
    assert "The surest mistakes" in (out / "report.html").read_text()


@pytest.mark.parametrize("classes", [NAMES[::-1], ["jump", *NAMES[1:4]]], ids=len)
def test_somebody_elses_store_is_measured_by_the_names_of_its_classes(
    classes, finished_run, store_folder, altered_store, tmp_path, capsys
):
    """Its order is another, it lacks classes or has one that the model doesn't know, and its split is its own."""
    more = {"protocol": "given", "camera": "", "split": "test", "renamed": {NAMES[0]: "jump"}}
    more |= {} if "jump" in classes else {"renamed": {}}
    other, out = altered_store(classes, **more), tmp_path / "out"
    assert evaluate(finished_run, other, "--json", "--out", str(out)) == 0
    printed = capsys.readouterr()
    metrics, scores = json.loads(printed.out), Scores.load(out / "scores.parquet")
    store, theirs = Store(store_folder), Store(other)
    true = dict(zip(store.sample_ids.tolist(), store.labels.tolist(), strict=True))
    labels = np.array([true[name] for name in scores.sample_ids.tolist()])
    known = np.isin(labels, [NAMES.index(name) for name in classes if name != "jump"])
    right = scores.logits.argmax(1)[known] == labels[known]
    assert scores.class_names == tuple(NAMES)
    assert scores.labels.tolist() == np.where(known, labels, -1).tolist()
    assert len(scores.labels) == len(theirs)
    assert (metrics["n"], metrics["protocol"]) == (known.sum(), "given")
    assert metrics["top1"] == pytest.approx(100 * right.mean())
    assert "by protocol given; " in printed.err
    assert f"{finished_run} was trained by nw_ucla_cross_view" in printed.err
    assert metrics.get("only_in_model", []) == [name for name in NAMES if name not in classes]
    jumps = int((~known).sum())
    assert metrics.get("only_in_store", {}) == ({"jump": jumps} if jumps else {})
    for name in [*metrics.get("only_in_model", []), *([f"jump ({jumps} clips)"] if jumps else [])]:
        assert name in printed.err


def test_the_protocol_that_is_named_splits(run_copy, altered_store, tmp_path, capsys):
    """A clip that was relabelled for training may then test, by its own label."""
    config, store = run_copy / "config.yaml", altered_store(split="test")
    clip = Store(store)[0]
    other = f"relabel: {{{clip.sample_id}: '{NAMES[clip.label - 1]}'}}"
    config.write_text(config.read_text().replace("relabel: {}", other))
    words = ("--out", str(tmp_path / "out"), "--json", "--protocol", "given")
    assert evaluate(run_copy, store, *words) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["n"] == 60
    assert "by which 40 of these 60 clips train" in printed.err
    assert Scores.load(tmp_path / "out" / "scores.parquet").labels[0] == clip.label


def test_clips_without_labels_are_scored_and_not_measured(run_copy, store_folder, altered_store, capsys):
    assert evaluate(run_copy, store_folder) == 0  # its pictures don't stay, nor do scores of streams
    (run_copy / "eval-test" / "scores-bone.parquet").write_text("of an earlier model")
    assert evaluate(run_copy, altered_store(label=-1)) == 0
    assert "no clip has a label, so there is no top-1" in " ".join(capsys.readouterr().err.split())
    results = run_copy / "eval-test"
    assert pq.read_table(results / "scores.parquet").num_rows == 20
    metrics = json.loads((results / "metrics.json").read_text())
    assert (metrics["n"], metrics["split"], "top1" in metrics) == (0, "test", False)
    assert sorted(file.name for file in results.iterdir()) == ["metrics.json", "scores.parquet"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"classes": ["jump"], "renamed": dict.fromkeys(NAMES, "jump")}, "the store jump; classes are"),
        ({"layout": RENAMED}, "'joints 0: hip_center' in the model and 'joints 0: hips' in the store"),
        ({"camera": "", "split": ""}, "'test' of protocol nw_ucla_cross_view has no clips; --split all"),
    ],
    ids=["classes", "joints", "split"],
)
def test_a_store_that_does_not_fit_is_refused(
    finished_run, altered_store, tmp_path, changed, message, capsys
):
    other = altered_store(**changed)
    assert evaluate(finished_run, other, "--out", str(tmp_path / "out")) == 2
    err = capsys.readouterr().err
    assert message in err
    assert str(other) in err
    assert not (tmp_path / "out").exists()


def test_json_is_all_there_is_on_standard_output_and_fold_and_split_choose_the_clips(
    run_copy, store_folder, capsys
):
    assert evaluate(run_copy, store_folder, "--json", "--split", "train") == 0
    document = json.loads(capsys.readouterr().out)
    assert document == json.loads((run_copy / "eval-train" / "metrics.json").read_text())
    assert (document["n"], document["fold"]) == (40, None)
    spec = json.loads((run_copy / "config.json").read_text())
    (run_copy / "config.json").write_text(json.dumps(spec | {"fold": 0}))  # the model's own
    assert evaluate(run_copy, store_folder, "--split", "val", "--json") == 0
    metrics = json.loads(capsys.readouterr().out)
    assert (metrics["n"], metrics["fold"]) == (20, 0)

from __future__ import annotations

import dataclasses
import io
import json
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from hhmnet.cli import main
from hhmnet.skeleton import KINECT20, NTU25, SkeletonLayout
from hhmnet.store import Store, write_store
from hhmnet.synthetic import ACTIONS


def evaluate(run: Path, store: Path, *more: str) -> int:
    return main(["evaluate", str(run), "--data", str(store), *more])


@pytest.fixture
def altered_store(store_folder: Path, tmp_path: Path):
    """The sample store with other classes, another layout or no labels."""

    def write(
        classes: list[str] | None = None, layout: SkeletonLayout = KINECT20, labels: bool = True
    ) -> Path:
        store = Store(store_folder)

        def change(i: int):
            sample = store.sample(i)
            joints = sample.joints
            if layout.num_joints > joints.shape[2]:
                joints = np.concatenate([joints, joints[:, :, : layout.num_joints - joints.shape[2]]], 2)
            return dataclasses.replace(sample, joints=joints, label=sample.label if labels else -1)

        write_store(
            tmp_path / "other",
            (change(i) for i in range(len(store))),
            layout=layout,
            class_names=classes or store.class_names,
            protocol=store.protocol,
            provenance={},
        )
        return tmp_path / "other"

    return write


@pytest.fixture(scope="module")
def results(finished_run, store_folder, tmp_path_factory):
    """A folder of results, and what was printed to standard output and to standard error."""
    out = tmp_path_factory.mktemp("results") / "deep" / "test"
    printed, said = io.StringIO(), io.StringIO()
    with redirect_stdout(printed), redirect_stderr(said):
        assert evaluate(finished_run, store_folder, "--out", str(out)) == 0
    return out, printed.getvalue(), said.getvalue()


def test_writes_metrics_scores_and_pictures(results, store_folder):
    out, printed, said = results
    metrics = json.loads((out / "metrics.json").read_text())
    scores = pq.read_table(out / "scores.parquet")
    store = Store(store_folder)
    rows = np.flatnonzero(store.cameras == "3")

    assert scores.column_names == ["sample_id", "label", *store.class_names]
    assert scores["sample_id"].to_pylist() == store.sample_ids[rows].tolist()
    assert scores["label"].to_pylist() == store.labels[rows].tolist()

    logits = np.stack([scores[name].to_numpy() for name in store.class_names], 1)
    order = (-logits).argsort(1)
    labels = store.labels[rows]
    top1 = 100 * float(np.mean(order[:, 0] == labels))
    assert metrics["top1"] == pytest.approx(top1)
    assert metrics["top5"] == pytest.approx(100 * np.mean((order[:, :5] == labels[:, None]).any(1)))
    each = [100 * np.mean(order[labels == c, 0] == c) for c in range(10)]
    assert metrics["mean_class"] == pytest.approx(np.mean(each))
    assert [metrics["per_class"][name]["top1"] for name in store.class_names] == pytest.approx(each)
    low, high = metrics["top1_interval"]
    assert low <= top1 <= high
    about = {key: metrics[key] for key in ("n", "split", "protocol", "store", "fold")}
    assert about == {
        "n": 20, "split": "test", "protocol": "nw_ucla_cross_view", "store": "sample", "fold": None,
    }  # fmt: skip

    assert f"{top1:.2f}" in printed
    assert "95 % interval" in printed
    assert str(out) in said
    assert (out / "confusion.png").read_bytes().startswith(b"\x89PNG")
    assert "The surest mistakes" in (out / "report.html").read_text()


def test_json_is_all_there_is_on_standard_output_and_results_go_into_the_run(run_copy, store_folder, capsys):
    assert evaluate(run_copy, store_folder, "--json", "--split", "train") == 0
    document = json.loads(capsys.readouterr().out)
    assert document == json.loads((run_copy / "eval-train" / "metrics.json").read_text())
    assert document["n"] == 40


def test_the_same_model_gives_the_same_scores(finished_run, store_folder, results, tmp_path):
    assert evaluate(finished_run, store_folder, "--out", str(tmp_path)) == 0
    one, other = (pq.read_table(folder / "scores.parquet") for folder in (results[0], tmp_path))
    assert one.equals(other)


def test_validation_needs_a_fold(run_copy, store_folder, capsys):
    assert evaluate(run_copy, store_folder, "--split", "val") == 2
    assert "val needs a fold, such as --fold 0" in capsys.readouterr().err
    assert evaluate(run_copy, store_folder, "--split", "val", "--fold", "1") == 0
    metrics = json.loads((run_copy / "eval-val" / "metrics.json").read_text())
    assert (metrics["n"], metrics["fold"]) == (20, 1)


def test_the_models_own_fold_is_the_default(run_copy, store_folder):
    spec = json.loads((run_copy / "config.json").read_text())
    (run_copy / "config.json").write_text(json.dumps(spec | {"fold": 0}))
    assert evaluate(run_copy, store_folder, "--split", "train") == 0
    metrics = json.loads((run_copy / "eval-train" / "metrics.json").read_text())
    assert (metrics["n"], metrics["fold"]) == (20, 0)


NAMES = [action.name for action in ACTIONS]
RENAMED = dataclasses.replace(KINECT20, joints=("hips", *KINECT20.joints[1:]))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"classes": [*NAMES[:2], "pick it up", *NAMES[3:]]},
            "different classes: number 2 is 'pick up' in the model",
        ),
        ({"classes": [*NAMES, "jump"]}, "the model has 10, the store 11"),
        ({"layout": NTU25}, "different skeletons (kinect20 and ntu25)"),
        (
            {"layout": RENAMED},
            "field 'joints': number 0 is 'hip_center' in the model and 'hips' in the store",
        ),
    ],
)
def test_another_store_is_refused_by_the_first_difference(
    finished_run, altered_store, tmp_path, changed, message, capsys
):
    other = altered_store(**changed)
    assert evaluate(finished_run, other, "--out", str(tmp_path / "out")) == 2
    err = capsys.readouterr().err
    assert f"{finished_run} and {other} have" in err
    assert message in err
    assert not (tmp_path / "out").exists()


def test_clips_without_labels_are_scored_but_not_measured(run_copy, altered_store, capsys):
    assert evaluate(run_copy, altered_store(labels=False)) == 2
    assert "has a label, so there is nothing to measure" in capsys.readouterr().err
    assert pq.read_table(run_copy / "eval-test" / "scores.parquet").num_rows == 20


def test_an_unfinished_run_says_so(run_copy, store_folder, capsys):
    (run_copy / "model.safetensors").unlink()
    assert evaluate(run_copy, store_folder) == 2
    assert "training has not finished there" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--split", "tset"), "invalid choice: 'tset'"),
        (("--fold", "7", "--split", "val"), "has folds 0 to 1, got 7"),
        (("--device", "tpu"), "invalid choice: 'tpu'"),
    ],
)
def test_mistakes(run_copy, store_folder, capsys, more, message):
    assert evaluate(run_copy, store_folder, *more) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1

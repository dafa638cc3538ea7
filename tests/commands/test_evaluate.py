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
from hhmnet.skeleton import KINECT20, SkeletonLayout
from hhmnet.store import Store, write_store
from hhmnet.synthetic import ACTIONS


def evaluate(run: Path, store: Path, *more: str) -> int:
    return main(["evaluate", str(run), "--data", str(store), *more])


@pytest.fixture
def altered_store(store_folder: Path, tmp_path: Path):
    """The sample store with other classes, another skeleton or no labels."""

    def write(
        classes: list[str] | None = None, layout: SkeletonLayout = KINECT20, labels: bool = True
    ) -> Path:
        store = Store(store_folder)

        def change(i: int):
            sample = store.sample(i)
            return sample if labels else dataclasses.replace(sample, label=-1)

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
    labels = store.labels[rows]
    top1 = 100 * float(np.mean(logits.argmax(1) == labels))
    assert metrics["top1"] == pytest.approx(top1)
    low, high = metrics["top1_interval"]
    assert low <= top1 <= high
    about = {key: metrics[key] for key in ("n", "split", "protocol", "store", "fold")}
    assert about == {
        "n": 20, "split": "test", "protocol": "nw_ucla_cross_view", "store": "sample", "fold": None,
    }  # fmt: skip

    assert f"{top1:.2f}" in printed
    assert "95 % interval" in printed
    assert (out / "confusion.png").read_bytes().startswith(b"\x89PNG")
    assert "The surest mistakes" in (out / "report.html").read_text()


def test_json_is_all_there_is_on_standard_output_and_fold_and_split_choose_the_clips(
    run_copy, store_folder, capsys
):
    assert evaluate(run_copy, store_folder, "--json", "--split", "train") == 0
    document = json.loads(capsys.readouterr().out)
    assert document == json.loads((run_copy / "eval-train" / "metrics.json").read_text())
    assert (document["n"], document["fold"]) == (40, None)
    assert evaluate(run_copy, store_folder, "--split", "val") == 2
    assert "val needs a fold, such as --fold 0" in capsys.readouterr().err
    spec = json.loads((run_copy / "config.json").read_text())
    (run_copy / "config.json").write_text(json.dumps(spec | {"fold": 0}))  # the model's own
    for words, fold in (((), 0), (("--fold", "1"), 1)):
        assert evaluate(run_copy, store_folder, "--split", "val", "--json", *words) == 0
        metrics = json.loads(capsys.readouterr().out)
        assert (metrics["n"], metrics["fold"]) == (20, fold)


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


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--split", "tset"), "invalid choice: 'tset'"),
        (("--fold", "7", "--split", "val"), "has folds 0 to 1, got 7"),
    ],
)
def test_mistakes(run_copy, store_folder, capsys, more, message):
    assert evaluate(run_copy, store_folder, *more) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    (run_copy / "model.safetensors").unlink()
    assert evaluate(run_copy, store_folder) == 2
    assert "training has not finished there" in capsys.readouterr().err

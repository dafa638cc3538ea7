from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from hhmnet.data.dataset import ClipDataset
from hhmnet.data.transform import DataConfig
from hhmnet.evaluation.scores import Scores, ScoresError, score, score_streams
from hhmnet.models.pretrained import ActionModel, ModelSpec
from hhmnet.models.stst import STSTConfig
from hhmnet.skeleton import KINECT20
from hhmnet.store import Store


def build(store: Store, persons: int = 2, stream: str = "joint") -> ActionModel:
    torch.manual_seed(0)
    config = STSTConfig(widths=(16, 16), strides=(1, 2), head_width=8, dropout=0.5)
    data = DataConfig(stream=stream, frames=8, persons=persons, views=2)
    spec = ModelSpec(config, data, KINECT20, store.class_names)
    return ActionModel(spec.build(), spec)


def make() -> Scores:
    rng = np.random.default_rng(0)
    ids = np.array(["clip é", "b", "a longer name", "a"])
    logits = rng.normal(size=(4, 3)).astype(np.float32)
    return Scores(ids, np.array([2, 0, -1, 1]), logits, ("pick up", "wave", "kick"))


def assert_same(a: Scores, b: Scores) -> None:
    for name in ("sample_ids", "labels", "logits"):
        found, expected = getattr(a, name), getattr(b, name)
        assert found.dtype.kind == expected.dtype.kind
        np.testing.assert_array_equal(found, expected)
    assert a.class_names == b.class_names


# Scoring.


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_scores_are_each_clips_own_in_the_order_asked_for(patchy_store: Store, batch_size: int) -> None:
    model = build(patchy_store).eval()
    rows = np.array([17, 3, 4, 4, 0, 11])
    found = score(model, patchy_store, rows, batch_size)
    assert found.sample_ids.tolist() == [f"clip{i:03d}" for i in rows]
    assert found.labels.tolist() == patchy_store.labels[rows].tolist()
    assert found.class_names == patchy_store.class_names
    assert found.logits.dtype == np.float32
    for row, logits in zip(rows, found.logits, strict=True):
        clip = ClipDataset(patchy_store, np.array([row]), 2)[0].clips
        np.testing.assert_allclose(logits, model(clip)[0].detach().numpy(), atol=1e-5)


@pytest.mark.parametrize("training", [False, True])
def test_scoring_happens_in_eval_mode_and_leaves_the_model_as_it_was(
    tiny_store: Store, training: bool
) -> None:
    model = build(tiny_store, persons=1).train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first, again = (score(model, tiny_store, np.arange(12)).logits for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert all(module.training == training for module in model.modules())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    model.network.classifier.weight.sum().backward()  # nothing is left in inference mode


def test_every_member_has_scores_of_its_own(patchy_store: Store) -> None:
    model = build(patchy_store, stream="joint+bone").eval()
    rows = np.array([5, 0, 17])
    found = score_streams(model, patchy_store, rows, batch_size=2)
    assert list(found) == ["", "joint", "bone"]
    for name, scores in found.items():
        assert scores.sample_ids.tolist() == ["clip005", "clip000", "clip017"]
        assert scores.labels.tolist() == patchy_store.labels[rows].tolist()
        assert scores.class_names == patchy_store.class_names
        alone = score(model.single(name) if name else model, patchy_store, rows)
        np.testing.assert_allclose(scores.logits, alone.logits, atol=1e-5)
    assert np.abs(found["joint"].logits - found["bone"].logits).max() > 1e-3
    none = score_streams(model, patchy_store, rows[:0])
    assert {name: scores.logits.shape for name, scores in none.items()} == dict.fromkeys(found, (0, 3))


def test_no_clips_give_no_scores(tiny_store: Store) -> None:
    found = score(build(tiny_store), tiny_store, np.array([], np.int64))
    assert found.logits.shape == (0, 3)
    assert len(found.sample_ids) == len(found.labels) == 0


# The file.


def test_scores_survive_a_file(tmp_path: Path) -> None:
    make().save(tmp_path / "scores.parquet")
    assert_same(Scores.load(tmp_path / "scores.parquet"), make())
    assert [file.name for file in tmp_path.iterdir()] == ["scores.parquet"]


def test_no_scores_survive_a_file_too(tmp_path: Path) -> None:
    none = Scores(np.array([], np.str_), np.array([], np.int64), np.zeros((0, 2), np.float32), ("a", "b"))
    none.save(tmp_path / "scores.parquet")
    assert_same(Scores.load(tmp_path / "scores.parquet"), none)
    types = [str(field.type) for field in pq.read_schema(tmp_path / "scores.parquet")]
    assert types == ["string", "int64", "float", "float"]


def test_any_parquet_reader_finds_the_columns(tmp_path: Path) -> None:
    make().save(tmp_path / "scores.parquet")
    table = pq.read_table(tmp_path / "scores.parquet")
    assert table.column_names == ["sample_id", "label", "pick up", "wave", "kick"]
    assert [str(field.type) for field in table.schema] == ["string", "int64", "float", "float", "float"]
    np.testing.assert_array_equal(table["wave"].to_numpy(), make().logits[:, 1])


def test_saving_again_replaces_the_file(tmp_path: Path) -> None:
    file = tmp_path / "scores.parquet"
    make().save(file)
    other = Scores(np.array(["x"]), np.array([0]), np.ones((1, 1), np.float32), ("only",))
    other.save(file)
    assert_same(Scores.load(file), other)


@pytest.mark.parametrize("names", [("label", "wave", "kick"), ("wave", "wave", "kick")])
def test_columns_of_one_name_are_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    scores = make()
    with pytest.raises(ScoresError, match=r"scores\.parquet: each column needs a name of its own"):
        Scores(scores.sample_ids, scores.labels, scores.logits, names).save(tmp_path / "scores.parquet")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ScoresError, match=r"none\.parquet: not a score file"):
        Scores.load(tmp_path / "none.parquet")


@pytest.mark.parametrize("keep", [0, 10, -20])
def test_a_damaged_file_is_named(tmp_path: Path, keep: int) -> None:
    file = tmp_path / "scores.parquet"
    make().save(file)
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(ScoresError, match=r"scores\.parquet: not a score file \(.+\)$"):
        Scores.load(file)


@pytest.mark.parametrize(
    "columns",
    [
        {"label": [1], "sample_id": ["a"], "wave": [0.5]},
        {"sample_id": ["a"], "label": [1]},
        {"sample_id": ["a"], "label": ["one"], "wave": [0.5]},
        {"sample_id": ["a"], "label": [1], "wave": ["much"]},
        {"sample_id": ["a"], "label": [None], "wave": [0.5]},
        {"sample_id": ["a", "b"], "label": [1, 1], "wave": [0.5, None]},
    ],
    ids=str,
)
def test_a_foreign_table_is_refused(tmp_path: Path, columns: dict[str, list[object]]) -> None:
    pq.write_table(pa.table(columns), tmp_path / "table.parquet")
    with pytest.raises(ScoresError, match=r"table\.parquet: not a score file"):
        Scores.load(tmp_path / "table.parquet")


def test_labels_that_are_not_whole_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "scores.parquet"
    table = pa.table({"sample_id": ["a"], "label": [float("nan")], "walk": [0.5], "run": [0.5]})
    pq.write_table(table, file)
    with pytest.raises(ScoresError, match="its labels must be whole numbers"):
        Scores.load(file)

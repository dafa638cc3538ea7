from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from hhmnet.data.dataset import ClipDataset
from hhmnet.data.transform import DataConfig
from hhmnet.evaluation.scores import Scores, ScoresError, score_streams
from hhmnet.models.pretrained import ActionModel, ModelSpec
from hhmnet.models.stst import STSTConfig
from hhmnet.skeleton import KINECT20
from hhmnet.store import Store


def build(store: Store, stream: str) -> ActionModel:
    torch.manual_seed(0)
    config = STSTConfig(widths=(16, 16), strides=(1, 2), head_width=8, dropout=0.5)
    data = DataConfig(stream=stream, frames=8, persons=2)
    spec = ModelSpec(config, data, KINECT20, store.class_names)
    return ActionModel(spec.build(), spec)


CLASSES = ("pick up", "wave", "kick")


def make() -> Scores:
    rng = np.random.default_rng(0)
    ids = np.array(["clip é", "b", "a longer name", "a"])
    logits = rng.normal(size=(4, 3)).astype(np.float32)
    return Scores(ids, np.array([2, 0, -1, 1]), logits, CLASSES)


def test_scores_are_each_clips_own_in_the_order_asked_for_of_every_member(patchy_store: Store) -> None:
    model = build(patchy_store, "joint+bone").train()
    rows = np.array([17, 3, 4, 4, 0, 11])
    found = score_streams(model, patchy_store, rows, batch_size=4)
    assert all(module.training for module in model.modules()), "it is left as it was"
    model.eval()
    assert list(found) == ["", "joint", "bone"]
    for name, scores in found.items():
        assert scores.sample_ids.tolist() == [f"clip{i:03d}" for i in rows]
        assert scores.labels.tolist() == patchy_store.labels[rows].tolist()
        assert scores.class_names == patchy_store.class_names
        assert scores.logits.dtype == np.float32
        alone = model.single(name) if name else model
        for row, logits in zip(rows, scores.logits, strict=True):
            clip = ClipDataset(patchy_store, np.array([row]), 2).__getitems__([0]).clips
            np.testing.assert_allclose(logits, alone(clip)[0].detach().numpy(), atol=1e-5)
    assert np.abs(found["joint"].logits - found["bone"].logits).max() > 1e-3
    none = score_streams(model, patchy_store, rows[:0])
    assert {name: scores.logits.shape for name, scores in none.items()} == dict.fromkeys(found, (0, 3))


def test_scores_survive_a_file_that_any_reader_of_parquet_takes(tmp_path: Path) -> None:
    file, scores = tmp_path / "scores.parquet", make()
    scores.save(file)
    found = Scores.load(file)
    for name in ("sample_ids", "labels", "logits"):
        np.testing.assert_array_equal(getattr(found, name), getattr(scores, name))
    assert found.class_names == scores.class_names
    table = pq.read_table(file)
    assert table.column_names == ["sample_id", "label", *CLASSES]
    assert [str(field.type) for field in table.schema] == ["string", "int64", "float", "float", "float"]
    np.testing.assert_array_equal(table["wave"].to_numpy(), scores.logits[:, 1])
    with pytest.raises(ScoresError, match=r"scores\.parquet: each column needs a name of its own"):
        replace(scores, class_names=("label", "wave", "kick")).save(file)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (None, ""),
        ({"label": [1], "sample_id": ["a"], "wave": [0.5]}, "columns must be sample_id, label"),
        ({"sample_id": ["a"], "label": ["one"], "wave": [0.5]}, "labels must be whole numbers"),
        ({"sample_id": ["a"], "label": [1], "wave": ["much"]}, ""),
        ({"sample_id": ["a", "b"], "label": [1, 1], "wave": [0.5, None]}, "it has gaps"),
    ],
    ids=str,
)
def test_a_file_that_holds_no_scores_is_named(tmp_path, columns, message):
    file = tmp_path / "table.parquet"
    if columns is None:
        make().save(file)
        file.write_bytes(file.read_bytes()[:-20])
    else:
        pq.write_table(pa.table(columns), file)
    with pytest.raises(ScoresError, match=rf"table\.parquet: not a score file \(.*{message}"):
        Scores.load(file)

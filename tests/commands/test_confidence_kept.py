"""From training to the answer: temperature and the unknown are kept with a model, and a later one can take them."""

from __future__ import annotations

import json

from hhmnet.cli import main
from hhmnet.confidence import neighbours_of
from hhmnet.models.pretrained import from_pretrained
from hhmnet.predict.recognizer import Recognizer
from hhmnet.store import Store


def test_a_fold_says_how_sure_a_model_may_be(store_folder, recipe, tmp_path, capsys):
    train = ["train", "--config", str(recipe), "--data", str(store_folder)]
    fold, whole = tmp_path / "fold", tmp_path / "whole"
    assert main([*train, "--out", str(fold), "--fold", "0"]) == 0
    assert main([*train, "--out", str(whole), "--calibration", str(fold)]) == 0
    ours, theirs = (from_pretrained(run).spec.confidence["skeleton"] for run in (whole, fold))
    assert ours == theirs
    assert ours.temperature != 1
    counts = [len(neighbours_of({"": one})[""]) for one in (ours, theirs)]
    assert counts == [40, 20]
    capsys.readouterr()
    evaluate = ["evaluate", str(whole), "--data", str(store_folder), "--json", "--device", "cpu"]
    assert main([*evaluate, "--unknown", str(store_folder)]) == 0
    metrics = json.loads(capsys.readouterr().out)
    assert metrics["temperature"] == ours.temperature
    assert metrics["unknown"]["n"] == 60
    clip = Store(store_folder)[0]
    sure = Recognizer.from_pretrained(whole, unknown=0).predict(clip)
    assert sure.known
    assert sure.label == sure.top[0][0]

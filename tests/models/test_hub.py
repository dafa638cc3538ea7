"""Names of models: where each is looked for, and what is said of one that is nowhere."""

from __future__ import annotations

import json
from pathlib import Path

import huggingface_hub.constants
import pytest

import hhmnet
from hhmnet.cli import main
from hhmnet.models.hub import ZOO, find_model
from made_models import skeleton_model


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """The snapshot of ``someone/fights`` in a cache of the hub's, on a machine without a network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    repository = tmp_path / "cache" / "models--someone--fights"
    snapshot = repository / "snapshots" / ("ab" * 20)
    skeleton_model().save_pretrained(snapshot)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(snapshot.name)
    return snapshot


def test_a_model_of_the_hub_comes_from_its_cache(cached, tiny_store, capsys):
    model = hhmnet.from_pretrained("someone/fights")
    assert model.spec == skeleton_model().spec
    assert main(["predict", "someone/fights", str(tiny_store.path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found) == len(tiny_store)
    assert found[0]["label"] == hhmnet.Recognizer(model).predict(tiny_store[0]).label


def test_what_is_nowhere_is_told_in_one_line(cached, capsys):
    assert main(["predict", "someone/else", "clip.json"]) == 2
    error = capsys.readouterr().err
    assert "someone/else: neither a folder nor a model of the zoo, and not to be had from" in error
    assert error.count("\n") == 1


def test_what_is_here_comes_first(cached, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_model("someone/fights") == cached
    (tmp_path / "someone" / "fights").mkdir(parents=True)
    assert find_model("someone/fights") == Path("someone/fights")
    assert find_model("no/such.onnx") == Path("no/such.onnx")
    assert find_model(tmp_path / "nothing") == tmp_path / "nothing"
    if ZOO.exists():
        assert find_model("nw_ucla/homogeneous") == ZOO / "nw_ucla" / "homogeneous"

from __future__ import annotations

import json
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from hhmnet.cli import main
from hhmnet.commands import doctor

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]


def test_json_knows_every_part_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["machine"]["torch"] == torch.__version__
    extras = set(PROJECT["optional-dependencies"]) - {"all"}
    assert set(found["optional"]) == extras == set(doctor.PURPOSES)
    needed = {canonicalize_name(part["name"]) for part in found["needed"]}
    assert needed == {canonicalize_name(Requirement(text).name) for text in PROJECT["dependencies"]}
    assert not any(part["problem"] for part in found["needed"])
    assert set(found["networks"]["cached"]).isdisjoint(found["networks"]["missing"])
    assert found["machine"]["cores"] >= 1


def test_a_missing_part_says_how_to_get_it_and_a_broken_torch_is_no_traceback(monkeypatch, capsys):
    real, absent = metadata.version, Mock(side_effect=metadata.PackageNotFoundError)
    monkeypatch.setattr(
        metadata, "version", lambda name: (absent if name in ("onnx", "rich") else real)(name)
    )
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main(["doctor"]) == 2
    said = capsys.readouterr().out
    assert "pip install 'hhmnet[export]' (lacks onnx)" in said
    assert "rich isn't installed: pip install 'rich>=13'" in said
    assert "can't be imported" in said

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hhmnet.prepare.fingerprint import fingerprint_files, fingerprint_work
from made_reader import Made, MadeConfig, put_made


def work(reader: Made, items: tuple[str, ...] = ("a", "b"), chunk: int = 3) -> str:
    return fingerprint_work(reader, items, chunk)


def test_work_is_told_apart_by_what_decides_its_outcome(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    reader = Made(tmp_path)
    learned, taught = Made(tmp_path), Made(tmp_path)
    learned.table, taught.table = {"a": 1, "b": 2}, {"a": 1, "b": 3}  # type: ignore[attr-defined]
    odd = Made(tmp_path)
    odd.rest = np.arange(6.0).reshape(2, 3)  # type: ignore[attr-defined]
    turned = Made(tmp_path)
    turned.rest = np.arange(6.0).reshape(3, 2)  # type: ignore[attr-defined]
    found = [
        work(reader),
        work(Made(tmp_path / "other")),
        work(Made(tmp_path, MadeConfig(scale=2))),
        work(reader, ("a", "c")),
        work(reader, ("ab",)),
        work(reader, chunk=4),
        work(learned),
        work(taught),
        work(odd),
        work(turned),
        work(type("Remade", (Made,), {})(tmp_path)),
    ]
    assert len(set(found)) == len(found)
    assert work(Made(tmp_path)) == found[0]


@pytest.mark.parametrize("seed", ["0", "1", "2"])
def test_work_is_the_same_in_every_process(tmp_path: Path, seed: str) -> None:
    script = (
        "import sys; from pathlib import Path; from made_reader import Made\n"
        "from hhmnet.prepare.fingerprint import fingerprint_work\n"
        "reader = Made(Path(sys.argv[1])); reader.names = {'a', 'b', 'c', 'd'}; reader.thing = object()\n"
        "print(fingerprint_work(reader, ['a'], 3))"
    )
    environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
    found = subprocess.check_output([sys.executable, "-c", script, str(tmp_path)], env=environment, text=True)
    reader = Made(tmp_path)
    reader.names = {"d", "c", "b", "a"}  # type: ignore[attr-defined]
    reader.thing = object()  # type: ignore[attr-defined]
    assert found.strip() == fingerprint_work(reader, ["a"], 3)


def test_the_code_of_a_reader_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = work(Made(tmp_path))
    edited = tmp_path / "edited.py"
    edited.write_text("# another text")
    monkeypatch.setattr("inspect.getsourcefile", lambda kind: str(edited))
    assert work(Made(tmp_path)) != before
    monkeypatch.setattr("inspect.getsourcefile", lambda kind: None)  # made at a prompt
    assert work(Made(tmp_path)) == work(Made(tmp_path))


def test_files_are_told_apart_by_size_and_time(tmp_path: Path) -> None:
    items = ["0000.made", "0001.made"]
    put_made(tmp_path, ["ok", "ok"])
    before = fingerprint_files(tmp_path, items)
    os.utime(tmp_path / items[0], ns=(0, 12345))
    touched = fingerprint_files(tmp_path, items)
    (tmp_path / items[1]).unlink()
    gone = fingerprint_files(tmp_path, items)
    assert len({before, touched, gone}) == 3


def test_a_clip_in_a_file_of_many_goes_by_that_file(tmp_path: Path) -> None:
    put_made(tmp_path, ["ok"])
    before = fingerprint_files(tmp_path, ["0000.made#one"])
    (tmp_path / "0000.made").write_text("ok 12345")
    assert fingerprint_files(tmp_path, ["0000.made#one"]) != before
    (tmp_path / "0000.made#one").write_text("a file whose own name has that sign")
    assert fingerprint_files(tmp_path, ["0000.made#one"]) != fingerprint_files(tmp_path, ["0000.made#two"])

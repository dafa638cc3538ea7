from __future__ import annotations

from pathlib import Path

import pytest

from hhmnet import readers
from hhmnet.readers import SourceError, get_reader
from made_reader import Made


def test_items_are_sorted_relative_paths_of_its_files(tmp_path: Path) -> None:
    names = ["b.made", "a/c.MADE", "a/b/x.made", "a.made"]
    for name in [*names, ".hidden.made", ".folder/a.made", "a/other.txt", "made"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.made").mkdir()
    assert Made(tmp_path).items() == sorted(names)


def test_a_source_that_is_none_or_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SourceError, match=r"holds no made-up files files \(\.made\)"):
        Made(tmp_path).items()
    with pytest.raises(SourceError, match=r"no folder at .*nowhere"):
        Made(tmp_path / "nowhere")

    def refuse(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(SourceError, match="can't be listed: Permission denied"):  # it is no empty one
        Made(tmp_path).items()


def test_unknown_readers_and_missing_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"unknown reader 'none'; known: .*nw_ucla"):
        get_reader("none", tmp_path)
    monkeypatch.setitem(readers.READERS, "far", ("hhmnet_far.readers:Far", "far"))
    with pytest.raises(SourceError, match=r"'far' needs the package 'hhmnet_far'.*pip install 'hhmnet\[all"):
        get_reader("far", tmp_path)
    monkeypatch.setitem(readers.READERS, "near", ("hhmnet.readers.near:Near", "near"))
    with pytest.raises(ModuleNotFoundError):  # that would be our own fault
        get_reader("near", tmp_path)

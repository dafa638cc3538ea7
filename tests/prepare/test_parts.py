"""From raw files to a store: the same bytes however it comes about."""

from __future__ import annotations

import csv
import os
import shutil
import tempfile
import traceback
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hhmnet.arrow
from hhmnet.prepare import PrepareError, prepare
from hhmnet.prepare.parts import PARTS_FOLDER, fingerprint_files
from hhmnet.readers.nw_ucla import NWUCLA
from hhmnet.sample import Sample
from hhmnet.skeleton import KINECT20
from hhmnet.store import SAMPLES_FILE, Store
from made_clips import CUT, LABEL, NAME, clip, put
from made_reader import Made, MadeConfig, put_made


def test_prepare_keeps_the_good_and_lists_the_bad(tmp_path: Path) -> None:
    source, out = tmp_path / "raw", tmp_path / "store"
    (source / "again").mkdir(parents=True)
    for name, label in (("a01_s01_e00_v01", 1), ("a02_s10_e00_v03", 2), (NAME, LABEL)):
        put(source, clip(name, label), name)
    put(source, CUT, "a03_s01_e00_v01")
    put(source / "again", clip())
    odd: list[str] = []
    with suppress(OSError):  # where the file system takes only names that are text
        (source / os.fsdecode(b"odd\xff.json")).write_text("{}")
        odd.append("odd\\udcff.json")
    report = prepare(NWUCLA(source), out)
    assert (report.accepted, report.frames, report.resumed) == (3, 9, 0)
    assert report.counts["camera"] == {"1": 1, "2": 1, "3": 1}
    assert report.rejected[0][:2] == ("a03_s01_e00_v01.json", CUT.count("\n") + 1)
    assert report.rejected[1] == (f"again/{NAME}.json", None, f"sample id '{NAME}' is taken by {NAME}.json")
    store = Store(out)
    assert store.sample_ids.tolist() == ["a01_s01_e00_v01", "a02_s10_e00_v03", NAME]
    assert store.labels.tolist() == [0, 1, 6]
    assert (store.layout, store.protocol) == (KINECT20, "nw_ucla_cross_view")
    assert store.class_names == NWUCLA(source).class_names
    assert str(tmp_path).encode() not in (out / SAMPLES_FILE).read_bytes()
    assert [bad.file for bad in report.rejected[2:]] == odd
    listed = list(csv.reader((out / "rejected.csv").read_text().splitlines()))
    assert listed[1:] == [["" if word is None else str(word) for word in bad] for bad in report.rejected]
    assert sorted(os.listdir(out)) == ["rejected.csv", SAMPLES_FILE]


def test_prepare_makes_no_store_of_nothing(tmp_path: Path) -> None:
    """An older one stays."""
    source, out = put_made(tmp_path / "raw", ["ok"]), tmp_path / "store"
    prepare(Made(source), out)
    before = (out / SAMPLES_FILE).read_bytes()
    (source / "0000.made").write_text("bad 1")
    for folder in (out, tmp_path / "new"):
        with pytest.raises(PrepareError, match=r"1 of 1 files in .*raw can't be used; .*rejected\.csv"):
            prepare(Made(source), folder)
        assert (folder / "rejected.csv").read_text().splitlines()[1:] == ["0000.made,1,it is bad"]
    assert (out / SAMPLES_FILE).read_bytes() == before
    assert sorted(os.listdir(out)) == ["rejected.csv", SAMPLES_FILE]
    assert os.listdir(tmp_path / "new") == ["rejected.csv"]


def test_a_sample_that_does_not_fit_costs_only_itself(tmp_path: Path) -> None:
    source = put_made(tmp_path / "raw", ["gone", "misfit", "nan", "ok", "bad 7"])
    report = prepare(Made(source), tmp_path / "store")
    assert report.accepted == 1
    told = [
        "can't be read: Permission denied",
        "20 joints, the data has 17",
        "field 'joints': holds NaN",
        "it is bad",
    ]
    for bad, number, line, reason in zip(report.rejected, "0124", (None, None, None, 7), told, strict=True):
        assert (bad.file, bad.line) == (f"000{number}.made", line)
        assert reason in bad.reason


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_fault_in_a_reader_is_raised_and_names_the_item(tmp_path: Path, jobs: int) -> None:
    source, told = put_made(tmp_path / "raw", ["ok"] * 4 + ["crash"]), list[str]()
    with pytest.raises(KeyError, match="a fault in the reader") as caught:
        prepare(Made(source), tmp_path / "store", jobs=jobs, tell=told.append)
    text = "".join(traceback.format_exception(caught.value))
    assert "(while Made read '0004.made')" in text
    assert "made_reader.py" in text, "it is said where it came about"
    kept = f"3 of 5 items are read and kept in {tmp_path / 'store' / PARTS_FOLDER}; the same call goes on from there"
    assert told == [kept] or jobs > 1


LONG = [f"{word} {number}" for word in ("ok", "ok", "two", "full") for number in range(1, 10)]
WORDS = st.sampled_from(LONG) | st.sampled_from(["same", "same", "bad 3", "nan", "misfit"])


class Stop(BaseException):
    """Stands for Ctrl-C."""


@settings(max_examples=15, deadline=None)
@given(
    texts=st.lists(WORDS, min_size=1, max_size=14).map(lambda texts: [*texts, "ok 2"]),
    chunk=st.integers(1, 5),
    stops=st.lists(st.integers(0, 15), max_size=3),
    samples=st.integers(1, 5),
    weight=st.sampled_from([1, 1500, 10**6]),
)
def test_the_bytes_are_always_the_same(
    texts: list[str], chunk: int, stops: list[int], samples: int, weight: int
) -> None:
    """Chunks of any size, and interruptions after any items, leave no trace in the store."""
    with tempfile.TemporaryDirectory() as temporary, pytest.MonkeyPatch.context() as patch:
        folder = Path(temporary)
        patch.setattr(Made, "chunk", chunk)
        patch.setattr(hhmnet.arrow, "_BATCH_SAMPLES", samples)
        patch.setattr(hhmnet.arrow, "_BATCH_BYTES", weight)
        reader = Made(put_made(folder / "raw", texts))
        finished = 0
        for stop in stops:
            resumed = interrupt(reader, folder / "store", stop)
            assert resumed is None or finished <= resumed <= len(texts)
            finished = resumed or 0
        report = prepare(reader, folder / "store")

        reader.chunk = 100  # type: ignore[misc]
        expected = prepare(reader, folder / "plain")
        assert replace(report, resumed=0) == expected
        for name in (SAMPLES_FILE, "rejected.csv"):
            assert (folder / "store" / name).read_bytes() == (folder / "plain" / name).read_bytes()
        assert sorted(os.listdir(folder / "store")) == ["rejected.csv", SAMPLES_FILE]


def interrupt(reader: Made, out: Path, after: int) -> int | None:
    """Prepare, but stop after so many items; how many were there from an earlier call."""
    begun: list[int] = []
    read, left = Made.read, iter(range(after))

    def read_some(self: Made, item: str, notes: Counter[str]) -> Sample:
        if next(left, None) is None:
            raise Stop
        return read(self, item, notes)

    with pytest.MonkeyPatch.context() as patch, suppress(Stop):
        patch.setattr(Made, "read", read_some)
        prepare(reader, out, progress=lambda done, total: begun.append(done))
        return None
    return begun[0]


@pytest.fixture
def half_done(tmp_path: Path) -> tuple[Path, Path]:
    """A source of nine items, and a folder where the first six of them are read."""
    source, out = put_made(tmp_path / "raw", ["ok 2"] * 9), tmp_path / "store"
    interrupt(Made(source), out, 7)
    assert len(list((out / PARTS_FOLDER).rglob("*.arrow"))) == 2
    return source, out


@pytest.mark.parametrize("change", ["option", "item", "version", "source", "code"])
def test_parts_of_something_else_are_thrown_away(
    half_done: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    source, out = half_done
    config = MadeConfig(scale=2) if change == "option" else None
    if change == "item":
        (source / "0009.made").write_text("ok 2")
    if change == "version":
        monkeypatch.setattr("hhmnet.__version__", "99")
    if change == "code":
        edited = tmp_path / "edited.py"
        edited.write_text("# another text")
        monkeypatch.setattr("inspect.getsourcefile", lambda kind: str(edited))
    if change == "source":
        source = Path(shutil.move(source, source.with_name("other")))
    told: list[str] = []
    report = prepare(Made(source, config), out, tell=told.append)
    assert report.resumed == 0
    assert told == [f"{out / PARTS_FOLDER}: what an earlier, different call had read there is thrown away"]
    if change == "option":
        expected = 2 * Made(source).read("0000.made", Counter()).joints
        np.testing.assert_allclose(Store(out).joints(0), expected, rtol=1e-6)


def test_a_file_that_changed_is_read_again(half_done: tuple[Path, Path]) -> None:
    source, out = half_done
    (source / "0004.made").write_text("ok 5")
    report = prepare(Made(source), out)
    assert report.resumed == 3
    assert Store(out).lengths.tolist() == [2] * 4 + [5] + [2] * 4


@pytest.mark.parametrize("content", [b"", b"no Arrow file", None])
def test_a_part_that_is_not_whole_is_made_again(half_done: tuple[Path, Path], content: bytes | None) -> None:
    source, out = half_done
    part = min((out / PARTS_FOLDER).rglob("*.arrow"))
    part.write_bytes(part.read_bytes()[:-20] if content is None else content)
    (out / PARTS_FOLDER / ".half.arrow.0123.tmp").write_text("half")
    report = prepare(Made(source), out)
    assert (report.resumed, report.accepted) == (3, 9)
    assert sorted(os.listdir(out)) == ["rejected.csv", SAMPLES_FILE]


def test_an_interruption_before_anything_is_read_leaves_nothing(tmp_path: Path) -> None:
    interrupt(Made(put_made(tmp_path / "raw", ["ok"] * 9)), tmp_path / "store", 1)
    assert not (tmp_path / "store").exists()


def test_a_clip_in_a_file_of_many_goes_by_that_file(tmp_path: Path) -> None:
    put_made(tmp_path, ["ok"])
    before = fingerprint_files(tmp_path, ["0000.made#one"])
    (tmp_path / "0000.made").write_text("ok 12345")
    assert fingerprint_files(tmp_path, ["0000.made#one"]) != before
    (tmp_path / "0000.made#one").write_text("a file whose own name has that sign")
    assert fingerprint_files(tmp_path, ["0000.made#one"]) != fingerprint_files(tmp_path, ["0000.made#two"])

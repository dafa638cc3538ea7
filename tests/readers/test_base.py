from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from made_clips import CUT, LABEL, NAME, clip, put

from hhmnet.readers import PrepareError, Rejected, prepare
from hhmnet.readers.nw_ucla import NWUCLA
from hhmnet.sample import Sample
from hhmnet.skeleton import KINECT20
from hhmnet.store import SAMPLES_FILE, Store


def test_prepare_keeps_the_good_and_lists_the_bad(tmp_path: Path) -> None:
    source, out = tmp_path / "raw", tmp_path / "store"
    (source / "again").mkdir(parents=True)
    for name, label in (("a01_s01_e00_v01", 1), ("a02_s10_e00_v03", 2), (NAME, LABEL)):
        put(source, clip(name, label), name)
    put(source, CUT, "a03_s01_e00_v01")
    put(source, "[1,\n2", "a04_s01_e00_v01")
    put(source / "again", clip())
    steps: list[tuple[int, int]] = []
    report = prepare(NWUCLA(source), out, progress=lambda done, total: steps.append((done, total)))

    assert steps == [(done, 6) for done in range(1, 7)]
    assert (report.accepted, report.frames) == (3, 9)
    assert report.counts["camera"] == {"1": 1, "2": 1, "3": 1}
    assert report.counts["subject"] == {"1": 1, "10": 1, "3": 1}
    assert report.counts["class"] == {"pick up with one hand": 1, "pick up with two hands": 1, "donning": 1}
    assert [(bad.file, bad.line) for bad in report.rejected] == [
        ("a03_s01_e00_v01.json", CUT.count("\n") + 1),
        ("a04_s01_e00_v01.json", 2),
        (f"again/{NAME}.json", None),
    ]
    assert report.rejected[2].reason == f"sample id '{NAME}' is taken by {NAME}.json"

    store = Store(out)
    assert store.sample_ids.tolist() == ["a01_s01_e00_v01", "a02_s10_e00_v03", NAME]
    assert store.labels.tolist() == [0, 1, 6]
    assert (store.layout, store.protocol) == (KINECT20, "nw_ucla_cross_view")
    assert store.class_names == NWUCLA(source).class_names
    assert store.provenance["reader"] == "nw_ucla"
    assert store.provenance["source"] == "raw"
    assert store.provenance["counts"] == {"files": 6}
    assert str(tmp_path).encode() not in (out / SAMPLES_FILE).read_bytes()
    assert listed(out) == report.rejected
    assert sorted(os.listdir(out)) == ["rejected.csv", SAMPLES_FILE]


def test_prepare_lists_a_file_whose_name_is_not_text(tmp_path: Path) -> None:
    put(tmp_path, clip())
    try:
        (tmp_path / os.fsdecode(b"odd\xff.json")).write_text("{}")
    except OSError:
        pytest.skip("this file system takes only names that are text")
    report = prepare(NWUCLA(tmp_path), tmp_path / "store")
    assert [bad.file for bad in report.rejected] == ["odd\\udcff.json"]
    assert listed(tmp_path / "store") == report.rejected


def test_prepare_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    for name, label in ((NAME, LABEL), ("a01_s01_e00_v01", 1)):
        put(tmp_path / "raw", clip(name, label), name)
    for out in ("one", "two"):
        prepare(NWUCLA(tmp_path / "raw"), tmp_path / out)
    one, two = ((tmp_path / out / SAMPLES_FILE).read_bytes() for out in ("one", "two"))
    assert one == two
    assert (tmp_path / "one" / "rejected.csv").read_text() == "file,line,reason\n"


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize("strict", [False, True])
def test_prepare_makes_no_store_of_nothing_or_if_strict(tmp_path: Path, older: bool, strict: bool) -> None:
    source, out = tmp_path / "raw", tmp_path / "store"
    source.mkdir()
    if older:
        put(source, clip("a01_s01_e00_v01", 1), "a01_s01_e00_v01")
        prepare(NWUCLA(source), out)
        (source / "a01_s01_e00_v01.json").unlink()
    put(source, "{}")
    if strict:
        put(source, clip("a02_s01_e00_v01", 2), "a02_s01_e00_v01")
    count = "1 of 2" if strict else "1 of 1"
    with pytest.raises(
        PrepareError, match=rf"{count} files in .*raw can't be used; .*rejected\.csv says why"
    ):
        prepare(NWUCLA(source), out, strict=strict)
    assert [bad.file for bad in listed(out)] == [f"{NAME}.json"]
    if older:
        assert Store(out).sample_ids.tolist() == ["a01_s01_e00_v01"]
    else:
        assert os.listdir(out) == ["rejected.csv"]


def test_prepare_goes_on_after_a_sample_that_does_not_fit(tmp_path: Path) -> None:
    class Odd(NWUCLA):
        def read(self, file: Path) -> Sample:
            sample = super().read(file)
            fault = file.stem[2]
            if fault == "1":
                raise PermissionError(13, "Permission denied", str(file))
            fields = {
                name: getattr(sample, name) for name in ("sample_id", "label", "present", "frame_index")
            }
            if fault == "2":
                return Sample(**fields, joints=sample.joints[:, :, :17])
            return Sample(**fields, joints=sample.joints * (np.nan if fault == "3" else 1))

    for action, label in ((1, 1), (2, 2), (3, 3), (4, 4)):
        name = f"a{action:02}_s01_e00_v01"
        put(tmp_path, clip(name, label), name)
    report = prepare(Odd(tmp_path), tmp_path / "store")
    assert report.accepted == 1
    reasons = [bad.reason for bad in report.rejected]
    assert reasons[0] == "can't be read: Permission denied"
    assert "20 joints, the data has 17" in reasons[1]
    assert "field 'joints': holds NaN" in reasons[2]


def listed(out: Path) -> list[Rejected]:
    with open(out / "rejected.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["file", "line", "reason"]
    return [Rejected(file, int(line) if line else None, reason) for file, line, reason in rows[1:]]

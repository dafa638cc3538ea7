from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from hhmnet.cli import main
from hhmnet.readers import ReadError, SourceError
from hhmnet.readers.ntu import NTU60, NTU120, NTUConfig
from hhmnet.readers.recorded import LONGER
from hhmnet.store import Store
from made_ntu import ID, NAME, Body, changed, put, skeleton
from made_video import picture, write_video


def test_a_clip_and_its_video_in_another_folder(tmp_path: Path) -> None:
    """Also where nobody is seen in some frames, and some joints have no place in the picture."""
    body = Body(frames=[2, 3, 7], values={(2, 2, 5): "nan", (3, 4, 6): "-1.#INF"})
    raw, videos = tmp_path / "raw", tmp_path / "videos"
    put(raw / "S001", skeleton((body,), frames=10))
    (videos / "deep").mkdir(parents=True)
    write_video(videos / f"deep/{NAME}_rgb.avi", "mpeg4", pictures=[picture(number) for number in range(13)])
    reader, notes = NTU60(raw, NTUConfig(videos=videos)), Counter[str]()
    sample = reader.read(f"S001/{NAME}.skeleton", notes)
    assert (sample.sample_id, sample.label) == (NAME, 12)
    assert (sample.setup, sample.camera, sample.subject, sample.split) == ("1", "2", "3", "")
    assert sample.frame_index.tolist() == sample.video_frames.tolist() == list(range(10))  # type: ignore[union-attr]
    assert np.flatnonzero(sample.present[0]).tolist() == [2, 3, 7]
    assert set(np.unique(sample.confidence)) == {0, 0.5, 1}
    assert sample.video == f"deep/{NAME}_rgb.avi"
    assert (reader.video_folder, reader.options["videos"]) == (videos, "videos")
    assert notes == {
        "frame without a person: kept and masked": 7,
        "joint without finite pixels: pixels and confidence set to 0": 2,
        LONGER: 1,
    }


def test_a_clip_without_a_body_is_refused(tmp_path: Path) -> None:
    zeros = {(frame, joint, axis): "0" for frame in range(20) for joint in range(25) for axis in range(3)}
    for bodies in ((), (Body(values=zeros),)):
        put(tmp_path, skeleton(bodies))
        with pytest.raises(ReadError, match=r"^no frame has a body$"):
            NTU60(tmp_path).read(f"{NAME}.skeleton", Counter())
    os.truncate(tmp_path / f"{NAME}.skeleton", 2**26 + 1)  # what it holds isn't looked at
    with pytest.raises(ReadError, match="is larger than 64 MiB, so it is no skeleton file"):
        NTU60(tmp_path).read(f"{NAME}.skeleton", Counter())


@pytest.mark.parametrize(
    ("name", "reason60", "reason120"),
    [
        ("S017C003P040R002A060", "", ""),
        ("S018C001P001R001A001", "setup 18 in the file's name is not in NTU RGB+D 60 (1 to 17); the reader", ""),
        ("S032C003P106R002A120", "action 120 in", ""),
        ("S033C001P001R001A001", "setup 33 in", "setup 33 in the file's name is not in NTU RGB+D 120 (1 to 32)"),
        ("S001C001P001R001A000", "action 0 in", "action 0 in"),
        ("S٠٠1C001P001R001A001", "not of the form", "not of the form"),  # noqa: RUF001
    ],
)  # fmt: skip
def test_names_of_each_data_set(tmp_path: Path, name: str, reason60: str, reason120: str) -> None:
    put(tmp_path, name=name)
    for reader, reason in ((NTU60(tmp_path), reason60), (NTU120(tmp_path), reason120)):
        if not reason:
            sample = reader.read(f"{name}.skeleton", Counter())
            assert (sample.sample_id, sample.label) == (name, int(name[-3:]) - 1)
            continue
        with pytest.raises(ReadError) as caught:
            reader.read(f"{name}.skeleton", Counter())
        assert reason in caught.value.reason
        assert (";" in caught.value.reason) == (not reason120)


def test_a_list_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    put(tmp_path)
    (tmp_path / "empty.txt").touch()
    (tmp_path / "wrong.txt").write_text(f"{NAME}\nS1C1\n")
    for listed, message in (
        ("empty.txt", "lists no clips"),
        ("wrong.txt", "line 2: 'S1C1' must be a name such as"),
        ("none.txt", "No such file"),
    ):
        with pytest.raises(SourceError, match=rf"{listed}.*{message}"):
            NTU60(tmp_path, NTUConfig(missing=tmp_path / listed))


@pytest.mark.parametrize(
    ("reader", "listed", "accepted", "missing"),
    [
        ("ntu60", "NTU_RGBD_samples_with_missing_skeletons.txt", 3, True),
        ("ntu120", "missing_skeletons_120.txt", 4, True),
        ("ntu120", "missing_skeletons_60.txt", 5, False),
    ],
)
def test_the_command(
    tmp_path: Path, reader: str, listed: str, accepted: int, missing: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Clips of two subjects, one of them on the list, and files that can't be used."""
    source, out = tmp_path / "raw", tmp_path / "store"
    blink = Body(ID + 1, range(5), at=(1, 0, 3))
    for subject in (1, 3):
        for action in (1, 55):
            name = f"S001C001P{subject:03d}R001A{action:03d}"
            put(source / f"P{subject}", skeleton((Body(), blink)), name)
    put(source, changed(7, "x"), "S001C001P002R001A001")
    put(source, b"", "S001C001P002R001A004")
    put(source, name="S001C001P002R001A061")
    names = "Without skeletons:\n\nS001C001P003R001A055.skeleton\r\nS017C003P001R003A055\n"
    (source / listed).write_text(names)
    words = ["prepare", reader, "--source", str(source), "--out", str(out), "--jobs", "1", "--json"]
    assert main(words) == 0
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert document["accepted"] == accepted
    assert document["notes"] == {"body removed: in fewer than 12 frames": 4 - missing}
    assert (f"2 names in {source / listed}, 1 of them" in printed.err) == missing
    store = Store(out)
    assert (store.protocol, store.layout.name) == (f"{reader}_xsub", "ntu25")
    assert len(store.class_names) == int(reader[3:])
    assert store.provenance["options"]["missing"] == (listed if missing else None)
    lines = {Path(row["file"]).stem: row["line"] for row in document["rejected"]}
    expected = {"S001C001P002R001A001": 7, "S001C001P002R001A004": 1}
    expected |= {"S001C001P003R001A055": None} if missing else {}
    assert lines == expected | ({"S001C001P002R001A061": None} if reader == "ntu60" else {})
    assert (f"on the list of missing skeletons ({listed})" in printed.out) == missing

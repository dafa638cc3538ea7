from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hhmnet.cli import main
from hhmnet.readers import ReadError, SourceError
from hhmnet.readers.ntu import NTU60, NTU120, NTU120_CLASSES, NTUConfig
from hhmnet.readers.pairing import LONGER
from hhmnet.sample import Sample
from hhmnet.store import Store
from made_ntu import ID, NAME, Body, changed, put, skeleton
from made_video import picture, write_video

ITEM = f"{NAME}.skeleton"


def read(folder: Path, content: bytes | None = None, **config: Any) -> tuple[Sample, Counter[str]]:
    put(folder, content)
    notes: Counter[str] = Counter()
    return NTU60(folder, NTUConfig(**config)).read(ITEM, notes), notes


def test_a_clip(tmp_path: Path) -> None:
    """Also where nobody is seen in some frames, and some joints have no place in the picture."""
    body = Body(frames=[2, 3, 7], values={(2, 2, 5): "nan", (3, 4, 6): "-1.#INF"})
    sample, notes = read(tmp_path, skeleton((body,), frames=10))
    assert (sample.sample_id, sample.label) == (NAME, 12)
    assert (sample.setup, sample.camera, sample.subject, sample.split) == ("1", "2", "3", "")
    assert sample.video is sample.video_frames is sample.boxes is sample.interpolated is None
    assert sample.frame_index.tolist() == list(range(10))
    assert np.flatnonzero(sample.present[0]).tolist() == [2, 3, 7]
    assert set(np.unique(sample.confidence)) == {0, 0.5, 1}
    assert notes == {
        "frame without a person: kept and masked": 7,
        "joint without finite pixels: pixels and confidence set to 0": 2,
    }


def test_a_clip_without_a_body_is_refused(tmp_path: Path) -> None:
    zeros = {(frame, joint, axis): "0" for frame in range(20) for joint in range(25) for axis in range(3)}
    for bodies in ((), (Body(values=zeros),)):
        with pytest.raises(ReadError, match=r"^no frame has a body$"):
            read(tmp_path, skeleton(bodies))


@pytest.mark.parametrize(
    ("name", "reason60", "reason120"),
    [
        ("S001C001P001R001A060", None, None),
        ("S017C003P040R002A001", None, None),
        ("S018C001P001R001A001", "setup 18 in the file's name is not in NTU RGB+D 60 (1 to 17); the reader", None),
        ("S032C003P106R002A120", "action 120 in", None),
        ("S033C001P001R001A001", "setup 33 in", "setup 33 in the file's name is not in NTU RGB+D 120 (1 to 32)"),
        ("S001C004P001R001A001", "camera 4 in", "camera 4 in the file's name is not in NTU RGB+D 120 (1 to 3)"),
        ("S001C001P001R001A000", "action 0 in", "action 0 in"),
        ("S٠٠1C001P001R001A001", "not of the form", "not of the form"),  # noqa: RUF001
    ],
)  # fmt: skip
def test_names_of_each_data_set(
    tmp_path: Path, name: str, reason60: str | None, reason120: str | None
) -> None:
    put(tmp_path, name=name)
    for reader, reason in ((NTU60(tmp_path), reason60), (NTU120(tmp_path), reason120)):
        if reason is None:
            sample = reader.read(f"{name}.skeleton", Counter())
            assert (sample.sample_id, sample.label) == (name, int(name[-3:]) - 1)
            assert sample.subject == str(int(name[9:12]))
        else:
            with pytest.raises(ReadError) as caught:
                reader.read(f"{name}.skeleton", Counter())
            assert reason in caught.value.reason
            assert (";" in caught.value.reason) == (reason120 is None)


@pytest.mark.parametrize(
    ("kind", "file"),
    [(NTU60, "NTU_RGBD_samples_with_missing_skeletons.txt"), (NTU120, "missing_skeletons_120.txt")],
)
def test_the_list_of_missing_skeletons_beside_them(tmp_path: Path, kind: type[NTU60], file: str) -> None:
    put(tmp_path)
    (tmp_path / file).write_text(f"{NAME}\n")
    assert any(file in line and "1 names" in line for line in kind(tmp_path).describe())
    other = NTU60 if kind is NTU120 else NTU120
    assert other(tmp_path).options["missing"] is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "lists no clips"),
        (f"{NAME}\nS1C1\n".encode(), "line 2: 'S1C1' must be a name such as"),
        (None, "No such file"),
    ],
)
def test_a_list_that_cannot_be_used_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    put(tmp_path)
    listed = tmp_path / "list.txt"
    if content is not None:
        listed.write_bytes(content)
    with pytest.raises(SourceError, match=message) as caught:
        NTU60(tmp_path, NTUConfig(missing=listed))
    assert str(listed) in str(caught.value)


def test_videos_may_lie_in_another_folder(tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    put(tmp_path / "raw" / "S001")
    (videos / "deep").mkdir(parents=True)
    write_video(videos / f"deep/{NAME}_rgb.avi", "mpeg4", pictures=[picture(number) for number in range(23)])
    reader, notes = NTU60(tmp_path / "raw", NTUConfig(videos=videos)), Counter[str]()
    sample = reader.read(f"S001/{ITEM}", notes)
    assert (sample.video, notes) == (f"deep/{NAME}_rgb.avi", {LONGER: 1})
    assert sample.video_frames is not None
    assert sample.video_frames.tolist() == list(range(20))
    assert (reader.video_folder, reader.options["videos"]) == (videos, "videos")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
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
    (source / "missing_skeletons_60.txt").write_text(
        "Without skeletons:\n\nS001C001P003R001A055.skeleton\r\nS017C003P001R003A055\n"
    )
    words = ["prepare", "ntu60", "--source", str(source), "--out", str(out), "--jobs", "1", "--json"]
    assert main(words) == 0
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert (document["accepted"], document["splits"]) == (3, {"train": 2, "test": 1})
    assert document["notes"] == {"body removed: in fewer than 12 frames": 3}
    assert "2 names in" in printed.err
    store = Store(out)
    assert (store.protocol, store.layout.name) == ("ntu60_xsub", "ntu25")
    assert store.class_names == NTU120_CLASSES[:60]
    assert store.provenance["options"]["missing"] == "missing_skeletons_60.txt"
    with open(out / "rejected.csv", newline="") as handle:
        rejected = [(row["file"], row["line"], row["reason"].split(";")[0]) for row in csv.DictReader(handle)]
    rule = "a joint must have 12 numbers, first a finite position, last 0, 1 or 2 (how it was tracked)"
    assert sorted(rejected) == [
        (
            "P3/S001C001P003R001A055.skeleton",
            "",
            "on the list of missing skeletons (missing_skeletons_60.txt)",
        ),
        ("S001C001P002R001A001.skeleton", "7", rule),
        ("S001C001P002R001A004.skeleton", "1", "is empty: it ends where the number of frames should stand"),
        (
            "S001C001P002R001A061.skeleton",
            "",
            "action 61 in the file's name is not in NTU RGB+D 60 (1 to 60)",
        ),
    ]
    words[1], words[5] = "ntu120", str(tmp_path / "store120")
    assert main(words) == 0
    store = Store(tmp_path / "store120")
    assert (len(store), store.protocol, len(store.class_names)) == (5, "ntu120_xsub", 120)
    assert store.labels[store.index("S001C001P002R001A061")] == 60

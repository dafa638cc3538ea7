"""What people hold beside their clips: tables as Excel writes them, lists, folders of classes, segments, names."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pytest

from hhmnet.cli import main
from hhmnet.readers import ReadError, SourceError
from hhmnet.readers.formats import Folder, FolderConfig
from hhmnet.readers.labels import read_labels
from hhmnet.readers.listed import CUT_SHORT, MORE_PERSONS
from hhmnet.store import Store
from made_bodies import standing

CLIPS = [f"c{number}.npy" for number in range(4)]
LABELS = ["winken", "drücken", "wave, two hands", 'say "hi"']
PARTS = ["Training", "train", "TEST", "testing"]


def put(folder: Path, *names: str, frames: int = 6, persons: int = 1) -> None:
    """Clips of a standing body whose first joint's x is the number of the frame, and of the person in hundreds."""
    joints = np.random.default_rng(0).normal(0, 0.01, (persons, frames, 20, 3)) + np.array([0, 0, 3])
    joints[:, :, 3, 1] += 1.7
    joints[:, :, 0, 0] = np.arange(frames) / 100 + np.arange(persons)[:, None]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with open(folder / name, "wb") as file:
            np.save(file, joints)


def cells(separator: str, end: str = "\r\n", head: str = "") -> str:
    quoted = [f'"{label.replace(chr(34), chr(34) * 2)}"' for label in LABELS]
    rows = [separator.join(row) for row in zip(CLIPS, quoted, PARTS, strict=True)]
    return head + end.join([separator.join(("path", "label", "split")), *rows, ""])


@pytest.mark.parametrize(
    "content",
    [
        cells(",").encode(),
        cells(";").encode("utf-8-sig"),
        cells("\t").encode("utf-16"),
        cells(";", head="sep=;\r\n").encode(),
        cells(",", head="sep=,\r\n").encode("cp1252"),
        cells(";;", "\n").replace(";;", ";").encode(),
        cells(",", ",,\r\n").encode(),
    ],
    ids=["plain", "semicolons", "UTF-16 with tabs", "sep=;", "cp1252", "one end", "empty cells at the end"],
)
def test_a_table_as_excel_and_people_write_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "labels.csv").write_bytes(content)
    labels = read_labels(tmp_path / "labels.csv")
    assert [labels.class_names[labels.rows[clip].label] for clip in CLIPS] == LABELS
    assert [labels.rows[clip].split for clip in CLIPS] == ["train", "train", "test", "test"]
    assert any("read as cp1252" in line for line in labels.describe()) == (
        "ü".encode() not in content and b"\0" not in content
    )


def test_a_cell_too_many_is_refused_with_its_line_and_nothing_trains(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path, *CLIPS)
    (tmp_path / "labels.csv").write_text("path,label,split\nc0.npy,wave,train\nc1.npy,wave, two hands,test\n")
    assert main(["prepare", "folder", "--source", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert (
        "line 3: has 4 cells, and there are 3 headings; put a text that holds ',' into double quotes" in err
    )
    assert not (tmp_path / "out").exists()


def test_a_class_that_only_the_test_has_no_test_and_a_single_class_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path / "raw", *CLIPS)
    for rows, told in (
        ("c0.npy,a,train\nc1.npy,b,train\nc2.npy,kick,test\n", "warning: no clip trains the class kick"),
        ("c0.npy,a,train\nc1.npy,b,train\n", "warning: no clip is tested"),
        ("c0.npy,a,test\nc1.npy,b,test\n", "warning: no clip trains"),
        ("c0.npy,a,train\nc1.npy,a,test\n", "warning: there is one class only, a"),
    ):
        (tmp_path / "raw" / "labels.csv").write_text(f"path,label,split\n{rows}")
        words = [
            "prepare",
            "folder",
            "--source",
            str(tmp_path / "raw"),
            "--out",
            str(tmp_path / "out"),
            "--jobs",
            "1",
        ]
        assert main([*words, "--json"]) == 0
        printed = capsys.readouterr()
        assert printed.err.count(told) == 1
        assert any(line.startswith(told) for line in json.loads(printed.out)["warnings"])


def test_a_skeleton_table_of_a_german_excel(tmp_path: Path) -> None:
    """Semicolons, decimal commas, a byte order mark."""
    put(tmp_path, "a.npy", frames=2)
    joints = np.load(tmp_path / "a.npy")[0]
    from hhmnet.skeleton import KINECT20

    heads = [f"{name}_{axis}" for name in KINECT20.joints for axis in "xyz"]
    rows = [
        ";".join([str(frame), *(f"{value:.4f}".replace(".", ",") for value in body.ravel())])
        for frame, body in enumerate(joints)
    ]
    (tmp_path / "b.csv").write_bytes("\r\n".join([";".join(["frame", *heads]), *rows]).encode("utf-8-sig"))
    (tmp_path / "labels.csv").write_text("path;label\nb.csv;x\na.npy;y\n")
    sample = Folder(tmp_path).read("b.csv", Counter())
    np.testing.assert_allclose(sample.joints[0], joints, atol=1e-4)


def test_a_folder_a_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The split is told as always; what is passed over is counted."""
    put(tmp_path, *(f"{label}/{clip}" for label in ("wave", "squat") for clip in CLIPS), "loose.npy")
    for name in ("wave/notes.txt", "squat/a.txt", "photo.jpg"):
        (tmp_path / name).touch()
    words = ["prepare", "folder", "--source", str(tmp_path), "--out", str(tmp_path / "out"), "--jobs", "1"]
    assert main(words) == 0
    err = capsys.readouterr().err
    assert "the folders are the classes" in err
    assert "one clip in five is tested" in err
    assert "1 others there are left out" in err
    assert "passed over, as no skeletons by their endings: .jpg 1, .txt 2" in err
    store = Store(tmp_path / "out")
    assert (store.class_names, len(store)) == (("squat", "wave"), 8)
    assert store.sample(store.index("wave/c1")).label == 1


def test_a_folder_a_part_with_a_folder_a_class(tmp_path: Path) -> None:
    put(tmp_path, "Train/wave/a.npy", "Train/nod/b.npy", "testing/wave/c.npy")
    reader = Folder(tmp_path)
    assert reader.class_names == ("nod", "wave")
    assert reader.split == {
        "Train/wave/a.npy": "train",
        "Train/nod/b.npy": "train",
        "testing/wave/c.npy": "test",
    }


def test_without_a_table_and_without_folders_of_classes_the_remedy_is_named(tmp_path: Path) -> None:
    put(tmp_path, "data/a.npy")
    with pytest.raises(SourceError, match=r"labels\.csv: No such file .* must hold a folder for each class"):
        Folder(tmp_path)


def test_lists_of_path_and_label(tmp_path: Path) -> None:
    """As MMAction2 has them; the list of the other part is found beside it."""
    put(tmp_path, "wave/1 a.npy", "squat/2.npy", "squat/3.npy")
    (tmp_path / "my_train_list.txt").write_text("wave/1 a.npy 0\nsquat/2.npy 1\n")
    reader = Folder(tmp_path, FolderConfig(labels=Path("my_train_list.txt")))
    assert set(reader.split.values()) == {"train"}
    (tmp_path / "my_val_list.txt").write_text("squat/3.npy 1\n")
    reader = Folder(tmp_path, FolderConfig(labels=Path("my_train_list.txt")))
    assert reader.split == {"wave/1 a.npy": "train", "squat/2.npy": "train", "squat/3.npy": "val"}
    assert reader.read("squat/3.npy", Counter()).label == 1
    (tmp_path / "clips.txt").write_text("wave/1 a.npy 0\nsquat/2.npy 1\n")
    assert "one clip in five" in Folder(tmp_path, FolderConfig(labels=Path("clips.txt"))).rule


@pytest.mark.parametrize(
    ("heads", "rows", "fps", "told"),
    [
        ("start,end", "0,30 30,60 60,", 0, "in frames, as all are whole; if they are seconds, call them"),
        ("start_frame,end_frame", "0,30 30,60 60,90", 0, ""),
        ("start,end", "0,1.0 1.0,2 2,", 30, "in seconds"),
        ("start_seconds,end_seconds", "0,1 1,2 2,3", 30, ""),
        ("start,end", "0:00,0:01 0:01,0:02 0:02,0:03", 30, "in seconds"),
    ],
)
def test_segments_are_cut_out_of_a_recording(
    tmp_path: Path, heads: str, rows: str, fps: float, told: str
) -> None:
    put(tmp_path, "long.npy", frames=90)
    lines = [f"long.npy,{row},{'ab'[number % 2]}" for number, row in enumerate(rows.split())]
    (tmp_path / "labels.csv").write_text("\n".join([f"path,{heads},label", *lines]))
    reader = Folder(tmp_path, FolderConfig(fps=fps))
    samples = {item: reader.read(item, Counter()) for item in reader.items()}
    spans = {(int(sample.frame_index[0]), int(sample.frame_index[-1])) for sample in samples.values()}
    assert spans == {(0, 29), (30, 59), (60, 89)}
    for sample in samples.values():
        np.testing.assert_allclose(sample.joints[0, :, 0, 0], sample.frame_index / 100, atol=1e-6)
    assert len({sample.sample_id for sample in samples.values()}) == 3
    assert told in "\n".join(reader.describe())


def test_who_moves_most_in_a_segment_comes_first_there(tmp_path: Path) -> None:
    """Not the one who moves most in the whole recording."""
    both = np.repeat(standing(np.random.default_rng(0), frames=1)[None], 2, 0).repeat(20, 1)
    both[1, ..., 0] += 2
    both[0, :10, 5:8, 1] += np.linspace(0, 0.5, 10)[:, None]
    both[1, 10:, 5:8, 1] += np.linspace(0, 0.8, 10)[:, None]
    np.save(tmp_path / "long.npy", both)
    (tmp_path / "labels.csv").write_text("path,start,end,label\nlong.npy,0,10,a\nlong.npy,10,20,b\n")
    reader = Folder(tmp_path)
    first, second = (reader.read(item, Counter()) for item in reader.items())
    np.testing.assert_array_equal(first.joints[0], both[0, :10].astype(np.float32))
    np.testing.assert_array_equal(second.joints[0], both[1, 10:].astype(np.float32))


def test_segments_of_one_recording_are_in_one_part(tmp_path: Path) -> None:
    put(tmp_path, "long0.npy", "long1.npy", frames=9)
    rows = [f"long{k}.npy,{start},{start + 3},x" for k in (0, 1) for start in (0, 3, 6)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,start,end,label", *rows]))
    parts = {item.partition("#")[0]: part for item, part in Folder(tmp_path).split.items()}
    assert parts == {"long0.npy": "train", "long1.npy": "test"}
    assert len(set(Folder(tmp_path).split.items())) == 6


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ("path,start,end,label\na.npy,5,5,x\n", "line 2: column 'end': must be above the start, 5; got 5"),
        (
            "path,start,end,label\na.npy,x,5,x\n",
            "line 2: column 'start': must be frames or seconds from 0; got 'x'",
        ),
        ("path,start,end,label\na.npy,1,5,x\na.npy,1,5,y\n", "line 3: 'a.npy#1-5' stands in line 2 already"),
        ("path,start_frame,end_seconds,label\na.npy,1,5,x\n", "one counts frames and the other seconds"),
        (
            "path,label\nc0.npy,0\nc1.npy,-1\n",
            "line 3: column 'label': does -1 say that the label isn't known, or",
        ),
        (
            "path,persons,label\na.npy,none,x\n",
            "line 2: column 'persons': must be a whole number from 1; got 'none'",
        ),
    ],
)
def test_rows_that_make_no_sense_are_refused_with_their_line(tmp_path: Path, table: str, reason: str) -> None:
    (tmp_path / "labels.csv").write_text(table)
    with pytest.raises(SourceError) as caught:
        read_labels(tmp_path / "labels.csv")
    assert reason in str(caught.value)


def test_segments_at_and_beyond_the_end(tmp_path: Path) -> None:
    put(tmp_path, "a.npy", frames=10)
    (tmp_path / "labels.csv").write_text("path,start,end,label\na.npy,8,12,x\na.npy,10,12,y\n")
    reader, notes = Folder(tmp_path), Counter[str]()
    assert reader.read("a.npy#8-12", notes).frame_index.tolist() == [8, 9]
    assert notes[CUT_SHORT] == 1
    with pytest.raises(ReadError, match="none of the recording's frames: frames 10 to 12, and it has 0 to 9"):
        reader.read("a.npy#10-12", notes)
    (tmp_path / "labels.csv").write_text("path,start_seconds,label\na.npy,0.5,x\n")
    with pytest.raises(ReadError, match=r"labels\.csv, line 2: .* in seconds, .* give field 'fps'"):
        Folder(tmp_path).read("a.npy#0.5-", notes)


def test_how_many_persons_act_in_a_clip(tmp_path: Path) -> None:
    put(tmp_path, "a.npy", "b.npy", persons=2)
    (tmp_path / "labels.csv").write_text("path,label,persons\na.npy,x,1\nb.npy,y,\n")
    reader, notes = Folder(tmp_path), Counter[str]()
    assert [reader.read(item, notes).num_persons for item in ("a.npy", "b.npy")] == [1, 2]
    assert notes[MORE_PERSONS] == 1


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_names_are_found_in_either_unicode_form(tmp_path: Path, form: str) -> None:
    other = {"NFC": "NFD", "NFD": "NFC"}[form]
    put(tmp_path, normalize(form, "größe/café 5.npy"), "b.npy")
    rows = [
        f"{normalize(other, 'größe/café 5.npy')},{normalize(other, 'drücken')}",
        f"b.npy,{normalize(form, 'drücken')}",
    ]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label", *rows]), encoding="utf-8")
    reader = Folder(tmp_path)
    assert reader.class_names == (normalize("NFC", "drücken"),)
    assert {reader.read(item, Counter()).sample_id for item in reader.items()} == {
        normalize("NFC", "größe/café 5"),
        "b",
    }


@pytest.fixture
def odd_names(tmp_path: Path) -> Path:
    """Folders as classes, with names of bytes that are no text, and others that programs stumble over."""
    folder = tmp_path / os.fsdecode(b"raw\xdc")
    names = [
        'wave/a,b "c" 3.npy',
        "wave/#4 50%.npy",
        "wave/-6.npy",
        "wave/x.y.z 7.npy",
        "nod/a\\..\\..\\up.npy",
        "nod/投.npy",
    ]
    try:
        put(folder, *names, os.fsdecode(b"nod/b\xdcbung.npy"), os.fsdecode(b"dr\xfccken/a.npy"))
    except OSError:
        pytest.skip("this file system takes only names that are text")
    return folder


@pytest.mark.parametrize("form", [["--json"], []], ids=["JSON", "tables"])
def test_a_name_of_any_bytes_costs_nothing_else(
    odd_names: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes], form: list[str]
) -> None:
    out = tmp_path / "out"
    words = ["prepare", "folder", "--source", str(odd_names), "--out", str(out), "--jobs", "1", *form]
    assert main(words) == 0
    printed = capfdbinary.readouterr().out.decode()  # valid UTF-8
    assert not form or json.loads(printed)["accepted"] == 8
    store = Store(out)
    assert store.class_names == ("dr\\udcfccken", "nod", "wave")
    assert {"nod/b\\udcdcbung", "nod/a\\..\\..\\up", "wave/x.y.z 7"} <= set(store.sample_ids.tolist())
    words[5] = str(tmp_path / os.fsdecode(b"out\xdc"))
    assert main(words) == 2
    assert b"isn't UTF-8; Arrow opens no such file, so name another folder" in capfdbinary.readouterr().err

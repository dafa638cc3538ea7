"""A folder of your own skeletons: with a table, a list or folders as classes; segments; names of any letters."""

from __future__ import annotations

import json
import os
import pickle
import re
from collections import Counter
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np
import pytest
import yaml

from hhmnet.cli import main
from hhmnet.data.protocols import get_protocol
from hhmnet.readers import ReadError, SourceError
from hhmnet.readers.formats import read_clip
from hhmnet.readers.joints import HIDDEN, LEFT_OUT, MISSING
from hhmnet.readers.listed import CUT_SHORT, MORE_PERSONS, Folder, FolderConfig
from hhmnet.skeleton import COCO17, KINECT20, NTU25, SkeletonLayout
from hhmnet.store import Store
from made_bodies import standing

ONE = "path,label\na.npz,wave\n"


def body(layout: SkeletonLayout = KINECT20, persons: int = 1, frames: int = 3, seed: int = 0) -> np.ndarray:
    return standing(np.random.default_rng(seed), layout, frames, persons)


def put(folder: Path, name: str = "a.npz", joints: np.ndarray | None = None, **fields: np.ndarray) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    with open(folder / name, "wb") as file:
        joints = body() if joints is None else joints
        np.savez(file, joints=joints, **fields) if name.endswith(".npz") else np.save(file, joints)


def reader(folder: Path, labels: str = ONE, **fields: Any) -> Folder:
    (folder / "labels.csv").write_text(labels, encoding="utf-8")
    return Folder(folder, FolderConfig(**fields))


def prepare(source: Path, out: Path, *words: str) -> int:
    return main(["prepare", "folder", "--source", str(source), "--out", str(out), "--jobs", "1", *words])


def test_clips_and_their_labels(tmp_path: Path) -> None:
    joints = {name: body(seed=seed) for seed, name in enumerate(["a.npz", "sub/b.npz", "c.npz", "d.npz"])}
    for name, array in joints.items():
        put(tmp_path, name, array)
    put(tmp_path, "other.npz")
    rows = ("Path,LABEL,Subject,camera,weather", "a.npz,wave,1,left,sun", "sub/b.npz,nod,2,,sun")
    rows += ("c.npz,wave,10,left,sun", "d.npz,,3,,sun", "e.npz,nod,1,,sun")
    made = pickle.loads(pickle.dumps(reader(tmp_path, "\n".join(rows))))
    assert (made.layout, made.class_names) == (KINECT20, ("nod", "wave"))
    assert made.items() == ["a.npz", "c.npz", "d.npz", "e.npz", "sub/b.npz"]
    told = [("a", 1, "1", "left", "train"), ("sub/b", 0, "2", "", "train"), ("c", 1, "10", "left", "test")]
    told.append(("d", -1, "3", "", "train"))
    for (item, array), expected in zip(joints.items(), told, strict=True):
        one = made.read(item, Counter())
        np.testing.assert_array_equal(one.joints, array.astype(np.float32))
        assert (one.sample_id, one.label, one.subject, one.camera, one.split) == expected
    with pytest.raises(ReadError, match=r"no such file; labels\.csv names it in line 6"):
        made.read("e.npz", Counter())
    lines = "\n".join(made.describe())
    for line in (
        "5 clips, 2 classes (nod, wave)",
        f"files: 4 of 5 listed are in {tmp_path} (.npz 4); 1 others there are left out",
        "skeleton: 20 joints kinect20, m, third number z, up is y, axes MTVC",
        "clips a class: nod 2, wave 2",
        "split: tested are the groups 10, 1 of 4: test 1, train 4",
        "1 clips have no label",
        "columns not used: weather",
    ):
        assert line in lines
    assert "warning" not in lines


def test_a_layout_of_your_own(tmp_path: Path) -> None:
    star = {"joints": list("ABCDE"), "edges": [[joint, "A"] for joint in "BCDE"]}
    (tmp_path / "star.yaml").write_text(yaml.safe_dump(star))
    joints = np.random.default_rng(0).normal(size=(3, 5, 3))
    put(tmp_path, joints=joints)
    made = reader(tmp_path, layout=str(tmp_path / "star.yaml"))
    assert made.options["layout"] == "star"
    np.testing.assert_array_equal(made.read("a.npz", Counter()).joints[0], joints.astype(np.float32))
    for layout, reason in (
        ("", "5 joints of 3 numbers, which fits no known layout as x, y, z; --lay"),
        ("moon", "unknown skeleton layout 'moon'"),
        ("ntu25", "fits layout ntu25 not as x, y, z; .* 25 joints of 3"),
    ):
        with pytest.raises(SourceError, match=reason):
            reader(tmp_path, layout=layout)


@pytest.mark.parametrize(
    ("layout", "separator"), [(NTU25, ","), (COCO17, ","), (KINECT20, ";")], ids=["3-D", "2-D", "German"]
)
def test_a_table_goes_by_its_joints_names(tmp_path: Path, layout: SkeletonLayout, separator: str) -> None:
    """In any order; a German Excel has semicolons, decimal commas and a byte order mark."""
    joints, labels = body(layout)[0], f"path{separator}label\na.csv{separator}1"

    def write(*names: str) -> None:
        heads = [f"{name}_{axis}" for name in names for axis in "xyz"[: layout.dims]]
        order = [layout.index(name) for name in names]
        rows = [[str(frame), *map(repr, one[order].ravel().tolist())] for frame, one in enumerate(joints, 5)]
        text = "\r\n".join(map(separator.join, [["frame", *heads], *rows]))
        text = "\ufeff" + text.replace(".", ",") if separator == ";" else text
        (tmp_path / "a.csv").write_bytes(text.encode())

    write(*reversed(layout.joints))
    made = reader(tmp_path, labels)
    assert made.layout is layout
    sample = made.read("a.csv", Counter())
    np.testing.assert_allclose(sample.joints[0], joints, rtol=1e-6)
    assert sample.frame_index.tolist() == [5, 6, 7]
    write(*(name for name in layout.joints if name != "left_hip"))
    with pytest.raises(ReadError, match=f"layout {layout.name} has joints .* no columns: left_hip"):
        made.read("a.csv", Counter())


def test_what_is_missing_or_absent(tmp_path: Path) -> None:
    joints, pixels = body(persons=3), np.full((3, 3, 20, 2), 50.0)
    trust, present = np.full((3, 3, 20), 0.75), np.ones((3, 3), bool)
    joints[0, 0, 4, 2] = joints[2] = pixels[0, 0, 4] = np.nan
    trust[1, 1, 2] = present[1, 2] = 0
    fields = {"confidence": trust, "present": present, "pixels": pixels, "frame_index": np.array([2, 4, 6])}
    put(tmp_path, joints=joints, **fields)
    notes: Counter[str] = Counter()
    sample = reader(tmp_path).read("a.npz", notes)
    assert sample.present.tolist() == [[True] * 3, [True, True, False]]
    assert sample.frame_index.tolist() == [2, 4, 6]
    seen = np.ones((2, 3, 20))
    seen[0, 0, 4] = seen[1, 1, 2] = seen[1, 2] = 0
    np.testing.assert_array_equal(sample.joints.any(-1), seen)
    np.testing.assert_array_equal(sample.pixels, 50 * seen[..., None].repeat(2, -1))
    np.testing.assert_array_equal(sample.confidence, 0.75 * seen)
    assert notes == {MISSING: 1, HIDDEN: 1, LEFT_OUT: 1}


def test_a_folder_without_readable_clips_says_why(tmp_path: Path) -> None:
    (tmp_path / "b.npy").write_bytes(b"no array")
    labels = "path,label\nb.npy,x\nc.npz,y\n"
    with pytest.raises(SourceError, match=r"b\.npy: is no array .*skeleton isn't known; mend them, or give"):
        reader(tmp_path, labels)
    assert reader(tmp_path, labels, layout="kinect20").describe()


def test_the_examples_of_the_docs_are_right(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs/your_own_data.md").read_text(encoding="utf-8")
    labels, clip = re.findall(r"```csv\n(.*?)```", text, re.DOTALL)
    (layout,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "seven.yaml").write_text(layout)
    put(tmp_path, "monday/ann_01.npz", np.ones((3, 7, 3)))
    made = reader(tmp_path, labels, layout=str(tmp_path / "seven.yaml"))
    assert (made.layout.name, made.layout.num_joints, made.layout.mirror) == ("seven", 7, ((3, 4), (5, 6)))
    sample = made.read("monday/ann_01.npz", Counter())
    assert (made.class_names[sample.label], sample.subject, sample.camera) == ("wave", "ann", "left")
    (tmp_path / "clip.csv").write_text(clip)
    found = read_clip(tmp_path / "clip.csv")
    assert found.names == ("head", "left_hand")
    assert np.isnan(found.joints[1, :, 1]).all()


def test_through_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = tmp_path / "mine", tmp_path / "store"
    for number in range(6):
        put(source, f"{number}.npz", body(NTU25, seed=number) * 100)
    (source / "5.npz").write_bytes(b"no archive")
    rows = [f"{n}.npz,{label},{group}" for n, label, group in zip(range(6), "ababac", "ppqqrr", strict=True)]
    (source / "labels.csv").write_text("\n".join(["path,label,group", *rows]))
    assert prepare(source, out, "--units", "inch") == 2
    assert "field 'units' must be one of m, cm, mm, pixels, fractions; got 'inch'" in capsys.readouterr().err
    assert prepare(source, out, "--json", "--units", "cm") == 0
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert document["warnings"] == ["warning: no clip trains the class c"]
    assert printed.err.count(document["warnings"][0]) == 1
    assert [one["file"] for one in document["rejected"]] == ["5.npz"]
    store = Store(out)
    found = {"layout": "ntu25", "units": "cm", "third": "z", "up": "y", "axes": "MTVC"}
    assert found.items() <= store.provenance["options"].items()
    np.testing.assert_allclose(store.joints(3), body(NTU25, seed=3), rtol=1e-5)
    assert get_protocol(store.protocol).indices(store, "test").tolist() == [4]


def test_a_split_that_teaches_nothing_is_said(tmp_path: Path) -> None:
    put(tmp_path)
    for rows, told in (
        ("a.npz,x,train\nb.npz,y,train", "no clip is tested; write train, val or test in a column 'split'"),
        ("a.npz,x,test\nb.npz,y,test", "no clip trains"),
        ("a.npz,x,train\nb.npz,x,test", "there is one class only, x; nothing can be told from it"),
    ):
        assert f"warning: {told}" in reader(tmp_path, f"path,label,split\n{rows}\n").describe()


def test_folders_as_classes_and_as_parts(tmp_path: Path) -> None:
    for name in ("wave/1.npz", "wave/2.npz", "squat/1.npz", "loose.npz"):
        put(tmp_path / "plain", name)
    for name in ("wave/notes.txt", "squat/a.txt", "photo.jpg"):
        (tmp_path / "plain" / name).touch()
    made = Folder(tmp_path / "plain")
    assert made.class_names == ("squat", "wave")
    assert made.items() == ["squat/1.npz", "wave/1.npz", "wave/2.npz"]
    assert made.read("wave/1.npz", Counter()).label == 1
    lines = "\n".join(made.describe())
    for line in ("the folders are the classes", "one clip in five is tested", "1 others there are left out"):
        assert line in lines
    assert "passed over, as no skeletons by their endings: .jpg 1, .txt 2" in lines
    for name in ("Train/wave/a.npz", "Train/nod/b.npz", "testing/wave/c.npz"):
        put(tmp_path / "parts", name)
    made = Folder(tmp_path / "parts")
    assert made.class_names == ("nod", "wave")
    assert {name[:1]: part for name, part in made.split.items()} == {"T": "train", "t": "test"}
    put(tmp_path / "none", "data/a.npz")
    with pytest.raises(SourceError, match=r"labels\.csv: No such file .* must hold a folder for each class"):
        Folder(tmp_path / "none")


def test_lists_of_path_and_label(tmp_path: Path) -> None:
    """As MMAction2 has them; the list of the other part is found beside it."""

    def listed(name: str) -> Folder:
        return Folder(tmp_path, FolderConfig(labels=Path(name)))

    for name in ("wave/1 a.npy", "squat/2.npy", "squat/3.npy"):
        put(tmp_path, name)
    (tmp_path / "my_train_list.txt").write_text("wave/1 a.npy 0\nsquat/2.npy 1\n")
    assert set(listed("my_train_list.txt").split.values()) == {"train"}
    (tmp_path / "my_val_list.txt").write_text("squat/3.npy 1\n")
    made = listed("my_train_list.txt")
    assert made.split == {"wave/1 a.npy": "train", "squat/2.npy": "train", "squat/3.npy": "val"}
    assert made.read("squat/3.npy", Counter()).label == 1
    (tmp_path / "clips.txt").write_text("wave/1 a.npy 0\nsquat/2.npy 1\n")
    assert "one clip in five" in listed("clips.txt").rule


def long(frames: int, persons: int = 1) -> np.ndarray:
    """A body of which the first joint's x is the number of the frame in hundredths."""
    joints = body(persons=persons, frames=1).repeat(frames, axis=1)
    joints[:, :, 0, 0] = np.arange(frames) / 100 + np.arange(persons)[:, None]
    return joints


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
def test_segments_of_a_recording(tmp_path: Path, heads: str, rows: str, fps: float, told: str) -> None:
    put(tmp_path, "long.npy", long(90))
    lines = [f"long.npy,{row},{'ab'[number % 2]}" for number, row in enumerate(rows.split())]
    made = reader(tmp_path, "\n".join([f"path,{heads},label", *lines]), fps=fps)
    samples = [made.read(item, Counter()) for item in made.items()]
    spans = {(int(sample.frame_index[0]), int(sample.frame_index[-1])) for sample in samples}
    assert spans == {(0, 29), (30, 59), (60, 89)}
    for sample in samples:
        np.testing.assert_allclose(sample.joints[0, :, 0, 0], sample.frame_index / 100, atol=1e-6)
    assert len({sample.sample_id for sample in samples}) == 3
    assert told in "\n".join(made.describe())


def test_segments_at_and_beyond_the_end(tmp_path: Path) -> None:
    put(tmp_path, "a.npy", long(10))
    made, notes = reader(tmp_path, "path,start,end,label\na.npy,8,12,x\na.npy,10,12,y\n"), Counter[str]()
    assert made.read("a.npy#8-12", notes).frame_index.tolist() == [8, 9]
    assert notes[CUT_SHORT] == 1
    with pytest.raises(ReadError, match="none of the recording's frames: frames 10 to 12, and it has 0 to 9"):
        made.read("a.npy#10-12", notes)
    with pytest.raises(ReadError, match=r"labels\.csv, line 2: .* in seconds, .* give field 'fps'"):
        reader(tmp_path, "path,start_seconds,label\na.npy,0.5,x\n").read("a.npy#0.5-", notes)


def test_who_moves_most_in_a_segment_comes_first_there_and_all_are_in_one_part(tmp_path: Path) -> None:
    both = body(persons=2, frames=1).repeat(20, 1)
    both[1] = both[0] + [2, 0, 0]
    both[0, :10, 5:8, 1] += np.linspace(0, 0.5, 10)[:, None]
    both[1, 10:, 5:8, 1] += np.linspace(0, 0.8, 10)[:, None]
    put(tmp_path, "a.npy", both)
    rows = [f"{name}.npy,{span}" for name in "ab" for span in ("0,10,x,", "10,20,y,1")]
    made, notes = reader(tmp_path, "\n".join(["path,start,end,label,persons", *rows])), Counter[str]()
    assert [made.split[item] for item in made.items()] == ["train", "train", "test", "test"]
    first, second = (made.read(item, notes) for item in ("a.npy#0-10", "a.npy#10-20"))
    np.testing.assert_array_equal(first.joints[0], both[0, :10].astype(np.float32))
    np.testing.assert_array_equal(second.joints[0], both[1, 10:].astype(np.float32))
    assert (first.num_persons, second.num_persons, notes[MORE_PERSONS]) == (2, 1, 1)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_names_are_found_in_either_unicode_form(tmp_path: Path, form: str) -> None:
    other = {"NFC": "NFD", "NFD": "NFC"}[form]
    put(tmp_path, normalize(form, "größe/café 5.npy"))
    put(tmp_path, "b.npy")
    rows = [f"{normalize(other, 'größe/café 5.npy,drücken')}", f"b.npy,{normalize(form, 'drücken')}"]
    made = reader(tmp_path, "\n".join(["path,label", *rows]))
    assert made.class_names == (normalize("NFC", "drücken"),)
    names = {made.read(item, Counter()).sample_id for item in made.items()}
    assert names == {normalize("NFC", "größe/café 5"), "b"}


@pytest.mark.parametrize("form", [["--json"], []], ids=["JSON", "tables"])
def test_names_of_any_bytes(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes], form: list[str]
) -> None:
    """Folders as classes, with names of bytes that are no text, and others that programs stumble over."""
    source, out = tmp_path / os.fsdecode(b"raw\xdc"), tmp_path / "out"
    names = ['wave/a,b "c" 3.npy', "wave/#4 50%.npy", "wave/-6.npy", "wave/x.y.z 7.npy", "nod/投.npy"]
    names += ["nod/a\\..\\..\\up.npy", os.fsdecode(b"nod/b\xdcbung.npy"), os.fsdecode(b"dr\xfccken/a.npy")]
    try:
        for name in names:
            put(source, name)
    except OSError:
        pytest.skip("this file system takes only names that are text")
    assert prepare(source, out, *form) == 0
    printed = capfdbinary.readouterr().out.decode()  # valid UTF-8
    assert not form or json.loads(printed)["accepted"] == 8
    store = Store(out)
    assert store.class_names == ("dr\\udcfccken", "nod", "wave")
    assert {"nod/b\\udcdcbung", "nod/a\\..\\..\\up", "wave/x.y.z 7"} <= set(store.sample_ids.tolist())
    assert prepare(source, tmp_path / os.fsdecode(b"out\xdc")) == 2
    assert b"isn't UTF-8; Arrow opens no such file, so name another folder" in capfdbinary.readouterr().err

from __future__ import annotations

import csv
import io
import json
import pickle
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import hhmnet
from hhmnet.cli import main
from hhmnet.data.protocols import get_protocol
from hhmnet.readers import ReadError, SourceError
from hhmnet.readers.formats import Folder, FolderConfig, read_clip
from hhmnet.readers.joints import HIDDEN, LEFT_OUT, MISSING
from hhmnet.sample import Sample
from hhmnet.skeleton import COCO17, KINECT20, NTU25, SkeletonLayout
from hhmnet.store import Store
from made_bodies import standing

FRAMES = 3


def body(layout: SkeletonLayout = KINECT20, persons: int = 1, seed: int = 0) -> np.ndarray:
    return standing(np.random.default_rng(seed), layout, FRAMES, persons)


def table(**columns: Any) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue()


def put(folder: Path, name: str = "a.npz", joints: Any = None, **fields: np.ndarray) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    np.savez(folder / name, joints=body() if joints is None else joints, **fields)


def reader(folder: Path, labels: str | None = None, **fields: Any) -> Folder:
    (folder / "labels.csv").write_text(labels or table(path=["a.npz"], label=["wave"]), encoding="utf-8")
    return Folder(folder, FolderConfig(**fields))


def read(folder: Path, notes: Counter[str] | None = None, **fields: Any) -> Sample:
    return reader(folder, **fields).read("a.npz", Counter() if notes is None else notes)


LABELS = table(
    Path=["a.npz", "sub/b.npz", "c.npz", "d.npz", "e.npz"],
    LABEL=["wave", "nod", "wave", "", "nod"],
    Subject=["1", "2", "10", "3", "1"],
    camera=["left", "", "left", "", ""],
    setup=["lab", "lab", "", "", ""],
    weather=["sun"] * 5,
)


def test_clips_and_their_labels(tmp_path: Path) -> None:
    joints = {name: body(seed=seed) for seed, name in enumerate(["a.npz", "sub/b.npz", "c.npz", "d.npz"])}
    for name, array in joints.items():
        put(tmp_path, name, array)
    put(tmp_path, "other.npz")
    made = pickle.loads(pickle.dumps(reader(tmp_path, LABELS)))
    assert (made.layout, made.class_names) == (KINECT20, ("nod", "wave"))
    assert made.items() == ["a.npz", "c.npz", "d.npz", "e.npz", "sub/b.npz"]
    samples = {item: made.read(item, Counter()) for item in joints}
    for name, sample in samples.items():
        np.testing.assert_array_equal(sample.joints, joints[name].astype(np.float32))
    fields = [(sample.sample_id, sample.label, sample.subject, sample.split) for sample in samples.values()]
    assert fields == [
        *(("a", 1, "1", "train"), ("sub/b", 0, "2", "train"), ("c", 1, "10", "test"), ("d", -1, "3", "train"))
    ]
    assert (samples["a.npz"].camera, samples["a.npz"].setup) == ("left", "lab")
    assert samples["a.npz"].pixels is samples["a.npz"].confidence is None
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
        "Subject → subject",
    ):
        assert line in lines
    assert "warning" not in lines


def test_a_layout_of_your_own(tmp_path: Path) -> None:
    star = {"joints": list("ABCDE"), "edges": [[joint, "A"] for joint in "BCDE"]}
    (tmp_path / "star.yaml").write_text(yaml.safe_dump(star))
    joints = np.random.default_rng(0).normal(size=(FRAMES, 5, 3))
    put(tmp_path, joints=joints)
    with pytest.raises(
        SourceError, match="5 joints of 3 numbers, which fits no known layout as x, y, z; --layout"
    ):
        reader(tmp_path)
    made = reader(tmp_path, layout=str(tmp_path / "star.yaml"))
    assert made.options["layout"] == "star"
    np.testing.assert_array_equal(made.read("a.npz", Counter()).joints[0], joints.astype(np.float32))
    with pytest.raises(SourceError, match="unknown skeleton layout 'moon'"):
        reader(tmp_path, layout="moon")
    with pytest.raises(SourceError, match="5 joints of 3 numbers, which fits layout ntu25 not: that has 25"):
        read(tmp_path, layout="ntu25")


def named(layout: SkeletonLayout, joints: np.ndarray, *, left_out: str = "") -> str:
    """One person's joints as a table, in another order than the layout's."""
    columns: dict[str, list[Any]] = {"frame": list(range(5, 5 + len(joints)))}
    for name in reversed(layout.joints):
        if name != left_out:
            for axis, letter in enumerate("xyz"[: layout.dims]):
                columns[f"{name}_{letter}"] = joints[:, layout.index(name), axis].tolist()
    return table(**columns)


@pytest.mark.parametrize("layout", [NTU25, COCO17], ids=["ntu25", "coco17"])
def test_a_table_goes_by_the_names_of_its_joints(tmp_path: Path, layout: SkeletonLayout) -> None:
    joints, labels = body(layout)[0], table(path=["a.csv"], label=["1"])
    (tmp_path / "a.csv").write_text(named(layout, joints))
    made = reader(tmp_path, labels)
    assert made.layout is layout
    sample = made.read("a.csv", Counter())
    np.testing.assert_allclose(sample.joints[0], joints, rtol=1e-6)
    assert sample.frame_index.tolist() == [5, 6, 7]
    (tmp_path / "a.csv").write_text(named(layout, joints, left_out="left_hip"))
    with pytest.raises(
        ReadError, match=f"layout {layout.name} has joints for which there are no columns: left_hip"
    ):
        made.read("a.csv", Counter())
    with pytest.raises(SourceError, match="which fits no known layout"):
        reader(tmp_path, labels)


def test_what_is_missing_or_absent(tmp_path: Path) -> None:
    joints, pixels = body(persons=3), np.full((3, FRAMES, 20, 2), 50.0)
    trust, present = np.full((3, FRAMES, 20), 0.75), np.ones((3, FRAMES), bool)
    joints[0, 0, 4, 2] = joints[2] = pixels[0, 0, 4] = np.nan
    trust[1, 1, 2] = present[1, 2] = 0
    fields = {"confidence": trust, "present": present, "pixels": pixels, "frame_index": np.array([2, 4, 6])}
    put(tmp_path, joints=joints, **fields)
    notes: Counter[str] = Counter()
    sample = read(tmp_path, notes)
    assert sample.present.tolist() == [[True] * 3, [True, True, False]]
    assert sample.frame_index.tolist() == [2, 4, 6]
    assert sample.confidence is not None
    assert sample.pixels is not None
    for place in ((0, 0, 4), (1, 1, 2), (1, 2, 7)):
        for array in (sample.joints, sample.pixels, sample.confidence):
            assert not array[place].any()
    assert sample.confidence.sum() == pytest.approx(0.75 * (5 * 20 - 2))
    assert sample.pixels[0, 1].all()
    assert notes == {MISSING: 1, HIDDEN: 1, LEFT_OUT: 1}
    pixels[0, 1, 4] = np.inf
    put(tmp_path, joints=joints, pixels=pixels)
    with pytest.raises(ReadError, match="field 'pixels': not a number, or infinite, for a joint that is"):
        read(tmp_path)


def test_a_folder_without_readable_clips_says_why(tmp_path: Path) -> None:
    (tmp_path / "b.npy").write_bytes(b"no array")
    labels = table(path=["b.npy", "c.npz"], label="xy")
    with pytest.raises(SourceError, match=r"b\.npy: is no array .*skeleton isn't known; mend them, or give"):
        reader(tmp_path, labels)
    assert reader(tmp_path, labels, layout="kinect20").describe()


def test_the_examples_of_the_docs_are_right(tmp_path: Path) -> None:
    page = Path(hhmnet.__file__).parents[2] / "docs" / "your_own_data.md"
    if not page.is_file():
        pytest.skip("the docs are not there; hhmnet is installed without them")
    text = page.read_text(encoding="utf-8")
    labels, clip = re.findall(r"```csv\n(.*?)```", text, re.DOTALL)
    (layout,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "seven.yaml").write_text(layout)
    put(tmp_path, "monday/ann_01.npz", np.ones((FRAMES, 7, 3)))
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
    labels = table(path=[f"{n}.npz" for n in range(6)], label="ababab", group="ppqqrr")
    (source / "labels.csv").write_text(labels)
    words = ["prepare", "folder", "--source", str(source), "--out", str(out), "--jobs", "1", "--json"]
    assert main([*words, "--units", "cm"]) == 0
    printed = capsys.readouterr()
    assert "split: tested are the groups r, 1 of 3: test 2, train 4" in printed.err
    document = json.loads(printed.out)
    assert document["splits"] == {"train": 4, "test": 1}
    assert document["counts"]["class"] == {"a": 3, "b": 2}
    assert [row["file"] for row in document["rejected"]] == ["5.npz"]
    assert "no .npz file" in document["rejected"][0]["reason"]
    store = Store(out)
    assert store.layout == NTU25
    found = {"layout": "ntu25", "units": "cm", "third": "z", "up": "y", "axes": "MTVC"}
    assert found.items() <= store.provenance["options"].items()
    np.testing.assert_allclose(store.joints(3), body(NTU25, seed=3), rtol=1e-5)
    assert get_protocol(store.protocol).indices(store, "test").tolist() == [4]
    assert main([*words, "--units", "inch"]) == 2
    assert "field 'units' must be one of m, cm, mm, pixels, fractions; got 'inch'" in capsys.readouterr().err

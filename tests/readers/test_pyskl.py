from __future__ import annotations

import json
import os
import pickle
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from damage import FUZZ, damaged
from hypothesis import given, settings
from hypothesis import strategies as st

from hhmnet.cli import main
from hhmnet.data.protocols import get_protocol
from hhmnet.readers import ReadError, SourceError, get_reader
from hhmnet.readers.joints import LEFT_OUT, MISSING
from hhmnet.readers.ntu import NTU120_CLASSES
from hhmnet.readers.pyskl import FRAMES_DIFFER, SCORE_MOVED, Pyskl, PysklConfig
from hhmnet.sample import Sample
from hhmnet.skeleton import COCO17, KINECT20, NTU25
from hhmnet.store import Store
from made_annotations import annotation, hrnet, put_pickle

SYSTEM = os.system.__module__


def reader(folder: Path, content: Any, protocol: int = 2, **fields: str) -> Pyskl:
    return Pyskl(put_pickle(folder / "made.pkl", content, protocol), PysklConfig(**fields))


def read(folder: Path, clip: dict[str, Any], notes: Counter[str] | None = None, **fields: str) -> Sample:
    """The one clip of a file, which stands beside another that is whole."""
    made = reader(folder, [clip, annotation("whole", 0)], **fields)
    item = next(item for item in made.items() if not item.endswith("#whole"))
    return made.read(item, Counter() if notes is None else notes)


@pytest.mark.parametrize("protocol", range(6))
def test_a_2d_file(tmp_path: Path, protocol: int) -> None:
    content = hrnet()
    made = reader(tmp_path, content, protocol)
    assert made.layout is COCO17
    assert made.protocol == "pyskl:xsub"
    assert made.class_names == NTU120_CLASSES[:60]
    assert made.items() == sorted(f"made.pkl#{clip['frame_dir']}" for clip in content["annotations"])
    clip = content["annotations"][3]
    sample = made.read(f"made.pkl#{clip['frame_dir']}", Counter())
    assert (sample.sample_id, sample.label) == ("S002C001P004R001A004", 3)
    assert (sample.setup, sample.camera, sample.subject) == ("2", "1", "4")
    assert sample.split == "xsub_val xview_val"
    assert sample.joints.dtype == np.float32
    np.testing.assert_array_equal(sample.joints, clip["keypoint"])
    np.testing.assert_array_equal(sample.pixels, clip["keypoint"])
    np.testing.assert_array_equal(sample.confidence, clip["keypoint_score"])
    assert sample.present.shape == (2, 4)
    assert sample.present.all()
    assert sample.frame_index.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(("joints", "layout"), [(25, NTU25), (20, KINECT20)])
def test_a_3d_file(tmp_path: Path, joints: int, layout: object) -> None:
    clip = annotation("clip", 2, joints=joints, dims=3)
    made = reader(tmp_path, {"split": {"train": ["clip"]}, "annotations": [clip]}, 5)
    assert made.layout is layout
    sample = made.read("made.pkl#clip", Counter())
    np.testing.assert_array_equal(sample.joints, clip["keypoint"])
    assert sample.pixels is sample.confidence is None
    assert (sample.subject, sample.camera, sample.setup, sample.split) == ("", "", "", "train")
    assert made.class_names == ("class 0", "class 1", "class 2")
    assert made.protocol == "pyskl:"


def test_an_older_file_is_the_list_alone(tmp_path: Path) -> None:
    for part, names in (("xsub_train", "ab"), ("xsub_val", "c")):
        put_pickle(tmp_path / f"ntu_{part}.pkl", [annotation(name, 0) for name in names])
    made = Pyskl(tmp_path)
    assert made.items() == ["ntu_xsub_train.pkl#a", "ntu_xsub_train.pkl#b", "ntu_xsub_val.pkl#c"]
    assert [made.read(item, Counter()).split for item in made.items()] == ["ntu_xsub_train"] * 2 + [
        "ntu_xsub_val"
    ]
    assert made.protocol == "pyskl:ntu_xsub"


@pytest.mark.parametrize(
    ("parts", "protocol"),
    [
        (["train1", "test1", "train2"], "pyskl:1"),
        (["train", "val"], "pyskl:"),
        (["all", "xset_train"], "pyskl:xset"),
        (["all"], "given"),
        ([], "given"),
    ],
)
def test_the_protocol_is_that_of_the_first_split(tmp_path: Path, parts: list[str], protocol: str) -> None:
    content = {"split": {part: ["a"] for part in parts}, "annotations": [annotation("a", 0)]}
    made = reader(tmp_path, content)
    assert made.protocol == protocol
    assert get_protocol(protocol).name == protocol


def test_what_is_missing_or_absent(tmp_path: Path) -> None:
    clip = annotation("clip", 0, persons=3)
    clip["keypoint"][0, 1] = 0
    clip["keypoint"][1] = 0
    clip["keypoint"][2, 0, 5, 1] = np.nan
    clip["keypoint_score"][2, 1, 6] = 0
    notes: Counter[str] = Counter()
    sample = read(tmp_path, clip, notes)
    assert sample.present.tolist() == [[True, False, True, True], [True] * 4]
    assert sample.confidence is not None
    assert not sample.confidence[0, 1].any()
    for place in ((1, 0, 5), (1, 1, 6)):
        assert not sample.joints[place].any()
        assert sample.confidence[place] == 0
    np.testing.assert_array_equal(sample.joints[1, 2], clip["keypoint"][2, 2])
    assert notes == {LEFT_OUT: 1, MISSING: 1}


def test_scores_above_one_are_noted(tmp_path: Path) -> None:
    clip = annotation("clip", 0)
    clip["keypoint_score"][0, 0, :3] = [1.25, -0.5, np.nan]
    clip["total_frames"] = 90
    notes: Counter[str] = Counter()
    sample = read(tmp_path, clip, notes)
    assert sample.confidence is not None
    assert sample.confidence[0, 0, :3].tolist() == [1, 0, 0]
    assert notes == {SCORE_MOVED: 2, FRAMES_DIFFER: 1}


def test_no_score_and_no_label_are_fine(tmp_path: Path) -> None:
    clip = annotation("a/video 1", 0)
    del clip["keypoint_score"], clip["label"], clip["total_frames"]
    sample = read(tmp_path, clip)
    assert sample.confidence is None
    assert (sample.sample_id, sample.label) == ("a/video 1", -1)


def changed(**fields: Any) -> Callable[[dict[str, Any]], None]:
    return lambda clip: clip.update(fields)


def without(field: str) -> Callable[[dict[str, Any]], None]:
    return lambda clip: clip.pop(field)


def infinite(clip: dict[str, Any]) -> None:
    clip["keypoint"][0, 2, 3, 1] = np.inf


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (without("frame_dir"), "annotation 0: field 'frame_dir' must be a name that no other clip has"),
        (changed(frame_dir=7), "annotation 0: field 'frame_dir'"),
        (changed(frame_dir=""), "annotation 0: field 'frame_dir'"),
        (changed(frame_dir="[1]"), "annotation 0: field 'frame_dir'"),
        (without("keypoint"), r"'keypoint' must be an array of shape \(M, T, V, C\), is none"),
        (changed(keypoint=[[[[1.0, 2.0]]]]), r"'keypoint' must be an array of shape \(M, T, V, C\), is none"),
        (changed(keypoint=np.ones((4, 17, 2))), r"'keypoint' must be an array .* has \(4, 17, 2\)"),
        (changed(keypoint=np.ones((1, 4, 25, 3))), "layout coco17 has 17 joints, the data has 25"),
        (changed(keypoint=np.ones((1, 4, 17, 3))), "2 coordinates a joint, the data has 3"),
        (changed(keypoint=np.ones((0, 4, 17, 2)), keypoint_score=None), "no frame has a body"),
        (changed(keypoint=np.ones((1, 0, 17, 2)), keypoint_score=None), "no frame has a body"),
        (changed(keypoint=np.zeros((1, 4, 17, 2))), "no frame has a body"),
        (infinite, r"'keypoint': infinite or too large \(person 0, frame 2, joint 3\)"),
        (changed(keypoint=np.full((1, 4, 17, 2), 1e300)), "infinite or too large"),
        (
            changed(keypoint_score=np.ones((1, 4, 16))),
            r"'keypoint_score' must have the shape \(1, 4, 17\), has",
        ),
        (changed(keypoint_score=np.ones((1, 4))), r"'keypoint_score' must be an array of shape \(M, T, V\)"),
        (changed(keypoint_score="sure"), r"'keypoint_score' must be an array"),
        (changed(label=-1), "'label' must be a class index from 0 to 9,999"),
        (changed(label=10**30), "'label' must be a class index"),
        (changed(label=True), "'label' must be a class index"),
        (changed(label="wave"), "'label' must be a class index"),
        (changed(label=[0, 1]), "'label' must be a class index"),
        (
            lambda clip: (clip.pop("keypoint"), clip.update(raw_file="x.pkl")),
            "in the file that 'raw_file' names",
        ),
    ],
)
def test_bad_clips_are_refused(tmp_path: Path, change: Callable[[dict[str, Any]], Any], reason: str) -> None:
    clip = annotation("clip", 0)
    change(clip)
    with pytest.raises(ReadError, match=reason):
        read(tmp_path, clip, layout="coco17")


def test_of_two_clips_with_one_name_the_first_counts(tmp_path: Path) -> None:
    first, second = annotation("a", 0), annotation("a", 1)
    made = reader(tmp_path, [first, second, "no dict"])
    assert made.items() == ["made.pkl#[1]", "made.pkl#[2]", "made.pkl#a"]
    assert made.read("made.pkl#a", Counter()).label == 0
    for item in ("made.pkl#[1]", "made.pkl#[2]"):
        with pytest.raises(ReadError, match="must be a name that no other clip has"):
            made.read(item, Counter())


class Hostile:
    def __reduce__(self) -> Any:
        return os.system, ("touch hacked",)


@pytest.mark.parametrize("protocol", range(6))
def test_a_hostile_pickle_does_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int
) -> None:
    monkeypatch.chdir(tmp_path)
    clip = annotation("clip", 0) | {"keypoint": Hostile()}
    with pytest.raises(
        SourceError, match=rf"made\.pkl: pickle wants {SYSTEM}\.system, which is no NumPy array"
    ):
        reader(tmp_path, [clip], protocol)
    assert [file.name for file in tmp_path.iterdir()] == ["made.pkl"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({}, "has no list 'annotations'"),
        ("text", "has no list 'annotations'"),
        ({"annotations": {"a": 1}}, "has no list 'annotations'"),
        ({"annotations": [], "split": []}, "'split' must be a dict"),
        ({"annotations": [], "split": {1: ["a"]}}, "'split' must be a dict"),
        ({"annotations": [], "split": {"train": "a"}}, "'split' must be a dict"),
        ({"annotations": [], "split": {"train": [1]}}, "part 'train' must be a list of names"),
        ({"annotations": []}, r"no clip has an array 'keypoint' of shape \(M, T, V, C\)"),
        ([annotation("a", 0, joints=18)], "which skeleton has 18 joints of 2 coordinates.*YAML file"),
        ({"annotations": [annotation("a", 0) | {"x": np.array([{}])}]}, "array of objects"),
    ],
)
def test_files_that_are_none_are_refused(tmp_path: Path, content: Any, reason: str) -> None:
    with pytest.raises(SourceError, match=reason) as caught:
        reader(tmp_path, content)
    assert "\n" not in str(caught.value)


def test_sources_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no folder at .*nowhere"):
        get_reader("pyskl", tmp_path / "nowhere")
    with pytest.raises(
        SourceError, match=r"holds no pyskl and MMAction2 annotations files \(\.pkl, \.pickle\)"
    ):
        get_reader("pyskl", tmp_path)


def test_another_layout_is_given_by_name_or_file(tmp_path: Path) -> None:
    clip = annotation("a", 0, joints=5, dims=3)
    file = tmp_path / "star.yaml"
    star = {"joints": list("abcde"), "edges": [[joint, "a"] for joint in "bcde"]}
    file.write_text(yaml.safe_dump(star))
    made = reader(tmp_path, [clip], layout=str(file))
    assert made.layout.name == "star"
    assert made.options == {"layout": "star", "classes": ""}
    assert made.read("made.pkl#a", Counter()).joints.shape == (1, 4, 5, 3)
    with pytest.raises(SourceError, match="field 'layout': unknown skeleton layout 'h36m'"):
        reader(tmp_path, [clip], layout="h36m")
    with pytest.raises(ReadError, match="layout ntu25 has 25 joints, the data has 5"):
        reader(tmp_path, [clip], layout="ntu25").read("made.pkl#a", Counter())


def test_class_names(tmp_path: Path) -> None:
    file = tmp_path / "names.txt"
    file.write_text("\ufeffwave\n\n  nod \n", encoding="utf-8")
    clips = [annotation("a", 1), annotation("b", 2)]
    made = reader(tmp_path, clips, classes=str(file))
    assert made.class_names == ("wave", "nod")
    assert made.options["classes"] == "names.txt"
    assert made.read("made.pkl#a", Counter()).label == 1
    with pytest.raises(ReadError, match="'label' is 2, but there are 2 class names"):
        made.read("made.pkl#b", Counter())
    assert reader(tmp_path, clips, classes="ntu120").class_names == NTU120_CLASSES
    for text, reason in (("", "must name the classes"), ("a\na", "each once"), ("\udcff", "not UTF-8")):
        file.write_bytes(text.encode(errors="surrogateescape"))
        with pytest.raises(SourceError, match=f"field 'classes': .*{reason}"):
            reader(tmp_path, clips, classes=str(file))
    with pytest.raises(SourceError, match="No such file or directory; give a text file, or ntu60 or ntu120"):
        reader(tmp_path, clips, classes="ucf101")


def test_ntu_names_are_taken_only_if_labels_agree(tmp_path: Path) -> None:
    content = hrnet()
    assert reader(tmp_path, content["annotations"]).class_names == NTU120_CLASSES[:60]
    content["annotations"].append(annotation("S001C001P001R001A075", 74))
    assert reader(tmp_path, content["annotations"]).class_names == NTU120_CLASSES
    content["annotations"].append(annotation("S001C001P001R001A060", 58))
    assert reader(tmp_path, content["annotations"]).class_names[:2] == ("class 0", "class 1")


def test_it_says_what_it_understood(tmp_path: Path) -> None:
    content = hrnet()
    content["split"]["xsub_val"] = [*content["split"]["xsub_val"], "gone", content["split"]["xsub_train"][0]]
    lines = reader(tmp_path, content).describe()
    assert "6 items" in lines[0]
    assert "coco17 (17 joints, 2-D)" in lines[0]
    assert lines[1:] == [
        "made.pkl: 6 clips; parts: xsub_train 3, xsub_val 5, xview_train 3, xview_val 3",
        "made.pkl: warning: 1 names in the parts have no annotation",
        "made.pkl: warning: 1 clips are in two parts of one split",
        "classes: drink water, eat meal, brush teeth, brush hair, …",
        "protocol: pyskl:xsub",
    ]


def test_workers_get_no_clips_but_read_the_same(tmp_path: Path) -> None:
    made = reader(tmp_path, hrnet(60))
    sent = pickle.dumps(made)
    assert b"P001R001" not in sent
    there = pickle.loads(sent)
    for item in made.items()[:3]:
        np.testing.assert_array_equal(there.read(item, Counter()).joints, made.read(item, Counter()).joints)
    assert len(pickle.dumps(made)) == len(sent)


PLAIN = [
    pickle.dumps({"split": {"x_train": ["a"]}, "annotations": [annotation("a", 1, frames=2)]}, p)
    for p in (0, 2, 5)
]


@settings(FUZZ, max_examples=80)
@given(
    content=damaged(
        *PLAIN, pieces=[b".", b"(", b"t", b"R", b"b", b"cos\nsystem\n", b"\x93", b"\xff", b"K\x00"]
    )
)
def test_damaged_files_give_a_sample_or_an_error(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "made.pkl"
    file.write_bytes(content)
    try:
        made = Pyskl(file)
        made.describe()
        samples = []
        for item in made.items():
            samples.append(made.read(item, Counter()))
    except (SourceError, ReadError):
        return
    for sample in samples:
        assert sample.joints.shape[2:] == (made.layout.num_joints, made.layout.dims)
        assert -1 <= sample.label < len(made.class_names)


@settings(FUZZ, max_examples=60)
@given(data=st.data())
def test_anything_in_any_field_gives_a_sample_or_an_error(tmp_path: Path, data: st.DataObject) -> None:
    anything = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=6,
    ) | st.builds(
        np.zeros, st.lists(st.integers(0, 3), max_size=5), st.sampled_from(["f2", "i8", "?", ">f4"])
    )
    content: Any = hrnet(2)
    holder = data.draw(st.sampled_from([content, content["split"], content["annotations"][0]]))
    holder[data.draw(st.sampled_from(sorted(holder)))] = data.draw(anything)
    try:
        made = reader(tmp_path, content, data.draw(st.integers(0, 5)))
        for item in made.items():
            made.read(item, Counter())
    except (SourceError, ReadError):
        pass


def test_through_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = hrnet()
    content["annotations"][0]["keypoint"][:] = 0
    put_pickle(tmp_path / "ntu.pkl", content)
    for source in (tmp_path, tmp_path / "ntu.pkl"):
        out = tmp_path / f"store of {source.name}"
        assert (
            main(["prepare", "pyskl", "--source", str(source), "--out", str(out), "--json", "--jobs", "2"])
            == 0
        )
        document = json.loads(capsys.readouterr().out)
        assert document["accepted"] == 5
        assert document["protocol"] == "pyskl:xsub"
        assert document["rejected"] == [
            {
                "file": "ntu.pkl#S001C001P001R001A001",
                "line": None,
                "reason": "no frame has a body: all joints are zero or missing",
            }
        ]
        store = Store(out)
        assert store.layout == COCO17
        values = get_protocol(store.protocol)
        train = store.sample_ids[values.indices(store, "train")].tolist()
        assert sorted(train) == ["S001C002P001R001A005", "S001C003P003R001A003"]
        assert len(values.indices(store, "test")) == 3
        assert main(["prepare", "pyskl", "--source", str(source), "--out", str(out), "--classes", "ntu"]) == 2
        assert "field 'classes': ntu" in capsys.readouterr().err

"""Annotation files of pyskl and MMAction2: what is read of them, what is refused, and what is said of them."""

from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hhmnet.data.protocols import get_protocol
from hhmnet.readers import ReadError, SourceError
from hhmnet.readers.arrays import SCORE_MOVED
from hhmnet.readers.ntu import NTU120_CLASSES
from hhmnet.readers.pyskl import FRAMES_DIFFER, Pyskl, PysklConfig
from hhmnet.sample import Sample
from hhmnet.skeleton import COCO17, LAYOUTS, NTU25
from made_annotations import annotation, hrnet, put_pickle
from made_bodies import standing


def reader(folder: Path, content: Any, protocol: int = 2, **fields: str) -> Pyskl:
    return Pyskl(put_pickle(folder / "made.pkl", content, protocol), PysklConfig(**fields))


def read(folder: Path, clip: dict[str, Any], notes: Counter[str] | None = None, **fields: str) -> Sample:
    """The one clip of a file, which stands beside others that are whole."""
    made = reader(folder, [clip, annotation("whole", 0), annotation("whole too", 0)], **fields)
    item = next(item for item in made.items() if "#whole" not in item)
    return made.read(item, Counter() if notes is None else notes)


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_2d_file(tmp_path: Path, protocol: int) -> None:
    """Also as a worker reads it, which is sent none of the clips."""
    content = hrnet()
    sent = pickle.dumps(reader(tmp_path, content, protocol))
    assert b"P001R001" not in sent
    made = pickle.loads(sent)
    assert (made.layout, made.protocol, made.class_names) == (COCO17, "pyskl:xsub", NTU120_CLASSES[:60])
    assert made.items() == sorted(f"made.pkl#{clip['frame_dir']}" for clip in content["annotations"])
    clip = content["annotations"][3]
    sample = made.read(f"made.pkl#{clip['frame_dir']}", Counter())
    assert (sample.sample_id, sample.label) == ("S002C001P004R001A004", 3)
    assert (sample.setup, sample.camera, sample.subject) == ("2", "1", "4")
    assert sample.split == "xsub_val xview_val"
    order = np.argsort(-clip["keypoint"].astype(float).var(1).sum((1, 2)))  # who moves most comes first
    for array in (sample.joints, sample.pixels):
        np.testing.assert_array_equal(array, clip["keypoint"][order])
    np.testing.assert_array_equal(sample.confidence, clip["keypoint_score"][order])
    assert sample.present.tolist() == [[True] * 4] * 2
    content["annotations"][0]["keypoint"][:] = 0
    with pytest.raises(ReadError, match="no frame has a body"):
        reader(tmp_path, content, protocol).read("made.pkl#S001C001P001R001A001", Counter())


def test_a_3d_file(tmp_path: Path) -> None:
    """Arrays may be nested lists, too."""
    clip = annotation("clip", 2, joints=25, dims=3)
    listed = clip | {"frame_dir": "listed", "keypoint": clip["keypoint"].tolist()}
    made = reader(tmp_path, {"split": {"train": ["clip"]}, "annotations": [clip, listed]}, 5)
    assert (made.layout, made.class_names) == (NTU25, ("class 0", "class 1", "class 2"))
    for name, split in (("clip", "train"), ("listed", "")):
        sample = made.read(f"made.pkl#{name}", Counter())
        np.testing.assert_array_equal(sample.joints, clip["keypoint"])
        assert sample.pixels is sample.confidence is None
        assert (sample.subject, sample.split) == ("", split)


def test_an_older_file_is_the_list_alone(tmp_path: Path) -> None:
    for part, names in (("xsub_train", "ab"), ("xsub_val", "c")):
        put_pickle(tmp_path / f"ntu_{part}.pkl", [annotation(name, 0) for name in names])
    made = Pyskl(tmp_path)
    assert {item: made.read(item, Counter()).split for item in made.items()} == {
        "ntu_xsub_train.pkl#a": "ntu_xsub_train",
        "ntu_xsub_train.pkl#b": "ntu_xsub_train",
        "ntu_xsub_val.pkl#c": "ntu_xsub_val",
    }
    assert made.protocol == "pyskl:ntu_xsub"


@pytest.mark.parametrize(
    ("parts", "protocol"),
    [
        (["train1", "test1", "train2"], "pyskl:1"),
        (["train", "val"], "pyskl:"),
        (["xset-Train", "xset_valid"], "pyskl:xset"),
        ([], "given"),
    ],
)
def test_the_protocol_is_that_of_the_first_split(tmp_path: Path, parts: list[str], protocol: str) -> None:
    content = {"split": {part: ["a"] for part in parts}, "annotations": [annotation("a", 0)]}
    assert reader(tmp_path, content).protocol == protocol
    assert get_protocol(protocol).name == protocol


def test_scores_and_lengths_that_do_not_fit_are_noted(tmp_path: Path) -> None:
    clip = annotation("a/video 1", 0) | {"total_frames": 90}
    clip["keypoint_score"][0, 0, :3] = [1.25, -0.5, np.nan]
    notes: Counter[str] = Counter()
    sample = read(tmp_path, clip, notes)
    assert sample.confidence is not None
    assert sample.confidence[0, 0, :3].tolist() == [1, 0, 0]
    done = {note: times for note, times in notes.items() if not note.startswith("doubt")}
    assert done == {SCORE_MOVED: 2, FRAMES_DIFFER: 1}
    assert read(tmp_path, {key: clip[key] for key in ("frame_dir", "keypoint")}).label == -1


ABSENT = object()


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"frame_dir": ABSENT}, "annotation 0: field 'frame_dir' must be a name that no other clip has"),
        ({"keypoint": ABSENT}, "'keypoint' is missing"),
        ({"keypoint": ABSENT, "raw_file": "x.pkl"}, "in the file that 'raw_file' names"),
        ({"keypoint": "joints"}, "'keypoint' must be an array, is str"),
        ({"keypoint_score": np.array(7, object)}, "'keypoint_score' must be an array, is int"),
        ({"keypoint": np.ones((4, 17))}, r"'keypoint' must have the shape .* has \(4, 17\)"),
        ({"keypoint": np.ones((1, 4, 17, 3)) * 7}, "2 coordinates a joint, the data has 3"),
        ({"keypoint": np.full((1, 4, 17, 2), np.inf)}, "'keypoint': infinite or too large .person 0, frame"),
        ({"keypoint_score": np.ones((1, 4, 16))}, r"must have the shape \(1, 4, 17\), has"),
        ({"label": -1}, "'label' must be a class index from 0 to 9,999"),
    ],
)
def test_bad_clips_are_refused(tmp_path: Path, fields: dict[str, Any], reason: str) -> None:
    clip = {key: value for key, value in (annotation("clip", 0) | fields).items() if value is not ABSENT}
    with pytest.raises(ReadError, match=reason):
        read(tmp_path, clip, layout="coco17")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([{1, 2}], r"made\.pkl: pickle wants \w+\.set, which is no NumPy array|a set"),
        ({}, "has no list 'annotations'"),
        ({"annotations": [], "split": []}, "'split' must be a dict"),
        ({"annotations": [], "split": {"train": [1]}}, "'split' must be a dict of parts"),
        ({"annotations": [], "split": {"all": []}}, "'all' names no part; known: train, training, val"),
        ({"annotations": []}, "none of the first clips can be read"),
        ([annotation("a", 0, joints=19)], "19 joints of 2 numbers, which fits no known layout.*YAML file"),
        ([annotation("a", 0) | {"x": np.array([{}])}], "array of objects"),
    ],
)
def test_files_that_are_none_are_refused(tmp_path: Path, content: Any, reason: str) -> None:
    with pytest.raises(SourceError, match=reason) as caught:
        reader(tmp_path, content)
    assert "\n" not in str(caught.value)


def test_class_names(tmp_path: Path) -> None:
    file = tmp_path / "names.txt"
    file.write_text("\ufeffwave\n\n  nod \n", encoding="utf-8")
    clips = [annotation("a", 1), annotation("b", 2)]
    made = reader(tmp_path, clips, classes=str(file))
    assert made.class_names == ("wave", "nod")
    with pytest.raises(ReadError, match="'label' is 2, but there are 2 class names"):
        made.read("made.pkl#b", Counter())
    assert reader(tmp_path, clips, classes="ntu120").class_names == NTU120_CLASSES
    file.write_bytes(b"a\na")
    with pytest.raises(SourceError, match=r"field 'classes': .*each once"):
        reader(tmp_path, clips, classes=str(file))
    clips = [*hrnet()["annotations"], annotation("S001C001P001R001A075", 74)]
    assert reader(tmp_path, clips).class_names == NTU120_CLASSES
    clips.append(annotation("S001C001P001R001A060", 58))  # NTU's names are taken only if labels agree
    assert reader(tmp_path, clips).class_names[:2] == ("class 0", "class 1")


def test_it_says_what_it_understood(tmp_path: Path) -> None:
    content = hrnet()
    content["split"]["xsub_val"] = [*content["split"]["xsub_val"], "gone", content["split"]["xsub_train"][0]]
    lines = reader(tmp_path, content).describe()
    for line in (
        "skeleton: 17 joints coco17, pixels, up is minus_y, axes MTVC",
        "made.pkl: 6 clips; parts: xsub_train 3, xsub_val 5, xview_train 3, xview_val 3",
        "made.pkl: warning: 1 names in the parts have no annotation",
        "made.pkl: warning: 1 clips are in two parts of one split",
        "classes: drink water, eat meal, brush teeth, brush hair, …",
        "protocol: pyskl:xsub",
    ):
        assert line in lines


def test_a_third_number_beside_fractions_is_confidence(tmp_path: Path) -> None:
    """BODY_25 with x, y and score is no Kinect in metres; the picture's size is in the file."""
    pixels = standing(np.random.default_rng(0), LAYOUTS["body25"], persons=1)
    score = np.full((*pixels.shape[:-1], 1), 0.8)
    keypoint = np.concatenate([pixels / [640, 480], score], axis=-1).astype(np.float16)
    clip = {"frame_dir": "a", "label": 0, "keypoint": keypoint, "img_shape": (480, 640)}
    made = reader(tmp_path, [clip])
    assert made.describe()[1].startswith("skeleton: 25 joints body25, fractions")
    sample = made.read("made.pkl#a", Counter())
    np.testing.assert_allclose(sample.pixels, pixels, atol=0.5)
    np.testing.assert_allclose(sample.confidence, 0.8, atol=1e-3)


def test_a_file_without_parts_is_held_out_and_says_so(tmp_path: Path) -> None:
    content: Any = [annotation(f"c{n}", 0) for n in range(40)]
    made = reader(tmp_path, content)
    assert "one clip in five is tested" in "\n".join(made.describe())
    splits = Counter(made.read(item, Counter()).split for item in made.items())
    assert splits.keys() == {"train", "test"}
    content = {"annotations": content, "split": {"train": ["c0", "c1"]}}
    assert "warning: no clip is tested" in "\n".join(reader(tmp_path, content).describe())


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"PK\x03\x04" + bytes(26) + b"ok.pkl", "is a zip archive: unpack it"),
        (b"PK\x03\x04" + bytes(26) + b"torch/data.pkl", "is a file of torch.save: load it with torch"),
        (b"\x1f\x8b\x08\0", "is a gzip file: unpack it"),
        (b"<!DOCTYPE html><html>", r"is a web page \(HTML\), perhaps of a download that failed"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "is a Git LFS pointer .*'git lfs pull'"),
        (b"\x89HDF\r\n\x1a\n", "is an HDF5 file"),
        (b"cjoblib.numpy_pickle\nNumpyArrayWrapper\n.", "load it with joblib and save its arrays as NumPy's"),
        (b"ctorch._utils\n_rebuild_tensor_v2\n.", "load it with torch and save its arrays as NumPy's"),
    ],
)
def test_what_is_no_pickle_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    file = tmp_path / "made.pkl"
    file.write_bytes(content)
    with pytest.raises(SourceError, match=rf"made\.pkl: .*{reason}"):
        Pyskl(file)

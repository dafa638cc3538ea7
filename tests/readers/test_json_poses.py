"""JSON of pose estimators: joints, confidence and persons, whichever tool wrote it."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hhmnet.cli import main
from hhmnet.predict.sources import InputError, Sources, find_inputs
from hhmnet.readers import ReadError
from hhmnet.readers.clip_files import RawClip
from hhmnet.readers.formats import read_clip
from hhmnet.skeleton import BLAZEPOSE33, BODY25, COCO17, LAYOUTS
from hhmnet.store import Store
from made_poses import (
    FRAMES,
    JSON_FORMS,
    alphapose,
    coco,
    expected,
    kinetics,
    landmark_table,
    mmpose,
    openpose_frame,
    pixels,
    ultralytics,
    write_openpose,
)

ALL = pytest.mark.parametrize("form", JSON_FORMS)


def read(folder: Path, document: Any) -> RawClip:
    (folder / "clip.json").write_text(json.dumps(document))
    return read_clip(folder / "clip.json")


def prepare(folder: Path, *paths: str, layout: str = "") -> Store:
    """A store of clips in a folder; where none are named, its folders are the classes."""
    lines = [f"{path},wave,train\n" for path in paths]
    if paths:
        (folder / "labels.csv").write_text("path,label,split\n" + "".join(lines))
    words = ["--source", str(folder), "--out", str(folder / "out"), "--jobs", "1", "--layout", layout]
    assert main(["prepare", "folder", *words]) == 0
    return Store(folder / "out")


@ALL
def test_prepare_and_predict_read_alike(
    tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make, layout = JSON_FORMS[form]
    (tmp_path / "clip.json").write_text(json.dumps(make()))
    store = prepare(tmp_path, "clip.json")
    assert f"read as {layout.name}" in capsys.readouterr().out
    assert store.layout == layout
    sample = store.sample(0)
    np.testing.assert_allclose(sample.joints[0], expected(layout), atol=2e-3)
    if form != "coco":
        np.testing.assert_allclose(sample.confidence, 0.9, atol=1e-6)
    predicted = Sources(layout).read(tmp_path / "clip.json").sample
    np.testing.assert_array_equal(predicted.joints, sample.joints)
    if form in ("openpose", "alphapose_halpe26"):  # they become the layout that is asked for
        others = prepare(tmp_path, "clip.json", layout="coco17"), Sources(COCO17).read(tmp_path / "clip.json")
        for one in (others[0].sample(0), others[1].sample):
            np.testing.assert_allclose(one.joints[0], pixels(COCO17), atol=2e-3)


def test_persons_keep_their_places_when_a_file_lists_them_in_another_order(tmp_path: Path) -> None:
    left, right = pixels(COCO17, -1.0), pixels(COCO17, 1.0)
    entries = []
    for frame in range(FRAMES):
        for points in (left, right) if frame % 2 else (right, left):
            values = np.hstack([points[frame], np.ones((17, 1))]).reshape(-1).tolist()
            entries.append({"image_id": f"{frame}.jpg", "keypoints": values})
    clip = read(tmp_path, entries)
    assert clip.joints.shape == (2, FRAMES, 17, 2)
    for person, points in zip(sorted(clip.joints, key=lambda one: one[0, 0, 0]), (left, right), strict=True):
        np.testing.assert_allclose(person, points)
    tracked = [{**one, "idx": place % 3} for place, one in enumerate(entries)]
    assert read(tmp_path, tracked).joints.shape[0] == 3, "they are who the file says"


def test_missing_joints_empty_frames_and_pictures_in_another_order(tmp_path: Path) -> None:
    frames = ultralytics()
    frames[1][0]["keypoints"]["x"][3] = frames[1][0]["keypoints"]["y"][3] = 0.0
    clip = read(tmp_path, [*frames[:2], [], None, *frames[2:]])
    assert clip.joints.shape == (1, FRAMES + 2, 17, 2)
    assert np.isnan(clip.joints[0, 1, 3]).all()
    assert np.isnan(clip.joints[0, 2:4]).all()
    labelled = coco()
    labelled["annotations"][0]["keypoints"][2::3] = [0, 1] + [2] * 15
    assert read(tmp_path, labelled).confidence[0, 0].tolist() == [0.0] + [1.0] * 16
    entries = [{**one, "image_id": f"img_{9 + place}.jpg"} for place, one in enumerate(alphapose())]
    clip = read(tmp_path, entries[::-1])
    np.testing.assert_allclose(clip.joints[0], pixels(COCO17), atol=2e-3)
    assert clip.frame_index.tolist() == [9, 10, 11, 12, 13, 14]
    for document in (mmpose()["instance_info"][0], [coco()]):  # a single picture; a document in a list
        np.testing.assert_allclose(read(tmp_path, document).joints[0, 0], pixels(COCO17)[0], atol=2e-3)


def test_what_is_not_there_is_nobody_and_what_a_file_says_of_frames_counts(tmp_path: Path) -> None:
    for document, field, gone in ((kinetics(), "data", "skeleton"), (mmpose(), "instance_info", "instances")):
        del document[field][2][gone]
        assert np.isnan(read(tmp_path, document).joints[0, 2]).all()
    begun = {"data": [one | {"frame_index": place + 1} for place, one in enumerate(kinetics()["data"])]}
    begun["data"][2] = None
    assert read(tmp_path, begun).frame_index.tolist() == [*range(1, FRAMES + 1)]
    bare = {"instance_info": mmpose()["instance_info"][0]["instances"]}
    del bare["instance_info"][0]["keypoint_scores"]
    assert read(tmp_path, bare).joints.shape[:2] == (1, 1)
    frames = [openpose_frame(points) | {"frame": "000001"} for points in pixels(BODY25)]
    assert read(tmp_path, frames).frame_index.tolist() == [*range(FRAMES)]
    annotated = coco()
    annotated["annotations"].insert(0, {"image_id": annotated["images"][0]["id"], "bbox": [0, 0, 1, 1]})
    assert read(tmp_path, annotated).joints.shape[1] == FRAMES


@pytest.mark.parametrize(("scale", "shift"), [(1, 0), (1 / 4, 0.5)], ids=["metres", "in the picture"])
def test_tables_of_mediapipe(tmp_path: Path, scale: float, shift: float) -> None:
    head, *rows = landmark_table().splitlines()
    cells = np.array([row.split(",") for row in rows], float)
    for axis in (2, 3):
        cells[:, axis::4] = cells[:, axis::4] * scale + shift
    (tmp_path / "clip.csv").write_text("\n".join([head, *(",".join(map(str, row)) for row in cells)]))
    clip = read_clip(tmp_path / "clip.csv")
    assert clip.layout == "blazepose33"
    wanted = expected(BLAZEPOSE33) * (scale, scale, 1) - (shift, shift, 0)
    np.testing.assert_allclose(clip.joints[0], wanted, atol=1e-3)
    np.testing.assert_allclose(clip.confidence, 0.9)
    assert clip.frame_index.tolist() == list(range(FRAMES))
    assert any("columns not used: " in note and "time" in note for note in clip.notes)
    assert any("not metres" in note for note in clip.notes) == (shift > 0)


def test_motion_capture_is_recognised(tmp_path: Path) -> None:
    for name, remedy in (("a.bvh", "BVH.*export the joints' positions, as a CSV"), ("a.json", "BVH")):
        (tmp_path / name).write_text("HIERARCHY\nROOT Hips")
        with pytest.raises(InputError, match=remedy):
            Sources(COCO17).read(tmp_path / name)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda d: d[1]["keypoints"].pop(), r"entry 1: field 'keypoints': 50 numbers"),
        (lambda d: d[1].update(keypoints="x"), r"entry 1: field 'keypoints': must be numbers"),
        (lambda d: d[2]["keypoints"].__setitem__(0, 1e400), r"entry 2: field 'keypoints': infinite"),
        (lambda d: d[3].pop("image_id"), r"entry 3: field 'image_id'"),
        (lambda d: d[3].update(image_id=None), r"entry 3: field 'image_id'"),
        (lambda d: [one.update(keypoints=[0] * 51) for one in d], "no frame has a body"),
        (lambda d: d[0].update(keypoints=[1.0] * 78), "different skeletons"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, change: Any, reason: str) -> None:
    document = copy.deepcopy(alphapose())
    change(document)
    with pytest.raises(ReadError, match=reason):
        read(tmp_path, document)
    beside = coco()
    beside["annotations"].insert(0, {"image_id": beside["images"][0]["id"]})
    for field, value in (("keypoints", [1.0] * 50), ("image_id", 987)):
        beside["annotations"][3][field] = value
        with pytest.raises(ReadError, match=rf"annotation 3: field '{field}'"):
            read(tmp_path, beside)
    several = coco()
    several["images"][0]["file_name"] = "other/0.jpg"
    with pytest.raises(ReadError, match="several clips; write one file a clip"):
        read(tmp_path, several)


def test_a_folder_is_a_clip(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layout = LAYOUTS["coco18"]
    write_openpose(tmp_path / "src/clip", layout)
    sample = prepare(tmp_path / "src", "clip").sample(0)
    assert "(without 1); 0 others there are left out" in capsys.readouterr().err
    there = np.arange(FRAMES) != 2
    assert sample.present[0].tolist() == there.tolist()
    np.testing.assert_allclose(sample.joints[0, there], pixels(layout)[there], atol=2e-3)
    np.testing.assert_allclose(sample.confidence[0, there], 0.9)
    (found,) = find_inputs([tmp_path / "src/clip"])
    np.testing.assert_array_equal(Sources(layout).read(found).sample.joints, sample.joints)


def test_folders_of_several_videos_and_of_classes(tmp_path: Path) -> None:
    for label in ("nod", "wave"):
        for video in ("a", "b"):
            write_openpose(tmp_path / label / video)
            write_openpose(tmp_path / label, video=f"{video}2")
    assert {found.path.name for found in find_inputs([tmp_path / "nod"])} == {"a", "a2", "b", "b2"}
    store = prepare(tmp_path)
    assert (len(store), store.class_names) == (8, ("nod", "wave"))
    assert prepare(tmp_path, "nod/a", "nod/b2").sample_ids.tolist() == ["nod/a", "nod/b2"]
    with pytest.raises(InputError, match="frames of 2 videos; name one of them, such as nod/a2, nod/b2"):
        Sources(BODY25).read(tmp_path / "nod")


def test_damage_is_named_and_a_face_without_a_body_is_nobody(tmp_path: Path) -> None:
    file = write_openpose(tmp_path / "clip") / "clip_000000000003_keypoints.json"
    for text, reason in (
        ('{"people": [', "cut short"),
        ("[" * 200_000, "nested too deeply"),
        ('{"people": [1]}', "frame 3: field 'people'"),
        ('{"version": 1}', "frame 3: has no field 'people'"),
    ):
        file.write_text(text)
        with pytest.raises(InputError, match=rf"clip_000000000003_keypoints\.json, .*{reason}"):
            Sources(BODY25).read(tmp_path / "clip")
    frame = openpose_frame(pixels(COCO17)[0])
    frame["people"][0]["pose_keypoints_2d"] = []
    with pytest.raises(ReadError, match="no frame has a body"):
        read(tmp_path, [frame])

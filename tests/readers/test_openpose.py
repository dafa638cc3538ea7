"""OpenPose's folders: a JSON file a frame is a clip, for `prepare` and `predict`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hhmnet.cli import main
from hhmnet.predict.sources import InputError, Sources, find_inputs
from hhmnet.skeleton import BODY25, LAYOUTS
from hhmnet.store import Store
from made_poses import FRAMES, pixels, write_openpose


def prepare(folder: Path, paths: list[str]) -> Store:
    (folder / "labels.csv").write_text(
        "path,label,split\n" + "".join(f"{path},wave,train\n" for path in paths)
    )
    assert (
        main(["prepare", "folder", "--source", str(folder), "--out", str(folder / "out"), "--jobs", "1"]) == 0
    )
    return Store(folder / "out")


@pytest.mark.parametrize("name", ["body25", "coco18"])
def test_a_folder_is_a_clip(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_openpose(tmp_path / "src/clip", LAYOUTS[name])
    store = prepare(tmp_path / "src", ["clip"])
    printed = capsys.readouterr()
    assert "(without 1); 0 others there are left out" in printed.err
    assert f"OpenPose: read as {name}" in printed.out
    sample = store.sample(0)
    there = np.arange(FRAMES) != 2
    assert sample.present[0].tolist() == there.tolist()
    np.testing.assert_allclose(sample.joints[0, there], pixels(LAYOUTS[name])[there], atol=2e-3)
    np.testing.assert_allclose(sample.confidence[0, there], 0.9)
    (found,) = find_inputs([tmp_path / "src/clip"])
    np.testing.assert_array_equal(Sources(LAYOUTS[name]).read(found).sample.joints, sample.joints)


def test_a_folder_with_the_frames_of_several_videos(tmp_path: Path) -> None:
    for video in ("a", "b"):
        write_openpose(tmp_path / "src/json", video=video)
    names = [found.path.name for found in find_inputs([tmp_path / "src"])]
    assert names == ["a", "b"]
    assert prepare(tmp_path / "src", ["json/a", "json/b"]).sample_ids.tolist() == ["json/a", "json/b"]
    with pytest.raises(InputError, match="frames of 2 videos; name one of them, such as json/a, json/b"):
        Sources(BODY25).read(tmp_path / "src/json")


def test_folders_of_classes_hold_folders_of_frames(tmp_path: Path) -> None:
    for label in ("nod", "wave"):
        for video in ("a", "b"):
            write_openpose(tmp_path / "src" / label / video)
            write_openpose(tmp_path / "src" / label, video=f"{video}2")
    out = str(tmp_path / "out")
    assert main(["prepare", "folder", "--source", str(tmp_path / "src"), "--out", out, "--jobs", "1"]) == 0
    store = Store(tmp_path / "out")
    assert len(store) == 8
    assert store.class_names == ("nod", "wave")


@pytest.mark.parametrize(
    ("text", "reason"), [('{"people": [', "cut short"), ("[" * 200_000, "nested too deeply")]
)
def test_a_damaged_frame_is_named(tmp_path: Path, text: str, reason: str) -> None:
    write_openpose(tmp_path / "clip")
    (tmp_path / "clip/clip_000000000003_keypoints.json").write_text(text)
    with pytest.raises(InputError, match=rf"clip_000000000003_keypoints\.json, .*{reason}"):
        Sources(BODY25).read(tmp_path / "clip")

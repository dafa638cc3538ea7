from __future__ import annotations

import json

import numpy as np
import pytest

from hhmnet.cli import main
from hhmnet.sample import Sample
from hhmnet.skeleton import COCO17
from hhmnet.store import Store, write_store
from made_crops import made_clip, write_made_store

CLIP = "a03_s02_e00_v03"


@pytest.fixture
def video_store(tmp_path):
    """A store of two persons with pixels, confidence, a video, an unknown label and no protocol we know."""
    generator = np.random.default_rng(0)
    present = np.array([[True, True, True], [False, True, False]])
    there = present[..., None]
    joints = generator.random((2, 3, 17, 2), np.float32) * there[..., None]
    about = {
        "pixels": joints * 2,
        "confidence": np.full((2, 3, 17), 0.5, np.float32) * there,
        "split": "fold2",
    }
    about |= {"boxes": np.ones((2, 3, 4), np.float32) * there, "video": "clip.mp4"}
    about |= {"video_frames": np.array([2, 3, -1], np.int32)}
    sample = Sample("clip[1]", -1, joints, present, np.array([2, 3, 7], np.int32), **about)
    write_store(tmp_path / "v", [sample], layout=COCO17, class_names=["a"], protocol="", provenance={})
    return tmp_path / "v"


def test_a_store_as_json_and_for_people(store_folder, capsys):
    assert main(["inspect", str(store_folder), "--json"]) == 0
    captured = capsys.readouterr()
    facts = json.loads(captured.out)
    store = Store(store_folder)
    assert captured.err == ""
    assert (facts["clips"], facts["splits"]) == (60, {"train": 40, "test": 20})
    assert list(facts["classes"]) == list(store.class_names)
    assert facts["classes"]["wave"] == {"train": 4, "test": 2, "all": 6}
    assert facts["cameras"] == {"1": 20, "2": 20, "3": 20}
    assert facts["layout"]["name"] == "kinect20"
    assert facts["provenance"] == store.provenance
    lengths = sorted(store.lengths.tolist())
    spans = {"min": lengths[0], "median": (lengths[29] + lengths[30]) / 2, "max": lengths[-1]}
    assert facts["frames"] == spans | {"all": sum(lengths)}
    assert main(["inspect", str(store_folder)]) == 0
    out = capsys.readouterr().out
    rows = {tuple(line.replace("│", " ").split()) for line in out.splitlines()}
    assert {("wave", "4", "2", "6"), ("all", "40", "20", "60")} <= rows
    for text in ("kinect20 (20 joints, 3 coordinates)", "1 (20), 2 (20), 3 (20)", '"reader": "nw_ucla"'):
        assert text in out


def test_a_sample_with_every_value_and_its_picture(store_folder, tmp_path, capsys):
    words = ["inspect", str(store_folder), "--sample", CLIP]
    assert main([*words, "--json", "--picture", str(tmp_path / "clip.png")]) == 0
    assert (tmp_path / "clip.png").read_bytes().startswith(b"\x89PNG")
    document = json.loads(capsys.readouterr().out)
    store = Store(store_folder)
    sample = store.sample(store.index(CLIP))
    np.testing.assert_array_equal(np.array(document["joints"], np.float32), sample.joints)
    assert document["frame_index"] == sample.frame_index.tolist()
    assert (document["class"], document["label"]) == ("pick up", 2)
    assert (document["subject"], document["camera"]) == ("2", "3")
    assert document["pixels"] is document["video"] is None
    assert main(words) == 0
    out = capsys.readouterr().out
    assert f"{sample.joints.shape}; {sample.joints.min():g} to {sample.joints.max():g}" in out
    assert "pick up" in out


def test_what_is_known_of_a_clip_with_video_and_of_a_store_without_protocol_and_labels(video_store, capsys):
    assert main(["inspect", str(video_store), "--sample", "clip[1]"]) == 0
    out = capsys.readouterr().out
    shapes = "(3,); 2 to 7", "(2, 3, 17); 0.5 to 0.5, mean 0.500", "(2, 3, 4); 1 to 1"
    for text in ("clip.mp4", "fold2", *shapes):
        assert text in out
    assert main(["inspect", str(video_store), "--sample", "clip[1]", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["video_frames"] == [2, 3, -1]
    assert np.shape(document["boxes"]) == (2, 3, 4)
    assert main(["inspect", str(video_store), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["splits"], facts["unlabelled"], facts["classes"]) == ({}, 1, {"a": {"all": 0}})
    assert main(["inspect", str(video_store)]) == 0
    assert "(no label)" in capsys.readouterr().out


def test_rois_of_videos_that_were_moved(tmp_path, capsys):
    store, videos = write_made_store(tmp_path, [made_clip(), made_clip(1, video=None, video_frames=None)])
    words = ["inspect", str(store.path), "--sample", "made00", "--rois", str(tmp_path / "rois.png")]
    assert main(words) == 2
    assert "name their folder with --videos DIR" in capsys.readouterr().err
    assert main([*words, "--videos", str(videos), "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["sample_id"] == "made00"
    assert "rows: parts; columns: frames 0, 1, 1, 2" in captured.err
    assert (tmp_path / "rois.png").read_bytes().startswith(b"\x89PNG")
    assert main([*words, "--videos", str(tmp_path / "store")]) == 2
    assert "made00.mkv" in capsys.readouterr().err
    assert main(["inspect", str(store.path), "--sample", "made01", "--rois", "x.png"]) == 2
    assert "sample 'made01' has no video" in capsys.readouterr().err

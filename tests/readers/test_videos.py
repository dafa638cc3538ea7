"""Videos of a table: joints are estimated by made networks in the place of the real ones."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from hhmnet.cli import main
from hhmnet.pose import estimate
from hhmnet.pose.networks import PoseError
from hhmnet.readers import ReadError, videos
from hhmnet.readers.videos import Videos, VideosConfig
from hhmnet.skeleton import KINECT20
from hhmnet.store import Store
from made_people import BoxEstimator, KnowingDetector, MadeVideo, straight

FRAMES = 20
PLAYER = straight((100, 130), (0.8, 0), (60, 140))
BYSTANDER = straight((280, 60), (0, 0), (16, 40))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three videos with labels, and made networks in the place of the real ones."""
    source = tmp_path / "videos"
    (source / "more").mkdir(parents=True)
    for name in ("a.mkv", "b.mkv", "more/c.mkv", "unlisted.mkv"):
        MadeVideo(source / name, FRAMES)
    rows = "a.mkv,wave,court,0\nb.mkv,nod,court,1\nmore/c.mkv,wave,hall,2\n"
    (source / "labels.csv").write_text(f"video,label,scene,fold\n{rows}")
    monkeypatch.setattr(videos, "fetch_models", dict)
    monkeypatch.setattr(estimate, "_load_detector", lambda config: KnowingDetector(BYSTANDER, PLAYER))
    monkeypatch.setattr(estimate, "_load_estimator", lambda threads: BoxEstimator())
    videos._estimator.cache_clear()
    return source


def test_a_clip_keeps_all_that_is_known(folder: Path) -> None:
    notes: Counter[str] = Counter()
    sample = Videos(folder).read("more/c.mkv", notes)
    assert (sample.sample_id, sample.label, sample.setup, sample.split) == ("more/c", 1, "hall", "fold2")
    assert (sample.joints.shape, sample.video) == ((1, FRAMES, 20, 3), "more/c.mkv")
    assert sample.present.all()
    assert not np.any(sample.interpolated)
    for index in (sample.video_frames, sample.frame_index):
        np.testing.assert_array_equal(index, range(FRAMES))
    for array, shape in ((sample.pixels, (20, 2)), (sample.confidence, (20,)), (sample.boxes, (4,))):
        assert np.shape(array) == (1, FRAMES, *shape)
    assert notes == {"tracks of bystanders left out": 1}


def test_through_the_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["prepare", "videos", "--source", str(folder), "--out", str(tmp_path / "store"), "--jobs", "1"]
    assert main([*words, "--protocol", "tennis", "--every", "2", "--json"]) == 0
    output = capsys.readouterr()
    assert json.loads(output.out)["accepted"] == 3
    assert "3 of 3 listed are in" in output.err
    assert "1 others there are left out" in output.err
    store = Store(tmp_path / "store")
    assert (store.layout, store.protocol, store.class_names) == (KINECT20, "tennis", ("nod", "wave"))
    options = {"networks": ["ssd", "blazepose"], "labels": "labels.csv", "every": 2}
    assert options.items() <= store.provenance["options"].items()
    assert str(tmp_path) not in json.dumps(store.provenance)
    assert store.video_folder == folder.resolve()
    assert all((folder / store.sample(i).video).is_file() for i in range(3))


def test_a_video_read_in_part(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, out = (folder / "a.mkv").read_bytes(), tmp_path / "store"
    (folder / "a.mkv").write_bytes(content[: len(content) * 2 // 3])
    words = ["prepare", "videos", "--source", str(folder), "--out", str(out), "--jobs", "1", "--json"]
    assert main(words) == 0
    document = json.loads(capsys.readouterr().out)
    note = "video read in part: what comes after its damage is left out"
    assert (document["accepted"], document["rejected"], document["notes"][note]) == (3, [], 1)
    (listed,) = (out / "rejected.csv").read_text().splitlines()[1:]
    assert listed.startswith(f"a.mkv,,{note}: the file ")
    assert main(["inspect", str(out)]) == 0
    assert note in capsys.readouterr().out.replace("\n", "")
    assert 0 < Store(out).lengths[0] < FRAMES == Store(out).lengths[1]


@pytest.mark.parametrize("layout", ["ntu25", "coco17"])
def test_other_layouts(folder: Path, layout: str) -> None:
    reader = pickle.loads(pickle.dumps(Videos(folder, VideosConfig(layout=layout))))
    sample = reader.read("a.mkv", Counter())
    reader.layout.check(sample.joints)
    assert reader.layout.name == layout
    if layout == "coco17":
        np.testing.assert_array_equal(sample.joints, sample.pixels)


def test_segments_and_persons_of_a_table(folder: Path) -> None:
    """Only a segment's own frames are looked at; who moves comes first."""
    rows = "a.mkv,wave,0,0.2,1\na.mkv,nod,0.2,0.5,2\nb.mkv,nod,,,\n"
    (folder / "labels.csv").write_text(f"video,label,start_seconds,end_seconds,persons\n{rows}")
    reader, notes = Videos(folder), Counter[str]()
    first, second = (reader.read(item, notes) for item in ("a.mkv#0-0.2", "a.mkv#0.2-0.5"))
    assert (first.frame_index.tolist(), second.frame_index.tolist()) == ([*range(6)], [*range(6, 15)])
    np.testing.assert_array_equal(second.video_frames, range(6, 15))
    assert (second.sample_id, second.video, second.num_persons) == ("a#0.2-0.5", "a.mkv", 2)
    player, bystander = np.asarray(second.boxes)[..., 0]
    assert player.max() < 100 < 200 < bystander.min(), "the bystander is farther to the right"
    assert notes == {"tracks of bystanders left out": 1}


def test_whole_scenes_are_tested_where_no_subject_is_named(folder: Path) -> None:
    (folder / "labels.csv").write_text("video,label,scene\na.mkv,wave,x\nb.mkv,wave,y\nmore/c.mkv,wave,y\n")
    reader = Videos(folder)
    assert reader.split == {"a.mkv": "train", "b.mkv": "test", "more/c.mkv": "test"}
    assert "tested are the groups y" in reader.rule


def test_faults_of_single_videos_are_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "b.mkv").write_text("no video")
    (folder / "more" / "c.mkv").unlink()
    reader, notes = Videos(folder), Counter[str]()
    with pytest.raises(ReadError, match="can't be opened"):
        reader.read("b.mkv", notes)
    with pytest.raises(ReadError, match=r"there is no such file; labels\.csv names it in line 4"):
        reader.read("more/c.mkv", notes)
    with monkeypatch.context() as patch:
        patch.setattr(estimate, "_load_estimator", lambda threads: BoxEstimator(blind=[4, 5, *range(8, 16)]))
        patch.setattr(estimate, "MAX_GAP", 3)
        videos._estimator.cache_clear()
        reader.read("a.mkv", notes)
    assert (notes["bodies filled in"], notes["frames without the person"]) == (2, 8)
    monkeypatch.setattr(estimate, "_load_detector", lambda config: KnowingDetector())
    videos._estimator.cache_clear()
    with pytest.raises(ReadError, match="no person was found"):
        reader.read("a.mkv", notes)


def test_networks_that_cannot_be_had_and_wrong_choices(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise PoseError("can't fetch ssd")

    monkeypatch.setattr(videos, "fetch_models", refuse)
    with pytest.raises(PoseError, match="can't fetch ssd"):
        Videos(folder)
    with pytest.raises(ValueError, match="'layout' must be one of kinect20, ntu25"):
        VideosConfig(layout="kinect")

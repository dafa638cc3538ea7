"""What stands for a clip, and what is read of it."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from hhmnet.conversion import convert
from hhmnet.predict.sources import InputError, Sources, find_inputs
from hhmnet.readers.arrays import ArrayConfig
from hhmnet.readers.ntu_skeleton import parse, persons
from hhmnet.readers.videos import Videos
from hhmnet.skeleton import KINECT20, NTU25
from hhmnet.store import Store
from made_bodies import standing
from made_people import MadeVideo


def test_a_folder_stands_for_the_files_below_it(tmp_path: Path) -> None:
    videos = tuple(f"v{suffix}" for suffix in (".gif", ".3gp", ".MTS", ".flv", ".ogv", ".Mp4"))
    names = ("b.mp4", "a.npz", "deep/c.json", "deep/d.skeleton", "deep/d_rgb.avi", "a.avi", "labels.csv")
    for name in (*names, *videos, "classes.json", ".hidden/e.mp4", ".f.mp4", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    told: list[str] = []
    found = find_inputs([tmp_path, tmp_path / "b.mp4"], told.append)
    assert told == [f"{tmp_path}: passed over, as no videos or skeleton files by their endings: .txt 1"]
    # a.avi and d_rgb.avi belong to the skeletons beside them.
    wanted = ["a.npz", "b.mp4", *sorted(videos), "deep/c.json", "deep/d.skeleton", "b.mp4"]
    assert [item.path.relative_to(tmp_path).as_posix() for item in found] == wanted
    assert all(item.name == str(item.path) and item.row is None for item in found)
    assert {Path(name).suffix.lower() for name in videos} <= set(Videos.suffixes)  # the reader's are the same


def test_a_name_in_another_unicode_form_or_of_any_bytes(tmp_path: Path) -> None:
    joints = np.random.default_rng(1).normal(0, 0.5, (12, 20, 3)).astype(np.float32)
    np.save(tmp_path / unicodedata.normalize("NFD", "café.npy"), joints)
    (item,) = find_inputs([tmp_path / "café.npy"])
    assert Sources(KINECT20).read(item).sample.num_frames == 12
    try:
        np.save(tmp_path / os.fsdecode(b"b\xdcbung.npy"), joints)
    except OSError:
        pytest.skip("this file system takes only names that are text")
    (item,) = find_inputs([tmp_path / os.fsdecode(b"b\xdcbung.npy")])
    assert Sources(KINECT20).read(item).sample.sample_id == "b\\udcdcbung"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nowhere.mp4", r"nowhere\.mp4: there is no such file"),
        ("notes.txt", r"notes\.txt: '\.txt' is no ending of a video .*mp4.* or a skeleton file .*npz"),
        ("empty", "empty: holds no videos or skeleton files, and is no store"),
    ],
)
def test_what_stands_for_nothing_is_named(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "notes.txt").touch()
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=reason):
        find_inputs([tmp_path / name])
    with pytest.raises(InputError, match="is a folder; give one of its clips"):
        Sources(KINECT20).read(tmp_path)


def test_nw_uclas_form_whatever_the_name_and_with_its_video(filmed: Store, tmp_path: Path) -> None:
    raw = filmed.path.parent / "raw" / f"{filmed.sample_ids[0]}.json"
    file, wanted = tmp_path / "mine.json", filmed.sample(0)
    file.write_bytes(raw.read_bytes())
    clip = Sources(KINECT20).read(file)
    np.testing.assert_array_equal(clip.sample.joints, wanted.joints)
    assert clip.video is None
    clip = Sources(KINECT20, videos=filmed.video_folder, with_videos=True).read(raw)
    assert clip.video == Path(str(filmed.video_folder), str(wanted.video))
    for name in ("pixels", "video_frames", "joints", "present"):
        np.testing.assert_array_equal(getattr(clip.sample, name), getattr(wanted, name))


def test_what_prepare_doubts_stands_in_the_notes(tmp_path: Path) -> None:
    """The head below the feet, with the flag that turns y; persons whom the model doesn't look at."""
    up = standing(np.random.default_rng(0), frames=9)
    np.save(tmp_path / "up.npy", up)
    np.save(tmp_path / "down.npy", up * [1, -1, 1])
    clips = [Sources(KINECT20).read(tmp_path / name) for name in ("up.npy", "down.npy")]
    assert clips[0].notes == ()
    assert "--up minus_y turns it" in " ".join(clips[1].notes)
    turned = Sources(KINECT20, arrays=ArrayConfig(up="minus_y")).read(tmp_path / "down.npy")
    np.testing.assert_array_equal(turned.sample.joints, clips[0].sample.joints)
    assert turned.notes == ()
    np.save(tmp_path / "two.npy", np.stack([up[:1].repeat(9, 0) + 1, up]))
    clip = Sources(KINECT20).read(tmp_path / "two.npy")
    np.testing.assert_array_equal(clip.sample.joints[0], clips[0].sample.joints[0])
    assert "2 persons; the model looks at the 1 who moves most" in clip.notes
    (note,) = Sources(KINECT20, body_size=6.0).read(tmp_path / "up.npy").notes
    assert "bodies are 0.25 times as large as those that the model learned from" in note


def test_ntus_form_and_the_video_beside_it_and_another_known_skeleton(ntu_file: Path) -> None:
    MadeVideo(ntu_file.with_name("person_rgb.avi"), 15)
    clip = Sources(NTU25).read(ntu_file)
    (body,) = persons(parse(ntu_file.read_bytes())[1], Counter())
    np.testing.assert_array_equal(clip.sample.joints[0, body.frames], body.joints)
    assert clip.video is None  # a model of skeletons alone doesn't look for it
    found = Sources(KINECT20, with_videos=True).read(ntu_file)
    seen = clip.sample.present[0]
    for name in ("joints", "pixels"):
        wanted, _ = convert(getattr(clip.sample, name), NTU25, KINECT20, clip.sample.confidence)
        ours = getattr(found.sample, name)
        np.testing.assert_allclose(ours[0, seen], wanted[0, seen], atol=1e-6)
        assert not ours[0, ~seen].any()
    assert found.video == ntu_file.with_name("person_rgb.avi")
    assert found.sample.video_frames is not None
    assert found.sample.video_frames.tolist() == [*range(15), *[-1] * 5]


@pytest.mark.usefixtures("made_networks")
def test_a_layout_that_no_estimator_gives(tmp_path: Path, chain: object) -> None:
    MadeVideo(tmp_path / "a.mkv", 5)
    reason = r"a\.mkv: joints .* can become kinect20, .* the model takes chain; give a skeleton file"
    with pytest.raises(InputError, match=reason):
        Sources(chain).read(tmp_path / "a.mkv")  # type: ignore[arg-type]

from __future__ import annotations

import copy
import json
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hhmnet.cli import main
from hhmnet.readers import ReadError, SourceError
from hhmnet.readers.nw_ucla import DELAYS, NWUCLA, NWUCLAConfig
from hhmnet.readers.pairing import NO_VIDEO, SHORTER, STRETCHED
from hhmnet.sample import Sample
from hhmnet.store import Store
from made_clips import CUT, NAME, clip, put
from made_video import picture, write_video


def read(folder: Path, content: Any, name: str = NAME) -> Sample:
    notes: Counter[str] = Counter()
    sample = NWUCLA(folder).read(put(folder, content, name).name, notes)
    assert not notes  # nothing is done to these data
    return sample


def test_a_clip(tmp_path: Path) -> None:
    """Frames of zeros, null and empty ones are kept as absent; whole numbers and a byte order mark are no fault."""
    content = clip()
    for nobody in (None, [], [[0, 0, 0]] * 20):
        content["skeletons"][1] = nobody
        sample = read(tmp_path, "\ufeff" + json.dumps(content))
        assert sample.present.tolist() == [[True, False, True]]
    assert (sample.sample_id, sample.label) == (NAME, 6)
    assert (sample.subject, sample.camera, sample.setup, sample.split) == ("3", "2", "", "")
    np.testing.assert_array_equal(sample.joints[0], np.array(content["skeletons"], np.float32))
    assert sample.frame_index.tolist() == [0, 1, 2]
    assert sample.pixels is sample.confidence is sample.video is None
    assert read(tmp_path, clip() | {"skeletons": [[[v, 0, 1] for v in range(20)]]}).num_frames == 1


def replaced(*path: Any, by: Any) -> dict[str, Any]:
    """A clip with ``by`` in a place."""
    content: Any = copy.deepcopy(clip())
    holder = content
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = by
    return content  # type: ignore[no-any-return]


LACKING = {"file_name": NAME, "label": 7}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (CUT, f"line {CUT.count(chr(10)) + 1}: cut short"),
        ([1, 2], "must hold one JSON object, holds a list"),
        ("[" * 200_000, "nested too deeply|cut short"),
        (replaced("skeletons", by=json.loads("[" * 80 + "]" * 80)), "four deep at the most"),
        (LACKING, "field 'skeletons' is missing"),
        (clip("a08_s03_e01_v03"), "'file_name' is 'a08_s03_e01_v03'.* 'a08_s03_e01_v02'"),
        (clip(label=8), "'label' is 8, but by the file's name it is 7"),
        (replaced("skeletons", by=[]), "'skeletons' must have the shape .*T, 20, 3"),
        (replaced("skeletons", 2, by=[[1.0, 2.0, 3.0]] * 19), r"'skeletons'\[2\] must be a list of 20"),
        (replaced("skeletons", 1, 3, by={}), r"'skeletons'\[1\]\[3\] must be a list of 3"),
        (replaced("skeletons", 1, 4, 0, by=float("nan")), "holds NaN, which is no number"),
        (replaced("skeletons", 1, 4, 0, by=10**400), "too large"),
    ],
)
def test_bad_content_is_refused_with_its_reason(tmp_path: Path, content: Any, reason: str) -> None:
    with pytest.raises(ReadError, match=reason) as caught:
        read(tmp_path, content)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("name", ["a08_s01_e01", "a\u0660\u0668_s01_e01_v01"])
def test_bad_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ReadError, match=r"not of the form aAA_sSS_eEE_vVV\.json"):
        read(tmp_path, clip(name), name)


def test_action_ids_are_the_data_set_s_or_those_of_the_folder(tmp_path: Path) -> None:
    for action, label in {1: 1, 6: 6, 8: 7, 9: 8, 11: 9, 12: 10}.items():
        name = f"a{action:02d}_s01_e00_v01"
        assert read(tmp_path, clip(name, label), name).label == label - 1
    assert NWUCLA(tmp_path).class_names[6:] == ("donning", "doffing", "throw", "carry")
    put(
        tmp_path,
        {"name": "made", "classes": [{"id": 8, "name": "wave"}, {"id": 3, "name": "clap"}]},
        "classes",
    )
    assert read(tmp_path, clip("a03_s01_e00_v01", 2), "a03_s01_e00_v01").label == 1
    assert NWUCLA(tmp_path).class_names == ("wave", "clap")
    with pytest.raises(ReadError, match=r"action 1 .*\(8, 3\)"):
        read(tmp_path, clip("a01_s01_e00_v01", 1), "a01_s01_e00_v01")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "line 1: cut short"),
        ({"classes": []}, "'classes' must be a list"),
        ({"classes": [{"id": 1, "name": "sit"}, {"id": "2", "name": "stand"}]}, "entry 1 needs an 'id'"),
        ({"classes": [{"id": 1, "name": "sit"}, {"id": 2, "name": "sit"}]}, "entry 1 needs .* once"),
    ],
)
def test_bad_classes_are_refused(tmp_path: Path, content: Any, reason: str) -> None:
    put(tmp_path, content, "classes")
    with pytest.raises(SourceError, match=rf"classes\.json: .*{reason}"):
        NWUCLA(tmp_path)


OTHER = "a08_s03_e02_v02"


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Two clips of 12 frames, 2.5 m from the camera; the first has a video of 6 frames, 160 × 128."""
    folder, videos = tmp_path / "raw", tmp_path / "videos"
    for made in (folder, videos):
        made.mkdir()
    for name in (NAME, OTHER):
        content = clip(name, frames=12)
        joints = np.array(content["skeletons"]) * 0.3
        content["skeletons"] = (joints + np.array([0, 0, 2.5])).round(6).tolist()
        put(folder, content, name)
    write_video(videos / f"{NAME}.avi", "mpeg4", pictures=[picture(n, 160, 128) for n in range(6)])
    (videos / "a01_s01_e01_v01.avi").write_bytes(b"left over")
    return folder


def with_videos(raw: Path, name: str = NAME, **fields: Any) -> tuple[Sample, Counter[str]]:
    """Read one clip, as a worker process does."""
    reader = NWUCLA(raw, NWUCLAConfig(videos=raw.parent / "videos", **fields))
    notes: Counter[str] = Counter()
    return pickle.loads(pickle.dumps(reader)).read(f"{name}.json", notes), notes


@pytest.mark.parametrize(
    ("alignment", "frames", "note"),
    [
        ("index", [0, 1, 2, 3, 4, 5, *[-1] * 6], SHORTER),
        ("stretch", [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5], STRETCHED),
        ("measured", [2, 2, 3, 3, 4, 4, 5, 5, 5, 5, 5, 5], STRETCHED),
    ],
)
def test_frames_are_paired_as_chosen(raw: Path, alignment: str, frames: list[int], note: str) -> None:
    assert DELAYS[2] == 3.5
    sample, notes = with_videos(raw, alignment=alignment)
    assert sample.video == f"{NAME}.avi"
    assert sample.video_frames is not None
    assert sample.video_frames.tolist() == frames
    assert notes == {note: 1}
    assert NWUCLAConfig().alignment == "index"
    sample, notes = with_videos(raw, OTHER)
    assert (sample.video, sample.video_frames, sample.pixels, notes) == (None, None, None, {NO_VIDEO: 1})


def test_joints_are_projected(raw: Path) -> None:
    content = json.loads((raw / f"{NAME}.json").read_text())
    content["skeletons"][3], content["skeletons"][5][7][2] = None, -1  # nobody; a joint behind the camera
    put(raw, content)
    sample, notes = with_videos(raw)
    assert sample.pixels is not None
    seen = np.ones((12, 20), bool)
    seen[3], seen[5, 7] = False, False
    x, y, z = sample.joints[0, seen].astype(np.float64).T
    # The middle of the picture is between its two middle pixels: 79.5 of 160, 63.5 of 128.
    np.testing.assert_allclose(sample.pixels[0, seen, 0], 79.5 + 560 * 160 / 640 * x / z, rtol=1e-5)
    np.testing.assert_allclose(sample.pixels[0, seen, 1], 63.5 - 560 * 128 / 480 * y / z, rtol=1e-5)
    assert not sample.pixels[0, ~seen].any()
    assert notes["joint that isn't in front of the camera: pixels set to 0"] == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"clip,aligned\na,1\n", "line 2: columns 'name' and 'aligned' need"),
        (b"name,aligned\na,1\nb,yes\n", "line 3: .* need a name, and 0 or 1"),
        (None, "No such file"),
    ],
)
def test_table_of_pairs_that_cannot_be_used(raw: Path, content: bytes | None, reason: str) -> None:
    table = raw.parent / "pairing.csv"
    if content is not None:
        table.write_bytes(content)
    with pytest.raises(SourceError, match=reason) as caught:
        NWUCLA(raw, NWUCLAConfig(pairing=table))
    assert str(table) in str(caught.value)


def test_command(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, videos, table = (raw.parent / name for name in ("store", "videos", "pairing.csv"))
    table.write_text(f"name,view,aligned\n{NAME},2,1\n{OTHER},2,0\n")
    words = ["prepare", "nw_ucla", "--source", str(raw), "--out", str(out), "--jobs", "1", "--json"]
    words += ["--videos", str(videos), "--pairing", str(table)]
    assert main([*words, "--alignment", "stretch"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["notes"] == {STRETCHED: 1, NO_VIDEO: 1}
    assert "videos for 1 of 2 clips in" in printed.err
    assert f"1 clips are 'aligned' by {table}" in printed.err
    store = Store(out)
    options = store.provenance["options"]
    assert (options["alignment"], options["videos"]) == ("stretch", "videos")
    assert store.video_folder == videos.resolve()
    samples = [store.sample(i) for i in range(2)]
    assert {sample.sample_id: sample.split for sample in samples} == {NAME: "aligned", OTHER: ""}
    assert NWUCLA(raw).video_folder is None
    for flag, value, fault in (
        ("--alignment", "sideways", "field 'alignment'"),
        ("--videos", str(raw / "nothing"), "no folder at"),
    ):
        assert main([*words, flag, value]) == 2
        assert fault in capsys.readouterr().err

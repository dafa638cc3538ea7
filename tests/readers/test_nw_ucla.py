from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hhmnet.cli import main
from hhmnet.readers import ReadError, SourceError
from hhmnet.readers.nw_ucla import NWUCLA, NWUCLAConfig
from hhmnet.readers.recorded import NO_PICTURE, NO_VIDEO, SHORTER, STRETCHED
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
    assert sample.pixels is sample.confidence is sample.video is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (CUT, f"line {CUT.count(chr(10)) + 1}: cut short"),
        ([1, 2], "must hold one JSON object, holds a list"),
        ("[" * 200_000, "nested too deeply|cut short"),
        ({"file_name": NAME, "label": 7}, "field 'skeletons' is missing"),
        (clip("a08_s03_e01_v03"), "'file_name' is 'a08_s03_e01_v03'.* 'a08_s03_e01_v02'"),
        (clip(label=8), "'label' is 8, but by the file's name it is 7"),
        (clip() | {"skeletons": []}, "'skeletons' must have the shape .*T, 20, 3"),
        (
            clip() | {"skeletons": [[[1, 2, 3]] * 20, [[1, 2, 3]] * 19]},
            r"'skeletons'\[1\] must be a list of 20",
        ),
        (clip() | {"skeletons": float("nan")}, "holds NaN, which is no number"),
    ],
)
def test_bad_content_is_refused_with_its_reason(tmp_path: Path, content: Any, reason: str) -> None:
    with pytest.raises(ReadError, match=reason) as caught:
        read(tmp_path, content)
    assert "\n" not in str(caught.value)
    with pytest.raises(ReadError, match=r"not of the form aAA_sSS_eEE_vVV\.json"):
        read(tmp_path, content, "a\u0660\u0668_s01_e01_v01")


def test_action_ids_are_the_data_set_s_or_those_of_the_folder(tmp_path: Path) -> None:
    for action, label in {1: 1, 6: 6, 8: 7, 9: 8, 11: 9, 12: 10}.items():
        name = f"a{action:02d}_s01_e00_v01"
        assert read(tmp_path, clip(name, label), name).label == label - 1
    assert NWUCLA(tmp_path).class_names[6:] == ("donning", "doffing", "throw", "carry")
    put(tmp_path, {"classes": [{"id": 8, "name": "wave"}, {"id": 3, "name": "clap"}]}, "classes")
    assert read(tmp_path, clip("a03_s01_e00_v01", 2), "a03_s01_e00_v01").label == 1
    assert NWUCLA(tmp_path).class_names == ("wave", "clap")
    with pytest.raises(ReadError, match=r"action 1 .*\(8, 3\)"):
        read(tmp_path, clip("a01_s01_e00_v01", 1), "a01_s01_e00_v01")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("classes.json", "{", "line 1: cut short"),
        ("classes.json", '{"classes": []}', "'classes' must be a list"),
        ("classes.json", '{"classes": [{"id": 1, "name": "sit"}, {"id": "2"}]}', "entry 1 needs an 'id'"),
        ("classes.json", '{"classes": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]}', "entry 1 .* once"),
        ("pairing.csv", "", "line 1: must name the columns 'name' and 'aligned'"),
        ("pairing.csv", "clip,aligned\n", "line 1: must name the columns 'name' and 'aligned'"),
        ("pairing.csv", "name,aligned\na,1\nb,yes\n", "line 3: needs a name, and 0 or 1 for 'aligned'"),
    ],
)
def test_bad_tables_beside_clips_are_refused(tmp_path: Path, name: str, content: str, reason: str) -> None:
    (tmp_path / name).write_text(content)
    pairing = tmp_path / name if name.endswith("csv") else None
    with pytest.raises(SourceError, match=rf"{name}.*{reason}"):
        NWUCLA(tmp_path, NWUCLAConfig(pairing=pairing))


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


@pytest.mark.parametrize(
    ("alignment", "frames", "note"),
    [
        ("index", [0, 1, 2, 3, 4, 5, *[-1] * 6], SHORTER),
        ("stretch", [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5], STRETCHED),
        ("measured", [2, 2, 3, 3, 4, 4, 5, 5, 5, 5, 5, 5], STRETCHED),
    ],
)
def test_videos_go_with_the_clips(
    raw: Path, alignment: str, frames: list[int], note: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Frames are paired as chosen, joints are projected, and a table says which clips are aligned."""
    content = json.loads((raw / f"{NAME}.json").read_text())
    content["skeletons"][3], content["skeletons"][5][7][2] = None, -1  # nobody; a joint behind the camera
    put(raw, content)
    out, videos, table = (raw.parent / name for name in ("store", "videos", "pairing.csv"))
    table.write_text(f"name,view,aligned\n{NAME},2,1\n{OTHER},2,0\n")
    words = ["prepare", "nw_ucla", "--source", str(raw), "--out", str(out), "--jobs", "1", "--json"]
    words += ["--videos", str(videos), "--pairing", str(table), "--alignment", alignment]
    assert main(words) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["notes"] == {note: 1, NO_VIDEO: 1, NO_PICTURE: 1}
    assert "videos for 1 of 2 clips in" in printed.err
    assert f"1 clips are 'aligned' by {table}" in printed.err
    store = Store(out)
    assert (store.provenance["options"]["alignment"], store.video_folder) == (alignment, videos.resolve())
    sample, other = store.sample(store.index(NAME)), store.sample(store.index(OTHER))
    assert (sample.split, other.split) == ("aligned", "")
    assert other.video is other.video_frames is other.pixels is None
    assert (sample.video, sample.video_frames.tolist()) == (f"{NAME}.avi", frames)  # type: ignore[union-attr]
    assert sample.pixels is not None
    seen = np.ones((12, 20), bool)
    seen[3], seen[5, 7] = False, False
    x, y, z = sample.joints[0, seen].astype(np.float64).T
    # The axis lies between the two middle pixels of a row, 79.5 of 160, and a little below the middle of a column.
    np.testing.assert_allclose(sample.pixels[0, seen, 0], 79.5 + 560 * 160 / 640 * x / z, rtol=1e-5)
    np.testing.assert_allclose(
        sample.pixels[0, seen, 1], 245.5 * 128 / 480 - 0.5 - 486 * 128 / 480 * y / z, rtol=1e-5
    )
    assert not sample.pixels[0, ~seen].any()
    for flag, value, fault in (
        ("--alignment", "sideways", "field 'alignment'"),
        ("--videos", str(raw / "nothing"), "no folder at"),
        ("--pairing", str(raw / "nothing.csv"), "No such file"),
    ):
        assert main([*words, flag, value]) == 2
        assert fault in capsys.readouterr().err

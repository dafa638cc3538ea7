from __future__ import annotations

import json
import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from hhmnet.cli import main
from hhmnet.readers import SourceError
from hhmnet.readers.nw_ucla import DELAYS, NWUCLA, NWUCLAConfig
from hhmnet.readers.pairing import SHORTER, STRETCHED
from hhmnet.sample import Sample
from hhmnet.store import Store
from made_clips import NAME, clip, put
from made_video import picture, write_video

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


def read(raw: Path, name: str = NAME, **fields: object) -> tuple[Sample, Counter[str]]:
    """Read one clip, as a worker process does."""
    reader = NWUCLA(raw, NWUCLAConfig(videos=raw.parent / "videos", **fields))  # type: ignore[arg-type]
    notes: Counter[str] = Counter()
    return pickle.loads(pickle.dumps(reader)).read(f"{name}.json", notes), notes


def frames(sample: Sample) -> list[int]:
    assert sample.video_frames is not None
    return list(sample.video_frames)


def test_index_by_index_unless_asked(raw: Path) -> None:
    sample, notes = read(raw)
    assert sample.video == f"{NAME}.avi"
    assert frames(sample) == [0, 1, 2, 3, 4, 5, *[-1] * 6]
    assert notes == {SHORTER: 1}


def test_stretched_when_asked(raw: Path) -> None:
    sample, notes = read(raw, alignment="stretch")
    assert frames(sample) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert notes == {STRETCHED: 1}


def test_measured_delay_of_the_view(raw: Path) -> None:
    sample, notes = read(raw, alignment="measured")
    assert NAME.endswith("v02")
    assert DELAYS[2] == 3.5
    assert frames(sample) == [2, 2, 3, 3, 4, 4, 5, 5, 5, 5, 5, 5]
    assert notes == {STRETCHED: 1}


@pytest.mark.parametrize("focal", [560.0, 525.0])
def test_joints_are_projected(raw: Path, focal: float) -> None:
    sample, _ = read(raw, focal=focal)
    assert sample.pixels is not None
    x, y, z = np.moveaxis(sample.joints.astype(np.float64), -1, 0)
    # The middle of the picture is between its two middle pixels: 79.5 of 160, 63.5 of 128.
    np.testing.assert_allclose(sample.pixels[..., 0], 79.5 + focal * 160 / 640 * x / z, rtol=1e-5)
    np.testing.assert_allclose(sample.pixels[..., 1], 63.5 - focal * 128 / 480 * y / z, rtol=1e-5)


def test_missing_bodies_and_joints_have_no_pixels(raw: Path) -> None:
    content = clip(frames=12)
    joints = np.array(content["skeletons"]) * 0.3 + np.array([0, 0, 2.5])
    joints[3], joints[5, 7, 2] = 0, -1
    put(raw, content | {"skeletons": joints.tolist()})
    sample, notes = read(raw)
    assert sample.pixels is not None
    assert not sample.pixels[0, 3].any()
    assert not sample.pixels[0, 5, 7].any()
    assert sample.pixels[0, 5, :7].all()
    assert notes["joint that isn't in front of the camera: pixels set to 0"] == 1


def test_clip_without_video(raw: Path) -> None:
    sample, notes = read(raw, OTHER)
    assert (sample.video, sample.video_frames, sample.pixels, notes) == (None, None, None, {})


def test_where_the_videos_are(raw: Path) -> None:
    videos = raw.parent / "videos"
    assert NWUCLA(raw).video_folder is None
    assert NWUCLA(raw, NWUCLAConfig(videos=videos)).video_folder == videos
    sample, _ = read(raw)
    assert (videos / sample.video).is_file()


def test_no_folder_of_videos_no_videos(raw: Path) -> None:
    sample = NWUCLA(raw).read(f"{NAME}.json", Counter())
    assert (sample.video, sample.pixels, sample.split) == (None, None, "")


def test_broken_video_is_left_out_and_told(raw: Path) -> None:
    (raw.parent / "videos" / f"{NAME}.avi").write_bytes(b"nothing")
    sample, notes = read(raw)
    assert sample.video is None
    assert notes == {"video left out: it can't be read": 1}


def test_what_was_found_is_told(raw: Path) -> None:
    table = raw.parent / "pairing.csv"
    table.write_text(f"name,view,aligned\n{NAME},2,1\n{OTHER},2,0\n")
    reader = NWUCLA(raw, NWUCLAConfig(videos=raw.parent / "videos", pairing=table))
    assert (
        "videos for 1 of 2 samples; 1 videos of no sample; alignment of their frames: index"
        in reader.describe()
    )
    assert f"1 clips are 'aligned' by {table}" in reader.describe()
    assert reader.options["alignment"] == "index"
    assert reader.read(f"{NAME}.json", Counter()).split == "aligned"
    assert reader.read(f"{OTHER}.json", Counter()).split == ""


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("clip,aligned\na,1\n", "line 1: must name the columns"),
        ("name,aligned\na,1\nb,yes\n", "line 3: needs a name, and 0 or 1"),
        ("name,aligned\n,1\n", "line 2: needs a name"),
        (b"name,aligned\n\xff,1\n", "not a table"),
        (None, "No such file"),
    ],
)
def test_table_that_cannot_be_used(raw: Path, content: str | bytes | None, reason: str) -> None:
    table = raw.parent / "pairing.csv"
    if content is not None:
        table.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(SourceError, match=reason) as caught:
        NWUCLA(raw, NWUCLAConfig(pairing=table))
    assert str(table) in str(caught.value)


@pytest.mark.parametrize(("field", "value"), [("alignment", "sideways"), ("focal", 0.0)])
def test_fields_that_cannot_be_used(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"'{field}'"):
        NWUCLAConfig(**{field: value})  # type: ignore[arg-type]


def test_no_folder(raw: Path) -> None:
    with pytest.raises(SourceError, match=r"no folder at .*nothing"):
        NWUCLA(raw, NWUCLAConfig(videos=raw.parent / "nothing"))


def test_command(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, videos = raw.parent / "store", raw.parent / "videos"
    words = ["prepare", "nw_ucla", "--source", str(raw), "--out", str(out), "--jobs", "1", "--json"]
    assert main([*words, "--videos", str(videos), "--alignment", "stretch"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["notes"] == {STRETCHED: 1}
    assert "videos for 1 of 2 samples" in told.err
    store = Store(out)
    options = store.provenance["options"]
    assert (options["alignment"], options["videos"]) == ("stretch", "videos")
    sample = store.sample(list(store.sample_ids).index(NAME))
    assert frames(sample) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert sample.pixels is not None

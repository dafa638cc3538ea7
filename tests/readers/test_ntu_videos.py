from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from hhmnet.readers import SourceError
from hhmnet.readers.ntu import NTU60, NTUConfig
from hhmnet.readers.pairing import LONGER, SHORTER
from hhmnet.sample import Sample
from made_ntu import NAME, put
from made_video import picture, write_video


def put_video(file: Path, frames: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    write_video(file, "mpeg4", pictures=[picture(number) for number in range(frames)])


def read(folder: Path) -> tuple[Sample, Counter[str]]:
    """A clip of 20 frames."""
    put(folder)
    notes: Counter[str] = Counter()
    return NTU60(folder).read(f"{NAME}.skeleton", notes), notes


@pytest.mark.parametrize(
    ("count", "indices"),
    [(20, list(range(20))), (18, [*range(18), -1, -1]), (23, list(range(20)))],
    ids=["as many", "fewer", "more"],
)
def test_video_frames_are_paired_by_index(tmp_path: Path, count: int, indices: list[int]) -> None:
    put_video(tmp_path / f"{NAME}_rgb.avi", count)
    sample, notes = read(tmp_path)
    assert sample.video == f"{NAME}_rgb.avi"
    assert sample.video_frames is not None
    assert sample.video_frames.tolist() == indices
    assert notes == {20: {}, 18: {SHORTER: 1}, 23: {LONGER: 1}}[count]


@pytest.mark.parametrize("place", ["S001", "."])
def test_videos_may_lie_in_another_folder(tmp_path: Path, place: str) -> None:
    videos, name = tmp_path / "videos", NAME
    put(tmp_path / "raw" / "S001")
    put_video(videos / place / f"{name}_rgb.avi", 20)
    reader = NTU60(tmp_path / "raw", NTUConfig(videos=videos))
    sample = reader.read(f"S001/{name}.skeleton", Counter())
    assert sample.sample_id == name
    assert sample.video is not None
    assert (videos / sample.video).is_file()
    assert reader.video_folder == videos
    assert NTU60(tmp_path / "raw").video_folder == tmp_path / "raw"
    assert sample.video == (Path(place) / f"{name}_rgb.avi").as_posix()
    assert reader.options["videos"] == "videos"
    assert any("1 of 1 clips" in line for line in reader.describe())


def test_a_video_that_cannot_be_read_is_left_out_and_told(tmp_path: Path) -> None:
    (tmp_path / f"{NAME}_rgb.avi").write_bytes(b"no video")
    sample, notes = read(tmp_path)
    assert sample.video is sample.video_frames is None
    assert notes == {"video left out: it can't be read": 1}


def test_a_missing_folder_of_videos_is_named(tmp_path: Path) -> None:
    put(tmp_path)
    with pytest.raises(SourceError, match=f"field 'videos': no folder at {tmp_path / 'none'}"):
        NTU60(tmp_path, NTUConfig(videos=tmp_path / "none"))

from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plain_ntu import plain_parse

from hhmnet.data.protocols import get_protocol
from hhmnet.readers import ReadError, SourceError, get_reader, reader_class
from hhmnet.readers.ntu import NTU60, NTU120, NTU120_CLASSES, NTUConfig
from hhmnet.sample import Sample
from hhmnet.skeleton import NTU25
from made_ntu import ID, NAME, Body, put, skeleton

READER_CLASSES = {"ntu60": NTU60, "ntu120": NTU120}


def read(
    folder: Path, content: bytes | None = None, name: str = NAME, **config: Any
) -> tuple[Sample, Counter[str]]:
    put(folder, content, name)
    notes: Counter[str] = Counter()
    return NTU60(folder, NTUConfig(**config)).read(f"{name}.skeleton", notes), notes


def test_a_clip(tmp_path: Path) -> None:
    data = skeleton()
    sample, notes = read(tmp_path, data)
    assert (sample.sample_id, sample.label) == (NAME, 12)
    assert (sample.setup, sample.camera, sample.subject, sample.split) == ("1", "2", "3", "")
    assert sample.frame_index.tolist() == list(range(20))
    assert sample.present.tolist() == [[True] * 20]
    assert sample.video is sample.video_frames is sample.boxes is sample.interpolated is None
    assert sample.pixels is not None
    assert sample.confidence is not None
    for frame, [body] in enumerate(plain_parse(data)):
        np.testing.assert_array_equal(sample.joints[0, frame], body.joints)
        np.testing.assert_array_equal(sample.pixels[0, frame], body.pixels)
        np.testing.assert_array_equal(sample.confidence[0, frame], body.confidence)
    assert set(np.unique(sample.confidence)) == {0, 0.5, 1}
    assert not notes


def test_frames_without_a_body_stay_where_they_are(tmp_path: Path) -> None:
    data = skeleton((Body(frames=[2, 3, 7]),), frames=10)
    sample, notes = read(tmp_path, data)
    assert np.flatnonzero(sample.present[0]).tolist() == [2, 3, 7]
    assert sample.frame_index.tolist() == list(range(10))
    assert sample.pixels is not None
    for array in (sample.joints, sample.pixels, sample.confidence):
        assert array is not None
        assert not array[~sample.present].any()
    np.testing.assert_array_equal(sample.joints[0, 7], plain_parse(data)[7][0].joints)
    assert notes == {"frame without a person: kept and masked": 7}


def test_two_persons_each_in_its_own_row(tmp_path: Path) -> None:
    """The one who moves more comes first, although the other stands first in the file."""
    still = Body(ID, range(12), at=(-1, 0, 3), sway=0.1)
    actor = Body(ID + 1, range(5, 20), at=(1, 0, 3), sway=0.5)
    data = skeleton((still, actor))
    for action in ("A013", "A055"):  # the action decides nothing
        sample, notes = read(tmp_path, data, NAME.replace("A013", action))
        assert [np.flatnonzero(row).tolist() for row in sample.present] == [
            list(range(5, 20)),
            list(range(12)),
        ]
        frames = plain_parse(data)
        np.testing.assert_array_equal(sample.joints[0, 8], frames[8][1].joints)
        np.testing.assert_array_equal(sample.joints[1, 8], frames[8][0].joints)
        assert not notes


def test_joints_without_pixels_have_no_confidence(tmp_path: Path) -> None:
    sample, notes = read(tmp_path, skeleton((Body(values={(0, 2, 5): "nan", (0, 4, 6): "-1.#INF"}),)))
    assert sample.pixels is not None
    assert sample.confidence is not None
    assert not sample.pixels[0, 0, [2, 4]].any()
    assert not sample.confidence[0, 0, [2, 4]].any()
    assert sample.confidence[0, 0, 1] == 0.5
    assert sample.joints[0, 0, 2].all()
    assert notes == {"joint without finite pixels: pixels and confidence set to 0": 2}


def test_thresholds_come_from_the_configuration(tmp_path: Path) -> None:
    data = skeleton((Body(), Body(ID + 1, range(15), at=(1, 0, 3), sway=0.1)))
    assert read(tmp_path, data)[0].num_persons == 2
    sample, notes = read(tmp_path, data, min_frames=16)
    assert sample.num_persons == 1
    assert notes == {"body removed: in fewer than 16 frames": 1}
    assert read(tmp_path, data, max_persons=1)[0].num_persons == 1


@pytest.mark.parametrize("data", [skeleton((), 5), skeleton((Body(values={
    (frame, joint, column): "0" for frame in range(20) for joint in range(25) for column in range(3)
}),))], ids=["no bodies", "only zeros"])  # fmt: skip
def test_a_clip_without_a_body_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(ReadError, match=r"^no frame has a body$"):
        read(tmp_path, data)


@pytest.mark.parametrize(
    ("name", "reason60", "reason120"),
    [
        ("S001C001P001R001A060", None, None),
        ("S017C003P040R002A001", None, None),
        ("S018C001P001R001A001", "setup 18 in the file's name is not in NTU RGB+D 60 (1 to 17); the reader", None),
        ("S001C001P001R001A061", "action 61 in the file's name is not in NTU RGB+D 60 (1 to 60); the reader", None),
        ("S001C001P041R001A001", "subject 41 in the file's name is not in NTU RGB+D 60 (1 to 40); the reader", None),
        ("S032C003P106R002A120", "action 120 in", None),
        ("S033C001P001R001A001", "setup 33 in", "setup 33 in the file's name is not in NTU RGB+D 120 (1 to 32)"),
        ("S001C001P107R001A001", "subject 107 in", "subject 107 in the file's name"),
        ("S001C004P001R001A001", "camera 4 in", "camera 4 in the file's name is not in NTU RGB+D 120 (1 to 3)"),
        ("S001C001P001R001A000", "action 0 in", "action 0 in"),
        ("S001C001P001R001A121", "action 121 in", "action 121 in the file's name is not in NTU RGB+D 120 (1 to 120)"),
        ("S001C001P001R001", "not of the form SsssCcccPpppRrrrAaaa.skeleton", "not of the form"),
        ("s001c001p001r001a001", "not of the form", "not of the form"),
        ("S001C001P001R001A001_copy", "not of the form", "not of the form"),
        ("S٠٠1C001P001R001A001", "not of the form", "not of the form"),  # noqa: RUF001
    ],
)  # fmt: skip
def test_names_of_each_data_set(
    tmp_path: Path, name: str, reason60: str | None, reason120: str | None
) -> None:
    put(tmp_path, name=name)
    for reader, reason in ((NTU60(tmp_path), reason60), (NTU120(tmp_path), reason120)):
        if reason is None:
            sample = reader.read(f"{name}.skeleton", Counter())
            assert sample.sample_id == name
            assert sample.label == int(name[-3:]) - 1
            assert sample.subject == str(int(name[9:12]))
        else:
            with pytest.raises(ReadError) as caught:
                reader.read(f"{name}.skeleton", Counter())
            assert reason in caught.value.reason
            assert (";" in caught.value.reason) == (reason120 is None)


def test_classes_and_what_stands_on_the_reader(tmp_path: Path) -> None:
    assert len(NTU120_CLASSES) == len(set(NTU120_CLASSES)) == 120
    names = {
        1: "drink water",
        43: "falling down",
        50: "punch or slap",
        60: "walking apart",
        61: "put on headphone",
    }
    for action, name in (names | {106: "hit with object", 120: "rock-paper-scissors"}).items():
        assert NTU120_CLASSES[action - 1] == name
    put(tmp_path)
    for name, kind in READER_CLASSES.items():
        assert reader_class(name) is kind
        reader = get_reader(name, tmp_path)
        assert reader.layout is NTU25
        assert reader.class_names == NTU120_CLASSES[: int(name[3:])]
        assert get_protocol(reader.protocol).name == f"{name}_xsub"
        assert reader.items() == [f"{NAME}.skeleton"]
        copy = pickle.loads(pickle.dumps(reader))
        assert copy.read(f"{NAME}.skeleton", Counter()).sample_id == NAME


def test_clips_on_the_list_of_missing_skeletons_are_left_out(tmp_path: Path) -> None:
    listed = tmp_path / "lists" / "mine.txt"
    put(tmp_path / "raw")
    listed.parent.mkdir()
    listed.write_text(f"Samples without skeletons:\n\nS001C001P001R001A002\r\n{NAME}.skeleton\n\n")
    reader = NTU60(tmp_path / "raw", NTUConfig(missing=listed))
    with pytest.raises(ReadError, match=r"^on the list of missing skeletons \(mine.txt\)$"):
        reader.read(f"{NAME}.skeleton", Counter())
    assert any("2 names" in line and "1 of them" in line for line in reader.describe())
    assert reader.options["missing"] == "mine.txt"


@pytest.mark.parametrize(
    ("kind", "file", "found"),
    [
        (NTU60, "missing_skeletons_60.txt", True),
        (NTU60, "NTU_RGBD_samples_with_missing_skeletons.txt", True),
        (NTU60, "missing_skeletons_120.txt", False),
        (NTU120, "missing_skeletons_120.txt", True),
        (NTU120, "missing_skeletons_60.txt", False),
    ],
)
def test_the_list_is_found_in_the_source_folder(
    tmp_path: Path, kind: type[NTU60], file: str, found: bool
) -> None:
    put(tmp_path)
    (tmp_path / file).write_text(f"{NAME}\n")
    reader = kind(tmp_path)
    assert reader.items() == [f"{NAME}.skeleton"]
    assert reader.options["missing"] == (file if found else None)
    assert any(file in line and "1 names" in line for line in reader.describe()) == found
    if not found:
        assert reader.read(f"{NAME}.skeleton", Counter()).sample_id == NAME
        assert any("no list" in line for line in reader.describe())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "lists no clips"),
        (b"none\n", "lists no clips"),
        (f"{NAME}\nS1C1\n".encode(), "line 2: 'S1C1' must be a name such as"),
        (b"\xff\xfe", "not ASCII text"),
        (None, "No such file"),
    ],
)
def test_a_list_that_cannot_be_used_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    put(tmp_path)
    listed = tmp_path / "list.txt"
    if content is not None:
        listed.write_bytes(content)
    with pytest.raises(SourceError, match=message) as caught:
        NTU60(tmp_path, NTUConfig(missing=listed))
    assert str(listed) in str(caught.value)

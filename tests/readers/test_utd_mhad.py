from __future__ import annotations

import json
import os
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from damage import FUZZ, damaged
from hypothesis import given, settings

import hhmnet
from hhmnet.cli import main
from hhmnet.data.protocols import PROTOCOLS
from hhmnet.prepare import prepare
from hhmnet.readers import ReadError, SourceError, get_reader
from hhmnet.readers.joints import MISSING
from hhmnet.readers.utd_mhad import UTDMHAD
from hhmnet.sample import Sample
from hhmnet.skeleton import KINECT20
from hhmnet.store import Store
from made_mat import mat

NAME = "a3_s2_t4_skeleton.mat"
# As Skeleton_joint_order.txt of the data set has them.
ORDER = (
    "head; shoulder_center; spine; hip_center; left_shoulder; left_elbow; left_wrist; left_hand; right_shoulder; "
    "right_elbow; right_wrist; right_hand; left_hip; left_knee; left_ankle; left_foot; right_hip; right_knee; "
    "right_ankle; right_foot"
)


def skeleton(frames: int = 3) -> np.ndarray:
    return np.random.default_rng(frames).normal(0, 0.5, (20, 3, frames)) + np.array([0, 0, 3])[:, None]


def put(folder: Path, content: np.ndarray | bytes, name: str = NAME) -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content if isinstance(content, bytes) else mat({"d_skel": content}, compress=True))
    return file


def read(folder: Path, content: np.ndarray | bytes, name: str = NAME) -> Sample:
    put(folder, content, name)
    return UTDMHAD(folder).read(name, Counter())


def test_a_clip(tmp_path: Path) -> None:
    raw = skeleton()
    sample = read(tmp_path, raw)
    assert (sample.sample_id, sample.label, sample.subject) == ("a3_s2_t4", 2, "2")
    assert (sample.camera, sample.setup, sample.split, sample.confidence) == ("", "", "", None)
    assert sample.frame_index.tolist() == [0, 1, 2]
    for place, joint in enumerate(ORDER.split("; ")):
        np.testing.assert_array_equal(
            sample.joints[0, :, KINECT20.index(joint)], raw[place].T.astype(np.float32)
        )


def test_what_is_missing(tmp_path: Path) -> None:
    raw = skeleton()
    raw[:, :, 1] = 0
    raw[0, 2, 0] = np.nan
    put(tmp_path, raw)
    notes: Counter[str] = Counter()
    sample = UTDMHAD(tmp_path).read(NAME, notes)
    assert sample.present.tolist() == [[True, False, True]]
    assert sample.confidence is not None
    assert sample.confidence[0, 0].sum() == 19
    assert not sample.joints[0, 0, KINECT20.index("head")].any()
    assert notes == {MISSING: 1}


def test_classes_and_protocol() -> None:
    assert len(set(UTDMHAD.class_names)) == 27
    assert [UTDMHAD.class_names[n - 1] for n in (1, 14, 27)] == ["swipe left", "baseball swing", "squat"]
    protocol = PROTOCOLS[UTDMHAD.protocol]
    assert (protocol.axis, protocol.test) == ("subject", frozenset("2468"))


def test_only_skeleton_files_are_read(tmp_path: Path) -> None:
    for name in (
        "Skeleton/a1_s1_t1_skeleton.mat",
        "Depth/a1_s1_t1_depth.mat",
        "a1_s1_t2_SKELETON.MAT",
        "x.mat",
    ):
        put(tmp_path, skeleton(), name)
    assert UTDMHAD(tmp_path).items() == ["Skeleton/a1_s1_t1_skeleton.mat", "a1_s1_t2_SKELETON.MAT"]
    with pytest.raises(SourceError, match=r"holds no UTD-MHAD files \(_skeleton\.mat\)"):
        get_reader("utd_mhad", tmp_path / "Depth").items()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a28_s1_t1_skeleton.mat", "action 28 or subject 1 is not in UTD-MHAD"),
        ("a0_s1_t1_skeleton.mat", "action 0 or subject 1"),
        ("a1_s9_t1_skeleton.mat", "action 1 or subject 9"),
        ("a1_s1_skeleton.mat", r"not of the form aA_sS_tT_skeleton\.mat"),
        ("my_skeleton.mat", "not of the form"),
    ],
)
def test_bad_names_are_refused(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(ReadError, match=reason):
        read(tmp_path, skeleton(), name)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no file of MATLAB"),
        (mat({"d_iner": skeleton()}), "has no variable 'd_skel'"),
        (mat({"d_skel": skeleton()})[:-100], "damaged MATLAB file"),
        (skeleton()[:, :, 0], r"'d_skel' must have the shape \(20, 3, frames\), has \(20, 3\)"),
        (skeleton()[:19], r"has \(19, 3, 3\)"),
        (np.zeros((20, 3, 0)), r"has \(20, 3, 0\)"),
        (np.zeros((20, 3, 2)), "no frame has a body"),
        (np.full((20, 3, 2), np.inf), "infinite or too large"),
        (skeleton() * 1000, r"'d_skel': beyond 10 \(person 0, frame 0, joint 0\)"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, content: np.ndarray | bytes, reason: str) -> None:
    with pytest.raises(ReadError, match=reason):
        read(tmp_path, content)


WHOLE = [mat({"d_skel": skeleton(2)}, compress=compress) for compress in (False, True)]


@settings(FUZZ, max_examples=80)
@given(content=damaged(*WHOLE))
def test_damaged_files_give_a_sample_or_a_read_error(tmp_path: Path, content: bytes) -> None:
    try:
        sample = read(tmp_path, content)
    except ReadError:
        return
    assert (sample.sample_id, sample.label) == ("a3_s2_t4", 2)
    assert sample.joints.shape[2:] == (20, 3)


def test_through_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for subject in range(1, 9):
        put(tmp_path, skeleton(subject), f"a{subject}_s{subject}_t1_skeleton.mat")
    put(tmp_path, b"nothing", "a9_s1_t1_skeleton.mat")
    out = tmp_path / "store"
    assert main(["prepare", "utd_mhad", "--source", str(tmp_path), "--out", str(out), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["splits"] == {"train": 4, "test": 4}
    assert document["rejected"][0]["file"] == "a9_s1_t1_skeleton.mat"
    store = Store(out)
    assert store.layout == KINECT20
    assert store.subjects.tolist() == list("12345678")


def test_the_docs_show_the_whole_of_it() -> None:
    root = Path(hhmnet.__file__).parent
    page = root.parents[1] / "docs" / "adding_a_reader.md"
    if not page.is_file():
        pytest.skip("the docs are not there; hhmnet is installed without them")
    shown = re.findall(
        r"```python title=\"utd_mhad\.py\"\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL
    )
    source = (root / "readers" / "utd_mhad.py").read_text(encoding="utf-8")
    assert [line for part in shown for line in part.splitlines() if line] == [
        line for line in source.splitlines() if line
    ]


def test_the_real_data_set(tmp_path: Path) -> None:
    folder = Path(os.environ.get("HHMNET_DATA", "/nowhere")) / "utd_mhad"
    if not folder.is_dir():
        pytest.skip("HHMNET_DATA names no data folder with utd_mhad")
    report = prepare(UTDMHAD(folder), tmp_path)
    assert (report.accepted, report.rejected, report.frames) == (861, [], 58_299)
    store = Store(tmp_path)
    protocol = PROTOCOLS["utd_mhad"]
    assert [len(protocol.indices(store, part)) for part in ("train", "test")] == [431, 430]
    head, foot, left, right = (
        KINECT20.index(joint) for joint in ("head", "left_foot", "left_shoulder", "right_shoulder")
    )
    for clip in range(len(store)):
        joints = store.joints(clip)[0].mean(0)
        assert joints[head, 1] > joints[foot, 1]
        assert joints[right, 0] > joints[left, 0]
        assert 1.5 < joints[:, 2].min() < 4.5

"""UTD-MHAD's clips and the MATLAB files that they come in."""

from __future__ import annotations

import io
import json
import re
import struct
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io

import hhmnet
from hhmnet.cli import main
from hhmnet.readers import ReadError
from hhmnet.readers.joints import MISSING
from hhmnet.readers.mat5 import MAX_BYTES, read_array
from hhmnet.readers.recorded import NO_VIDEO, SHORTER, UNREADABLE
from hhmnet.readers.utd_mhad import UTDMHAD
from hhmnet.skeleton import KINECT20
from hhmnet.store import Store
from made_video import picture, write_video

CUBE = np.arange(24.0).reshape(2, 3, 4)


def mat(compress: bool = False, **variables: Any) -> bytes:
    file = io.BytesIO()
    scipy.io.savemat(file, variables, do_compression=compress)
    return file.getvalue()


@pytest.mark.parametrize("compress", [False, True])
def test_as_scipy_writes_and_reads_them(compress: bool) -> None:
    content = mat(compress, text="abc", cells=[1, "a"], part={"a": 1}, x=CUBE, n=np.float32([[1, 2]]))
    for name in ("x", "n"):
        expected = scipy.io.loadmat(io.BytesIO(content))[name]
        np.testing.assert_array_equal(read_array(content, name), expected, strict=True)
    for name in ("text", "part"):
        with pytest.raises(ReadError, match=f"variable '{name}' must be an array of real numbers"):
            read_array(content, name)
    small = bytearray(mat(x=CUBE.astype(np.uint8)))
    assert small[144] == 9
    small[144] = 6  # doubles that are small whole numbers, as MATLAB stores them
    np.testing.assert_array_equal(read_array(bytes(small), "x"), CUBE)


NAME = "a3_s2_t4_skeleton.mat"
# As Skeleton_joint_order.txt of the data set has them.
ORDER = (
    "head; shoulder_center; spine; hip_center; left_shoulder; left_elbow; left_wrist; left_hand; right_shoulder; "
    "right_elbow; right_wrist; right_hand; left_hip; left_knee; left_ankle; left_foot; right_hip; right_knee; "
    "right_ankle; right_foot"
)


def skeleton(frames: int = 3) -> np.ndarray:
    return np.random.default_rng(frames).normal(0, 0.5, (20, 3, frames)) + np.array([0, 0, 3])[:, None]


def put(folder: Path, content: np.ndarray | bytes, name: str = NAME) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    whole = content if isinstance(content, bytes) else mat(compress=True, d_skel=content)
    (folder / name).write_bytes(whole)


def test_a_clip(tmp_path: Path) -> None:
    raw = skeleton()
    raw[:, :, 1], raw[0, 2, 0] = 0, np.nan
    put(tmp_path, raw)
    notes: Counter[str] = Counter()
    sample = UTDMHAD(tmp_path).read(NAME, notes)
    assert (sample.sample_id, sample.label, sample.subject) == ("a3_s2_t4", 2, "2")
    assert sample.present.tolist() == [[True, False, True]]
    raw[0, :, 0] = 0
    for place, joint in enumerate(ORDER.split("; ")):
        found = sample.joints[0, :, KINECT20.index(joint)]
        np.testing.assert_array_equal(found, raw[place].T.astype(np.float32))
    assert notes == {MISSING: 1}
    assert [UTDMHAD.class_names[n - 1] for n in (1, 14, 27)] == ["swipe left", "baseball swing", "squat"]


BOMB = zlib.compress(bytes(MAX_BYTES + 1), 9)
SIZES = struct.pack("<3i", 20, 3, 3)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM", r"a file of MATLAB 7\.3; save it again"),
        (b"\0" * 200, r"no file of MATLAB 5 to 7\.2"),
        (mat(d_iner=skeleton()), "has no variable 'd_skel'"),
        (mat(d_skel=skeleton() * 1j), "must be an array of real numbers"),
        (mat() + struct.pack("<2I", 15, len(BOMB)) + BOMB, "larger than 64 MiB"),
        (mat(d_skel=skeleton()).replace(SIZES, struct.pack("<3i", 20, 3, 4)), "damaged MATLAB file"),
        (skeleton()[:, :, 0], r"'d_skel' must have the shape \(20, 3, frames\), has \(20, 3\)"),
        (skeleton() * 1000, r"'d_skel': beyond 10 \(person 0, frame 0, joint 0\)"),
    ],
)
def test_bad_clips_are_refused(tmp_path: Path, content: np.ndarray | bytes, reason: str) -> None:
    put(tmp_path, content)
    assert (tmp_path / NAME).stat().st_size < MAX_BYTES / 500
    with pytest.raises(ReadError, match=reason):
        UTDMHAD(tmp_path).read(NAME, Counter())
    with pytest.raises(ReadError, match="action 28 in the file's name is not in UTD-MHAD"):
        UTDMHAD(tmp_path).read("a28_s1_t1_skeleton.mat", Counter())


def test_depth_videos_go_with_the_clips(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two frames late. One whole, one too short, one missing, one damaged, one of no clip: all clips stay.

    Only skeleton files are read: depth and inertial data are .mat files too.
    """
    videos, out = tmp_path / "depth", tmp_path / "store"
    videos.mkdir()
    raw = skeleton(5)
    raw[3, :, 1] = np.nan  # the hip centre
    for trial in range(1, 5):
        put(tmp_path / "raw", raw, f"a1_s1_t{trial}_skeleton.mat")
    put(tmp_path / "raw", b"", "Depth/a1_s1_t1_depth.mat")
    put(tmp_path / "raw", b"nothing", "a9_s1_t1_skeleton.mat")
    for trial, frames in ((1, 5), (2, 4), (9, 5)):
        pictures = [picture(number, 160, 120) for number in range(frames)]
        write_video(videos / f"a1_s1_t{trial}.mp4", "mpeg4", pictures=pictures)
    (videos / "a1_s1_t4.mp4").write_bytes(b"nothing")
    words = ["prepare", "utd_mhad", "--source", str(tmp_path / "raw"), "--out", str(out), "--jobs", "1"]
    assert main([*words, "--videos", str(videos), "--json"]) == 0
    printed = capsys.readouterr()
    assert "videos for 3 of 5 clips" in printed.err
    assert "1 videos of no clip" in printed.err
    assert json.loads(printed.out)["notes"] == {MISSING: 4, UNREADABLE: 1, SHORTER: 1, NO_VIDEO: 1}
    listed = (out / "rejected.csv").read_text().splitlines()[1:]
    assert [line.split(":")[0] for line in listed] == [
        "a9_s1_t1_skeleton.mat,,is no file of MATLAB 5 to 7.2",
        "a1_s1_t3_skeleton.mat,,clip without a video",
        "a1_s1_t4_skeleton.mat,,video left out",
    ]
    whole, short, missing, damaged = (Store(out).sample(row) for row in range(4))
    frames = [None if one.video_frames is None else one.video_frames.tolist() for one in (whole, short)]
    assert frames == [[2, 3, 4, -1, -1], [2, 3, -1, -1, -1]]
    assert missing.pixels is missing.video is damaged.video is None
    assert whole.pixels is not None
    x, y, z = np.moveaxis(whole.joints[0, 2], -1, 0)
    # The Kinect's depth camera, 285.63 pixels at 320 x 240; the middle lies between the two middle pixels.
    expected = np.stack([79.5 + 285.63 / 2 * x / z, 59.5 - 285.63 / 2 * y / z], -1)
    np.testing.assert_allclose(whole.pixels[0, 2], expected, rtol=1e-4)
    assert not whole.pixels[0, 1, KINECT20.index("hip_center")].any()


def test_the_docs_show_the_whole_of_it() -> None:
    root = Path(hhmnet.__file__).parent
    page = root.parents[1] / "docs" / "adding_a_reader.md"
    if not page.is_file():
        pytest.skip("the docs are not there; hhmnet is installed without them")
    text = page.read_text(encoding="utf-8")
    shown = re.findall(r"```python title=\"utd_mhad\.py\"\n(.*?)```", text, re.DOTALL)
    source = (root / "readers" / "utd_mhad.py").read_text(encoding="utf-8")
    assert list(filter(None, "".join(shown).splitlines())) == list(filter(None, source.splitlines()))

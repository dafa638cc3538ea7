"""MSR Action3D, and the text of its and of UTKinect-Action3D's Kinect v1 skeletons."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np

from hhmnet.readers import ReadError
from hhmnet.readers.clip_files import RawClip
from hhmnet.readers.joints import settle
from hhmnet.readers.recorded import RecordedReader
from hhmnet.readers.text import decode
from hhmnet.skeleton import KINECT20

_MSR = re.compile(r"a(?P<action>\d\d)_s(?P<subject>\d\d)_e\d\d_skeleton3d", re.ASCII | re.IGNORECASE)
_UTKINECT = re.compile(r"joints_s\d\d_e\d\d", re.ASCII | re.IGNORECASE)
_MSR_JOINTS = (
    "right_shoulder left_shoulder shoulder_center spine right_hip left_hip hip_center right_elbow left_elbow "
    "right_wrist left_wrist right_hand left_hand right_knee left_knee right_ankle left_ankle right_foot left_foot head"
)
_MSR_CLASSES = (
    "high arm wave, horizontal arm wave, hammer, hand catch, forward punch, high throw, draw x, draw tick, "
    "draw circle, hand clap, two hand wave, side boxing, bend, forward kick, side kick, jogging, tennis swing, "
    "tennis serve, golf swing, pick up and throw"
)


def is_kinect_text(path: Path | PurePosixPath) -> bool:
    """Whether a file is called as MSR Action3D's or UTKinect's are."""
    return path.suffix.lower() == ".txt" and any(one.fullmatch(path.stem) for one in (_MSR, _UTKINECT))


def read_kinect_text(path: Path) -> RawClip:
    """The clip in a file of MSR Action3D, or the whole recording in one of UTKinect.

    MSR Action3D: a line a joint, ``x y z confidence``, 20 lines a frame; their order is that of the data set's drawing
    code, with the right side first. UTKinect: a line a frame, its number and the 20 joints of the Kinect's SDK; a frame
    that stands there twice counts once. Both are metres with y up. Raises ReadError, with the line, if it isn't such a
    text; OSError.
    """
    width, form = (4, "MSR Action3D") if _MSR.fullmatch(path.stem) else (61, "UTKinect")
    rows = []
    for line, text in enumerate(decode(path.read_bytes()).splitlines(), 1):
        try:
            row = [float(cell) for cell in text.split()]
        except ValueError:
            raise ReadError("holds something else than numbers", line) from None
        if row and len(row) != width:
            raise ReadError(f"has {len(row)} numbers; {form} has {width}", line)
        rows += [row] if row else []
    values = np.array(rows).reshape(-1, width)
    if width == 4:
        if not len(values) or len(values) % 20:
            raise ReadError(f"has {len(values)} joints, which is no multiple of 20")
        order = [_MSR_JOINTS.split().index(joint) for joint in KINECT20.joints]
        joints = values[:, :3].reshape(1, -1, 20, 3)[:, :, order]
        index = np.arange(joints.shape[1])
    else:
        index, first = np.unique(values[:, 0], return_index=True)
        if not len(index) or index[0] < 0 or index[-1] >= 2**31 or (index % 1).any():
            raise ReadError("must begin each line with the number of a frame")
        joints = values[first, 1:].reshape(1, -1, 20, 3)
    return RawClip(joints, index.astype(np.int64), layout="kinect20", notes=(f"{form}: read as kinect20",))


class MSRAction3D(RecordedReader):
    """MSR Action3D: 20 actions of 10 persons, the files ``a01_s02_e03_skeleton3D.txt`` of its real-world joints."""

    name: ClassVar[str] = "msr_action3d"
    title: ClassVar[str] = "MSR Action3D"
    citation: ClassVar[str] = (
        "W. Li, Z. Zhang, Z. Liu. Action Recognition Based on a Bag of 3D Points. CVPRW 2010."
    )
    protocol = "msr_action3d"
    suffixes: ClassVar[tuple[str, ...]] = (".txt",)
    pattern = _MSR
    form = "aAA_sSS_eEE_skeleton3D.txt"
    known: Mapping[str, range] = {"action": range(1, 21)}
    layout = KINECT20
    class_names = tuple(name.strip() for name in _MSR_CLASSES.split(","))

    def _is_raw(self, path: PurePosixPath) -> bool:
        return super()._is_raw(path) and _MSR.fullmatch(path.stem) is not None

    def parse(self, file: Path, told: Mapping[str, int], notes: Counter[str]) -> dict[str, Any]:
        """The skeleton of one file; raises ReadError if it can't be used."""
        clip = read_kinect_text(file)
        notes.update(clip.notes)
        return settle(clip.joints, notes, frame_index=clip.frame_index, largest=100.0, remedy=" m")

"""MSR Action3D and UTKinect-Action3D: Kinect v1 skeletons as text."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from hhmnet.readers import ReadError
from hhmnet.readers.clip_files import RawClip
from hhmnet.readers.text import decode
from hhmnet.skeleton import KINECT20

_MSR = re.compile(r"a(\d\d)_s(\d\d)_e(\d\d)_skeleton3d\.txt", re.IGNORECASE)
_UTKINECT = re.compile(r"joints_(s(\d\d)_e\d\d)\.txt", re.IGNORECASE)
_MSR_JOINTS = (
    "right_shoulder left_shoulder shoulder_center spine right_hip left_hip hip_center right_elbow left_elbow "
    "right_wrist left_wrist right_hand left_hand right_knee left_knee right_ankle left_ankle right_foot left_foot head"
)
_MSR_CLASSES = (
    "high arm wave, horizontal arm wave, hammer, hand catch, forward punch, high throw, draw x, draw tick, "
    "draw circle, hand clap, two hand wave, side boxing, bend, forward kick, side kick, jogging, tennis swing, "
    "tennis serve, golf swing, pick up and throw"
)
_UTKINECT_CLASSES = (
    "walk",
    "sitDown",
    "standUp",
    "pickUp",
    "carry",
    "throw",
    "push",
    "pull",
    "waveHands",
    "clapHands",
)


def is_kinect_text(path: Path) -> bool:
    """Whether a file is called as MSR Action3D's or UTKinect's are."""
    return bool(_MSR.fullmatch(path.name) or _UTKINECT.fullmatch(path.name))


def read_kinect_text(path: Path) -> RawClip:
    """The clip in a file of MSR Action3D, or the whole recording in one of UTKinect.

    MSR Action3D: a line a joint, ``x y z confidence``, 20 lines a frame; their order is that of the data set's drawing
    code, with the right side first. UTKinect: a line a frame, its number and the 20 joints of the Kinect's SDK; a frame
    that stands there twice counts once. Both are metres with y up.

    Raises:
        ReadError: it isn't such a text, with the line.
        OSError: it can't be read.
    """
    msr = _MSR.fullmatch(path.name) is not None
    width, form = (4, "MSR Action3D") if msr else (61, "UTKinect")
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
    notes = (f"{form}: read as kinect20",)
    if not msr:
        index, first = np.unique(values[:, 0], return_index=True)
        if not len(index) or index[0] < 0 or index[-1] >= 2**31 or (index % 1).any():
            raise ReadError("must begin each line with the number of a frame")
        joints = values[first, 1:].reshape(1, -1, 20, 3)
        return RawClip(joints, index.astype(np.int64), layout="kinect20", notes=notes)
    if not len(values) or len(values) % 20:
        raise ReadError(f"has {len(values)} joints, which is no multiple of 20")
    ordered = np.empty((1, len(values) // 20, 20, 4))
    ordered[:, :, [KINECT20.index(joint) for joint in _MSR_JOINTS.split()]] = values.reshape(1, -1, 20, 4)
    return RawClip(ordered[..., :3], np.arange(ordered.shape[1]), layout="kinect20", notes=notes)

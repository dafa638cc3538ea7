"""MediaPipe's pose landmarks: their names, their axes, and what they are measured in."""

from __future__ import annotations

import numpy as np

from hhmnet.readers.clip_files import RawClip
from hhmnet.skeleton import BLAZEPOSE33

RENAMED = {
    "mouth_left": "left_mouth",
    "mouth_right": "right_mouth",
    "left_foot_index": "left_foot",
    "right_foot_index": "right_foot",
}
"""What the ``PoseLandmark`` enumeration of MediaPipe's documentation calls otherwise than our blazepose33."""


def landmarks_as_metres(clip: RawClip) -> RawClip:
    """Landmarks as MediaPipe writes them, y down, turned as a Kinect has them: y up, x to the camera's left.

    The origin of world landmarks, which are metres, lies between the hips. Others are places in the picture, x and z
    in its widths and y in its heights; they stay so, and a note says it. Landmarks whose y points up are left alone.
    """
    nose, hips = (
        clip.joints[:, :, [BLAZEPOSE33.index(name) for name in names]]
        for names in (("nose",), ("left_hip", "right_hip"))
    )
    notes = list(clip.notes)
    joints = clip.joints
    if np.nanmedian(nose[..., 1]) < np.nanmedian(hips[..., 1]):
        joints = joints * (-1, -1, 1)
        notes.append("MediaPipe: y points down; turned")
    if np.nanmedian(np.abs(hips[..., :2].mean(axis=2))) > 0.05:
        notes.append("MediaPipe: places in the picture, not metres; its world landmarks are better")
    return clip._replace(joints=joints, notes=tuple(notes))

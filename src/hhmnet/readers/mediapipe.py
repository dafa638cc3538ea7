"""MediaPipe's pose landmarks: their names, their axes, and what they are measured in."""

from __future__ import annotations

import numpy as np

from hhmnet.readers.clip_files import NUMBERED, RawClip
from hhmnet.skeleton import BLAZEPOSE33

_RENAMED = {
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


def named_landmarks(clip: RawClip) -> RawClip:
    """A table's clip as blazepose33 if it has the landmarks under MediaPipe's names or numbers; else as it is."""
    if clip.names is None or clip.joints.shape[3] != 3:
        return clip
    if clip.names[: len(NUMBERED)] == NUMBERED:  # in tables of its holistic solution the face comes behind
        places = list(range(len(NUMBERED)))
    else:
        called = [_RENAMED.get(name, name) for name in clip.names]
        if not set(BLAZEPOSE33.joints) <= set(called):
            return clip
        places = [called.index(joint) for joint in BLAZEPOSE33.joints]
    trust = None if clip.confidence is None else np.clip(clip.confidence[:, :, places], 0, 1)
    notes = (*clip.notes, "MediaPipe: read as blazepose33")
    found = clip._replace(joints=clip.joints[:, :, places], confidence=trust, names=None, notes=notes)
    return landmarks_as_metres(found._replace(layout=BLAZEPOSE33.name))

"""UTD-MHAD from its skeleton files and depth videos. docs/adding_a_reader.md goes through this file line by line."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from hhmnet.conversion import KINECT_V1_DEPTH
from hhmnet.readers import ReadError
from hhmnet.readers.joints import settle
from hhmnet.readers.mat5 import read_array
from hhmnet.readers.recorded import RecordedReader
from hhmnet.skeleton import KINECT20

_RANGE = 10  # metres; no Kinect sees farther
_DELAY = 2  # frames that the depth comes after the skeleton, measured: results/utd_mhad.md
_JOINTS = (
    *("head", "shoulder_center", "spine", "hip_center"),
    *("left_shoulder", "left_elbow", "left_wrist", "left_hand"),
    *("right_shoulder", "right_elbow", "right_wrist", "right_hand"),
    *("left_hip", "left_knee", "left_ankle", "left_foot"),
    *("right_hip", "right_knee", "right_ankle", "right_foot"),
)
_ORDER = [_JOINTS.index(joint) for joint in KINECT20.joints]


class UTDMHAD(RecordedReader):
    """UTD-MHAD: 861 clips of 27 actions by 8 subjects, up to 4 times each, seen by one Kinect v1.

    Format: one MATLAB file a clip, ``aA_sS_tT_skeleton.mat`` (action, subject, trial), with an array ``d_skel``
    ``(20, 3, T)``: joints in an order of their own, x, y, z in metres, y up, z away from the camera. One person a clip.

    Depth: the same Kinect's, a grey video a clip, ``aA_sS_tT.mp4``, with as many frames as the skeleton but two frames
    late (results/utd_mhad.md has the measurement); the joints are projected on it.

    Splits: odd subjects train, even ones test, as in the paper.

    Terms: published for research by the authors of the paper. hhmnet brings no part of it along.
    """

    name: ClassVar[str] = "utd_mhad"
    title: ClassVar[str] = "UTD-MHAD"
    citation: ClassVar[str] = (
        "C. Chen, R. Jafari, N. Kehtarnavaz. UTD-MHAD: A Multimodal Dataset for Human Action Recognition Utilizing a "
        "Depth Camera and a Wearable Inertial Sensor. ICIP 2015."
    )
    protocol = "utd_mhad"
    suffixes: ClassVar[tuple[str, ...]] = ("_skeleton.mat",)
    pattern = re.compile(r"a(?P<action>\d{1,2})_s(?P<subject>\d)_t\d_skeleton", re.ASCII)
    form = "aA_sS_tT_skeleton.mat"
    known: Mapping[str, range] = {"action": range(1, 28), "subject": range(1, 9)}
    tail = "_skeleton"
    layout = KINECT20
    class_names = (
        *("swipe left", "swipe right", "wave", "clap", "throw", "cross arms", "basketball shot", "draw x"),
        *("draw circle clockwise", "draw circle counter-clockwise", "draw triangle", "bowl", "box"),
        *("baseball swing", "tennis swing", "arm curl", "tennis serve", "push with two hands"),
        *("knock on door", "catch", "pick up and throw", "jog", "walk", "sit to stand", "stand to sit"),
        *("lunge", "squat"),
    )

    def _is_raw(self, path: PurePosixPath) -> bool:
        # Depth and inertial data are .mat files too.
        return path.name.lower().endswith(self.suffixes)

    def parse(self, file: Path, told: Mapping[str, int], notes: Counter[str]) -> dict[str, Any]:
        """The skeleton of one file; raises ReadError, with the reason, if it can't be used."""
        skeleton = read_array(file.read_bytes(), "d_skel")
        if skeleton.ndim != 3 or skeleton.shape[:2] != (20, 3) or not skeleton.size:
            raise ReadError(f"'d_skel' must have the shape (20, 3, frames), has {skeleton.shape}")
        joints = skeleton[_ORDER].transpose(2, 0, 1)[None]
        return settle(joints, notes, field="d_skel", largest=_RANGE)

    def alignment(self, told: Mapping[str, int]) -> dict[str, Any]:
        """The depth camera, and how late its pictures come."""
        return {"camera": KINECT_V1_DEPTH, "delay": _DELAY}

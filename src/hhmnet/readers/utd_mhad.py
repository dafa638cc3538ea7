"""UTD-MHAD from its skeleton files. docs/adding_a_reader.md goes through this file line by line."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import PurePosixPath
from typing import ClassVar

import numpy as np

from hhmnet.readers import Reader, ReadError
from hhmnet.readers.joints import settle
from hhmnet.readers.mat5 import read_array
from hhmnet.sample import Sample
from hhmnet.skeleton import KINECT20

_NAME = re.compile(r"a(\d{1,2})_s(\d)_t(\d)_skeleton", re.ASCII)
_SUBJECTS = 8
_RANGE = 10  # metres; no Kinect sees farther
_JOINTS = (
    *("head", "shoulder_center", "spine", "hip_center"),
    *("left_shoulder", "left_elbow", "left_wrist", "left_hand"),
    *("right_shoulder", "right_elbow", "right_wrist", "right_hand"),
    *("left_hip", "left_knee", "left_ankle", "left_foot"),
    *("right_hip", "right_knee", "right_ankle", "right_foot"),
)
_ORDER = [_JOINTS.index(joint) for joint in KINECT20.joints]


class UTDMHAD(Reader):
    """UTD-MHAD: 861 clips of 27 actions by 8 subjects, up to 4 times each, seen by one Kinect v1.

    Format: one MATLAB file a clip, ``aA_sS_tT_skeleton.mat`` (action, subject, trial), with an array ``d_skel``
    ``(20, 3, T)``: joints in an order of their own, x, y, z in metres, y up, z away from the camera. One person a clip.

    Splits: odd subjects train, even ones test, as in the paper.

    Terms: published for research by the authors of the paper. hhmnet brings no part of it along.

    Citation: C. Chen, R. Jafari, N. Kehtarnavaz. UTD-MHAD: A Multimodal Dataset for Human Action Recognition
    Utilizing a Depth Camera and a Wearable Inertial Sensor. ICIP 2015.

    Args:
        source: folder of the skeleton files, or one above it.

    Raises:
        SourceError: there is no such folder.
    """

    name: ClassVar[str] = "utd_mhad"
    title: ClassVar[str] = "UTD-MHAD"
    citation: ClassVar[str] = (
        "C. Chen, R. Jafari, N. Kehtarnavaz. UTD-MHAD: A Multimodal Dataset for Human Action Recognition Utilizing a "
        "Depth Camera and a Wearable Inertial Sensor. ICIP 2015."
    )
    protocol = "utd_mhad"
    suffixes: ClassVar[tuple[str, ...]] = ("_skeleton.mat",)
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

    def read(self, item: str, notes: Counter[str]) -> Sample:
        """Read one clip; raises ReadError, with the reason, if it can't be used."""
        file = self.source / item
        named = _NAME.fullmatch(file.stem)
        if named is None:
            raise ReadError("the file's name is not of the form aA_sS_tT_skeleton.mat")
        action, subject, _ = (int(number) for number in named.groups())
        if not 1 <= action <= len(self.class_names) or not 1 <= subject <= _SUBJECTS:
            raise ReadError(f"action {action} or subject {subject} is not in {self.title}; it has 27 and 8")
        skeleton = read_array(file.read_bytes(), "d_skel")
        if skeleton.ndim != 3 or skeleton.shape[:2] != (20, 3) or not skeleton.size:
            raise ReadError(f"'d_skel' must have the shape (20, 3, frames), has {skeleton.shape}")
        joints = skeleton[_ORDER].transpose(2, 0, 1)[None]
        bodies = settle(joints, notes, field="d_skel", largest=_RANGE)
        return Sample(
            sample_id=file.stem.removesuffix("_skeleton"),
            label=action - 1,
            joints=bodies.joints,
            present=bodies.present,
            frame_index=np.arange(skeleton.shape[2], dtype=np.int32),
            subject=str(subject),
            confidence=bodies.confidence,
        )

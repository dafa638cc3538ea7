"""UTD-MHAD from its skeleton files and depth videos. docs/adding_a_reader.md goes through this file line by line."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np

from hhmnet.conversion import KINECT_V1_DEPTH
from hhmnet.readers import Reader, ReaderConfig, ReadError
from hhmnet.readers.joints import settle
from hhmnet.readers.mat5 import read_array
from hhmnet.readers.pairing import NO_VIDEO, find_videos, look_at, pair_frames, pixels_of
from hhmnet.sample import Sample
from hhmnet.skeleton import KINECT20

_NAME = re.compile(r"a(\d{1,2})_s(\d)_t(\d)_skeleton", re.ASCII)
_SUBJECTS = 8
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


@dataclass
class UTDMHADConfig(ReaderConfig):
    """What can be chosen when UTD-MHAD is read: whether its depth goes with it."""

    videos: Path | None = None
    """Folder of the depth as grey videos named like the clips (a1_s1_t1.mp4); without it, no clip has a video."""


class UTDMHAD(Reader):
    """UTD-MHAD: 861 clips of 27 actions by 8 subjects, up to 4 times each, seen by one Kinect v1.

    Format: one MATLAB file a clip, ``aA_sS_tT_skeleton.mat`` (action, subject, trial), with an array ``d_skel``
    ``(20, 3, T)``: joints in an order of their own, x, y, z in metres, y up, z away from the camera. One person a clip.

    Depth: the same Kinect's, a grey video a clip, ``aA_sS_tT.mp4``, with as many frames as the skeleton but two frames
    late (results/utd_mhad.md has the measurement); the joints are projected on it.

    Splits: odd subjects train, even ones test, as in the paper.

    Terms: published for research by the authors of the paper. hhmnet brings no part of it along.

    Citation: C. Chen, R. Jafari, N. Kehtarnavaz. UTD-MHAD: A Multimodal Dataset for Human Action Recognition
    Utilizing a Depth Camera and a Wearable Inertial Sensor. ICIP 2015.

    Args:
        source: folder of the skeleton files, or one above it.
        config: a :class:`UTDMHADConfig`.

    Raises:
        SourceError: there is no such folder or folder of videos.
    """

    name: ClassVar[str] = "utd_mhad"
    title: ClassVar[str] = "UTD-MHAD"
    citation: ClassVar[str] = (
        "C. Chen, R. Jafari, N. Kehtarnavaz. UTD-MHAD: A Multimodal Dataset for Human Action Recognition Utilizing a "
        "Depth Camera and a Wearable Inertial Sensor. ICIP 2015."
    )
    protocol = "utd_mhad"
    suffixes: ClassVar[tuple[str, ...]] = ("_skeleton.mat",)
    config_class: ClassVar[type[ReaderConfig]] = UTDMHADConfig
    config: UTDMHADConfig
    layout = KINECT20
    class_names = (
        *("swipe left", "swipe right", "wave", "clap", "throw", "cross arms", "basketball shot", "draw x"),
        *("draw circle clockwise", "draw circle counter-clockwise", "draw triangle", "bowl", "box"),
        *("baseball swing", "tennis swing", "arm curl", "tennis serve", "push with two hands"),
        *("knock on door", "catch", "pick up and throw", "jog", "walk", "sit to stand", "stand to sit"),
        *("lunge", "squat"),
    )

    def __init__(self, source: Path, config: ReaderConfig | None = None) -> None:
        super().__init__(source, config)
        self._videos: dict[str, str] = {}
        self._left_over: list[str] = []
        if self.config.videos is not None:
            clips = [PurePosixPath(item).stem.removesuffix("_skeleton") for item in self.items()]
            self._videos, self._left_over = find_videos(self.config.videos, clips)

    @property
    def video_folder(self) -> Path | None:
        """The folder of depth videos, if one is given."""
        return self.config.videos

    def describe(self) -> list[str]:
        """What was found: files and depth videos, and which of these are of no clip."""
        lines = super().describe()
        if self.config.videos is not None:
            lines.append(
                f"videos for {len(self._videos):,} of {len(self.items()):,} clips, frame by frame, {_DELAY} frames late"
            )
        return lines + [f"video of no clip: {video}" for video in self._left_over]

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
        clip = file.stem.removesuffix("_skeleton")
        return Sample(
            sample_id=clip,
            label=action - 1,
            joints=bodies.joints,
            present=bodies.present,
            frame_index=np.arange(skeleton.shape[2], dtype=np.int32),
            subject=str(subject),
            confidence=bodies.confidence,
            **self._depth(clip, bodies.joints, notes),
        )

    def _depth(self, clip: str, joints: np.ndarray, notes: Counter[str]) -> dict[str, Any]:
        """The sample's fields ``video``, ``video_frames`` and ``pixels``; none if it has no video that can be read."""
        if self.config.videos is None:
            return {}
        if clip not in self._videos:
            notes[NO_VIDEO] += 1
            return {}
        video = self._videos[clip]
        look = look_at(self.config.videos / video, notes)
        if look is None:
            return {}
        frames, note = pair_frames(joints.shape[1], look.frames, _DELAY)
        notes.update([note] if note else [])
        pixels = pixels_of(joints, KINECT_V1_DEPTH, look.size, notes)
        return {"video": video, "video_frames": frames, "pixels": pixels}

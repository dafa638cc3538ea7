"""MSR Action3D and UTKinect-Action3D: Kinect v1 skeletons as text."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np

from hhmnet.readers import Reader, ReaderConfig, ReadError, SourceError
from hhmnet.readers.clip_files import RawClip
from hhmnet.readers.joints import settle
from hhmnet.readers.listed import hold_out
from hhmnet.readers.text import decode
from hhmnet.sample import Sample
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
_UTKINECT_CLASSES = "walk sitDown standUp pickUp carry throw push pull waveHands clapHands"


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


class MSRAction3D(Reader):
    """MSR Action3D: 20 actions of 10 persons, the files ``a01_s02_e03_skeleton3D.txt`` of its real-world coordinates.

    Citation: W. Li, Z. Zhang, Z. Liu. Action Recognition Based on a Bag of 3D Points. CVPR workshops 2010.
    """

    name: ClassVar[str] = "msr_action3d"
    title: ClassVar[str] = "MSR Action3D"
    citation: ClassVar[str] = (
        "W. Li, Z. Zhang, Z. Liu. Action Recognition Based on a Bag of 3D Points. CVPRW 2010."
    )
    protocol = "msr_action3d"
    suffixes: ClassVar[tuple[str, ...]] = (".txt",)
    layout = KINECT20
    class_names = tuple(name.strip() for name in _MSR_CLASSES.split(","))

    def _is_raw(self, path: PurePosixPath) -> bool:
        return _MSR.fullmatch(path.name) is not None

    def read(self, item: str, notes: Counter[str]) -> Sample:
        """Read one clip; raises ReadError if it can't be used."""
        path = self.source / item
        action, subject, _ = map(int, _MSR.fullmatch(path.name).groups())  # type: ignore[union-attr]
        if not 1 <= action <= len(self.class_names):
            raise ReadError(f"there is no action {action}")
        fields = _fields(read_kinect_text(path), notes)
        return Sample(item.removesuffix(path.suffix), action - 1, subject=str(subject), **fields)


class UTKinect(Reader):
    """UTKinect-Action3D: 10 actions of 10 persons, cut out of its recordings as ``actionLabel.txt`` says.

    Citation: L. Xia, C.-C. Chen, J. K. Aggarwal. View Invariant Human Action Recognition Using Histograms of 3D Joints.
    CVPR workshops 2012. It tests each sequence by itself; here some persons are tested, see
    :func:`~hhmnet.readers.listed.hold_out`.
    """

    name: ClassVar[str] = "utkinect"
    title: ClassVar[str] = "UTKinect-Action3D"
    citation: ClassVar[str] = (
        "L. Xia, C.-C. Chen, J. K. Aggarwal. View Invariant Human Action Recognition. CVPRW 2012."
    )
    protocol = "given"
    suffixes: ClassVar[tuple[str, ...]] = (".txt",)
    layout = KINECT20
    class_names = tuple(_UTKINECT_CLASSES.split())

    def __init__(self, source: Path, config: ReaderConfig | None = None) -> None:
        super().__init__(source, config)
        self._clips = self._read_labels()
        self._split, self._rule = hold_out({item: item.partition("_s")[2][:2] for item in self._clips})

    def _is_raw(self, path: PurePosixPath) -> bool:
        return _UTKINECT.fullmatch(path.name) is not None

    def items(self) -> list[str]:
        """The clips, ``joints_s01_e01.txt#walk``, sorted."""
        return sorted(self._clips)

    def describe(self) -> list[str]:
        """What was found, and what is tested."""
        return [*super().describe(), f"split: {self._rule}"]

    def read(self, item: str, notes: Counter[str]) -> Sample:
        """Read one clip; raises ReadError if it can't be used."""
        path, action = item.rsplit("#", 1)
        first, last = self._clips[item]
        clip = read_kinect_text(self.source / path)
        chosen = (clip.frame_index >= first) & (clip.frame_index <= last)
        if not chosen.any():
            raise ReadError(f"has no frame from {first} to {last}, where '{action}' is")
        clip = clip._replace(joints=clip.joints[:, chosen], frame_index=clip.frame_index[chosen])
        name = f"{PurePosixPath(path).with_suffix('')}-{action}"
        subject, split = str(int(path.partition("_s")[2][:2])), self._split[item]
        return Sample(
            name, self.class_names.index(action), subject=subject, split=split, **_fields(clip, notes)
        )

    def _read_labels(self) -> dict[str, tuple[int, int]]:
        """First and last frame of each clip."""
        files = {PurePosixPath(item).stem.lower().removeprefix("joints_"): item for item in super().items()}
        places = [
            folder / "actionLabel.txt" for folder in (self.source, self.source.parent, self.source / "joints")
        ]
        table = next((place for place in places if place.is_file()), None)
        if table is None:
            raise SourceError(f"{places[0]}: there is no such file; it says in which frames the actions are")
        found, recording = {}, ""
        for line, text in enumerate(decode(table.read_bytes()).splitlines(), 1):
            action, colon, frames = text.partition(":")
            numbers = frames.split()
            if text.strip() and not colon:
                recording = text.strip().lower()
            elif (
                len(numbers) == 2
                and all(number.isdecimal() for number in numbers)
                and action in self.class_names
            ):
                if recording in files:
                    found[f"{files[recording]}#{action}"] = (int(numbers[0]), int(numbers[1]))
            elif colon and "nan" not in frames.lower():
                raise SourceError(
                    f"{table}, line {line}: must be one of the actions, a colon, and two frames"
                )
        if not found:
            raise SourceError(f"{table}: none of its recordings is in {self.source}")
        return found


def _fields(clip: RawClip, notes: Counter[str]) -> dict[str, Any]:
    notes.update(clip.notes)
    bodies = settle(clip.joints, notes, largest=100.0, remedy=" m")
    return {
        "joints": bodies.joints,
        "present": bodies.present,
        "frame_index": clip.frame_index.astype(np.int32),
    }

"""One clip and all that is known of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath

import numpy as np

from hhmnet.fields import brief

UNKNOWN_LABEL = -1

MODALITIES = ("skeleton", "video")  # what a clip may have, in the order in which models and answers name it


class SampleError(ValueError):
    """A sample whose fields contradict each other; the message names the sample and the field."""


def is_inside(path: str) -> bool:
    """Whether a relative path, with the separators of whatever system, stays in its folder."""
    inner = PurePosixPath(path.replace("\\", "/"))
    leaves = inner.is_absolute() or ".." in inner.parts or PureWindowsPath(path).drive
    return bool(inner.name) and not leaves and "\0" not in path


@dataclass(frozen=True, eq=False)
class Sample:
    """One recorded clip.

    A frame without a body stays where it was, with ``present`` False and zeros for joints: were it dropped, the
    skeleton and its video would part ways. Raises SampleError: a field has another shape or type, isn't finite, or
    contradicts another field.

    Attributes:
        sample_id: unique name of the clip; scores, metrics and fusion find it by this name.
        label: class index from 0; -1 if unknown.
        joints: joint positions ``(M, T, V, C)`` float32, in the layout's units; zeros where a person is absent.
        present: whether the person's body is there in that frame, ``(M, T)`` bool.
        frame_index: index of each frame in the recording, ``(T,)`` int32, 0 or more and strictly increasing.
        subject, camera, setup: who acts, as text, since users' own groups are names; which camera or view saw it; which
            setup, scene or room; "" if unknown.
        split: names of the published parts that the clip belongs to, separated by spaces; "" if none.
        pixels: joint positions in the video, ``(M, T, V, 2)`` float32 pixels (x right, y down).
        confidence: trust in each joint, ``(M, T, V)`` float32 from 0 to 1; 0 for a joint that is missing. Its pixels
            are then zero, and so are its joints, unless an estimator supposes where in the room it is.
        boxes: the persons' boxes in the video, ``(M, T, 4)`` float32 pixels: left, top, right, bottom; zeros where a
            person is absent.
        interpolated: bodies that no sensor saw and that were filled in between two seen ones, ``(M, T)`` bool.
        video: file name of the video, relative to the video folder.
        video_frames: index of the video's frame that shows the same instant, ``(T,)`` int32; -1 where there is none.
    """

    sample_id: str
    label: int
    joints: np.ndarray
    present: np.ndarray
    frame_index: np.ndarray
    subject: str = ""
    camera: str = ""
    setup: str = ""
    split: str = ""
    pixels: np.ndarray | None = None
    confidence: np.ndarray | None = None
    boxes: np.ndarray | None = None
    interpolated: np.ndarray | None = None
    video: str | None = None
    video_frames: np.ndarray | None = None

    def __post_init__(self) -> None:
        self._check_text()
        label = self.label
        if isinstance(label, bool) or not isinstance(label, (int, np.integer)) or label < UNKNOWN_LABEL:
            raise self._error("label", f"must be a class index from 0, or -1 if unknown, got {label!r}")
        self._check_array("joints", np.float32, (None, None, None, None))
        persons, frames, count, _ = self.joints.shape
        bodies = persons, frames
        for field, dtype, shape in (
            ("present", np.bool_, bodies),
            ("frame_index", np.int32, (frames,)),
            ("pixels", np.float32, (*bodies, count, 2)),
            ("confidence", np.float32, (*bodies, count)),
            ("boxes", np.float32, (*bodies, 4)),
            ("interpolated", np.bool_, bodies),
            ("video_frames", np.int32, (frames,)),
        ):
            if getattr(self, field) is not None or field in ("present", "frame_index"):
                self._check_array(field, dtype, shape)
        if self.frame_index[0] < 0 or (np.diff(self.frame_index.astype(np.int64)) <= 0).any():
            raise self._error("frame_index", "must be 0 or more and strictly increasing")
        if not self.present.all() and self.joints[~self.present].any():
            raise self._error("joints", "must be zero wherever 'present' is False")
        if self.interpolated is not None and (self.interpolated & ~self.present).any():
            raise self._error("interpolated", "must be False wherever 'present' is")
        if self.video_frames is not None:
            if self.video is None:
                raise self._error("video_frames", "needs the field 'video'")
            if self.video_frames.min() < -1:
                raise self._error("video_frames", "must be a frame's index, or -1 for none")

    @property
    def num_persons(self) -> int:
        """Number of persons, M."""
        return int(self.joints.shape[0])

    @property
    def num_frames(self) -> int:
        """Number of frames, T."""
        return int(self.joints.shape[1])

    def _error(self, field: str, reason: str) -> SampleError:
        return SampleError(f"sample {self.sample_id!r}: field '{field}': {reason}")

    def _check_text(self) -> None:
        for field in ("sample_id", "subject", "camera", "setup", "split", "video"):
            text = getattr(self, field)
            if text is None and field == "video":
                continue
            rule = "text, and not empty" if field == "sample_id" else "text"
            if not isinstance(text, str) or (not text and field == "sample_id"):
                raise self._error(field, f"must be {rule}, got {type(text).__name__}")
            try:
                text.encode()
            except UnicodeEncodeError:
                raise self._error(field, f"can't be written as UTF-8: {text!r}") from None
        if self.video is not None and not is_inside(self.video):
            got = brief(self.video, 80)
            raise self._error("video", f"must be a path inside the folder of videos, got {got!r}")

    def _check_array(self, field: str, dtype: type, shape: tuple[int | None, ...]) -> None:
        """Raise SampleError unless a field is an array of this dtype, shape (None: any but 0) and finite."""
        array = getattr(self, field)
        if not isinstance(array, np.ndarray) or array.dtype != dtype:
            got = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
            raise self._error(field, f"must be a {np.dtype(dtype)} array, got {got}")
        wanted = tuple(a if w is None else w for w, a in zip(shape, array.shape, strict=False))
        if array.ndim != len(shape) or array.shape != wanted or 0 in array.shape:
            text = ", ".join("any" if size is None else str(size) for size in shape)
            raise self._error(field, f"must have the shape ({text}), got {array.shape}")
        if array.dtype == np.float32 and not np.isfinite(array).all():
            raise self._error(field, "holds NaN or infinity")

"""A folder of your own skeletons."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np

from hhmnet.fields import one_of
from hhmnet.layout_files import load_layout
from hhmnet.readers import ReaderConfig, ReadError, SourceError
from hhmnet.readers.clip_files import SUFFIXES, RawClip
from hhmnet.readers.formats import in_layout, read_clip
from hhmnet.readers.joints import Bodies, settle
from hhmnet.readers.kinect_text import is_kinect_text
from hhmnet.readers.labels import DEFAULT_TABLE
from hhmnet.readers.listed import ListedReader
from hhmnet.sample import Sample
from hhmnet.skeleton import LAYOUTS, LayoutError, SkeletonLayout

METRES = {"m": 1.0, "cm": 0.01, "mm": 0.001}
LARGEST = {2: 100_000.0, 3: 100.0}
"""Pixels and metres that no joint is beyond."""
TALL = (0.3, 3.0)
"""Metres that a person measures from the lowest joint to the highest, with a good margin."""

_TRIED = 20
_FEET = ["left_foot", "right_foot"]


@dataclass
class FolderConfig(ReaderConfig):
    """What can be chosen for a folder of skeletons."""

    labels: Path = DEFAULT_TABLE
    """The table of the clips and their labels; a relative path is looked for in the source folder first."""
    layout: str = ""
    """The skeleton: a known layout's name or a YAML file. By default the known layout with as many joints and
    coordinates, if there is just one."""
    units: str = "m"
    """What 3-D joints are measured in: m, cm or mm. 2-D joints are pixels."""
    fps: float = 0.0
    """Frames a second, for a table whose columns start and end are in seconds."""

    def __post_init__(self) -> None:
        one_of(self, "units", tuple(METRES))


class Folder(ListedReader):
    """Skeletons of your own, in files of a common format.

    Format: a file a clip, ``.npz``, ``.npy``, ``.json`` or ``.csv``, and a table ``labels.csv`` with a line a clip;
    docs/your_own_data.md has examples. Files that the table doesn't name are left out. A joint whose position is NaN
    (empty, null) is missing.

    Splits: those of the table. If it has none, whole subjects or groups are tested, or, if it has none of those either,
    clips: see :func:`~hhmnet.readers.labels.hold_out`.

    Args:
        source: folder of the files.
        config: see :class:`FolderConfig`.

    Raises:
        SourceError: there is no such folder or table, or the skeleton must be named.
    """

    name: ClassVar[str] = "folder"
    title: ClassVar[str] = "skeleton"
    citation: ClassVar[str] = "Your own data."
    suffixes: ClassVar[tuple[str, ...]] = SUFFIXES
    config_class: ClassVar[type[ReaderConfig]] = FolderConfig
    config: FolderConfig

    def __init__(self, source: Path, config: ReaderConfig | None = None) -> None:
        super().__init__(source, config)
        self.layout = self._choose_layout()

    @property
    def options(self) -> dict[str, Any]:
        """What was chosen, with the layout that was found."""
        return super().options | {"layout": self.layout.name}

    def describe(self) -> list[str]:
        """What was understood: the table, the files, the skeleton, the classes, and what is tested."""
        unit = f"read in {self.config.units}" if self.layout.dims == 3 else "pixels"
        return [
            *super().describe(),
            f"skeleton: {self.layout.name} ({self.layout.num_joints} joints, {self.layout.dims}-D, {unit})",
            *self._doubts(),
        ]

    def read(self, item: str, notes: Counter[str]) -> Sample:
        """Read one clip; raises ReadError, with the reason, if it can't be used."""
        clip = in_layout(read_clip(self.file(item)), self.layout)
        notes.update(clip.notes)
        fields = clip_fields(clip, self.layout, self.config.units, notes)
        return self.sample(item, fields, notes, self.config.fps)

    def _is_raw(self, path: PurePosixPath) -> bool:
        return super()._is_raw(path) or is_kinect_text(Path(path))

    def _choose_layout(self) -> SkeletonLayout:
        """The layout that was asked for, or that fits the first clip; raises SourceError if there isn't one."""
        if self.config.layout:
            try:
                return load_layout(self.config.layout)
            except LayoutError as error:
                raise SourceError(f"field 'layout': {error}") from None
        clip, name = self._first_clip()
        count, dims = clip.joints.shape[2:]
        fitting = fitting_layouts(clip)
        if len(fitting) != 1:
            known = " and ".join(layout.name for layout in fitting) or "no known layout"
            called = f" ({', '.join(clip.names)})" if clip.names else ""
            raise SourceError(
                f"{self.source / name} has {count} joints of {dims} coordinates{called}, which fits {known}; give "
                "field 'layout' a name, or a YAML file that describes the skeleton"
            )
        return fitting[0]

    def _first_clip(self) -> tuple[RawClip, str]:
        """The first of the listed clips that can be read, and its name; raises SourceError if there is none."""
        fault = ""
        for item in self.items()[:_TRIED]:
            try:
                return read_clip(self.file(item)), item
            except ReadError as error:
                fault = fault or f"{item}: {error}"
            except OSError as error:
                fault = fault or f"{item}: {error.strerror or error}"
        raise SourceError(
            f"{self.source}: none of the first clips in {self.labels.file.name} can be read, so the skeleton isn't "
            f"known ({fault}); mend them, or give field 'layout'"
        )

    def _doubts(self) -> list[str]:
        """What looks wrong in the first clip: its units, or an axis that points the wrong way."""
        try:
            clip, name = self._first_clip()
            heights = _in_order(clip, self.layout).joints[..., 1] * METRES[self.config.units]
        except (ReadError, SourceError):
            return []
        if self.layout.dims == 2:
            return []
        seen = np.isfinite(heights).all(axis=-1) & heights.any(axis=-1)
        doubts = []
        tall = np.median(np.ptp(heights[seen], axis=-1)) if seen.any() else TALL[0]
        if not TALL[0] <= tall <= TALL[1]:
            doubts.append(f"warning: the body in {name} is {tall:,.2f} m tall; is field 'units' right?")
        head, feet = (
            [joint for part in parts for joint in self.layout.parts[part]] for parts in (["head"], _FEET)
        )
        if seen.any() and head and feet and heights[seen][:, head].mean() < heights[seen][:, feet].mean():
            doubts.append(f"warning: in {name} the head is below the feet; y must point up")
        return doubts


def clip_fields(clip: RawClip, layout: SkeletonLayout, units: str, notes: Counter[str]) -> dict[str, Any]:
    """A sample's fields that follow from a file: joints, who is there, frames, confidence and pixels.

    Args:
        clip: what the file says.
        layout: its skeleton.
        units: what 3-D joints are measured in, a key of ``METRES``.
        notes: counts what is left out.

    Raises:
        ReadError: the file hasn't got the layout's joints, or they can't be used.
    """
    clip = _in_order(clip, layout)
    bodies = settle(
        clip.joints * (METRES[units] if layout.dims == 3 else 1.0),
        notes,
        confidence=clip.confidence,
        present=clip.present,
        largest=LARGEST[layout.dims],
        remedy=" m; if these are millimetres, give field 'units'" if layout.dims == 3 else " pixels",
    )
    return {
        "joints": bodies.joints,
        "present": bodies.present,
        "frame_index": clip.frame_index.astype(np.int32),
        "pixels": _pixels(clip, bodies, layout),
        "confidence": bodies.confidence,
    }


def fitting_layouts(clip: RawClip) -> list[SkeletonLayout]:
    """The known layouts with the clip's joints; just one where the file's format says it."""
    return [layout for layout in LAYOUTS.values() if fits(layout, clip)]


def fits(layout: SkeletonLayout, clip: RawClip) -> bool:
    """Whether a clip has a layout's joints: by what its format says, by their names, or else by their number."""
    if clip.layout:
        return clip.layout == layout.name
    if clip.names is not None:
        return layout.dims == clip.joints.shape[3] and {joint.lower() for joint in layout.joints} <= set(
            clip.names
        )
    return clip.joints.shape[2:] == (layout.num_joints, layout.dims)


def _in_order(clip: RawClip, layout: SkeletonLayout) -> RawClip:
    """The clip with its joints in the layout's order; raises ReadError if it hasn't got them."""
    if clip.names is None:
        try:
            layout.check(clip.joints)
        except LayoutError as error:
            raise ReadError(str(error)) from None
        return clip
    missing = [joint for joint in layout.joints if joint.lower() not in clip.names]
    if missing or clip.joints.shape[3] != layout.dims:
        lacks = f"no columns for {', '.join(missing)}" if missing else f"{clip.joints.shape[3]} coordinates"
        raise ReadError(f"layout {layout.name} has {layout.dims} coordinates a joint; the file has {lacks}")
    order = [clip.names.index(joint.lower()) for joint in layout.joints]
    trust = None if clip.confidence is None else clip.confidence[:, :, order]
    return clip._replace(joints=clip.joints[:, :, order], confidence=trust)


def _pixels(clip: RawClip, bodies: Bodies, layout: SkeletonLayout) -> np.ndarray | None:
    """Positions in the video, ``(M, T, V, 2)``: the file's, or 2-D joints themselves; zero for what is missing."""
    if clip.pixels is None:
        return bodies.joints if layout.dims == 2 else None
    pixels = clip.pixels[bodies.persons].astype(np.float32)
    missing = ~bodies.present[..., None] if bodies.confidence is None else bodies.confidence == 0
    pixels[np.broadcast_to(missing, pixels.shape[:3])] = 0
    if not np.isfinite(pixels).all():
        raise ReadError("field 'pixels': not a number, or infinite, for a joint that is there")
    return pixels

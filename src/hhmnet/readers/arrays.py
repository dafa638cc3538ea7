"""The one door for arrays of joints: what their numbers mean.

A shape says little: 25 joints of 3 numbers are a Kinect's metres, or OpenPose's pixels with their confidence. Values,
names and what the user chose decide. Where they leave two readings, the error says both, and the flag that decides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from hhmnet.conversion import convert
from hhmnet.fields import one_of
from hhmnet.readers import ReaderConfig, ReadError, SourceError
from hhmnet.readers.clip_files import PICTURE, RawClip
from hhmnet.readers.joints import DOUBT, ODD, TALL, bone_ratio, doubts, is_upside_down, settle, tallness
from hhmnet.skeleton import LAYOUTS, LayoutError, SkeletonLayout, load_layout

METRES = {"m": 1.0, "cm": 0.01, "mm": 0.001}
PLANE = ("pixels", "fractions")
LARGEST = {2: 100_000.0, 3: 100.0}  # pixels and metres that no joint is beyond
SCORE_MOVED = "score below 0 or above 1: set to 0 or 1"

_LOOKED_AT, _TRIED = 8, 20
_SURELY = 1.25  # so many times as long must the bones of the worse of two skeletons be
_TRUST = 1.0  # so far from 0 to 1 may a confidence lie; a heatmap's peak can be a little above 1
_FRACTION = 2.0  # positions in 2-D up to this are fractions of the picture; a joint can lie beyond its edge
_THIRDS = {"": "x and y", "z": "x, y, z", "confidence": "x, y and confidence"}
_TURNS = {"y": ((0, 1, 2), (1, 1, 1)), "minus_y": ((0, 1, 2), (1, -1, 1))}
_TURNS |= {"z": ((0, 2, 1), (1, 1, -1)), "minus_z": ((0, 2, 1), (1, -1, 1))}
"""By where up is: the axes that become x, y and z, and their signs."""
_FRACTIONS = (
    DOUBT + "positions are fractions of a picture whose size isn't known: width and height may be stretched"
)


@dataclass
class ArrayConfig(ReaderConfig):
    """What can be said of arrays of joints; what is left out is told by their values and names."""

    layout: str = ""
    """The skeleton: a known layout's name or a YAML file. By default the known one with as many joints whose bones lie
    where the joints are."""
    units: str = ""
    """What joints are measured in: m, cm or mm; in 2-D pixels or fractions (of the picture). By default as tall as a
    person is."""
    third: str = ""
    """What a third number of each joint is: z or confidence. By default confidence if it lies from 0 to 1 beside
    positions that are no metres."""
    up: str = ""
    """Where up is in the files: y, minus_y, z or minus_z. By default y in 3-D, minus_y in a picture."""
    axes: str = ""
    """Order of an array's axes, such as TMVC: M persons, T frames, V joints, C numbers of a joint. By default TVC or
    MTVC if the values don't say otherwise."""

    def __post_init__(self) -> None:
        words = {"units": (*METRES, *PLANE), "third": ("z", "confidence"), "up": tuple(_TURNS)}
        for name, known in words.items():
            if getattr(self, name):
                one_of(self, name, known)
        if self.axes and sorted(self.axes) not in (sorted("TVC"), sorted("MTVC")):
            rule = "must be the letters of TVC or MTVC in the arrays' order"
            raise ValueError(f"field 'axes' {rule}; got '{self.axes}'")


@dataclass(frozen=True)
class ArrayForm:
    """What the arrays of a source were found to be, as :class:`ArrayConfig` has it; ``third`` is "" where joints have
    no third number, or it is left out.
    """

    layout: SkeletonLayout
    units: str
    third: str
    up: str
    axes: str = "MTVC"

    def __str__(self) -> str:
        third = f", third number {self.third}" if self.third else ""
        layout = f"{self.layout.num_joints} joints {self.layout.name}"
        return f"{layout}, {self.units}{third}, up is {self.up}, axes {self.axes}"

    @property
    def is_inferred(self) -> bool:
        """Whether it is anything but what docs/your_own_data.md asks for, so that the user should know of it."""
        is_plain = self.units in ("m", "pixels") and self.axes in ("TVC", "MTVC")
        return not is_plain or self.third == "confidence"

    @property
    def options(self) -> dict[str, str]:
        """As it stands in a store's provenance."""
        return vars(self) | {"layout": self.layout.name}


def survey(
    items: Sequence[str], read: Callable[[str], RawClip], config: ArrayConfig, where: object
) -> tuple[ArrayForm, list[str]]:
    """What a source's arrays are, from a few clips all over it, and what the user should know before the work starts.
    ``read`` reads one of the items; ``where`` is the source, for messages. Raises SourceError as :func:`understand`, or
    where no clip can be read.
    """
    clips, first = dict[str, RawClip](), ""
    for item in list(dict.fromkeys([*items[:: len(items) // _LOOKED_AT + 1], *items]))[:_TRIED]:
        try:
            clips[item] = read(item)
        except (ReadError, OSError) as error:
            first = first or f" {item}: {error}:"
        if len(clips) == _LOOKED_AT:
            break
    try:
        form = understand([*clips.values()], config)
    except (ReadError, LayoutError) as error:
        first = f" {next(iter(clips))}" if clips else first
        raise SourceError(f"{where}:{first} {error}") from None
    found = Counter[str]()
    for clip in clips.values():
        notes = Counter[str]()
        with suppress(ReadError):
            clip_fields(clip, form, notes)
            found.update(note.removeprefix(DOUBT) for note in notes if note.startswith(DOUBT))
    return form, [
        f"skeleton: {form}",
        *dict.fromkeys(note for clip in clips.values() for note in clip.notes),
        *(f"warning: in {count} of {len(clips)} clips {doubt}" for doubt, count in found.items()),
    ]


def understand(
    clips: Sequence[RawClip], config: ArrayConfig, wanted: SkeletonLayout | None = None
) -> ArrayForm:
    """What the arrays of a source are, from a few of its clips; the most frequent kind of clip counts. There may be
    none if a layout was chosen. ``wanted``, such as a model's skeleton, is taken where several fit.

    Raises ReadError where they are nothing known, or one of two, and says which flag decides; LayoutError where there
    is no such layout as was chosen.
    """
    chosen = load_layout(config.layout) if config.layout else None
    if chosen is not None:
        clips = [in_layout(clip, chosen) for clip in clips]
    if clips:
        kinds = [(clip.joints.shape[2:], clip.names, clip.layout) for clip in clips]
        most = Counter(kinds).most_common(1)[0][0]
        clips = [clip for clip, kind in zip(clips, kinds, strict=True) if kind == most]
        third, layout = _choose(clips, config.third, chosen, wanted)
    elif chosen is not None:
        third, layout = config.third, chosen
    else:
        fault = "none of the first clips can be read, so the skeleton isn't known"
        raise ReadError(f"{fault}; mend them, or give --layout")
    units = config.units
    if not units or (units in METRES) != (layout.dims == 3):
        units = _units(clips, layout)
    up = config.up or ("y" if layout.dims == 3 else "minus_y")
    if layout.dims == 2 and up in ("z", "minus_z"):
        raise ReadError(f"--up {up} is for joints in 3-D; {layout.name} has 2 coordinates")
    axes = sorted({clip.axes for clip in clips})
    return ArrayForm(layout, units, third, up, " and ".join(axes) or "MTVC")


def _choose(
    clips: Sequence[RawClip], third: str, chosen: SkeletonLayout | None, wanted: SkeletonLayout | None
) -> tuple[str, SkeletonLayout]:
    """What the third number is, and the skeleton."""
    clip, thirds = clips[0], _thirds(clips, third)
    known = [chosen] if chosen else [*(LAYOUTS | ({wanted.name: wanted} if wanted else {})).values()]
    fitting = [layout for layout in known if _has_joints(layout, clip)]
    found = [(third, one) for third in thirds for one in fitting if one.dims == (3 if third == "z" else 2)]
    if not found:
        called = f" ({', '.join(clip.names)})" if clip.names else ""
        fits = f"layout {chosen.name} not" if chosen else "no known layout"
        fits += " as " + " or ".join(_THIRDS[third] for third in thirds)
        if layout := chosen or wanted:
            fits += f"; {layout.name} is wanted, with {layout.num_joints} joints of {layout.dims} coordinates"
        has = (
            f"has {clip.joints.shape[2]} joints of {clip.joints.shape[3]} numbers{called}, which fits {fits}"
        )
        flags = "--layout gives a name, or a YAML file that describes the skeleton, and --third what a third number is"
        raise ReadError(f"{has}; {flags}")
    if clip.names is not None:  # the names of a small skeleton may stand among those of a large one
        return max(found, key=lambda pair: (pair[1] == wanted, pair[1].num_joints))
    is_open = len(found) > 1 or len(thirds) > 1
    bones = [_misfit(clips, layout) if is_open else 1.0 for _, layout in found]
    near = [pair for pair, ratio in zip(found, bones, strict=True) if ratio < _SURELY * min(bones)]
    near = [pair for pair in near if pair[1] == wanted] or near
    if len(near) == 1 and (chosen is not None or min(bones) < ODD[3]):
        return near[0]
    ways = [f"{_THIRDS[third]} of {layout.name}" for third, layout in near]
    ways += [_THIRDS[third] for third in thirds if third not in {way for way, _ in near}]
    has = f"has {clip.joints.shape[2]} joints whose numbers may be {' or '.join(ways)}"
    raise ReadError(f"{has}; --third z or --third confidence and --layout say which")


def _thirds(clips: Sequence[RawClip], chosen: str) -> tuple[str, ...]:
    """What a third number of a joint may be, by its values and its neighbours'."""
    count = clips[0].joints.shape[3]
    if chosen and count == 2:
        raise ReadError(f"--third {chosen}: the joints have 2 numbers")
    if count == 2 or chosen:
        return (chosen,)
    if count == 4 or clips[0].names is not None or clips[0].layout:
        return ("z",)
    rows = np.concatenate([clip.joints.reshape(-1, count) for clip in clips])
    rows = rows[np.isfinite(rows).all(axis=1) & rows.any(axis=1)]
    if not len(rows):
        return ("z", "confidence")
    low, high = rows[:, 2].min(), rows[:, 2].max()
    if np.abs(rows[:, :2]).max() > PICTURE:
        return ("confidence",) if low >= -_TRUST and high <= 1 + _TRUST else ("z",)
    is_rated = any(clip.confidence is not None for clip in clips)
    return ("z",) if low < 0 or high > 1 or is_rated else ("z", "confidence")


def in_layout(clip: RawClip, layout: SkeletonLayout) -> RawClip:
    """A clip whose format says another skeleton, with the joints of this one; raises ReadError if there is no way."""
    if clip.layout in ("", layout.name):
        return clip
    try:
        joints, confidence = convert(clip.joints, LAYOUTS[clip.layout], layout, clip.confidence)
    except LayoutError as error:
        raise ReadError(str(error)) from None
    return clip._replace(joints=joints, confidence=confidence, pixels=None, layout=layout.name)


def _has_joints(layout: SkeletonLayout, clip: RawClip) -> bool:
    """Whether a clip may have a layout's joints: by what its format says, by their names, or else by their number."""
    if clip.layout:
        return clip.layout == layout.name
    if clip.names is None:
        return clip.joints.shape[2] == layout.num_joints
    return {joint.lower() for joint in layout.joints} <= set(clip.names)


def _misfit(clips: Sequence[RawClip], layout: SkeletonLayout) -> float:
    """How little the clips' joints lie where a layout has them, in x and y; 1 is as close as can be."""
    turned = [_SURELY if is_upside_down(clip.joints, layout) else 1 for clip in clips]
    return float(np.median([bone_ratio(clip.joints[..., :2], layout) for clip in clips] * np.array(turned)))


def _units(clips: Sequence[RawClip], layout: SkeletonLayout) -> str:
    """What joints are measured in if they are a person's."""
    if layout.dims == 2:
        rows = np.concatenate([clip.joints[..., :2].ravel() for clip in clips] or [np.zeros(0)])
        rows = np.abs(rows[np.isfinite(rows) & (rows != 0)])
        return "fractions" if len(rows) and rows.max() <= _FRACTION else "pixels"
    if clips and layout in LAYOUTS.values():  # of others nobody knows how large they are
        tall = float(np.median([tallness(clip.joints[..., :3]) for clip in clips]))
        for unit, metres in METRES.items():
            if TALL[0] <= tall * metres < TALL[1]:
                return unit
    return "m"


def clip_fields(clip: RawClip, form: ArrayForm, notes: Counter[str], field: str = "joints") -> dict[str, Any]:
    """A sample's fields that follow from a file: joints, who is there, frames, confidence and pixels. ``notes`` counts
    what is left out, what was changed and what is odd; ``field`` is what the file calls the joints. Raises ReadError
    where the file hasn't got the layout's joints, or they can't be used.
    """
    layout, dims = form.layout, form.layout.dims
    clip = in_layout(clip, layout)
    notes.update(clip.notes)
    joints, trust = _in_order(clip, layout)
    count = joints.shape[3]
    if count != dims and not (count == dims + 1 and (dims == 3 or form.third == "confidence")):
        raise ReadError(f"layout {layout.name} has {dims} coordinates a joint, the data has {count}")
    if count > dims and trust is None:
        trust = joints[..., dims]
    if trust is not None:
        inside = np.clip(trust, 0, 1)
        beyond = np.nan_to_num(np.abs(trust - inside))
        if beyond.any() and beyond.max() <= _TRUST:
            notes[SCORE_MOVED] += int((beyond > 0).sum())
            trust = inside
    joints, in_pixels = joints[..., :dims], clip.pixels is None and form.units in PLANE
    if form.units in METRES:
        joints = joints * METRES[form.units]
    elif form.units == "fractions" and clip.size is not None:
        joints = joints * np.array(clip.size)
    elif form.units == "fractions":
        notes[_FRACTIONS] += 1
        in_pixels = False
    if dims == 3:
        axes, signs = _TURNS[form.up]
        joints = joints[..., axes] * signs
    elif form.up == "y":
        joints, in_pixels = joints * [1, -1], False
    fields = settle(
        joints,
        notes,
        confidence=trust,
        present=clip.present,
        pixels=clip.pixels,
        frame_index=clip.frame_index,
        field=field,
        largest=LARGEST[dims],
        remedy=" m; does --units say what the joints are measured in?" if dims == 3 else " pixels",
    )
    notes.update(doubts(fields["joints"], layout))
    return fields | ({"pixels": fields["joints"]} if in_pixels else {})


def _in_order(clip: RawClip, layout: SkeletonLayout) -> tuple[np.ndarray, np.ndarray | None]:
    """The clip's joints and their confidence in the layout's order; raises ReadError if it hasn't got them."""
    count = clip.joints.shape[2]
    if clip.names is None:
        if count != layout.num_joints:
            raise ReadError(f"layout {layout.name} has {layout.num_joints} joints, the data has {count}")
        return clip.joints, clip.confidence
    names = [joint.lower() for joint in layout.joints]
    if missing := [name for name in names if name not in clip.names]:
        lacking = ", ".join(missing)
        raise ReadError(f"layout {layout.name} has joints for which there are no columns: {lacking}")
    order = [clip.names.index(name) for name in names]
    return clip.joints[:, :, order], None if clip.confidence is None else clip.confidence[:, :, order]

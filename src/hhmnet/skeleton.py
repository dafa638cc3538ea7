"""Skeleton layouts: which joint is which, how they are connected, and which of them mirror each other."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import yaml

PARTS = ("head", "left_hand", "right_hand", "left_foot", "right_foot")
MAX_JOINTS = 1_000  # distances between all joints are computed, so time grows with the cube
_FIELDS = ("name", "joints", "edges", "mirror", "parts", "dims")


class LayoutError(ValueError):
    """A skeleton that does not fit its layout, or a layout that does not exist."""


@dataclass(frozen=True)
class SkeletonLayout:
    """The joints of one kind of skeleton.

    Attributes:
        name: the layout's name, as it stands in a store's metadata.
        joints: joint names; their order is the order of the V axis.
        edges: ``(child, parent)`` joint indices, one pair per bone. The joint that is nobody's child is the root.
        mirror: ``(left, right)`` joint indices that change places when a body is mirrored.
        parts: the five body parts of MMNet's ROI (head, hands, feet), each with its joint indices.
        dims: coordinates per joint: 3 (metres, y up, z away from the camera) or 2 (pixels, y down).
    """

    name: str
    joints: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]
    mirror: tuple[tuple[int, int], ...]
    parts: Mapping[str, tuple[int, ...]]
    dims: int = 3

    def __post_init__(self) -> None:
        count, children = len(self.joints), [child for child, _ in self.edges]
        used = chain(*self.edges, *self.mirror, *self.parts.values())
        faults = {
            f"field 'joints': {count} joints; at most {MAX_JOINTS:,}": count > MAX_JOINTS,
            "field 'joints': two joints have the same name": len(set(self.joints)) != count,
            "field 'edges': a joint has two parents": len(set(children)) != len(children),
            f"field 'edges': {count} joints need {count - 1} bones, got {len(children)}": len(children)
            != count - 1,
            f"a joint index lies outside 0..{count - 1}": any(not 0 <= joint < count for joint in used),
            f"field 'parts' must name exactly {', '.join(PARTS)}": set(self.parts) != set(PARTS),
        }
        for fault, is_so in faults.items():
            if is_so:
                raise LayoutError(f"layout {self.name}: {fault}")
        tops = np.arange(count)
        for _ in range(count):
            tops = self.parents[tops]
        if len(lost := np.flatnonzero(tops != self.root)):
            way = f"the way from joint '{self.joints[lost[0]]}' to the root goes in a circle"
            raise LayoutError(f"layout {self.name}: field 'edges': {way}")

    @property
    def num_joints(self) -> int:
        """Number of joints, V."""
        return len(self.joints)

    @cached_property
    def root(self) -> int:
        """The joint that has no parent; clips are centred on it."""
        return next(iter(set(range(self.num_joints)) - {child for child, _ in self.edges}))

    @cached_property
    def parents(self) -> np.ndarray:
        """Parent of every joint, ``(V,)`` int64; the root is its own parent, so its bone is zero."""
        parents = np.arange(self.num_joints)
        for child, parent in self.edges:
            parents[child] = parent
        return parents

    @cached_property
    def mirrored(self) -> np.ndarray:
        """Joint that takes each joint's place in the mirror image, ``(V,)`` int64."""
        order = np.arange(self.num_joints)
        for left, right in self.mirror:
            order[left], order[right] = right, left
        return order

    @cached_property
    def hops(self) -> np.ndarray:
        """Number of bones between every two joints, ``(V, V)`` int64."""
        count = self.num_joints
        hops = np.full((count, count), count, dtype=np.int64)
        np.fill_diagonal(hops, 0)
        for child, parent in self.edges:
            hops[child, parent] = hops[parent, child] = 1
        for via in range(count):  # Floyd-Warshall
            hops = np.minimum(hops, hops[:, via, None] + hops[None, via, :])
        return hops

    @cached_property
    def adjacency(self) -> np.ndarray:
        """Row-normalised skeleton graph with self-loops, ``(V, V)`` float32."""
        graph = (self.hops <= 1).astype(np.float32)
        return graph / graph.sum(1, keepdims=True)

    def index(self, joint: str) -> int:
        """Index of a joint by name; raises LayoutError with the known names."""
        if joint not in self.joints:
            raise LayoutError(f"layout {self.name} has no joint '{joint}'; it has {', '.join(self.joints)}")
        return self.joints.index(joint)

    def check(self, joints: np.ndarray) -> None:
        """Raise LayoutError unless ``joints (..., V, C)`` has this layout's V and C."""
        count, dims = joints.shape[-2:] if joints.ndim >= 2 else (0, 0)
        if count != self.num_joints:
            raise LayoutError(f"layout {self.name} has {self.num_joints} joints, the data has {count}")
        if dims != self.dims:
            raise LayoutError(f"layout {self.name} has {self.dims} coordinates a joint, the data has {dims}")

    def to_dict(self) -> dict[str, Any]:
        """Plain containers for JSON or YAML."""
        return dict(json.loads(json.dumps(asdict(self))))

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> SkeletonLayout:
        """Inverse of :meth:`to_dict`; a joint may also be given by its name, and a part without joints left out. Raises
        LayoutError, which names the field, where one is missing, or no layout's.
        """
        if missing := sorted({*_FIELDS[:-1]} - set(fields if isinstance(fields, Mapping) else ())):
            raise LayoutError(f"a skeleton layout lacks the field '{missing[0]}'")
        name, joints, edges, mirror, parts, dims = (fields.get(field, 3) for field in _FIELDS)
        bones = "must be a list of pairs of joints, such as [[neck, hip], [head, neck]]"
        rules = {
            "'name' must be text": isinstance(name, str) and name,
            "'joints' must be a list of joints": _is_listed(joints, str) and all(joints),
            f"'edges' {bones}": _is_listed(edges, list) and all(len(pair) == 2 for pair in edges),
            f"'mirror' {bones}": _is_listed(mirror, list) and all(len(pair) == 2 for pair in mirror),
            f"'parts' must give joints, in lists, to some of {', '.join(PARTS)}, and to nothing else": (
                isinstance(parts, dict) and set(parts) <= set(PARTS) and _is_listed([*parts.values()], list)
            ),
            "'dims' must be 2 (pixels) or 3 (metres)": str(dims) in ("2", "3"),
        }
        for rule, holds in rules.items():
            if not holds:
                raise LayoutError(f"skeleton layout: field {rule}")
        places = {str(place): place for place in range(len(joints))}
        places |= {joint: place for place, joint in enumerate(joints)}

        def indices(field: str, named: list[Any]) -> Any:
            if unknown := [joint for joint in map(str, named) if joint not in places]:
                known = f"no joint '{unknown[0]}'; the joints: {', '.join(joints)}"
                raise LayoutError(f"skeleton layout: field '{field}': {known}")
            return tuple(places[str(joint)] for joint in named)

        return cls(
            name=name,
            joints=tuple(joints),
            edges=tuple(indices("edges", pair) for pair in edges),
            mirror=tuple(indices("mirror", pair) for pair in mirror),
            parts={part: indices(f"parts.{part}", parts.get(part, [])) for part in PARTS},
            dims=int(dims),
        )


def _is_listed(value: Any, kind: type) -> bool:
    return isinstance(value, list) and all(isinstance(one, kind) for one in value)


def _sides(joints: Sequence[str]) -> list[list[str]]:
    """The pairs of joints named ``left_…`` and ``right_…``."""
    pairs = [[joint, joint.replace("left_", "right_", 1)] for joint in joints if joint.startswith("left_")]
    return [pair for pair in pairs if pair[1] in joints]


def load_layout(place: str | Path) -> SkeletonLayout:
    """A known layout by its name, or one of your own from a YAML file.

    The file holds the fields of :class:`SkeletonLayout`. In ``edges``, ``mirror`` and ``parts`` a joint is given by its
    name, or by its place in ``joints``, from 0. Only ``joints`` and ``edges`` are needed: ``name`` is the file's unless
    given, ``mirror`` the pairs of joints named ``left_…`` and ``right_…``, ``dims`` is 3, and a part that isn't listed
    has no joints::

        joints: [hip, neck, head, left_hand, right_hand]
        edges: [[neck, hip], [head, neck], [left_hand, neck], [right_hand, neck]]   # child, parent
        parts: {head: [head], left_hand: [left_hand], right_hand: [right_hand]}

    Raises LayoutError, which names file and field: no layout is called so, the file is missing or isn't a layout.
    """
    if str(place) in LAYOUTS:
        return LAYOUTS[str(place)]
    file = Path(place)
    if file.suffix.lower() not in (".yaml", ".yml"):
        known = f"known: {', '.join(LAYOUTS)}; or name a YAML file of your own"
        raise LayoutError(f"unknown skeleton layout '{place}'; {known}")
    try:
        # BaseLoader makes text, lists and mappings and nothing else: a joint called "no" stays one.
        fields = yaml.load(file.read_bytes().decode("utf-8-sig"), Loader=yaml.BaseLoader)
        if isinstance(fields, dict):
            if unknown := [key for key in fields if key not in _FIELDS]:
                raise LayoutError(f"unknown field '{unknown[0]}'; known: {', '.join(_FIELDS)}")
            joints: Any = fields.get("joints")
            mirror = _sides(joints) if _is_listed(joints, str) else []
            fields = {"name": file.stem, "mirror": mirror, "parts": {}} | fields
        return SkeletonLayout.from_dict(fields)
    except OSError as error:
        reason = error.strerror or str(error)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f"line {mark.line + 1}: "
        reason = f"{line}not valid YAML ({getattr(error, 'problem', None) or error})"
    except RecursionError:
        reason = "not a layout: nested too deeply"
    except UnicodeDecodeError:
        reason = "not UTF-8 text"
    except LayoutError as error:
        reason = str(error)
    raise LayoutError(f"{file}: {' '.join(reason.split())}")


def _both(text: str) -> list[str]:
    """The words of a text, each group for the left and then for the right where it has a ``*``."""
    groups = [group.replace("*", side) for group in text.split(",") for side in ("left_", "right_")]
    return list(dict.fromkeys(" ".join(groups).split()))


def _named(
    name: str, joints: str, bones: str, parts: tuple[str, str, str], dims: int = 3, sides: str = ""
) -> SkeletonLayout:
    """Build a layout from joint names, so that the tables below can be read.

    In ``joints`` and ``bones``, whose groups are separated by commas, ``*`` stands for ``left_`` and, again, for
    ``right_``. The last two of ``parts`` (head, hand, foot) and ``sides``, the order of mirrored joints where it isn't
    that of ``joints``, are said without left and right.
    """
    names, members = _both(joints), {"head": parts[0].split()}
    for part, text in (("hand", parts[1]), ("foot", parts[2])):
        for side in ("left_", "right_"):
            members[f"{side}{part}"] = [side + joint for joint in text.split()]
    edges = [bone.split(">") for bone in _both(bones)]
    mirror = [[f"left_{joint}", f"right_{joint}"] for joint in sides.split()] or _sides(names)
    fields = {"joints": names, "edges": edges, "mirror": mirror, "parts": members, "dims": dims}
    return SkeletonLayout.from_dict({"name": name} | fields)


_LIMBS = "*elbow>*shoulder *wrist>*elbow, *knee>*hip *ankle>*knee, "
_FACE = "*eye>nose, *ear>*eye, "
_TOES = "*big_toe>*ankle, *small_toe>*big_toe, *heel>*ankle, "
_COCO_JOINTS = "nose, *eye, *ear, *shoulder, *elbow, *wrist, *hip, *knee, *ankle"
_COCO_SIDES = "eye ear shoulder elbow wrist hip knee ankle"
_COCO_HEAD = "nose left_eye right_eye left_ear right_ear"

# Kinect v1 (NW-UCLA, UTD-MHAD), in the order of its SDK.
KINECT20 = _named(
    "kinect20",
    "hip_center spine shoulder_center head, *shoulder *elbow *wrist *hand, *hip *knee *ankle *foot",
    _LIMBS + "spine>hip_center, shoulder_center>spine, head>shoulder_center, *shoulder>shoulder_center, "
    "*hand>*wrist, *hip>hip_center, *foot>*ankle",
    ("head shoulder_center", "wrist hand", "ankle foot"),
)

# Kinect v2 (NTU RGB+D), in the order of its SDK.
NTU25 = _named(
    "ntu25",
    "spine_base spine_mid neck head, *shoulder *elbow *wrist *hand, *hip *knee *ankle *foot, spine_shoulder, "
    "*hand_tip *thumb",
    _LIMBS + "spine_mid>spine_base, spine_shoulder>spine_mid, neck>spine_shoulder, head>neck, "
    "*shoulder>spine_shoulder, *hand>*wrist, *hand_tip>*hand, *thumb>*wrist, *hip>spine_base, *foot>*ankle",
    ("head neck", "wrist hand hand_tip thumb", "ankle foot"),
)

# COCO keypoints, 2-D; the tree hangs on the nose, since COCO has no joint on the body's axis below it.
COCO17 = _named(
    "coco17",
    _COCO_JOINTS,
    _LIMBS + _FACE + "*shoulder>nose, *hip>*shoulder",
    (_COCO_HEAD, "wrist", "ankle"),
    dims=2,
)

# Halpe-26 (AlphaPose, MMPose), 2-D: COCO's joints, then https://github.com/Fang-Haoshu/Halpe-FullBody's.
HALPE26 = _named(
    "halpe26",
    _COCO_JOINTS + ", head neck hip, *big_toe, *small_toe, *heel",
    _LIMBS + _FACE + _TOES + "neck>hip, nose>neck, head>nose, *shoulder>neck, *hip>hip",
    (_COCO_HEAD + " head", "wrist", "ankle big_toe small_toe heel"),
    dims=2,
)

# OpenPose, 2-D, in the orders of POSE_COCO_BODY_PARTS and POSE_BODY_25_BODY_PARTS (its poseParametersRender.hpp).
COCO18 = _named(
    "coco18",
    "nose neck right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist right_hip right_knee "
    "right_ankle left_hip left_knee left_ankle right_eye left_eye right_ear left_ear",
    _LIMBS + _FACE + "nose>neck, *shoulder>neck, *hip>neck",
    (_COCO_HEAD, "wrist", "ankle"),
    dims=2,
    sides=_COCO_SIDES,
)
BODY25 = _named(
    "body25",
    "nose neck right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist mid_hip right_hip "
    "right_knee right_ankle left_hip left_knee left_ankle right_eye left_eye right_ear left_ear, "
    "*big_toe *small_toe *heel",
    _LIMBS + _FACE + _TOES + "neck>mid_hip, nose>neck, *shoulder>neck, *hip>mid_hip",
    (_COCO_HEAD, "wrist", "ankle big_toe small_toe heel"),
    dims=2,
    sides=_COCO_SIDES + " big_toe small_toe heel",
)

# Human3.6M as VideoPose3D and its followers keep it: 17 of its 32 joints.
H36M17 = _named(
    "h36m17",
    "hip right_hip right_knee right_ankle left_hip left_knee left_ankle spine thorax nose head left_shoulder "
    "left_elbow left_wrist right_shoulder right_elbow right_wrist",
    _LIMBS + "spine>hip, thorax>spine, nose>thorax, head>nose, *shoulder>thorax, *hip>hip",
    ("nose head", "wrist", "ankle"),
    sides="shoulder elbow wrist hip knee ankle",
)

# BlazePose, in the order of MediaPipe's pose landmarks; as in COCO, the tree hangs on the nose.
BLAZEPOSE33 = _named(
    "blazepose33",
    "nose, *eye_inner *eye *eye_outer, *ear, *mouth, *shoulder, *elbow, *wrist, *pinky, *index, *thumb, *hip, "
    "*knee, *ankle, *heel, *foot",
    _LIMBS + "*eye_inner>nose *eye>*eye_inner *eye_outer>*eye *ear>*eye_outer, *mouth>nose, *shoulder>nose, "
    "*hip>*shoulder, *pinky>*wrist, *index>*wrist, *thumb>*wrist, *heel>*ankle, *foot>*ankle",
    (_COCO_HEAD + " left_mouth right_mouth", "wrist pinky index thumb", "ankle heel foot"),
)

LAYOUTS: dict[str, SkeletonLayout] = {
    layout.name: layout for layout in (KINECT20, NTU25, COCO17, BLAZEPOSE33, BODY25, COCO18, HALPE26, H36M17)
}

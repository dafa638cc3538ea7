"""Skeleton layouts: which joint is which, how they are connected, and which of them mirror each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

PARTS = ("head", "left_hand", "right_hand", "left_foot", "right_foot")
MAX_JOINTS = 1_000
"""The most that a skeleton has; distances between all joints are computed, so time grows with the cube."""


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
        count = len(self.joints)
        if count > MAX_JOINTS:
            raise LayoutError(f"layout {self.name}: field 'joints': {count} joints; at most {MAX_JOINTS:,}")
        children = [child for child, _ in self.edges]
        if len(set(children)) != len(children):
            raise LayoutError(f"layout {self.name}: field 'edges': a joint has two parents")
        if len(self.edges) != count - 1:
            raise LayoutError(
                f"layout {self.name}: field 'edges': {count} joints need {count - 1} bones, got {len(self.edges)}"
            )
        used = [j for pair in (*self.edges, *self.mirror) for j in pair]
        used += [j for joints in self.parts.values() for j in joints]
        if any(not 0 <= j < count for j in used):
            raise LayoutError(f"layout {self.name}: a joint index lies outside 0..{count - 1}")
        if set(self.parts) != set(PARTS):
            raise LayoutError(f"layout {self.name}: field 'parts' must name exactly {', '.join(PARTS)}")
        if len(set(self.joints)) != count:
            raise LayoutError(f"layout {self.name}: field 'joints': two joints have the same name")
        for joint in range(count):
            way = joint
            for _ in range(count):
                way = int(self.parents[way])
            if way != self.root:
                raise LayoutError(
                    f"layout {self.name}: field 'edges': the way from joint '{self.joints[joint]}' to the root "
                    "goes in a circle"
                )

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
    def limbs(self) -> np.ndarray:
        """How far out on each limb every joint lies, ``(4, V)`` float32: 0 off the limb, 1 at its end.

        The limbs are both arms and both legs, in the order of the last four parts. A limb begins at its first joint
        that has a mirror image (shoulder, hip).
        """
        reach = np.zeros((4, self.num_joints), np.float32)
        sided = {joint for pair in self.mirror for joint in pair}
        for limb, part in enumerate(PARTS[1:]):
            depth = {j: 1 + sum(j != a and self._is_above(a, j) for a in sided) for j in self.parts[part]}
            above = {
                a: 1 + sum(b != a and self._is_above(b, a) for b in sided)
                for a in sided
                for j in self.parts[part]
                if self._is_above(a, j)
            }
            chain = above | depth
            for joint, steps in chain.items():
                reach[limb, joint] = steps / max(chain.values())
        return reach

    def _is_above(self, ancestor: int, joint: int) -> bool:
        """Whether ``ancestor`` lies on the way from ``joint`` to the root (or is the joint)."""
        while joint != ancestor and joint != self.parents[joint]:
            joint = int(self.parents[joint])
        return joint == ancestor

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
        try:
            return self.joints.index(joint)
        except ValueError:
            raise LayoutError(
                f"layout {self.name} has no joint '{joint}'; it has {', '.join(self.joints)}"
            ) from None

    def check(self, joints: np.ndarray) -> None:
        """Raise LayoutError unless ``joints (..., V, C)`` has this layout's V and C."""
        if joints.ndim < 2 or joints.shape[-2] != self.num_joints:
            got = joints.shape[-2] if joints.ndim >= 2 else 0
            raise LayoutError(f"layout {self.name} has {self.num_joints} joints, the data has {got}")
        if joints.shape[-1] != self.dims:
            raise LayoutError(
                f"layout {self.name} has {self.dims} coordinates a joint, the data has {joints.shape[-1]}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain containers for JSON or YAML."""
        return {
            "name": self.name,
            "joints": list(self.joints),
            "edges": [list(edge) for edge in self.edges],
            "mirror": [list(pair) for pair in self.mirror],
            "parts": {part: list(joints) for part, joints in self.parts.items()},
            "dims": self.dims,
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> SkeletonLayout:
        """Inverse of :meth:`to_dict`; a joint may also be given by its name, and a part without joints left out.

        Raises:
            LayoutError: a field is missing, or no layout's; names the field.
        """
        missing = {"name", "joints", "edges", "mirror", "parts"} - set(
            fields if isinstance(fields, Mapping) else ()
        )
        if missing:
            raise LayoutError(f"a skeleton layout lacks the field '{min(missing)}'")
        name, joints, parts, dims = (
            fields["name"],
            fields["joints"],
            fields["parts"],
            str(fields.get("dims", 3)),
        )
        if not isinstance(name, str) or not name:
            raise LayoutError("skeleton layout: field 'name' must be text")
        if not isinstance(joints, list) or not all(isinstance(joint, str) and joint for joint in joints):
            raise LayoutError("skeleton layout: field 'joints' must be a list of joints")
        if dims not in ("2", "3"):
            raise LayoutError("skeleton layout: field 'dims' must be 2 (pixels) or 3 (metres)")
        if not isinstance(parts, dict) or not set(parts) <= set(PARTS):
            raise LayoutError(
                f"skeleton layout: field 'parts' must give joints to some of {', '.join(PARTS)}, and to nothing else"
            )
        return cls(
            name=name,
            joints=tuple(joints),
            edges=_pairs("edges", fields["edges"], joints),
            mirror=_pairs("mirror", fields["mirror"], joints),
            parts={part: _indices(f"parts.{part}", parts.get(part, []), joints) for part in PARTS},
            dims=int(dims),
        )


def _indices(field: str, value: Any, joints: Sequence[str]) -> tuple[int, ...]:
    """Indices of joints that are given by index or name."""
    if not isinstance(value, list):
        raise LayoutError(f"skeleton layout: field '{field}' must be a list of joints")
    numbers = {str(number): number for number in range(len(joints))}
    numbers |= {joint: number for number, joint in enumerate(joints)}
    found = []
    for joint in value:
        number = joint if isinstance(joint, int) and 0 <= joint < len(joints) else numbers.get(str(joint))
        if number is None:
            raise LayoutError(
                f"skeleton layout: field '{field}': no joint '{joint}'; the joints: {', '.join(joints)}"
            )
        found.append(int(number))
    return tuple(found)


def _pairs(field: str, value: Any, joints: Sequence[str]) -> tuple[tuple[int, int], ...]:
    if not isinstance(value, list) or any(not isinstance(pair, list) or len(pair) != 2 for pair in value):
        raise LayoutError(
            f"skeleton layout: field '{field}' must be a list of pairs of joints, such as [[neck, hip], [head, neck]]"
        )
    return tuple((pair[0], pair[1]) for pair in (_indices(field, pair, joints) for pair in value))


def _named(
    name: str, joints: str, edges: str, mirror: str, parts: tuple[str, str, str], dims: int = 3
) -> SkeletonLayout:
    """Build a layout from joint names, so that the tables below can be read.

    ``mirror`` and the last two of ``parts`` (head, hand, foot) are said without left and right.
    """
    names = tuple(joints.split())

    def pairs(text: str) -> tuple[tuple[int, int], ...]:
        return tuple((names.index(a), names.index(b)) for a, b in (item.split(">") for item in text.split()))

    def indices(text: str, side: str = "") -> tuple[int, ...]:
        return tuple(names.index(side + joint) for joint in text.split())

    head, hand, foot = parts
    sides = " ".join(f"left_{j}>right_{j}" for j in mirror.split())
    members = {"head": indices(head)} | {
        f"{side}_{part}": indices(text, f"{side}_")
        for part, text in (("hand", hand), ("foot", foot))
        for side in ("left", "right")
    }
    return SkeletonLayout(name, names, pairs(edges), pairs(sides), members, dims)


_LIMBS = (
    "left_elbow>left_shoulder left_wrist>left_elbow right_elbow>right_shoulder right_wrist>right_elbow "
    "left_knee>left_hip left_ankle>left_knee right_knee>right_hip right_ankle>right_knee "
)
_FACE = "left_eye>nose right_eye>nose left_ear>left_eye right_ear>right_eye "
_TOES = (
    "left_big_toe>left_ankle right_big_toe>right_ankle left_small_toe>left_big_toe right_small_toe>right_big_toe "
    "left_heel>left_ankle right_heel>right_ankle "
)
_COCO_JOINTS = (
    "nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow "
    "left_wrist right_wrist left_hip right_hip left_knee right_knee left_ankle right_ankle"
)
_COCO_SIDES = "eye ear shoulder elbow wrist hip knee ankle"
_COCO_HEAD = "nose left_eye right_eye left_ear right_ear"

# Kinect v1 (NW-UCLA, UTD-MHAD), in the order of its SDK.
KINECT20 = _named(
    "kinect20",
    "hip_center spine shoulder_center head left_shoulder left_elbow left_wrist left_hand right_shoulder "
    "right_elbow right_wrist right_hand left_hip left_knee left_ankle left_foot right_hip right_knee "
    "right_ankle right_foot",
    _LIMBS + "spine>hip_center shoulder_center>spine head>shoulder_center left_shoulder>shoulder_center "
    "right_shoulder>shoulder_center left_hand>left_wrist right_hand>right_wrist left_hip>hip_center "
    "right_hip>hip_center left_foot>left_ankle right_foot>right_ankle",
    "shoulder elbow wrist hand hip knee ankle foot",
    ("head shoulder_center", "wrist hand", "ankle foot"),
)

# Kinect v2 (NTU RGB+D), in the order of its SDK.
NTU25 = _named(
    "ntu25",
    "spine_base spine_mid neck head left_shoulder left_elbow left_wrist left_hand right_shoulder right_elbow "
    "right_wrist right_hand left_hip left_knee left_ankle left_foot right_hip right_knee right_ankle "
    "right_foot spine_shoulder left_hand_tip left_thumb right_hand_tip right_thumb",
    _LIMBS + "spine_mid>spine_base spine_shoulder>spine_mid neck>spine_shoulder head>neck "
    "left_shoulder>spine_shoulder right_shoulder>spine_shoulder left_hand>left_wrist right_hand>right_wrist "
    "left_hand_tip>left_hand right_hand_tip>right_hand left_thumb>left_wrist right_thumb>right_wrist "
    "left_hip>spine_base right_hip>spine_base left_foot>left_ankle right_foot>right_ankle",
    "shoulder elbow wrist hand hip knee ankle foot hand_tip thumb",
    ("head neck", "wrist hand hand_tip thumb", "ankle foot"),
)

# COCO keypoints, 2-D; the tree hangs on the nose, since COCO has no joint on the body's axis below it.
COCO17 = _named(
    "coco17",
    _COCO_JOINTS,
    _LIMBS + _FACE + "left_shoulder>nose right_shoulder>nose left_hip>left_shoulder right_hip>right_shoulder",
    _COCO_SIDES,
    (_COCO_HEAD, "wrist", "ankle"),
    dims=2,
)

# Halpe-26 (AlphaPose, MMPose), 2-D: COCO's joints, then https://github.com/Fang-Haoshu/Halpe-FullBody's.
HALPE26 = _named(
    "halpe26",
    _COCO_JOINTS
    + " head neck hip left_big_toe right_big_toe left_small_toe right_small_toe left_heel right_heel",
    _LIMBS
    + _FACE
    + _TOES
    + "neck>hip nose>neck head>nose left_shoulder>neck right_shoulder>neck left_hip>hip "
    "right_hip>hip",
    _COCO_SIDES + " big_toe small_toe heel",
    (_COCO_HEAD + " head", "wrist", "ankle big_toe small_toe heel"),
    dims=2,
)

# OpenPose, 2-D, in the orders of POSE_COCO_BODY_PARTS and POSE_BODY_25_BODY_PARTS (its poseParametersRender.hpp).
COCO18 = _named(
    "coco18",
    "nose neck right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist right_hip right_knee "
    "right_ankle left_hip left_knee left_ankle right_eye left_eye right_ear left_ear",
    _LIMBS + _FACE + "nose>neck left_shoulder>neck right_shoulder>neck left_hip>neck right_hip>neck",
    _COCO_SIDES,
    (_COCO_HEAD, "wrist", "ankle"),
    dims=2,
)
BODY25 = _named(
    "body25",
    "nose neck right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist mid_hip right_hip "
    "right_knee right_ankle left_hip left_knee left_ankle right_eye left_eye right_ear left_ear left_big_toe "
    "left_small_toe left_heel right_big_toe right_small_toe right_heel",
    _LIMBS + _FACE + _TOES + "neck>mid_hip nose>neck left_shoulder>neck right_shoulder>neck left_hip>mid_hip "
    "right_hip>mid_hip",
    _COCO_SIDES + " big_toe small_toe heel",
    (_COCO_HEAD, "wrist", "ankle big_toe small_toe heel"),
    dims=2,
)

# Human3.6M as VideoPose3D and its followers keep it: 17 of its 32 joints.
H36M17 = _named(
    "h36m17",
    "hip right_hip right_knee right_ankle left_hip left_knee left_ankle spine thorax nose head left_shoulder "
    "left_elbow left_wrist right_shoulder right_elbow right_wrist",
    _LIMBS
    + "spine>hip thorax>spine nose>thorax head>nose left_shoulder>thorax right_shoulder>thorax left_hip>hip "
    "right_hip>hip",
    "shoulder elbow wrist hip knee ankle",
    ("nose head", "wrist", "ankle"),
)

# BlazePose, in the order of MediaPipe's pose landmarks; as in COCO, the tree hangs on the nose.
BLAZEPOSE33 = _named(
    "blazepose33",
    "nose left_eye_inner left_eye left_eye_outer right_eye_inner right_eye right_eye_outer left_ear right_ear "
    "left_mouth right_mouth left_shoulder right_shoulder left_elbow right_elbow left_wrist right_wrist left_pinky "
    "right_pinky left_index right_index left_thumb right_thumb left_hip right_hip left_knee right_knee left_ankle "
    "right_ankle left_heel right_heel left_foot right_foot",
    _LIMBS + "left_eye_inner>nose left_eye>left_eye_inner left_eye_outer>left_eye left_ear>left_eye_outer "
    "right_eye_inner>nose right_eye>right_eye_inner right_eye_outer>right_eye right_ear>right_eye_outer "
    "left_mouth>nose right_mouth>nose left_shoulder>nose right_shoulder>nose left_hip>left_shoulder "
    "right_hip>right_shoulder left_pinky>left_wrist right_pinky>right_wrist left_index>left_wrist "
    "right_index>right_wrist left_thumb>left_wrist right_thumb>right_wrist left_heel>left_ankle "
    "right_heel>right_ankle left_foot>left_ankle right_foot>right_ankle",
    "eye_inner eye eye_outer ear mouth shoulder elbow wrist pinky index thumb hip knee ankle heel foot",
    (_COCO_HEAD + " left_mouth right_mouth", "wrist pinky index thumb", "ankle heel foot"),
)

LAYOUTS: dict[str, SkeletonLayout] = {
    layout.name: layout for layout in (KINECT20, NTU25, COCO17, BLAZEPOSE33, BODY25, COCO18, HALPE26, H36M17)
}


def get_layout(name: str) -> SkeletonLayout:
    """A layout by name; raises LayoutError with the known names."""
    try:
        return LAYOUTS[name]
    except KeyError:
        raise LayoutError(f"unknown skeleton layout '{name}'; known: {', '.join(LAYOUTS)}") from None

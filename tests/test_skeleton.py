from __future__ import annotations

import json
from collections import deque
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hhmnet.skeleton import LAYOUTS, NTU25, PARTS, LayoutError, SkeletonLayout, load_layout

ALL = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())


def walk(layout: SkeletonLayout, start: int) -> list[int]:
    """Bones from ``start`` to every joint, counted by a plain breadth-first walk."""
    steps = {start: 0}
    queue = deque([start])
    while queue:
        joint = queue.popleft()
        for child, parent in layout.edges:
            for a, b in ((child, parent), (parent, child)):
                if a == joint and b not in steps:
                    steps[b] = steps[joint] + 1
                    queue.append(b)
    return [steps[joint] for joint in range(layout.num_joints)]


@ALL
def test_hops_match_a_walk(layout: SkeletonLayout) -> None:
    expected = [walk(layout, joint) for joint in range(layout.num_joints)]
    np.testing.assert_array_equal(layout.hops, expected)
    near = layout.hops <= 1  # the mean of a joint and its neighbours
    np.testing.assert_allclose(layout.adjacency, near / near.sum(1, keepdims=True), rtol=1e-6)


@ALL
def test_left_and_right_mirror_each_other(layout: SkeletonLayout) -> None:
    swap = {"left": "right", "right": "left"}
    for joint, other in enumerate(layout.mirrored):
        side, _, rest = layout.joints[joint].partition("_")
        assert layout.joints[other] == (f"{swap[side]}_{rest}" if side in swap else layout.joints[joint])
    np.testing.assert_array_equal(layout.hops[np.ix_(layout.mirrored, layout.mirrored)], layout.hops)
    for part in PARTS[1:]:
        assert layout.parts[part]
        assert all(layout.joints[joint].startswith(part.split("_")[0]) for joint in layout.parts[part])
    assert SkeletonLayout.from_dict(json.loads(json.dumps(layout.to_dict()))) == layout


def test_ntu_order_is_that_of_the_kinect_sdk() -> None:
    # Numbers as in the NTU RGB+D paper's figure, from 1.
    expected = {"spine_base": 1, "neck": 3, "head": 4, "left_hand": 8, "right_foot": 20, "spine_shoulder": 21}
    assert {name: NTU25.index(name) + 1 for name in expected} == expected


SMALL = """\
joints: [hip, neck, head, left_hand, right_hand]
edges: [[neck, hip], [head, neck], [left_hand, 1], [right_hand, 1]]
parts: {head: [head], left_hand: [left_hand], right_hand: [4]}
"""


def load(folder: Path, text: str | bytes) -> SkeletonLayout:
    (folder / "small.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_layout(folder / "small.yaml")


def test_a_file_needs_little(tmp_path: Path) -> None:
    layout = load(tmp_path, SMALL)
    assert (layout.name, layout.dims, layout.num_joints) == ("small", 3, 5)
    assert layout.edges == ((1, 0), (2, 1), (3, 1), (4, 1))
    assert layout.mirror == ((3, 4),)
    empty = {"left_foot": (), "right_foot": ()}
    assert layout.parts == {"head": (2,), "left_hand": (3,), "right_hand": (4,), **empty}
    layout = load(tmp_path, "\ufeff" + SMALL + "name: mine\ndims: 2\nmirror: [[head, hip]]\n")
    assert (layout.name, layout.dims, layout.mirror) == ("mine", 2, ((2, 0),))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("joints: [a, b", "line 1: not valid YAML"),
        (b"joints: [\xff]", "not UTF-8 text"),
        ("[" * 1500, "nested too deeply"),
        ("- a", "lacks the field 'edges'"),
        ("joints: [a]\nedges: []\nbones: []", "unknown field 'bones'; known: name, joints"),
        ("joints: a\nedges: []", "'joints' must be a list"),
        ("joints: [a, ~]\nedges: [[~, a]]\nname: ''", "'name' must be text"),
        ("joints: [a, b]\nedges: [a, b]", "'edges' must be a list of pairs"),
        ("joints: [a, b]\nedges: [[a, c]]", "'edges': no joint 'c'; the joints: a, b"),
        ("joints: [a, b]\nedges: [[a, b]]\nparts: {tail: [a]}", "'parts' must give joints"),
        ("joints: [a, b]\nedges: [[a, b]]\nparts: {head: [c]}", r"'parts\.head': no joint 'c'"),
        ("joints: [a, b]\nedges: [[a, b]]\ndims: 4", r"'dims' must be 2 \(pixels\) or 3 \(metres\)"),
        ("joints: &x [*x]\nedges: []", "line 1: not valid YAML"),
        ("joints: [a, b, c]\nedges: [[a, b], [a, c]]", "'edges': a joint has two parents"),
        ("joints: [a, b, c]\nedges: [[a, b]]", "'edges': 3 joints need 2 bones, got 1"),
        ("joints: [a, b, c]\nedges: [[a, c], [c, a]]", "the way from joint 'a' to the root goes in a circle"),
        ("joints: [a, b, a]\nedges: [[0, 1], [1, 2]]", "'joints': two joints have the same name"),
        (f"joints: {['j'] * 1001}\nedges: []", "1001 joints; at most 1,000"),  # more would cost time
        ("joints: [a]\nedges: []\n\x01", "not valid YAML"),
    ],
)
def test_bad_files_name_file_and_field(tmp_path: Path, text: str | bytes, reason: str) -> None:
    with pytest.raises(LayoutError, match=rf"small\.yaml: .*{reason}") as caught:
        load(tmp_path, text)
    assert "\n" not in str(caught.value)
    with pytest.raises(LayoutError, match=r"unknown skeleton layout 'h36'; known: kinect20, .*YAML file"):
        load_layout("h36")
    with pytest.raises(LayoutError, match=r"none\.yaml: No such file"):
        load_layout(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("edges", ((0, 1), (1, 2), (3, 2), (4, 5))),
        ("mirror", ((0, -1),)),
        ("parts", dict.fromkeys(PARTS, (7,))),
    ],
)
def test_an_index_that_is_no_joint_is_refused(chain: SkeletonLayout, field: str, value: object) -> None:
    with pytest.raises(LayoutError, match=r"chain: a joint index lies outside 0\.\.4"):
        replace(chain, **{field: value})

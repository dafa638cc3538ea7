from __future__ import annotations

from pathlib import Path

import pytest

from hhmnet.layout_files import load_layout
from hhmnet.skeleton import LayoutError

SMALL = """\
joints: [hip, neck, head, left_hand, right_hand]
edges: [[neck, hip], [head, neck], [left_hand, 1], [right_hand, 1]]
parts: {head: [head], left_hand: [left_hand], right_hand: [4]}
"""


def put(folder: Path, text: str | bytes, name: str = "small.yaml") -> Path:
    file = folder / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def test_a_file_needs_little(tmp_path: Path) -> None:
    layout = load_layout(put(tmp_path, SMALL))
    assert (layout.name, layout.dims, layout.num_joints) == ("small", 3, 5)
    assert layout.edges == ((1, 0), (2, 1), (3, 1), (4, 1))
    assert layout.mirror == ((3, 4),)
    assert layout.joints[layout.root] == "hip"
    empty = {"left_foot": (), "right_foot": ()}
    assert layout.parts == {"head": (2,), "left_hand": (3,), "right_hand": (4,), **empty}
    assert layout.limbs.shape == (4, 5)
    layout = load_layout(put(tmp_path, "\ufeff" + SMALL + "name: mine\ndims: 2\nmirror: [[head, hip]]\n"))
    assert (layout.name, layout.dims, layout.mirror) == ("mine", 2, ((2, 0),))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("joints: [a, b", "line 1: not valid YAML"),
        (b"joints: [\xff]", "not UTF-8"),
        ("[" * 1500, "nested too deeply"),
        ("- a", "needs the fields 'joints' and 'edges'"),
        ("joints: [a]\nedges: []\nbones: []", "unknown field 'bones'; known: name, joints"),
        ("joints: a\nedges: []", "'joints' must be a list"),
        ("joints: [a, ~]\nedges: [[~, a]]\nname: ''", "'name' must be text"),
        ("joints: [a, b]\nedges: [a, b]", "'edges' must be a list of pairs"),
        ("joints: [a, b]\nedges: [[a, c]]", "'edges': no joint 'c'; the joints: a, b"),
        ("joints: [a, b]\nedges: [[a, b]]\nparts: {tail: [a]}", "'parts' must give joints"),
        ("joints: [a, b]\nedges: [[a, b]]\nparts: {head: [c]}", r"'parts\.head': no joint 'c'"),
        ("joints: [a, b]\nedges: [[a, b]]\ndims: 4", r"'dims' must be 2 \(pixels\) or 3 \(metres\)"),
        ("joints: &x [*x]\nedges: []", "line 1: not valid YAML"),
    ],
)
def test_bad_files_name_file_and_field(tmp_path: Path, text: str | bytes, reason: str) -> None:
    with pytest.raises(LayoutError, match=rf"small\.yaml: .*{reason}") as caught:
        load_layout(put(tmp_path, text))
    assert "\n" not in str(caught.value)
    with pytest.raises(LayoutError, match=r"unknown skeleton layout 'h36'; known: kinect20, .*YAML file"):
        load_layout("h36")
    with pytest.raises(LayoutError, match=r"none\.yaml: No such file"):
        load_layout(tmp_path / "none.yaml")

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hhmnet.pose.graphdef import GraphError, read_constants


def varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def part(number: int, content: bytes | int) -> bytes:
    """One field of a protocol-buffer message."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def constant(name: str, array: np.ndarray, *, packed: bool = False) -> bytes:
    """A graph's field with a constant node, written as protocol buffers' definition says."""
    shape = b"".join(part(2, part(1, size)) for size in array.shape)
    values = part(5 if packed else 4, array.astype("<f4").tobytes())
    tensor = part(1, 1) + part(2, shape) + values
    kind = part(5, part(1, b"dtype") + part(2, part(6, 1)))
    value = part(5, part(1, b"value") + part(2, part(8, tensor)))
    return part(1, part(1, name.encode()) + part(2, b"Const") + kind + value)


def test_constants_are_read_with_their_shapes(tmp_path: Path) -> None:
    weights = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    bias = np.float32([0.5, -2])
    other = part(1, part(1, b"out") + part(2, b"Identity") + part(3, b"weights"))
    file = tmp_path / "graph.pb"
    file.write_bytes(
        constant("weights", weights) + other + constant("bias", bias, packed=True) + part(4, b"x")
    )
    found = read_constants(file)
    assert set(found) == {"weights", "bias"}
    np.testing.assert_array_equal(found["weights"], weights)
    np.testing.assert_array_equal(found["bias"], bias)


def test_one_number_stands_for_all(tmp_path: Path) -> None:
    tensor = part(1, 1) + part(2, part(2, part(1, 3))) + part(5, np.float32([7]).tobytes())
    node = part(1, b"ones") + part(2, b"Const") + part(5, part(1, b"value") + part(2, part(8, tensor)))
    (tmp_path / "graph.pb").write_bytes(part(1, node))
    np.testing.assert_array_equal(read_constants(tmp_path / "graph.pb")["ones"], [7, 7, 7])


def test_whole_numbers_are_left_alone(tmp_path: Path) -> None:
    tensor = part(1, 3) + part(2, b"") + part(4, b"\1\0\0\0")
    node = part(1, b"axis") + part(2, b"Const") + part(5, part(1, b"value") + part(2, part(8, tensor)))
    file = tmp_path / "graph.pb"
    file.write_bytes(part(1, node) + constant("weights", np.ones(2, np.float32)))
    assert set(read_constants(file)) == {"weights"}


@pytest.mark.parametrize(
    "content",
    [b"", b"hello, this is text", constant("weights", np.ones(5, np.float32))[:-3], b"\xff" * 20, b"\x0a"],
    ids=["empty", "text", "cut", "endless number", "no length"],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "graph.pb"
    file.write_bytes(content)
    with pytest.raises(GraphError, match=r"graph\.pb is not a frozen TensorFlow graph"):
        read_constants(file)

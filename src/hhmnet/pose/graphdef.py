"""The weights inside a frozen TensorFlow graph, read without TensorFlow.

A frozen graph is a protocol-buffer message: nodes, of which those with the operation ``Const`` carry a tensor. Only
the five fields on the way to a float tensor are read; all others are stepped over.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FLOAT = 1


class GraphError(ValueError):
    """A file that is not a frozen graph, or one that lacks a weight."""


def read_constants(path: Path) -> dict[str, np.ndarray]:
    """Every constant float tensor of a frozen graph, by the name of its node.

    Raises:
        GraphError: the file is not a frozen graph.
    """
    constants = {}
    try:
        for number, node in _fields(memoryview(Path(path).read_bytes())):
            if number == 1 and isinstance(node, memoryview):
                name, tensor = _constant(node)
                if tensor is not None:
                    constants[name] = tensor
    except (IndexError, ValueError) as error:
        raise GraphError(f"{path} is not a frozen TensorFlow graph ({error})") from None
    if not constants:
        raise GraphError(f"{path} is not a frozen TensorFlow graph (it holds no weights)")
    return constants


def _constant(node: memoryview) -> tuple[str, np.ndarray | None]:
    """Name of a node, and its tensor if it is a constant of float numbers."""
    name, operation, tensor = "", "", None
    for number, value in _fields(node):
        if not isinstance(value, memoryview):
            continue
        if number == 1:
            name = bytes(value).decode()
        elif number == 2:
            operation = bytes(value).decode()
        elif number == 5:
            attribute = dict(_fields(value))
            if bytes(_part(attribute, 1)) == b"value":
                tensor = dict(_fields(_part(attribute, 2))).get(8)
    if operation != "Const" or not isinstance(tensor, memoryview):
        return name, None
    return name, _floats(tensor)


def _floats(message: memoryview) -> np.ndarray | None:
    """A tensor of float numbers; None if it holds others."""
    fields = list(_fields(message))
    if (1, _FLOAT) not in fields:
        return None
    shape = []
    values: list[np.ndarray] = []
    for number, value in fields:
        if number == 2 and isinstance(value, memoryview):
            sizes = [dict(_fields(size)) for key, size in _fields(value) if isinstance(size, memoryview)]
            shape = [int(size.get(1, 0)) for size in sizes]
        elif number in (4, 5) and isinstance(value, memoryview):
            values.append(np.frombuffer(value, "<f4"))
    flat = np.concatenate(values) if values else np.zeros(0, np.float32)
    count = int(np.prod(shape, dtype=np.int64))
    # One number may stand for all of them.
    return np.broadcast_to(flat, count).reshape(shape) if flat.size == 1 else flat.reshape(shape)


def _part(fields: dict[int, memoryview | int], number: int) -> memoryview:
    value = fields.get(number, memoryview(b""))
    if not isinstance(value, memoryview):
        raise ValueError(f"field {number} is a number")
    return value


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Number and content of every field of a protocol-buffer message."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == _VARINT:
            number, at = _varint(message, at)
            yield key >> 3, number
            continue
        if kind == _BYTES:
            size, at = _varint(message, at)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if at + size > len(message):
            raise ValueError("cut short")
        yield key >> 3, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = message[at]
        at += 1
        number |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return number, at
        if shift > 63:
            raise ValueError("a number is too long")

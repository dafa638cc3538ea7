"""What a pickle may hold besides plain containers: arrays, whose numbers stay in the file, and NumPy's numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hhmnet.readers.pyskl.tape import ByteText, StoredBytes, StoredText, UnpicklingError

_NUMERIC = re.compile(r"[<>|=]?(\?|b1|[iu][1248]|f[248])")
_LATIN1 = ("latin1", "latin-1", "iso-8859-1")


class StoredArray:
    """A NumPy array in a pickle.

    Attributes:
        shape: its shape; None until it is known.
        dtype: the type of its numbers.
    """

    __slots__ = ("_axes", "_order", "_raw", "dtype", "shape")

    def __init__(self) -> None:
        self.shape: tuple[int, ...] | None = None
        self.dtype = np.dtype(np.uint8)
        self._order: Any = "C"
        self._axes: tuple[int, ...] | None = None
        self._raw: bytes | StoredBytes = b""

    def set_state(self, state: Any) -> None:
        """Take what NumPy wrote of an array: (version, shape, dtype, Fortran order?, numbers)."""
        if not isinstance(state, tuple) or len(state) not in (4, 5):
            raise UnpicklingError("holds an array without shape, type and numbers")
        shape, dtype, fortran, raw = state[-4:]
        self._fill(shape, dtype, raw)
        self._order = "F" if fortran else "C"

    def _fill(self, shape: Any, dtype: Any, raw: Any) -> None:
        if not isinstance(shape, tuple) or not all(type(size) is int and size >= 0 for size in shape):
            raise UnpicklingError("holds an array whose shape isn't one")
        if not isinstance(dtype, DTypeStandIn):
            raise UnpicklingError("holds an array whose type isn't one")
        raw = raw.raw if isinstance(raw, ByteText) else raw
        if not isinstance(raw, (bytes, StoredBytes)):
            raise UnpicklingError("holds an array whose numbers aren't bytes")
        self.shape, self.dtype, self._raw = shape, dtype.dtype, raw

    def load(self) -> np.ndarray:
        """The array, read-only; raises UnpicklingError if the file doesn't hold as many numbers as the shape says."""
        if self.shape is None:
            raise UnpicklingError("holds an array without shape, type and numbers")
        raw = self._raw if isinstance(self._raw, bytes) else self._raw.load()
        if len(raw) != math.prod(self.shape) * self.dtype.itemsize:
            raise UnpicklingError(
                f"holds an array of shape {self.shape} with {len(raw)} bytes of {self.dtype}"
            )
        array = np.frombuffer(raw, self.dtype)
        if self._axes is None:
            return array.reshape(self.shape, order=self._order)
        stored = [self.shape[self._axes.index(axis)] for axis in range(len(self.shape))]
        return array.reshape(stored).transpose(self._axes)

    @classmethod
    def from_buffer(cls, arguments: tuple[Any, ...]) -> StoredArray:
        """Protocol 5: (numbers, dtype, shape, order[, order of the axes])."""
        if len(arguments) not in (4, 5):
            raise UnpicklingError("holds an array without shape, type and numbers")
        raw, dtype, shape, order, *more = arguments
        array = cls()
        array._fill(shape, dtype, raw)
        if order in ("C", "F"):
            array._order = order
            return array
        axes = more[0] if more and isinstance(more[0], tuple) else ()
        if order != "K" or {*map(type, axes)} != {int} or sorted(axes) != list(range(len(shape))):
            raise UnpicklingError("holds an array whose order isn't one")
        array._axes, array.shape = axes, tuple(shape[axis] for axis in axes)
        return array

    @classmethod
    def empty(cls, arguments: tuple[Any, ...]) -> StoredArray:
        """An array whose state follows: (ndarray, (0,), b"b")."""
        if not arguments or arguments[0] is not NAMES["numpy", "ndarray"]:
            raise UnpicklingError("holds an array of a kind of its own")
        return cls()


class DTypeStandIn:
    """The type of an array's numbers: whole numbers, floats or truth values of a fixed size."""

    __slots__ = ("dtype",)

    def __init__(self, arguments: tuple[Any, ...]) -> None:
        spec = arguments[0] if arguments else None
        if not isinstance(spec, str) or not _NUMERIC.fullmatch(spec):
            what = (
                "objects"
                if isinstance(spec, str) and spec.lstrip("<>|=").startswith("O")
                else "no plain numbers"
            )
            raise UnpicklingError(f"holds an array of {what}")
        self.dtype = np.dtype(str(spec))

    def set_state(self, state: Any) -> None:
        """Take what NumPy wrote of a type: (version, byte order, and what only types with parts have)."""
        plain = isinstance(state, tuple) and len(state) >= 5 and state[2:5] == (None, None, None)
        if not plain or state[1] not in ("<", ">", "|", "="):
            raise UnpicklingError("holds an array of no plain numbers")
        self.dtype = self.dtype.newbyteorder(state[1])


def _scalar(arguments: tuple[Any, ...]) -> Any:
    """One of NumPy's numbers: (dtype, bytes)."""
    dtype, raw = arguments if len(arguments) == 2 else (None, None)
    raw = raw.raw if isinstance(raw, ByteText) else raw
    if not isinstance(dtype, DTypeStandIn) or not isinstance(raw, bytes) or len(raw) != dtype.dtype.itemsize:
        raise UnpicklingError("holds a number of NumPy that has not the bytes of one")
    return np.frombuffer(raw, dtype.dtype)[0]


def _encode(arguments: tuple[Any, ...]) -> bytes | StoredBytes:
    """Bytes as protocols 0 to 2 write them: (text, "latin1")."""
    text, coding = arguments if len(arguments) == 2 else (None, None)
    if coding in _LATIN1 and isinstance(text, str):
        return text.encode("latin1")
    if coding in _LATIN1 and isinstance(text, StoredText):
        return StoredBytes(text.file, text.start, text.count, text)
    raise UnpicklingError("holds bytes that aren't text in Latin-1")


def _no_bytes(arguments: tuple[Any, ...]) -> bytes:
    if arguments:
        raise UnpicklingError("holds bytes made by a call")
    return b""


def _items(arguments: tuple[Any, ...]) -> list[Any]:
    """The list that a container is made from."""
    items = arguments[0] if len(arguments) == 1 else []
    if len(arguments) > 1 or not isinstance(items, list):
        raise UnpicklingError("holds a container that isn't made from a list")
    return items


def _ordered_dict(arguments: tuple[Any, ...]) -> dict[Any, Any]:
    pairs = _items(arguments)
    if not all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in pairs):
        raise UnpicklingError("holds an OrderedDict that isn't made from pairs")
    return dict(zip(check_keys([key for key, _ in pairs]), (value for _, value in pairs), strict=True))


_KEYS = (str, int, float, bytes, type(None), np.generic)


def check_keys(keys: list[Any]) -> list[Any]:
    """The ``keys``, if they may be some; hashing anything nested could take for ever.

    Raises:
        UnpicklingError: one is neither a number, text, bytes, None nor a tuple of those.
    """
    for key in keys:
        if not isinstance(key, _KEYS) and not (
            isinstance(key, tuple) and all(isinstance(k, _KEYS) for k in key)
        ):
            raise UnpicklingError(f"holds a {type(key).__name__} as a key of a dict or set")
    return keys


@dataclass(frozen=True, slots=True, eq=False)
class Name:
    """A name that a pickle may want, and what is made when it is called; None if it may not be."""

    text: str
    make: Callable[[tuple[Any, ...]], Any] | None = None


def _names() -> dict[tuple[str, str], Name]:
    names = {
        "numpy.ndarray": Name("numpy.ndarray"),
        "numpy.dtype": Name("numpy.dtype", DTypeStandIn),
        "_codecs.encode": Name("_codecs.encode", _encode),
        "collections.OrderedDict": Name("collections.OrderedDict", _ordered_dict),
    }
    for core in ("numpy.core", "numpy._core"):  # before and since NumPy 2
        names[f"{core}.multiarray._reconstruct"] = Name("_reconstruct", StoredArray.empty)
        names[f"{core}.multiarray.scalar"] = Name("scalar", _scalar)
        names[f"{core}.numeric._frombuffer"] = Name("_frombuffer", StoredArray.from_buffer)
    for module in ("builtins", "__builtin__"):  # Python 3 and 2
        names[f"{module}.bytes"] = Name("bytes", _no_bytes)
        names[f"{module}.set"] = Name("set", lambda arguments: set(check_keys(_items(arguments))))
        names[f"{module}.frozenset"] = Name(
            "frozenset", lambda arguments: frozenset(check_keys(_items(arguments)))
        )
    return {(text.rpartition(".")[0], text.rpartition(".")[2]): name for text, name in names.items()}


NAMES = _names()
"""All the names that a pickle may want, by module and name."""

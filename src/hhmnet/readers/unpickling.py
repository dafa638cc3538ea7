"""Pickles of NumPy arrays and plain containers: Python's unpickler, kept from all that makes it dangerous.

A pickle is a program, and Python's unpickler runs it: it calls whatever the file names. Here it knows the few names
that NumPy and Python write for arrays, numbers and containers, with a function of its own for each, and refuses every
other. It is the unpickler written in Python, as its operations can be replaced: the one in C makes a memo of 30
gigabytes at the word of five bytes, and holds the numbers of all arrays in every process that reads a few of them. Here
they stay in the file, which is mapped into memory, until they are asked for.
"""

from __future__ import annotations

import math
import mmap
import os
import pickle
import re
import struct
from collections.abc import Callable, Sized
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from hhmnet.readers import ReadError

KEPT = 1024  # bytes and text longer than this stay in the file

_NUMERIC = re.compile(r"[<>|=]?(\?|b1|[iu][1248]|f[248])")
_LATIN1 = ("latin1", "latin-1", "iso-8859-1")
_NDARRAY = "numpy.ndarray"
_CORES = ("numpy.core", "numpy._core")  # before and since NumPy 2
_MAKERS = ("torch", "joblib", "pandas", "tensorflow", "jax")
_SLACK = 2**20
_DAMAGE = (LookupError, ValueError, TypeError, AttributeError, OverflowError, AssertionError, struct.error)
_KEYS = (str, int, float, bytes, type(None), np.generic)


class UnpicklingError(ReadError):
    """A pickle that is damaged, or that wants something else than arrays and plain containers."""


def load_plain(handle: IO[bytes]) -> Any:
    """What the pickle holds that begins where an open file stands, of protocol 0 to 5.

    Lists, tuples, dicts, numbers, text, bytes and None are what they were, NumPy's numbers too; an ``OrderedDict`` is a
    dict. An array is a :class:`StoredArray`, text or bytes of more than 1,024 are :class:`StoredBytes`: they take what
    they hold from the mapped file when told to ``load()``. Raises UnpicklingError where the file is damaged, or wants
    anything else; OSError.
    """
    if not os.fstat(handle.fileno()).st_size:
        raise UnpicklingError("is cut short: it is empty")
    content = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
    content.seek(handle.tell())
    return _Unpickler(content).load()


@dataclass(frozen=True, slots=True)
class StoredBytes:
    """Bytes in a mapped file; or text in UTF-8, as which protocols 0 to 2 have bytes too."""

    raw: memoryview
    is_text: bool

    def load(self) -> bytes:
        """The bytes; of text, what it is in Latin-1. Raises UnpicklingError if it isn't any."""
        try:
            return str(self.raw, "utf-8").encode("latin1") if self.is_text else bytes(self.raw)
        except UnicodeError:
            raise UnpicklingError("holds damaged bytes") from None


class StoredArray:
    """A NumPy array in a pickle; its ``shape`` and the type of its numbers."""

    __slots__ = ("_axes", "_order", "_raw", "_stored", "dtype", "shape")

    def __init__(self, *state: Any) -> None:
        self.fill(*state)

    def fill(self, raw: Any, dtype: Any, shape: Any, order: Any, axes: Any = None) -> None:
        """Take what NumPy wrote of an array; ``axes`` is the order of its axes where ``order`` is "K". Raises
        UnpicklingError for anything else.
        """
        is_shape = isinstance(shape, tuple) and all(type(size) is int and size >= 0 for size in shape)
        if not is_shape or not isinstance(dtype, np.dtype) or order not in ("C", "F", "K"):
            raise UnpicklingError("holds an array whose shape, type or order isn't one")
        if dtype.hasobject:  # a dict that NumPy has saved is an array without axes
            if shape != () or not isinstance(raw, list) or len(raw) != 1:
                raise UnpicklingError("holds an array of objects")
        elif not isinstance(raw, (bytes, StoredBytes)):
            raise UnpicklingError("holds an array whose numbers aren't bytes")
        self._axes = axes if order == "K" else range(len(shape))
        if not isinstance(self._axes, (tuple, range)) or sorted(self._axes) != list(range(len(shape))):
            raise UnpicklingError("holds an array whose order isn't one")
        self.shape = tuple(shape[axis] for axis in self._axes)
        self.dtype, self._raw, self._stored, self._order = dtype, raw, shape, order.replace("K", "C")

    def load(self) -> Any:
        """The array, read-only, or the object in it; raises UnpicklingError unless the shape fits."""
        if isinstance(self._raw, list):
            return self._raw[0]
        raw = self._raw if isinstance(self._raw, bytes) else self._raw.load()
        if len(raw) != math.prod(self.shape) * self.dtype.itemsize:
            held = f"{len(raw)} bytes of {self.dtype}"
            raise UnpicklingError(f"holds an array of shape {self.shape} with {held}")
        return np.frombuffer(raw, self.dtype).reshape(self._stored, order=self._order).transpose(self._axes)


def _empty_array(kind: Any, *_: Any) -> StoredArray:
    if kind != _NDARRAY:
        raise UnpicklingError("holds an array of a kind of its own")
    return StoredArray(b"", np.dtype(np.uint8), (), "C")


def _dtype(spec: Any, *_: Any) -> np.dtype[Any]:
    """The type of an array's numbers: whole numbers, floats or truth values of a fixed size; or that of one object."""
    if not isinstance(spec, str) or not (spec == "O8" or _NUMERIC.fullmatch(spec)):
        raise UnpicklingError("holds an array of no plain numbers")
    return np.dtype(object if spec == "O8" else spec, copy=True)  # its byte order is set later


def _scalar(dtype: Any, raw: Any) -> Any:
    """One of NumPy's numbers."""
    if not isinstance(dtype, np.dtype) or not isinstance(raw, bytes) or len(raw) != dtype.itemsize:
        raise UnpicklingError("holds a number of NumPy that has not the bytes of one")
    return np.frombuffer(raw, dtype)[0]


def _encode(text: Any, coding: Any) -> bytes | StoredBytes:
    """Bytes as protocols 0 to 2 write them."""
    if coding in _LATIN1 and isinstance(text, str):
        return text.encode("latin1")
    if coding in _LATIN1 and isinstance(text, StoredBytes) and text.is_text:
        return text
    raise UnpicklingError("holds bytes that aren't text in Latin-1")


def _ordered_dict(pairs: Any = ()) -> dict[Any, Any]:
    _check_keys([key for key, _ in pairs])
    return dict(pairs)


def _check_keys(keys: Any) -> None:
    """Raise UnpicklingError for nested keys of a dict: to hash them could take for ever, or end the process."""
    for key in keys:
        parts = key if type(key) is tuple else (key,)
        if not all(isinstance(part, _KEYS) for part in parts):
            raise UnpicklingError(f"holds a {type(key).__name__} as a key of a dict")


_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _dtype,
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): _ordered_dict,
    ("builtins", "bytes"): lambda: b"",
    ("__builtin__", "bytes"): lambda: b"",  # in protocols 0 to 2
    **{(f"{core}.multiarray", "_reconstruct"): _empty_array for core in _CORES},
    **{(f"{core}.multiarray", "scalar"): _scalar for core in _CORES},
    **{(f"{core}.numeric", "_frombuffer"): StoredArray for core in _CORES},  # in protocol 5
}
"""What each name that a pickle may want stands for. Nothing else that it can get hold of can be called."""

_PYTHONS: dict[int, Callable[[Any], None]] = pickle._Unpickler.dispatch


class _Unpickler(pickle._Unpickler):
    """Python's unpickler with the names of ``_ALLOWED``, whose long bytes stay in the file."""

    stack: list[Any]
    metastack: list[Any]
    read: Callable[[int], bytes]
    dispatch = _PYTHONS.copy()

    def __init__(self, content: mmap.mmap) -> None:
        super().__init__(content)
        self._content, self._bytes, self._copied = content, memoryview(content), 0

    def load(self) -> Any:
        """Everything the program says; raises UnpicklingError."""
        try:
            found = super().load()
            if self.stack or self.metastack:
                raise ValueError
            return found
        except UnpicklingError:
            raise
        except EOFError:
            fault = "is cut short"
        # No such operation, not enough on the stack, or not the value that it takes.
        except (*_DAMAGE, pickle.UnpicklingError):
            fault = "is no pickle, or a damaged one"
        raise UnpicklingError(f"{fault} (byte {self._content.tell()} of {len(self._bytes)})")

    def find_class(self, module: Any, name: Any) -> Any:
        """What a name stands for; raises UnpicklingError for all but a few."""
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        root = _shown(module).partition(".")[0]
        remedy = f"; load it with {root} and save its arrays as NumPy's" if root in _MAKERS else ""
        wanted = f"{_shown(module)}.{_shown(name)}"
        raise UnpicklingError(f"pickle wants {wanted}, which is no NumPy array or plain container{remedy}")

    def _reduce(self) -> None:
        function, arguments = self.stack[-2], self.stack[-1]
        if type(arguments) is not tuple or not callable(function):
            raise UnpicklingError(f"pickle wants to call {_shown(function)}")
        # What is made from nothing but a name for something else: it has as many items as the file has bytes.
        self._copied += sum(len(value) for value in arguments if isinstance(value, Sized))
        if self._copied > len(self._bytes) + _SLACK:
            raise UnpicklingError("holds the same things too many times over")
        super().load_reduce()  # type: ignore[misc]

    def _build(self) -> None:
        state, made = self.stack.pop(), self.stack[-1]
        match made, state:
            case StoredArray(), (shape, dtype, is_fortran, raw) | (_, shape, dtype, is_fortran, raw):
                made.fill(raw, dtype, shape, "F" if is_fortran else "C")
            case np.dtype(), (_, "<" | ">" | "|" | "=" as order, None, None, None, *_):
                if not made.hasobject:
                    made.__setstate__((3, order, None, None, None, -1, -1, 0))  # type: ignore[attr-defined]
            case StoredArray() | np.dtype(), _:
                raise UnpicklingError("holds an array of no plain numbers")
            case _:
                raise UnpicklingError(f"pickle wants to set the inside of {_shown(made)}")

    def _refuse(self, *_: Any) -> None:
        wanted = "a new object, a set, a persistent id or an extension code"
        raise UnpicklingError(f"pickle wants {wanted}, which is no NumPy array or plain container")

    _instantiate = _refuse

    def _frame(self) -> None:
        self.read(8)  # how much could be read at once

    def _long(self, length: str, is_text: bool) -> None:
        (count,) = struct.unpack(length, self.read(struct.calcsize(length)))
        start = self._content.tell()
        raw = self._bytes[start : start + count]
        if len(raw) < count:
            raise EOFError
        self._content.seek(start + count)
        stored = StoredBytes(raw, is_text)
        if count > KEPT:
            self.stack.append(stored)
        else:
            self.stack.append(str(raw, "utf-8", "surrogatepass") if is_text else stored.load())

    def _keyed(self, code: bytes, first: int, step: int) -> None:
        """What Python does for ``code``, after a look at the keys, which lie on the stack."""
        _check_keys(self.stack[first::step])
        _PYTHONS[code[0]](self)


_REFUSED = [
    pickle.NEWOBJ,
    pickle.NEWOBJ_EX,
    pickle.EMPTY_SET,
    pickle.FROZENSET,
    pickle.PERSID,
    pickle.BINPERSID,
]
_REFUSED += [pickle.EXT1, pickle.EXT2, pickle.EXT4]
_REPLACED: dict[bytes, Callable[[Any], None]] = {
    pickle.REDUCE: _Unpickler._reduce,
    pickle.BUILD: _Unpickler._build,
    pickle.FRAME: _Unpickler._frame,
    pickle.BINUNICODE: lambda unpickler: unpickler._long("<I", True),
    pickle.BINUNICODE8: lambda unpickler: unpickler._long("<Q", True),
    pickle.BINBYTES: lambda unpickler: unpickler._long("<I", False),
    **dict.fromkeys((pickle.BINBYTES8, pickle.BYTEARRAY8), lambda unpickler: unpickler._long("<Q", False)),
    pickle.SETITEM: lambda unpickler: unpickler._keyed(pickle.SETITEM, -2, 2),
    pickle.SETITEMS: lambda unpickler: unpickler._keyed(pickle.SETITEMS, 0, 2),
    pickle.DICT: lambda unpickler: unpickler._keyed(pickle.DICT, 0, 2),
    **dict.fromkeys(_REFUSED, _Unpickler._refuse),
}
_Unpickler.dispatch.update({code[0]: action for code, action in _REPLACED.items()})


def _shown(value: Any) -> str:
    """Text of the file, or the kind of a value, so that it can stand in a message."""
    text = value if isinstance(value, str) else getattr(value, "__name__", type(value).__name__)
    return re.sub(r"[^\x20-\x7e]", "?", text)[:80]

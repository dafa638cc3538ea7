"""Pickles of NumPy arrays and plain containers: Python's unpickler, kept from all that makes it dangerous.

A pickle is a program, and Python's unpickler runs it: it calls whatever the file names. Here it knows the few names
that NumPy and Python write for arrays, numbers and containers, with a function of its own for each, and refuses every
other. It is the unpickler written in Python, as its operations can be replaced: the one in C makes a memo of 30
gigabytes at the word of five bytes, and holds the numbers of all arrays in every process that reads a few of them. Here
they stay in the file until they are asked for.
"""

from __future__ import annotations

import math
import os
import pickle
import re
import struct
from collections.abc import Callable, Sized
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np

KEPT = 1024
"""Bytes and text longer than this stay in the file."""

_NUMERIC = re.compile(r"[<>|=]?(\?|b1|[iu][1248]|f[248])")
_LATIN1 = ("latin1", "latin-1", "iso-8859-1")
_CORES = ("numpy.core", "numpy._core")  # before and since NumPy 2
_MAKERS = ("torch", "joblib", "pandas", "tensorflow", "jax")
_SLACK = 2**20
_DAMAGE = (LookupError, ValueError, TypeError, AttributeError, OverflowError, AssertionError, struct.error)
_KEYS = (str, int, float, bytes, type(None), np.generic)


class UnpicklingError(ValueError):
    """A pickle that is damaged, or that wants something else than arrays and plain containers."""


def load_plain(file: Path, start: int = 0) -> Any:
    """What the pickle that begins at ``start`` of a file holds, of protocol 0 to 5.

    Lists, tuples, dicts, numbers, text, bytes and None are what they were, NumPy's numbers too; an
    ``OrderedDict`` is a dict. An array is a :class:`StoredArray`, text or bytes of more than 1,024 are
    :class:`StoredBytes`, which read from the file what they hold when told to ``load()``.

    Raises:
        UnpicklingError: the file is damaged, or wants anything else; the message says what.
        OSError: it can't be read.
    """
    with open(file, "rb") as handle:
        handle.seek(start)
        return _Unpickler(_Bytes(Path(file), handle)).load()


@dataclass(frozen=True, slots=True)
class StoredBytes:
    """Bytes or text in a pickle, left where they are.

    Attributes:
        file: the pickle.
        start: where in the file they begin.
        count: how many bytes of the file they take.
        text: whether they are text in UTF-8, as protocols 0 to 2 have bytes too.
    """

    file: Path
    start: int
    count: int
    text: bool

    def load(self) -> bytes:
        """The bytes; of text, what it is in Latin-1. Raises UnpicklingError if it isn't any."""
        with open(self.file, "rb") as handle:  # anew each time: forked processes would share its position
            handle.seek(self.start)
            raw = handle.read(self.count)
        try:
            return raw.decode().encode("latin1") if self.text else raw
        except UnicodeError:
            raise UnpicklingError(f"holds damaged bytes (byte {self.start})") from None


class _DType:
    """The type of an array's numbers: whole numbers, floats or truth values of a fixed size; or that of one object."""

    __slots__ = ("dtype",)

    def __init__(self, spec: Any, *_: Any) -> None:
        if not isinstance(spec, str) or not (spec == "O8" or _NUMERIC.fullmatch(spec)):
            raise UnpicklingError("holds an array of no plain numbers")
        self.dtype: np.dtype[Any] = np.dtype(object if spec == "O8" else spec)

    def __setstate__(self, state: Any) -> None:
        """Take what NumPy wrote of a type: (version, byte order, and what only types with parts have)."""
        plain = isinstance(state, tuple) and len(state) >= 5 and state[2:5] == (None, None, None)
        if not plain or state[1] not in ("<", ">", "|", "="):
            raise UnpicklingError("holds an array of no plain numbers")
        self.dtype = self.dtype.newbyteorder(state[1])


class StoredArray:
    """A NumPy array in a pickle.

    Attributes:
        shape: its shape; () until it is known.
        dtype: the type of its numbers.
    """

    __slots__ = ("_order", "_raw", "dtype", "shape")

    def __init__(self, kind: Any, *_: Any) -> None:
        if kind is not _ndarray:
            raise UnpicklingError("holds an array of a kind of its own")
        self.shape: tuple[int, ...] = ()
        self.dtype: np.dtype[Any] = np.dtype(np.uint8)
        self._order: Any = "C"
        self._raw: bytes | StoredBytes | list[Any] = b""

    @classmethod
    def from_buffer(cls, raw: Any, dtype: Any, shape: Any, order: Any, axes: Any = None) -> StoredArray:
        """An array as protocol 5 has it; ``axes`` is the order of its axes where ``order`` is "K"."""
        array = cls(_ndarray)
        array._fill(shape, dtype, raw, order)
        if order == "K":
            if not isinstance(axes, tuple) or sorted(axes) != list(range(len(shape))):
                raise UnpicklingError("holds an array whose order isn't one")
            array._order, array.shape = axes, tuple(shape[axis] for axis in axes)
        return array

    def __setstate__(self, state: Any) -> None:
        """Take what NumPy wrote of an array: (version, shape, dtype, Fortran order?, numbers)."""
        if not isinstance(state, tuple) or len(state) not in (4, 5):
            raise UnpicklingError("holds an array without shape, type and numbers")
        shape, dtype, fortran, raw = state[-4:]
        self._fill(shape, dtype, raw, "F" if fortran else "C")

    def _fill(self, shape: Any, dtype: Any, raw: Any, order: Any) -> None:
        whole = isinstance(shape, tuple) and all(type(size) is int and size >= 0 for size in shape)
        if not whole or not isinstance(dtype, _DType) or order not in ("C", "F", "K"):
            raise UnpicklingError("holds an array whose shape, type or order isn't one")
        if dtype.dtype.hasobject:  # a dict that NumPy has saved is an array without axes
            if shape != () or not isinstance(raw, list) or len(raw) != 1:
                raise UnpicklingError("holds an array of objects")
        elif not isinstance(raw, (bytes, StoredBytes)):
            raise UnpicklingError("holds an array whose numbers aren't bytes")
        self.shape, self.dtype, self._raw, self._order = shape, dtype.dtype, raw, order

    def load(self) -> Any:
        """The array, read-only, or the object in it; raises UnpicklingError unless the shape fits."""
        if isinstance(self._raw, list):
            return self._raw[0]
        raw = self._raw if isinstance(self._raw, bytes) else self._raw.load()
        if len(raw) != math.prod(self.shape) * self.dtype.itemsize:
            raise UnpicklingError(
                f"holds an array of shape {self.shape} with {len(raw)} bytes of {self.dtype}"
            )
        array = np.frombuffer(raw, self.dtype)
        if not isinstance(self._order, tuple):
            return array.reshape(self.shape, order=self._order)
        stored = [self.shape[self._order.index(axis)] for axis in range(len(self.shape))]
        return array.reshape(stored).transpose(self._order)


def _ndarray(*_: Any) -> None:
    raise UnpicklingError("pickle wants to call numpy.ndarray")


def _scalar(dtype: Any, raw: Any) -> Any:
    """One of NumPy's numbers."""
    if not isinstance(dtype, _DType) or not isinstance(raw, bytes) or len(raw) != dtype.dtype.itemsize:
        raise UnpicklingError("holds a number of NumPy that has not the bytes of one")
    return np.frombuffer(raw, dtype.dtype)[0]


def _encode(text: Any, coding: Any) -> bytes | StoredBytes:
    """Bytes as protocols 0 to 2 write them."""
    if coding in _LATIN1 and isinstance(text, str):
        return text.encode("latin1")
    if coding in _LATIN1 and isinstance(text, StoredBytes) and text.text:
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


_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _ndarray,
    ("numpy", "dtype"): _DType,
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): _ordered_dict,
    ("builtins", "bytes"): lambda: b"",
    ("__builtin__", "bytes"): lambda: b"",  # in protocols 0 to 2
    **{(f"{core}.multiarray", "_reconstruct"): StoredArray for core in _CORES},
    **{(f"{core}.multiarray", "scalar"): _scalar for core in _CORES},
    **{(f"{core}.numeric", "_frombuffer"): StoredArray.from_buffer for core in _CORES},
}
"""What each name that a pickle may want stands for."""


class _Bytes:
    """The bytes of a pickle. Whatever lies beyond the end is an EOFError, before any memory is taken for it."""

    def __init__(self, file: Path, handle: BufferedReader) -> None:
        self.file = file
        self.size = os.fstat(handle.fileno()).st_size
        self._handle = handle
        self.tell = handle.tell

    def read(self, count: int) -> bytes:
        """The next ``count`` bytes."""
        found = self._handle.read(min(count, self.size))
        if len(found) != count:
            raise EOFError
        return found

    def readline(self) -> bytes:
        """Everything up to the next line break, and that."""
        found = self._handle.readline()
        if not found.endswith(b"\n"):
            raise EOFError
        return found

    def skip(self, count: int) -> int:
        """Place of the next ``count`` bytes, which are passed over."""
        start = self.tell()
        if count > self.size - start:
            raise EOFError
        self._handle.seek(count, os.SEEK_CUR)
        return start


_PYTHONS: dict[int, Callable[[Any], None]] = pickle._Unpickler.dispatch


class _Unpickler(pickle._Unpickler):
    """Python's unpickler with the names of ``_ALLOWED``, whose long bytes stay in the file."""

    stack: list[Any]
    metastack: list[Any]
    read: Callable[[int], bytes]
    append: Callable[[Any], None]
    dispatch = _PYTHONS.copy()

    def __init__(self, content: _Bytes) -> None:
        super().__init__(content)
        self._content = content
        self._copied = 0

    def load(self) -> Any:
        """Everything the program says; raises UnpicklingError."""
        try:
            found = super().load()
            if self.stack or self.metastack:
                raise ValueError
        except UnpicklingError:
            raise
        except EOFError:
            raise UnpicklingError(f"is cut short ({self._at()})") from None
        # No such operation, not enough on the stack, or not the value that it takes.
        except (*_DAMAGE, pickle.UnpicklingError):
            raise UnpicklingError(f"is no pickle, or a damaged one ({self._at()})") from None
        return found

    def _at(self) -> str:
        return f"byte {self._content.tell()} of {self._content.size}"

    def find_class(self, module: Any, name: Any) -> Any:
        """What a name stands for; raises UnpicklingError for all but a few."""
        try:
            return _ALLOWED[module, name]
        except KeyError:
            wanted = f"{_shown(module)}.{_shown(name)}"
            root = _shown(module).partition(".")[0]
            remedy = f"; load it with {root} and save its arrays as NumPy's" if root in _MAKERS else ""
            raise UnpicklingError(
                f"pickle wants {wanted}, which is no NumPy array or plain container{remedy}"
            ) from None

    def _charge(self, count: int) -> None:
        """Count what is made from nothing but a name for something else: it has as many items as the file has bytes."""
        self._copied += count
        if self._copied > self._content.size + _SLACK:
            raise UnpicklingError("holds the same things too many times over")

    def _reduce(self) -> None:
        function, arguments = self.stack[-2], self.stack[-1]
        if type(arguments) is not tuple or function not in _ALLOWED.values():
            raise UnpicklingError(f"pickle wants to call {_shown(function)}")
        self._charge(sum(len(value) for value in arguments if isinstance(value, Sized)))
        super().load_reduce()  # type: ignore[misc]

    def _build(self) -> None:
        if not isinstance(self.stack[-2], (StoredArray, _DType)):
            raise UnpicklingError(f"pickle wants to set the inside of {_shown(self.stack[-2])}")
        super().load_build()  # type: ignore[misc]

    def _refuse(self) -> None:
        raise UnpicklingError(
            "pickle wants a new object or a set, which is no NumPy array or plain container"
        )

    def get_extension(self, code: int) -> None:
        """Never: what a code of the registry stands for may be known without :meth:`find_class`."""
        raise UnpicklingError("pickle wants an extension code")

    def persistent_load(self, pid: Any) -> None:
        """Never."""
        raise UnpicklingError("pickle wants a persistent id")

    def _frame(self) -> None:
        self.read(8)  # how much could be read at once

    def _long(self, length: str, text: bool) -> None:
        (count,) = struct.unpack(length, self.read(struct.calcsize(length)))
        if count > KEPT:
            self.append(StoredBytes(self._content.file, self._content.skip(count), count, text))
        else:
            self.append(self.read(count).decode("utf-8", "surrogatepass") if text else self.read(count))

    def _keyed(self, code: bytes, first: int, step: int) -> None:
        """What Python does for ``code``, after a look at the keys, which lie on the stack."""
        _check_keys(self.stack[first::step])
        _PYTHONS[code[0]](self)


_REPLACED: dict[bytes, Callable[[Any], None]] = {
    pickle.REDUCE: _Unpickler._reduce,
    pickle.BUILD: _Unpickler._build,
    pickle.FRAME: _Unpickler._frame,
    pickle.BINUNICODE: lambda unpickler: unpickler._long("<I", True),
    pickle.BINUNICODE8: lambda unpickler: unpickler._long("<Q", True),
    pickle.BINBYTES: lambda unpickler: unpickler._long("<I", False),
    pickle.BINBYTES8: lambda unpickler: unpickler._long("<Q", False),
    pickle.BYTEARRAY8: lambda unpickler: unpickler._long("<Q", False),
    pickle.SETITEM: lambda unpickler: unpickler._keyed(pickle.SETITEM, -2, 2),
    pickle.SETITEMS: lambda unpickler: unpickler._keyed(pickle.SETITEMS, 0, 2),
    pickle.DICT: lambda unpickler: unpickler._keyed(pickle.DICT, 0, 2),
    **dict.fromkeys(
        (pickle.NEWOBJ, pickle.NEWOBJ_EX, pickle.EMPTY_SET, pickle.FROZENSET), _Unpickler._refuse
    ),
}
_Unpickler.dispatch.update({code[0]: action for code, action in _REPLACED.items()})


def _shown(value: Any) -> str:
    """Text of the file, or the kind of a value, so that it can stand in a message."""
    text = value if isinstance(value, str) else getattr(value, "__name__", type(value).__name__)
    return re.sub(r"[^\x20-\x7e]", "?", text)[:80]

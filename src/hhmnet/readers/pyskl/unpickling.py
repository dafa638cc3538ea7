"""Pickles of NumPy arrays and plain containers, read without Python's unpickler.

A pickle is a program for a stack machine, and Python's unpickler runs it: it calls whatever the file names. The machine
here has no import and no call. It knows the few names that NumPy and Python write for arrays, numbers and containers,
has an action of its own for each, and refuses every other name. The numbers of arrays stay in the file until they are
asked for, so a data set of gigabytes costs each process that reads from it little more than the list of its clips.

The operations are those of Python's ``pickletools``, protocols 0 to 5.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path
from struct import Struct
from typing import Any, NoReturn

from hhmnet.readers.pyskl.pickled import NAMES, DTypeStandIn, Name, StoredArray, check_keys
from hhmnet.readers.pyskl.tape import ByteText, StoredBytes, StoredText, Tape, UnpicklingError

__all__ = ["StoredArray", "StoredBytes", "StoredText", "UnpicklingError", "load_plain"]

KEPT = 1024
"""Bytes and text longer than this stay in the file."""

_NOTHING = object()
_QUOTED = re.compile(rb"""(['"])(?:[^\\]|\\[\\'"nrt]|\\x[0-9a-fA-F]{2})*\1""")
_UINT16, _INT32, _UINT32, _UINT64, _DOUBLE = (Struct(code) for code in ("<H", "<i", "<I", "<Q", ">d"))


def load_plain(file: Path) -> Any:
    """What a pickle holds.

    Lists, tuples, sets, dicts, numbers, text, bytes and None are what they were, NumPy's numbers too; an
    ``OrderedDict`` is a dict. An array is a :class:`StoredArray`, text or bytes of more than 1,024 are a
    :class:`StoredText` or :class:`StoredBytes`, which read from the file what they hold when told to ``load()``.

    Raises:
        UnpicklingError: the file is damaged, or wants anything else; the message says what.
        OSError: it can't be read.
    """
    with open(file, "rb") as handle:
        return _Machine(Path(file), handle).run()


class _Machine(Tape):
    """The stack machine that a pickle is a program for."""

    def __init__(self, file: Path, handle: BufferedReader) -> None:
        super().__init__(file, handle)
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: list[Any] = []

    def run(self) -> Any:
        """Everything the program says; raises UnpicklingError."""
        actions, read = _ACTIONS, self.handle.read
        code = b""
        try:
            while (code := read(1)) != pickle.STOP:
                actions[code](self)
            if len(self.stack) != 1 or self.below:
                raise ValueError
        except UnpicklingError:
            raise
        # No such operation, not enough on the stack, or not the value that it takes.
        except (EOFError, KeyError, IndexError, ValueError) as error:
            short = not code or isinstance(error, EOFError)
            what = "is cut short" if short else "is no pickle, or a damaged one"
            raise UnpicklingError(f"{what} (byte {self.handle.tell()} of {self.size})") from None
        return self.stack[0]

    # Numbers, text and bytes.

    def text(self, count: int) -> None:
        if count > KEPT:
            self.stack.append(StoredText(self.file, self.skip(count), count, "utf-8"))
        else:
            self.stack.append(self.take(count).decode("utf-8", "surrogatepass"))

    def raw(self, count: int) -> None:
        if count > KEPT:
            self.stack.append(StoredBytes(self.file, self.skip(count), count))
        else:
            self.stack.append(self.take(count))

    def old_string(self, count: int) -> None:
        """A string of Python 2."""
        self.raw(count)
        if isinstance(self.stack[-1], bytes):
            self.stack[-1] = ByteText.of(self.stack[-1])

    def text_line(self) -> None:
        start, line = self.handle.tell(), self.line()
        coding = "raw-unicode-escape"
        long = len(line) > KEPT
        self.stack.append(StoredText(self.file, start, len(line), coding) if long else line.decode(coding))

    def string_line(self) -> None:
        quoted = self.line()
        if not _QUOTED.fullmatch(quoted):
            raise ValueError
        self.stack.append(ByteText.of(quoted[1:-1].decode("unicode-escape").encode("latin1")))

    def int_line(self) -> None:
        digits = self.line()
        truth = {b"00": False, b"01": True}.get(digits)
        self.stack.append(int(digits) if truth is None else truth)

    def long(self, count: int) -> None:
        self.stack.append(int.from_bytes(self.take(count), "little", signed=True))

    # The stack and the memo.

    def mark(self) -> None:
        self.below.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.below.pop()
        return items

    def pop(self) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.since_mark()

    def put(self, index: int) -> None:
        if not 0 <= index <= self.size:  # every entry takes a byte of the file at the least
            raise ValueError
        self.memo += [_NOTHING] * (index + 1 - len(self.memo))
        self.memo[index] = self.stack[-1]

    def get(self, index: int) -> None:
        if index < 0 or self.memo[index] is _NOTHING:
            raise ValueError
        self.stack.append(self.memo[index])

    # Containers.

    def gather(self, make: Callable[[list[Any]], Any]) -> None:
        items = self.since_mark()
        self.stack.append(make(items))

    def pack(self, count: int) -> None:
        if count > len(self.stack):
            raise ValueError
        self.stack[-count:] = [tuple(self.stack[-count:])]

    def append(self, items: list[Any]) -> None:
        _expect(list, self.stack[-1]).extend(items)

    def add(self, items: list[Any]) -> None:
        _expect(set, self.stack[-1]).update(check_keys(items))

    def set_items(self, items: list[Any]) -> None:
        _expect(dict, self.stack[-1]).update(_pairs(items))

    def set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.set_items([key, value])

    # Names, and what is done with them.

    def name(self, module: Any, name: Any) -> None:
        known = NAMES.get((module, name)) if isinstance(module, str) and isinstance(name, str) else None
        if known is None:
            _refuse(f"{_shown(module)}.{_shown(name)}")
        self.stack.append(known)

    def global_lines(self) -> None:
        self.name(self.line().decode(), self.line().decode())

    def stack_global(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.name(module, name)

    def reduce(self) -> None:
        arguments, name = self.stack.pop(), self.stack.pop()
        if not isinstance(name, Name) or name.make is None or not isinstance(arguments, tuple):
            _refuse(f"to call {_shown(name)}")
        self.stack.append(name.make(arguments))

    def build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if not isinstance(target, (StoredArray, DTypeStandIn)):
            _refuse(f"to set the inside of {_shown(target)}")
        target.set_state(state)

    def instance(self) -> None:
        module, name = self.line().decode(), self.line().decode()
        _refuse(f"an instance of {_shown(module)}.{_shown(name)}")

    def protocol(self) -> None:
        if (number := self.byte()) > 5:
            raise UnpicklingError(f"pickle protocol {number} is unknown; 0 to 5 are")


def _refuse(what: str) -> NoReturn:
    raise UnpicklingError(f"pickle wants {what}, which is no NumPy array or plain container")


def _shown(value: Any) -> str:
    text = value.text if isinstance(value, Name) else type(value).__name__
    return re.sub(r"[^\x20-\x7e]", "?", value if isinstance(value, str) else text)[:80]


def _expect(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise ValueError
    return value


def _pairs(items: list[Any]) -> dict[Any, Any]:
    return dict(zip(check_keys(items[::2]), items[1::2], strict=True))


def _push(make: Callable[[], Any]) -> Callable[[_Machine], None]:
    return lambda m: m.stack.append(make())


def _refusal(what: str) -> Callable[[_Machine], NoReturn]:
    return lambda _: _refuse(what)


_ACTIONS: dict[bytes, Callable[[_Machine], Any]] = {
    pickle.PROTO: _Machine.protocol,
    pickle.FRAME: lambda m: m.take(8),
    pickle.MARK: _Machine.mark,
    pickle.POP: _Machine.pop,
    pickle.POP_MARK: _Machine.since_mark,
    pickle.DUP: lambda m: m.stack.append(m.stack[-1]),
    pickle.NONE: _push(lambda: None),
    pickle.NEWTRUE: _push(lambda: True),
    pickle.NEWFALSE: _push(lambda: False),
    pickle.INT: _Machine.int_line,
    pickle.LONG: lambda m: m.stack.append(int(m.line().rstrip(b"L"))),
    pickle.FLOAT: lambda m: m.stack.append(float(m.line())),
    pickle.BININT: lambda m: m.stack.append(m.number(_INT32)),
    pickle.BININT1: lambda m: m.stack.append(m.byte()),
    pickle.BININT2: lambda m: m.stack.append(m.number(_UINT16)),
    pickle.LONG1: lambda m: m.long(m.byte()),
    pickle.LONG4: lambda m: m.long(m.number(_UINT32)),
    pickle.BINFLOAT: lambda m: m.stack.append(m.number(_DOUBLE)),
    pickle.STRING: _Machine.string_line,
    pickle.BINSTRING: lambda m: m.old_string(m.number(_UINT32)),
    pickle.SHORT_BINSTRING: lambda m: m.old_string(m.byte()),
    pickle.UNICODE: _Machine.text_line,
    pickle.SHORT_BINUNICODE: lambda m: m.text(m.byte()),
    pickle.BINUNICODE: lambda m: m.text(m.number(_UINT32)),
    pickle.BINUNICODE8: lambda m: m.text(m.number(_UINT64)),
    pickle.SHORT_BINBYTES: lambda m: m.raw(m.byte()),
    pickle.BINBYTES: lambda m: m.raw(m.number(_UINT32)),
    pickle.BINBYTES8: lambda m: m.raw(m.number(_UINT64)),
    pickle.BYTEARRAY8: lambda m: m.raw(m.number(_UINT64)),
    pickle.EMPTY_TUPLE: _push(tuple),
    pickle.TUPLE: lambda m: m.gather(tuple),
    pickle.TUPLE1: lambda m: m.pack(1),
    pickle.TUPLE2: lambda m: m.pack(2),
    pickle.TUPLE3: lambda m: m.pack(3),
    pickle.EMPTY_LIST: _push(list),
    pickle.LIST: lambda m: m.gather(list),
    pickle.APPEND: lambda m: m.append([m.stack.pop()]),
    pickle.APPENDS: lambda m: m.append(m.since_mark()),
    pickle.EMPTY_DICT: _push(dict),
    pickle.DICT: lambda m: m.gather(_pairs),
    pickle.SETITEM: _Machine.set_item,
    pickle.SETITEMS: lambda m: m.set_items(m.since_mark()),
    pickle.EMPTY_SET: _push(set),
    pickle.ADDITEMS: lambda m: m.add(m.since_mark()),
    pickle.FROZENSET: lambda m: m.gather(lambda items: frozenset(check_keys(items))),
    pickle.PUT: lambda m: m.put(int(m.line())),
    pickle.BINPUT: lambda m: m.put(m.byte()),
    pickle.LONG_BINPUT: lambda m: m.put(m.number(_UINT32)),
    pickle.MEMOIZE: lambda m: m.put(len(m.memo)),
    pickle.GET: lambda m: m.get(int(m.line())),
    pickle.BINGET: lambda m: m.get(m.byte()),
    pickle.LONG_BINGET: lambda m: m.get(m.number(_UINT32)),
    pickle.GLOBAL: _Machine.global_lines,
    pickle.STACK_GLOBAL: _Machine.stack_global,
    pickle.REDUCE: _Machine.reduce,
    pickle.BUILD: _Machine.build,
    pickle.INST: _Machine.instance,
}
_REFUSED = {
    "a persistent id": (pickle.PERSID, pickle.BINPERSID),
    "an extension code": (pickle.EXT1, pickle.EXT2, pickle.EXT4),
    "a new object": (pickle.OBJ, pickle.NEWOBJ, pickle.NEWOBJ_EX),
    "a buffer outside the file": (pickle.NEXT_BUFFER, pickle.READONLY_BUFFER),
}
_ACTIONS |= {code: _refusal(what) for what, codes in _REFUSED.items() for code in codes}

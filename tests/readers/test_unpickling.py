"""Pickles of arrays and plain containers: read as they were; hostile ones run nothing and take nothing."""

from __future__ import annotations

import collections
import copyreg
import os
import pickle
import struct
import tracemalloc
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hhmnet.readers.unpickling import StoredArray, StoredBytes, UnpicklingError, load_plain

PROTOCOLS = pytest.mark.parametrize("protocol", [0, 2, 4, 5])  # 1 and 3 have nothing of their own


def load(folder: Path, content: bytes) -> Any:
    (folder / "made.pkl").write_bytes(content)
    with open(folder / "made.pkl", "rb") as handle:
        return load_plain(handle)


def whole(value: Any) -> Any:
    """``value`` with all that was left in the file."""
    if isinstance(value, (StoredArray, StoredBytes)):
        return value.load()
    if isinstance(value, dict):
        return {key: whole(inner) for key, inner in value.items()}
    return type(value)(map(whole, value)) if isinstance(value, (list, tuple)) else value


ATOMS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
KEYS = st.integers() | st.text() | st.binary() | st.none() | st.tuples(st.integers(), st.text())
PLAIN = st.recursive(
    ATOMS,
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=PLAIN, protocol=st.integers(0, 5))
def test_plain_containers_are_what_they_were(tmp_path: Path, value: Any, protocol: int) -> None:
    found = load(tmp_path, pickle.dumps([value, value], protocol))
    assert found == [value, value]
    assert repr(found) == repr([value, value])


ARRAYS = {
    "as pyskl has them": np.arange(24, dtype=np.float16).reshape(2, 3, 2, 2),
    "Fortran order": np.asfortranarray(np.arange(24.0).reshape(2, 3, 4)),
    "neither order": np.arange(24.0).reshape(2, 3, 4).transpose(1, 0, 2),
    "the other byte order": np.arange(5, dtype=">i4"),
    "truth": np.array([True, False]),
    "nothing": np.zeros((0, 3), np.int64),
    "large": np.random.default_rng(0).normal(size=(20, 30)),
}


@PROTOCOLS
@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS.keys())
def test_arrays_are_what_they_were(tmp_path: Path, array: np.ndarray, protocol: int) -> None:
    content = pickle.dumps([array, array[..., None]], protocol)
    # NumPy 1 has its functions elsewhere; later protocols give the length of the name.
    contents = [content, content.replace(b"numpy._core", b"numpy.core")][: 1 + (protocol < 4)]
    for found in (load(tmp_path, content) for content in contents):
        for one, expected in zip(found, (array, array[..., None]), strict=True):
            assert isinstance(one, StoredArray)
            assert (one.shape, one.dtype) == (expected.shape, expected.dtype)
            np.testing.assert_array_equal(one.load(), expected)


@PROTOCOLS
def test_numbers_dicts_text_and_bytes(tmp_path: Path, protocol: int) -> None:
    """Long text and bytes stay in the file, but for those of protocol 0."""
    numbers = collections.OrderedDict(a=np.int64(-4), b=np.float32(0.5), c=np.bool_(True))
    value = [numbers, "é\n\\u1" * 500, bytes(range(256)) * 20]
    found, text, raw = load(tmp_path, pickle.dumps(value, protocol))
    assert type(found) is dict
    assert list(found.items()) == list(numbers.items())
    assert [type(inner) for inner in found.values()] == [np.int64, np.float32, np.bool_]
    if protocol:
        assert (raw.load(), text.load()) == (value[2], value[1].encode("latin1"))
    else:
        assert [text, raw] == value[1:]


@pytest.mark.parametrize("protocol", [2, 5])
def test_arrays_cost_no_memory_until_they_are_wanted(tmp_path: Path, protocol: int) -> None:
    array = np.random.default_rng(0).normal(size=(500, 500))
    content = pickle.dumps([array + n for n in range(4)], protocol)
    tracemalloc.start()
    found = load(tmp_path, content)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < array.nbytes / 5
    np.testing.assert_array_equal(found[3].load(), array + 3)


class Calls:
    """An object whose pickle calls ``function(*arguments)``."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.made = function, arguments

    def __reduce__(self) -> Any:
        return self.made


class Special(np.ndarray):
    """An array of a class of its own."""


def stack_global(*names: str) -> bytes:
    return b"\x80\x04" + b"".join(b"\x8c" + bytes([len(name)]) + name.encode() for name in names) + b"\x93."


@PROTOCOLS
@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (Calls(os.system, "touch hacked"), f"{os.system.__module__}.system"),
        (Calls(eval, "open('hacked', 'w')"), r"(__builtin__|builtins)\.eval"),
        (Calls(np.load, "hacked", None, True), r"numpy\.load"),
        (Calls(bytearray, 10**12), r"(__builtin__|builtins)\.bytearray"),
        (collections.Counter("abc"), r"collections\.Counter"),
        (nullcontext(), r"contextlib\.nullcontext|copy_?reg\._reconstructor"),
        (Path("hacked"), r"pathlib"),
        (np.random.default_rng(0), r"numpy\.random\._pickle\."),
        (np.arange(3).view(Special), r"test_unpickling\.Special"),
        ({1, 2}, r"\.set|a set"),
    ],
)
def test_what_else_a_pickle_wants_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: Any, wanted: str, protocol: int
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnpicklingError, match=wanted):
        load(tmp_path, pickle.dumps({"annotations": [value]}, protocol))
    assert [file.name for file in tmp_path.iterdir()] == ["made.pkl"]


ENCODE = b"c_codecs\nencode\n"
DTYPE = b"cnumpy\ndtype\n(X\x02\x00\x00\x00f4I00\nI01\ntR"
CORE = b"cnumpy.core.multiarray\n"
ARRAY = CORE + b"_reconstruct\n(cnumpy\nndarray\n(I0\ntC\x01btR"


def _laughs(count: int) -> bytes:
    """A list of two lists of two lists ...: 2 to the power of ``count`` of them, if one were to count them."""
    rows = b"".join(b"(h%sh%slq%s0" % (bytes([n]), bytes([n]), bytes([n + 1])) for n in range(count))
    return b"\x80\x02]q\x000" + rows + b"h" + bytes([count]) + b"."


BAD: dict[str, tuple[bytes, str]] = {
    "os.system by text": (b"cos\nsystem\n(S'touch hacked'\ntR.", r"wants os\.system, which is no NumPy"),
    "an old instance": (b"(S'touch hacked'\nios\nsystem\n.", r"wants os\.system"),
    "an old instance of ours": (b"(inumpy.core.multiarray\n_reconstruct\n.", "a new object"),
    "a new object of ours": (b"\x80\x02cnumpy\ndtype\n)\x81.", "a new object"),
    "a dotted name": (stack_global("numpy._core.multiarray", "_reconstruct.__globals__"), "__globals__"),
    "a module within": (stack_global("numpy._core.multiarray", "sys.modules"), r"multiarray\.sys\.modules"),
    "a name with line breaks": (stack_global("o\ns", "sys\x1b[2Jtem"), r"o\?s\.sys\?\[2Jtem"),
    "a persistent id": (b"Pfile\n.", "a persistent id"),
    "inside of a dict": (b"\x80\x02}}b.", "to set the inside of dict"),
    "inside of a class": (b"\x80\x02cnumpy\ndtype\n}b.", "to set the inside of _dtype"),
    "a call of data": (b"\x80\x02X\x01\x00\x00\x00a)R.", "to call a"),
    "bytes by a call": (b"\x80\x02c__builtin__\nbytes\n\x8a\x05\x00\x00\x00\x00\x7f\x85R.", "is no pickle"),
    "another coding": (ENCODE + b"(X\x01\x00\x00\x00aX\x05\x00\x00\x00rot13tR.", "aren't text in Latin-1"),
    "an array of objects": (pickle.dumps(np.array([{}, 1], object)), "an array of objects"),
    "an array with no state": (ARRAY + b".", "with 0 bytes"),
    "an array of a list": (ARRAY + b"(K\x01K\x01\x85" + DTYPE + b"I00\n]tb.", "numbers aren't bytes"),
    "an order of axes that is a dict": (
        b"\x80\x02cnumpy._core.numeric\n_frombuffer\n(C\x04abcd"
        + DTYPE
        + b"(K\x01tX\x01\x00\x00\x00K}K\x00K\x00stR.",
        "an array whose order isn't one",
    ),
    "a number without its bytes": (CORE + b"scalar\n(" + DTYPE + b"C\x01atR.", "has not the bytes"),
    "a list as a key": (b"\x80\x02}]Ns.", "a list as a key"),
    "a tuple as a key that takes for ever": (b"\x80\x02})" + b"\x86".join([b"2"] * 60) + b"Ns.", "as a key"),
    "an unknown protocol": (b"\x80\x06N.", "is no pickle"),
    "no end": (b"\x80\x02N", "is cut short"),
    "digits without end": (b"L" + b"9" * 5000 + b"L\n.", "is no pickle"),
    "no text": (b"\x80\x02X\x01\x00\x00\x00\xff.", "is no pickle"),
}
# Of these a few bytes say that they are many; the two without a reason are read.
BAD |= {
    "a long whole number": (b"\x80\x02\x8b\xff\xff\xff\x7fa.", "is cut short"),
    "long bytes": (b"\x80\x04\x8e" + struct.pack("<Q", 2**36) + b"a.", "is cut short"),
    "a long string of Python 2": (b"T\xff\xff\xff\x7fa.", "is cut short"),
    "a memo far away": (b"\x80\x02Nr\xff\xff\xff\x7f.", ""),
    "an array of zeros": (
        ARRAY + b"(K\x01(L%dL\nL%dL\nt" % (2**20, 2**20) + DTYPE + b"I00\nC\x04abcdtb.",
        "with 4 bytes of float32",
    ),
    "the same bytes made again and again": (
        b"V%s\nX\x06\x00\x00\x00latin1\x86q\x010%sq\x00%s." % (b"a" * 10**5, ENCODE, b"0h\x00h\x01R" * 100),
        "the same things too many times over",
    ),
    "lists of the same lists": (_laughs(60), ""),
}


@pytest.mark.parametrize(("content", "reason"), BAD.values(), ids=BAD.keys())
def test_hostile_pickles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    tracemalloc.start()
    try:
        with pytest.raises(UnpicklingError, match=rf"^.*{reason}.*$") if reason else nullcontext():
            whole(load(tmp_path, content)) if reason else load(tmp_path, content)
        assert tracemalloc.get_traced_memory()[1] < 150 * 2**20
    finally:
        tracemalloc.stop()
    assert [file.name for file in tmp_path.iterdir()] == ["made.pkl"]


def test_a_registered_extension_code_is_refused_too(tmp_path: Path) -> None:
    copyreg.add_extension("os", "system", 240)
    try:
        with pytest.raises(UnpicklingError, match="an extension code"):
            load(tmp_path, b"\x80\x02\x82\xf0X\x04\x00\x00\x00true\x85R.")
    finally:
        copyreg.remove_extension("os", "system", 240)

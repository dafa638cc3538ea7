"""Damage: bytes, texts and documents that were whole, changed in the ways that hurt readers most."""

from __future__ import annotations

import json
import random
import re
import struct
from collections.abc import Sequence
from typing import Any

LARGEST = 1 << 21
"""Bytes beyond which no input grows; what a few bytes can claim to be is not limited."""

_WORDS = [0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1]
_NUMBERS = [
    "-1",
    "0",
    "-0",
    "1",
    "2",
    "3",
    "7",
    "20",
    "25",
    "100",
    "255",
    "65536",
    "2147483647",
    "2147483648",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "99999999999999999999999",
    "1e9",
    "1e19",
    "1e38",
    "1e39",
    "1e308",
    "1e309",
    "1e400",
    "-1e400",
    "1e-400",
    "0.1",
    "-0.5",
    "nan",
    "NaN",
    "-nan",
    "inf",
    "-inf",
    "Infinity",
    "-Infinity",
    "0x10",
    "1_0",
    "٣",
    "1e",
    "1.",
    ".5",
    "+",
    "-",
]
_TOKENS = [
    *(
        "null",
        "true",
        "false",
        "[]",
        "{}",
        '""',
        "[[]]",
        "[null]",
        '"x"',
        "~",
        "''",
        '"',
        "'",
        ",",
        ":",
        ";",
        "\t",
    ),
    *(
        "\0",
        "\r",
        "\n",
        "\r\n",
        "\x1b[31m",
        "\ufeff",
        "\u2028",
        "é",
        "😀",
        "\\ud800",
        "\\u0000",
        "../../x",
        "/etc/x",
    ),
    *(
        "C:\\x",
        "&a",
        "*a",
        "!!python/object:os.system",
        "- ",
        "<<",
        "#",
        "%",
        "{" * 600,
        "[" * 3000,
        "A" * 300_000,
    ),
    "9" * 5000,
    "[&a [x, x], "
    + ", ".join(f"&a{n} [*a{n - 1 if n else ''}, *a{n - 1 if n else ''}]" for n in range(40))
    + "]",
    "&a [*a]",
]
_VALUES: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        2,
        0.5,
        -0.5,
        3,
        8,
        20,
        10**3,
        10**6,
        10**9,
        2**31,
        2**63,
        10**30,
        1e308,
        1e-308,
    ),
    *(
        float("nan"),
        float("inf"),
        -float("inf"),
        "",
        "x",
        "nan",
        "\0",
        "é\ud800",
        "../../x",
        "a" * 5000,
        "joint+bone",
    ),
    *(
        [],
        {},
        [[]],
        [None],
        [0],
        [1, 2],
        [0.5] * 3,
        ["x"],
        {"x": 1},
        [[0, 1]],
        [[[1.0, 2.0, 3.0]]],
        [1] * 1000,
    ),
]


def damaged(rng: random.Random, whole: bytes, others: Sequence[bytes] = (), text: bool = False) -> bytes:
    """``whole`` with one to four kinds of damage; ``others`` lend pieces, ``text`` is hurt as text too."""
    kinds = [*_OF_BYTES, *(_OF_TEXT * 2 if text else [])]
    found = whole
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
        if others and rng.random() < 0.1:
            found = _spliced(rng, found, rng.choice(others))
        else:
            found = rng.choice(kinds)(rng, found)
    return found[:LARGEST]


def damaged_document(rng: random.Random, document: Any) -> Any:
    """A JSON document of which one to three values are replaced, removed, doubled or made to change places."""
    found = json.loads(json.dumps(document))
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        found = _changed_somewhere(rng, found)
    return found


def _changed_somewhere(rng: random.Random, document: Any) -> Any:
    places: list[tuple[Any, Any]] = []
    _collect(document, places)
    if not places:
        return rng.choice(_VALUES)
    # Deep places are many; the few at the top decide most.
    holder, key = rng.choice(places if rng.random() < 0.5 else places[:40])
    kind = rng.randrange(6)
    if kind <= 2:
        holder[key] = rng.choice(_VALUES)
    elif kind == 3 and isinstance(holder, dict):
        del holder[key]
        if rng.random() < 0.5:
            holder[rng.choice(("x", "", "Ä", str(key) + " "))] = 1
    elif kind == 4 and isinstance(holder, list):
        holder[key : key + 1] = [holder[key]] * rng.choice((0, 2, 3, 50))
    else:
        other, place = rng.choice(places[:200])
        holder[key] = json.loads(json.dumps(other[place])) if place in _keys(other) else None
    return document


def _keys(holder: Any) -> Any:
    return holder.keys() if isinstance(holder, dict) else range(len(holder))


def _collect(document: Any, places: list[tuple[Any, Any]]) -> None:
    """Every place of a document, those nearest to the top first, 5,000 at the most."""
    level = [document]
    while level and len(places) < 5000:
        below = []
        for holder in level:
            if isinstance(holder, (dict, list)):
                keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
                places += [(holder, key) for key in keys]
                below += [holder[key] for key in keys]
        level = below


def _flipped(rng: random.Random, data: bytes) -> bytes:
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8)) if found else 0):
        found[rng.randrange(len(found))] ^= 1 << rng.randrange(8)
    return bytes(found)


def _flipped_early(rng: random.Random, data: bytes) -> bytes:
    """Headers decide more than what follows them."""
    head = min(len(data), rng.choice((16, 64, 256, 1024)))
    return _flipped(rng, data[:head]) + data[head:]


def _flipped_late(rng: random.Random, data: bytes) -> bytes:
    head = max(len(data) - rng.choice((16, 64, 256, 1024)), 0)
    return data[:head] + _flipped(rng, data[head:])


def _overwritten(rng: random.Random, data: bytes) -> bytes:
    """A number that programs stumble over, at any place, of any width and order of bytes."""
    width = rng.choice((1, 2, 4, 4, 8))
    word = (rng.choice(_WORDS) & ((1 << 8 * width) - 1)).to_bytes(width, rng.choice(("little", "big")))
    if rng.random() < 0.1:
        word = struct.pack(rng.choice("<>") + "f", rng.choice((float("nan"), float("inf"), 3e38, -1e-40)))
    place = rng.randrange(len(data) + 1)
    return data[:place] + word + data[place + len(word) :]


def _cut(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _cut_out(rng: random.Random, data: bytes) -> bytes:
    one, other = sorted((rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)))
    other = min(other, one + rng.choice((1, 4, 64, len(data))))
    return data[:one] + data[other:]


def _doubled(rng: random.Random, data: bytes) -> bytes:
    one = rng.randrange(len(data) + 1)
    piece = data[one : one + rng.choice((1, 8, 64, 1024))]
    times = rng.choice((1, 2, 16, 500))
    return data[:one] + (piece * times)[: LARGEST // 2] + data[one:]


def _swapped(rng: random.Random, data: bytes) -> bytes:
    ends = sorted(rng.randrange(len(data) + 1) for _ in range(4))
    a, b, c, d = ends
    return data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:]


def _any_bytes(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.choice((0, 4, 16, len(data) // 2))] + rng.randbytes(rng.choice((0, 1, 40, 2000)))


def _spliced(rng: random.Random, data: bytes, other: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


def _other_number(rng: random.Random, data: bytes) -> bytes:
    found = list(re.finditer(rb"-?\d+(\.\d+)?([eE][-+]?\d+)?", data))
    if not found:
        return _other_token(rng, data)
    place = rng.choice(found if rng.random() < 0.7 else found[:20])
    return data[: place.start()] + rng.choice(_NUMBERS).encode() + data[place.end() :]


def _other_token(rng: random.Random, data: bytes) -> bytes:
    found = list(re.finditer(rb"[\w.]+|[^\w\s]", data))
    token = rng.choice(_TOKENS).encode()
    if not found:
        return data + token
    place = rng.choice(found if rng.random() < 0.7 else found[:20])
    return data[: place.start()] + token + data[place.end() if rng.random() < 0.5 else place.start() :]


def _other_line(rng: random.Random, data: bytes) -> bytes:
    lines = data.splitlines(keepends=True)
    if len(lines) < 2:
        return _other_token(rng, data)
    one, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[one : one + rng.choice((0, 1))] = lines[other : other + rng.choice((0, 1, 3))]
    return b"".join(lines)


_OF_BYTES = [
    *(
        _flipped,
        _flipped_early,
        _flipped_late,
        _overwritten,
        _overwritten,
        _cut,
        _cut_out,
        _doubled,
        _swapped,
    ),
    _any_bytes,
]
_OF_TEXT = [_other_number, _other_token, _other_line]

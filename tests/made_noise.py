"""Damage: files that were whole, changed in the ways that hurt readers most."""

from __future__ import annotations

import copy
import json
import random
import re
import struct
from typing import Any

LARGEST = 1 << 21
"""Bytes beyond which no input grows; what a few bytes can claim to be is not limited."""
_WORDS = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1)
_NUMBERS = """
    -1 0 -0 1 2 3 20 25 65536 2147483648 4294967296 9223372036854775808 99999999999999999999999 1e9 1e38 1e39 1e308
    1e400 -1e400 1e-400 0.1 nan NaN -nan inf -inf Infinity 0x10 1_0 ٣ 1e 1. .5 + - 1.#QNAN nan(1)
"""
_MARKS = r"""
    null true [] {} "" [[]] [null] "x" ~ ' " , : ; é 😀 \ud800 \u0000 ../../x /etc/x C:\x &a *a << # %
    !!python/object:os.system
"""
_ALIASES = ", ".join(f"&a{n} [*a{n - 1 if n else ''}, *a{n - 1 if n else ''}]" for n in range(40))
_TOKENS = [*_MARKS.split(), "\t", "\0", "\r", "\n", "\r\n", "\x1b[31m", "\ufeff", "\u2028", "- ", "&a [*a]"]
_TOKENS += [f"[&a [x, x], {_ALIASES}]", "{" * 600, "[" * 3000, "A" * 300_000, "9" * 5000]
_VALUES = json.loads(
    """[null, true, 0, 1, -1, 2, 0.5, -0.5, 20, 1000, 1000000000, 2147483648, 1e308, 1e-308, 9223372036854775808, NaN,
    1000000000000000000000000000000, Infinity, -Infinity, "", "x", "nan", "\\u0000", "é\\ud800", "../../x", [], {},
    [[]], [null], [0], [1, 2], [0.5, 0.5, 0.5], ["x"], {"x": 1}, [[0, 1]], [[[1.0, 2.0, 3.0]]]]"""
)
_VALUES += ["a" * 5000, [1] * 1000]
TEXTS = (".yaml", ".csv", ".txt", ".skeleton", ".json")


def damaged_file(rng: random.Random, name: str, whole: bytes) -> bytes:
    """A file damaged in a way that its ending suggests: as text, as a document, in its header, or anywhere."""
    if name.endswith(".json") and rng.random() < 0.5:
        return json.dumps(damaged_document(rng, json.loads(whole))).encode()
    if name.endswith(".safetensors") and rng.random() < 0.5:
        (length,) = struct.unpack("<Q", whole[:8])
        header = json.dumps(damaged_document(rng, json.loads(whole[8 : 8 + length]))).encode()
        return struct.pack("<Q", len(header)) + header + whole[8 + length :]
    return damaged(rng, whole, text=name.endswith(TEXTS))


def damaged(rng: random.Random, whole: bytes, text: bool = False) -> bytes:
    """``whole`` with one to four kinds of damage; ``text`` is hurt as text too."""
    found = whole
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
        found = _text_damage(rng, found) if text and rng.random() < 0.4 else _byte_damage(rng, found)
    return found[:LARGEST]


def damaged_document(rng: random.Random, document: Any) -> Any:
    """A JSON document of which one to three values are replaced, removed, doubled or made to change places."""
    found = json.loads(json.dumps(document))
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = _places(found)
        if not places:
            return rng.choice(_VALUES)
        # Deep places are many; the few at the top decide most.
        holder, key = rng.choice(places if rng.random() < 0.5 else places[:40])
        match rng.randrange(6):
            case 3 if isinstance(holder, dict):
                del holder[key]
                if rng.random() < 0.5:
                    holder[rng.choice(("x", "", "Ä", f"{key} "))] = 1
            case 4 if isinstance(holder, list):
                holder[key : key + 1] = [holder[key]] * rng.choice((0, 2, 3, 50))
            case 5:
                other, place = rng.choice(places[:200])
                holder[key] = copy.deepcopy(other[place])
            case _:
                holder[key] = copy.deepcopy(rng.choice(_VALUES))  # a list of them may be a later holder
    return found


def _places(document: Any) -> list[tuple[Any, Any]]:
    """Every place of a document, those nearest to the top first, about 5,000 at the most."""
    places: list[tuple[Any, Any]] = []
    level = [document]
    while level and len(places) < 5000:
        holders = [one for one in level if isinstance(one, (dict, list))]
        here = [(one, key) for one in holders for key in (one if isinstance(one, dict) else range(len(one)))]
        places += here
        level = [one[key] for one, key in here]
    return places


def _flipped(rng: random.Random, data: bytes) -> bytes:
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8)) if found else 0):
        found[rng.randrange(len(found))] ^= 1 << rng.randrange(8)
    return bytes(found)


def _byte_damage(rng: random.Random, data: bytes) -> bytes:
    a, b, c = sorted(rng.randrange(len(data) + 1) for _ in range(3))
    edge = min(len(data), rng.choice((16, 64, 256, 1024)))
    match rng.randrange(8):
        case 0:
            return _flipped(rng, data)
        case 1:  # headers decide more than what follows them
            return _flipped(rng, data[:edge]) + data[edge:]
        case 2:
            return data[: len(data) - edge] + _flipped(rng, data[len(data) - edge :])
        case 3:  # a number that programs stumble over, of any width and order of bytes
            width = rng.choice((1, 2, 4, 4, 8))
            number = rng.choice(_WORDS) & ((1 << 8 * width) - 1)
            word = number.to_bytes(width, rng.choice(("little", "big")))
            return data[:b] + word + data[b + len(word) :]
        case 4:
            return data[:b] + rng.randbytes(rng.choice((0, 0, 1, 40, 2000)))
        case 5:
            return data[:b] + data[min(c, b + rng.choice((1, 4, 64, len(data)))) :]
        case 6:
            return data[:b] + (data[b : b + edge] * rng.choice((1, 2, 16, 500)))[: LARGEST // 2] + data[b:]
        case _:
            return data[:a] + data[b:c] + data[a:b] + data[c:]


def _text_damage(rng: random.Random, data: bytes) -> bytes:
    """Another number, another word or sign, or lines in other places."""
    kind = rng.randrange(3)
    lines = data.splitlines(keepends=True)
    if kind == 0 and len(lines) > 1:
        one, other = rng.randrange(len(lines)), rng.randrange(len(lines))
        lines[one : one + rng.choice((0, 1))] = lines[other : other + rng.choice((0, 1, 3))]
        return b"".join(lines)
    numbers = list(re.finditer(rb"-?\d+(\.\d+)?([eE][-+]?\d+)?", data)) if kind == 1 else []
    found = numbers or list(re.finditer(rb"[\w.]+|[^\w\s]", data))
    word = rng.choice(_NUMBERS.split() if numbers else _TOKENS).encode()
    if not found:
        return data + word
    place = rng.choice(found if rng.random() < 0.7 else found[:20])
    return data[: place.start()] + word + data[place.end() if rng.random() < 0.7 else place.start() :]

"""Bad manners of twenty-two kinds, spoken to a server over sockets."""

from __future__ import annotations

import contextlib
import io
import json
import random
import socket
import struct
import time
import zipfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from made_noise import damaged, damaged_document

PREDICT = "/api/v1/predict"
MODEL = "/api/v1/model"
FORM = "multipart/form-data; boundary=b"
SECONDS = 600.0
"""That a client waits for an answer at the most."""
CLIP = json.dumps({"joints": np.linspace(-1, 1, 6 * 20 * 3).reshape(6, 20, 3).round(4).tolist()}).encode()


class Request(NamedTuple):
    """What a client sends, piece by piece, with a pause after each.

    ``drops``: it goes away without waiting for an answer; ``rudely``: with a reset.
    """

    pieces: list[bytes]
    pause: float = 0.0
    drops: bool = False
    rudely: bool = False


class Server(NamedTuple):
    """A running server: its port, its process, and the folder that it has for temporary files."""

    port: int
    pid: int
    temporary: Path
    log: Path


def form(content: bytes = CLIP, name: str = "a.json", field: str = "file", **fields: str) -> bytes:
    """A multipart body with the boundary ``b``."""
    begin = "--b\r\nContent-Disposition: form-data; name"
    parts = "".join(f'{begin}="{key}"\r\n\r\n{value}\r\n' for key, value in fields.items())
    head = f'{begin}="{field}"; filename="{name}"\r\n\r\n'
    return (parts + head).encode() + content + b"\r\n--b--\r\n"


def post(body: bytes, length: object = None, kind: str = FORM, more: str = "") -> bytes:
    """A request with a body, whose length is told as it is or otherwise."""
    told = "" if length == "" else f"Content-Length: {len(body) if length is None else length}\r\n"
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n{told}{more}"
    return f"{head}Connection: close\r\n\r\n".encode("latin-1", "replace") + body


def get(path: str, method: str = "GET", more: str = "") -> bytes:
    """A request without a body."""
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{more}Connection: close\r\n\r\n"
    return head.encode("utf-8", "surrogatepass")


NORMAL = post(form(top="3"))
"""A request that is answered."""
LENGTHS = (0, 1, len(form()) - 3, len(form()) + 3, -1, "x", "1e3", "٣", "+5", "5, 6", "0x10", " ", 10**25, "")
CODINGS = ("chunked", "chunked, chunked", "gzip, chunked", "identity")
CHUNKS = "5 -5 zz FFFFFFFFFFFFFFFFF 0 7fffffffffffffff 5;a=b \0"
FORMS = [
    *("text/plain", "multipart/form-data", "", "application/json", "application/x-www-form-urlencoded"),
    *(f"multipart/form-data; boundary={end}" for end in ("", "c", "b" * 5000, '"b', "b; boundary=c")),
    *(f"multipart/form-data; charset={name}; boundary=b" for name in ("x", "utf-7")),
    "multipart/mixed; boundary=b",
]
NAMES = r"""
    ../../../etc/passwd /etc/passwd ..\..\windows\x C:\x.json . .. é😀.json con -rf $(touch%20x) `id` %2e%2e%2fx
    a.json/../../b ~/x a\";filename=\"/etc/x {0}%s%n
"""
FIELDS = "top modality details timeline taught other __proto__ file"
TEXTS = "0 -1 1e9 nan inf -inf 1e-300 99999999999999999999999 ٣ 0.25 true TRUE x skeleton video [] {} \0 é"
METHODS = "PUT DELETE PATCH OPTIONS HEAD TRACE CONNECT GET post AAAA PROPFIND M-SEARCH \x00 é"
PATHS = """
    /../../etc/passwd /api/v1/../../etc/passwd /%2e%2e/%2e%2e/etc/passwd /api/v1/%00 //etc/passwd /api/v1//predict
    /api/v1/model/ /static/../x /page.js/../x http://evil/x /api/v1/é /docs /api/v1/model#x /api/v1/openapi.json
    /.git/config /api/v2/model /file=/etc/passwd
"""
LONG_PATHS = (f"{MODEL}?x={'a' * 9_000}", "/" + "a/" * 5_000, "/api/v1/\r\nX: y", f"{MODEL}\0")
NOISE = [b"\0" * 100, b"\r\n" * 500, b"GET", b"GET /\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"SSH-2.0-x\r\n"]
NOISE += [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200), b"GET / HTTP/1.1\r\n\r\n"]
NOISE += [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
HEADERS = [
    *(
        "Host: evil.example",
        "Origin: http://evil.example",
        "X-Forwarded-For: 1.2.3.4",
        "Expect: 100-continue",
    ),
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13",
    *(" folded", "Content-Encoding: gzip", "Range: bytes=0-99999999999", "X: \0", "X\0: y", ": y", "X : y"),
    *("Accept: " + "a/b," * 3_000, "Origin: null", "Origin: http://[::1", "Authorization: Bearer \xe9"),
]
HUGE = [
    *(f"X-A: {'a' * length}\r\n" for length in (8_000, 70_000, 400_000)),
    *("".join(f"X-{n}: b\r\n" for n in range(count)) for count in (100, 3_000, 9_000)),
    *(f"Cookie: {'a=b; ' * 5_000}\r\n", f"Authorization: Bearer {'x' * 30_000}\r\n"),
]
NUMBERS = (b"NaN", b"Infinity", b"-Infinity", b"1e999", b"1e38", b"9" * 5_000, b"null", b"[]")


IN_FORMS = ("huge form", "many fields", "names", "fields", "numbers", "documents", "damaged clip", "bombs")
KINDS = (
    *IN_FORMS,
    *("huge head", "methods", "paths", "headers", "broken form", "huge body", "slow head", "slow body"),
    *("wrong length", "chunks", "noise", "damaged request", "dropped", "pipelined"),
)


def request(name: str, rng: random.Random) -> Request:
    """A hostile request of a kind."""
    if name in IN_FORMS:
        return Request([post(_form(name, rng))])
    choice = rng.choice
    match name:
        case "huge head":
            return Request([get(MODEL, more=choice(HUGE))])
        case "methods":
            return Request([get(choice((PREDICT, MODEL, "/", "*")), choice(METHODS.split(" ")))])
        case "paths":
            return Request([get(choice([*PATHS.split(), *LONG_PATHS]))])
        case "headers":
            more = f"{choice(HEADERS)}\r\n"
            return Request([get(MODEL, more=more) if rng.random() < 0.5 else post(form(), more=more)])
        case "broken form":
            body = damaged(rng, form(top="3", details="true"), text=True)
            return Request([post(body, kind=choice(FORMS))])
        case "huge body":
            length = choice((2_000_000, 10**9, 2**63, 10**30))
            return Request([post(b"", length), bytes(1 << 20), bytes(1 << 20)])
        case "slow head":
            pieces = [NORMAL[n : n + 7] for n in range(0, choice((21, 70)), 7)]
            return Request(pieces, choice((0.01, 0.05)), drops=rng.random() < 0.9)
        case "slow body":
            cut = NORMAL.index(b"\r\n\r\n") + 4
            pieces = [NORMAL[:cut], *(NORMAL[cut + n : cut + n + 50] for n in range(0, 300, 50))]
            return Request(pieces, choice((0.01, 0.05)))
        case "wrong length":
            return Request([post(form(), choice(LENGTHS))], drops=rng.random() < 0.9)
        case "chunks":
            body = f"{choice(CHUNKS.split(' '))}\r\nhello\r\n{choice(('0', '1', 'x', ''))}\r\n\r\n".encode()
            coded = post(body, choice(("", 5)), more=f"Transfer-Encoding: {choice(CODINGS)}\r\n")
            return Request([coded], drops=rng.random() < 0.8)
        case "noise":
            noise = choice([*NOISE, rng.randbytes(choice((1, 100, 5_000)))])
            return Request([noise], drops=rng.random() < 0.7)
        case "damaged request":
            return Request([damaged(rng, NORMAL, text=True)[:900_000]], drops=rng.random() < 0.7)
        case "dropped":
            part = NORMAL[: rng.randrange(len(NORMAL) + 1)]
            return Request([part], drops=True, rudely=rng.random() < 0.5)
    one = NORMAL.replace(b"Connection: close", b"Connection: keep-alive")
    return Request([one * choice((2, 5)) + NORMAL], drops=rng.random() < 0.3)


def _form(name: str, rng: random.Random) -> bytes:
    choice = rng.choice
    match name:
        case "huge form":
            return form(b"[" * choice((10_000, 900_000, 1_500_000)))
        case "many fields":
            return form(**{f"f{n}": "x" for n in range(choice((9, 100, 5_000)))})
        case "names":
            names = [*NAMES.split(), "", "a\0.json", "\x1b[31m.json", "a" * 5_000, "\u202egnp.json"]
            return form(CLIP, choice(names), choice(("file", "file", "file", "../file", "", "top")))
        case "fields":
            texts = [*TEXTS.split(" "), ""]
            return form(**{choice(FIELDS.split()): choice(texts) for _ in range(choice((1, 2, 4)))})
        case "numbers" if rng.random() < 0.3:
            return form(CLIP.replace(b"0.", choice(NUMBERS) + b", 0.", choice((1, 3))))
        case "numbers":
            return form(CLIP.replace(b"-1.0", choice(NUMBERS), 1))
        case "documents":
            return form(json.dumps(damaged_document(rng, json.loads(CLIP))).encode())
        case "damaged clip":
            return form(damaged(rng, CLIP, text=True)[:900_000])
    return form(choice(_bombs()))


@cache
def _bombs() -> list[bytes]:
    """Small files that stand for many bytes, or make much work."""
    heads = b",".join(b"j%d_x,j%d_y" % (n, n) for n in range(20_000))
    return [
        _zipped(b""),
        _zipped(_npy_header((10**6, 10**5, 3))),
        _npy_header((2**31, 20, 3)),
        b"[" * 100_000 + b"]" * 100_000,
        b"frame," + heads + b"\n" + b"0," * 40_001,
        b"1000000000\n1\n" + b"1 " * 10 + b"\n25\n",
    ]


def _npy_header(shape: tuple[int, ...]) -> bytes:
    handle = io.BytesIO()
    np.lib.format.write_array_header_1_0(handle, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return handle.getvalue()


def _zipped(head: bytes) -> bytes:
    handle = io.BytesIO()
    with zipfile.ZipFile(handle, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("joints.npy", head + bytes(1 << 25))
    return handle.getvalue()


def send(port: int, request: Request) -> bytes:
    """What the server says, until it closes the connection or the client's time is over; b"" for nothing."""
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as client:
        with contextlib.suppress(OSError):  # the server may have closed it already, which is its right
            for piece in request.pieces:
                client.sendall(piece)
                time.sleep(request.pause)
        if request.drops:
            if request.rudely:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return b""
        found = []
        with contextlib.suppress(OSError):
            while piece := client.recv(65536):
                found.append(piece)
        return b"".join(found)


def statuses(response: bytes) -> list[int]:
    """Statuses of all answers on a connection."""
    parts = response.split(b"HTTP/1.")[1:]
    return [int(part[2:5]) for part in parts if part[1:2] == b" " and part[2:5].isdigit()]


def assault(port: int, count: int, seed: int, clients: int = 16) -> Counter[tuple[str, int]]:
    """Send so many hostile requests, of all kinds in turn, from several clients at a time. Returns how often which
    status came, by kind and status; 0 where nothing was said.
    """

    def one(number: int) -> list[tuple[str, int]]:
        name = KINDS[number % len(KINDS)]
        hostile = request(name, random.Random(f"{seed}/{number}"))
        return [(name, status) for status in statuses(send(port, hostile)) or [0]]

    with ThreadPoolExecutor(clients) as pool:
        return Counter(answer for answers in pool.map(one, range(count)) for answer in answers)

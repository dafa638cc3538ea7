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
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from noise import damaged, damaged_document

PREDICT = "/api/v1/predict"
FORM = "multipart/form-data; boundary=b"
SECONDS = 60.0
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


class Usage(NamedTuple):
    """What a server's process holds: megabytes in memory, open files, threads, and files in its temporary folder."""

    megabytes: float
    files: int
    threads: int
    temporary: int


def usage(server: Server) -> Usage:
    """What the process holds now."""
    status = Path(f"/proc/{server.pid}/status").read_text()
    return Usage(
        int(status.split("VmRSS:")[1].split()[0]) / 1024,
        len(list(Path(f"/proc/{server.pid}/fd").iterdir())),
        int(status.split("Threads:")[1].split()[0]),
        sum(path.is_file() for path in server.temporary.rglob("*")),
    )


def form(content: bytes = CLIP, name: str = "a.json", field: str = "file", **fields: str) -> bytes:
    """A multipart body with the boundary ``b``."""
    parts = "".join(
        f'--b\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n' for k, v in fields.items()
    )
    head = f'--b\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n\r\n'
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


def normal() -> bytes:
    """A request that is answered."""
    return post(form(top="3"))


def _slow_body(rng: random.Random) -> Request:
    whole = normal()
    cut = whole.index(b"\r\n\r\n") + 4
    pieces = [whole[:cut], *(whole[cut + n : cut + n + 50] for n in range(0, 300, 50))]
    return Request(pieces, rng.choice((0.01, 0.05)))


def _slow_head(rng: random.Random) -> Request:
    pieces = [normal()[n : n + 7] for n in range(0, rng.choice((21, 70)), 7)]
    return Request(pieces, rng.choice((0.01, 0.05)), drops=rng.random() < 0.9)


def _huge_head(rng: random.Random) -> Request:
    more = rng.choice(
        (
            f"X-A: {'a' * rng.choice((8_000, 70_000, 400_000))}\r\n",
            "".join(f"X-{n}: b\r\n" for n in range(rng.choice((100, 3_000, 9_000)))),
            f"Cookie: {'a=b; ' * 5_000}\r\n",
            f"Authorization: Bearer {'x' * 30_000}\r\n",
        )
    )
    return Request([get("/api/v1/model", more=more)])


LENGTHS = (0, 1, len(form()) - 3, len(form()) + 3, -1, "x", "1e3", "٣", "+5", "5, 6", "0x10", " ", 10**25, "")
CODINGS = ("chunked", "chunked, chunked", "gzip, chunked", "identity")
CHUNKS = ("5", "-5", "zz", "FFFFFFFFFFFFFFFFF", "0", "7fffffffffffffff", "5;a=b", "\0")


def _chunks(rng: random.Random) -> Request:
    body = f"{rng.choice(CHUNKS)}\r\nhello\r\n{rng.choice(('0', '1', 'x', ''))}\r\n\r\n".encode()
    more = f"Transfer-Encoding: {rng.choice(CODINGS)}\r\n"
    return Request([post(body, rng.choice(("", 5)), more=more)], drops=rng.random() < 0.8)


FORMS = [
    *(
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=c",
        "text/plain",
        "multipart/form-data",
        "",
    ),
    *("multipart/form-data; boundary=" + "b" * 5000, "multipart/form-data; charset=x; boundary=b"),
    *("application/json", 'multipart/form-data; boundary="b', "multipart/form-data; boundary=b; boundary=c"),
    *("multipart/mixed; boundary=b", "application/x-www-form-urlencoded"),
    "multipart/form-data; charset=utf-7; boundary=b",
]
NAMES = [
    *(
        "../../../etc/passwd",
        "/etc/passwd",
        "..\\..\\windows\\x",
        "C:\\x.json",
        "a\0.json",
        "\x1b[31m.json",
        ".",
    ),
    *("..", "", "a" * 5_000, "é😀.json", "con", "-rf", "$(touch x)", "`id`", "%2e%2e%2fx", "a.json/../../b"),
    *("~/x", 'a\\"; filename=\\"/etc/x', "\u202egnp.json", "{0}%s%n"),
]
FIELDS = ("top", "modality", "details", "timeline", "window", "stride", "other", "__proto__", "file")
NUMBERS = ("0", "-1", "1e9", "nan", "inf", "-inf", "1e-300", "9" * 23, "٣", "0.25")
TEXTS = (*NUMBERS, "true", "TRUE", "x", "skeleton", "video", "[]", "{}", "", "\0", "é")


def _fields(rng: random.Random) -> Request:
    return Request(
        [post(form(**{rng.choice(FIELDS): rng.choice(TEXTS) for _ in range(rng.choice((1, 2, 4)))}))]
    )


def _numbers(rng: random.Random) -> Request:
    text = rng.choice((b"NaN", b"Infinity", b"-Infinity", b"1e999", b"1e38", b"9" * 5_000, b"null", b"[]"))
    if rng.random() < 0.3:
        return Request([post(form(CLIP.replace(b"0.", text + b", 0.", rng.choice((1, 3)))))])
    return Request([post(form(CLIP.replace(b"-1.0", text, 1)))])


def _bombs(rng: random.Random) -> Request:
    kind, handle = rng.randrange(6), io.BytesIO()
    if kind < 2:
        array = io.BytesIO()
        if kind == 1:
            facts = {"descr": "<f8", "fortran_order": False, "shape": (10**6, 10**5, 3)}
            np.lib.format.write_array_header_1_0(array, facts)
        with zipfile.ZipFile(handle, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("joints.npy", array.getvalue() + bytes(1 << 25))
    elif kind == 2:
        facts = {"descr": "<f4", "fortran_order": True, "shape": (2**31, 20, 3)}
        np.lib.format.write_array_header_1_0(handle, facts)
    elif kind == 3:
        handle.write(b"[" * 100_000 + b"]" * 100_000)
    elif kind == 4:
        heads = b",".join(b"j%d_x,j%d_y" % (n, n) for n in range(20_000))
        handle.write(b"frame," + heads + b"\n" + b"0," * 40_001)
    else:
        handle.write(b"1000000000\n1\n" + b"1 " * 10 + b"\n25\n")
    return Request([post(form(handle.getvalue()))])


METHODS = [
    *("PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE", "CONNECT", "GET", "post", "AAAA", "PROPFIND"),
    *("M-SEARCH", "\x00", "é"),
]
PATHS = [
    *(
        "/../../etc/passwd",
        "/api/v1/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/api/v1/%00",
        "//etc/passwd",
    ),
    *(
        "/api/v1//predict",
        "/api/v1/model/",
        "/api/v1/model?x=" + "a" * 9_000,
        "/" + "a/" * 5_000,
        "/static/../x",
    ),
    *("/page.js/../x", "http://evil/x", "/api/v1/é", "/api/v1/model#x", "/api/v1/openapi.json", "/docs"),
    *("/.git/config", "/api/v2/model", "/api/v1/\r\nX: y", "/api/v1/model\0", "/file=/etc/passwd"),
]
NOISE = [
    *(
        b"\0" * 100,
        b"\r\n" * 500,
        b"GET",
        b"GET /\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"SSH-2.0-x\r\n",
    ),
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    *(b"GET / HTTP/9.9\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"),
]
SOCKET = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n"
HEADERS = [
    *("Host: evil.example\r\n", "Origin: http://evil.example\r\n", "X-Forwarded-For: 1.2.3.4\r\n", SOCKET),
    *(
        "Expect: 100-continue\r\n",
        " folded\r\n",
        "Content-Encoding: gzip\r\n",
        "Range: bytes=0-99999999999\r\n",
    ),
    *(
        "X: \0\r\n",
        "X\0: y\r\n",
        ": y\r\n",
        "X : y\r\n",
        "Accept: " + "a/b," * 3_000 + "\r\n",
        "Origin: null\r\n",
    ),
    *("Origin: http://[::1\r\n", "Authorization: Bearer \xe9\r\n"),
]


def _headers(rng: random.Random) -> Request:
    more = rng.choice(HEADERS)
    return Request([get("/api/v1/model", more=more) if rng.random() < 0.5 else post(form(), more=more)])


def _noise(rng: random.Random) -> Request:
    whole = rng.choice([*NOISE, rng.randbytes(rng.choice((1, 100, 5_000)))])
    return Request([whole], drops=rng.random() < 0.7)


def _pipelined(rng: random.Random) -> Request:
    one = normal().replace(b"Connection: close", b"Connection: keep-alive")
    return Request([one * rng.choice((2, 5)) + normal()], drops=rng.random() < 0.3)


def _dropped(rng: random.Random) -> Request:
    return Request([normal()[: rng.randrange(len(normal()) + 1)]], drops=True, rudely=rng.random() < 0.5)


KINDS: dict[str, Callable[[random.Random], Request]] = {
    "huge body": lambda rng: Request(
        [post(b"", rng.choice((2_000_000, 10**9, 2**63, 10**30))), bytes(1 << 20), bytes(1 << 20)]
    ),
    "huge form": lambda rng: Request([post(form(b"[" * rng.choice((10_000, 900_000, 1_500_000))))]),
    "huge head": _huge_head,
    "slow head": _slow_head,
    "slow body": _slow_body,
    "wrong length": lambda rng: Request([post(form(), rng.choice(LENGTHS))], drops=rng.random() < 0.9),
    "chunks": _chunks,
    "broken form": lambda rng: Request(
        [post(damaged(rng, form(top="3", details="true"), text=True), kind=rng.choice(FORMS))]
    ),
    "many fields": lambda rng: Request(
        [post(form(**{f"f{n}": "x" for n in range(rng.choice((9, 100, 5_000)))}))]
    ),
    "names": lambda rng: Request(
        [post(form(CLIP, rng.choice(NAMES), rng.choice(("file", "file", "file", "../file", "", "top"))))]
    ),
    "fields": _fields,
    "numbers": _numbers,
    "documents": lambda rng: Request(
        [post(form(json.dumps(damaged_document(rng, json.loads(CLIP))).encode()))]
    ),
    "damaged clip": lambda rng: Request([post(form(damaged(rng, CLIP, text=True)[:900_000]))]),
    "bombs": _bombs,
    "methods": lambda rng: Request(
        [get(rng.choice((PREDICT, "/api/v1/model", "/api/v1/health", "/", "*")), rng.choice(METHODS))]
    ),
    "paths": lambda rng: Request([get(rng.choice(PATHS))]),
    "noise": _noise,
    "damaged request": lambda rng: Request(
        [damaged(rng, normal(), text=True)[:900_000]], drops=rng.random() < 0.7
    ),
    "headers": _headers,
    "dropped": _dropped,
    "pipelined": _pipelined,
}


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
    """Send so many hostile requests, of all kinds in turn, from several clients at a time.

    Returns:
        How often which status came, by kind and status; 0 where nothing was said.
    """
    names = list(KINDS)

    def one(number: int) -> list[tuple[str, int]]:
        name = names[number % len(names)]
        request = KINDS[name](random.Random(f"{seed}/{number}"))
        return [(name, status) for status in statuses(send(port, request)) or [0]]

    with ThreadPoolExecutor(clients) as pool:
        return Counter(answer for answers in pool.map(one, range(count)) for answer in answers)

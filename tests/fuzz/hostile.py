"""Ten thousand kinds of bad manners, spoken to a server over sockets."""

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


def form(content: bytes = CLIP, name: str | bytes = "a.json", field: str = "file", **fields: str) -> bytes:
    """A multipart body with the boundary ``b``."""
    named = name.encode() if isinstance(name, str) else name
    parts = [
        b'--b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (k.encode(), v.encode())
        for k, v in fields.items()
    ]
    head = b'--b\r\nContent-Disposition: form-data; name="%b"; filename="%b"\r\n\r\n' % (
        field.encode(),
        named,
    )
    return b"".join(parts) + head + content + b"\r\n--b--\r\n"


def post(
    body: bytes, told: object = None, kind: str = "multipart/form-data; boundary=b", more: str = ""
) -> bytes:
    """A request with a body, whose length is told as it is or otherwise."""
    length = "" if told == "" else f"Content-Length: {len(body) if told is None else told}\r\n"
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n{length}{more}"
    return f"{head}Connection: close\r\n\r\n".encode("latin-1", "replace") + body


def _get(path: str, method: str = "GET", more: str = "") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{more}Connection: close\r\n\r\n"
    return head.encode("utf-8", "surrogatepass")


def normal() -> bytes:
    """A request that is answered."""
    return post(form(top="3"))


def _huge_body(rng: random.Random) -> Request:
    size = rng.choice((2_000_000, 10**9, 2**63, 10**30))
    return Request([post(b"", size), bytes(1 << 20), bytes(1 << 20)])


def _huge_form(rng: random.Random) -> Request:
    return Request([post(form(b"[" * rng.choice((10_000, 900_000, 1_500_000))))])


def _huge_head(rng: random.Random) -> Request:
    kind = rng.randrange(4)
    more = [
        "X-A: " + "a" * rng.choice((8_000, 70_000, 400_000)) + "\r\n",
        "".join(f"X-{n}: b\r\n" for n in range(rng.choice((100, 3_000, 9_000)))),
        "Cookie: " + "a=b; " * 5_000 + "\r\n",
        "Authorization: Bearer " + "x" * 30_000 + "\r\n",
    ][kind]
    return Request([_get("/api/v1/model", more=more)])


def _slow_head(rng: random.Random) -> Request:
    whole = normal()
    return Request(
        [whole[n : n + 7] for n in range(0, rng.choice((21, 70)), 7)],
        rng.choice((0.01, 0.05)),
        drops=rng.random() < 0.9,
    )


def _slow_body(rng: random.Random) -> Request:
    whole = normal()
    cut = whole.index(b"\r\n\r\n") + 4
    return Request(
        [whole[:cut], *(whole[cut + n : cut + n + 50] for n in range(0, 300, 50))], rng.choice((0.01, 0.05))
    )


def _wrong_length(rng: random.Random) -> Request:
    body = form()
    told = rng.choice(
        (0, 1, len(body) - 3, len(body) + 3, -1, "x", "1e3", "٣", "+5", "5, 6", "0x10", " ", 10**25, "")
    )
    return Request([post(body, told)], drops=rng.random() < 0.9)


def _chunks(rng: random.Random) -> Request:
    sizes = rng.choice(("5", "-5", "zz", "FFFFFFFFFFFFFFFFF", "0", "7fffffffffffffff", "5;a=b", "\0"))
    body = f"{sizes}\r\nhello\r\n{rng.choice(('0', '1', 'x', ''))}\r\n\r\n".encode()
    more = (
        "Transfer-Encoding: "
        + rng.choice(("chunked", "chunked, chunked", "gzip, chunked", "identity"))
        + "\r\n"
    )
    return Request([post(body, rng.choice(("", 5)), more=more)], drops=rng.random() < 0.8)


def _broken_form(rng: random.Random) -> Request:
    kind = rng.choice(
        (
            *(
                "multipart/form-data",
                "multipart/form-data; boundary=",
                "multipart/form-data; boundary=c",
                "text/plain",
            ),
            *(
                "multipart/form-data; boundary=" + "b" * 5000,
                "multipart/form-data; charset=x; boundary=b",
                "application/json",
            ),
            *(
                'multipart/form-data; boundary="b',
                "multipart/form-data; boundary=b; boundary=c",
                "multipart/mixed; boundary=b",
            ),
            *("application/x-www-form-urlencoded", "multipart/form-data; charset=utf-7; boundary=b", ""),
        )
    )
    return Request([post(damaged(rng, form(top="3", details="true"), text=True), kind=kind)])


def _many_fields(rng: random.Random) -> Request:
    count = rng.choice((9, 100, 5_000))
    return Request([post(form(**{f"f{n}": "x" for n in range(count)}))])


def _names(rng: random.Random) -> Request:
    name = rng.choice(
        (
            *(
                "../../../etc/passwd",
                "/etc/passwd",
                "..\\..\\windows\\x",
                "C:\\x.json",
                "a\0.json",
                "\x1b[31m.json",
                ".",
            ),
            *(
                "..",
                "",
                "a" * 5_000,
                "é😀.json",
                "con",
                "-rf",
                "$(touch x)",
                "`id`",
                "%2e%2e%2fx",
                "a.json/../../b",
                "~/x",
            ),
            *('a\\"; filename=\\"/etc/x', "\u202egnp.json", "{0}%s%n"),
        )
    )
    field = rng.choice(("file", "file", "file", "../file", "", "top"))
    return Request([post(form(CLIP, name, field))])


def _fields(rng: random.Random) -> Request:
    numbers = ("0", "-1", "1e9", "nan", "inf", "-inf", "1e-300", "9" * 23, "٣", "0.25")
    values = (*numbers, "true", "TRUE", "x", "skeleton", "video", "[]", "{}", "", "\0", "é")
    names = ("top", "modality", "details", "timeline", "window", "stride", "other", "__proto__", "file")
    return Request(
        [post(form(**{rng.choice(names): rng.choice(values) for _ in range(rng.choice((1, 2, 4)))}))]
    )


def _numbers(rng: random.Random) -> Request:
    text = rng.choice((b"NaN", b"Infinity", b"-Infinity", b"1e999", b"1e38", b"9" * 5_000, b"null", b"[]"))
    body = (
        CLIP.replace(b"0.", text + b", 0.", rng.choice((1, 3)))
        if rng.random() < 0.3
        else CLIP.replace(b"-1.0", text, 1)
    )
    return Request([post(form(body))])


def _documents(rng: random.Random) -> Request:
    return Request([post(form(json.dumps(damaged_document(rng, json.loads(CLIP))).encode()))])


def _damaged_clip(rng: random.Random) -> Request:
    return Request([post(form(damaged(rng, CLIP, text=True)[:900_000]))])


def _bombs(rng: random.Random) -> Request:
    kind, handle = rng.randrange(6), io.BytesIO()
    if kind == 0:
        with zipfile.ZipFile(handle, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("joints.npy", bytes(1 << 26))
    elif kind == 1:
        head = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            head, {"descr": "<f8", "fortran_order": False, "shape": (10**6, 10**5, 3)}
        )
        with zipfile.ZipFile(handle, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("joints.npy", head.getvalue() + bytes(1 << 24))
    elif kind == 2:
        np.lib.format.write_array_header_1_0(
            handle, {"descr": "<f4", "fortran_order": True, "shape": (2**31, 20, 3)}
        )
    elif kind == 3:
        handle.write(b"[" * 100_000 + b"]" * 100_000)
    elif kind == 4:
        handle.write(
            b"frame," + b",".join(b"j%d_x,j%d_y" % (n, n) for n in range(20_000)) + b"\n" + b"0," * 40_001
        )
    else:
        handle.write(b"1000000000\n1\n" + b"1 " * 10 + b"\n25\n")
    return Request([post(form(handle.getvalue()))])


def _methods(rng: random.Random) -> Request:
    methods = [
        "PUT",
        "DELETE",
        "PATCH",
        "OPTIONS",
        "HEAD",
        "TRACE",
        "CONNECT",
        "GET",
        "post",
        "AAAA",
        "PROPFIND",
        "M-SEARCH",
        "\x00",
        "é",
    ]
    path = rng.choice((PREDICT, "/api/v1/model", "/api/v1/health", "/", "*", "/config"))
    return Request([_get(path, rng.choice(methods))])


def _paths(rng: random.Random) -> Request:
    path = rng.choice(
        (
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
                "/file=/etc/passwd",
            ),
            *(
                "/gradio_api/upload",
                "/static/../../x",
                "/assets/%2e%2e/x",
                "http://evil/x",
                "/api/v1/é",
                "/api/v1/model#x",
            ),
            *(
                "/api/v1/openapi.json",
                "/docs",
                "/.git/config",
                "/api/v2/model",
                "/api/v1/\r\nX: y",
                "/api/v1/model\0",
            ),
        )
    )
    return Request([_get(path)])


def _noise(rng: random.Random) -> Request:
    whole = rng.choice(
        (
            *(
                b"\0" * 100,
                b"\r\n" * 500,
                b"GET",
                b"GET /\r\n\r\n",
                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
            ),
            *(
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                b"GET / HTTP/9.9\r\n\r\n",
                b"GET / HTTP/1.1\r\n\r\n",
                b"SSH-2.0-x\r\n",
            ),
            rng.randbytes(rng.choice((1, 100, 5_000))),
        )
    )
    return Request([whole], drops=rng.random() < 0.7)


def _damaged_request(rng: random.Random) -> Request:
    return Request([damaged(rng, normal(), text=True)[:900_000]], drops=rng.random() < 0.7)


def _headers(rng: random.Random) -> Request:
    more = rng.choice(
        (
            *(
                "Host: evil.example\r\n",
                "Origin: http://evil.example\r\n",
                "X-Forwarded-For: 1.2.3.4\r\n",
                "Expect: 100-continue\r\n",
            ),
            *(
                "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n",
                " folded\r\n",
            ),
            *(
                "Content-Encoding: gzip\r\n",
                "Range: bytes=0-99999999999\r\n",
                "X: \0\r\n",
                "X\0: y\r\n",
                ": y\r\n",
                "X : y\r\n",
            ),
            *(
                "Accept: " + "a/b," * 3_000 + "\r\n",
                "Origin: null\r\n",
                "Origin: http://[::1\r\n",
                "Authorization: Bearer \xe9\r\n",
            ),
        )
    )
    return Request([_get("/api/v1/model", more=more) if rng.random() < 0.5 else post(form(), more=more)])


def _dropped(rng: random.Random) -> Request:
    whole = normal()
    return Request([whole[: rng.randrange(len(whole) + 1)]], drops=True, rudely=rng.random() < 0.5)


def _pipelined(rng: random.Random) -> Request:
    one = normal().replace(b"Connection: close", b"Connection: keep-alive")
    return Request([one * rng.choice((2, 5)) + normal()], drops=rng.random() < 0.3)


KINDS: tuple[Callable[[random.Random], Request], ...] = (
    *(
        _huge_body,
        _huge_form,
        _huge_head,
        _slow_head,
        _slow_body,
        _wrong_length,
        _chunks,
        _broken_form,
        _many_fields,
    ),
    *(
        _names,
        _fields,
        _numbers,
        _documents,
        _damaged_clip,
        _bombs,
        _methods,
        _paths,
        _noise,
        _damaged_request,
        _headers,
    ),
    *(_dropped, _pipelined),
)


def send(port: int, request: Request) -> bytes:
    """What the server says, until it closes the connection or the client's time is over; b"" for nothing."""
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as client:
        with contextlib.suppress(OSError):  # the server may have closed it already, which is its right
            for piece in request.pieces:
                client.sendall(piece)
                if request.pause:
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


def statuses(said: bytes) -> list[int]:
    """Statuses of all answers on a connection."""
    return [
        int(part[2:5]) for part in said.split(b"HTTP/1.")[1:] if part[1:2] == b" " and part[2:5].isdigit()
    ]


def assault(port: int, count: int, seed: int, clients: int = 16) -> Counter[str]:
    """Send so many hostile requests, of all kinds in turn, from several clients at a time.

    Returns:
        How often which status came, by kind and status; ``_kind none`` where nothing was said.
    """
    found: Counter[str] = Counter()

    def one(number: int) -> tuple[str, list[int]]:
        kind = KINDS[number % len(KINDS)]
        request = kind(random.Random(f"{seed}/{number}"))
        return kind.__name__, statuses(send(port, request))

    with ThreadPoolExecutor(clients) as pool:
        for name, said in pool.map(one, range(count)):
            found.update([f"{name} {status}" for status in said] or [f"{name} none"])
    return found


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


def usage(pid: int, temporary: Path) -> Usage:
    """What a process holds now."""
    status = Path(f"/proc/{pid}/status").read_text()
    resident = int(status.split("VmRSS:")[1].split()[0]) / 1024
    threads = int(status.split("Threads:")[1].split()[0])
    left = [path for path in temporary.rglob("*") if path.is_file()]
    return Usage(resident, len(list(Path(f"/proc/{pid}/fd").iterdir())), threads, len(left))

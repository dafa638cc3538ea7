"""``hhmnet serve`` as a process of its own, under hostile requests: then a normal one is answered as before.

``make test`` sends two of each kind, ``make test-long`` HHMNET_HOSTILE_REQUESTS (10,000).
"""

from __future__ import annotations

import json
import os
import socket
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="the extra 'serve' isn't installed")

import hostile
from hostile import Server, assault, form, normal, post, send, statuses, usage

pytestmark = pytest.mark.xdist_group("serve")

ALLOWED = {100, 200, 400, 401, 403, 404, 405, 408, 413, 415, 421, 422, 431, 501, 503}
"""What may be said to a hostile request; 100 is that a body is waited for, 503 that too many come at a time."""


def answer(server: Server) -> dict[str, Any]:
    """The answer to the normal request, without the time that it took."""
    said = send(server.port, hostile.Request([normal()]))
    assert statuses(said) == [200], said[:500]
    found: dict[str, Any] = json.loads(said.split(b"\r\n\r\n", 1)[1])
    del found["seconds"]
    return found


def withstand(server: Server, count: int, seed: int) -> str:
    """Send hostile requests; returns what came of them in a few lines."""
    before = answer(server)
    assault(server.port, 110, seed=0)  # until then caches grow
    used = settled(server)
    began = time.monotonic()
    found = assault(server.port, count, seed)
    seconds = time.monotonic() - began
    assert sum(found.values()) >= count
    told = {int(name.split()[1]) for name in found if not name.endswith("none")}
    wrong = {name: number for name, number in found.items() if name.split()[1] in map(str, told - ALLOWED)}
    assert not wrong, f"{wrong}: {server.log.read_text()[-3000:]}"
    now = settled(server, like=used.files)
    assert answer(server) == before
    assert now.temporary == used.temporary, list(server.temporary.rglob("*"))
    assert now.files <= used.files + 2
    assert now.threads <= used.threads + 8, "threads that wait for work are few, whatever comes"
    assert now.megabytes < used.megabytes + 64
    log = server.log.read_text()
    assert "Traceback" not in log, log[-3000:]
    totals = {
        status: sum(n for name, n in found.items() if name.endswith(f" {status}")) for status in sorted(told)
    }
    silent = sum(n for name, n in found.items() if name.endswith("none"))
    return (
        f"{count} requests in {seconds:.0f} s; statuses {totals}, none {silent}\n"
        f"before: {used}\nafter:  {now}\n" + "\n".join(f"{name}: {n}" for name, n in sorted(found.items()))
    )


def settled(server: Server, like: int = 0) -> hostile.Usage:
    """What the server holds once the connections are over, which a slow client may keep for ten seconds."""
    for _ in range(60):
        found = usage(server.pid, server.temporary)
        if found.files <= like + 2 and like:
            break
        time.sleep(0.5 if like else 0.2)
        if not like and found == usage(server.pid, server.temporary):
            break
    return found


def test_two_hostile_requests_of_each_kind(server: Server) -> None:
    withstand(server, 44, seed=1)


@pytest.mark.long
def test_ten_thousand_hostile_requests(server: Server) -> None:
    said = withstand(server, int(os.environ.get("HHMNET_HOSTILE_REQUESTS", "10000")), seed=2)
    if "HHMNET_FUZZ_REPORT" in os.environ:
        Path(os.environ["HHMNET_FUZZ_REPORT"]).with_suffix(".hostile.txt").write_text(said + "\n")


def test_a_head_that_never_ends_is_dropped_and_so_are_too_many_connections(server: Server) -> None:
    clients = [socket.create_connection(("127.0.0.1", server.port), timeout=60) for _ in range(300)]
    try:
        for client in clients[:200]:
            client.sendall(b"GET /api/v1/health HTTP/1.1\r\nHo")
        began = time.monotonic()
        assert clients[0].recv(100) == b""
        assert time.monotonic() - began < 55
        assert clients[-1].recv(100) == b""
    finally:
        for client in clients:
            client.close()
    assert answer(server)["label"]


@pytest.mark.long
def test_a_client_that_is_slow_within_a_request_is_told_so(server: Server) -> None:
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=60)) as client:
        client.sendall(post(b"--b\r\n", told=5_000))
        assert client.recv(65536).startswith(b"HTTP/1.1 408")
    assert statuses(send(server.port, hostile.Request([post(form(b"{"))]))) == [422]

"""``hhmnet serve`` as a process of its own, under hostile requests: then a normal one is answered as before.

``make test`` sends two of each kind, ``make test-long`` HHMNET_HOSTILE_REQUESTS (10,000).
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="the extra 'serve' isn't installed")

from hostile import KINDS, Request, Server, Usage, assault, form, normal, post, send, statuses, usage

pytestmark = pytest.mark.xdist_group("serve")

ALLOWED = {0, 100, 200, 400, 401, 403, 404, 405, 408, 413, 415, 421, 422, 431, 501, 503}
"""What may be said to a hostile request; 0 is nothing, 100 waits for a body, 503 tells that too many come at a time."""


def answer(server: Server) -> dict[str, Any]:
    """The answer to the normal request, without the time that it took."""
    response = send(server.port, Request([normal()]))
    assert statuses(response) == [200], response[:500]
    found: dict[str, Any] = json.loads(response.split(b"\r\n\r\n", 1)[1])
    del found["seconds"]
    return found


def withstand(server: Server, count: int, seed: int, first: int) -> str:
    """Send hostile requests, ``first`` of them before the server's usage counts; tells what came of them."""
    before = answer(server)
    assault(server.port, first, seed=0)  # until then caches grow
    used = settled(server)
    began = time.monotonic()
    found = assault(server.port, count, seed)
    seconds = time.monotonic() - began
    wrong = {key: number for key, number in found.items() if key[1] not in ALLOWED}
    assert not wrong, f"{wrong}: {server.log.read_text()[-3000:]}"
    now = settled(server, like=used.files)
    assert answer(server) == before
    assert now.temporary == used.temporary, list(server.temporary.rglob("*"))
    assert now.files <= used.files + 2
    assert now.threads <= used.threads + 8, "threads that wait for work are few, whatever comes"
    assert now.megabytes < used.megabytes + 64
    log = server.log.read_text()
    assert "Traceback" not in log, log[-3000:]
    totals: dict[int, int] = {}
    for (_, status), number in sorted(found.items(), key=lambda entry: entry[0][1]):
        totals[status] = totals.get(status, 0) + number
    return f"{count} requests in {seconds:.0f} s; statuses {totals}\nbefore: {used}\nafter:  {now}"


def settled(server: Server, like: int = 0) -> Usage:
    """What the server holds once the connections are over, which a slow client may keep for ten seconds."""
    found = usage(server)
    for _ in range(60):
        time.sleep(0.5)
        now = usage(server)
        if now == found and (not like or now.files <= like + 2):
            break
        found = now
    return found


def test_a_hostile_request_of_each_kind(server: Server) -> None:
    withstand(server, len(KINDS), seed=1, first=len(KINDS))


@pytest.mark.long
def test_ten_thousand_hostile_requests(
    server: Server, record_property: Callable[[str, object], None]
) -> None:
    count = int(os.environ.get("HHMNET_HOSTILE_REQUESTS", "10000"))
    outcome = withstand(server, count, seed=2, first=110)
    record_property("counts", str(outcome))


def test_a_head_that_never_ends_is_dropped_and_so_are_too_many_connections(server: Server) -> None:
    clients = [socket.create_connection(("127.0.0.1", server.port), timeout=60) for _ in range(300)]
    try:
        for client in clients[:200]:
            client.sendall(b"GET /api/v1/health HTTP/1.1\r\nHo")
        assert clients[0].recv(100) == b""
        assert clients[-1].recv(100) == b""
    finally:
        for client in clients:
            client.close()
    assert answer(server)["label"]


@pytest.mark.long
def test_a_client_that_is_slow_within_a_request_is_told_so(server: Server) -> None:
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=60)) as client:
        client.sendall(post(b"--b\r\n", 5_000))
        assert client.recv(65536).startswith(b"HTTP/1.1 408")
    assert statuses(send(server.port, Request([post(form(b"{"))]))) == [422]

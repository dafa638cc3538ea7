"""``hhmnet serve`` as a process of its own, under hostile requests: then a normal one is answered as before.

``make test`` sends two of each kind, ``make test-long`` HHMNET_HOSTILE_REQUESTS (10,000).
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

pytest.importorskip("uvicorn", reason="the extra 'serve' isn't installed")

from hostile import KINDS, NORMAL, Request, Server, assault, send, statuses

pytestmark = pytest.mark.xdist_group("serve")

ALLOWED = {0, 100, 200, 400, 401, 403, 404, 405, 408, 413, 415, 421, 422, 431, 501, 503}
"""What may be said to a hostile request; 0 is nothing, 100 waits for a body, 503 tells that too many come at a time."""


class Usage(NamedTuple):
    """What a server's process holds: megabytes in memory, open files, threads, and files in its temporary folder."""

    megabytes: float
    files: int
    threads: int
    temporary: int


def settled(server: Server, like: Usage | None = None) -> Usage:
    """What the server holds once the connections are over, which a slow client may keep for ten seconds."""
    found = None
    for _ in range(6000):
        status = Path(f"/proc/{server.pid}/status").read_text()
        now = Usage(
            int(status.split("VmRSS:")[1].split()[0]) / 1024,
            len(list(Path(f"/proc/{server.pid}/fd").iterdir())),
            int(status.split("Threads:")[1].split()[0]),
            sum(path.is_file() for path in server.temporary.rglob("*")),
        )
        if now == found and (like is None or now.files <= like.files + 2):
            break
        found = now
        time.sleep(0.2)
    return now


def answer(server: Server) -> dict[str, Any]:
    """The answer to the normal request, without the time that it took."""
    response = send(server.port, Request([NORMAL]))
    assert statuses(response) == [200], response[:500]
    found: dict[str, Any] = json.loads(response.split(b"\r\n\r\n", 1)[1])
    del found["seconds"]
    return found


def withstand(server: Server, count: int, seed: int, first: int) -> str:
    """Send hostile requests, ``first`` of them before the server's usage counts; tells what came of them."""
    before = answer(server)
    assault(server.port, first, seed=0)  # until then caches grow
    used, began = settled(server), time.monotonic()
    found = assault(server.port, count, seed)
    seconds = time.monotonic() - began
    wrong = {key: number for key, number in found.items() if key[1] not in ALLOWED}
    assert not wrong, f"{wrong}: {server.log.read_text()[-3000:]}"
    now = settled(server, used)
    assert answer(server) == before
    assert now.temporary == used.temporary, list(server.temporary.rglob("*"))
    assert now.files <= used.files + 2
    assert now.threads <= used.threads + 8, "threads that wait for work are few, whatever comes"
    assert now.megabytes < used.megabytes + 64
    log = server.log.read_text()
    assert "Traceback" not in log, log[-3000:]
    totals = Counter[int]()
    for (_, status), number in found.items():
        totals[status] += number
    return f"{count} requests in {seconds:.0f} s; statuses {dict(totals)}\nbefore: {used}\nafter:  {now}"


def test_a_hostile_request_of_each_kind_beside_a_head_that_never_ends(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=600) as client:
        client.sendall(b"GET /api/v1/health HTTP/1.1\r\nHo")
        withstand(server, len(KINDS), seed=1, first=len(KINDS))
        assert client.recv(100) == b"", "it is dropped"


def test_too_many_connections_are_dropped(server: Server) -> None:
    with ExitStack() as stack:
        places = [("127.0.0.1", server.port)] * 300
        clients = [stack.enter_context(socket.create_connection(place, timeout=600)) for place in places]
        assert clients[-1].recv(100) == b""
    assert answer(server)["label"]


@pytest.mark.long
def test_thousands_of_hostile_requests(
    server: Server, record_property: Callable[[str, object], None]
) -> None:
    count = int(os.environ.get("HHMNET_HOSTILE_REQUESTS", "10000"))
    outcome = withstand(server, count, seed=2, first=110)
    record_property("counts", str(outcome))

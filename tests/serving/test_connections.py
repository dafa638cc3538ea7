"""Clients that go away, and those that are slow: a real server, spoken to over a socket."""

from __future__ import annotations

import json
import socket
from contextlib import closing
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="the extra 'serve' isn't installed")

from hhmnet.serving import Limits
from made_server import PATIENCE, listening, until

HEAD = (
    b"POST /api/v1/predict HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: %d\r\n\r\n"
)


def form(content: dict[str, Any]) -> bytes:
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.json"\r\n\r\n'
    return head + json.dumps(content).encode() + b"\r\n--b--\r\n"


def connected(port: int, body: bytes, told: int | None = None) -> socket.socket:
    """A connection on which a body was sent, with another length told perhaps."""
    found = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    found.sendall(HEAD % (len(body) if told is None else told) + body)
    return found


def answer(port: int, content: dict[str, Any]) -> bytes:
    with closing(connected(port, form(content))) as client:
        return b"".join(iter(lambda: client.recv(65536), b""))


def test_a_client_that_goes_away_leaves_nothing_and_takes_the_work_with_it() -> None:
    with listening(Limits(concurrent=1, answer_seconds=600)) as (port, folder, workers):
        (before,) = workers._all
        whole = form({"do": "nothing"})
        connected(port, whole[:60], told=len(whole)).close()  # in the middle of its upload
        until(lambda: b"200 OK" in answer(port, {"do": "nothing"}))
        assert not list(folder.iterdir())
        assert workers._all == {before}  # no work was begun, so none was ended
        client = connected(port, form({"do": "sleep", "seconds": 600}))
        until(lambda: list(folder.rglob("upload.json")))
        client.close()
        until(lambda: not before.process.is_alive())
        until(lambda: not list(folder.iterdir()))
        assert b"200 OK" in answer(port, {"do": "nothing"})  # there is a slot and a worker again
        (now,) = workers._all
    assert not now.process.is_alive()
    assert not folder.exists()


def test_an_upload_that_takes_too_long_is_refused_and_its_place_is_free_again() -> None:
    with listening(Limits(concurrent=1, upload_seconds=0.5)) as (port, folder, _):
        with closing(connected(port, b"--b\r\n", told=1000)) as slow:
            assert slow.recv(65536).startswith(b"HTTP/1.1 408")
        assert b"200 OK" in answer(port, {"do": "nothing"})
        assert not list(folder.iterdir())

"""How long a connection may last, and how many there may be: a client that sends a byte a minute costs a place, too."""

from __future__ import annotations

import asyncio
from typing import Any

from h11 import LocalProtocolError
from uvicorn.protocols.http.h11_impl import H11Protocol

from hhmnet.serving.limits import Limits

HEAD_SECONDS = 10.0
"""From a connection's beginning, or a request's first byte, to the end of the request's head."""
SLACK_SECONDS = 30.0
"""For an answer to be taken, beyond what its upload and the work on it may take."""
MOST_CONNECTIONS = 256
"""At a time; more are closed at once, so that there are always files left to open."""


def protocol(limits: Limits) -> type[H11Protocol]:
    """What uvicorn speaks with a client: HTTP/1.1 with heads of 64 KiB at the most, and an end to every wait."""

    class Bounded(_Bounded):
        request_seconds = limits.upload_seconds + 2 * limits.answer_seconds + SLACK_SECONDS

    return Bounded


class _Bounded(H11Protocol):
    """A connection that is dropped when a head, or what follows it, takes too long."""

    request_seconds: float
    _end: asyncio.TimerHandle | None = None
    _in_head = False
    _known: Any = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a head, unless there are too many already."""
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()
            return
        self._in_head = True
        self._drop_after(HEAD_SECONDS)

    def data_received(self, data: bytes) -> None:
        """Take data, and see whether it ended a head or began another."""
        super().data_received(data)
        if self.cycle is not self._known:
            self._known, self._in_head = self.cycle, False
            self._drop_after(self.request_seconds)
        elif not self._in_head and self.cycle.response_complete:
            self._in_head = True
            self._drop_after(HEAD_SECONDS)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP; whoever still works on the request's beginning has nobody to answer any more."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        try:
            super().send_400_response(msg)
        except LocalProtocolError:  # an answer has begun, so no other can
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the time."""
        super().connection_lost(exc)
        if self._end is not None:
            self._end.cancel()

    def _drop_after(self, seconds: float) -> None:
        if self._end is not None:
            self._end.cancel()
        if not self.transport.is_closing():
            self._end = self.loop.call_later(seconds, self.transport.abort)

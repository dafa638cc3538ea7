"""What stands before every route: who may come in, from where, and how long a connection may last."""

from __future__ import annotations

import asyncio
import hmac
import re
from typing import Any

from h11 import LocalProtocolError
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from hhmnet.serving import Limits

API = "/api/v1"
LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]")

HEAD_SECONDS = 10.0
"""From a connection's beginning, or a request's first byte, to the end of the request's head."""
SLACK_SECONDS = 30.0
"""For a response to be read, beyond what its upload and the work on it may take."""
MOST_CONNECTIONS = 256
"""At a time; more are closed at once, so that there are always files left to open."""

# Answered without a token: they tell whether the server runs, and nothing of the model.
_OPEN = (f"{API}/health", f"{API}/ready")

# The page can load nothing from, and send nothing to, any other host, and runs no script but its own files.
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}


class Access:
    """ASGI middleware that passes on the requests that may come in to ``app``, and refuses the others.

    The API needs the ``token``, as ``Authorization: Bearer TOKEN``; none if None. ``hosts`` are names by which the
    server may be called, so that no web page reaches it by a name of its own that it points here; any if None.
    """

    def __init__(self, app: ASGIApp, token: str | None = None, hosts: tuple[str, ...] | None = None) -> None:
        self.app, self._hosts = app, hosts
        self._token = token.encode() if token is not None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on."""

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] != "http":  # there are no web sockets
            await send({"type": "websocket.close", "code": 1008})
        else:
            await (self._refusal(scope) or self.app)(scope, receive, sending)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers, path = Headers(scope=scope), scope["path"]
        host, origin = headers.get("host", ""), headers.get("origin")
        if self._hosts is not None and re.sub(r":\d+$", "", host) not in self._hosts:
            return JSONResponse({"detail": "this server isn't known by that name"}, 421)
        if origin is not None and origin.partition("://")[2] != host:
            return JSONResponse({"detail": "pages of other sites may not use this server"}, 403)
        if self._token is None or path in _OPEN or not path.startswith(f"{API}/"):
            return None
        scheme, _, token = headers.get("authorization", "").partition(" ")
        # Comparing takes equally long however much of a wrong token is right.
        if hmac.compare_digest(token.strip().encode("latin-1"), self._token) and scheme.lower() == "bearer":
            return None
        detail = "send the server's token: Authorization: Bearer TOKEN"
        return JSONResponse({"detail": detail}, 401, {"WWW-Authenticate": "Bearer"})


def bounded_protocol(limits: Limits) -> type[H11Protocol]:
    """What uvicorn speaks with a client: HTTP/1.1 with heads of 64 KiB at the most, and an end to every wait."""
    seconds = limits.upload_seconds + 2 * limits.answer_seconds + SLACK_SECONDS
    return type("Bounded", (_BoundedProtocol,), {"request_seconds": seconds})


class _BoundedProtocol(H11Protocol):
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
        """Refuse what is no HTTP; nobody waits for the response to the request's beginning any more."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        try:
            super().send_400_response(msg)
        except LocalProtocolError:  # a response has begun, so no other can
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

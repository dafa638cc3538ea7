"""What stands before every route: who may come in, from where, and to what."""

from __future__ import annotations

import hmac
import re
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

API = "/api/v1"
LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]")

# Answered without a token: they tell whether the server runs, and nothing of the model.
_OPEN = (f"{API}/health", f"{API}/ready")

# What the page needs of Gradio. All its other routes (uploads, files, queue, proxy, …) are closed: the page sends a
# clip to our own API, and no file ever passes through Gradio.
_PAGE_FILES = ("/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt")
_PAGE_FOLDERS = ("/assets/", "/static/", "/svelte/")

# The page can load nothing from, and send nothing to, any other host. Gradio's own scripts build functions from text.
_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' blob:",
        "font-src 'self' data:",
        "worker-src 'self' blob:",
        "connect-src 'self'",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
_ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
}


class Gate:
    """ASGI middleware that lets requests through to known places, or answers them itself.

    Args:
        app: what comes behind.
        token: needed for the API, as ``Authorization: Bearer TOKEN``; none if None.
        hosts: names by which the server may be called, so that no web page reaches it by a name of its own that it
            points here; any if None.
    """

    def __init__(self, app: ASGIApp, token: str | None = None, hosts: tuple[str, ...] | None = None) -> None:
        self.app = app
        self._token = token.encode() if token is not None else None
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # there are no web sockets
            await send({"type": "websocket.close", "code": 1008})
            return
        told = self._refusal(scope)
        if told is None:
            is_api = scope["path"].startswith(f"{API}/")
            if not is_api:
                scope["query_string"] = b""  # Gradio opens files by it
            await self.app(scope, receive, _with_headers(send, is_api))
            return
        status, detail, headers = told
        response = JSONResponse({"detail": detail}, status, headers)
        await response(scope, receive, _with_headers(send, True))

    def _refusal(self, scope: Scope) -> tuple[int, str, dict[str, str]] | None:
        headers, path = Headers(scope=scope), scope["path"]
        host = headers.get("host", "")
        if self._hosts is not None and re.sub(r":\d+$", "", host) not in self._hosts:
            return 421, "this server isn't known by that name", {}
        is_api = path.startswith(f"{API}/")
        if not is_api and not _is_of_page(path):
            return 404, "there is nothing here", {}
        if not is_api and scope["method"] not in ("GET", "HEAD"):
            return 405, "the page can only be read", {"Allow": "GET, HEAD"}
        origin = headers.get("origin")
        if origin is not None and _place(origin) != host:
            return 403, "pages of other sites may not use this server", {}
        if is_api and path not in _OPEN and not self._knows(headers.get("authorization", "")):
            detail = "send the server's token: Authorization: Bearer TOKEN"
            return 401, detail, {"WWW-Authenticate": "Bearer"}
        return None

    def _knows(self, given: str) -> bool:
        if self._token is None:
            return True
        scheme, _, token = given.partition(" ")
        # Comparing takes equally long however much of a wrong token is right.
        return (
            hmac.compare_digest(token.strip().encode("latin-1"), self._token) and scheme.lower() == "bearer"
        )


def _place(origin: str) -> str | None:
    """Host and port of an origin; None if it is no address."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def _is_of_page(path: str) -> bool:
    return path in _PAGE_FILES or (path.startswith(_PAGE_FOLDERS) and ".." not in path.split("/"))


def _with_headers(send: Send, is_api: bool) -> Send:
    more: dict[str, Any] = _ALWAYS | ({"Cache-Control": "no-store"} if is_api else {})

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(more)
        await send(message)

    return sending

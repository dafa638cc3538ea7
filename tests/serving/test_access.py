"""Who may come in, and to what: token, host, origin."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra 'serve' isn't installed")

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from hhmnet.serving.access import LOCAL_HOSTS, Access
from hhmnet.serving.app import create_app
from made_server import ObedientRecognizer

TOKEN = "a-token-of-many-letters"


def behind(**settings: Any) -> TestClient:
    """A client of an application that answers every path."""

    async def echo(request: Request) -> JSONResponse:
        return JSONResponse({})

    app = Starlette(routes=[Route("/{rest:path}", echo, methods=["GET", "POST", "HEAD"])])
    return TestClient(Access(app, **settings), base_url="http://127.0.0.1:8000")


@pytest.fixture(scope="module")
def page() -> TestClient:
    """A client of the application with its page, whose workers aren't started."""
    return TestClient(create_app(ObedientRecognizer, token=TOKEN), base_url="http://127.0.0.1:8000")


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (f"Bearer {TOKEN}", 200),
        (f"bearer {TOKEN}", 200),
        (f"Basic {TOKEN}", 401),
        (TOKEN, 401),
        (f"Bearer {TOKEN}x", 401),
        (f"Bearer {TOKEN[:-1]}", 401),
        ("Bearer \xe9", 401),
        ("Bearer ", 401),
        (None, 401),
    ],
)
def test_the_api_asks_for_the_token(header: str | None, status: int) -> None:
    headers = {} if header is None else {"Authorization": header.encode("latin-1")}
    for path in ("/api/v1/model", "/api/v1/openapi.json"):
        response = behind(token=TOKEN).get(path, headers=headers)
        assert response.status_code == status
    response = behind(token=TOKEN).post("/api/v1/predict", headers=headers)
    assert response.status_code == status
    if status == 401:
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert "Authorization: Bearer" in response.json()["detail"]
        assert TOKEN not in response.text
    for path in ("/api/v1/health", "/api/v1/ready", "/"):
        assert behind(token=TOKEN).get(path).status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8000", 200),
        ("localhost", 200),
        ("[::1]:8000", 200),
        ("evil.example:8000", 421),
        ("127.0.0.1.evil.example", 421),
        ("127.0.0.1:80@evil.example", 421),
        ("", 421),
    ],
)
def test_a_local_server_answers_to_its_own_names_only(host: str, status: int) -> None:
    assert behind(hosts=LOCAL_HOSTS).get("/api/v1/health", headers={"Host": host}).status_code == status
    assert behind().get("/api/v1/health", headers={"Host": "any.example"}).status_code == 200


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1:8000", 200),
        ("http://evil.example", 403),
        ("null", 403),
        ("http://127.0.0.1:9", 403),
        ("http://[::1", 403),
    ],
)
def test_pages_of_other_sites_may_not_post(origin: str, status: int) -> None:
    assert behind().post("/api/v1/predict", headers={"Origin": origin}).status_code == status


def test_the_page_is_its_own_files_and_can_only_be_read(page: TestClient) -> None:
    assert "<title>hhmnet</title>" in page.get("/").text
    assert page.get("/page.js").headers["content-type"].startswith("text/javascript")
    for name in ("clock.js", "drawing.js", "timeline.js", "page.css", "index.html?view=x"):
        assert page.get(f"/{name}").status_code == 200, name
        assert page.post(f"/{name}").status_code == 405
    rules = dict(rule.split(" ", 1) for rule in page.get("/").headers["Content-Security-Policy"].split("; "))
    assert rules["default-src"] == "'self'"
    assert "script-src" not in rules
    assert not any(word in rule for rule in rules.values() for word in ("http", "*", "unsafe"))
    assert page.get("/").headers["X-Content-Type-Options"] == "nosniff"


def test_nothing_but_the_page_is_served(page: TestClient) -> None:
    for path in ("/../app.py", "/%2e%2e/app.py", "/../../../../etc/passwd", "/a/../../app.py"):
        assert page.get(path).status_code == 404
        # Past the client, which tidies up the path.
        scope = {"type": "http", "method": "GET", "path": path, "headers": [(b"host", b"localhost")]}
        assert _messages(page.app, scope)[0]["status"] == 404


def test_web_sockets_are_closed(page: TestClient) -> None:
    scope = {"type": "websocket", "path": "/", "headers": []}
    assert _messages(page.app, scope) == [{"type": "websocket.close", "code": 1008}]


def _messages(app: Any, scope: dict[str, Any]) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app({"query_string": b"", "root_path": "", "http_version": "1.1"} | scope, receive, send))
    return sent

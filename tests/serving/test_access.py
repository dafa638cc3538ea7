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


WRONG = (f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer \xe9", "Bearer ", None)


@pytest.mark.parametrize("header", [f"Bearer {TOKEN}", f"bearer {TOKEN}", *WRONG])
def test_the_api_asks_for_the_token(header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header.encode("latin-1")}
    client, status = behind(token=TOKEN), 401 if header in WRONG else 200
    for path in ("/api/v1/model", "/api/v1/openapi.json"):
        assert client.get(path, headers=headers).status_code == status
    response = client.post("/api/v1/predict", headers=headers)
    assert response.status_code == status
    if status == 401:
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert "Authorization: Bearer" in response.json()["detail"]
        assert TOKEN not in response.text
    for path in ("/api/v1/health", "/api/v1/ready", "/"):
        assert client.get(path).status_code == 200


def test_a_local_server_answers_to_its_own_names_only() -> None:
    foreign = ("evil.example:8000", "127.0.0.1.evil.example", "127.0.0.1:80@evil.example", "")
    for host in ("127.0.0.1:8000", "localhost", "[::1]:8000", *foreign):
        response = behind(hosts=LOCAL_HOSTS).get("/api/v1/health", headers={"Host": host})
        assert response.status_code == (421 if host in foreign else 200), host
    assert behind().get("/api/v1/health", headers={"Host": "any.example"}).status_code == 200


def test_pages_of_other_sites_may_not_post() -> None:
    ours = "http://127.0.0.1:8000"
    for origin in (ours, "http://evil.example", "null", "http://127.0.0.1:9", "http://[::1"):
        response = behind().post("/api/v1/predict", headers={"Origin": origin})
        assert response.status_code == (200 if origin == ours else 403), origin


def test_the_page_is_its_own_files_and_can_only_be_read(page: TestClient) -> None:
    assert "<title>hhmnet</title>" in page.get("/").text
    assert page.get("/page.js").headers["content-type"].startswith("text/javascript")
    for name in ("clock.js", "drawing.js", "timeline.js", "page.css", "index.html?view=x"):
        assert page.get(f"/{name}").status_code == 200, name
        assert page.post(f"/{name}").status_code == 405
    rules = dict(rule.split(" ", 1) for rule in page.get("/").headers["Content-Security-Policy"].split("; "))
    assert (rules["default-src"], "script-src" in rules) == ("'self'", False)
    assert not any(word in rule for rule in rules.values() for word in ("http", "*", "unsafe"))
    assert page.get("/").headers["X-Content-Type-Options"] == "nosniff"


def test_nothing_but_the_page_is_served_and_there_are_no_web_sockets(page: TestClient) -> None:
    for path in ("/../app.py", "/%2e%2e/app.py", "/../../../../etc/passwd", "/a/../../app.py"):
        assert page.get(path).status_code == 404
        # Past the client, which tidies up the path.
        scope = {"type": "http", "method": "GET", "path": path, "headers": [(b"host", b"localhost")]}
        assert _messages(page.app, scope)[0]["status"] == 404
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

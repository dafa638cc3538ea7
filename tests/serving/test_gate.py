"""Who may come in, and to what: token, host, origin, and the few of Gradio's routes that are open."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra 'serve' isn't installed")

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from hhmnet.serving.gate import LOCAL_HOSTS, Gate

TOKEN = "a-token-of-many-letters"


def behind(**settings: Any) -> TestClient:
    """A client of an application that answers every path with what reached it."""

    async def echo(request: Request) -> JSONResponse:
        return JSONResponse({"path": request.url.path, "query": request.url.query})

    app = Starlette(routes=[Route("/{rest:path}", echo, methods=["GET", "POST", "HEAD"])])
    return TestClient(Gate(app, **settings), base_url="http://127.0.0.1:8000")


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (f"Bearer {TOKEN}", 200),
        (f"bearer {TOKEN}", 200),
        (f"Basic {TOKEN}", 401),
        (TOKEN, 401),
        ("Bearer wrong", 401),
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
    assert behind(token=TOKEN).post("/api/v1/predict", headers=headers).status_code == status


def test_a_refusal_for_want_of_a_token_says_how() -> None:
    response = behind(token=TOKEN).get("/api/v1/model")
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert "Authorization: Bearer" in response.json()["detail"]
    assert TOKEN not in response.text


def test_the_token_does_not_stand_before_health_and_the_empty_page() -> None:
    for path in ("/api/v1/health", "/api/v1/ready", "/"):
        assert behind(token=TOKEN).get(path).status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8000", 200),
        ("localhost", 200),
        ("localhost:1", 200),
        ("[::1]:8000", 200),
        ("evil.example", 421),
        ("evil.example:8000", 421),
        ("127.0.0.1.evil.example", 421),
        ("127.0.0.1:80@evil.example", 421),
        ("", 421),
    ],
)
def test_a_local_server_answers_to_its_own_names_only(host: str, status: int) -> None:
    assert behind(hosts=LOCAL_HOSTS).get("/api/v1/health", headers={"Host": host}).status_code == status


def test_a_server_with_a_token_answers_to_any_name() -> None:
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


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/upload",
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file/etc/passwd",
        "/gradio_api/proxy=http://127.0.0.1/",
        "/gradio_api/queue/join",
        "/gradio_api/queue/data",
        "/gradio_api/run/predict",
        "/gradio_api/call/predict",
        "/gradio_api/stream/x",
        "/gradio_api/deep_link",
        "/gradio_api/process_recording",
        "/gradio_api/vibe-edit",
        "/gradio_api/custom_component/a/client/b/c",
        "/file=/etc/passwd",
        "/login",
        "/monitoring",
        "/assets/../../../etc/passwd",
        "/static/..",
        "/docs",
        "/api/v2/predict",
        "/api/v1",
    ],
)
def test_what_the_page_does_not_need_is_closed(path: str) -> None:
    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": []}
    assert _status(scope) == 404


@pytest.mark.parametrize("path", ["/", "/config", "/theme.css", "/assets/index.js", "/static/img/logo.svg"])
def test_the_page_can_be_read_but_takes_nothing(path: str) -> None:
    response = behind().get(f"{path}?deep_link=../../x&view=api")
    assert response.json() == {"path": path, "query": ""}
    assert behind().post(path).status_code == 405


def test_the_page_may_load_from_and_send_to_this_server_only() -> None:
    told = behind().get("/").headers
    rules = dict(rule.split(" ", 1) for rule in told["Content-Security-Policy"].split("; "))
    assert rules["default-src"] == rules["connect-src"] == "'self'"
    assert not any("http" in rule or "*" in rule for rule in rules.values())
    assert told["X-Content-Type-Options"] == "nosniff"
    assert not [name for name in told if name.startswith("access-control")]


def test_web_sockets_are_closed() -> None:
    scope = {"type": "websocket", "path": "/", "headers": []}
    assert _messages(scope) == [{"type": "websocket.close", "code": 1008}]


def _status(scope: dict[str, Any]) -> int:
    return int(_messages(scope)[0]["status"])


def _messages(scope: dict[str, Any]) -> list[dict[str, Any]]:
    """What the gate alone answers, without a client that tidies up the path."""
    import asyncio

    sent: list[dict[str, Any]] = []

    async def never(*args: Any) -> None:
        raise AssertionError("it went through")

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(Gate(never)(scope, receive, send))
    return sent

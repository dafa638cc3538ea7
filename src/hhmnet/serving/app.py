"""The application: HTTP API and page around a recognizer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from hhmnet import __version__
from hhmnet.predict.timeline import TimelineConfig
from hhmnet.serving.gate import API, LOCAL_HOSTS, Gate
from hhmnet.serving.limits import Limits, Refused, busy
from hhmnet.serving.private_folder import private_folder
from hhmnet.serving.schema import (
    FORM,
    MODALITIES,
    MOST_TOP,
    OF_THE_GATE,
    REASONS,
    Answer,
    Health,
    Model,
    Problem,
)
from hhmnet.serving.uploads import FILE_FIELD, received
from hhmnet.serving.worker import Maker
from hhmnet.serving.workers import Workers

_GONE = 499  # nobody reads it; logs of other servers use the same number


def create_app(
    recognizer: Maker,
    limits: Limits | None = None,
    token: str | None = None,
    hosts: tuple[str, ...] | None = LOCAL_HOSTS,
    page: bool = True,
) -> FastAPI:
    """An application that answers over HTTP.

    The recognizer works in processes of its own, since only a process can be stopped. They start with the
    application, or before it with ``app.state.workers.start()``, which raises NotLoaded if there is no model.

    Args:
        recognizer: makes the recognizer; called in each worker process, so another process must be able to import it,
            such as ``functools.partial(hhmnet.serving.worker.load, "runs/both")``.
        limits: what a request may take.
        token: which the API then asks for; none if None.
        hosts: names by which the server may be called; any if None.
        page: whether there is a page for the browser (needs Gradio).
    """
    limits = limits or Limits()
    workers = Workers(recognizer, limits)

    @asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        with private_folder() as api.state.folder:
            try:
                await asyncio.to_thread(workers.start)
                yield
            finally:
                await asyncio.to_thread(workers.stop)

    app = FastAPI(lifespan=running, openapi_url=None, docs_url=None, redoc_url=None)
    app.state.workers = workers
    app.add_middleware(Gate, token=token, hosts=hosts)
    api = _api(workers, limits)
    app.mount(API, api)
    if page:
        from hhmnet.serving.page import mount_page

        mount_page(app, needs_token=token is not None)
    return app


def _api(workers: Workers, limits: Limits) -> FastAPI:
    # The usual page for trying an API loads its scripts from another host, so there is none.
    api = FastAPI(
        title="hhmnet",
        version=__version__,
        summary="What does the person in this clip do?",
        docs_url=None,
        redoc_url=None,
        servers=[{"url": API}],
        redirect_slashes=False,
    )
    slots = asyncio.Semaphore(limits.concurrent)

    @api.exception_handler(Refused)
    async def refuse(request: Request, error: Refused) -> Response:
        return JSONResponse({"detail": error.detail}, error.status, error.headers)

    @api.exception_handler(HTTPException)
    async def refuse_route(request: Request, error: HTTPException) -> Response:
        return JSONResponse({"detail": error.detail}, error.status_code, error.headers)

    @api.exception_handler(ClientDisconnect)
    async def let_go(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=_GONE)

    @api.exception_handler(Exception)
    async def admit(request: Request, error: Exception) -> Response:
        return JSONResponse({"detail": "the server failed; its log says why"}, 500)

    @api.get(
        "/health",
        response_model=Health,
        responses=_problems(*OF_THE_GATE),
        summary="Whether the server runs",
    )
    async def health() -> Any:
        return {"status": "ok"}

    @api.get(
        "/ready",
        response_model=Health,
        responses=_problems(*OF_THE_GATE) | _no_model(),
        summary="Whether a clip would be answered now",
    )
    async def ready() -> Any:
        if not workers.ready:
            raise busy("no model is loaded at this moment")
        return {"status": "ready"}

    @api.get(
        "/model",
        response_model=Model,
        responses=_problems(401, *OF_THE_GATE) | _no_model(),
        summary="Classes, modalities and joints",
    )
    async def model() -> Any:
        if workers.model is None:
            raise busy("no model is loaded at this moment")
        return workers.model

    @api.post(
        "/predict",
        response_model=Answer,
        responses=_problems(*REASONS),
        openapi_extra=FORM,
        summary="What does the person in this file do?",
    )
    async def predict(request: Request) -> Response:
        if slots.locked():
            raise busy(f"{limits.concurrent} requests are in work already")
        async with slots, received(request, request.app.state.folder, limits) as upload:
            job = {
                "path": str(upload.path),
                "name": upload.name,
                **_choices(upload.fields, workers.model or {}),
            }
            answer = await _while_connected(request, workers.ask(job))
        return JSONResponse(answer)

    return api


def _no_model() -> dict[int | str, dict[str, Any]]:
    return {503: {"model": Problem, "description": "No model is loaded at this moment."}}


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": Problem, "description": REASONS[status]} for status in statuses}


def _choices(fields: dict[str, list[str]], model: dict[str, Any]) -> dict[str, Any]:
    """The form's fields as a job has them; raises Refused for those that can't be used."""
    known = ("top", "modality", "details", "timeline", "window", "stride")
    unknown = sorted(fields.keys() - set(known))
    if unknown:
        raise Refused(
            422, f"there is no field {json.dumps(unknown[0][:50])}; known: {', '.join((FILE_FIELD, *known))}"
        )
    top = fields.get("top", ["5"])[-1]
    if not (top.isascii() and top.isdigit() and 1 <= int(top[:9]) <= MOST_TOP):
        raise Refused(422, f"field 'top' must be a whole number from 1 to {MOST_TOP:,}")
    has = [name for name in MODALITIES if name in model.get("modalities", MODALITIES)]
    wanted = fields.get("modality", has)
    if not set(wanted) <= set(has):
        raise Refused(
            422, f"field 'modality' must be among {', '.join(has)}: the model looks at nothing else"
        )
    return {
        "top": int(top),
        "modalities": [name for name in has if name in wanted],
        "details": _yes(fields, "details"),
        "timeline": _windows(fields),
    }


def _yes(fields: dict[str, list[str]], name: str) -> bool:
    said = fields.get(name, ["false"])[-1].lower()
    if said not in ("true", "false"):
        raise Refused(422, f"field '{name}' must be true or false")
    return said == "true"


def _windows(fields: dict[str, list[str]]) -> dict[str, float | None] | None:
    """Window and stride of the timeline, in seconds; None if it isn't asked for."""
    given = {name: fields[name][-1] for name in ("window", "stride") if name in fields}
    if not _yes(fields, "timeline"):
        if given:
            raise Refused(422, f"field '{next(iter(given))}' goes with timeline=true")
        return None
    chosen: dict[str, float | None] = {"window": None, "stride": None}
    for name, text in given.items():
        try:
            chosen[name] = float(text)
            TimelineConfig(**{name: chosen[name]})  # type: ignore[arg-type]
        except ValueError as error:
            reason = str(error) if "field" in str(error) else f"field '{name}' must be a number of seconds"
            raise Refused(422, reason) from None
    return chosen


async def _while_connected(request: Request, work: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
    """The result of ``work``, which is cancelled when the client goes away; raises ClientDisconnect then."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        gone.cancel()
        task.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass

"""The application: HTTP API and page around a recognizer."""

from __future__ import annotations

import asyncio
import mimetypes
import tempfile
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.requests import ClientDisconnect

from hhmnet import __version__
from hhmnet.fields import plain_name
from hhmnet.sample import MODALITIES
from hhmnet.serving import Limits, Refused, busy
from hhmnet.serving.access import API, LOCAL_HOSTS, Access
from hhmnet.serving.schema import (
    ACCESS_STATUSES,
    FEWEST,
    REASONS,
    Health,
    Lesson,
    Model,
    PredictionResponse,
    RequestOptions,
    Taught,
    TaughtClasses,
    form,
    problems,
)
from hhmnet.serving.uploads import private_folder, received
from hhmnet.serving.workers import Maker, Workers

_OF_UPLOADS = [status for status in REASONS if status not in (404, *ACCESS_STATUSES)]
_ZIPPED: dict[int | str, Any] = {
    200: {"content": {"application/zip": {}}, "description": "A folder that `hhmnet predict` takes, zipped."}
}
# Some systems say otherwise, and browsers then refuse the page's scripts.
mimetypes.add_type("text/javascript", ".js")


def create_app(
    recognizer: Maker,
    limits: Limits | None = None,
    token: str | None = None,
    hosts: tuple[str, ...] | None = LOCAL_HOSTS,
    page: bool = True,
) -> FastAPI:
    """An application that answers over HTTP, with a page for the browser.

    The recognizer works in processes of its own, since only a process can be stopped. They start with the
    application, or before it with ``app.state.workers.start()``, which raises NotLoaded if there is no model.
    ``token`` and ``hosts`` are as of :class:`~hhmnet.serving.access.Access`.
    """
    limits = limits or Limits()
    workers = Workers(recognizer, limits)

    @asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        with private_folder() as app.state.folder:
            try:
                await asyncio.to_thread(workers.start)
                yield
            finally:
                workers.stop()

    app = FastAPI(lifespan=running, openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.workers = workers
    app.add_middleware(Access, token=token, hosts=hosts)
    app.mount(API, _api(app, limits))
    if page:
        app.mount("/", StaticFiles(directory=Path(__file__).parent / "web", html=True))
    return app


def _api(app: FastAPI, limits: Limits) -> FastAPI:
    workers: Workers = app.state.workers
    # The usual page for trying an API loads its scripts from another host, so there is none.
    api = FastAPI(
        title="hhmnet",
        version=__version__,
        summary="What does the person in this clip do?",
        docs_url=None,
        redoc_url=None,
        servers=[{"url": API}],
        redirect_slashes=False,
        responses=problems(*ACCESS_STATUSES),
    )
    slots, classroom = asyncio.Semaphore(limits.concurrent), Classroom(limits.examples)

    @asynccontextmanager
    async def slot() -> AsyncIterator[None]:
        if slots.locked():
            raise busy(f"{limits.concurrent} requests are in work already")
        async with slots:
            yield

    @api.exception_handler(Refused)
    async def refuse(request: Request, error: Refused) -> Response:
        return JSONResponse({"detail": error.detail}, error.status, error.headers)

    @api.exception_handler(ClientDisconnect)
    async def let_go(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=499)  # nobody reads it; logs of other servers use the same number

    @api.exception_handler(Exception)
    async def admit(request: Request, error: Exception) -> Response:
        return JSONResponse({"detail": "the server failed; its log says why"}, 500)

    @api.get("/health", summary="Whether the server runs")
    async def health() -> Health:
        return Health(status="ok")

    @api.get("/ready", responses=problems(503), summary="Whether a clip would be answered now")
    async def ready() -> Health:
        if not workers.ready:
            raise busy("no model is loaded at this moment")
        return Health(status="ready")

    @api.get("/model", responses=problems(401, 503), summary="Classes, modalities and joints")
    async def model() -> Model:
        if workers.model is None:
            raise busy("no model is loaded at this moment")
        return Model(**workers.model)

    @api.post(
        "/predict",
        response_model=PredictionResponse,
        responses=problems(*_OF_UPLOADS),
        openapi_extra=form(RequestOptions, {"top": 3, "modality": ["skeleton"]}),
        summary="What does the person in this file do?",
    )
    async def predict(request: Request) -> Response:
        async with slot(), received(request, app.state.folder, limits) as upload:
            modalities = (workers.model or {}).get("modalities", list(MODALITIES))
            options = RequestOptions.from_form(upload.fields, modalities)
            job = upload.job("predict") | {"options": options.model_dump()}
            if options.taught:
                job["taught"] = classroom.enough()
            return JSONResponse(await _while_connected(request, workers.work(job)))

    @api.get("/taught", responses=problems(401), summary="The classes that were taught")
    async def taught() -> TaughtClasses:
        return classroom.summary()

    @api.post(
        "/taught",
        responses=problems(*_OF_UPLOADS),
        openapi_extra=form(Lesson, {"label": "wave"}),
        summary="Teach a class by an example, which is kept in memory until the server ends",
    )
    async def teach(request: Request) -> TaughtClasses:
        classroom.check_room()
        async with slot(), received(request, app.state.folder, limits) as upload:
            texts = {name: " ".join(given[-1].split()) for name, given in upload.fields.items()}
            label = Lesson.checked(texts).label
            classroom.add(label, await _while_connected(request, workers.work(upload.job("learn"))))
        return classroom.summary()

    @api.delete("/taught", responses=problems(401, 404), summary="Forget a class, or all that were taught")
    async def forget(label: str | None = None) -> TaughtClasses:
        classroom.forget(label)
        return classroom.summary()

    @api.get(
        "/taught/model",
        response_class=Response,
        responses=problems(401, 409, 500, 503, 504) | _ZIPPED,
        summary="The model of the taught classes",
    )
    async def taught_model() -> Response:
        job = {"kind": "save", "name": "the model", "taught": classroom.enough()}
        async with slot():
            with tempfile.TemporaryDirectory(dir=app.state.folder, ignore_cleanup_errors=True) as folder:
                file = Path(folder, "taught.zip")
                await workers.work(job | {"path": str(file)})
                content = file.read_bytes()
        named = {"Content-Disposition": 'attachment; filename="taught.zip"'}
        return Response(content, media_type="application/zip", headers=named)

    return api


class Classroom:
    """Classes that clients teach by a few examples, ``most`` at a time; they stay in memory and nowhere else, as what
    the workers' encoders make of each clip. Raises Refused where it can't do what it is asked for."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taught: Taught = {}

    def check_room(self) -> None:
        """Refuse where no further example is taken."""
        if sum(map(len, self._taught.values())) >= self._most:
            raise Refused(409, f"this server keeps {self._most} examples; forget some first")

    def add(self, label: str, example: dict[str, Any]) -> None:
        """Keep an example; a class whose name differs in case, blanks or Unicode form alone is the same."""
        self.check_room()
        self._taught.setdefault(self._as_known(label), []).append(example)

    def forget(self, label: str | None) -> None:
        """Forget a class, or all of them."""
        if label is None:
            self._taught.clear()
        elif self._taught.pop(self._as_known(label), None) is None:
            raise Refused(404, "no class of that name is taught")

    def _as_known(self, label: str) -> str:
        return next((name for name in self._taught if plain_name(name) == plain_name(label)), label)

    def enough(self) -> Taught:
        """The examples of two classes or more."""
        if not self.summary().ready:
            raise Refused(409, f"teach {FEWEST} classes or more, by {FEWEST} examples each or more")
        return dict(self._taught)

    def summary(self) -> TaughtClasses:
        """What a client is told."""
        counts = {name: len(examples) for name, examples in self._taught.items()}
        ready = len(counts) >= FEWEST and min(counts.values()) >= FEWEST
        return TaughtClasses(classes=counts, most=self._most, ready=ready)


async def _while_connected(request: Request, work: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
    """The result of ``work``, which is cancelled when the client goes away; raises ClientDisconnect then."""
    task = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait({task}, timeout=0.2))[0]:
            if await request.is_disconnected():
                raise ClientDisconnect
        return task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

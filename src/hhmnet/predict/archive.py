"""Predictions of whole archives of clips, a line each: by this process, or by the machines of a Ray cluster."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from hhmnet.confidence import NEIGHBOURS_FILE, RATE
from hhmnet.files import append, locked, replacing
from hhmnet.models.hub import find_model, split_head
from hhmnet.predict.recognizer import Recognizer
from hhmnet.predict.sources import Input, InputError
from hhmnet.prepare.workers import EngineError, connected
from hhmnet.sample import MODALITIES

ABOUT_FILE, ANSWERS_FILE = "archive.json", "answers.jsonl"
DEATHS = 3
"""Workers that may die while they read one clip, before it is left out."""

Row = dict[str, Any]
"""A prediction as it is written, or a clip's name as ``input`` and what is wrong with it as ``error``."""


@dataclass(frozen=True)
class ArchiveJob:
    """How every clip is recognised; it goes to each worker, which loads the model.

    ``run`` is the model's folder or an ONNX file, ``top`` how many classes to name, ``modalities`` what to go by
    (all that the model looks at if empty), and ``options`` what else :meth:`Recognizer.from_pretrained` takes, by
    name.
    """

    run: Path
    top: int = 5
    modalities: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)

    def load(self) -> Callable[[Input], Row]:
        """The function that recognises one clip; raises what loading the model does."""
        recognizer = Recognizer.from_pretrained(self.run, **self.options)
        modalities = self.modalities or MODALITIES[: 1 + recognizer.looks_at_video]
        return lambda item: recognizer.predict(item, self.top, modalities).to_dict()

    def digest(self) -> str:
        """A short name of all that decides a prediction but the clip."""
        model, head = split_head(self.run)
        place = find_model(model)
        folder = [place / name for name in ("model.safetensors", "config.json", NEIGHBOURS_FILE)]
        files = [place] if place.suffix == ".onnx" else folder
        text = hashlib.sha256(b"".join(file.read_bytes() for file in files if file.exists()))
        text.update(head.encode())
        given = {name: str(one) for name, one in self.options.items() if one is not None}
        options = sorted(({"unknown": str(RATE)} | given | {"device": ""}).items())
        text.update(repr((self.top, self.modalities, options)).encode())
        return text.hexdigest()[:16]


class ArchiveReport(NamedTuple):
    """What came of an archive, of all calls: clips with a prediction, names of those without one and why, and how many
    of both there were already."""

    answered: int
    failed: dict[str, str]
    found: int


def predict_archive(
    inputs: Sequence[Input],
    job: ArchiveJob,
    out: Path,
    *,
    engine: str = "local",
    jobs: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ArchiveReport:
    """Recognise clips, and add a row for each to ``out/answers.jsonl``, one JSON object a line.

    The same call after an interruption, however hard, goes on where it was; so does one with more clips. A clip that
    can't be read is named with an ``error`` and costs only itself, even where it kills the process that reads it.
    ``engine`` is ``local``, this process, or ``ray``, a cluster whose nodes all see clips and model; ``jobs`` its
    workers at the most, None for one a core, or one a GPU on ``cuda``. ``progress`` is called with (clips done, clips
    in all). Raises InputError: ``out`` has predictions of another model, or with other settings; EngineError: Ray isn't
    there, or its workers can't load the model; LockedError: another process writes into ``out``.
    """
    out.mkdir(parents=True, exist_ok=True)
    with locked(out, "hhmnet predict"):
        about = json.dumps({"format": "hhmnet answers 2", "question": job.digest()}).encode() + b"\n"
        if not (out / ABOUT_FILE).exists():
            with replacing(out / ABOUT_FILE) as handle:
                handle.write(about)
        elif (out / ABOUT_FILE).read_bytes() != about:
            raise InputError(
                f"{out}: holds answers of another model, or with other settings; name another folder or remove it"
            )
        errors = _errors_in(out / ANSWERS_FILE)
        found = len(errors)
        missing = [item for item in dict.fromkeys(inputs) if item.name not in errors]
        total = found + len(missing)
        progress(found, total)
        for row in _in_cluster(job, missing, jobs) if engine == "ray" else map(Worker(job).row, missing):
            line = json.dumps(row, ensure_ascii=False) + "\n"
            append(out / ANSWERS_FILE, line.encode(errors="backslashreplace"))
            errors[row["input"]] = row.get("error", "")
            progress(len(errors), total)
    failed = {name: error for name, error in errors.items() if error}
    return ArchiveReport(len(errors) - len(failed), failed, found)


def _errors_in(file: Path) -> dict[str, str]:
    """What is wrong with each clip of which there is a row, "" if nothing; half a line of a killed process goes."""
    found: dict[str, str] = {}
    if not file.exists():
        return found
    end = 0
    with open(file, "rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.endswith(b"\n"):
                break
            try:
                row = json.loads(line)
                found[row["input"]] = row.get("error", "")
            except (ValueError, KeyError, TypeError, AttributeError):
                raise InputError(f"{file}: line {number} is no answer; remove it") from None
            end += len(line)
    os.truncate(file, end)
    return found


class Worker:
    """Loads the model with the first clip, and then recognises one after another; in a cluster, a process of its own.

    Paths may be relative to ``folder``, where the command was given.
    """

    def __init__(self, job: ArchiveJob, folder: str = ".") -> None:
        self._load = cache(job.load)  # called later: an actor that fails here looks like one that was killed
        if os.path.isdir(folder):
            os.chdir(folder)

    def row(self, item: Input) -> Row:
        """The prediction of a clip, or its name and what is wrong with it; raises what loading the model does."""
        recognise = self._load()
        try:
            return recognise(item)
        except Exception as error:  # whatever a strange file sets off, the other clips go on
            kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
            return {"input": item.name, "error": kind + " ".join(str(error).split())}


def _in_cluster(job: ArchiveJob, items: Sequence[Input], jobs: int | None) -> Iterator[Row]:
    """The rows of clips, in whatever order they are ready. A worker has one clip at a time; where it dies, Ray
    starts it anew and gives it the same clip again, which is left out in the end.
    """
    if not items:
        return
    with connected(jobs) as ray:
        gpus = 1 if job.options.get("device") == "cuda" else 0
        most = jobs or int(ray.cluster_resources().get("GPU" if gpus else "CPU", 1))
        kind = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=-1, max_task_retries=DEATHS - 1)(Worker)
        idle = [kind.remote(job, os.getcwd()) for _ in range(min(most, len(items)))]
        waiting = iter(items)
        reading: dict[Any, tuple[Any, Input]] = {}
        while True:
            while idle and (item := next(waiting, None)):
                worker = idle.pop()
                reading[worker.row.remote(item)] = worker, item
            if not reading:
                return
            (result,), _ = ray.wait(list(reading), num_returns=1)
            worker, item = reading.pop(result)
            idle.append(worker)
            try:
                row = ray.get(result)
            except ray.exceptions.RayActorError:
                row = {"input": item.name, "error": f"it was being read when {DEATHS} processes were killed"}
            except ray.exceptions.RayError as error:
                cause = getattr(error, "cause", error)
                reason = f"{type(cause).__name__}: {' '.join(str(cause).split())}"
                raise EngineError(f"a worker of the cluster can't load the model: {reason}") from None
            yield row

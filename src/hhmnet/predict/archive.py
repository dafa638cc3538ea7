"""Answers on whole archives of clips, in shards: by this process, or by the machines of a Ray cluster."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hhmnet.files import replacing
from hhmnet.lock import locked
from hhmnet.predict.sources import Input, InputError
from hhmnet.sample import MODALITIES

if TYPE_CHECKING:
    from hhmnet.pose.clips import ClipConfig

ABOUT_FILE = "archive.json"
SHARD = 64
"""Clips a shard: what is lost, and done again, when a worker or the whole job is killed."""

_SHARD_NAME = re.compile(r"answers-(\d{6,})\.jsonl")

Answer = dict[str, Any]


class ArchiveError(ValueError):
    """A folder of answers that can't be used."""


@dataclass(frozen=True)
class Question:
    """What is asked of every clip; it goes to each worker, which loads the model.

    Attributes:
        run: folder with the model, or an ONNX file.
        device: ``auto``, ``cpu`` or ``cuda``.
        pose: how joints are found in videos; the defaults if None.
        videos: folder of the videos of skeleton files and stores.
        units: what 3-D joints in files of no fixed unit are measured in.
        top: how many classes to name.
        modalities: what to go by; all that the model looks at if empty.
    """

    run: Path
    device: str = "auto"
    pose: ClipConfig | None = None
    videos: Path | None = None
    units: str = "m"
    top: int = 5
    modalities: tuple[str, ...] = ()

    def load(self) -> Callable[[Input], Answer]:
        """The function that answers on one clip; raises what loading the model does."""
        from hhmnet.predict.recognizer import Recognizer

        recognizer = Recognizer.from_pretrained(self.run, self.device, self.pose, self.videos, self.units)
        modalities = self.modalities or MODALITIES[: 1 + recognizer.looks_at_video]
        return lambda item: recognizer.predict(item, self.top, modalities).to_dict()

    def digest(self) -> str:
        """A short name of all that decides an answer but the clip."""
        weights = self.run if self.run.suffix == ".onnx" else self.run / "model.safetensors"
        text = hashlib.sha256(weights.read_bytes())
        text.update(repr((self.pose, self.units, self.top, self.modalities)).encode())
        return text.hexdigest()[:16]


class ArchiveReport(NamedTuple):
    """What came of an archive.

    Attributes:
        answered: clips with an answer, of all calls.
        failed: names of the clips without one, and why, of all calls.
        found: how many of both there were already.
    """

    answered: int
    failed: dict[str, str]
    found: int


def answer_archive(
    inputs: Sequence[Input],
    question: Question,
    out: Path,
    *,
    engine: str = "local",
    jobs: int | None = None,
    shard: int = SHARD,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ArchiveReport:
    """Answer on clips, and write the answers into ``out/answers-000000.jsonl`` and on, one JSON object a line.

    A shard appears whole or not at all, so the same call after an interruption, however hard, goes on where it was;
    so does one with more clips. A clip that can't be read is named with an ``error`` and costs only itself, even
    where it kills the process that reads it.

    Args:
        inputs: the clips, from :func:`~hhmnet.predict.sources.find_inputs`.
        question: what is asked of them.
        out: folder of the answers; it is made if it doesn't exist.
        engine: ``local``, in this process, or ``ray``, on a Ray cluster whose nodes all see clips and model; ``out``
            is written here, and need not be seen by them.
        jobs: workers of the cluster, at the most; None for one a core, or one a GPU on ``cuda``.
        shard: clips a shard, and a task of a worker.
        progress: called with (clips done, clips in all).

    Raises:
        ArchiveError: ``out`` has answers to another question.
        EngineError: Ray isn't there, or its workers can't load the model.
        LockedError: another process writes into ``out``.
    """
    out.mkdir(parents=True, exist_ok=True)
    with locked(out, "hhmnet predict"):
        _check_question(out, question)
        found = _answers(out)
        done = len(found)
        missing = [item for item in dict.fromkeys(inputs) if item.name not in found]
        failed = {name: error for name, error in found.items() if error}
        total = done + len(missing)
        number = _next_number(out)
        progress(done, total)
        tasks = [missing[start : start + shard] for start in range(0, len(missing), shard)]
        if engine == "ray":
            from hhmnet.predict.archive_cluster import in_cluster

            work = in_cluster(question, tasks, jobs)
        else:
            work = _here(question, tasks)
        before = done
        for answers in work:
            with replacing(out / f"answers-{number:06d}.jsonl") as file:
                file.writelines(json.dumps(a, ensure_ascii=False).encode() + b"\n" for a in answers)
            number += 1
            done += len(answers)
            failed |= {answer["input"]: answer["error"] for answer in answers if "error" in answer}
            progress(done, total)
    return ArchiveReport(done - len(failed), failed, before)


def read_answers(out: Path) -> Iterator[Answer]:
    """All answers of a folder, shard by shard.

    Raises:
        ArchiveError: a shard isn't what :func:`answer_archive` writes.
    """
    for file in sorted(file for file in out.iterdir() if _SHARD_NAME.fullmatch(file.name)):
        with open(file, encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    answer = json.loads(line)
                    answer["input"]
                except (ValueError, KeyError, TypeError):
                    raise ArchiveError(f"{file}: line {number} is no answer; remove the file") from None
                yield answer


def _answers(out: Path) -> dict[str, str]:
    """Names of the clips that are done, with what went wrong or an empty text."""
    return {answer["input"]: answer.get("error", "") for answer in read_answers(out)}


def _next_number(out: Path) -> int:
    matches = (_SHARD_NAME.fullmatch(file.name) for file in out.iterdir())
    return max((int(match[1]) + 1 for match in matches if match), default=0)


def _check_question(out: Path, question: Question) -> None:
    """Note what is asked, or raise ArchiveError if the folder's answers are to something else."""
    file, ours = out / ABOUT_FILE, {"format": "hhmnet answers 1", "question": question.digest()}
    if not file.exists():
        with replacing(file) as handle:
            handle.write(json.dumps(ours).encode() + b"\n")
        return
    try:
        same = json.loads(file.read_bytes()) == ours
    except ValueError:
        same = False
    if not same:
        raise ArchiveError(
            f"{out}: holds answers of another model, or with other settings; name another folder or remove it"
        )


def answered(answer: Callable[[Input], Answer], item: Input) -> Answer:
    """The answer on a clip, or its name and what is wrong with it."""
    try:
        return answer(item)
    except InputError as error:
        return {"input": item.name, "error": " ".join(str(error).split())}
    except Exception as error:  # whatever a strange file sets off, the other clips go on
        return {"input": item.name, "error": f"{type(error).__name__}: {' '.join(str(error).split())}"}


def _here(question: Question, tasks: Sequence[Sequence[Input]]) -> Iterator[list[Answer]]:
    answer = question.load() if tasks else None
    for task in tasks:
        assert answer is not None
        yield [answered(answer, item) for item in task]

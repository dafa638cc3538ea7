"""Clips answered on by the machines of a Ray cluster, through Ray Data."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hhmnet.predict.archive import Answer, Question, answered
from hhmnet.predict.sources import Input
from hhmnet.prepare.cluster import EngineError, connected

DEATHS = 3
"""Workers that may die while they read one clip, before it is left out."""


class Watch:
    """What each task of the cluster is reading, kept apart from the workers: it outlives them."""

    def __init__(self) -> None:
        self._reading: dict[int, int] = {}
        self._deaths: Counter[tuple[int, int]] = Counter()

    def start(self, task: int) -> set[int]:
        """A worker begins a task; which of its clips have killed too many before."""
        if (place := self._reading.pop(task, None)) is not None:
            self._deaths[task, place] += 1
        return {place for (of, place), deaths in self._deaths.items() if of == task and deaths >= DEATHS}

    def read(self, task: int, place: int) -> None:
        """It begins with a clip of the task."""
        self._reading[task] = place

    def end(self, task: int) -> None:
        """It has done them all."""
        self._reading.pop(task, None)


class Worker:
    """A process of the cluster: it loads the model once and then takes one task after another.

    Args:
        question: what is asked.
        folder: where the command was given.
        watch: handle of the cluster's :class:`Watch`.
    """

    def __init__(self, question: Question, folder: str, watch: Any) -> None:
        self._watch, self._problem = watch, ""
        if os.path.isdir(folder):
            os.chdir(folder)  # paths may be relative
        try:
            self._answer = question.load()
        except Exception as error:  # told with the first task: Ray would try to start it for minutes
            self._problem = f"{type(error).__name__}: {' '.join(str(error).split())}"

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """The answers of a task, as text; ``row`` holds its number and its clips."""
        if self._problem:
            return {"task": row["task"], "answers": "", "problem": self._problem}
        answers = list(self._answers(int(row["task"]), json.loads(row["clips"])))
        return {"task": row["task"], "answers": json.dumps(answers), "problem": ""}

    def _answers(self, task: int, clips: list[tuple[str, str, int | None]]) -> Iterator[Answer]:
        import ray

        deadly = ray.get(self._watch.start.remote(task))
        for place, (name, path, row) in enumerate(clips):
            if place in deadly:
                yield {"input": name, "error": f"it was being read when {DEATHS} processes were killed"}
                continue
            ray.get(self._watch.read.remote(task, place))  # waited for: afterwards may be too late
            yield answered(self._answer, Input(name, Path(path), row))
        ray.get(self._watch.end.remote(task))


def in_cluster(
    question: Question, tasks: Sequence[Sequence[Input]], jobs: int | None
) -> Iterator[list[Answer]]:
    """The answers of each task through Ray Data, in whatever order they are ready.

    Ray Data starts a killed worker again and gives it its task once more, without end; :class:`Watch` sees to it that
    a clip which kills its readers is left out in the end.
    """
    if not tasks:
        return
    with connected(jobs) as ray, _without_bars():
        gpus = 1 if question.device == "cuda" else 0
        most = jobs or int(ray.cluster_resources().get("GPU" if gpus else "CPU", 1))
        watch = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Watch).remote()
        rows = [
            {"task": number, "clips": json.dumps([(item.name, str(item.path), item.row) for item in task])}
            for number, task in enumerate(tasks)
        ]
        answers = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            Worker,
            fn_constructor_args=(question, os.getcwd(), watch),
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=max(1, min(most, len(rows)))),
            num_cpus=1,
            num_gpus=gpus,
        )
        try:
            for row in answers.iter_rows():
                if row["problem"]:
                    raise EngineError(f"a worker of the cluster can't load the model: {row['problem']}")
                yield json.loads(row["answers"])
        except ray.exceptions.RayError as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            raise EngineError(f"the workers of the cluster can't answer: {reason}") from None


@contextmanager
def _without_bars() -> Iterator[None]:
    """Ray Data that draws no bars over ours."""
    from ray.data import DataContext

    context = DataContext.get_current()
    before, context.enable_progress_bars = context.enable_progress_bars, False
    try:
        yield
    finally:
        context.enable_progress_bars = before

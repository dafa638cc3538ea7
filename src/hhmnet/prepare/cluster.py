"""Chunks read by the machines of a Ray cluster."""

from __future__ import annotations

import io
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from hhmnet.prepare.parts import Parts, Summary, read_chunk
from hhmnet.prepare.workers import WorkerLost
from hhmnet.readers import Reader, SourceError


class EngineError(ValueError):
    """An engine that can't be used here."""


def read_in_cluster(
    reader: Reader,
    parts: Parts,
    chunks: Sequence[tuple[int, list[str]]],
    jobs: int | None,
    on_items: Callable[[int], None],
) -> None:
    """Read chunks into parts, as tasks of a Ray cluster.

    The cluster is the one that this process is connected to already, else the one ``RAY_ADDRESS`` names or that
    runs on this machine, else a new one on this machine for the time being. Every node needs hhmnet, and must see
    the source under the same path. The store is written here: its folder need not be seen by the nodes.

    Args:
        reader: the reader; it goes to each node once, pickled.
        parts: where the parts go.
        chunks: what to read, each a number and items.
        jobs: how many tasks there are at a time, at the most; None for as many as the cluster has cores.
        on_items: called with how many more items are read.

    Raises:
        EngineError: Ray isn't installed, or the cluster can't be reached.
        SourceError: a node doesn't see the source.
        WorkerLost: a worker process died, and again when it was tried anew.
        Exception: what reading raised.
    """
    with connected(jobs) as ray:
        cores = int(ray.cluster_resources().get("CPU", 1))
        task = ray.remote(num_cpus=1)(_read)
        shared = ray.put(reader)
        waiting = iter(chunks)
        running: dict[Any, tuple[int, list[str]]] = {}
        try:
            while True:
                for _, chunk in zip(range((jobs or cores) - len(running)), waiting, strict=False):
                    running[task.remote(shared, os.getcwd(), chunk[1])] = chunk
                if not running:
                    return
                (reference, *_), _ = ray.wait(list(running), num_returns=1)
                number, items = running.pop(reference)
                parts.save(number, *_result(ray, reference))
                del reference  # Ray keeps a result for as long as anybody knows it
                on_items(len(items))
        finally:
            for reference in running:
                ray.cancel(reference, force=True)


def _read(reader: Reader, folder: str, items: list[str]) -> tuple[bytes, Summary]:
    """The task: a part's samples and summary."""
    if os.path.isdir(folder):
        os.chdir(folder)  # paths may be relative to where the command was given
    if not reader.source.is_dir():
        raise SourceError(
            f"the folder {reader.source} isn't there on every node of the cluster; put it on a shared disk"
        )
    file = io.BytesIO()
    summary = read_chunk(reader, items, file)
    return file.getvalue(), summary


def _result(ray: Any, reference: Any) -> tuple[bytes, Summary]:
    try:
        samples, summary = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ray.exceptions.RaySystemError):
            raise EngineError(
                f"a node of the cluster can't load the reader ({str(error.cause).splitlines()[0]}); hhmnet, and the "
                "reader's own module if it has one, must be installed on every node"
            ) from None
        raise error.cause from RuntimeError(f"in a task of the cluster:\n\n{error}")
    except ray.exceptions.RayError as error:
        reason = " ".join(str(error).split())
        raise WorkerLost(f"a worker process of the cluster was lost: {reason}") from None
    return samples, summary


@contextmanager
def connected(jobs: int | None) -> Iterator[Any]:
    """Ray, connected to a cluster; one that was started for this is stopped at the end."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray reports to its makers unless told not to
    try:
        import ray
    except ModuleNotFoundError:
        raise EngineError("--engine ray needs Ray; pip install 'hhmnet[ray]' brings it") from None
    if ray.is_initialized():
        yield ray
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    try:
        try:
            ray.init(address="auto", **quiet)
        except ConnectionError:
            if os.environ.get("RAY_ADDRESS"):
                raise
            ray.init(address="local", num_cpus=jobs, include_dashboard=False, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise EngineError(f"no Ray cluster can be reached or started: {error}") from None
    finally:
        if is_main:  # Ray takes over SIGTERM, and would end the program without a word
            signal.signal(signal.SIGTERM, before)
    try:
        yield ray
    finally:
        ray.shutdown()

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess

import pytest


@pytest.fixture
def fork() -> Iterator[Callable[..., BaseProcess]]:
    """Runs a function in another process that begins at once: a fork, which imports nothing anew."""
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    started = []

    def start(function: Callable[..., object], *words: object) -> BaseProcess:
        started.append(multiprocessing.get_context("fork").Process(target=function, args=words))
        started[-1].start()
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.join()

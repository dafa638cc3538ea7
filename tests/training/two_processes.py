"""Two processes that train together, as ``torchrun`` would start them."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

import torch
from torch import multiprocessing


def in_pair(work: Callable[..., None], *arguments: Any) -> None:
    """Call ``work(*arguments)`` in two processes that know of each other; what one raises is raised here."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    multiprocessing.start_processes(_one, args=(port, work, arguments), nprocs=2, start_method="spawn")


def _one(rank: int, port: int, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in names.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1"}
    work(*arguments)

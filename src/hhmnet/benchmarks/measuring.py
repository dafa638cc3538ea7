"""The clock: work in turns, memory, and what the machine's own matrix product reaches."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

WARM_UP_STEPS = 2

MATMUL_SIDES = {"cpu": 2048, "cuda": 8192}
"""Side of the matrices whose product tells a machine's peak: large enough to keep all of its arithmetic units busy."""


def wait(device: torch.device) -> None:
    """Come back when all that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(step: Callable[[], object], steps: int, device: torch.device) -> float:
    """Seconds that ``steps`` calls take, with the device's queue empty before and after."""
    wait(device)
    start = perf_counter()
    for _ in range(steps):
        step()
    wait(device)
    return perf_counter() - start


@dataclass
class Contender:
    """A model, its optimizer, and one batch of clips that it always sees.

    Attributes:
        inputs: what the model takes; clips ``(N, C, T, V, M)`` come first.
        labels: ``(N,)``.
        arguments: what the model was built with, for a report.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    inputs: tuple[Tensor, ...]
    labels: Tensor
    arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def frames(self) -> int:
        """Frames of a clip, T."""
        return self.inputs[0].shape[2]

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(weight.numel() for weight in self.model.parameters())

    def logits(self) -> Tensor:
        """Class scores of the batch, ``(N, classes)``."""
        answer = self.model(*self.inputs)
        return answer if isinstance(answer, Tensor) else answer.logits

    def train(self) -> None:
        """One optimization step."""
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(self.logits(), self.labels).backward()
        self.optimizer.step()

    def infer(self) -> None:
        """One forward pass without gradients."""
        self.model.eval()
        with torch.inference_mode():
            self.logits()


def turns_of(
    step: Callable[[], object], seconds: float, device: torch.device, size: float = 1
) -> Callable[[], float]:
    """A function that repeats ``step`` for about ``seconds`` and returns how much it does per second; warms up first.

    Args:
        step: what is repeated.
        seconds: length of a turn.
        device: where it computes.
        size: how much one call does, such as the clips of its batch.
    """
    timed(step, WARM_UP_STEPS, device)
    count = max(1, round(seconds / timed(step, 1, device)))
    return lambda: size * count / timed(step, count, device)


def take_turns(
    contenders: Mapping[str, Callable[[], float]],
    rounds: int,
    told: Callable[[int, dict[str, float]], None] = lambda number, figures: None,
) -> dict[str, list[float]]:
    """Every contender's figure in every round; a machine whose speed drifts drifts for all of them.

    Args:
        contenders: by name, what measures once.
        rounds: how often everyone has a turn.
        told: is given each round's number, from 1, and its figures.
    """
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(1, rounds + 1):
        for name, turn in contenders.items():
            found[name].append(turn())
        told(number, {name: values[-1] for name, values in found.items()})
    return found


def spread(values: list[float]) -> dict[str, Any]:
    """Median, extremes and the values themselves."""
    return {"median": median(values), "min": min(values), "max": max(values), "rounds": values}


def ratios(ours: list[float], theirs: list[float]) -> dict[str, Any]:
    """Spread of the ratio, taken within each round."""
    return spread([one / other for one, other in zip(ours, theirs, strict=True)])


def matmul_turns(
    device: torch.device, dtype: torch.dtype, seconds: float, side: int | None = None
) -> Callable[[], float]:
    """A function that returns the floating-point operations per second of a large square matrix product."""
    side = side or MATMUL_SIDES[device.type]
    one, other = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return turns_of(lambda: one @ other, seconds, device, 2 * side**3)


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware; without it, it is slower than float32, not faster."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if hasattr(torch.cpu, "get_capabilities"):
        return any(value is True and "bf16" in name for name, value in torch.cpu.get_capabilities().items())
    return torch.cpu._is_avx512_bf16_supported()


def process_mib(field: str) -> float | None:
    """A field of this process's memory status, such as ``VmRSS`` or ``VmHWM``, in MiB; None where there is no /proc."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    line = next(line for line in status.read_text().splitlines() if line.startswith(field + ":"))
    return int(line.split()[1]) / 1024


def resident_mib() -> float:
    """Most memory that this process has ever held, in MiB."""
    # Where it can be had from /proc: getrusage starts a child at its parent's peak.
    peak = process_mib("VmHWM")
    if peak is not None:
        return peak
    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return usage / 2**20 if sys.platform == "darwin" else usage / 2**10


def now_resident_mib() -> float:
    """Memory that this process holds, in MiB; where the system doesn't tell, the most it has ever held."""
    return process_mib("VmRSS") or resident_mib()


def gpu_mib(device: torch.device) -> float | None:
    """Most GPU memory that tensors of this process have held, in MiB; None on a CPU."""
    return torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else None

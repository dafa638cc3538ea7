"""Where the time of some work goes, by kind of operator."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from time import perf_counter

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from hhmnet.benchmarks.measuring import wait

KINDS = (
    "multiply",
    "normalise",
    "activate",
    "copy",
    "arithmetic",
    "optimise",
    "compiled",
    "other",
    "python",
)
"""Matrix products and convolutions; batch and layer norms; activations, softmax and dropout; copies, gathering and
filling; element-wise arithmetic and sums; the optimiser's and the moving average's updates; what torch.compile fused;
operators that are none of these; and what no operator accounts for: Python, autograd's bookkeeping, launching."""

_PATTERNS = {
    "compiled": r"triton_|cpp_fused|compiledfx",
    "optimise": r"adam|fused_sgd|multi_tensor|foreach",
    "multiply": r"mm($|_)|matmul|(^|_)linear($|_)|conv|gemm|cutlass|xmma|wgrad|dgrad|attention",
    "normalise": r"(batch|layer|group)_?norm|(^|[_:])bn_",
    "activate": r"relu|gelu|silu|sigmoid|tanh|softmax|dropout|threshold|bernoulli|hardswish",
    "copy": r"copy|clone|contiguous|cat|stack|index|gather|scatter|select_backward|slice_backward|fill|zero|flip|pad|"
    r"memcpy|memset|nchw|nhwc|roll|masked_select|transpose",
    "arithmetic": r"add|sub|mul|div|sum|mean|pow|sqrt|exp|log|neg|abs|max|min|clamp|where|cross|reduce|elementwise|"
    r"lerp|sign|eq|gt|lt|logical|bitwise|sort|topk|rand|norm|sin|cos",
}
_COMPILED = {kind: re.compile(pattern) for kind, pattern in _PATTERNS.items()}


def kind_of(name: str) -> str:
    """The kind of an operator such as ``aten::addmm`` or of a GPU kernel, by its name."""
    name = name.lower().removeprefix("aten::")
    return next((kind for kind, pattern in _COMPILED.items() if pattern.search(name)), "other")


def shares(events: Iterable[tuple[str, float]], whole: float) -> dict[str, float]:
    """Share of ``whole`` by :data:`KINDS`, of operators by name and time; what is left is ``python``."""
    times = dict.fromkeys(KINDS, 0.0)
    for name, time in events:
        times[kind_of(name)] += time
    busy = sum(times.values())
    times["python"] = max(whole - busy, 0.0)
    return {kind: time / max(whole, busy) for kind, time in times.items()}


class Recorder:
    """Records what runs between :meth:`start` and :meth:`stop`.

    On a CPU each operator's own time on this thread counts, on a GPU that of the kernels: there ``python`` is the time
    in which the GPU has nothing to do. Recording costs time of its own, which makes ``python`` larger than it is.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it would write lines of its own to standard error
        other = [ProfilerActivity.CUDA] if device.type == "cuda" else []
        self._profile = profile(activities=[ProfilerActivity.CPU, *other])
        self._begun = self._seconds = 0.0

    def start(self) -> None:
        """Begin."""
        self._profile.start()
        wait(self.device)
        self._begun = perf_counter()

    def stop(self) -> None:
        """End."""
        wait(self.device)
        self._seconds = perf_counter() - self._begun
        self._profile.stop()

    def shares(self) -> dict[str, float]:
        """Share of the time by :data:`KINDS`; they sum to 1."""
        found = self._profile.key_averages()
        if self.device.type == "cuda":
            kernels = [e for e in found if e.device_type == DeviceType.CUDA and not e.is_user_annotation]
            events = [(e.key, e.self_device_time_total) for e in kernels]
        else:
            events = [(e.key, e.self_cpu_time_total) for e in found if is_operator(e.key)]
        return shares(((name, time / 1e6) for name, time in events), self._seconds)


def is_operator(name: str) -> bool:
    """Whether an event is an operator or compiled code, and not a mark of Python's or of autograd's."""
    space, colons, _ = name.partition("::")
    known = bool(colons) and space.isidentifier() and space not in ("autograd", "torch")
    return known or kind_of(name) == "compiled"

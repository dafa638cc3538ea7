"""Time a trained ST&ST beside CTR-GCN (Chen et al., ICCV 2021): training step, inference and memory, on one machine.

    python benchmarks/peers.py zoo/nw_ucla/stst-joint --ctrgcn ../CTR-GCN

A model folder is timed, and its accuracy stands beside its speed: they are of the same weights. The two take turns
round by round, so that a machine whose speed drifts slows both alike; the ratio is taken within each round. CTR-GCN's
licence is non-commercial, so nothing of it is here: it is imported from a checkout of its own. ``README.md`` beside
this file says how to read the figures.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
import yaml
from common import BenchmarkError, add_json, machine, positive, process_mib, run, write_report
from rich.table import Table
from torch import Tensor, nn

from hhmnet.allocator import keep_freed_memory
from hhmnet.benchmarks.measure import ratios, spread, take_turns, timed, turns_of
from hhmnet.commands.terminal import Parser, console, table
from hhmnet.config import OptimConfig
from hhmnet.models.pretrained import from_pretrained
from hhmnet.models.stst import STST
from hhmnet.skeleton import LAYOUTS
from hhmnet.training.learner import make_optimizer

OURS, PEER = "ST&ST", "CTR-GCN"
PHASES = ("train", "infer")
MEMORY_STEPS = 3


@dataclass(frozen=True)
class Dataset:
    """One data set's clips, and CTR-GCN's published recipe for it, relative to its checkout."""

    layout: str
    persons: int
    classes: int
    batch: int
    recipe: str


DATASETS = {
    "nw-ucla": Dataset("kinect20", 1, 10, 16, "config/ucla/default.yaml"),
    "ntu60": Dataset("ntu25", 2, 60, 8, "config/nturgbd-cross-subject/default.yaml"),
}


@dataclass
class Contender:
    """A model, its optimizer, and one batch of clips that it always sees.

    Attributes:
        inputs: what the model takes; clips ``(N, C, T, V, M)`` come first.
        labels: ``(N,)``.
        about: what it was made with, for the report.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    inputs: tuple[Tensor, ...]
    labels: Tensor
    about: dict[str, Any] = field(default_factory=dict)

    def logits(self) -> Tensor:
        """Class scores of the batch, ``(N, classes)``."""
        output = self.model(*self.inputs)
        return output if isinstance(output, Tensor) else output.logits

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


def top1_of(folder: Path) -> float:
    """Top-1 in percent of a model folder's own weights, as ``hhmnet evaluate`` measured it."""
    files = [file for file in (folder / "metrics.json", folder / "eval-test/metrics.json") if file.is_file()]
    if not files:
        raise BenchmarkError(f"{folder}: holds no metrics.json; run hhmnet evaluate on it first")
    return float(json.loads(files[0].read_text())["top1"])


def build(name: str, options: argparse.Namespace) -> Contender:
    """One contender on its device; clips come from a fixed seed.

    Ours is trained with the optimizer that `hhmnet train` makes, CTR-GCN with the one that its own program makes, both
    without gradient clipping or averaged weights. Learning rates are tiny, so that random clips cannot blow a model up.

    Raises:
        BenchmarkError, PretrainedError: the model, or CTR-GCN's checkout, can't be used.
    """
    torch.manual_seed(0)
    return _ours(options) if name == OURS else _peer(options)


def _ours(options: argparse.Namespace) -> Contender:
    data = DATASETS[options.dataset]
    trained = from_pretrained(options.model, options.device)
    if not isinstance(trained.network, STST):
        raise BenchmarkError(f"{options.model}: give a model of one skeleton stream")
    network, frames, top1 = trained.network, options.frames or trained.spec.data.frames, None
    if options.dataset == dataset_of(options.model):
        top1 = top1_of(options.model) if frames == trained.spec.data.frames else None
    else:  # the same settings on other clips, which nobody trained it for
        network = STST(network.config, LAYOUTS[data.layout], data.classes).to(options.device)
    optimizer = make_optimizer(network, dataclasses.replace(OptimConfig(), lr=1e-5))
    x, labels = clips(data, options, frames)
    mask = torch.ones(len(x), frames, data.persons, dtype=torch.bool, device=options.device)
    inputs = (x, mask) if data.persons > 1 else (x,)  # with two, a mask says who is there, as in training
    about = {"model": str(options.model), "top1": top1, "arguments": dataclasses.asdict(network.config)}
    return Contender(network, optimizer, inputs, labels, about)


def dataset_of(folder: Path) -> str:
    """Which of :data:`DATASETS` a model's skeletons are of."""
    layout = from_pretrained(folder).spec.layout.name
    found = [name for name, data in DATASETS.items() if data.layout == layout]
    if not found:
        raise BenchmarkError(
            f"{folder}: takes {layout}; CTR-GCN's recipes are for NW-UCLA's and NTU's skeletons"
        )
    return found[0]


def _peer(options: argparse.Namespace) -> Contender:
    data, checkout = DATASETS[options.dataset], options.ctrgcn
    recipe, source = checkout / data.recipe, checkout / "model/ctrgcn.py"
    if not recipe.is_file() or not source.is_file():
        raise BenchmarkError(
            f"--ctrgcn {checkout}: model/ctrgcn.py and {data.recipe} are not both there; run "
            "'git clone https://github.com/Uason-Chen/CTR-GCN' and give the folder it makes"
        )
    fields = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    try:
        arguments, window = fields["model_args"], int(fields["train_feeder_args"]["window_size"])
    except KeyError as error:
        raise BenchmarkError(
            f"{recipe}: the field {error} is missing; restore the published recipe"
        ) from None
    with importable(checkout):  # also while it is built: the model imports its graph by name
        model = import_module("model.ctrgcn").Model(**arguments).to(options.device)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-5, momentum=0.9, nesterov=True, weight_decay=1e-4)
    x, labels = clips(data, options, options.ctrgcn_frames or window)
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    return Contender(model, optimizer, (x,), labels, {"sha256": digest, "arguments": arguments})


def clips(data: Dataset, options: argparse.Namespace, frames: int) -> tuple[Tensor, Tensor]:
    """Random clips ``(N, C, T, V, M)`` and labels ``(N,)``."""
    layout = LAYOUTS[data.layout]
    shape = (options.batch or data.batch, layout.dims, frames, layout.num_joints, data.persons)
    labels = torch.randint(data.classes, shape[:1], device=options.device)
    return torch.randn(shape, device=options.device), labels


@contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Let modules of ``folder`` be imported, and leave sys.path as it was (CTR-GCN's graphs append to it)."""
    before = list(sys.path)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path[:] = before


def peak_memory(name: str, phase: str, options: argparse.Namespace) -> dict[str, float]:
    """Peak memory of a few steps in MiB; meant to run in a process of its own."""
    torch.set_num_threads(options.threads)
    device, before = torch.device(options.device), process_mib("VmRSS") or 0.0
    timed(getattr(build(name, options), phase), MEMORY_STEPS, device)
    resident = process_mib("VmHWM") or 0.0
    peak = {"resident": resident, "added": resident - before}
    if device.type == "cuda":
        peak["gpu"] = torch.cuda.max_memory_allocated(device) / 2**20
    return peak


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The whole report: the machine, every model's figures, and the ratios."""
    device, log = torch.device(options.device), console()
    contenders = {name: build(name, options) for name in ((OURS, PEER) if options.ctrgcn else (OURS,))}
    report: dict[str, Any] = {"dataset": options.dataset, "machine": machine(device), "models": {}}
    for name, contender in contenders.items():
        batch, _, frames, *_ = contender.inputs[0].shape
        weights = sum(weight.numel() for weight in contender.model.parameters())
        report["models"][name] = contender.about | {"batch": batch, "frames": frames, "parameters": weights}
    for phase in PHASES:
        turns = {
            name: turns_of(getattr(each, phase), options.seconds, device, len(each.labels))
            for name, each in contenders.items()
        }
        log.print(phase)
        speeds = take_turns(turns, options.rounds, log)
        for name, values in speeds.items():
            report["models"][name][phase] = {"samples_per_second": spread(values)}
            if options.memory:
                with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                    peak = pool.submit(peak_memory, name, phase, options).result()
                report["models"][name][phase]["peak_memory_mib"] = peak
        if len(speeds) == 2:
            report.setdefault("speed_ratio", {})[phase] = ratios(speeds[OURS], speeds[PEER])
    return report


def _range(figures: dict[str, Any], digits: int) -> str:
    return f"{figures['median']:.{digits}f} ({figures['min']:.{digits}f}..{figures['max']:.{digits}f})"


def report_table(report: dict[str, Any]) -> Table:
    """The report for the terminal, one line a model and phase; the accuracy stands beside the ratio."""
    ours = report["models"][OURS]
    top1 = "top-1 not measured like this" if ours["top1"] is None else f"top-1 {ours['top1']:.2f} %"
    title = f"{ours['model']} ({top1}) on {report['dataset']}'s shape, {report['machine']['device']}"
    columns = (">frames", ">weights", ">samples/s", ">peak MiB", f">ratio at {top1}")
    view = table(title, "phase", "model", *columns)
    for phase in PHASES:
        for name, model in report["models"].items():
            peak = model[phase].get("peak_memory_mib")
            memory = f"{peak['resident']:.0f} (+{peak['added']:.0f})" if peak else "-"
            ratio = report.get("speed_ratio", {}).get(phase) if name == OURS else None
            cells = (str(model["frames"]), f"{model['parameters']:,}")
            speed = _range(model[phase]["samples_per_second"], 1)
            view.add_row(phase, name, *cells, speed, memory, _range(ratio, 2) if ratio else "")
        view.add_section()
    return view


def main(words: list[str]) -> None:
    """Run the benchmark."""
    parser = Parser("peers.py", "Time a trained model of one stream beside CTR-GCN on this machine.")
    add = parser.add_argument
    add("model", type=Path, metavar="MODEL", help="folder with the model and its metrics.json")
    add("--ctrgcn", type=Path, metavar="FOLDER", help="checkout of CTR-GCN; without it the model runs alone")
    shape = "time its network, with fresh weights, on another data set's shape"
    add("--dataset", choices=DATASETS, help=shape)
    add("--batch", type=positive(int), help="clips per step (nw-ucla 16, ntu60 8)")
    add("--frames", type=positive(int), help="frames of the model's clips (its own)")
    add("--ctrgcn-frames", type=positive(int), help="frames of CTR-GCN's clips (its recipe's)")
    add("--device", choices=("cpu", "cuda"), default="cpu", help="where to run (cpu)")
    add("--threads", type=positive(int), default=2, help="CPU threads (2)")
    add("--rounds", type=positive(int), default=5, help="turns of each model and phase (5)")
    add("--seconds", type=positive(float), default=4.0, help="length of a turn (4)")
    add("--memory", action="store_true", help="measure peak memory too (Linux)")
    kept = "leave the C library's allocator as it is; hhmnet's commands let it keep what a step frees"
    add("--give-back", action="store_true", help=kept)
    add_json(parser)
    options = parser.parse_args(words)
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error(f"--device {options.device}: torch finds no GPU here; leave it out to use the CPU")
    if options.memory and process_mib("VmRSS") is None:
        parser.error("--memory reads /proc, which this system lacks; leave it out")
    options.dataset = options.dataset or dataset_of(options.model)
    torch.set_num_threads(options.threads)
    if options.device == "cpu" and not options.give_back:
        keep_freed_memory()  # as hhmnet's commands do; the other model gains by it too
    report = measure(options)
    console(stderr=False).print(report_table(report))
    write_report(report, options.json)


if __name__ == "__main__":
    sys.exit(run(main))

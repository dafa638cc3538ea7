"""Time ST&ST beside CTR-GCN: training step, inference and memory, on one machine.

The two take turns round by round, so that a machine whose speed drifts slows both alike; the ratio is taken
within each round. ``README.md`` beside this file says how to read the figures.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from contenders import DATASETS, OURS, PEER, PHASES, Settings, UserError, build, step_of
from rich.console import Console
from rich.table import Table

from hhmnet.allocator import keep_freed_memory
from hhmnet.benchmarks.measuring import (
    Contender,
    gpu_mib,
    now_resident_mib,
    ratios,
    resident_mib,
    spread,
    take_turns,
    timed,
    turns_of,
)
from hhmnet.files import replacing
from hhmnet.training.logs import device_name

MEMORY_STEPS = 3


def race(
    contenders: dict[str, Contender], phase: str, settings: Settings, log: Console
) -> dict[str, list[float]]:
    """Samples per second of every contender in every round of one phase; the contenders take turns."""

    def told(number: int, figures: dict[str, float]) -> None:
        now = ", ".join(f"{name} {value:.1f}" for name, value in figures.items())
        log.print(f"{phase} round {number}/{settings.rounds}: {now} samples/s")

    turns = {
        name: turns_of(
            step_of(contender, phase), settings.seconds, torch.device(settings.device), settings.batch
        )
        for name, contender in contenders.items()
    }
    return take_turns(turns, settings.rounds, told)


def peak_memory(name: str, phase: str, settings: Settings) -> dict[str, float]:
    """Peak memory of a few steps in MiB; meant to run in a process of its own.

    ``resident`` is the whole process, ``added`` what came on top of the interpreter and its libraries,
    ``gpu`` the GPU memory allocated at most.
    """
    torch.set_num_threads(settings.threads)
    device, before = torch.device(settings.device), now_resident_mib()
    timed(step_of(build(name, settings), phase), MEMORY_STEPS, device)
    peak = {"resident": resident_mib(), "added": resident_mib() - before}
    if (gpu := gpu_mib(device)) is not None:
        peak["gpu"] = gpu
    return peak


def measure_memory(names: list[str], settings: Settings) -> dict[str, dict[str, dict[str, float]]]:
    """:func:`peak_memory` of every contender and phase, each in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        return {
            name: {phase: pool.submit(peak_memory, name, phase, settings).result() for phase in PHASES}
            for name in names
        }


def git_commit(folder: Path) -> str | None:
    """Commit checked out in ``folder``, ``+changes`` added if files differ; None if it is no repository."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        if git("rev-parse", "--show-prefix"):
            return None
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def environment(names: list[str], settings: Settings) -> dict[str, Any]:
    """What the figures are measured with and on."""
    found: dict[str, Any] = {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "cpu": device_name(torch.device("cpu")),
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "commit": git_commit(Path(__file__).resolve().parents[1]),
    }
    if settings.device == "cuda":
        found["gpu"] = device_name(torch.device("cuda"))
    if PEER in names and settings.ctrgcn:
        found["ctrgcn_commit"] = git_commit(Path(settings.ctrgcn))
        source = (Path(settings.ctrgcn) / "model/ctrgcn.py").read_bytes()
        found["ctrgcn_model_sha256"] = hashlib.sha256(source).hexdigest()
    return found


def measure(names: list[str], settings: Settings, memory: bool, log: Console) -> dict[str, Any]:
    """The whole report: settings, environment, every model's figures, and the ratios of two models."""
    contenders = {name: build(name, settings) for name in names}
    machine = environment(names, settings)
    if (machine["load_before"] or 0) > 0.5:
        log.print(
            f"The machine was busy in the last minute (load {machine['load_before']:.1f} on "
            f"{machine['cores']} cores); if it still is, figures will be low and ratios rough."
        )
    memories = measure_memory(names, settings) if memory else {}
    shown = ("dataset", "batch", "device", "threads", "rounds", "seconds")
    report: dict[str, Any] = {"settings": {field: getattr(settings, field) for field in shown}}
    report["environment"] = machine
    report["models"] = {
        name: {
            "frames": contender.frames,
            "parameters": contender.parameters,
            "optimizer": type(contender.optimizer).__name__,
            "arguments": contender.arguments,
        }
        for name, contender in contenders.items()
    }
    for phase in PHASES:
        speeds = race(contenders, phase, settings, log)
        for name, values in speeds.items():
            report["models"][name][phase] = {"samples_per_second": spread(values)}
            if memory:
                report["models"][name][phase]["peak_memory_mib"] = memories[name][phase]
        if len(speeds) == 2:
            report.setdefault("speed_ratio", {})[phase] = ratios(speeds[OURS], speeds[PEER])
    return report


def _range(figures: dict[str, Any], digits: int) -> str:
    return f"{figures['median']:.{digits}f} ({figures['min']:.{digits}f}..{figures['max']:.{digits}f})"


def _memory(peak: dict[str, float] | None) -> str:
    if peak is None:
        return "-"
    gpu = f", GPU {peak['gpu']:.0f}" if "gpu" in peak else ""
    return f"{peak['resident']:.0f} (+{peak['added']:.0f}){gpu}"


def table(report: dict[str, Any]) -> Table:
    """The report for the terminal, one line a model and phase."""
    settings, machine = report["settings"], report["environment"]
    where = machine.get("gpu") or f"{machine['cpu']}, {settings['threads']} threads"
    title = f"{settings['dataset']}, batch {settings['batch']}, {where}, torch {machine['torch']}"
    caption = f"median (min..max) of {settings['rounds']} turns of about {settings['seconds']:g} s each"
    view = Table(title=title, caption=caption)
    for heading in ("phase", "model", "frames", "weights", "samples/s", "peak MiB"):
        view.add_column(heading, justify="left" if heading in ("phase", "model") else "right", no_wrap=True)
    for phase in PHASES:
        for name, model in report["models"].items():
            speed = _range(model[phase]["samples_per_second"], 1)
            memory = _memory(model[phase].get("peak_memory_mib"))
            view.add_row(phase, name, str(model["frames"]), f"{model['parameters']:,}", speed, memory)
        if "speed_ratio" in report:
            view.add_row("", "ratio", "", "", _range(report["speed_ratio"][phase], 2), "", style="bold")
        view.add_section()
    return view


def write_json(report: dict[str, Any], path: Path) -> None:
    """Write the report, whole or not at all."""
    try:
        with replacing(path) as file:
            file.write((json.dumps(report, indent=2) + "\n").encode())
    except OSError as error:
        raise UserError(f"--json {path}: {error.strerror}; name a file that can be written") from None


def parse(words: list[str] | None) -> argparse.Namespace:
    """The command line, its defaults filled in."""
    parser = argparse.ArgumentParser(description="Time ST&ST beside CTR-GCN on this machine.")
    parser.add_argument("--ctrgcn", metavar="FOLDER", help="checkout of CTR-GCN; without it ST&ST runs alone")
    parser.add_argument("--peer-only", action="store_true", help="time CTR-GCN alone")
    parser.add_argument("--dataset", choices=DATASETS, default="nw-ucla", help="shape of the clips (nw-ucla)")
    parser.add_argument("--batch", type=int, help="clips per step (nw-ucla 16, ntu60 8)")
    parser.add_argument("--config", metavar="FILE", help="recipe of ST&ST (YAML); its defaults without it")
    parser.add_argument("--frames", type=int, help="frames of ST&ST's clips (its recipe's)")
    parser.add_argument("--ctrgcn-frames", type=int, help="frames of CTR-GCN's clips (its recipe's)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where to run (cpu)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (2)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each model and phase (5)")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a turn (4)")
    parser.add_argument("--memory", action="store_true", help="measure peak memory too (Linux)")
    parser.add_argument(
        "--give-back",
        action="store_true",
        help="leave the C library's allocator as it is; hhmnet's commands let it keep what a step frees",
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the report there too")
    options = parser.parse_args(words)
    options.batch = DATASETS[options.dataset].batch if options.batch is None else options.batch
    for field in ("batch", "frames", "ctrgcn_frames", "threads", "rounds", "seconds"):
        value = getattr(options, field)
        if value is not None and value <= 0:
            parser.error(f"--{field.replace('_', '-')} {value}: give a number above 0")
    if options.peer_only and not options.ctrgcn:
        parser.error("--peer-only needs --ctrgcn FOLDER")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error(f"--device {options.device}: torch finds no GPU here; leave it out to use the CPU")
    if options.json and not options.json.parent.is_dir():
        parser.error(f"--json {options.json}: there is no folder {options.json.parent}; make it first")
    if options.memory and not Path("/proc/self/status").exists():
        parser.error("--memory reads /proc, which this system lacks; leave it out")
    return options


def main(words: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    options = parse(words)
    settings = Settings(**{field: getattr(options, field) for field in Settings.__dataclass_fields__})
    names = [OURS] if not options.ctrgcn else [PEER] if options.peer_only else [OURS, PEER]
    torch.set_num_threads(settings.threads)
    if settings.device == "cpu" and not options.give_back:
        keep_freed_memory()  # as hhmnet's commands do; the other model gains by it too
    try:
        report = measure(names, settings, options.memory, Console(stderr=True, highlight=False))
        Console().print(table(report))
        if options.json:
            write_json(report, options.json)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

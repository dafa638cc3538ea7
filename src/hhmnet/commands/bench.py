"""``hhmnet bench``: how fast a recipe trains and answers here, beside a plain ST-GCN, and what holds it up."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.table import Table

from hhmnet.benchmarks.baseline import read_baseline, slower
from hhmnet.benchmarks.measuring import has_bfloat16
from hhmnet.benchmarks.operators import KINDS
from hhmnet.benchmarks.report import PHASES, measure
from hhmnet.commands.configuration import read_config
from hhmnet.commands.dry_run import of_phase_1
from hhmnet.commands.terminal import Parser, console, print_json, table
from hhmnet.config import TrainConfig
from hhmnet.files import replacing
from hhmnet.training.logs import environment

DONE, SLOWER = 0, 1

SHAPES = {
    "nw_ucla": ("nw_ucla_cross_view", 52, 1, 16),
    "ntu60": ("ntu60_xsub", 64, 2, 8),
    "ntu120": ("ntu120_xsub", 64, 2, 8),
}
"""Protocol, frames and persons of a clip, and clips a step, by name. Frames and batches are those that ``benchmarks/``
races CTR-GCN with."""

USUAL = ("nw_ucla", "ntu60")
"""Shapes that are measured where nothing is asked for."""

BUSY = 0.5
"""Load of the last minute from which on a machine counts as busy."""


class BenchError(ValueError):
    """A measurement that can't be made as it was asked for."""


class Case(NamedTuple):
    """One thing to measure: a name for tables and the recipe."""

    name: str
    config: TrainConfig


def main(words: list[str]) -> int:
    """Run the command; 0 when measured, 1 where something became slower than in the baseline."""
    parser = _parser()
    options, flags = parser.parse_known_args(words)
    own = [name.removeprefix("--") for name in parser._option_string_actions]
    for name in ("seconds", "rounds", "tolerance"):
        if not getattr(options, name) > 0:
            parser.error(f"argument --{name}: give a number above 0")
    before = None if options.baseline is None else read_baseline(options.baseline)
    cases = cases_of(options.config, options.shape, options.data, flags, own)
    report = run(cases, options.data, options.seconds, options.rounds, console())
    if options.out is not None:
        with replacing(options.out) as file:
            file.write((json.dumps(report, indent=1) + "\n").encode())
    if options.json:
        print_json(report)
    else:
        show(report, console(stderr=False))
    if before is None:
        return DONE
    return compare(report, before, options.baseline, options.tolerance, console())


def _parser() -> Parser:
    parser = Parser(
        "hhmnet bench",
        "Measure how fast a recipe trains and answers on this machine, in turns with a plain ST-GCN, and what its time "
        "goes to. Any field of the configuration can be given as a flag, such as --run.precision bfloat16; "
        "`hhmnet train --help` lists them.",
        usage="hhmnet bench [--config FILE] [--shape NAME] [options] [--key value ...]",
    )
    add = parser.add_argument
    add("--config", type=Path, metavar="FILE", help="recipe (YAML); the defaults of hhmnet train without it")
    add(
        "--shape",
        choices=SHAPES,
        help=f"clips like this data set's; without it those of the recipe, and without a recipe {' and '.join(USUAL)}",
    )
    add("--data", type=Path, metavar="STORE", help="measure on these clips, not on made ones")
    add("--seconds", type=float, default=2.0, metavar="S", help="length of a turn (2)")
    add("--rounds", type=int, default=5, metavar="R", help="turns of each; the tables show their median (5)")
    add("--json", action="store_true", help="print the report as JSON on standard output")
    add("--out", type=Path, metavar="FILE", help="write it there too, for --baseline later")
    add("--baseline", type=Path, metavar="FILE", help="an earlier report: exit with 1 if a ratio has fallen")
    add("--tolerance", type=float, default=10.0, metavar="PERCENT", help="by how much it may fall (10)")
    return parser


def cases_of(
    file: Path | None, shape: str | None, store: Path | None, flags: list[str], own: list[str]
) -> list[Case]:
    """What to measure.

    Args:
        file: a recipe.
        shape: of :data:`SHAPES`; it wins over the recipe's.
        store: clips to measure on.
        flags: fields of the configuration; they win over both.
        own: the command's own options, for what an unknown flag was meant to be.

    Raises:
        ConfigError, DryRunError, PretrainedError: the recipe can't be read, or its phase 1 can't.
    """
    names = [shape] if shape else [] if file is not None or store is not None else list(USUAL)
    if not names:
        config = of_phase_1(read_config(file, flags, own))
        return [Case(f"{file.parent.name}/{file.stem}" if file else config.protocol or "store", config)]
    cases = []
    for name in names:
        protocol, frames, persons, batch = SHAPES[name]
        words = [f"--protocol={protocol}", f"--data.frames={frames}", f"--data.persons={persons}"]
        words += [f"--optim.batch_size={batch}", *flags]
        label = name if file is None else f"{file.parent.name}/{file.stem} as {name}"
        cases.append(Case(label, of_phase_1(read_config(file, words, own))))
    return cases


def run(cases: list[Case], store: Path | None, seconds: float, rounds: int, log: Console) -> dict[str, Any]:
    """Measure all cases; the whole report."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    if load is not None and load > BUSY:
        log.print(
            f"The machine was busy in the last minute (load {load:.1f} on {os.cpu_count()} cores); if it still is, "
            "figures are too low and ratios rough.",
            soft_wrap=True,
        )
    measured = []
    for name, config in cases:

        def told(number: int, figures: dict[str, float], name: str = name) -> None:
            now = f"training {figures['training']:.3g}, ST-GCN {figures['ST-GCN training']:.3g} samples/s"
            log.print(f"{name}, round {number}/{rounds}: {now}", soft_wrap=True)

        log.print(f"{name}: measuring memory, warming up", soft_wrap=True)
        try:
            figures = measure(config, store, seconds=seconds, rounds=rounds, told=told)
        except torch.OutOfMemoryError:
            size = config.optim.batch_size
            raise BenchError(
                f"the GPU's memory can't hold {size} clips at once; lower --optim.batch_size"
            ) from None
        measured.append({"name": name} | figures)
    device = torch.device(measured[0]["about"]["device"])
    machine = environment(device) | {"load_before": load, "bfloat16": has_bfloat16(device)}
    return {
        "machine": machine,
        "settings": {"seconds": seconds, "rounds": rounds},
        "cases": measured,
    }


def show(report: dict[str, Any], out: Console) -> None:
    """The report for people."""
    machine, settings = report["machine"], report["settings"]
    for case in report["cases"]:
        facts = case["about"]
        words = [facts["device"], facts["precision"], *(name for name in ("compile", "graph") if facts[name])]
        out.print(
            f"{case['name']}: phase {facts['phase']}, {'+'.join(facts['streams'])}, {case['parameters']:,} weights, "
            f"batch {facts['batch']}, T={facts['frames']} V={facts['joints']} M={facts['persons']}, {', '.join(words)}",
            soft_wrap=True,
        )
        out.print(_view(case))
        peaks = ", ".join(f"{name} {_range(peak)}" for name, peak in case["matmul_gflops"].items())
        out.print(f"A large matrix product, in GFLOP/s: {peaks}.", soft_wrap=True)
        if facts["precision"] == "bfloat16" and not machine["bfloat16"]:
            out.print("This processor has no bfloat16 instructions: float32 is faster here.", soft_wrap=True)
        out.print()
    out.print(
        f"Medians (least..most) of {settings['rounds']} turns of about {settings['seconds']:g} s; {machine['device']}, "
        f"{machine['threads']} threads, torch {machine['torch']}.",
        soft_wrap=True,
    )


def _view(case: dict[str, Any]) -> Table:
    view = table("", "", *(f">{phase}" for phase in PHASES))
    found = [case[phase] for phase in PHASES]
    view.add_row("samples/s", *(_range(each["samples_per_second"]) for each in found))
    view.add_row("ST-GCN, samples/s", *(_range(each["reference_samples_per_second"]) for each in found))
    view.add_row("ratio", *(_range(each["ratio"]) for each in found), style="bold")
    view.add_row("GFLOP a sample", *(f"{each['gflop_per_sample']:.3g}" for each in found))
    view.add_row(
        "of a matrix product's speed", *(f"{each['share_of_matmul']['median']:.1%}" for each in found)
    )
    view.add_row("peak memory, MiB", *(_memory(each["peak_memory_mib"]) for each in found))
    view.add_section()
    parts = case["training"]["parts_ms"]
    whole = sum(parts.values())
    view.add_row("a step", f"{whole:.1f} ms       ", "")
    for name, value in parts.items():
        view.add_row(f"  {name}", f"{value:.1f} ms {value / whole:6.1%}", "")
    view.add_section()
    for kind in KINDS:
        if any(each["kinds"][kind] for each in found):
            view.add_row(f"  {kind}", *(f"{each['kinds'][kind]:.1%}" for each in found))
    view.add_row("most goes to", *(each["limit"] for each in found))
    return view


def _range(figures: dict[str, Any]) -> str:
    return f"{_short(figures['median'])} ({_short(figures['min'])}..{_short(figures['max'])})"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _memory(peak: dict[str, float]) -> str:
    gpu = f", GPU {peak['gpu']:,.0f}" if "gpu" in peak else ""
    return f"{peak['resident']:,.0f} (+{peak['added']:,.0f}){gpu}"


def compare(report: dict[str, Any], before: dict[str, Any], file: Path, percent: float, log: Console) -> int:
    """Say which ratios have fallen; 1 if one did."""
    lines = slower(report, before, file, percent / 100)
    for line in lines:
        log.print(f"slower than in {file}: {line}", soft_wrap=True)
    if not lines:
        log.print(f"nothing is slower than in {file} by more than {percent:g} %", soft_wrap=True)
    return SLOWER if lines else DONE

"""``hhmnet bench``: how fast a recipe trains and answers here, beside a plain ST-GCN, and where a step's time goes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from hhmnet.benchmarks.measure import PHASES, load_before, measure
from hhmnet.commands.configuration import read_config
from hhmnet.commands.dry_run import of_phase_1
from hhmnet.commands.terminal import Parser, UsageError, console, print_json, table
from hhmnet.config import TrainConfig
from hhmnet.files import replacing
from hhmnet.training.logs import environment

SHAPES = {
    "nw_ucla": ("nw_ucla_cross_view", 52, 1, 16),
    "ntu60": ("ntu60_xsub", 64, 2, 8),
    "ntu120": ("ntu120_xsub", 64, 2, 8),
}
"""Protocol, frames and persons of a clip, and clips a step, by name. Frames and batches are those that ``benchmarks/``
races CTR-GCN with."""
USUAL = ("nw_ucla", "ntu60")
"""Shapes that are measured where nothing is asked for."""


def main(words: list[str]) -> int:
    """Run the command; 0 when measured, 1 where something became slower than in the baseline."""
    parser = _parser()
    options, flags = parser.parse_known_args(words)
    for name in ("seconds", "rounds", "tolerance"):
        if not getattr(options, name) > 0:
            parser.error(f"argument --{name}: give a number above 0")
    before = None if options.baseline is None else read_baseline(options.baseline)
    cases = cases_of(options.config, options.shape, options.data, flags, parser.names)
    report = run(cases, options.data, options.seconds, options.rounds, console())
    if options.out is not None:
        with replacing(options.out) as file:
            file.write((json.dumps(report, indent=1) + "\n").encode())
    if options.json:
        print_json(report)
    else:
        show(report, console(stderr=False))
    if before is None:
        return 0
    slower = compare(report, before, options.baseline, options.tolerance)
    lines = [f"slower than in {options.baseline}: {line}" for line in slower]
    for line in lines or [
        f"nothing is slower than in {options.baseline} by more than {options.tolerance:g} %"
    ]:
        console().print(line, soft_wrap=True)
    return 1 if slower else 0


def _parser() -> Parser:
    parser = Parser(
        "hhmnet bench",
        "Measure how fast a recipe trains and answers on this machine, beside a plain ST-GCN, and where a step's time "
        "goes. Any field of the configuration can be given as a flag, such as --run.precision bfloat16; "
        "`hhmnet train --help` lists them.",
        usage="hhmnet bench [--config FILE] [--shape NAME] [options] [--key value ...]",
    )
    add = parser.add_argument
    add("--config", type=Path, metavar="FILE", help="recipe (YAML); the defaults of hhmnet train without it")
    usual = f"those of the recipe, and without a recipe {' and '.join(USUAL)}"
    add("--shape", choices=SHAPES, help=f"clips like this data set's; without it {usual}")
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
) -> dict[str, TrainConfig]:
    """What to measure, by the names in the tables: a recipe, a shape, or the usual shapes; flags win over both."""
    recipe = f"{file.parent.name}/{file.stem}" if file else ""
    if shape is None and (file or store):
        config = of_phase_1(read_config(file, flags, own))
        return {recipe or config.protocol or "store": config}
    cases = {}
    for name in [shape] if shape else USUAL:
        protocol, frames, persons, batch = SHAPES[name]
        fields = {
            "protocol": protocol,
            "data.frames": frames,
            "data.persons": persons,
            "optim.batch_size": batch,
        }
        words = [f"--{field}={value}" for field, value in fields.items()]
        cases[f"{recipe} as {name}" if file else name] = of_phase_1(read_config(file, [*words, *flags], own))
    return cases


def run(
    cases: dict[str, TrainConfig], store: Path | None, seconds: float, rounds: int, log: Console
) -> dict[str, Any]:
    """Measure all cases; the whole report."""
    load = load_before(log)
    measured = []
    for name, config in cases.items():

        def progress(number: int, figures: dict[str, float], name: str = name) -> None:
            now = f"training {figures['training']:.3g}, ST-GCN {figures['ST-GCN training']:.3g} samples/s"
            log.print(f"{name}, round {number}/{rounds}: {now}", soft_wrap=True)

        log.print(f"{name}: warming up", soft_wrap=True)
        try:
            figures = measure(config, store, seconds=seconds, rounds=rounds, progress=progress)
        except torch.OutOfMemoryError:
            size = config.optim.batch_size
            raise UsageError(
                f"the GPU's memory can't hold {size} clips at once; lower --optim.batch_size"
            ) from None
        measured.append({"name": name} | figures)
    machine = environment(torch.device(measured[0]["about"]["device"])) | {"load_before": load}
    settings = {"seconds": seconds, "rounds": rounds}
    return {"machine": machine, "settings": settings, "cases": measured}


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
        out.print(_table(case), "")
    out.print(
        f"Medians (least..most) of {settings['rounds']} turns of about {settings['seconds']:g} s; {machine['device']}, "
        f"{machine['threads']} threads, torch {machine['torch']}.",
        soft_wrap=True,
    )


def _table(case: dict[str, Any]) -> Table:
    view = table("", "", *(f">{phase}" for phase in PHASES))
    found = [case[phase] for phase in PHASES]
    view.add_row("samples/s", *(_range(each["samples_per_second"]) for each in found))
    view.add_row("ST-GCN, samples/s", *(_range(each["reference_samples_per_second"]) for each in found))
    view.add_row("ratio", *(_range(each["ratio"]) for each in found), style="bold")
    view.add_row("GFLOP a sample", *(f"{each['gflop_per_sample']:.3g}" for each in found))
    view.add_section()
    parts = case["training"]["parts_ms"]
    whole = sum(parts.values())
    view.add_row("a step", f"{whole:.1f} ms       ", "")
    for name, value in parts.items():
        view.add_row(f"  {name}", f"{value:.1f} ms {value / whole:6.1%}", "")
    return view


def _range(figures: dict[str, Any]) -> str:
    middle, low, high = (
        f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
        for value in (figures["median"], figures["min"], figures["max"])
    )
    return f"{middle} ({low}..{high})"


def read_baseline(file: Path) -> dict[str, Any]:
    """An earlier report; raises UsageError where the file holds none."""
    try:
        report: dict[str, Any] = json.loads(file.read_bytes())
        for case in report["cases"]:
            if not all(case[phase]["ratio"]["median"] > 0 for phase in PHASES):
                raise ValueError("a ratio isn't above 0")
            case["about"] | {"name": case["name"]}
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{file}: not a report that hhmnet bench --out wrote ({error})") from None
    return report


def compare(report: dict[str, Any], before: dict[str, Any], file: Path, percent: float) -> list[str]:
    """What has become slower beside ST-GCN than in the report that ``file`` holds, a line each.

    Raises:
        UsageError: the earlier report has no such case, or one that measured something else.
    """
    found = []
    others = {other["name"]: other for other in before["cases"]}
    for case in report["cases"]:
        name = case["name"]
        if name not in others:
            raise UsageError(f"{file}: it has no case '{name}', but {', '.join(others)}")
        other = others[name]
        for field, value in case["about"].items():
            if other["about"].get(field) != value:
                raise UsageError(
                    f"{file}: of the case '{name}' the field '{field}' was {other['about'].get(field)}, and is "
                    f"{value} now; measure both alike"
                )
        for phase in PHASES:
            now, then = case[phase]["ratio"]["median"], other[phase]["ratio"]["median"]
            if now < then * (1 - percent / 100):
                share = f"{100 * (1 - now / then):.0f} % slower"
                found.append(f"{name}, {phase}: {now:.3g} times ST-GCN's speed, it was {then:.3g} ({share})")
    return found

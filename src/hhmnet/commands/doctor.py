"""``hhmnet doctor``: what this installation can do, on what, and what to install for the rest."""

from __future__ import annotations

import importlib
import os
import platform
from importlib import metadata
from typing import Any, NamedTuple

from packaging.requirements import Requirement

from hhmnet import __version__
from hhmnet.commands.terminal import Parser, console, print_json, table

PURPOSES = {
    "tensorboard": "training curves in TensorBoard",
    "pose": "joints from video, for prepare videos, predict, live and serve",
    "ray": "prepare on a cluster",
    "video": "ImageNet weights that a fresh video network begins with",
    "export": "ONNX files: export, and predict FILE.onnx",
    "serve": "the page in the browser and the HTTP API",
    "docs": "make docs",
    "dev": "make test",
}
"""Optional parts of the package, and what each is for."""


class Part(NamedTuple):
    """A package that is wanted: in which versions, in which it is there or None, and why that doesn't do or ""."""

    name: str
    wanted: str
    found: str | None
    problem: str


def main(words: list[str]) -> int:
    """Run the command; 0 if all that is always needed is there, else 2."""
    parser = Parser("hhmnet doctor", "Say what is installed, on what machine, and what is missing for what.")
    parser.add_argument("--json", action="store_true", help="print it as JSON on standard output")
    options = parser.parse_args(words)
    needed, optional = wanted_parts()
    versions = {"hhmnet": __version__, "python": platform.python_version(), "system": platform.platform()}
    document = {
        "versions": versions,
        "machine": machine(),
        "needed": [part._asdict() for part in needed],
        "optional": {
            extra: {"for": PURPOSES.get(extra, ""), "missing": [part.name for part in parts if part.problem]}
            for extra, parts in optional.items()
        },
        "networks": networks(),
    }
    broken = [part for part in needed if part.problem]
    if options.json:
        print_json(document)
    else:
        show(document, broken)
    return 2 if broken else 0


def wanted_parts() -> tuple[list[Part], dict[str, list[Part]]]:
    """The packages that are always needed, and those of each optional part, as the package's metadata names them."""
    wanted = [Requirement(text) for text in metadata.requires("hhmnet") or []]

    def parts_of(extra: str) -> list[Part]:
        return [
            examine(part) for part in wanted if part.marker is None or part.marker.evaluate({"extra": extra})
        ]

    needed = parts_of("")
    extras = metadata.metadata("hhmnet").get_all("Provides-Extra") or []
    optional = {name: parts_of(name) for name in extras if name != "all"}
    return needed, {name: [part for part in parts if part not in needed] for name, parts in optional.items()}


def examine(requirement: Requirement) -> Part:
    """Whether a package is there, in a version that does."""
    name, wanted = requirement.name, str(requirement.specifier)
    try:
        found = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Part(name, wanted, None, "isn't installed")
    # A local build, such as 2.13.0+cpu, and a release candidate count as what they are called.
    fits = requirement.specifier.contains(found, prereleases=True)
    return Part(name, wanted, found, "" if fits else f"is {found}, wanted is {wanted}")


def machine() -> dict[str, Any]:
    """Processor, memory and GPUs, as torch sees them; what is wrong with torch where it can't be imported."""
    try:
        torch = importlib.import_module("torch")
        from hhmnet.prepare.workers import cores
        from hhmnet.training.logs import device_name
    except Exception as error:  # a broken build fails in many ways, and this command is for finding out
        return {"cores": os.cpu_count(), "gpus": [], "torch": f"can't be imported: {error}"}
    gpus = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return {
        "cores": cores(),
        "torch": torch.__version__,
        "processor": device_name(torch.device("cpu")),
        "threads": torch.get_num_threads(),
        "cuda": torch.version.cuda,
        "gpus": [{"name": gpu.name, "memory_gib": round(gpu.total_memory / 2**30, 1)} for gpu in gpus],
    }


def networks() -> dict[str, Any]:
    """Which of the networks for joints from video lie in the cache, and where that is."""
    from hhmnet.pose.networks import NETWORKS, cache_folder

    return {
        "folder": str(cache_folder()),
        "cached": [name for name, one in NETWORKS.items() if one.is_cached],
        "missing": [name for name, one in NETWORKS.items() if not one.is_cached],
    }


def show(document: dict[str, Any], broken: list[Part]) -> None:
    """The same for people."""
    out, facts, versions = console(stderr=False), document["machine"], document["versions"]
    gpus = [f"{gpu['name']}, {gpu['memory_gib']} GiB" for gpu in facts["gpus"]]
    none = "none that torch sees" if facts.get("cuda") else "none: torch is built for the CPU"
    rows = {
        "hhmnet": versions["hhmnet"],
        "Python": f"{versions['python']}, {versions['system']}",
        "torch": facts["torch"],
        "processor": f"{facts.get('processor', '')}, {facts['cores']} cores",
        "threads": f"{facts.get('threads', '?')} of torch; OMP_NUM_THREADS or --run.threads sets them",
        "GPU": "; ".join(gpus) or none,
        "cache": document["networks"]["folder"],
    }
    view = table("this machine", "", "")
    for row in rows.items():
        view.add_row(*row)
    out.print(view)
    parts = table("optional parts", "part", "for", "")
    for extra, part in document["optional"].items():
        missing = part["missing"]
        state = f"pip install 'hhmnet[{extra}]' (lacks {', '.join(missing)})" if missing else "there"
        parts.add_row(extra, part["for"], state)
    lacking = document["networks"]["missing"]
    fetch = f"python -m hhmnet.pose fetch (lacks {', '.join(lacking)})" if lacking else "there"
    parts.add_row("networks", "joints from video without the internet", fetch)
    out.print(parts)
    for part in broken:
        out.print(f"{part.name} {part.problem}: pip install '{part.name}{part.wanted}'", soft_wrap=True)
    if not broken:
        out.print("All that is always needed is there.")

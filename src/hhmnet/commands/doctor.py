"""``hhmnet doctor``: what this installation can do, on what, and what to install for the rest."""

from __future__ import annotations

import importlib
import os
import platform
from importlib import metadata
from typing import Any

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

Part = dict[str, Any]
"""A package's ``name``, the versions that are ``wanted``, the one ``found`` or None, and a ``problem`` or ""."""


def main(words: list[str]) -> int:
    """Run the command; 0 if all that is always needed is there, else 2."""
    parser = Parser("hhmnet doctor", "Say what is installed, on what machine, and what is missing for what.")
    parser.add_shared("json")
    options = parser.parse_args(words)
    needed = _parts_of("")
    extras = [name for name in metadata.metadata("hhmnet").get_all("Provides-Extra") or [] if name != "all"]
    missing = {
        extra: [part["name"] for part in _parts_of(extra) if part["problem"] and part not in needed]
        for extra in extras
    }
    document = {
        "versions": {
            "hhmnet": __version__,
            "python": platform.python_version(),
            "system": platform.platform(),
        },
        "machine": _machine(),
        "needed": needed,
        "optional": {
            extra: {"for": PURPOSES.get(extra, ""), "missing": names} for extra, names in missing.items()
        },
        "networks": _networks(),
    }
    broken = [part for part in needed if part["problem"]]
    if options.json:
        print_json(document)
    else:
        _show(document, broken)
    return 2 if broken else 0


def _parts_of(extra: str) -> list[Part]:
    """The packages that are needed always, and those of an optional part, as the package's metadata names them."""
    wanted = [Requirement(text) for text in metadata.requires("hhmnet") or []]
    return [
        _examine(part) for part in wanted if part.marker is None or part.marker.evaluate({"extra": extra})
    ]


def _examine(requirement: Requirement) -> Part:
    """Whether a package is there, in a version that does."""
    name, wanted = requirement.name, str(requirement.specifier)
    try:
        found, problem = metadata.version(name), ""
    except metadata.PackageNotFoundError:
        found, problem = None, "isn't installed"
    # A local build, such as 2.13.0+cpu, and a release candidate count as what they are called.
    if found is not None and not requirement.specifier.contains(found, prereleases=True):
        problem = f"is {found}, wanted is {wanted}"
    return {"name": name, "wanted": wanted, "found": found, "problem": problem}


def _machine() -> dict[str, Any]:
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


def _networks() -> dict[str, Any]:
    """Which of the networks for joints from video lie in the cache, and where that is."""
    from hhmnet.pose.networks import NETWORKS, cache_folder

    return {
        "folder": str(cache_folder()),
        "cached": [name for name, one in NETWORKS.items() if one.is_cached],
        "missing": [name for name, one in NETWORKS.items() if not one.is_cached],
    }


def _show(document: dict[str, Any], broken: list[Part]) -> None:
    """The same for people."""
    out, facts, versions = console(stderr=False), document["machine"], document["versions"]
    gpus = [f"{gpu['name']}, {gpu['memory_gib']} GiB" for gpu in facts["gpus"]]
    none = "none that torch sees" if facts.get("cuda") else "none: torch is built for the CPU"
    rows = (
        ("hhmnet", versions["hhmnet"]),
        ("Python", f"{versions['python']}, {versions['system']}"),
        ("torch", facts["torch"]),
        ("processor", f"{facts.get('processor', '')}, {facts['cores']} cores"),
        ("threads", f"{facts.get('threads', '?')} of torch; OMP_NUM_THREADS or --run.threads sets them"),
        ("GPU", "; ".join(gpus) or none),
        ("cache", document["networks"]["folder"]),
    )
    out.print(table("this machine", "", "", rows=rows))
    parts = table("optional parts", "part", "for", "")
    for extra, part in document["optional"].items():
        lacking = ", ".join(part["missing"])
        parts.add_row(
            extra, part["for"], f"pip install 'hhmnet[{extra}]' (lacks {lacking})" if lacking else "there"
        )
    lacking = ", ".join(document["networks"]["missing"])
    fetch = f"python -m hhmnet.pose fetch (lacks {lacking})" if lacking else "there"
    parts.add_row("networks", "joints from video without the internet", fetch)
    out.print(parts)
    for part in broken:
        out.print(
            f"{part['name']} {part['problem']}: pip install '{part['name']}{part['wanted']}'", soft_wrap=True
        )
    if not broken:
        out.print("All that is always needed is there.")

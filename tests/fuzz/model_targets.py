"""Models, checkpoints and exported files as targets."""

from __future__ import annotations

import dataclasses
import json
import math
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from hunt import Target
from noise import damaged, damaged_document

import made_models
from hhmnet.data.crop_cache import SUFFIX, holdings, read_crops, write_crops
from hhmnet.data.roi import RoiConfig, empty_crops
from hhmnet.data.transform import SkeletonBatch
from hhmnet.models.pretrained import ActionModel, from_pretrained
from hhmnet.sample import Sample
from hhmnet.training import checkpoint

if TYPE_CHECKING:
    from targets import World


def model_targets(world: World) -> list[Target]:
    """Folders of models, checkpoints, ONNX files."""
    found = [
        Target("model", _model(world), ("config.json", "model.safetensors")),
        Target("checkpoint", _checkpoint(), (checkpoint.FILE,)),
        Target("crops", _crops(), ("clip",)),
    ]
    try:
        import made_exports

        _, content = made_exports.exported("skeletons")
    except BaseException as error:  # pytest's Skipped is no Exception
        if type(error).__name__ != "Skipped":
            raise
        return found
    return [*found, Target("onnx", _onnx(content), ("model.onnx",))]


def damaged_weights(rng: random.Random, whole: bytes) -> bytes:
    """A safetensors file with damage anywhere, or a header that fits its length and says something else."""
    if rng.random() < 0.5:
        return damaged(rng, whole)
    (length,) = struct.unpack("<Q", whole[:8])
    header = json.loads(whole[8 : 8 + length])
    text = json.dumps(damaged_document(rng, header)).encode()
    if rng.random() < 0.3:
        text = damaged(rng, text, text=True)
    return struct.pack("<Q", len(text)) + text + whole[8 + length :]


def _model(world: World) -> Callable[[random.Random, Path], None]:
    folders = [world.run]
    for name, made in (("several", made_models.skeleton_model()), ("video", made_models.video_model())):
        made.save_pretrained(world.run.parent / f"fuzz-{name}")
        folders.append(world.run.parent / f"fuzz-{name}")

    def attempt(rng: random.Random, folder: Path) -> None:
        source = rng.choice(folders)
        for name in ("config.json", "model.safetensors"):
            shutil.copyfile(source / name, folder / name)
        config, weights = folder / "config.json", folder / "model.safetensors"
        if rng.random() < 0.6:
            document = damaged_document(rng, json.loads(config.read_text()))
            config.write_text(json.dumps(document))
        elif rng.random() < 0.5:
            config.write_bytes(damaged(rng, config.read_bytes(), text=True))
        else:
            weights.write_bytes(damaged_weights(rng, weights.read_bytes()))
        _answer(from_pretrained(folder))

    return attempt


def _answer(model: ActionModel) -> None:
    """A model that was loaded must answer."""
    layout, frames = model.spec.layout, 5
    shape = (frames, model.spec.data.persons, layout.num_joints, layout.dims)
    joints = torch.linspace(-1, 1, math.prod(shape)).reshape(shape)
    with torch.inference_mode():
        logits = model(SkeletonBatch(joints, None, torch.tensor([frames])))
    assert logits.shape == (1, len(model.spec.class_names))


def _checkpoint() -> Callable[[random.Random, Path], None]:
    def parts() -> tuple[torch.nn.Module, torch.nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
        average = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
        optimizer = torch.optim.AdamW(network.parameters())
        network(torch.ones(2, 3)).sum().backward()
        optimizer.step()
        return network, average, optimizer

    def attempt(rng: random.Random, folder: Path) -> None:
        file = folder / checkpoint.FILE
        checkpoint.save(folder, checkpoint.Progress(3, 1.5, json.dumps({"optim": {"lr": 1}})), *parts())
        file.write_bytes(damaged_weights(rng, file.read_bytes()))
        progress = checkpoint.load(folder, *parts())
        checkpoint.differing_fields(progress.config, "{}")

    return attempt


def _crops() -> Callable[[random.Random, Path], None]:
    config = RoiConfig(instants=3, cell=9, scene=11, scene_instants=2)
    facts = {"store": "a", "settings": json.dumps(dataclasses.asdict(config))}

    def attempt(rng: random.Random, folder: Path) -> None:
        file = folder / "ab" / f"clip{SUFFIX}"
        file.parent.mkdir()
        write_crops(file, empty_crops(config), facts)
        file.write_bytes(damaged_weights(rng, file.read_bytes()))
        found, damaged_files = holdings(folder)
        assert len(found) + damaged_files == 1
        read_crops(file)

    return attempt


def _onnx(content: bytes) -> Callable[[random.Random, Path], None]:
    import onnx

    from hhmnet.predict.onnx_engine import METADATA, OnnxEngine
    from hhmnet.predict.recognizer import Recognizer

    whole = onnx.load_from_string(content)
    (place,) = (i for i, entry in enumerate(whole.metadata_props) if entry.key == METADATA)
    notes = json.loads(whole.metadata_props[place].value)
    joints = np.linspace(-1, 1, 2 * 4 * 20 * 3, dtype=np.float32).reshape(2, 4, 20, 3)
    sample = Sample("clip", -1, joints, np.ones((2, 4), bool), np.arange(4, dtype=np.int32))

    def attempt(rng: random.Random, folder: Path) -> None:
        file = folder / "model.onnx"
        if rng.random() < 0.4:
            model = onnx.ModelProto.FromString(content)
            model.metadata_props[place].value = json.dumps(damaged_document(rng, notes))
            file.write_bytes(model.SerializeToString())
        else:
            file.write_bytes(damaged(rng, content))
        Recognizer(OnnxEngine(file, threads=1)).predict(sample)

    return attempt

"""Everything that reads what comes from outside: one table of targets, each makes an input and has it read."""

from __future__ import annotations

import contextlib
import io
import json
import random
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from command_lines import attempt_command
from hunt import Attempt
from noise import damaged, damaged_document, damaged_json, damaged_weights
from reader_targets import TABLE as READERS
from reader_targets import Read, World

import made_exports
import made_models
from hhmnet.cli import COMMANDS
from hhmnet.commands.configuration import read_config
from hhmnet.data.crop_cache import read_crops, write_crops
from hhmnet.data.roi import RoiConfig, empty_crops
from hhmnet.data.transform import SkeletonBatch
from hhmnet.evaluation.scores import Scores
from hhmnet.models.pretrained import from_pretrained
from hhmnet.sample import Sample
from hhmnet.serving.answers import check_video
from hhmnet.serving.limits import Limits, Refused
from hhmnet.serving.uploads import ending
from hhmnet.store import SAMPLES_FILE, Store
from hhmnet.training import checkpoint
from hhmnet.video import open_video

RECIPES = sorted((Path(__file__).parents[2] / "configs").rglob("*.yaml"))[:4]


@cache
def _store_parts(store: Path) -> tuple[bytes, pa.RecordBatch, bytes, Any]:
    with pa.ipc.open_file(store / SAMPLES_FILE) as reader:
        record, ((key, facts),) = reader.get_batch(0).slice(0, 2), reader.schema.metadata.items()
    return (store / SAMPLES_FILE).read_bytes(), record, key, json.loads(facts)


def _store(world: World, rng: random.Random, folder: Path) -> None:
    whole, record, key, facts = _store_parts(world.store)
    columns, names, kind = list(record.columns), record.schema.names, rng.random()
    metadata = json.dumps(facts).encode()
    if kind < 0.3:
        metadata = damaged_json(rng, facts, 0.7).replace(b"\0", b"")
    elif kind < 0.5:
        column, values = rng.choice(
            (
                ("persons", (0, 1, -1, 2**31 - 1, -(2**31), 7, None)),
                ("length", (0, 1, -1, 2**31 - 1, -(2**31), 7, None)),
                (
                    rng.choice(("sample_id", "video", "subject", "split")),
                    ("", "../x", "\0", "x" * 3000, "a b"),
                ),
                (rng.choice(names), (None,)),
            )
        )
        kind_of = record.schema.field(column).type
        columns[names.index(column)] = pa.array(rng.choices(values, k=record.num_rows), kind_of)
    schema, handle = record.schema.with_metadata({key: metadata}), io.BytesIO()
    with pa.ipc.new_file(handle, schema) as writer:
        writer.write_batch(pa.record_batch(columns, schema=schema))
    small = handle.getvalue()
    content = small if kind < 0.5 else damaged(rng, rng.choice((small, small, whole)), (small, whole))
    (folder / "store").mkdir()
    (folder / "store" / SAMPLES_FILE).write_bytes(content)
    store = Store(folder / "store")
    assert len(store.sample_ids) == len(store.labels) == len(store)
    for i in range(min(len(store), 3)):
        sample = store.sample(i)
        assert sample.joints.shape[2:] == (store.layout.num_joints, store.layout.dims)


FLAGS = b"--optim.lr 1e-3 --model.widths [16,16] --data.frames 8 --fold 1 --relabel {} --run.seed=3"


def _configuration(world: World, rng: random.Random, folder: Path) -> None:
    whole = rng.choice([world.recipe, world.run / "config.yaml", *RECIPES]).read_bytes()
    (folder / "recipe.yaml").write_bytes(damaged(rng, whole, text=True))
    flags = damaged(rng, FLAGS, text=True).decode(errors="ignore").replace("\0", "").split()[:9]
    read_config(folder / "recipe.yaml", flags if rng.random() < 0.3 else ())


def _scores(world: World, rng: random.Random, folder: Path) -> None:
    file = folder / "scores.parquet"
    Scores(np.array(["a", "b"]), np.array([0, -1]), np.ones((2, 2), np.float32), ("nod", "wave")).save(file)
    if rng.random() < 0.4:
        table = pq.read_table(file)
        columns, heads = list(table.columns), list(table.column_names)
        numbers = [[1, 2], [None, 1], [1e300, float("nan")]]
        others = [["x", "y"], [[1], [2]], [{"a": 1}, {"a": 2}], [b"\xff", b""]]
        columns[rng.randrange(4)] = pa.array(rng.choice([*numbers, *others]))
        if rng.random() < 0.3:
            heads[rng.randrange(4)] = rng.choice(("nod", "", "label", "\0"))
        pq.write_table(pa.table(columns, heads), file)
    else:
        file.write_bytes(damaged(rng, file.read_bytes()))
    scores = Scores.load(file)
    assert scores.logits.shape == (len(scores.sample_ids), len(scores.class_names))


@cache
def _model_files(run: Path) -> list[tuple[bytes, bytes]]:
    folders = [run, run.parent / "fuzz-several", run.parent / "fuzz-video"]
    made_models.skeleton_model().save_pretrained(folders[1])
    made_models.video_model().save_pretrained(folders[2])
    return [((one / "config.json").read_bytes(), (one / "model.safetensors").read_bytes()) for one in folders]


def _model(world: World, rng: random.Random, folder: Path) -> None:
    config, weights = rng.choice(_model_files(world.run))
    if rng.random() < 0.8:
        config = damaged_json(rng, json.loads(config), 0.75)
    else:
        weights = damaged_weights(rng, weights)
    (folder / "config.json").write_bytes(config)
    (folder / "model.safetensors").write_bytes(weights)
    model = from_pretrained(folder)  # what was loaded must answer
    layout = model.spec.layout
    joints = torch.ones(5, model.spec.data.persons, layout.num_joints, layout.dims)
    with torch.inference_mode():
        logits = model(SkeletonBatch(joints, None, torch.tensor([5])))
    assert logits.shape == (1, len(model.spec.class_names))


def _checkpoint(world: World, rng: random.Random, folder: Path) -> None:
    def parts() -> tuple[dict[str, torch.nn.Module], torch.optim.Optimizer]:
        network, average = (torch.nn.Linear(3, 4) for _ in range(2))
        optimizer = torch.optim.AdamW(network.parameters())
        network(torch.ones(2, 3)).sum().backward()
        optimizer.step()
        return {"network": network, "ema": average}, optimizer

    file = folder / checkpoint.FILE
    torch.manual_seed(0)
    checkpoint.save(folder, checkpoint.Progress(3, 1.5, json.dumps({"optim": {"lr": 1}})), *parts())
    file.write_bytes(damaged_weights(rng, file.read_bytes()))
    progress = checkpoint.load(folder, *parts())
    checkpoint.differing_fields(progress.config, "{}")


def _crops(world: World, rng: random.Random, folder: Path) -> None:
    file = folder / "clip.safetensors"
    config = RoiConfig(instants=3, cell=9, scene=11, scene_instants=2)
    write_crops(file, empty_crops(config), {"problem": ""})
    file.write_bytes(damaged_weights(rng, file.read_bytes()))
    read_crops(file)


def _onnx(world: World, rng: random.Random, folder: Path) -> None:
    import onnx

    from hhmnet.predict.engines import METADATA, OnnxEngine
    from hhmnet.predict.recognizer import Recognizer

    _, content = made_exports.exported("skeletons")
    if rng.random() < 0.4:
        model = onnx.ModelProto.FromString(content)
        (entry,) = (entry for entry in model.metadata_props if entry.key == METADATA)
        entry.value = json.dumps(damaged_document(rng, json.loads(entry.value)))
        content = model.SerializeToString()
    else:
        content = damaged(rng, content)
    (folder / "model.onnx").write_bytes(content)
    joints = np.linspace(-1, 1, 2 * 4 * 20 * 3, dtype=np.float32).reshape(2, 4, 20, 3)
    sample = Sample("clip", -1, joints, np.ones((2, 4), bool), np.arange(4, dtype=np.int32))
    Recognizer(OnnxEngine(folder / "model.onnx", threads=1)).predict(sample)


def _damaged_video(world: World, rng: random.Random) -> tuple[str, bytes]:
    file = rng.choice(world.videos)
    return file.suffix, damaged(rng, file.read_bytes(), [one.read_bytes() for one in world.videos])


def _video(world: World, rng: random.Random, folder: Path) -> None:
    suffix, content = _damaged_video(world, rng)
    (folder / f"clip{suffix}").write_bytes(content)
    with open_video(folder / f"clip{suffix}", errors=rng.choice(("raise", "stop"))) as video:
        count, times = len(video), video.times
        assert 1 <= count == len(times)
        assert np.isfinite(times).all()
        assert video.fps >= 0
        wanted = rng.randrange(count)
        for index, image in video:
            assert image.shape == (video.height, video.width, 3)
            if index > 60:
                break
        video.frame(wanted)


def _upload(world: World, rng: random.Random, folder: Path) -> None:
    """What a server looks at before it decodes."""
    _, content = _damaged_video(world, rng)
    if (suffix := ending(content[:4096])) is not None:
        (folder / f"upload{suffix}").write_bytes(content)
        with contextlib.suppress(Refused):
            check_video(folder / f"upload{suffix}", "clip", Limits(resolution=640, video_seconds=10))


TABLE: dict[str, tuple[Read, tuple[str, ...]]] = {
    **READERS,
    "store": (_store, ("store",)),
    "configuration": (_configuration, ()),
    "scores": (_scores, ("scores.parquet",)),
    "model": (_model, ("config.json", "model.safetensors")),
    "checkpoint": (_checkpoint, (checkpoint.FILE,)),
    "crops": (_crops, ("clip",)),
    "onnx": (_onnx, ("model.onnx",)),
    "video": (_video, ("clip.",)),
    "upload": (_upload, ()),
    **{f"hhmnet_{name}": (partial(attempt_command, name), ()) for name in (*COMMANDS, "nothing")},
}
"""By name: what is tried, and words of which one stands in every refusal."""


def attempt_of(name: str, world: World) -> Attempt:
    """The target of a name."""
    return partial(TABLE[name][0], world)

"""Everything that reads what comes from outside: one table of files to damage, and what reads them.

The files are whole, or odd in a way that damage wouldn't find.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
from collections import Counter
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from command_lines import attempt_command
from skeleton_files import (
    CLASSES,
    CLIPS,
    LAYOUT,
    NTU,
    PAIRING,
    POSES,
    Files,
    annotations,
    clip_file,
    labels,
    mats,
    written,
)

import made_clips
import made_exports
import made_models
import made_ntu
import made_poses
from hhmnet.cli import COMMANDS
from hhmnet.commands.configuration import read_config
from hhmnet.data.crop_cache import read_crops, write_crops
from hhmnet.data.roi import RoiConfig, empty_crops
from hhmnet.data.transform import SkeletonBatch
from hhmnet.evaluation.scores import Scores
from hhmnet.models.pretrained import from_pretrained
from hhmnet.readers import get_reader, reader_class
from hhmnet.readers.arrays import ArrayConfig
from hhmnet.readers.formats import read_skeleton
from hhmnet.readers.nw_ucla import CLASSES_FILE
from hhmnet.sample import Sample
from hhmnet.serving import Limits, Refused
from hhmnet.serving.answers import check_video
from hhmnet.serving.uploads import ending
from hhmnet.skeleton import KINECT20, load_layout
from hhmnet.store import SAMPLES_FILE, Store
from hhmnet.training import checkpoint
from hhmnet.video import open_video
from made_noise import damaged_document, damaged_file


class World(NamedTuple):
    """Whole things to damage: a store, a finished run folder of one stream, its recipe, a clip's file, small videos."""

    store: Path
    run: Path
    recipe: Path
    clip: Path
    videos: tuple[Path, ...]


class Target(NamedTuple):
    """What is damaged, and what reads it."""

    make: Callable[[World, random.Random], Files]
    read: Callable[[Path], object]  # in the folder where the files are
    words: tuple[str, ...] = ()  # one of them stands in every refusal, so that a user knows what it is about
    hurt: tuple[str, ...] = ("",)  # ends of the names of those files that are damaged


def attempt(target: Target, world: World, rng: random.Random, folder: Path) -> None:
    """Damage one of a target's files, and have all read."""
    files = target.make(world, rng)
    hurt = rng.choice([name for name in files if name.endswith(target.hurt)])
    if rng.random() < 0.85:
        files[hurt] = damaged_file(rng, hurt, files[hurt])
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    target.read(folder)


def read_all(name: str, folder: Path, file: str = "", **fields: Any) -> None:
    """What ``hhmnet prepare`` does with a source; raises the first refusal of a clip. Paths of ``fields`` lie in the
    folder.
    """
    if name == "folder" and not (folder / "labels.csv").exists():
        (clip,) = folder.iterdir()
        (folder / "labels.csv").write_text(f"path,label\n{clip.name},wave\n")
    chosen = {key: folder / value if isinstance(value, Path) else value for key, value in fields.items()}
    reader = get_reader(name, folder / file, reader_class(name).config_class(**chosen))
    for line in reader.describe():
        assert line.strip(), "a line of the description is empty"
    for item in reader.items():
        assert np.isfinite(reader.read(item, Counter()).joints).all()


def chosen(files: dict[str, list[bytes]]) -> Callable[[World, random.Random], Files]:
    """Some files, of one content among several each."""
    return lambda world, rng: {name: rng.choice(contents) for name, contents in files.items()}


def one_of(*writes: Callable[[Path], Any]) -> Callable[[World, random.Random], Files]:
    """What one of several writes into a folder."""
    return lambda world, rng: dict(written(rng.choice(writes)))


def _read_skeleton(folder: Path) -> None:
    (file,) = folder.iterdir()
    found, fields = read_skeleton(file, KINECT20, ArrayConfig(), None, Counter())
    Sample("clip", -1, **fields)
    assert fields["joints"].shape[2:] == (found.num_joints, found.dims)


def _read_layout(folder: Path) -> None:
    layout = load_layout(folder / "skeleton.yaml")
    assert layout.hops.shape == (layout.num_joints, layout.num_joints)


ODD_COLUMNS = {
    **dict.fromkeys(("persons", "length"), (0, -1, 2**31 - 1, -(2**31), 7, None)),
    **dict.fromkeys(("sample_id", "video", "subject", "split"), ("", "../x", "\0", "x" * 3000, "a b", None)),
    **dict.fromkeys(("joints", "present", "label"), (None,)),
}
ODD_SCORES: tuple[list[Any], ...] = (
    *([1, 2], [None, 1], [1e300, float("nan")], ["x", "y"]),
    *([[1], [2]], [{"a": 1}, {"a": 2}], [b"\xff", b""]),
)
FLAGS = b"--optim.lr 1e-3 --model.widths [16,16] --data.frames 8 --fold 1 --relabel {} --run.seed=3"
_ALL = sorted((Path(__file__).parents[2] / "configs").rglob("*.yaml"))
RECIPES = [file for file in _ALL if "relabel" not in file.read_text()][:4]  # that names a file beside it


@cache
def _store_parts(store: Path) -> tuple[pa.RecordBatch, bytes, Any]:
    with pa.ipc.open_file(store / SAMPLES_FILE) as reader:
        record, ((key, facts),) = reader.get_batch(0).slice(0, 2), reader.schema.metadata.items()
    return record, key, json.loads(facts)


def _store(world: World, rng: random.Random) -> Files:
    record, key, facts = _store_parts(world.store)
    columns, handle, kind = list(record.columns), io.BytesIO(), rng.random()
    if kind < 0.4:
        facts = damaged_document(rng, facts)
    elif kind < 0.7:
        column = rng.choice(list(ODD_COLUMNS))
        values = rng.choices(ODD_COLUMNS[column], k=record.num_rows)
        columns[record.schema.names.index(column)] = pa.array(values, record.schema.field(column).type)
    schema = record.schema.with_metadata({key: json.dumps(facts).encode()})
    with pa.ipc.new_file(handle, schema) as writer:
        writer.write_batch(pa.record_batch(columns, schema=schema))
    return {f"store/{SAMPLES_FILE}": handle.getvalue()}


def _read_store(folder: Path) -> None:
    store = Store(folder / "store")
    assert len(store.sample_ids) == len(store.labels) == len(store)
    for i in range(min(len(store), 3)):
        assert store.sample(i).joints.shape[2:] == (store.layout.num_joints, store.layout.dims)


def _scores(world: World, rng: random.Random) -> Files:
    columns: list[Any] = [["a", "b"], [0, -1], [1.0, 1.0], [1.0, 1.0]]
    heads, handle = ["sample_id", "label", "nod", "wave"], io.BytesIO()
    if rng.random() < 0.5:
        columns[rng.randrange(4)] = rng.choice(ODD_SCORES)
        heads[rng.randrange(4)] = rng.choice(("nod", "", "label", "\0"))
    pq.write_table(pa.table(list(map(pa.array, columns)), heads), handle)
    return {"scores.parquet": handle.getvalue()}


def _read_scores(folder: Path) -> None:
    scores = Scores.load(folder / "scores.parquet")
    assert scores.logits.shape == (len(scores.sample_ids), len(scores.class_names))


def _configuration(world: World, rng: random.Random) -> Files:
    recipe = rng.choice([world.recipe, world.run / "config.yaml", *RECIPES]).read_bytes()
    return {"recipe.yaml": recipe, "flags.txt": FLAGS if rng.random() < 0.3 else b""}


def _read_configuration(folder: Path) -> None:
    flags = (folder / "flags.txt").read_text(errors="ignore").replace("\0", "").split()[:9]
    read_config(folder / "recipe.yaml", flags)


@cache
def _saved(kind: str) -> Files:
    make = made_models.video_model if kind == "video" else made_models.skeleton_model
    files = written(make().save_pretrained)
    return {name: files[name] for name in ("config.json", "model.safetensors")}


def _read_model(folder: Path) -> None:
    model = from_pretrained(folder)  # what was loaded must answer
    layout = model.spec.layout
    joints = torch.ones(5, model.spec.data.persons, layout.num_joints, layout.dims)
    with torch.inference_mode():
        logits = model(SkeletonBatch(joints, None, torch.tensor([5])))
    assert logits.shape == (1, len(model.spec.class_names))


def _training() -> tuple[dict[str, torch.nn.Module], torch.optim.Optimizer]:
    network, average = (torch.nn.Linear(3, 4) for _ in range(2))
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    return {"network": network, "ema": average}, optimizer


def _save_checkpoint(folder: Path) -> None:
    torch.manual_seed(0)
    progress = checkpoint.Progress(3, 1.5, json.dumps({"optim": {"lr": 1}}))
    checkpoint.save(folder, progress, *_training())


def _read_checkpoint(folder: Path) -> None:
    progress = checkpoint.load(folder, *_training())
    checkpoint.differing_fields(progress.config, "{}")


def _save_crops(folder: Path) -> None:
    crops = empty_crops(RoiConfig(instants=3, cell=9, scene=11, scene_instants=2))
    write_crops(folder / "clip.safetensors", crops)


def _onnx(world: World, rng: random.Random) -> Files:
    import onnx

    from hhmnet.predict.engines import METADATA

    _, content = made_exports.exported("skeletons")
    if rng.random() < 0.5:
        model = onnx.ModelProto.FromString(content)
        (entry,) = (entry for entry in model.metadata_props if entry.key == METADATA)
        entry.value = json.dumps(damaged_document(rng, json.loads(entry.value)))
        content = model.SerializeToString()
    return {"model.onnx": content}


def _read_onnx(folder: Path) -> None:
    from hhmnet.predict.engines import OnnxEngine
    from hhmnet.predict.recognizer import Recognizer

    joints = np.linspace(-1, 1, 2 * 4 * 20 * 3, dtype=np.float32).reshape(2, 4, 20, 3)
    sample = Sample("clip", -1, joints, np.ones((2, 4), bool), np.arange(4, dtype=np.int32))
    Recognizer(OnnxEngine(folder / "model.onnx", threads=1)).predict(sample)


def _video(world: World, rng: random.Random) -> Files:
    file = rng.choice(world.videos)
    return {f"clip{file.suffix}": file.read_bytes()}


def _read_video(folder: Path) -> None:
    (file,) = folder.iterdir()
    with open_video(file) as video:
        count = len(video)
        assert 1 <= count == len(video.times)
        assert np.isfinite(video.times).all()
        assert video.fps >= 0
        for index, image in video:
            assert image.shape == (video.height, video.width, 3)
            if index > 60:
                break
        video.frame(count // 2)


def _read_upload(folder: Path) -> None:
    """What a server looks at before it decodes."""
    (file,) = folder.iterdir()
    if (suffix := ending(file.read_bytes()[:4096])) is not None:
        file = file.rename(folder / f"upload{suffix}")
        with contextlib.suppress(Refused):
            check_video(file, "clip", Limits(resolution=640, video_seconds=10))


ARRAY_SETS = (made_poses.write_ctr_gcn, made_poses.write_st_gcn, made_poses.write_h36m)
NW_UCLA = {f"{made_clips.NAME}.json": CLIPS}
TARGETS = {
    "nw_ucla": Target(chosen(NW_UCLA | {CLASSES_FILE: [CLASSES]}), partial(read_all, "nw_ucla")),
    "nw_ucla_pairing": Target(
        chosen(NW_UCLA | {"pairing.csv": [PAIRING]}),
        partial(read_all, "nw_ucla", videos=Path(), pairing=Path("pairing.csv")),
        *(("pairing.csv",), (".csv",)),
    ),
    "ntu": Target(chosen({f"{made_ntu.NAME}.skeleton": NTU}), partial(read_all, "ntu60")),
    "pyskl": Target(chosen({"all.pkl": list(annotations())}), partial(read_all, "pyskl", file="all.pkl")),
    "folder": Target(lambda world, rng: clip_file(rng), partial(read_all, "folder")),
    "labels": Target(
        lambda *_: labels(), partial(read_all, "folder", layout="kinect20"), ("labels.csv",), (".csv",)
    ),
    "utd_mhad": Target(chosen({"a1_s1_t1_skeleton.mat": [*mats()]}), partial(read_all, "utd_mhad")),
    "skeleton_file": Target(lambda world, rng: clip_file(rng), _read_skeleton),
    "poses": Target(chosen({"a.json": POSES}), partial(read_all, "folder")),
    "openpose": Target(
        one_of(lambda there: made_poses.write_openpose(there / "a")), partial(read_all, "folder")
    ),
    "msr_action3d": Target(one_of(made_poses.write_msr), partial(read_all, "msr_action3d")),
    "array_sets": Target(one_of(*ARRAY_SETS), partial(read_all, "arrays")),
    "layout": Target(chosen({"skeleton.yaml": [LAYOUT]}), _read_layout, ("skeleton.yaml",)),
    "store": Target(_store, _read_store, ("store",)),
    "configuration": Target(_configuration, _read_configuration),
    "scores": Target(_scores, _read_scores, ("scores.parquet",)),
    "model": Target(
        lambda world, rng: dict(_saved(rng.choice(("skeleton", "video")))),
        _read_model,
        ("config.json", "model.safetensors"),
    ),
    "checkpoint": Target(one_of(_save_checkpoint), _read_checkpoint, (checkpoint.FILE,)),
    "crops": Target(one_of(_save_crops), lambda folder: read_crops(folder / "clip.safetensors"), ("clip",)),
    "onnx": Target(_onnx, _read_onnx, ("model.onnx",)),
    "video": Target(_video, _read_video, ("clip.",)),
    "upload": Target(_video, _read_upload),
}
TABLE: dict[str, tuple[Callable[[World, random.Random, Path], None], tuple[str, ...]]] = {
    **{name: (partial(attempt, target), target.words) for name, target in TARGETS.items()},
    **{f"hhmnet_{name}": (partial(attempt_command, name), ()) for name in (*COMMANDS, "nothing")},
}
"""By name: what is tried, and words of which one stands in every refusal."""

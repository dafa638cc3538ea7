"""Everything that reads what comes from outside: one table of files to damage, and what reads them."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import pickle
import random
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from command_lines import attempt_command
from noise import damaged_document, damaged_file

import made_annotations
import made_clips
import made_exports
import made_mat
import made_models
import made_ntu
import made_poses
from hhmnet.cli import COMMANDS
from hhmnet.commands.configuration import read_config
from hhmnet.data.crop_cache import read_crops, write_crops
from hhmnet.data.roi import RoiConfig, empty_crops
from hhmnet.data.transform import SkeletonBatch
from hhmnet.evaluation.scores import Scores
from hhmnet.layout_files import load_layout
from hhmnet.models.pretrained import from_pretrained
from hhmnet.readers import ReaderConfig, get_reader
from hhmnet.readers.arrays import ArrayConfig
from hhmnet.readers.formats import FolderConfig, read_skeleton
from hhmnet.readers.nw_ucla import CLASSES_FILE, NWUCLAConfig
from hhmnet.sample import Sample
from hhmnet.serving.answers import check_video
from hhmnet.serving.limits import Limits, Refused
from hhmnet.serving.uploads import ending
from hhmnet.skeleton import KINECT20
from hhmnet.store import SAMPLES_FILE, Store
from hhmnet.training import checkpoint
from hhmnet.video import open_video


class World(NamedTuple):
    """Whole things to damage: a store, a finished run folder of one stream, its recipe, a clip's file, small videos."""

    store: Path
    run: Path
    recipe: Path
    clip: Path
    videos: tuple[Path, ...]


Files = dict[str, bytes]


class Target(NamedTuple):
    """What is damaged, and what reads it.

    Attributes:
        make: gives the files by name, whole, or odd in a way that damage wouldn't find.
        read: reads them in the folder where they are.
        words: one of them stands in every refusal, so that a user knows what it is about.
        hurt: ends of the names of those files that are damaged.
    """

    make: Callable[[World, random.Random], Files]
    read: Callable[[Path], object]
    words: tuple[str, ...] = ()
    hurt: tuple[str, ...] = ("",)


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


def read_all(name: str, config: Callable[[Path], ReaderConfig | None], file: str, folder: Path) -> None:
    """What ``hhmnet prepare`` does with a source; raises the first refusal of a clip."""
    reader = get_reader(name, folder / file, config(folder))
    for line in reader.describe():
        assert line.strip(), "a line of the description is empty"
    for item in reader.items():
        assert np.isfinite(reader.read(item, Counter()).joints).all()


def reader(
    name: str, config: Callable[[Path], ReaderConfig | None] = lambda folder: None, file: str = ""
) -> Callable[[Path], None]:
    """What reads a folder, or a file in it, as a source of clips."""
    return partial(read_all, name, config, file)


def chosen(files: dict[str, list[bytes]]) -> Callable[[World, random.Random], Files]:
    """Some files, of one content among several each."""
    return lambda world, rng: {name: rng.choice(contents) for name, contents in files.items()}


@cache
def written(write: Callable[[Path], Any]) -> Files:
    """What something writes into a folder."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        files = [file for file in Path(folder).rglob("*") if file.is_file()]
        return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def one_of(*writes: Callable[[Path], Any]) -> Callable[[World, random.Random], Files]:
    """What one of several writes into a folder."""
    return lambda world, rng: dict(written(rng.choice(writes)))


CLIPS = [json.dumps(made_clips.clip(frames=frames)).encode() for frames in (1, 3)]
CLASSES = json.dumps({"classes": [{"id": n, "name": f"c{n}"} for n in range(12)]}).encode()
PAIRING = f"name,aligned,late\n{made_clips.NAME},1,2\n".encode()
TWO_BODIES = (made_ntu.Body(), made_ntu.Body(made_ntu.ID + 1, range(1, 4)))
NTU = [made_ntu.skeleton(TWO_BODIES[:1], frames=3), made_ntu.skeleton(TWO_BODIES, frames=5, end="\n")]
JOINTS = {"d_skel": np.full((20, 3, 2), 0.5)}
MATS = [made_mat.mat(JOINTS, order=order, compress=compress) for order in "<>" for compress in (False, True)]
LAYOUT = b"""name: mine
joints: [hip, neck, head, left_hand, right_hand]
edges: [[neck, hip], [head, neck], [left_hand, neck], [right_hand, neck]]
mirror: [[left_hand, right_hand]]
parts: {head: [head], left_hand: [left_hand], right_hand: [right_hand], left_foot: [], right_foot: [0]}
dims: 3
"""
FLAGS = b"--optim.lr 1e-3 --model.widths [16,16] --data.frames 8 --fold 1 --relabel {} --run.seed=3"
RECIPES = sorted((Path(__file__).parents[2] / "configs").rglob("*.yaml"))[:4]


def _annotations() -> Iterator[bytes]:
    """Pickles of pyskl's kind: whole ones, and such with odd values in them."""
    whole = [made_annotations.hrnet(2), [made_annotations.annotation("a", 0, joints=25, dims=3)]]
    for content in whole:
        yield from (pickle.dumps(content, protocol) for protocol in (0, 2, 4, 5))
    values = [None, -1, 10**30, 1e400, "x", "é\ud800", b"x", [], {}, {1}, np.float64("nan")]
    values += [np.zeros(shape, kind) for shape in ((), (1, 2, 17, 0)) for kind in ("f2", "O", "U3")]
    clip = whole[0]["annotations"][0]
    for key in [*clip, "other"]:
        for value in values:
            yield pickle.dumps([clip | {key: value}], 4)
    for split in (None, [], {"x": 1}, {1: ["a"]}, {"a_train": [1, None]}, {"a_train": {"b": 1}}):
        yield pickle.dumps(whole[0] | {"split": split}, 2)


def _array(rng: random.Random, array: np.ndarray) -> bytes:
    """An array's file, often of odd numbers, or of another type or shape."""
    value = rng.choice((np.nan, np.inf, -1, 0, 1e30, 1e308, 2**31, -(2**40)))
    with np.errstate(all="ignore"):
        match rng.randrange(8):
            case 0:
                array = np.full(array.shape, value, float)
            case 1:
                array = np.where(np.arange(array.size).reshape(array.shape) % 7 == 3, value, array)
            case 2:
                array = array.astype(rng.choice(["f8", "i8", "u1", "f2", "c8", "U40", "?", ">f4"]))
            case 3:
                array = rng.choice((array[..., :0], array[None]))
    handle = io.BytesIO()
    np.save(handle, array)
    return handle.getvalue()


def _clip(world: World, rng: random.Random) -> Files:
    """A clip in one of the forms that ``folder`` and ``predict`` read."""
    joints = np.random.default_rng(0).normal(size=(1, 3, 20, 3)).astype("f4")
    arrays = {"joints": joints, "confidence": joints[..., 0], "pixels": joints[..., :2]}
    arrays |= {"present": np.ones((1, 3), bool), "frame_index": np.arange(3)}
    table, packed = io.StringIO(), io.BytesIO()
    heads = ["frame", *(f"{name}_{axis}" for name in KINECT20.joints for axis in "xyz")]
    csv.writer(table).writerows([heads, *([frame, *["0.5"] * 60] for frame in range(2))])
    with zipfile.ZipFile(packed, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name in arrays:
            if name == "joints" or rng.random() < 0.4:
                archive.writestr(f"{name}.npy", _array(rng, arrays[name]))
    poses = [json.dumps(make()).encode() for make, _ in made_poses.JSON_FORMS.values()]
    ours = json.dumps({"joints": np.full((2, 20, 3), 0.5).tolist(), "frame_index": [0, 1]}).encode()
    forms = {
        "a.npz": packed.getvalue(),
        "a.npy": _array(rng, joints),
        "a.csv": table.getvalue().encode(),
        "a.json": rng.choice([ours, *poses, *CLIPS]),
        "a.skeleton": rng.choice(NTU),
        "a01_s01_e01_skeleton3d.txt": b"0.5 1.5 3.0 1.0\n"
        * 40,  # MSR Action3D and UTKinect go by their names
        "joints_s01_e01.txt": b"".join(b"%d%s\n" % (frame, b" 0.5" * 60) for frame in range(3)),
    }
    name = rng.choice(list(forms))
    return {name: forms[name]}


def _labelled(world: World, rng: random.Random) -> Files:
    files = _clip(world, rng)
    return files | {"labels.csv": f"path,label\n{next(iter(files))},wave\n".encode()}


def _poses(world: World, rng: random.Random) -> Files:
    make, _ = rng.choice(list(made_poses.JSON_FORMS.values()))
    return {"a.json": json.dumps(make()).encode(), "labels.csv": b"path,label\na.json,wave\n"}


def _openpose(world: World, rng: random.Random) -> Files:
    return {f"a/{name}": content for name, content in written(made_poses.write_openpose).items()} | {
        "labels.csv": b"path,label\na,wave\n"
    }


def _labels(world: World, rng: random.Random) -> Files:
    rows = "".join(f"a{n or ''}.npy,{n % 2},s{n},1,2,train\n" for n in range(4))
    table = f"path,label,subject,camera,setup,split\n{rows}"
    return {"a.npy": _array(random.Random(2), np.full((2, 20, 3), 0.5)), "labels.csv": table.encode()}


def _read_skeleton(folder: Path) -> None:
    (file,) = folder.iterdir()
    found, fields = read_skeleton(file, KINECT20, ArrayConfig(), None, Counter())
    Sample("clip", -1, **fields)
    assert fields["joints"].shape[2:] == (found.num_joints, found.dims)


def _read_layout(folder: Path) -> None:
    layout = load_layout(folder / "skeleton.yaml")
    assert layout.hops.shape == (layout.num_joints, layout.num_joints)
    assert layout.limbs.shape == (4, layout.num_joints)


@cache
def _store_parts(store: Path) -> tuple[pa.RecordBatch, bytes, Any]:
    with pa.ipc.open_file(store / SAMPLES_FILE) as reader:
        record, ((key, facts),) = reader.get_batch(0).slice(0, 2), reader.schema.metadata.items()
    return record, key, json.loads(facts)


ODD_COLUMNS = {
    **dict.fromkeys(("persons", "length"), (0, -1, 2**31 - 1, -(2**31), 7, None)),
    **dict.fromkeys(("sample_id", "video", "subject", "split"), ("", "../x", "\0", "x" * 3000, "a b", None)),
    **dict.fromkeys(("joints", "present", "label"), (None,)),
}


def _store(world: World, rng: random.Random) -> Files:
    record, key, facts = _store_parts(world.store)
    columns, handle, kind = list(record.columns), io.BytesIO(), rng.random()
    if kind < 0.4:
        facts = damaged_document(rng, facts)
    elif kind < 0.7:
        column = rng.choice(list(ODD_COLUMNS))
        kind_of = record.schema.field(column).type
        values = rng.choices(ODD_COLUMNS[column], k=record.num_rows)
        columns[record.schema.names.index(column)] = pa.array(values, kind_of)
    schema = record.schema.with_metadata({key: json.dumps(facts).encode()})
    with pa.ipc.new_file(handle, schema) as writer:
        writer.write_batch(pa.record_batch(columns, schema=schema))
    return {f"store/{SAMPLES_FILE}": handle.getvalue()}


def _read_store(folder: Path) -> None:
    store = Store(folder / "store")
    assert len(store.sample_ids) == len(store.labels) == len(store)
    for i in range(min(len(store), 3)):
        assert store.sample(i).joints.shape[2:] == (store.layout.num_joints, store.layout.dims)


def _configuration(world: World, rng: random.Random) -> Files:
    recipe = rng.choice([world.recipe, world.run / "config.yaml", *RECIPES]).read_bytes()
    return {"recipe.yaml": recipe, "flags.txt": FLAGS if rng.random() < 0.3 else b""}


def _read_configuration(folder: Path) -> None:
    flags = (folder / "flags.txt").read_text(errors="ignore").replace("\0", "").split()[:9]
    read_config(folder / "recipe.yaml", flags)


def _scores(world: World, rng: random.Random) -> Files:
    columns: list[Any] = [["a", "b"], [0, -1], [1.0, 1.0], [1.0, 1.0]]
    heads, handle = ["sample_id", "label", "nod", "wave"], io.BytesIO()
    if rng.random() < 0.5:
        odd = (
            [1, 2],
            [None, 1],
            [1e300, float("nan")],
            ["x", "y"],
            [[1], [2]],
            [{"a": 1}, {"a": 2}],
            [b"\xff", b""],
        )
        columns[rng.randrange(4)] = rng.choice(odd)
        heads[rng.randrange(4)] = rng.choice(("nod", "", "label", "\0"))
    pq.write_table(pa.table(list(map(pa.array, columns)), heads), handle)
    return {"scores.parquet": handle.getvalue()}


def _read_scores(folder: Path) -> None:
    scores = Scores.load(folder / "scores.parquet")
    assert scores.logits.shape == (len(scores.sample_ids), len(scores.class_names))


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
    write_crops(folder / "clip.safetensors", crops, {"problem": ""})


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
    with open_video(file, errors="raise" if file.stat().st_size % 2 else "stop") as video:
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


NW_UCLA = {f"{made_clips.NAME}.json": CLIPS}
TARGETS = {
    "nw_ucla": Target(chosen(NW_UCLA | {CLASSES_FILE: [CLASSES]}), reader("nw_ucla")),
    "nw_ucla_pairing": Target(
        chosen(NW_UCLA | {"pairing.csv": [PAIRING]}),
        reader("nw_ucla", lambda folder: NWUCLAConfig(videos=folder, pairing=folder / "pairing.csv")),
        ("pairing.csv",),
        hurt=(".csv",),
    ),
    "ntu": Target(chosen({f"{made_ntu.NAME}.skeleton": NTU}), reader("ntu60")),
    "pyskl": Target(chosen({"all.pkl": list(_annotations())}), reader("pyskl", file="all.pkl")),
    "folder": Target(_labelled, reader("folder"), hurt=("npz", "npy", "a.csv", "json", "skeleton", "txt")),
    "labels": Target(
        _labels, reader("folder", lambda folder: FolderConfig(layout="kinect20")), ("labels.csv",), (".csv",)
    ),
    "utd_mhad": Target(chosen({"a1_s1_t1_skeleton.mat": MATS}), reader("utd_mhad")),
    "skeleton_file": Target(_clip, _read_skeleton),
    "poses": Target(_poses, reader("folder"), hurt=(".json",)),
    "openpose": Target(_openpose, reader("folder"), hurt=(".json",)),
    "msr_action3d": Target(one_of(made_poses.write_msr), reader("msr_action3d")),
    "utkinect": Target(one_of(made_poses.write_utkinect), reader("utkinect")),
    "array_sets": Target(
        one_of(made_poses.write_ctr_gcn, made_poses.write_st_gcn, made_poses.write_h36m), reader("arrays")
    ),
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

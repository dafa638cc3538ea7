"""Everything that reads what comes from outside: one table of targets, each makes an input and has it read."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import json
import math
import pickle
import random
import zipfile
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
from hunt import Attempt
from noise import damaged, damaged_document, damaged_weights

import made_annotations
import made_clips
import made_exports
import made_mat
import made_models
import made_ntu
from hhmnet.cli import COMMANDS
from hhmnet.commands.configuration import read_config
from hhmnet.data.crop_cache import SUFFIX, holdings, read_crops, write_crops
from hhmnet.data.roi import RoiConfig, empty_crops
from hhmnet.data.transform import SkeletonBatch
from hhmnet.evaluation.scores import Scores
from hhmnet.layout_files import load_layout
from hhmnet.models.pretrained import from_pretrained
from hhmnet.predict.sources import read_skeleton
from hhmnet.readers import ReaderConfig, get_reader
from hhmnet.readers.folder import FolderConfig
from hhmnet.readers.nw_ucla import CLASSES_FILE, NWUCLAConfig
from hhmnet.sample import Sample
from hhmnet.serving.answers import check_video
from hhmnet.serving.limits import Limits, Refused
from hhmnet.serving.uploads import ending
from hhmnet.skeleton import KINECT20
from hhmnet.store import SAMPLES_FILE, Store
from hhmnet.training import checkpoint
from hhmnet.video import open_video

RECIPES = sorted((Path(__file__).parents[2] / "configs").rglob("*.yaml"))[:4]


class World(NamedTuple):
    """Whole things to damage.

    Attributes:
        raw: folder of NW-UCLA clips.
        store: a store.
        run: a finished run folder of one stream.
        recipe: its configuration.
        videos: small videos of several kinds.
    """

    raw: Path
    store: Path
    run: Path
    recipe: Path
    videos: tuple[Path, ...]

    @property
    def clip(self) -> Path:
        return next(self.raw.glob("a*.json"))


def _read_all(name: str, source: Path, config: ReaderConfig | None = None) -> None:
    """What ``hhmnet prepare`` does with a source; raises the first refusal of a clip."""
    reader = get_reader(name, source, config)
    for line in reader.describe():
        assert line.strip(), "a line of the description is empty"
    for item in reader.items():
        sample = reader.read(item, Counter())
        assert np.isfinite(sample.joints).all()


CLIPS = [json.dumps(made_clips.clip(frames=frames)).encode() for frames in (1, 3)]
CLASSES = json.dumps({"classes": [{"id": n, "name": f"c{n}"} for n in range(12)]}).encode()


def _nw_ucla(world: World, rng: random.Random, folder: Path) -> None:
    whole, table = rng.choice(CLIPS), CLASSES
    if rng.random() < 0.3:
        whole = json.dumps(damaged_document(rng, json.loads(whole))).encode()
    elif rng.random() < 0.8:
        whole = damaged(rng, whole, CLIPS, text=True)
    else:
        table = damaged(rng, table, text=True)
    (folder / f"{made_clips.NAME}.json").write_bytes(whole)
    if rng.random() < 0.5:
        (folder / CLASSES_FILE).write_bytes(table)
    _read_all("nw_ucla", folder)


def _pairing(world: World, rng: random.Random, folder: Path) -> None:
    (folder / f"{made_clips.NAME}.json").write_bytes(CLIPS[1])
    table = f"name,aligned,late\n{made_clips.NAME},1,2\n".encode()
    (folder / "pairing.csv").write_bytes(damaged(rng, table, text=True))
    _read_all("nw_ucla", folder, NWUCLAConfig(videos=folder, pairing=folder / "pairing.csv"))


NTU = [
    made_ntu.skeleton((made_ntu.Body(),), frames=3),
    made_ntu.skeleton((made_ntu.Body(), made_ntu.Body(made_ntu.ID + 1, range(1, 4))), frames=5, end="\n"),
]


def _ntu(world: World, rng: random.Random, folder: Path) -> None:
    made_ntu.put(folder, damaged(rng, rng.choice(NTU), NTU, text=True))
    _read_all("ntu60", folder)


ANNOTATIONS = [made_annotations.hrnet(2), [made_annotations.annotation("a", 0, joints=25, dims=3)]]
PICKLES = [pickle.dumps(content, protocol) for content in ANNOTATIONS for protocol in (0, 2, 4, 5)]


def _pyskl(world: World, rng: random.Random, folder: Path) -> None:
    whole = rng.choice(PICKLES)
    if rng.random() < 0.7:
        whole = damaged(rng, whole, PICKLES, text=rng.random() < 0.3)
    else:
        content: Any = pickle.loads(whole)  # our own, so that it can be changed
        clip = rng.choice(content["annotations"] if isinstance(content, dict) else content)
        values = [None, -1, 10**30, 1e400, "x", "é\ud800", b"x", [], {}, (1,), {1}, np.float64("nan")]
        shapes = ((), (0,), (1, 2, 17, 0), (3, 4, 17, 2))
        values += [np.zeros(shape, kind) for shape in shapes for kind in ("f2", "O", "U3")]
        clip[rng.choice([*clip, "other"])] = rng.choice(values)
        if isinstance(content, dict) and rng.random() < 0.4:
            content["split"] = rng.choice(
                [None, [], {"x": 1}, {1: ["a"]}, {"a_train": [1, None]}, {"a_train": {"b": 1}}]
            )
        whole = pickle.dumps(content, rng.choice((2, 4)))
    (folder / "all.pkl").write_bytes(whole)
    _read_all("pyskl", folder / "all.pkl")


def _arrays(rng: random.Random) -> dict[str, np.ndarray]:
    numbers, frames = np.random.default_rng(rng.randrange(5)), 3
    made = {
        "joints": numbers.normal(size=(1, frames, 20, 3)).astype(rng.choice(("f4", "f8", "f2"))),
        "confidence": np.ones((1, frames, 20)),
        "pixels": np.ones((1, frames, 20, 2)),
        "present": np.ones((1, frames), bool),
        "frame_index": np.arange(frames),
    }
    kept = {name: made[name] for name in made if name == "joints" or rng.random() < 0.4}
    for _ in range(rng.choice((0, 1, 2))):
        name = rng.choice(list(kept))
        value = rng.choice((np.nan, np.inf, -1, 0, 1e30, 1e308, 2**31, -(2**40)))
        array, kind = made[name], rng.randrange(5)
        with np.errstate(all="ignore"):
            if kind == 0:
                array = np.full(array.shape, value, float).astype(rng.choice(("f4", "f8", "i8", "u1", "f2")))
            elif kind == 1:
                array = array.astype(rng.choice(("c8", "U40", "?", "f8", ">f4", ">i2")))
            elif kind == 2:
                array = np.where(numbers.random(array.shape) < 0.1, value, array.astype(np.float64))
        kept[name] = array[..., :0] if kind == 3 else array[None] if kind == 4 else array
    return kept


def _npy(array: np.ndarray) -> bytes:
    handle = io.BytesIO()
    np.save(handle, array)
    return handle.getvalue()


def _clip_file(rng: random.Random) -> tuple[str, bytes]:
    """A damaged clip in one of the forms of the reader ``folder``: its ending and its content."""
    form, arrays = rng.choice((".npz", ".npy", ".json", ".csv")), _arrays(rng)
    if form == ".csv":
        person = ["person"] if rng.random() < 0.5 else []
        heads = ["frame", *person, *(f"{name}_{axis}" for name in KINECT20.joints for axis in "xyz")]
        table = io.StringIO()
        csv.writer(table).writerows([heads, *([f, *("a" for _ in person), *["0.5"] * 60] for f in range(2))])
        return form, damaged(rng, table.getvalue().encode(), text=True)
    if form == ".json":
        whole = {"joints": np.full((2, 20, 3), 0.5).tolist(), "frame_index": [0, 1]}
        if rng.random() < 0.5:
            return form, json.dumps(damaged_document(rng, whole)).encode()
        return form, damaged(rng, json.dumps(whole).encode(), text=True)
    if form == ".npy":
        content = _npy(arrays["joints"])
        return form, damaged(rng, content) if rng.random() < 0.8 else content
    handle = io.BytesIO()
    with zipfile.ZipFile(handle, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name, array in arrays.items():
            content = _npy(array)
            archive.writestr(f"{name}.npy", damaged(rng, content) if rng.random() < 0.4 else content)
        if rng.random() < 0.05 and "joints" not in arrays:
            archive.writestr("joints.npy", bytes(1 << 26))
    return form, damaged(rng, handle.getvalue()) if rng.random() < 0.5 else handle.getvalue()


def _folder(world: World, rng: random.Random, folder: Path) -> None:
    form, content = _clip_file(rng)
    (folder / f"a{form}").write_bytes(content)
    (folder / "labels.csv").write_text(f"path,label\na{form},wave\n")
    _read_all("folder", folder, FolderConfig(layout=rng.choice(("", "kinect20"))))


def _labels(world: World, rng: random.Random, folder: Path) -> None:
    (folder / "a.npy").write_bytes(_npy(np.full((2, 20, 3), 0.5)))
    rows = "".join(f"a{n or ''}.npy,{n % 2},s{n},1,2,train\n" for n in range(4))
    table = f"path,label,subject,camera,setup,split\n{rows}".encode()
    (folder / "labels.csv").write_bytes(damaged(rng, table, text=True))
    for line in get_reader("folder", folder, FolderConfig(layout="kinect20")).describe():
        assert line.strip()


MATS = [
    made_mat.mat({"d_skel": np.full((20, 3, 2), 0.5)}, order=order, compress=compress)
    for order in "<>"
    for compress in (False, True)
]


def _utd_mhad(world: World, rng: random.Random, folder: Path) -> None:
    (folder / "a1_s1_t1_skeleton.mat").write_bytes(damaged(rng, rng.choice(MATS), MATS))
    _read_all("utd_mhad", folder)


def _skeleton_file(world: World, rng: random.Random, folder: Path) -> None:
    form, content = _clip_file(rng)
    if rng.random() < 0.4:
        form, content = ".json", damaged(rng, rng.choice(CLIPS), text=True)
    elif rng.random() < 0.2:
        form, content = ".skeleton", damaged(rng, rng.choice(NTU), text=True)
    (folder / f"clip{form}").write_bytes(content)
    found, fields = read_skeleton(folder / f"clip{form}", KINECT20)
    Sample("clip", -1, **fields)
    assert fields["joints"].shape[2:] == (found.num_joints, found.dims)


LAYOUT = b"""name: mine
joints: [hip, neck, head, left_hand, right_hand]
edges: [[neck, hip], [head, neck], [left_hand, neck], [right_hand, neck]]
mirror: [[left_hand, right_hand]]
parts: {head: [head], left_hand: [left_hand], right_hand: [right_hand], left_foot: [], right_foot: [0]}
dims: 3
"""


def _layout(world: World, rng: random.Random, folder: Path) -> None:
    (folder / "skeleton.yaml").write_bytes(damaged(rng, LAYOUT, text=True))
    layout = load_layout(folder / "skeleton.yaml")
    assert layout.hops.shape == (layout.num_joints, layout.num_joints)
    assert layout.limbs.shape == (4, layout.num_joints)


@cache
def _store_parts(store: Path) -> tuple[bytes, pa.RecordBatch, bytes, Any]:
    with pa.ipc.open_file(store / SAMPLES_FILE) as reader:
        record, ((key, facts),) = reader.get_batch(0).slice(0, 2), reader.schema.metadata.items()
    return (store / SAMPLES_FILE).read_bytes(), record, key, json.loads(facts)


def _store(world: World, rng: random.Random, folder: Path) -> None:
    whole, record, key, facts = _store_parts(world.store)
    columns, names, kind = list(record.columns), record.schema.names, rng.random()
    metadata = json.dumps(facts).encode()
    if kind < 0.2:
        metadata = json.dumps(damaged_document(rng, facts)).encode()
    elif kind < 0.3:
        metadata = damaged(rng, metadata, text=True).replace(b"\0", b"")
    elif kind < 0.4:
        place = names.index(rng.choice(("persons", "length")))
        values = [rng.choice((0, 1, -1, 2**31 - 1, -(2**31), 7, None)) for _ in range(record.num_rows)]
        columns[place] = pa.array(values, record.schema.field(place).type)
    elif kind < 0.45:
        place = rng.randrange(len(columns))
        columns[place] = pa.array([None] * record.num_rows, record.schema.field(place).type)
    elif kind < 0.5:
        place = names.index(rng.choice(("sample_id", "video", "subject", "split")))
        texts = [rng.choice(("", "../x", "\0", "x" * 3000, "a b")) for _ in range(record.num_rows)]
        columns[place] = pa.array(texts, pa.string())
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
        store.layout.check(store.joints(i))


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
    folders = [run]
    for name, made in (("several", made_models.skeleton_model()), ("video", made_models.video_model())):
        folders.append(run.parent / f"fuzz-{name}")
        made.save_pretrained(folders[-1])
    return [
        tuple((one / name).read_bytes() for name in ("config.json", "model.safetensors")) for one in folders
    ]  # type: ignore[misc]


def _model(world: World, rng: random.Random, folder: Path) -> None:
    config, weights = rng.choice(_model_files(world.run))
    if rng.random() < 0.6:
        config = json.dumps(damaged_document(rng, json.loads(config))).encode()
    elif rng.random() < 0.5:
        config = damaged(rng, config, text=True)
    else:
        weights = damaged_weights(rng, weights)
    (folder / "config.json").write_bytes(config)
    (folder / "model.safetensors").write_bytes(weights)
    model, frames = from_pretrained(folder), 5  # what was loaded must answer
    layout = model.spec.layout
    shape = (frames, model.spec.data.persons, layout.num_joints, layout.dims)
    joints = torch.linspace(-1, 1, math.prod(shape)).reshape(shape)
    with torch.inference_mode():
        logits = model(SkeletonBatch(joints, None, torch.tensor([frames])))
    assert logits.shape == (1, len(model.spec.class_names))


def _checkpoint(world: World, rng: random.Random, folder: Path) -> None:
    def parts() -> tuple[dict[str, torch.nn.Module], torch.optim.Optimizer]:
        network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
        average = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
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
    config = RoiConfig(instants=3, cell=9, scene=11, scene_instants=2)
    file = folder / "ab" / f"clip{SUFFIX}"
    file.parent.mkdir()
    facts = {"store": "a", "settings": json.dumps(dataclasses.asdict(config))}
    write_crops(file, empty_crops(config), facts)
    file.write_bytes(damaged_weights(rng, file.read_bytes()))
    found, damaged_files = holdings(folder)
    assert len(found) + damaged_files == 1
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


Read = Callable[[World, random.Random, Path], None]
TABLE: dict[str, tuple[Read, tuple[str, ...]]] = {
    "nw_ucla": (_nw_ucla, ()),
    "nw_ucla_pairing": (_pairing, ("pairing.csv",)),
    "ntu": (_ntu, ()),
    "pyskl": (_pyskl, ()),
    "folder": (_folder, ()),
    "labels": (_labels, ("labels.csv",)),
    "utd_mhad": (_utd_mhad, ()),
    "skeleton_file": (_skeleton_file, ()),
    "layout": (_layout, ("skeleton.yaml",)),
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

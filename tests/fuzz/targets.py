"""Everything that reads what comes from outside, each as a target that makes an input and has it read."""

from __future__ import annotations

import csv
import io
import json
import pickle
import random
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hunt import Target
from noise import damaged, damaged_document

import made_annotations
import made_clips
import made_mat
import made_ntu
from hhmnet.commands.configuration import read_config
from hhmnet.evaluation.scores import Scores
from hhmnet.layout_files import load_layout
from hhmnet.predict.skeleton_files import read_skeleton
from hhmnet.readers import ReaderConfig, get_reader
from hhmnet.readers.folder import FolderConfig
from hhmnet.readers.nw_ucla import CLASSES_FILE, NWUCLAConfig
from hhmnet.sample import Sample
from hhmnet.skeleton import KINECT20
from hhmnet.store import SAMPLES_FILE, Store


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


def targets(world: World) -> list[Target]:
    """All of them, but for HTTP."""
    from command_targets import command_targets
    from model_targets import model_targets
    from video_targets import video_targets

    return [
        Target("nw_ucla", _nw_ucla),
        Target("nw_ucla_pairing", _pairing, ("pairing.csv",)),
        Target("ntu", _ntu),
        Target("pyskl", _pyskl),
        Target("folder", _folder),
        Target("labels", _labels, ("labels.csv",)),
        Target("utd_mhad", _utd_mhad),
        Target("skeleton_file", _skeleton_file(world)),
        Target("layout", _layout, ("skeleton.yaml",)),
        Target("store", _store(world), ("store",)),
        Target("configuration", _configuration(world)),
        Target("scores", _scores, ("scores.parquet",)),
        *model_targets(world),
        *video_targets(world),
        *command_targets(world),
    ]


def _read_all(name: str, source: Path, config: ReaderConfig | None = None) -> None:
    """What ``hhmnet prepare`` does with a source; raises the first refusal of a clip."""
    reader = get_reader(name, source, config)
    for line in reader.describe():
        assert line.strip(), "a line of the description is empty"
    for item in reader.items():
        sample = reader.read(item, Counter())
        assert np.isfinite(sample.joints).all()


CLIPS = [json.dumps(made_clips.clip(frames=frames)).encode() for frames in (1, 3)]


def _nw_ucla(rng: random.Random, folder: Path) -> None:
    whole, table = (
        rng.choice(CLIPS),
        json.dumps({"classes": [{"id": n, "name": f"c{n}"} for n in range(12)]}).encode(),
    )
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


def _pairing(rng: random.Random, folder: Path) -> None:
    (folder / f"{made_clips.NAME}.json").write_bytes(CLIPS[1])
    table = f"name,aligned,late\n{made_clips.NAME},1,2\n".encode()
    (folder / "pairing.csv").write_bytes(damaged(rng, table, text=True))
    _read_all("nw_ucla", folder, NWUCLAConfig(videos=folder, pairing=folder / "pairing.csv"))


NTU = [
    made_ntu.skeleton((made_ntu.Body(),), frames=3),
    made_ntu.skeleton((made_ntu.Body(), made_ntu.Body(made_ntu.ID + 1, range(1, 4))), frames=5, end="\n"),
]


def _ntu(rng: random.Random, folder: Path) -> None:
    made_ntu.put(folder, damaged(rng, rng.choice(NTU), NTU, text=True))
    _read_all("ntu60", folder)


ANNOTATIONS = [made_annotations.hrnet(2), [made_annotations.annotation("a", 0, joints=25, dims=3)]]
PICKLES = [pickle.dumps(content, protocol) for content in ANNOTATIONS for protocol in (0, 2, 4, 5)]


def _pyskl(rng: random.Random, folder: Path) -> None:
    if rng.random() < 0.3:
        content = pickle.dumps(_other_annotations(rng), rng.choice((2, 4)))
    else:
        whole = rng.choice(PICKLES)
        content = damaged(rng, whole, PICKLES, text=rng.random() < 0.3)
    (folder / "all.pkl").write_bytes(content)
    _read_all("pyskl", folder / "all.pkl")


def _other_annotations(rng: random.Random) -> Any:
    content: Any = pickle.loads(rng.choice(PICKLES))  # our own, so that it can be changed
    clips = content["annotations"] if isinstance(content, dict) else content
    clip, values = (
        rng.choice(clips),
        [None, -1, 10**30, 1e400, "x", "é\ud800", b"x", [], {}, (1,), {1}, np.float64("nan")],
    )
    values += [
        np.zeros(shape, kind)
        for shape in ((), (0,), (1, 2, 17, 0), (3, 4, 17, 2))
        for kind in ("f2", "O", "U3")
    ]
    clip[rng.choice([*clip, "other"])] = rng.choice(values)
    if isinstance(content, dict) and rng.random() < 0.4:
        content["split"] = rng.choice(
            [None, [], {"x": 1}, {1: ["a"]}, {"a_train": [1, None]}, {"a_train": {"b": 1}}]
        )
    return content


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
                array = np.full(array.shape, value, np.float64).astype(
                    rng.choice(("f4", "f8", "i8", "u1", "f2"))
                )
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


def _table(rng: random.Random, frames: int = 2) -> bytes:
    names = KINECT20.joints
    heads = [
        "frame",
        *(["person"] if rng.random() < 0.5 else []),
        *(f"{n}_{axis}" for n in names for axis in "xyz"),
    ]
    rows = [[str(f), *(["a"] if "person" in heads else []), *["0.5"] * 60] for f in range(frames)]
    handle = io.StringIO()
    csv.writer(handle).writerows([heads, *rows])
    return handle.getvalue().encode()


def _clip_file(rng: random.Random) -> tuple[str, bytes]:
    """A damaged clip in one of the forms of the reader ``folder``: its ending and its content."""
    form, arrays = rng.choice((".npz", ".npy", ".json", ".csv")), _arrays(rng)
    if form == ".csv":
        return form, damaged(rng, _table(rng), text=True)
    if form == ".json":
        whole = {"joints": np.full((2, 20, 3), 0.5).tolist(), "frame_index": [0, 1]}
        document = json.dumps(damaged_document(rng, whole)).encode()
        return form, document if rng.random() < 0.5 else damaged(rng, json.dumps(whole).encode(), text=True)
    if form == ".npy":
        whole = _npy(arrays["joints"])
        return form, damaged(rng, whole) if rng.random() < 0.8 else whole
    handle = io.BytesIO()
    with zipfile.ZipFile(handle, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name, array in arrays.items():
            content = _npy(array)
            archive.writestr(f"{name}.npy", damaged(rng, content) if rng.random() < 0.4 else content)
        if rng.random() < 0.05:
            archive.writestr("joints.npy", bytes(1 << 26))
    return form, damaged(rng, handle.getvalue()) if rng.random() < 0.5 else handle.getvalue()


def _folder(rng: random.Random, folder: Path) -> None:
    form, content = _clip_file(rng)
    (folder / f"a{form}").write_bytes(content)
    (folder / "labels.csv").write_text(f"path,label\na{form},wave\n")
    _read_all("folder", folder, FolderConfig(layout=rng.choice(("", "kinect20"))))


def _labels(rng: random.Random, folder: Path) -> None:
    (folder / "a.npy").write_bytes(_npy(np.full((2, 20, 3), 0.5)))
    table = "path,label,subject,camera,setup,split\n" + "".join(
        f"a{n}.npy,{n % 2},s{n},1,2,train\n" for n in range(4)
    )
    (folder / "labels.csv").write_bytes(damaged(rng, table.replace("a0", "a").encode(), text=True))
    reader = get_reader("folder", folder, FolderConfig(layout="kinect20"))
    for line in reader.describe():
        assert line.strip()


MATS = [
    made_mat.mat({"d_skel": np.full((20, 3, 2), 0.5)}, order=order, compress=compress)
    for order in "<>"
    for compress in (False, True)
]


def _utd_mhad(rng: random.Random, folder: Path) -> None:
    (folder / "a1_s1_t1_skeleton.mat").write_bytes(damaged(rng, rng.choice(MATS), MATS))
    _read_all("utd_mhad", folder)


def _skeleton_file(world: World) -> Callable[[random.Random, Path], None]:
    layout = KINECT20

    def attempt(rng: random.Random, folder: Path) -> None:
        form, content = _clip_file(rng)
        if rng.random() < 0.4:
            form, content = ".json", damaged(rng, rng.choice(CLIPS), text=True)
        elif rng.random() < 0.2:
            form, content = ".skeleton", damaged(rng, rng.choice(NTU), text=True)
        file = folder / f"clip{form}"
        file.write_bytes(content)
        found, fields = read_skeleton(file, layout)
        Sample("clip", -1, **fields)
        assert fields["joints"].shape[2:] == (found.num_joints, found.dims)

    return attempt


LAYOUT = b"""name: mine
joints: [hip, neck, head, left_hand, right_hand]
edges: [[neck, hip], [head, neck], [left_hand, neck], [right_hand, neck]]
mirror: [[left_hand, right_hand]]
parts: {head: [head], left_hand: [left_hand], right_hand: [right_hand], left_foot: [], right_foot: [0]}
dims: 3
"""


def _layout(rng: random.Random, folder: Path) -> None:
    (folder / "skeleton.yaml").write_bytes(damaged(rng, LAYOUT, text=True))
    layout = load_layout(folder / "skeleton.yaml")
    assert layout.hops.shape == (layout.num_joints, layout.num_joints)
    assert layout.limbs.shape == (4, layout.num_joints)


def _store(world: World) -> Callable[[random.Random, Path], None]:
    whole = (world.store / SAMPLES_FILE).read_bytes()
    with pa.ipc.open_file(world.store / SAMPLES_FILE) as reader:
        record = reader.get_batch(0).slice(0, 2)
        (key,) = reader.schema.metadata
        facts = json.loads(reader.schema.metadata[key])

    def small(facts: Any, changed: pa.RecordBatch) -> bytes:
        metadata = {key: facts if isinstance(facts, bytes) else json.dumps(facts).encode()}
        handle = io.BytesIO()
        with pa.ipc.new_file(handle, changed.schema.with_metadata(metadata)) as writer:
            writer.write_batch(
                pa.record_batch(changed.columns, schema=changed.schema.with_metadata(metadata))
            )
        return handle.getvalue()

    def other_columns(rng: random.Random) -> pa.RecordBatch:
        columns = list(record.columns)
        place = rng.randrange(len(columns))
        kind = rng.randrange(3)
        if kind == 0:
            values = [rng.choice((0, 1, -1, 2**31 - 1, -(2**31), 7, None)) for _ in range(record.num_rows)]
            place = record.schema.names.index(rng.choice(("persons", "length")))
            columns[place] = pa.array(values, record.schema.field(place).type)
        elif kind == 1:
            columns[place] = pa.array([None] * record.num_rows, record.schema.field(place).type)
        else:
            names = record.schema.names
            texts = [rng.choice(("", "../x", "\0", "x" * 3000, "a b")) for _ in range(record.num_rows)]
            place = names.index(rng.choice(("sample_id", "video", "subject", "split")))
            columns[place] = pa.array(texts, pa.string())
        return pa.record_batch(columns, schema=record.schema)

    plain = small(facts, record)

    def attempt(rng: random.Random, folder: Path) -> None:
        place = folder / "store"
        place.mkdir()
        kind = rng.random()
        if kind < 0.2:
            content = small(damaged_document(rng, facts), record)
        elif kind < 0.3:
            content = small(damaged(rng, json.dumps(facts).encode(), text=True).replace(b"\0", b""), record)
        elif kind < 0.5:
            content = small(facts, other_columns(rng))
        else:
            content = damaged(rng, rng.choice((plain, plain, whole)), (plain, whole))
        (place / SAMPLES_FILE).write_bytes(content)
        store = Store(place)
        assert len(store.sample_ids) == len(store.labels) == len(store)
        for i in range(min(len(store), 3)):
            sample = store.sample(i)
            assert sample.joints.shape[2:] == (store.layout.num_joints, store.layout.dims)
            store.layout.check(store.joints(i))

    return attempt


def _configuration(world: World) -> Callable[[random.Random, Path], None]:
    recipes = [world.recipe.read_bytes()]
    recipes += [
        file.read_bytes() for file in sorted((Path(__file__).parents[2] / "configs").rglob("*.yaml"))[:4]
    ]
    recipes.append((world.run / "config.yaml").read_bytes())
    words = [
        "--optim.lr",
        "1e-3",
        "--model.widths",
        "[16,16]",
        "--data.frames",
        "8",
        "--fold",
        "1",
        "--relabel",
        "{}",
        "--run.seed=3",
    ]

    def attempt(rng: random.Random, folder: Path) -> None:
        file = folder / "recipe.yaml"
        file.write_bytes(damaged(rng, rng.choice(recipes), text=True))
        flags: Sequence[str] = ()
        if rng.random() < 0.3:
            flags = (
                damaged(rng, " ".join(words).encode(), text=True)
                .decode(errors="ignore")
                .replace("\0", "")
                .split()[:9]
            )
        read_config(file, flags)

    return attempt


def _scores(rng: random.Random, folder: Path) -> None:
    file = folder / "scores.parquet"
    names = ("nod", "wave")
    Scores(np.array(["a", "b"]), np.array([0, -1]), np.ones((2, 2), np.float32), names).save(file)
    if rng.random() < 0.4:
        table = pq.read_table(file)
        columns, place = list(table.columns), rng.randrange(4)
        values = [
            ["x", "y"],
            [1, 2],
            [None, 1],
            [1e300, float("nan")],
            [[1], [2]],
            [{"a": 1}, {"a": 2}],
            [b"\xff", b""],
        ]
        columns[place] = pa.array(rng.choice(values))
        heads = list(table.column_names)
        if rng.random() < 0.3:
            heads[rng.randrange(4)] = rng.choice(("nod", "", "label", "\0"))
        pq.write_table(pa.table(columns, heads), file)
    else:
        file.write_bytes(damaged(rng, file.read_bytes()))
    scores = Scores.load(file)
    assert scores.logits.shape == (len(scores.sample_ids), len(scores.class_names))

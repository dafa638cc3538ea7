"""What reads raw files, tables and layouts: each target makes a damaged one and has it read."""

from __future__ import annotations

import csv
import io
import json
import pickle
import random
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from noise import damaged, damaged_json

import made_annotations
import made_clips
import made_mat
import made_ntu
import made_poses
from hhmnet.layout_files import load_layout
from hhmnet.readers import ReaderConfig, get_reader
from hhmnet.readers.arrays import ArrayConfig
from hhmnet.readers.folder import FolderConfig
from hhmnet.readers.formats import read_skeleton
from hhmnet.readers.nw_ucla import CLASSES_FILE, NWUCLAConfig
from hhmnet.sample import Sample
from hhmnet.skeleton import KINECT20


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


Read = Callable[[World, random.Random, Path], None]


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
    if rng.random() < 0.85:
        whole = damaged_json(rng, json.loads(whole), 0.35)
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
            splits = ({"x": 1}, {1: ["a"]}, {"a_train": [1, None]}, {"a_train": {"b": 1}})
            content["split"] = rng.choice([None, [], *splits])
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
    for name in rng.choices(list(kept), k=rng.choice((0, 1, 2))):
        value, array = rng.choice((np.nan, np.inf, -1, 0, 1e30, 1e308, 2**31, -(2**40))), made[name]
        kind = rng.choice(["f4", "f8", "i8", "u1", "f2", "c8", "U40", "?", ">f4", ">i2"])
        with np.errstate(all="ignore"):
            changes = (
                lambda array=array, value=value: np.full(array.shape, value, float),
                lambda array=array, value=value: np.where(numbers.random(array.shape) < 0.1, value, array),
                lambda array=array, kind=kind: array.astype(kind),
                lambda array=array: array[..., :0],
                lambda array=array: array[None],
            )
            kept[name] = rng.choice(changes)()
    return kept


def _npy(array: np.ndarray) -> bytes:
    handle = io.BytesIO()
    np.save(handle, array)
    return handle.getvalue()


POSES = [make() for make, _ in made_poses.JSON_FORMS.values()]
TEXTS = {
    "a01_s01_e01_skeleton3d.txt": b"0.5 1.5 3.0 1.0\n" * 40,
    "joints_s01_e01.txt": b"".join(b"%d%s\n" % (frame, b" 0.5" * 60) for frame in range(3)),
}
"""Of MSR Action3D and UTKinect, which are known by their names."""


def _clip_file(rng: random.Random) -> tuple[str, bytes]:
    """A damaged clip in one of the forms that ``folder`` and ``predict`` read: its name and its content."""
    form, arrays = rng.choice(("a.npz", "a.npy", "a.json", "a.csv", *TEXTS)), _arrays(rng)
    if form in TEXTS:
        return form, damaged(rng, TEXTS[form], text=True)
    if form == "a.csv":
        person = ["person"] if rng.random() < 0.5 else []
        heads = ["frame", *person, *(f"{name}_{axis}" for name in KINECT20.joints for axis in "xyz")]
        table = io.StringIO()
        csv.writer(table).writerows([heads, *([f, *("a" for _ in person), *["0.5"] * 60] for f in range(2))])
        return form, damaged(rng, table.getvalue().encode(), text=True)
    if form == "a.json":
        ours = {"joints": np.full((2, 20, 3), 0.5).tolist(), "frame_index": [0, 1]}
        return form, damaged_json(rng, rng.choice([ours, *POSES]))
    if form == "a.npy":
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
    name, content = _clip_file(rng)
    (folder / name).write_bytes(content)
    (folder / "labels.csv").write_text(f"path,label\n{name},wave\n")
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
    name, content = _clip_file(rng)
    if rng.random() < 0.2:
        name, content = rng.choice((("a.json", rng.choice(CLIPS)), ("a.skeleton", rng.choice(NTU))))
        content = damaged(rng, content, text=True)
    (folder / name).write_bytes(content)
    found, fields = read_skeleton(folder / name, KINECT20, ArrayConfig(), None, Counter())
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


def _poses(world: World, rng: random.Random, folder: Path) -> None:
    """JSON of pose estimators."""
    document = made_poses.JSON_FORMS[rng.choice(list(made_poses.JSON_FORMS))][0]()
    (folder / "a.json").write_bytes(damaged_json(rng, document))
    (folder / "labels.csv").write_text("path,label\na.json,wave\n")
    _read_all("folder", folder)


def _openpose(world: World, rng: random.Random, folder: Path) -> None:
    made_poses.write_openpose(folder / "a")
    frame = rng.choice(sorted((folder / "a").iterdir()))
    frame.write_bytes(damaged_json(rng, json.loads(frame.read_bytes())))
    (folder / "labels.csv").write_text("path,label\na,wave\n")
    _read_all("folder", folder)


def _kinect_text(world: World, rng: random.Random, folder: Path) -> None:
    reader = rng.choice(("msr_action3d", "utkinect"))
    write = made_poses.write_msr if reader == "msr_action3d" else made_poses.write_utkinect
    file = write(folder)
    if reader == "utkinect" and rng.random() < 0.4:
        file = folder / "actionLabel.txt"
    file.write_bytes(damaged(rng, file.read_bytes(), text=True))
    _read_all(reader, folder)


def _array_sets(world: World, rng: random.Random, folder: Path) -> None:
    file = rng.choice((made_poses.write_ctr_gcn, made_poses.write_st_gcn, made_poses.write_h36m))(folder)
    if file.suffix == ".npy" and rng.random() < 0.5:
        file = folder / "train_label.pkl"
    file.write_bytes(damaged(rng, file.read_bytes()))
    _read_all("arrays", folder)


TABLE: dict[str, tuple[Read, tuple[str, ...]]] = {
    "nw_ucla": (_nw_ucla, ()),
    "nw_ucla_pairing": (_pairing, ("pairing.csv",)),
    "ntu": (_ntu, ()),
    "pyskl": (_pyskl, ()),
    "folder": (_folder, ()),
    "labels": (_labels, ("labels.csv",)),
    "utd_mhad": (_utd_mhad, ()),
    "skeleton_file": (_skeleton_file, ()),
    "poses": (_poses, ()),
    "openpose": (_openpose, ()),
    "kinect_text": (_kinect_text, ()),
    "array_sets": (_array_sets, ()),
    "layout": (_layout, ("skeleton.yaml",)),
}
"""By name: what is tried, and words of which one stands in every refusal."""

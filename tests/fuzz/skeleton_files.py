"""Whole files of skeletons of many kinds, and such as are odd in ways that damage wouldn't find."""

from __future__ import annotations

import csv
import io
import json
import pickle
import random
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

import made_clips
import made_ntu
import made_poses
from hhmnet.skeleton import KINECT20
from made_annotations import annotation, hrnet

Files = dict[str, bytes]
"""Contents by name."""
CLASSES = json.dumps({"classes": [{"id": n, "name": f"c{n}"} for n in range(12)]}).encode()
CLIPS = [json.dumps(made_clips.clip(frames=frames)).encode() for frames in (1, 3)]
PAIRING = f"name,aligned,late\n{made_clips.NAME},1,2\n".encode()
TWO_BODIES = (made_ntu.Body(), made_ntu.Body(made_ntu.ID + 1, range(1, 4)))
NTU = [made_ntu.skeleton(TWO_BODIES[:1], frames=3), made_ntu.skeleton(TWO_BODIES, frames=5, end="\n")]
POSES = [json.dumps(make()).encode() for make, _ in made_poses.JSON_FORMS.values()]
LAYOUT = b"""name: mine
joints: [hip, neck, head, left_hand, right_hand]
edges: [[neck, hip], [head, neck], [left_hand, neck], [right_hand, neck]]
mirror: [[left_hand, right_hand]]
parts: {head: [head], left_hand: [left_hand], right_hand: [right_hand], left_foot: [], right_foot: [0]}
dims: 3
"""


def mats() -> Iterator[bytes]:
    for compress in (False, True):
        file = io.BytesIO()
        scipy.io.savemat(file, {"d_skel": np.full((20, 3, 2), 0.5)}, do_compression=compress)
        yield file.getvalue()


@cache
def written(write: Callable[[Path], Any]) -> Files:
    """What something writes into a folder."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        files = [file for file in Path(folder).rglob("*") if file.is_file()]
        return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def annotations() -> Iterator[bytes]:
    """Pickles of pyskl's kind: whole ones, and such with odd values in them."""
    for content in (hrnet(2), [annotation("a", 0, joints=25, dims=3)]):
        yield from (pickle.dumps(content, protocol) for protocol in (0, 2, 4, 5))
    values = [None, -1, 10**30, 1e400, "x", "é\ud800", b"x", [], {}, {1}, np.float64("nan")]
    values += [np.zeros(shape, kind) for shape in ((), (1, 2, 17, 0)) for kind in ("f2", "O", "U3")]
    clip = hrnet(2)["annotations"][0]
    for key in [*clip, "other"]:
        yield from (pickle.dumps([clip | {key: value}], 4) for value in values)
    for split in (None, [], {"x": 1}, {1: ["a"]}, {"a_train": [1, None]}, {"a_train": {"b": 1}}):
        yield pickle.dumps(hrnet(2) | {"split": split}, 2)


def array_file(rng: random.Random, array: np.ndarray) -> bytes:
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


def clip_file(rng: random.Random) -> Files:
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
                archive.writestr(f"{name}.npy", array_file(rng, arrays[name]))
    ours = json.dumps({"joints": np.full((2, 20, 3), 0.5).tolist(), "frame_index": [0, 1]}).encode()
    forms = {
        "a.npz": packed.getvalue(),
        "a.npy": array_file(rng, joints),
        "a.csv": table.getvalue().encode(),
        "a.json": rng.choice([ours, *POSES, *CLIPS]),
        "a.skeleton": rng.choice(NTU),
        "a01_s01_e01_skeleton3d.txt": b"0.5 1.5 3.0 1.0\n" * 40,  # goes by its name
    }
    name = rng.choice(list(forms))
    return {name: forms[name]}


def labels() -> Files:
    rows = "".join(f"a{n or ''}.npy,{n % 2},s{n},1,2,train\n" for n in range(4))
    table = f"path,label,subject,camera,setup,split\n{rows}"
    return {"a.npy": array_file(random.Random(2), np.full((2, 20, 3), 0.5)), "labels.csv": table.encode()}

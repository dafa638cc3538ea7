"""Data sets whose clips are rows of arrays: CTR-GCN's, ST-GCN's and 2s-AGCN's, VideoPose3D's.

==============  ======================================================================================================
file            source of what is known of it
==============  ======================================================================================================
``.npz``        data/ntu/seq_transformation.py of Uason-Chen/CTR-GCN: ``x_train``, ``y_train``, ``x_test``, ``y_test``;
                a row is T frames of 150 numbers, two persons' 25 joints in metres; labels are one-hot
``.npy``        tools/*_gendata.py of yysijie/st-gcn and data_gen/ of lshiwjx/2s-AGCN: ``(N, C, T, V, M)`` in
                ``train_data.npy`` or ``train_data_joint.npy``; names and labels in ``train_label.pkl``
``.npz``        data/prepare_data_h36m.py and DOCUMENTATION.md of facebookresearch/VideoPose3D: ``positions_3d``, by
                subject and action ``(T, 32 or 17, 3)`` metres with z up; ``positions_2d``, a list of cameras each
==============  ======================================================================================================
"""

from __future__ import annotations

import re
import shutil
import struct
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np

from hhmnet.conversion import convert
from hhmnet.readers import ReadError, SourceError
from hhmnet.readers.clip_files import RawClip, npy_header, numbers
from hhmnet.readers.labels import split_of
from hhmnet.readers.pyskl import ClipSet, Pyskl, SetClip
from hhmnet.readers.unpickling import StoredArray, load_plain
from hhmnet.skeleton import COCO17, H36M17

LARGEST_MEMBER = 2**31  # bytes that a compressed array may take when it is unpacked
_JOINTS_FILE = re.compile(r"(.*?)_?data(?:_joint)?\.npy", re.IGNORECASE)
_KINETICS_SIZE = np.array([340.0, 256.0])
# Human3.6M's joints of 32, and its subjects' parts, that VideoPose3D's run.py uses.
_H36M_KEPT = [0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27]
_H36M_PARTS = {f"S{number}": "test" if number in (9, 11) else "train" for number in (1, 5, 6, 7, 8, 9, 11)}

Found = Iterator[tuple[str, SetClip, str]]  # clips with their names and the part that each belongs to, or ""


class ArraySets(Pyskl):
    """Data sets as arrays, read as annotation files are. Splits: the parts that the file names, in Human3.6M the usual
    subjects; or else clips are held out.
    """

    name: ClassVar[str] = "arrays"
    title: ClassVar[str] = "arrays of CTR-GCN, ST-GCN, 2s-AGCN or VideoPose3D"
    citation: ClassVar[str] = "Y. Chen et al. Channel-wise Topology Refinement Graph Convolution. ICCV 2021."
    suffixes: ClassVar[tuple[str, ...]] = (".npz", ".npy")

    def _is_raw(self, path: PurePosixPath) -> bool:
        return path.suffix.lower() == ".npz" or _JOINTS_FILE.fullmatch(path.name) is not None

    def _read_file(self, file: Path) -> ClipSet:
        found = read_set(file)
        if found is None:
            raise SourceError(f"{file}: is none of the {self.title}")
        return found


def read_set(file: Path) -> ClipSet | None:
    """The clips of a file of arrays; None if it is no such file. Raises SourceError if it is one, but can't be used."""
    try:
        if file.suffix.lower() == ".npy":
            with open(file, "rb") as handle:
                shape, _, dtype = npy_header(handle)
            known = {"rows"} if len(shape) == 5 and dtype.kind in "iuf" else set()
        elif file.suffix.lower() == ".npz":
            with zipfile.ZipFile(file) as archive:
                known = {name.removesuffix(".npy") for name in archive.namelist()}
        else:
            return None
    except Exception:  # nearly anything, if the file is damaged; whoever reads it as a clip says so
        return None
    if not known & {"rows", "x_train", "x_test", "positions_3d", "positions_2d"}:
        return None
    try:
        found = ClipSet({}, {})
        for name, clip, part in _st_gcn(file) if "rows" in known else _in_archive(file):
            if name in found.clips or name.startswith("["):
                name = f"[{len(found.clips)}]"
            found.clips[name] = clip._replace(label=None if clip.label == -1 else clip.label)
            if part:
                found.parts[name] = [part]
        if not found.clips:
            raise ReadError("holds no clips")
        return found
    except ReadError as error:
        raise SourceError(f"{file}: {error}") from None
    except Exception as error:  # likewise
        raise SourceError(f"{file}: damaged ({error})") from None


def _in_archive(file: Path) -> Found:
    with zipfile.ZipFile(file) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        if members.keys() & {"x_train", "x_test"}:
            used = [name for name in members if name.startswith(("x_", "y_"))]
            return _ctr_gcn({name: _member(file, archive, members[name]) for name in used})
        metadata = _object(archive, members["metadata"]) if "metadata" in members else {}
        name = "positions_3d" if "positions_3d" in members else "positions_2d"
        return _videopose3d(_object(archive, members[name]), name == "positions_3d", metadata)


def _member(file: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    """An array of an archive: left in the file if it isn't compressed."""
    with archive.open(info) as member:
        shape, order, dtype = npy_header(member)
        if dtype.kind not in "biuf":
            raise ReadError(f"array '{info.filename}' must be numbers, is of type {dtype}")
        if info.compress_type != zipfile.ZIP_STORED:
            if info.file_size > LARGEST_MEMBER:
                raise ReadError(f"array '{info.filename}' is compressed; write it with numpy.savez")
            return np.frombuffer(member.read(), dtype).reshape(shape, order=order)  # type: ignore[call-overload]
        start = member.tell()
    with open(file, "rb") as handle:
        handle.seek(info.header_offset + 26)
        start += info.header_offset + 30 + sum(struct.unpack("<HH", handle.read(4)))
    return np.memmap(file, dtype, "r", start, shape, order)  # type: ignore[call-overload]


def _object(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Any:
    """What an array of one object holds; its arrays lie in an unpacked copy, which is gone when they are."""
    if info.file_size > LARGEST_MEMBER:
        raise ReadError(f"array '{info.filename}' takes {info.file_size:,} bytes")
    with tempfile.TemporaryFile() as copy, archive.open(info) as member:
        shutil.copyfileobj(member, copy)
        copy.seek(0)
        npy_header(copy)
        content = load_plain(copy)
    return content.load() if isinstance(content, StoredArray) else content


def _ctr_gcn(arrays: dict[str, np.ndarray]) -> Found:
    for part in ("train", "val", "test"):
        if (rows := arrays.get(f"x_{part}")) is None:
            continue
        if rows.ndim != 3 or rows.shape[2] not in (75, 150):
            raise ReadError(f"array 'x_{part}' must have the shape (N, T, 150), has {rows.shape}")
        labels = arrays.get(f"y_{part}", np.full(len(rows), -1))
        labels = labels.argmax(axis=1) if labels.ndim == 2 else labels
        if len(labels) != len(rows):
            raise ReadError(f"array 'y_{part}' has {len(labels)} labels for {len(rows)} clips")
        for row, label in enumerate(labels.tolist()):
            yield f"{part}-{row:06}", SetClip(label, partial(_ctr_gcn_clip, rows, row)), part


def _ctr_gcn_clip(rows: np.ndarray, row: int, axes: str) -> RawClip:
    joints = numbers("joints", rows[row])
    return _without_padding(joints.reshape(len(joints), -1, 25, 3).swapaxes(0, 1), "ntu25", "CTR-GCN")


def _st_gcn(file: Path) -> Found:
    """``(N, C, T, V, M)``, with names and labels beside it."""
    rows = np.lib.format.open_memmap(file, mode="r")
    named = _JOINTS_FILE.fullmatch(file.name)
    names, labels, part = [f"{file.stem}-{row:06}" for row in range(len(rows))], [-1] * len(rows), ""
    if named is not None:
        beside = file.with_name(f"{named[1]}_label.pkl".lstrip("_"))
        if beside.is_file():
            with open(beside, "rb") as handle:
                content = load_plain(handle)
            columns = [one.load().tolist() if isinstance(one, StoredArray) else one for one in content]
            fitting = [one for one in columns if isinstance(one, list) and len(one) == len(rows)]
            if not len(columns) == len(fitting) == 2:
                raise ReadError(f"{beside.name} must hold a list of {len(rows)} names and one of labels")
            names, labels = [str(name).removesuffix(".skeleton") for name in columns[0]], columns[1]
        with suppress(SourceError):
            part = split_of(named[1])
    for row, (name, label) in enumerate(zip(names, labels, strict=True)):
        yield name, SetClip(label, partial(_st_gcn_clip, rows, row)), part


def _st_gcn_clip(rows: np.ndarray, row: int, axes: str) -> RawClip:
    joints = numbers("joints", rows[row]).transpose(3, 1, 2, 0)  # C T V M → M T V C
    if joints.shape[2:] == (18, 3):  # Kinetics: -0.5 to 0.5 of the picture, and confidence
        missing = joints[..., 2] == 0
        points = (joints[..., :2] + 0.5) * _KINETICS_SIZE
        points[missing] = np.nan
        clip = _without_padding(np.where(missing.all(axis=2)[..., None, None], 0, points), "coco18", "ST-GCN")
        return clip._replace(confidence=joints[:, : clip.joints.shape[1], :, 2])
    if joints.shape[2:] == (25, 3):
        spines = joints[:, :, 1] - joints[:, :, 0]
        first = next(iter(spines[spines.any(axis=-1)]), np.zeros(3))
        if np.abs(first[:2]).max() < 1e-3 * abs(first[2]):  # 2s-AGCN turns the first spine to z
            joints = joints[..., [0, 2, 1]] * (1, 1, -1)
        return _without_padding(joints, "ntu25", "ST-GCN or 2s-AGCN")
    return _without_padding(joints, "", "ST-GCN or 2s-AGCN")


def _videopose3d(subjects: Any, in_space: bool, metadata: Any) -> Found:
    if not isinstance(subjects, dict) or not all(isinstance(actions, dict) for actions in subjects.values()):
        raise ReadError("must hold a dict of actions for each subject")
    named = {action for actions in subjects.values() for action in actions}
    stems = {action: re.sub(r" [0-9]+$", "", str(action)) for action in named}
    labels = {stem: label for label, stem in enumerate(sorted(set(stems.values())))}
    layout = metadata.get("layout_name") if isinstance(metadata, dict) else ""
    parts = _H36M_PARTS if subjects.keys() <= _H36M_PARTS.keys() else {}
    for subject, actions in subjects.items():
        for action, arrays in actions.items():
            stem = stems[action]
            for camera, array in enumerate(arrays if isinstance(arrays, list) else [arrays]):
                name = f"{subject}/{action}" + (f"/{camera}" if isinstance(arrays, list) else "")
                load = partial(_h36m_clip, array, in_space, layout)
                yield name, SetClip(labels[stem], load, stem), parts.get(subject, "")


def _h36m_clip(array: Any, in_space: bool, skeleton: Any, axes: str) -> RawClip:
    """A clip of Human3.6M, or of a video of one's own."""
    if not isinstance(array, StoredArray) or len(array.shape) != 3 or array.shape[2] != 2 + in_space:
        raise ReadError(f"must be an array of shape (T, V, {2 + in_space})")
    joints = numbers("joints", array.load())[None]
    joints = joints[:, :, _H36M_KEPT] if joints.shape[2] == 32 else joints
    layout = "h36m17" if joints.shape[2] == 17 else ""
    if in_space:
        joints = joints[..., [0, 2, 1]] * (1, 1, -1)  # z is up there
    confidence = None
    if layout and not in_space:
        layout = "coco17"
        if skeleton == "h36m":
            joints, confidence = convert(joints, H36M17, COCO17)
    notes = (f"VideoPose3D: read as {layout or 'an unknown skeleton'}",)
    return RawClip(joints, np.arange(joints.shape[1]), confidence, layout=layout, notes=notes)


def _without_padding(joints: np.ndarray, layout: str, form: str) -> RawClip:
    """A clip ``(M, T, V, C)`` without the zeros that fill its row up."""
    frames = np.flatnonzero(np.nan_to_num(joints).any(axis=(0, 2, 3)))
    joints = joints[:, : frames[-1] + 1 if len(frames) else 1]
    note = f"{form}: read as {layout}" if layout else f"{form}: an array of clips"
    return RawClip(joints, np.arange(joints.shape[1]), layout=layout, notes=(note,))

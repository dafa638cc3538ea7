"""Skeleton files of every form that the readers know, without a table of labels and whatever their name."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from hhmnet.conversion import convert
from hhmnet.readers import ReadError
from hhmnet.readers.clip_files import MAX_BYTES, SUFFIXES, read_clip
from hhmnet.readers.folder import clip_fields, fits, fitting_layouts
from hhmnet.readers.ntu import body_fields
from hhmnet.readers.ntu_bodies import BodyRules, persons
from hhmnet.readers.ntu_format import parse
from hhmnet.readers.nw_ucla import DepthVideos, NWUCLAConfig, joints_of, load_object
from hhmnet.sample import Sample
from hhmnet.skeleton import KINECT20, NTU25, SkeletonLayout

SKELETON_SUFFIXES = (".skeleton", *SUFFIXES)


def read_skeleton(
    path: Path, wanted: SkeletonLayout, units: str = "m", videos: Path | None = None
) -> tuple[SkeletonLayout, dict[str, Any]]:
    """The skeleton of a file, and a sample's fields that follow from it.

    Forms: NTU's ``.skeleton``, NW-UCLA's ``.json`` (an object with ``skeletons``), and what the reader ``folder``
    takes. One that doesn't name its skeleton has the wanted one, if the number of joints fits, or the known one with
    so many.

    Args:
        path: the file.
        wanted: the model's skeleton.
        units: of 3-D joints in the reader folder's forms: m, cm or mm.
        videos: folder of NW-UCLA's depth videos; their fields come too if the clip has one.

    Raises:
        ReadError: it isn't such a file, or its skeleton isn't known.
        SourceError: there is no such folder of videos.
        OSError: it can't be read.
    """
    notes = Counter[str]()
    if path.stat().st_size > MAX_BYTES:
        raise ReadError(f"is larger than {MAX_BYTES // 2**20} MiB, so it is no single clip")
    if path.suffix.lower() == ".skeleton":
        return NTU25, _ntu(path, notes)
    if path.suffix.lower() == ".json" and b'"skeletons"' in path.read_bytes():
        return KINECT20, _nw_ucla(path, videos, notes)
    raw = read_clip(path)
    known = [wanted] if fits(wanted, raw) else fitting_layouts(raw)
    if len(known) != 1:
        count, dims = raw.joints.shape[2:]
        raise ReadError(
            f"has {count} joints of {dims} coordinates; the model takes {wanted.name} with {wanted.num_joints} joints "
            f"of {wanted.dims}"
        )
    return known[0], clip_fields(raw, known[0], units, notes)


def _nw_ucla(path: Path, videos: Path | None, notes: Counter[str]) -> dict[str, Any]:
    joints, present = joints_of(load_object(path))
    fields = DepthVideos(NWUCLAConfig(videos=videos), [path.stem]).fields(path.stem, 0, joints, notes)
    frames = np.arange(len(joints), dtype=np.int32)
    return {"joints": joints[None], "present": present[None], "frame_index": frames, **fields}


def _ntu(path: Path, notes: Counter[str]) -> dict[str, Any]:
    skeletons = parse(path.read_bytes())
    bodies = persons(skeletons, BodyRules(), notes)
    if not bodies:
        raise ReadError("no frame has a body")
    frames = np.arange(skeletons.frames, dtype=np.int32)
    return {"frame_index": frames, **body_fields(skeletons, bodies, notes)}


def in_layout(sample: Sample, source: SkeletonLayout, target: SkeletonLayout) -> Sample:
    """A sample of one layout as one of another, with its pixels; itself where they are the same.

    Raises:
        LayoutError: there is no way from one to the other.
    """
    if source == target:
        return sample
    joints, confidence = convert(sample.joints, source, target, sample.confidence)
    confidence[~sample.present] = 0
    joints[~sample.present] = 0
    pixels = None
    if sample.pixels is not None and source.dims == target.dims == 3:
        pixels, _ = convert(sample.pixels, source, target, sample.confidence)
    return dataclasses.replace(sample, joints=joints, confidence=confidence, pixels=pixels)

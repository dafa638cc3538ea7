"""What a model file may ask for: checked before anything is built, so that no file takes all memory or time."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from hhmnet.fields import check_types, within
from hhmnet.models.spec import ModelSpec, PretrainedError

_MOST_PAIRS = 2**24
"""Pairs of joints in all frames of a clip: 26,843 frames of 25 joints. Attention takes memory by them."""
_MOST_PIXELS = 2**24
"""Pixels of a clip's grid and scenes; a hundred times the default."""
_MOST_PROJECTION = 2**14
_LARGEST = {"kernel": 999, "dilations": 999, "k1": 10_000, "k2": 10_000, "head_width": 2**16}
_MOST_VIEWS = 100


def check_spec(spec: ModelSpec) -> None:
    """Raise PretrainedError for settings of the wrong kind, or that no model has."""
    try:
        for name in ("model", "fusion", "data", "heterogeneous", "video", "roi"):
            if getattr(spec, name) is not None:
                _check(name, getattr(spec, name))
    except ValueError as error:
        raise PretrainedError(str(error)) from None
    if not all(isinstance(name, str) for name in spec.class_names):
        raise PretrainedError("field 'class_names' must be a list of names")
    if not isinstance(spec.protocol, str):
        raise PretrainedError("field 'protocol' must be text")
    pairs = spec.data.frames * spec.data.persons * spec.layout.num_joints**2
    if pairs > _MOST_PAIRS:
        raise PretrainedError(
            f"fields 'data.frames' and 'data.persons' are {spec.data.frames} and {spec.data.persons}: too many for "
            f"{spec.layout.num_joints} joints"
        )
    if spec.video is not None:
        pixels = spec.video.instants * 5 * spec.video.cell**2 + spec.video.scenes * spec.video.scene**2
        if pixels > _MOST_PIXELS:
            raise PretrainedError(
                f"section 'video' asks for {pixels:,} pixels a clip; at most {_MOST_PIXELS:,}"
            )


def _check(name: str, section: Any) -> None:
    try:
        check_types(section)
        if name == "model":
            for field, most in _LARGEST.items():
                within(section, 0, most, field)
        elif name == "data":
            within(section, 1, _MOST_VIEWS, "views")
        elif name in ("fusion", "heterogeneous"):
            within(section, 1, _MOST_PROJECTION, "projection")
    except ValueError as error:
        raise ValueError(f"section '{name}': {error}") from None


def check_weights(spec: ModelSpec, file: Path) -> None:
    """Raise PretrainedError unless a file holds the weights of the skeletons' network, by names and shapes.

    Neither is the network built nor a weight read: only shapes are compared.

    Raises:
        safetensors.SafetensorError: it is no such file.
    """
    skeletons = dataclasses.replace(spec, heterogeneous=None, video=None, roi=None)
    above = "skeleton." if spec.heterogeneous is not None else ""
    with safe_open(file, "pt") as handle:
        found = {name: handle.get_slice(name).get_shape() for name in handle.keys()}  # noqa: SIM118
        with torch.device("meta"):
            wanted = skeletons.build(pretrained=False).state_dict()
    for name, value in wanted.items():
        if found.get(above + name) != list(value.shape):
            told = "is missing" if above + name not in found else f"has the shape {found[above + name]}"
            raise PretrainedError(f"'{above}{name}' {told}; it must have {list(value.shape)}")

"""Skeleton layouts of your own, as YAML files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from hhmnet.skeleton import LAYOUTS, LayoutError, SkeletonLayout

_FIELDS = ("name", "joints", "edges", "mirror", "parts", "dims")


def load_layout(place: str | Path) -> SkeletonLayout:
    """A known layout by its name, or one of your own from a YAML file.

    The file holds the fields of :class:`~hhmnet.skeleton.SkeletonLayout`. In ``edges``, ``mirror`` and ``parts`` a
    joint is given by its name, or by its place in ``joints``, from 0. Only ``joints`` and ``edges`` are needed:
    ``name`` is the file's unless given, ``mirror`` the pairs of joints named ``left_…`` and ``right_…``, ``dims`` is 3,
    and a part that isn't listed has no joints::

        joints: [hip, neck, head, left_hand, right_hand]
        edges: [[neck, hip], [head, neck], [left_hand, neck], [right_hand, neck]]   # child, parent
        parts: {head: [head], left_hand: [left_hand], right_hand: [right_hand]}

    Raises:
        LayoutError: no layout is called so, or the file is missing or isn't a layout; names file and field.
    """
    if str(place) in LAYOUTS:
        return LAYOUTS[str(place)]
    file = Path(place)
    if file.suffix.lower() not in (".yaml", ".yml"):
        known = ", ".join(LAYOUTS)
        raise LayoutError(
            f"unknown skeleton layout '{place}'; known: {known}; or name a YAML file of your own"
        )
    try:
        fields = _read_fields(file)
        joints = fields["joints"]
        names = [joint for joint in joints if isinstance(joint, str)] if isinstance(joints, list) else []
        sides = [[joint, joint.replace("left_", "right_", 1)] for joint in names if joint.startswith("left_")]
        mirror = [pair for pair in sides if pair[1] in names]
        return SkeletonLayout.from_dict({"name": file.stem, "mirror": mirror, "parts": {}} | fields)
    except OSError as error:
        raise LayoutError(f"{file}: {error.strerror or error}") from None
    except LayoutError as error:
        raise LayoutError(f"{file}: {error}") from None


def _read_fields(file: Path) -> dict[str, Any]:
    try:
        # BaseLoader makes text, lists and mappings and nothing else: a joint called "no" stays one.
        fields = yaml.load(file.read_bytes().decode("utf-8-sig"), Loader=yaml.BaseLoader)
    except UnicodeDecodeError:
        raise LayoutError("not UTF-8 text") from None
    except RecursionError:
        raise LayoutError("not a layout: nested too deeply") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f"line {mark.line + 1}: "
        reason = " ".join(str(getattr(error, "problem", None) or error).split())
        raise LayoutError(f"{line}not valid YAML ({reason})") from None
    if not isinstance(fields, dict) or not {"joints", "edges"} <= set(fields):
        raise LayoutError("a skeleton layout needs the fields 'joints' and 'edges'")
    for key in fields:
        if key not in _FIELDS:
            raise LayoutError(f"unknown field '{key}'; known: {', '.join(_FIELDS)}")
    return fields

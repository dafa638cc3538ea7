"""``hhmnet inspect``: what a store holds, or one of its clips."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hhmnet.commands.prepare import split_indices
from hhmnet.commands.terminal import Parser, UsageError, console, print_json, table
from hhmnet.evaluation.figures import Strip, class_label, draw_strips
from hhmnet.sample import UNKNOWN_LABEL, Sample
from hhmnet.store import Store

if TYPE_CHECKING:
    from hhmnet.models.pretrained import ActionModel


def main(words: list[str]) -> int:
    """Run the command; returns its exit code."""
    options = _parser().parse_args(words)
    for given, needs, why in (
        ("picture", "sample", "--picture draws one clip; name it with --sample ID"),
        ("rois", "sample", "--rois draws one clip; name it with --sample ID"),
        ("videos", "rois", "--videos goes with --rois FILE.png"),
        ("attention", "picture", "--attention draws a picture; name it with --picture FILE.png"),
        ("guidance", "rois", "--guidance draws a picture; name it with --rois FILE.png"),
    ):
        if getattr(options, given) and not getattr(options, needs):
            raise UsageError(why)
    store = Store(options.store)
    if options.sample is None:
        print_json(summary(store)) if options.json else _show_store(summary(store))
        return 0
    sample = store.sample(store.index(options.sample))
    if options.attention:
        _draw_attention(options.attention, sample, store, options.picture)
    elif options.picture:
        draw_strips([sample_strip(sample, store)], store.layout, options.picture)
    if options.picture:
        console().print(f"picture: {options.picture}", soft_wrap=True)
    if options.rois:
        _draw_rois(sample, store, options.guidance, options.videos, options.rois)
    if options.json:
        print_json(sample_document(sample, store))
    else:
        _show_sample(sample, store)
    return 0


def _parser() -> Parser:
    parser = Parser("hhmnet inspect", "Show what a store holds, or one of its clips.")
    add = parser.add_argument
    add("store", type=Path, metavar="STORE", help="store that `hhmnet prepare` made")
    add("--sample", metavar="ID", help="show this clip")
    add("--picture", type=Path, metavar="FILE.png", help="draw the clip's skeleton over time")
    attention = "draw instead what this model's attention does to the clip"
    add("--attention", type=Path, metavar="MODEL", help=attention)
    rois = "draw what is cut out of the clip's video for a model"
    add("--rois", type=Path, metavar="FILE.png", help=rois)
    guidance = "draw what this model of phase 2 sees of it, how much each cell counts, and its answers"
    add("--guidance", type=Path, metavar="MODEL", help=guidance)
    parser.add_shared("videos", "json")
    return parser


def _draw_attention(run: Path, sample: Sample, store: Store, file: Path) -> None:
    # torch takes seconds to import, and the rest of this command doesn't need it.
    from hhmnet.evaluation.attention import attention_of, draw_attention

    draw_attention(attention_of(_model_for(run, store), sample), sample, store.layout, file)


def _draw_rois(sample: Sample, store: Store, run: Path | None, videos: Path | None, file: Path) -> None:
    """Draw the crops of a clip, or what a model sees of them, how much each counts, and its answers."""
    from hhmnet.evaluation.model_pictures import crops_of, draw_guidance, guidance_of

    row = store.index(sample.sample_id)
    folder = store.find_videos(videos) if sample.video is not None else Path()
    found = guidance_of(_model_for(run, store), store, row, folder) if run else crops_of(store, row, folder)
    draw_guidance(found, _title(sample, store), _class_name(sample, store), file)
    weights = "a cell counts from 0 (blue) to 2 (orange), as its corner says"
    counts = "" if run is None else f"; {'not guided' if found.weights is None else weights}"
    frames = ", ".join(map(str, found.frames))
    console().print(f"rois: {file}\n  rows: parts; columns: frames {frames}{counts}", soft_wrap=True)


def _model_for(run: Path, store: Store) -> ActionModel:
    from hhmnet.commands.evaluate import check_layout
    from hhmnet.models.pretrained import from_pretrained

    model = from_pretrained(run)
    check_layout(model, run, store)
    return model


def summary(store: Store) -> dict[str, Any]:
    """What a store holds, in plain containers for JSON."""
    splits = split_indices(store)
    parts = {**splits, "all": np.arange(len(store))}
    lengths = store.lengths
    return {
        "store": str(store.path),
        "clips": len(store),
        "protocol": store.protocol,
        "layout": store.layout.to_dict(),
        "provenance": store.provenance,
        "video_folder": None if store.video_folder is None else str(store.video_folder),
        "splits": {name: len(rows) for name, rows in splits.items()},
        "classes": {
            name: {part: int((store.labels[rows] == label).sum()) for part, rows in parts.items()}
            for label, name in enumerate(store.class_names)
        },
        "unlabelled": int((store.labels == UNKNOWN_LABEL).sum()),
        "subjects": _counts(store.subjects),
        "cameras": _counts(store.cameras),
        "setups": _counts(store.setups),
        "persons": {"min": int(store.persons.min()), "max": int(store.persons.max())},
        "frames": {
            "min": int(lengths.min()),
            "median": float(np.median(lengths)),
            "max": int(lengths.max()),
            "all": int(lengths.sum()),
        },
    }


def sample_document(sample: Sample, store: Store) -> dict[str, Any]:
    """All that is known of a clip, every value included, in plain containers for JSON."""
    known = {field.name: getattr(sample, field.name) for field in dataclasses.fields(sample)}
    about = {
        "class": _class_name(sample, store),
        "layout": store.layout.name,
        "shape": dict(zip("MTVC", sample.joints.shape, strict=True)),
    }
    return about | {
        name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in known.items()
    }


def sample_strip(sample: Sample, store: Store) -> Strip:
    """A clip as the pictures take it, under its name and class."""
    return Strip(_title(sample, store), sample.joints, sample.present, sample.frame_index)


def _title(sample: Sample, store: Store) -> str:
    name = _class_name(sample, store)
    return f"{sample.sample_id}  {class_label(name, sample.label) if name else ''}"


def _class_name(sample: Sample, store: Store) -> str | None:
    return None if sample.label == UNKNOWN_LABEL else store.class_names[sample.label]


def _counts(values: np.ndarray) -> dict[str, int]:
    """How many clips each value has, numbers in their order."""
    names, counts = np.unique(values[values != ""], return_counts=True)
    found = dict(zip(names.tolist(), counts.tolist(), strict=True))
    return dict(sorted(found.items(), key=lambda item: (len(item[0]), item[0])))


def _show_store(facts: dict[str, Any]) -> None:
    out = console(stderr=False)
    parts = [*facts["splits"], "all"]
    view = table(f"{facts['store']}: {facts['clips']} clips", "class", *(f">{part}" for part in parts))
    for name, counts in facts["classes"].items():
        view.add_row(name, *(str(counts[part]) for part in parts))
    if facts["unlabelled"]:
        view.add_row("(no label)", *[""] * (len(parts) - 1), str(facts["unlabelled"]))
    view.add_section()
    view.add_row(
        "all", *(str({**facts["splits"], "all": facts["clips"]}[part]) for part in parts), style="bold"
    )
    out.print(view)
    layout, frames, persons = facts["layout"], facts["frames"], facts["persons"]
    span = f"{frames['min']} to {frames['max']} a clip, median {frames['median']:g}"
    _show_fields(
        {
            "protocol": facts["protocol"] or "none",
            "layout": f"{layout['name']} ({len(layout['joints'])} joints, {layout['dims']} coordinates)",
            "frames": f"{span}; {frames['all']:,} in all",
            "persons": f"{persons['min']} to {persons['max']} a clip",
            **{key: ", ".join(f"{n} ({c})" for n, c in facts[key].items()) or "unknown" for key in _GROUPS},
            "videos": facts["video_folder"] or "not known",
            "provenance": json.dumps(facts["provenance"], ensure_ascii=False),
        }
    )


_GROUPS = ("subjects", "cameras", "setups")


def _show_sample(sample: Sample, store: Store) -> None:
    """Every field in a line; of an array its shape, range and mean over the bodies that are there."""
    name, shown = _class_name(sample, store), {}
    for field in dataclasses.fields(sample):
        value = getattr(sample, field.name)
        if isinstance(value, np.ndarray):
            seen = (
                value[sample.present] if value.shape[:2] == sample.present.shape and value.ndim > 2 else value
            )
            spans = (
                f"{seen.min():g} to {seen.max():g}, mean {seen.mean():.3f}"
                if seen.size
                else "nobody is there"
            )
            value = f"{value.shape}; {spans}"
        shown[field.name] = "none" if value is None or value == "" else str(value)
    shown["label"] = "unknown" if name is None else f"{sample.label} ({name})"
    missing = sample.frame_index[-1] - sample.frame_index[0] + 1 - sample.num_frames
    shown["frame_index"] += f"; {missing} missing in between"
    shown["present"] += f"; {sample.present.sum()} of {sample.present.size} bodies there"
    if sample.video_frames is not None:
        shown["video_frames"] += (
            f"; {(sample.video_frames >= 0).sum()} of {sample.num_frames} are in the video"
        )
    _show_fields(shown)


def _show_fields(fields: dict[str, str]) -> None:
    out, width = console(stderr=False), max(map(len, fields))
    for name, text in fields.items():
        out.print(f"{name:{width}}  {text}", soft_wrap=True)

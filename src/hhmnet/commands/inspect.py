"""``hhmnet inspect``: what a store holds, or one of its clips."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hhmnet.commands.prepare import split_indices
from hhmnet.commands.terminal import Parser, UsageError, console, print_json, table
from hhmnet.evaluation.figures import class_label, draw_strips
from hhmnet.sample import UNKNOWN_LABEL, Sample
from hhmnet.store import Store

if TYPE_CHECKING:
    from hhmnet.models.pretrained import ActionModel


NEEDS = {
    "picture": ("sample", "--picture draws one clip; name it with --sample ID"),
    "rois": ("sample", "--rois draws one clip; name it with --sample ID"),
    "videos": ("rois", "--videos goes with --rois FILE.png"),
    "attention": ("picture", "--attention draws a picture; name it with --picture FILE.png"),
    "guidance": ("rois", "--guidance draws a picture; name it with --rois FILE.png"),
}
"""Options that need another one, and what to say without it."""


def main(words: list[str]) -> int:
    """Run the command; returns its exit code."""
    parser = Parser("hhmnet inspect", "Show what a store holds, or one of its clips.")
    add = parser.add_argument
    add("store", type=Path, metavar="STORE", help="store that `hhmnet prepare` made")
    add("--sample", metavar="ID", help="show this clip")
    add("--picture", type=Path, metavar="FILE.png", help="draw the clip's skeleton over time")
    attention = "draw instead what this model's attention does to the clip"
    add("--attention", type=Path, metavar="MODEL", help=attention)
    add("--rois", type=Path, metavar="FILE.png", help="draw what is cut out of the clip's video for a model")
    guidance = "draw what this model of phase 2 sees of it, how much each cell counts, and its answers"
    add("--guidance", type=Path, metavar="MODEL", help=guidance)
    parser.add_shared("videos", "json")
    options = parser.parse_args(words)
    for given, (needed, why) in NEEDS.items():
        if getattr(options, given) and not getattr(options, needed):
            raise UsageError(why)
    store = Store(options.store)
    if options.sample is None:
        facts = _summary(store)
        print_json(facts) if options.json else _show_store(facts)
        return 0
    row = store.index(options.sample)
    sample = store.sample(row)
    if options.picture:
        if options.attention:  # torch takes seconds to import, and the rest of this command doesn't need it
            from hhmnet.evaluation.model_pictures import attention_of, draw_attention

            blocks = attention_of(_model(options.attention, store), sample)
            draw_attention(blocks, sample, store.layout, options.picture)
        else:
            draw_strips([(title_of(sample, store), sample)], store.layout, options.picture)
        console().print(f"picture: {options.picture}")
    if options.rois:
        _draw_rois(row, sample, store, options.guidance, options.videos, options.rois)
    shape = dict(zip("MTVC", sample.joints.shape, strict=True))
    facts = {"class": _class_name(sample, store), "layout": store.layout.name, "shape": shape} | vars(sample)
    if options.json:
        arrays = {name: value.tolist() for name, value in facts.items() if isinstance(value, np.ndarray)}
        print_json(facts | arrays)
    else:
        _show_fields(facts)
    return 0


def _draw_rois(
    row: int, sample: Sample, store: Store, run: Path | None, videos: Path | None, file: Path
) -> None:
    """Draw the crops of a clip, or what a model sees of them, how much each counts, and its answers."""
    from hhmnet.evaluation.model_pictures import crops_of, draw_guidance, guidance_of

    folder = store.find_videos(videos) if sample.video is not None else Path()
    found = guidance_of(_model(run, store), store, row, folder) if run else crops_of(store, row, folder)
    draw_guidance(found, title_of(sample, store), _class_name(sample, store), file)
    weights = "a cell counts from 0 (blue) to 2 (orange), as its corner says"
    counts = "" if run is None else f"; {'not guided' if found.weights is None else weights}"
    frames = ", ".join(map(str, found.frames))
    console().print(f"rois: {file}\n  rows: parts; columns: frames {frames}{counts}")


def _model(run: Path, store: Store) -> ActionModel:
    from hhmnet.commands.evaluate import check_layout
    from hhmnet.models.pretrained import from_pretrained

    model = from_pretrained(run)
    check_layout(model, run, store)
    return model


def _summary(store: Store) -> dict[str, Any]:
    """What a store holds, in plain containers for JSON."""
    splits, lengths = split_indices(store), store.lengths
    parts = {**splits, "all": np.arange(len(store))}
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
        **{name: _counts(getattr(store, name)) for name in ("subjects", "cameras", "setups")},
        "persons": {"min": int(store.persons.min()), "max": int(store.persons.max())},
        "frames": {
            "min": int(lengths.min()),
            "median": float(np.median(lengths)),
            "max": int(lengths.max()),
            "all": int(lengths.sum()),
        },
    }


def _counts(values: np.ndarray) -> dict[str, int]:
    """How many clips each value has, numbers in their order."""
    counts = Counter(values[values != ""].tolist())
    return {name: counts[name] for name in sorted(counts, key=lambda name: (len(name), name))}


def title_of(sample: Sample, store: Store) -> str:
    """A clip's name and class, as a picture shows them."""
    name = _class_name(sample, store)
    return f"{sample.sample_id}  {class_label(name, sample.label) if name else ''}"


def _class_name(sample: Sample, store: Store) -> str | None:
    return None if sample.label == UNKNOWN_LABEL else store.class_names[sample.label]


def _show_store(facts: dict[str, Any]) -> None:
    """The same for people."""
    whole = {**facts.pop("splits"), "all": facts["clips"]}
    view = table(f"{facts['store']}: {facts['clips']} clips", "class", *(f">{part}" for part in whole))
    for name, counts in facts.pop("classes").items():
        view.add_row(name, *(str(counts[part]) for part in whole))
    if unlabelled := facts.pop("unlabelled"):
        view.add_row("(no label)", *[""] * (len(whole) - 1), str(unlabelled))
    view.add_section()
    view.add_row("all", *map(str, whole.values()), style="bold")
    console(stderr=False).print(view)
    layout = facts["layout"]
    facts["layout"] = f"{layout['name']} ({len(layout['joints'])} joints, {layout['dims']} coordinates)"
    facts["provenance"] = json.dumps(facts["provenance"], ensure_ascii=False)
    _show_fields(facts)


def _show_fields(facts: dict[str, Any]) -> None:
    """A line each; of an array its shape, range and mean over the bodies that are there, of a mapping its entries."""
    out, width, present = console(stderr=False), max(map(len, facts)), facts.get("present", np.zeros(0, bool))
    for name, value in facts.items():
        if isinstance(value, np.ndarray):
            seen = value[present] if value.ndim > 2 and present.any() else value
            text = f"{value.shape}; {seen.min():g} to {seen.max():g}, mean {seen.mean():.3f}"
        elif isinstance(value, dict):
            text = ", ".join(f"{key} ({one})" for key, one in value.items())
        else:
            text = "" if value is None else str(value)
        out.print(f"{name:{width}}  {text or 'none'}")

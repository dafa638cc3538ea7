"""A timeline as files: segments.csv, timeline.json and timeline.png."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from hhmnet.files import replacing
from hhmnet.predict.segments import Segment
from hhmnet.predict.timeline import PersonTimeline, Timeline

SEGMENTS_FILE, JSON_FILE, PICTURE_FILE = "segments.csv", "timeline.json", "timeline.png"


def write_timeline(timeline: Timeline, folder: Path) -> list[Path]:
    """Write all files into a folder, which is made if it isn't there; returns them."""
    folder.mkdir(parents=True, exist_ok=True)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Segment._fields)
    for segment in timeline.segments:
        times = (f"{seconds:.3f}" for seconds in (segment.start, segment.end))
        frames = (segment.first_frame, segment.last_frame)
        writer.writerow([segment.person, segment.label, *times, *frames, f"{segment.probability:.4f}"])
    with replacing(folder / SEGMENTS_FILE) as handle:
        handle.write(text.getvalue().encode())
    with replacing(folder / JSON_FILE) as handle:
        handle.write((json.dumps(to_dict(timeline), indent=1, ensure_ascii=False) + "\n").encode())
    draw_timeline(timeline, folder / PICTURE_FILE)
    return [folder / name for name in (SEGMENTS_FILE, JSON_FILE, PICTURE_FILE)]


def to_dict(timeline: Timeline) -> dict[str, Any]:
    """Plain containers for JSON; a window without an answer has the probabilities null."""
    return {
        "input": timeline.input,
        "frames": timeline.frames,
        "duration": round(timeline.duration, 3),
        "classes": list(timeline.class_names),
        "config": dataclasses.asdict(timeline.config),
        "modalities": list(timeline.modalities),
        "seconds": timeline.seconds,
        "persons": [
            {
                "person": person.person,
                "segments": [
                    {**segment._asdict(), "start": round(segment.start, 3), "end": round(segment.end, 3)}
                    for segment in person.segments
                ],
                "windows": _windows(timeline, person),
            }
            for person in timeline.persons
        ],
    }


def _windows(timeline: Timeline, person: PersonTimeline) -> list[dict[str, Any]]:
    rows = zip(timeline.starts, timeline.ends, person.probabilities, person.smoothed, strict=True)
    return [
        {
            "start": round(float(start), 3),
            "end": round(float(end), 3),
            "label": None if np.isnan(row).any() else timeline.class_names[int(row.argmax())],
            "probabilities": _numbers(row),
            "smoothed": _numbers(smoothed),
        }
        for start, end, row, smoothed in rows
    ]


def _numbers(row: np.ndarray) -> list[float] | None:
    return None if np.isnan(row).any() else [round(float(value), 5) for value in row]


def draw_timeline(timeline: Timeline, file: Path) -> None:
    """Draw each person's probabilities over time, a row a class, with the segments framed."""
    from matplotlib.patches import Rectangle

    from hhmnet.evaluation.figures import new_figure, save_figure

    count = len(timeline.class_names)
    figure = new_figure(11, len(timeline.persons) * (0.9 + 0.28 * min(count, 30)))
    rows = figure.subplots(len(timeline.persons), squeeze=False, sharex=True)[:, 0]
    middles = (timeline.starts + timeline.ends) / 2
    edges = np.concatenate([[0.0], (middles[1:] + middles[:-1]) / 2, [timeline.duration]])
    image = None
    for axes, person in zip(rows, timeline.persons, strict=True):
        axes.set_facecolor("#dddddd")  # where there is no answer
        image = axes.pcolormesh(
            edges, np.arange(count + 1), np.ma.masked_invalid(person.smoothed.T), cmap="Blues", vmin=0, vmax=1
        )
        for segment in person.segments:
            row = timeline.class_names.index(segment.label)
            width = segment.end - segment.start
            axes.add_patch(Rectangle((segment.start, row), width, 1, fill=False, edgecolor="#d95f02", lw=1.8))
        if count <= 60:
            axes.set_yticks(np.arange(count) + 0.5, timeline.class_names, fontsize=8)
        axes.set_ylim(count, 0)
        axes.set_title(f"person {person.person}", loc="left", fontsize=10)
    rows[-1].set(xlabel="seconds", xlim=(0, timeline.duration))
    figure.colorbar(image, ax=list(rows), label="probability", fraction=0.03)
    save_figure(figure, file)

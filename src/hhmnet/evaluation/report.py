"""What an evaluation found, for people: tables for the terminal, and one HTML file that needs nothing beside it."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from hhmnet.evaluation.figures import class_legend
from hhmnet.files import replacing

_BAR = 20  # characters of a bar of 100 %
_ACCURACY = (">top-1 %", ">95 % interval")
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 56rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem }
figure { margin: 0 } img { max-width: 100% }
table { border-collapse: collapse }
th, td { padding: .2rem .8rem .2rem 0; text-align: left; border-bottom: 1px solid #ddd }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
.big { font-size: 2.6rem; font-weight: 600; margin: 0 } .quiet { color: #666 }
"""


class Section(NamedTuple):
    """A table under its title; a column whose name begins with ``>`` holds numbers, and a note explains it."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    note: str = ""


def headline(metrics: dict[str, Any]) -> str:
    """The figures of all clips together, in words."""
    low, high = metrics["top1_interval"]
    text = (
        f"{metrics['top1']:.2f} % of {metrics['n']} clips are recognised (95 % interval {low:.2f} to {high:.2f}). "
        f"Among the five surest answers: {metrics['top5']:.2f} %. Mean over classes: {metrics['mean_class']:.2f} %. "
        f"Expected calibration error: {metrics['calibration_error']:.2f} %."
    )
    if told := metrics.get("unknown"):
        text += (
            f" From {told['n']} clips of no class they are told with an area under the ROC curve of "
            f"{told['auroc']:.2f} %; {told['known']:.2f} % of its own clips stay known."
        )
    return text


def sections(metrics: dict[str, Any]) -> Iterator[Section]:
    """The tables of what ``hhmnet evaluate`` measured; the hardest class comes first, one without clips last."""
    rows: list[tuple[str, ...]]
    for key, title, name, all_of_it in (
        ("streams", "Streams", "stream {}", "all joined"),
        ("modalities", "Skeleton and video", "{} alone", "both"),
    ):
        if parts := metrics.get(key):
            rows = [(name.format(part), *accuracy(figures)) for part, figures in parts.items()]
            yield Section(title, ("given", *_ACCURACY), [*rows, (all_of_it, *accuracy(metrics))])
    if fusion := metrics.get("fusion"):
        rows = [
            (f"beside {name} alone", str(changes["mended"]["n"]), str(changes["broken"]["n"]))
            for name, changes in fusion.items()
        ]
        note = "Mended: wrong alone, right when joined. Broken: right alone, wrong when joined."
        yield Section("What joining them changes", ("", ">mended", ">broken"), rows, note)
    if parts := metrics.get("knock_out"):
        rows = []
        for part in parts:
            low, high = part["interval"]
            figures = str(part["lost"]), str(part["won"]), f"{part['top1']:.2f}"
            rows.append((f"without {part['part']}", *figures, f"{low:+.2f} to {high:+.2f}"))
        note = (
            "The trained model with one part taken away. Where the interval leaves out 0, the part is worth something, "
            f"or harms. Of the weight with which joints are mixed, {100 * metrics['static_share']:.0f} % is the "
            "learned graph's, alike for all clips."
        )
        columns = ("", ">clips lost", ">won", ">top-1 %", ">it brings, 95 %")
        yield Section("What it leans on", columns, rows, note)
    classes = sorted(metrics["per_class"].items(), key=lambda item: (item[1]["n"] == 0, item[1]["top1"]))
    rows = []
    for name, figures in classes:
        bar = "█" * round(_BAR * figures["top1"] / 100)
        share = f"{figures['top1']:.2f}" if figures["n"] else "-"
        rows.append((name, str(figures["n"]), share, bar))
    yield Section("Classes", ("class", ">clips", ">top-1 %", ""), rows)


def accuracy(figures: dict[str, Any]) -> tuple[str, str]:
    """Top-1 and its interval, as they stand in a table."""
    low, high = figures["top1_interval"]
    return f"{figures['top1']:.2f}", f"{low:.2f} to {high:.2f}"


def write_report(metrics: dict[str, Any], title: str, file: Path, confusion: Path) -> None:
    """Write the report of what ``hhmnet evaluate`` measured: the document of ``metrics.json``.

    A picture of the confusion matrix is taken into the file.
    """
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="big">{metrics["top1"]:.2f} %</p><p>{escape(headline(metrics))}</p>',
        f'<p class="quiet">Protocol: {escape(metrics["protocol"])}, split: {escape(metrics["split"])}.</p>',
        *(_html(section) for section in sections(metrics)),
    ]
    picture = base64.b64encode(confusion.read_bytes()).decode()
    legend = class_legend(list(metrics["per_class"]))
    parts += [
        '<h2>What is taken for what</h2><figure><img alt="Confusion matrix" '
        f'src="data:image/png;base64,{picture}"></figure><p class="quiet">{escape(legend)}</p>',
        *(_html(section) for section in _lists(metrics)),
    ]
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    page = f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'
    with replacing(file) as handle:
        handle.write(page.encode())


def _lists(metrics: dict[str, Any]) -> Iterator[Section]:
    """Clips by name: the surest mistakes, and what joining skeleton and video mends and breaks."""
    mistakes = [
        (clip["sample_id"], clip["label"], clip["answer"], f"{100 * clip['probability']:.1f}")
        for clip in metrics["surest_mistakes"]
    ]
    columns = ("clip", "is", "was taken for", ">probability %")
    yield Section("The surest mistakes", columns, mistakes, "" if mistakes else "There are none.")
    for name, changes in metrics.get("fusion", {}).items():
        for kind, entry in changes.items():
            rows = [tuple(clip.values()) for clip in entry["clips"]]
            most = f", the {len(rows)} clearest" if len(rows) < entry["n"] else ""
            if rows:
                title = f"{kind.title()} beside {name} alone{most}"
                yield Section(title, ("clip", "is", "alone", "joined"), rows)


def _html(section: Section) -> str:
    kinds = [' class="n"' if column.startswith(">") else "" for column in section.columns]
    heads = [column.removeprefix(">") for column in section.columns]
    lines = []
    for tag, cells in (("th", heads), *(("td", row) for row in section.rows)):
        pairs = zip(kinds, cells, strict=True)
        lines.append("".join(f"<{tag}{kind}>{escape(cell)}</{tag}>" for kind, cell in pairs))
    table = "".join(f"<tr>{line}</tr>" for line in lines) if section.rows else ""
    return f"<h2>{escape(section.title)}</h2><p>{escape(section.note)}</p><table>{table}</table>"

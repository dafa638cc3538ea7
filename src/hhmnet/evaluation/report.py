"""A report of an evaluation that a person can read: one HTML file that needs nothing beside it."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from hhmnet.evaluation.figures import class_legend
from hhmnet.files import replacing

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 56rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem } h3 { font-size: 1rem }
figure { margin: 0 } img { max-width: 100% }
table { border-collapse: collapse }
th, td { padding: .2rem .8rem .2rem 0; text-align: left; border-bottom: 1px solid #ddd }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums } .bar { background: #1b6ca8; height: .6rem }
.big { font-size: 2.6rem; font-weight: 600 } .quiet { color: #666 }
"""


def write_report(metrics: dict[str, Any], title: str, file: Path, confusion: Path | None = None) -> None:
    """Write the report of what ``hhmnet evaluate`` measured.

    Args:
        metrics: the document of ``metrics.json``.
        title: what was measured on what.
        file: HTML file to write.
        confusion: picture of the confusion matrix, taken into the file if it is there.
    """
    low, high = metrics["top1_interval"]
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p><span class="big">{metrics["top1"]:.2f} %</span> of {metrics["n"]} clips are recognised '
        f"(95 % interval {low:.2f} to {high:.2f}).</p>",
        '<p class="quiet">'
        f"Among the five surest answers: {metrics['top5']:.2f} %. Mean over classes: {metrics['mean_class']:.2f} %. "
        f"Expected calibration error: {metrics['calibration_error']:.2f} %. "
        f"Protocol: {escape(metrics['protocol'])}, split: {escape(metrics['split'])}.</p>",
    ]
    if streams := metrics.get("streams"):
        rows = [(name, *_figures(figures)) for name, figures in streams.items()]
        rows.append(("all joined", *_figures(metrics)))
        parts += ["<h2>Streams</h2>", _table(("stream", "top-1 %", "95 %"), rows, numbers=(1, 2))]
    if modalities := metrics.get("modalities"):
        rows = [(f"{name} alone", *_figures(figures)) for name, figures in modalities.items()]
        rows.append(("both", *_figures(metrics)))
        parts += ["<h2>Skeleton and video</h2>", _table(("given", "top-1 %", "95 %"), rows, numbers=(1, 2))]
    if fusion := metrics.get("fusion"):
        parts += ["<h2>What joining them changes</h2>", *_fusion(fusion)]
    if parts_out := metrics.get("knock_out"):
        parts += ["<h2>What it leans on</h2>", *_knock_out(parts_out, metrics["static_share"])]
    parts += ["<h2>Classes</h2>", _classes(metrics["per_class"])]
    if confusion is not None and confusion.exists():
        data = base64.b64encode(confusion.read_bytes()).decode()
        picture = f'<img alt="Confusion matrix" src="data:image/png;base64,{data}">'
        parts += ["<h2>What is taken for what</h2>", f"<figure>{picture}</figure>"]
        if legend := class_legend(list(metrics["per_class"])):
            parts.append(f'<p class="quiet">{escape(legend)}</p>')
    parts += ["<h2>The surest mistakes</h2>", _mistakes(metrics["surest_mistakes"])]
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    page = f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'
    with replacing(file) as handle:
        handle.write(page.encode())


def _figures(figures: dict[str, Any]) -> tuple[str, str]:
    low, high = figures["top1_interval"]
    return f"{figures['top1']:.2f}", f"{low:.2f} to {high:.2f}"


def _classes(classes: dict[str, dict[str, Any]]) -> str:
    """Every class with a bar; the hardest first, those without clips last."""
    order = sorted(classes.items(), key=lambda item: (item[1]["n"] == 0, item[1]["top1"]))
    lines = []
    for name, figures in order:
        share = f"{figures['top1']:.2f}" if figures["n"] else "-"
        bar = f'<div class="bar" style="width:{figures["top1"] / 10:.2f}rem"></div>' if figures["n"] else ""
        cells = f'<td>{escape(name)}</td><td class="n">{figures["n"]}</td><td class="n">{share}</td><td>{bar}</td>'
        lines.append(f"<tr>{cells}</tr>")
    head = '<tr><th>class</th><th class="n">clips</th><th class="n">top-1 %</th><th></th></tr>'
    return f"<table>{head}{''.join(lines)}</table>"


def _knock_out(parts: Sequence[dict[str, Any]], static: float) -> list[str]:
    rows = []
    for part in parts:
        low, high = part["interval"]
        figures = str(part["lost"]), str(part["won"]), f"{part['top1']:.2f}", f"{low:+.2f} to {high:+.2f}"
        rows.append((part["part"], *figures))
    heads = ("without", "clips lost", "won", "top-1 %", "it brings, 95 %")
    return [
        "<p>The trained model with one part taken away. Where the interval leaves out 0, the part is worth "
        "something, or harms.</p>",
        _table(heads, rows, numbers=(1, 2, 3, 4)),
        f"<p>Of the weight with which joints are mixed, {100 * static:.0f} % is the learned graph's, alike for all "
        "clips.</p>",
    ]


def _fusion(fusion: dict[str, Any]) -> list[str]:
    """How many clips are mended and broken beside each modality alone, then the clips by name."""
    counts = [(f"{name} alone", str(c["mended"]["n"]), str(c["broken"]["n"])) for name, c in fusion.items()]
    parts = [
        "<p>Mended: wrong alone, right when joined. Broken: right alone, wrong when joined.</p>",
        _table(("beside", "mended", "broken"), counts, numbers=(1, 2)),
    ]
    heads = ("clip", "is", "alone", "joined")
    for name, changes in fusion.items():
        for kind, entry in changes.items():
            if not entry["clips"]:
                continue
            shown = f", the {len(entry['clips'])} clearest" if len(entry["clips"]) < entry["n"] else ""
            rows = [(c["sample_id"], c["label"], c["alone"], c["joined"]) for c in entry["clips"]]
            parts += [f"<h3>{kind.title()} beside {escape(name)} alone{shown}</h3>", _table(heads, rows)]
    return parts


def _mistakes(mistakes: Sequence[dict[str, Any]]) -> str:
    if not mistakes:
        return "<p>There are none.</p>"
    rows = [(m["sample_id"], m["label"], m["answer"], f"{100 * m['probability']:.1f}") for m in mistakes]
    return _table(("clip", "is", "was taken for", "probability %"), rows, numbers=(3,))


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    kinds = [' class="n"' if place in numbers else "" for place in range(len(heads))]
    lines = ["".join(f"<th{kind}>{escape(head)}</th>" for kind, head in zip(kinds, heads, strict=True))]
    for row in rows:
        lines.append("".join(f"<td{kind}>{escape(cell)}</td>" for kind, cell in zip(kinds, row, strict=True)))
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"

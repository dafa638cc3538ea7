"""The report as a browser would see it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

from hhmnet.evaluation.metrics import brief, evaluate, fusion_changes, surest_mistakes
from hhmnet.evaluation.report import write_report
from hhmnet.evaluation.scores import Scores

CLASSES = ("sit <down>", "stand & stay", "walk", "never seen")


def make(count: int = 200, seed: int = 0, good: float = 1.5, unknown: int = 5) -> Scores:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    logits = rng.normal(size=(count, 4)).astype(np.float32) * 2
    logits[np.arange(count), labels] += good
    labels[:unknown] = -1
    return Scores(np.array([f"clip <{i}>" for i in range(count)]), labels, logits, CLASSES)


class Cells(HTMLParser):
    """The text of a page's table cells and paragraphs, and the tags that were opened and not closed."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def read(file: Path) -> list[str]:
    page = Cells()
    page.feed(file.read_text(encoding="utf-8"))
    assert page.open == []
    return page.texts


def metrics(scores: Scores) -> dict[str, object]:
    about = {"split": "test", "protocol": "given", "surest_mistakes": surest_mistakes(scores)}
    return evaluate(scores) | about


def test_a_report_says_what_was_measured(tmp_path: Path) -> None:
    scores = make()
    document = metrics(scores) | {"streams": {"joint": brief(make(seed=1)), "bone": brief(make(seed=2))}}
    (tmp_path / "matrix.png").write_bytes(b"a picture")
    write_report(document, "run <1> on store", tmp_path / "r.html", tmp_path / "matrix.png")
    texts = read(tmp_path / "r.html")
    assert "run <1> on store" in texts
    assert f"{document['top1']:.2f} %" in texts
    assert f"{brief(make(seed=1))['top1']:.2f}" in texts
    for name in CLASSES:  # what looks like a tag is shown as it is written
        assert name in texts
    assert document["surest_mistakes"][0]["sample_id"] in texts  # type: ignore[index]
    at = texts.index("all joined")
    assert texts[at + 1] == f"{document['top1']:.2f}"
    low, high = document["top1_interval"]  # type: ignore[misc]
    assert texts[at + 2] == f"{low:.2f} to {high:.2f}"
    content = (tmp_path / "r.html").read_text()
    assert "data:image/png;base64,YSBwaWN0dXJl" in content
    assert "http" not in content  # it needs nothing from elsewhere


def test_the_hardest_class_comes_first_and_one_without_clips_last(tmp_path: Path) -> None:
    document = metrics(make())
    write_report(document, "t", tmp_path / "r.html")
    texts = read(tmp_path / "r.html")
    at = texts.index("Classes")
    each: dict[str, Any] = document["per_class"]  # type: ignore[assignment]
    order = sorted(CLASSES[:3], key=lambda name: each[name]["top1"])
    cells = [cell for name in order for cell in (name, str(each[name]["n"]), f"{each[name]['top1']:.2f}")]
    assert texts[at + 1 : at + 4] == ["class", "clips", "top-1 %"]
    assert texts[at + 4 : at + 16] == [*cells, "never seen", "0", "-"]
    bars = re.findall(r'class="bar" style="width:([\d.]+)rem"', (tmp_path / "r.html").read_text())
    assert bars == [f"{each[name]['top1'] / 10:.2f}" for name in order]


def test_a_report_without_mistakes_and_picture(tmp_path: Path) -> None:
    scores = make(good=50)
    write_report(metrics(scores), "t", tmp_path / "r.html", tmp_path / "none.png")
    texts = read(tmp_path / "r.html")
    assert "There are none." in texts
    assert "Streams" not in texts


def test_a_report_tells_what_joining_changes(tmp_path: Path) -> None:
    joined = make(seed=1, good=3)
    other = make(seed=2, good=1)
    alone = Scores(joined.sample_ids, joined.labels, other.logits, CLASSES)
    more = {
        "modalities": {"skeleton": brief(alone), "video": brief(joined)},
        "fusion": fusion_changes(joined, {"skeleton": alone, "video": joined}),
    }
    write_report(metrics(joined) | more, "t", tmp_path / "r.html")
    texts = read(tmp_path / "r.html")
    changes = more["fusion"]["skeleton"]
    at = texts.index("skeleton alone", texts.index("What joining them changes"))
    assert texts[at + 1 : at + 3] == [str(changes["mended"]["n"]), str(changes["broken"]["n"])]
    assert "Mended beside skeleton alone, the 10 clearest" in texts
    assert not any("beside video" in text for text in texts)  # nothing changes there
    first = changes["mended"]["clips"][0]
    at = texts.index(first["sample_id"])
    assert texts[at : at + 4] == list(first.values())
    plain = tmp_path / "plain.html"
    write_report(metrics(joined), "t", plain)
    assert "Skeleton and video" not in read(plain)

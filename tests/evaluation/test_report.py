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


def make(seed: int = 0, good: float = 1.5) -> Scores:
    rng = np.random.default_rng(seed)
    labels = np.random.default_rng(9).integers(0, 3, 200)
    logits = rng.normal(size=(200, 4)).astype(np.float32) * 2
    logits[np.arange(200), labels] += good
    return Scores(np.array([f"clip <{i}>" for i in range(200)]), labels, logits, CLASSES)


class Page(HTMLParser):
    """The texts of a page; a tag that isn't closed fails."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(file.read_text(encoding="utf-8"))
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def metrics(scores: Scores, **more: object) -> dict[str, Any]:
    about = {"split": "test", "protocol": "given", "surest_mistakes": surest_mistakes(scores)}
    return evaluate(scores) | about | more


def test_a_report_says_what_was_measured_and_needs_nothing_beside_it(tmp_path: Path) -> None:
    joint, file = brief(make(seed=1)), tmp_path / "r.html"
    document = metrics(make(), streams={"joint": joint})
    (tmp_path / "matrix.png").write_bytes(b"a picture")
    write_report(document, "run <1> on store", file, tmp_path / "matrix.png")
    texts = Page(file).texts
    low, high = document["top1_interval"]
    wanted = ["run <1> on store", f"{document['top1']:.2f} %", f"{joint['top1']:.2f}", *CLASSES]
    wanted += [document["surest_mistakes"][0]["sample_id"], f"{low:.2f} to {high:.2f}"]
    assert [text for text in wanted if text not in texts] == []
    at = texts.index("Classes")  # the hardest class first, and one without clips last
    each = document["per_class"]
    order = sorted(CLASSES[:3], key=lambda name: each[name]["top1"])
    cells = [cell for name in order for cell in (name, str(each[name]["n"]), f"{each[name]['top1']:.2f}")]
    assert texts[at + 4 : at + 16] == [*cells, "never seen", "0", "-"]
    content = file.read_text()
    bars = re.findall(r'class="bar" style="width:([\d.]+)rem"', content)
    assert bars == [f"{each[name]['top1'] / 10:.2f}" for name in order]
    assert "data:image/png;base64,YSBwaWN0dXJl" in content
    assert "http" not in content
    write_report(metrics(make(good=50)), "t", file, tmp_path / "none.png")
    texts = Page(file).texts
    assert "There are none." in texts
    assert not {"Streams", "Skeleton and video"} & set(texts)


def test_a_report_tells_what_joining_changes(tmp_path: Path) -> None:
    joined, alone = make(seed=1, good=3), make(seed=2, good=1)
    fusion = fusion_changes(joined, {"skeleton": alone, "video": joined})
    modalities = {"skeleton": brief(alone), "video": brief(joined)}
    write_report(metrics(joined, modalities=modalities, fusion=fusion), "t", tmp_path / "r.html")
    texts, changes = Page(tmp_path / "r.html").texts, fusion["skeleton"]
    at = texts.index("skeleton alone", texts.index("What joining them changes"))
    assert texts[at + 1 : at + 3] == [str(changes["mended"]["n"]), str(changes["broken"]["n"])]
    assert "Mended beside skeleton alone, the 10 clearest" in texts
    assert not any("beside video" in text for text in texts)  # nothing changes there
    first = changes["mended"]["clips"][0]
    at = texts.index(first["sample_id"])
    assert texts[at : at + 4] == list(first.values())

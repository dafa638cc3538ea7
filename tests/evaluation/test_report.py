"""The report as a browser would see it."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import numpy as np

from hhmnet.evaluation.metrics import brief, evaluate, fusion_changes, surest_mistakes
from hhmnet.evaluation.report import write_report
from hhmnet.evaluation.scores import Scores

CLASSES = ("sit <down>", "stand & stay", "walk", "never \u0378 seen")  # no font has the last one


def make(seed: int, good: float) -> Scores:
    rng = np.random.default_rng(seed)
    labels = np.random.default_rng(9).integers(0, 3, 200)
    logits = rng.normal(size=(200, 4)).astype(np.float32) * 2
    logits[np.arange(200), labels] += good
    return Scores(np.array([f"clip <{i}>" for i in range(200)]), labels, logits, CLASSES)


class Page(HTMLParser):
    """The texts of a page."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_a_report_says_what_was_measured_and_needs_nothing_beside_it(tmp_path: Path) -> None:
    joined, alone, file, matrix = make(1, 3), make(2, 1), tmp_path / "r.html", tmp_path / "matrix.png"
    matrix.write_bytes(b"a picture")
    about = {"split": "test", "protocol": "given", "surest_mistakes": surest_mistakes(joined)}
    fusion = fusion_changes(joined, {"skeleton": alone, "video": joined})
    document = evaluate(joined) | about | {"streams": {"joint": brief(alone)}, "fusion": fusion}
    write_report(document, "run <1> on store", file, matrix)
    texts = Page(file).texts
    low, high = document["top1_interval"]
    wanted = ["run <1> on store", f"{document['top1']:.2f} %", f"{brief(alone)['top1']:.2f}", *CLASSES]
    wanted += [document["surest_mistakes"][0]["sample_id"], f"{low:.2f} to {high:.2f}"]
    assert [text for text in wanted if text not in texts] == []
    assert "data:image/png;base64,YSBwaWN0dXJl" in file.read_text()
    assert "http" not in file.read_text()
    assert "in pictures, for want of a font: 3 is never \u0378 seen" in texts
    # The hardest class stands first, and one without clips last.
    each, at = document["per_class"], texts.index("Classes")
    order = sorted(CLASSES[:3], key=lambda name: each[name]["top1"])
    cells = [text for text in texts[at + 4 :] if not set(text) <= {"█"}]
    wanted = [cell for name in order for cell in (name, str(each[name]["n"]), f"{each[name]['top1']:.2f}")]
    assert cells[:12] == [*wanted, CLASSES[3], "0", "-"]
    # What joining them changes.
    changes, at = fusion["skeleton"], texts.index("beside skeleton alone")
    assert texts[at + 1 : at + 3] == [str(changes["mended"]["n"]), str(changes["broken"]["n"])]
    first = changes["mended"]["clips"][0]
    at = texts.index(first["sample_id"], texts.index("Mended beside skeleton alone, the 10 clearest"))
    assert texts[at : at + 4] == list(first.values())

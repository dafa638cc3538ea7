"""The report as a browser would see it, and the figures that only it and metrics.json show."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from hhmnet.evaluation.metrics import (
    brief,
    calibration_error,
    evaluate,
    fusion_changes,
    surest_mistakes,
)
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


def plain_softmax(row: np.ndarray) -> np.ndarray:
    powers = np.exp(row.astype(np.float64) - row.max())
    return powers / powers.sum()


@pytest.mark.parametrize("seed", range(4))
def test_calibration_error_is_that_of_the_definition(seed: int) -> None:
    scores = make(seed=seed)
    bins: dict[int, list[tuple[float, bool]]] = {}
    for label, row in zip(scores.labels.tolist(), scores.logits, strict=True):
        if label >= 0:
            sure = plain_softmax(row)
            bins.setdefault(min(int(sure.max() * 15), 14), []).append((sure.max(), sure.argmax() == label))
    error = 0.0
    for members in bins.values():
        confidence, hits = zip(*members, strict=True)
        error += len(members) / 195 * abs(np.mean(confidence) - np.mean(hits))
    assert calibration_error(scores) == pytest.approx(100 * error, abs=1e-3)


def test_the_surest_mistakes_come_first() -> None:
    scores = make()
    expected = []
    for name, label, row in zip(scores.sample_ids, scores.labels, scores.logits, strict=True):
        sure = plain_softmax(row)
        if label >= 0 and sure.argmax() != label:
            expected.append((-sure.max(), str(name), CLASSES[label], CLASSES[sure.argmax()]))
    expected.sort()
    found = surest_mistakes(scores, 10)
    assert len(found) == 10
    assert [(m["sample_id"], m["label"], m["answer"]) for m in found] == [row[1:] for row in expected[:10]]
    assert found[0]["probability"] == pytest.approx(-expected[0][0], abs=1e-4)
    assert len(surest_mistakes(scores, 10_000)) == len(expected)


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
    content = (tmp_path / "r.html").read_text()
    assert "data:image/png;base64,YSBwaWN0dXJl" in content
    assert "http" not in content  # it needs nothing from elsewhere


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

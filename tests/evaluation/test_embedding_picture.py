"""What the picture of embeddings shows, and that it always comes out the same."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hhmnet.evaluation import embedding_picture
from hhmnet.evaluation.embedding import EmbeddingError, Embeddings, figures
from hhmnet.evaluation.embedding_picture import View, draw_embeddings, flatten
from made_embeddings import made_embeddings


def test_a_map_keeps_neighbours_and_comes_out_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn")
    found = made_embeddings(60, 3)
    x = found.embeddings["joint"]
    points = flatten(x)
    assert points.shape == (60, 2)
    apart = np.linalg.norm(points[:, None] - points[None], axis=-1) + np.diag(np.full(60, np.inf))
    assert (found.labels[apart.argmin(1)] == found.labels).mean() > 0.9
    np.random.seed(3)  # noqa: NPY002
    np.testing.assert_array_equal(flatten(x), points)
    np.testing.assert_allclose(flatten(x * np.arange(1, 61)[:, None]), points, rtol=1e-2, atol=0.5)


def view(title: str, found: Embeddings) -> View:
    return View(title, found, figures(found))


def test_the_same_picture_comes_out_the_same(tmp_path: Path) -> None:
    for name in ("sklearn", "matplotlib"):
        pytest.importorskip(name)
    shown = view("before", made_embeddings())
    for file in ("a.png", "b.png"):
        draw_embeddings([shown], tmp_path / file)
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_row_a_run_and_a_panel_a_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("sklearn", "matplotlib"):
        pytest.importorskip(name)
    kept: list[Any] = []
    monkeypatch.setattr(embedding_picture, "save_figure", lambda figure, file: kept.append(figure))
    monkeypatch.setattr(embedding_picture, "MOST_DRAWN", 24)
    views = [
        view("before", made_embeddings()),
        view("after", made_embeddings(streams=("bone", "joint_motion"))),
    ]
    draw_embeddings(views, tmp_path / "a.png")
    panels = np.array(kept[0].axes).reshape(2, 4)
    assert [row[0].get_ylabel() for row in panels] == ["before", "after"]
    titles = [[axes.get_title().partition("\n")[0] for axes in row] for row in panels]
    together = "projections of all streams"
    assert titles == [["joint", "bone", "", together], ["", "bone", "joint_motion", together]]
    assert [[axes.get_frame_on() for axes in row] for row in panels] == [
        [True, True, False, True],
        [False, True, True, True],
    ]
    # 24 points in every map: of 24 clips, or of 12 clips in two streams.
    drawn = [[len(dots.get_offsets()) for dots in axes.collections] for axes in panels[0]]
    assert drawn == [[24], [24], [], [12, 12]]
    shapes = [dots.get_paths()[0].vertices.shape for dots in panels[0, 3].collections]
    assert shapes[0] != shapes[1]
    labels = [text.get_text() for text in kept[0].legends[0].get_texts()]
    assert labels == ["joint", "bone", "joint_motion", *views[0].found.class_names]


@pytest.mark.parametrize("classes", [2, 15, 30])
def test_every_class_has_a_colour_of_its_own(classes: int) -> None:
    pytest.importorskip("matplotlib")
    assert len(set(embedding_picture._colours(classes))) == classes


def test_colours_are_the_clips_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("sklearn", "matplotlib"):
        pytest.importorskip(name)
    kept: list[Any] = []
    monkeypatch.setattr(embedding_picture, "save_figure", lambda figure, file: kept.append(figure))
    monkeypatch.setattr(embedding_picture, "flatten", lambda x: x[:, :2])  # so that a point tells whose it is
    found = made_embeddings(60, 30)
    draw_embeddings([view("run", found)], tmp_path / "a.png")
    (dots,) = kept[0].axes[0].collections
    colours = np.array(embedding_picture._colours(30))
    for point, colour in zip(dots.get_offsets(), dots.get_facecolors(), strict=True):
        clip = np.abs(found.embeddings["joint"][:, :2] - point).sum(1).argmin()
        np.testing.assert_allclose(colour[:3], colours[found.labels[clip], :3])
    assert len(kept[0].legends[0].get_texts()) == 2  # thirty classes would fill the picture


def test_without_scikit_learn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    with pytest.raises(EmbeddingError, match=r"pip install 'hhmnet\[plot\]'"):
        flatten(np.eye(5))

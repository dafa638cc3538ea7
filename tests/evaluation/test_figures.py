from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib import image

from hhmnet.evaluation import figures
from hhmnet.evaluation.figures import Strip, draw_confusion, draw_curves, draw_strips
from hhmnet.skeleton import COCO17, KINECT20, SkeletonLayout
from hhmnet.training.logs import EpochLog

ORANGE, BLUE = [0xD9, 0x5F, 0x02], [0x1B, 0x6C, 0xA8]


def holds(file: Path, colour: list[int]) -> bool:
    pixels = image.imread(file)[..., :3]
    return bool((np.abs(pixels - np.array(colour) / 255).max(-1) < 0.02).any())


@pytest.mark.parametrize("classes", [2, 60])
def test_confusion_is_drawn_for_any_number_of_classes(tmp_path: Path, classes: int) -> None:
    matrix = np.random.default_rng(0).integers(0, 9, (classes, classes))
    matrix[0] = 0
    draw_confusion(matrix, [f"class {i}" for i in range(classes)], tmp_path / "c.png")
    assert image.imread(tmp_path / "c.png").std() > 0.01
    assert [path.name for path in tmp_path.iterdir()] == ["c.png"]


@pytest.mark.parametrize("val", [None, 60.0])
def test_curves(tmp_path: Path, val: float | None) -> None:
    draw_curves([EpochLog(e, 1 / e, 10.0 * e, 0.1, 1.0, 1.0, val) for e in range(1, 6)], tmp_path / "c.png")
    assert holds(tmp_path / "c.png", BLUE)
    assert holds(tmp_path / "c.png", ORANGE) == (val is not None)


@pytest.mark.parametrize("layout", [KINECT20, COCO17], ids=lambda layout: layout.name)
def test_strips_show_poses_evenly_over_the_clip_and_left_and_right(
    tmp_path: Path, layout: SkeletonLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, present = np.random.default_rng(0), np.ones((2, 20), bool)
    present[-1, :10] = False
    joints = rng.random((2, 20, layout.num_joints, layout.dims), np.float32)
    strip = Strip("clip [1] $x", joints, present, np.arange(100, 120))
    nobody = strip._replace(present=np.zeros_like(present))
    kept, save = [], figures.save_figure
    monkeypatch.setattr(
        figures, "save_figure", lambda figure, file: (kept.append(figure), save(figure, file))
    )
    for strips, seen in (([strip, nobody], True), ([nobody], False)):
        draw_strips(strips, layout, tmp_path / "s.png")
        assert [holds(tmp_path / "s.png", colour) for colour in (ORANGE, BLUE)] == [seen, seen]
    axes, shown = kept[0].axes[0], [0, 3, 5, 8, 11, 14, 16, 19]
    assert axes.get_title("left") == strip.title
    assert [text.get_text() for text in axes.texts] == [f"frame {100 + frame}" for frame in shown]
    assert len(axes.collections) == present[:, shown].sum()

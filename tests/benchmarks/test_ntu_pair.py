from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
from ntu_pair import CELL, abstract, body_cells, main, on_body


def room(columns: slice, rows: slice) -> np.ndarray:
    """A picture of a wall and a floor, with something before them."""
    image = np.full((120, 180, 3), 230, np.uint8)
    image[70:] = 60
    image[rows, columns] = (120, 30, 160)
    return image


def test_cells_of_a_body() -> None:
    cells = body_cells(room(slice(60, 90), slice(24, 108)))
    expected = np.zeros((120 // CELL, 180 // CELL), bool)
    expected[24 // CELL : 108 // CELL, 60 // CELL : 90 // CELL] = True
    np.testing.assert_array_equal(cells, expected)


def test_joints_on_a_body() -> None:
    cells = body_cells(room(slice(60, 90), slice(24, 108)))
    places = {(75, 50): True, (60, 24): True, (56, 50): True, (93, 50): True, (40, 50): False, (75, 5): False}
    outside = {(-4000.0, 50): False, (75, 9000.0): False}
    joints = np.array([*places, *outside], np.float32)
    assert on_body(cells, joints).tolist() == [*places.values(), *outside.values()]


def test_picture_has_two_colours() -> None:
    picture = abstract(body_cells(room(slice(60, 90), slice(24, 108))))
    assert picture.shape == (120, 180, 3)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) == 2


def test_no_such_clip(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--source", str(tmp_path), "--out", str(tmp_path / "a.png")]) == 2
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.skipif(
    "HHMNET_DATA" not in os.environ, reason="needs HHMNET_DATA, the folder of the real data sets"
)
def test_real_pair(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = Path(os.environ["HHMNET_DATA"], "ntu")
    assert main(["--source", str(source), "--out", str(tmp_path / "a.png")]) == 0
    share = re.search(r"\(([\d.]+)%\)", capsys.readouterr().out)
    assert share is not None
    assert float(share[1]) > 95

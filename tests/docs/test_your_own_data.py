"""Every row of "you have … type this" in docs/your_own_data.md, on made files."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import made_annotations
from hhmnet.cli import main
from hhmnet.skeleton import KINECT20
from hhmnet.store import Store
from made_poses import (
    JSON_FORMS,
    kinect_body,
    landmark_table,
    write_ctr_gcn,
    write_h36m,
    write_msr,
    write_openpose,
    write_st_gcn,
)

PAGE = Path(__file__).parents[2] / "docs/your_own_data.md"
ROWS = dict(re.findall(r"^\| (.+?) \| `hhmnet (prepare .+?)` \|$", PAGE.read_text(), re.MULTILINE))


def _listed(write: Callable[[Path], object], name: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        write(folder / name)
        (folder / "labels.csv").write_text(f"path,label\n{name},wave\n")

    return make


def _json(form: str) -> Callable[[Path], None]:
    return _listed(lambda file: file.write_text(json.dumps(JSON_FORMS[form][0]())), "a.json")


MAKE: dict[str, Callable[[Path], object]] = {
    "skeletons": _listed(lambda file: np.save(file, kinect_body(KINECT20)), "a.npy"),
    "OpenPose": _listed(write_openpose, "ann_01"),
    "MediaPipe's pose landmarks, as CSV": _listed(lambda file: file.write_text(landmark_table()), "a.csv"),
    "MediaPipe's pose landmarks, as JSON": _json("mediapipe"),
    "AlphaPose": _json("alphapose_halpe26"),
    "COCO": _json("coco"),
    "ultralytics": _json("ultralytics"),
    "MMPose": _json("mmpose"),
    "Kinetics-skeleton": _json("kinetics"),
    "CTR-GCN": lambda folder: write_ctr_gcn(folder).rename(folder / "FILE.npz"),
    "ST-GCN": write_st_gcn,
    "VideoPose3D": lambda folder: write_h36m(folder).rename(folder / "FILE.npz"),
    "MSR Action3D": write_msr,
    "a pickle of pyskl": lambda folder: made_annotations.put_pickle(
        folder / "FILE.pkl", made_annotations.hrnet(2)
    ),
}
"""By the beginning of the row, what makes its files."""


def test_every_row_has_an_example() -> None:
    examples = {start: [row for row in ROWS if row.startswith(start)] for start in (*MAKE, "videos")}
    assert sorted(row for rows in examples.values() for row in rows) == sorted(ROWS)
    assert all(len(rows) == 1 for rows in examples.values())


@pytest.mark.parametrize("start", MAKE)
def test_what_the_page_says_is_typed(start: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The row "videos" needs networks to be fetched; the tutorial's test runs it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "DIR").mkdir()
    MAKE[start](tmp_path / "DIR")
    (command,) = (text for row, text in ROWS.items() if row.startswith(start))
    words = [f"DIR/{word}" if word.startswith("FILE") else word for word in shlex.split(command)]
    assert main([*words, "--jobs", "1"]) == 0
    assert len(Store(tmp_path / "STORE")) > 0

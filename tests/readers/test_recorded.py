from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hhmnet.cli import main
from hhmnet.predict.sources import InputError, Sources, find_inputs
from hhmnet.readers import SourceError
from hhmnet.readers.recorded import find_videos, pair_frames
from hhmnet.skeleton import KINECT20
from hhmnet.store import Store
from made_poses import kinect_body, write_msr


@given(st.integers(1, 300), st.integers(1, 300), st.floats(-20, 20))
def test_by_time_is_in_order_and_without_delay_the_nearest(skeleton: int, video: int, delay: float) -> None:
    index = pair_frames(skeleton, video, delay, stretch=True)[0]
    assert index.shape == (skeleton,)
    assert index.min() >= 0
    assert index.max() < video
    assert (np.diff(index) >= 0).all()
    middles = (np.arange(video) + 0.5) / video
    distances = np.abs(middles - (np.arange(skeleton)[:, None] + 0.5) / skeleton)
    chosen = distances[np.arange(skeleton), pair_frames(skeleton, video, stretch=True)[0]]
    assert (chosen <= distances.min(1) + 1e-9).all()


def test_videos_are_found_by_their_names(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "é.ts")
    names = ["b.mp4", "b.mkv", "deep/a.AVI", "c.txt", "d.mkv", ".e.mp4", ".hidden/e.mp4", "S_rgb.mp4"]
    for name in (*names, decomposed):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    videos, left_over = find_videos(tmp_path, ["a", "b", "e", "z", unicodedata.normalize("NFC", "é")])
    assert videos == {"a": "deep/a.AVI", "b": "b.mkv", "é": decomposed}
    assert left_over == ["S_rgb.mp4", "b.mp4", "d.mkv"]
    with pytest.raises(SourceError, match=r"no folder at .*nothing"):
        find_videos(tmp_path / "nothing", [])


def test_msr_action3d(tmp_path: Path) -> None:
    file, out = write_msr(tmp_path), tmp_path / "out"
    (tmp_path / "readme.txt").write_text("no clip")
    assert main(["prepare", "msr_action3d", "--source", str(tmp_path), "--out", str(out), "--jobs", "1"]) == 0
    store = Store(out)
    sample = store.sample(0)
    np.testing.assert_allclose(sample.joints[0], kinect_body(), atol=1e-5)
    assert (store.class_names[sample.label], sample.subject) == ("horizontal arm wave", "3")
    (found,) = find_inputs([tmp_path])[:1]
    np.testing.assert_array_equal(Sources(KINECT20).read(found).sample.joints, sample.joints)
    for text, reason in (
        ("1 2 3\n", "line 1: has 3 numbers; MSR Action3D has 4"),
        ("1 2 3 1\n" * 21, "has 21 joints, which is no multiple of 20"),
        ("1 2 x 1\n", "line 1: holds something else than numbers"),
    ):
        file.write_text(text)
        with pytest.raises(InputError, match=reason):
            Sources(KINECT20).read(file)

"""The sample set on disk."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from hhmnet.conversion import project
from hhmnet.readers.nw_ucla import NWUCLA, NWUCLAConfig
from hhmnet.synthetic import (
    ACTIONS,
    SKELETON_CEILING,
    SUBJECTS,
    VIDEOS,
    generate,
    observe,
    performance,
    render,
)
from hhmnet.synthetic.body import JOINT
from hhmnet.synthetic.scene import LENS


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.fixture(scope="module")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One clip of five actions from every view, with videos, written by two processes."""
    out = tmp_path_factory.mktemp("filmed") / "set"
    seen: list[tuple[int, int]] = []
    generate(out, clips=15, seed=6, videos=True, jobs=2, progress=lambda *counts: seen.append(counts))
    assert seen[-1] == (15, 15)
    assert seen == sorted(seen)
    return out


def test_the_set_is_balanced_and_a_seed_gives_the_same_bytes_whatever_the_number_of_clips_and_processes(
    tmp_path: Path, filmed: Path
) -> None:
    names = [path.stem for path in generate(tmp_path / "set", clips=60, seed=6)]
    for part, values in ((slice(0, 3), 10), (slice(4, 7), 2), (slice(12, 15), 3)):
        assert set(Counter(name[part] for name in names).values()) == {60 // values}
    few, other = tmp_path / "few", tmp_path / "other"
    seen: list[tuple[int, int]] = []
    generate(few, clips=5, seed=6, videos=True, progress=lambda *counts: seen.append(counts))
    assert seen == [(n, 5) for n in range(1, 6)]
    generate(other, clips=5, seed=4)
    assert len(contents(few)) == 11
    assert contents(few).items() <= contents(filmed).items()
    differ = {name for name, data in contents(other).items() if contents(few)[name] != data}
    assert differ == set(contents(other)) - {"classes.json"}
    with pytest.raises(ValueError, match=re.escape(str(few))):  # nothing is written over
        generate(few, clips=3)


def test_the_nw_ucla_reader_pairs_videos_with_the_skeletons(filmed: Path) -> None:
    reader = NWUCLA(filmed, NWUCLAConfig(videos=filmed / VIDEOS))
    assert reader.class_names == tuple(action.name for action in ACTIONS)
    assert len(reader.items()) == 15
    notes: Counter[str] = Counter()
    for name in ("a01_s01_e00_v02", "a05_s01_e00_v03"):
        sample = reader.read(f"{name}.json", notes)
        action, view = int(name[1:3]), int(name[-1])
        assert (sample.video, sample.label, sample.camera) == (f"{name}.mp4", action - 1, str(view))
        np.testing.assert_array_equal(sample.video_frames, np.arange(sample.joints.shape[1]))
        body = np.isfinite(render(performance(action, 1, 0, seed=6), view).depth)
        pixels = sample.pixels[0]
        np.testing.assert_allclose(pixels, project(sample.joints[0], LENS), atol=0.01)
        inside = (pixels > 3).all(-1) & (pixels < np.array(body.shape[:0:-1]) - 4).all(-1)
        spots = zip(*np.nonzero(inside), *pixels[inside].round().astype(int).T, strict=False)
        near = [body[t, y - 3 : y + 4, x - 3 : x + 4].any() for t, _, x, y in spots]
        assert np.mean(near) > 0.97  # the sensor errs by some centimetres
    assert not notes


@pytest.mark.parametrize(
    ("numbers", "frames", "sums", "hand"),
    [
        ((1, 2, 3, 1), 74, [-0.4545, 2.4991, -0.2287], [0.2588, -0.1420, 2.9580]),
        ((10, 9, 1, 2), 44, [-0.1798, 2.6178, -0.6384], [0.6364, 0.1818, 3.2730]),
    ],
)
def test_clips_are_those_that_figures_were_measured_on(numbers, frames: int, sums, hand) -> None:
    acted = performance(*numbers[:3], seed=4)
    assert len(acted.joints) == frames
    np.testing.assert_allclose(acted.joints[9, [3, 11, 19]].sum(0), sums, atol=1e-4)
    np.testing.assert_allclose(observe(acted, numbers[3])[12, JOINT["right_hand"]], hand, atol=1e-4)


def test_no_skeleton_passes_the_ceiling() -> None:
    """The members of a pair differ in the object alone, so the best answer to both is right for one."""
    answers: dict[bytes, list[int]] = {}
    for action in ACTIONS:
        for subject in range(1, SUBJECTS + 1):
            seen = observe(performance(action.id, subject, 7), 3)
            answers.setdefault(seen.tobytes(), []).append(action.id)
    best = sum(max(ids.count(answer) for answer in ids) for ids in answers.values())
    assert best / (len(ACTIONS) * SUBJECTS) == pytest.approx(SKELETON_CEILING)
    pairs = [{ACTIONS[i - 1].object for i in ids} for ids in answers.values() if len(ids) > 1]
    assert {frozenset(pair) for pair in pairs} == {
        frozenset({"bottle", "book"}),
        frozenset({"racket", "bat"}),
    }

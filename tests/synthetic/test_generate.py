"""The sample set: its files, and pictures with a body where the joints are, and nothing but an object that tells."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from hhmnet.conversion import project
from hhmnet.readers.nw_ucla import NWUCLA, NWUCLAConfig
from hhmnet.synthetic import ACTIONS, CAMERAS, VIDEOS, generate, observe, performance, render
from hhmnet.synthetic.body import JOINT
from hhmnet.synthetic.pictures import HEIGHT, LENS, WIDTH


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


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
    generate(few, clips=5, seed=6, videos=True)
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


def test_clips_and_pictures_are_those_that_figures_were_measured_on() -> None:
    acted = performance(10, 9, 1, seed=4)
    assert len(acted.joints) == 44
    np.testing.assert_allclose(acted.joints[9, [3, 11, 19]].sum(0), [-0.1798, 2.6178, -0.6384], atol=1e-4)
    seen = observe(acted, 2)[12, JOINT["right_hand"]]
    np.testing.assert_allclose(seen, [0.6364, 0.1818, 3.2730], atol=1e-4)
    found = render(performance(7, 1, 0, 4), 3, [0, 9]).pictures
    np.testing.assert_allclose(found.mean((0, 1, 2)), (61.56, 110.53, 91.62), atol=0.05)


@pytest.mark.parametrize(("first", "reach"), [(7, 0.3), (9, 0.75)])
def test_the_members_of_a_pair_differ_in_the_object_alone(first: int, reach: float) -> None:
    """Which ``reach`` metres at the most lead from the hand to, and which is seen."""
    places, sizes = np.stack(np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT)), -1), []
    for subject in (1, 2):
        for view in CAMERAS:
            one, other = (performance(action, subject, 0, 11) for action in (first, first + 1))
            np.testing.assert_array_equal(one.joints, other.joints)  # so no skeleton passes the ceiling
            frames = np.arange(0, len(one.joints), 20)
            differ = (render(one, view, frames).pictures != render(other, view, frames).pictures).any(-1)
            held = JOINT[f"{one.subject.handedness}_hand"]
            hand = CAMERAS[view].to_camera(one.joints[frames])[:, held]
            farthest = reach * LENS.fx / (hand[:, 2] - reach)
            way = np.linalg.norm(places - project(hand, LENS)[:, None, None], axis=-1)
            assert not differ[way >= farthest[:, None, None]].any()
            sizes += differ.sum((1, 2)).tolist()
    assert np.median(sizes) > 100
    assert np.mean(np.array(sizes) < 25) < 0.1  # the body seldom hides the object

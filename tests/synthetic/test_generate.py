"""The sample set on disk."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pytest

from hhmnet.conversion import project
from hhmnet.readers.nw_ucla import NWUCLA, NWUCLAConfig
from hhmnet.synthetic import ACTIONS, VIDEOS, generate, observe, performance, render, write_video
from hhmnet.synthetic.scene import LENS
from hhmnet.video import open_video


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.fixture(scope="module")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One clip of every action from every view, with videos, written by two processes."""
    out = tmp_path_factory.mktemp("filmed") / "set"
    seen: list[tuple[int, int]] = []
    generate(out, clips=30, seed=6, videos=True, jobs=2, progress=lambda *counts: seen.append(counts))
    assert seen[-1] == (30, 30)
    assert seen == sorted(seen)
    return out


def test_files_are_nw_uclas(tmp_path: Path) -> None:
    paths = generate(tmp_path / "set", clips=60, seed=6)
    names = [path.stem for path in paths]
    assert sorted(contents(tmp_path / "set")) == sorted([*(f"{name}.json" for name in names), "classes.json"])
    for part, values in ((slice(0, 3), 10), (slice(4, 7), 2), (slice(12, 15), 3)):  # the set is balanced
        assert set(Counter(name[part] for name in names).values()) == {60 // values}
    for path in paths[::17]:
        action, subject, episode, view = map(int, re.findall(r"\d\d", path.stem))
        clip = json.loads(path.read_text(encoding="utf-8"))
        assert set(clip) == {"file_name", "skeletons", "label"}
        assert (clip["file_name"], clip["label"]) == (path.stem, action)
        expected = observe(performance(action, subject, episode, 6), view)
        np.testing.assert_array_equal(np.array(clip["skeletons"]), np.round(expected, 5))
    classes = json.loads((tmp_path / "set" / "classes.json").read_text(encoding="utf-8"))
    assert classes["classes"] == [{"id": entry.id, "name": entry.name} for entry in ACTIONS]


def test_same_seed_same_bytes_whatever_the_number_of_clips_and_processes(
    tmp_path: Path, filmed: Path
) -> None:
    few, other = tmp_path / "few", tmp_path / "other"
    seen: list[tuple[int, int]] = []
    generate(few, clips=5, seed=6, videos=True, progress=lambda *counts: seen.append(counts))
    assert seen == [(n, 5) for n in range(1, 6)]
    generate(other, clips=5, seed=4)
    assert len(contents(few)) == 11
    assert contents(few).items() <= contents(filmed).items()
    differ = {name for name, data in contents(other).items() if contents(few)[name] != data}
    assert differ == set(contents(other)) - {"classes.json"}


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    for out in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(ValueError, match=re.escape(str(out))):
            generate(out, clips=3)
    assert contents(tmp_path) == {"notes.txt": b"mine"}


@pytest.mark.parametrize(("field", "value"), [("clips", 0), ("clips", 10**6), ("seed", -1), ("jobs", 0)])
def test_numbers_out_of_range_are_named_and_nothing_is_made(tmp_path: Path, field: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"'{field}'"):
        generate(tmp_path / "set", **{field: value})
    assert not (tmp_path / "set").exists()


def test_videos_show_what_was_drawn(filmed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    acted = performance(8, 1, 0, seed=6)
    drawn = render(acted, 3).pictures
    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})  # without an encoder of H.264
    write_video(tmp_path / "plain.mp4", drawn, 30)
    with av.open(str(tmp_path / "plain.mp4")) as opened:
        assert opened.streams.video[0].codec_context.name == "mpeg4"
    for file in (filmed / VIDEOS / "a08_s01_e00_v03.mp4", tmp_path / "plain.mp4"):
        with open_video(file) as video:
            assert len(video) == len(acted.joints)
            assert video.fps == pytest.approx(30)
            shown = video.frames(range(len(video)))
        errors = np.abs(shown.astype(int) - drawn).mean((1, 2, 3))
        assert errors.max() < 12  # of 255: noise and fine colour are what coding takes away
        assert np.abs(shown.mean((1, 2)) - drawn.mean((1, 2))).max() < 4


def test_the_nw_ucla_reader_pairs_videos_with_the_skeletons(filmed: Path) -> None:
    reader = NWUCLA(filmed, NWUCLAConfig(videos=filmed / VIDEOS))
    assert reader.class_names == tuple(action.name for action in ACTIONS)
    assert len(reader.items()) == 30
    notes: Counter[str] = Counter()
    for name in ("a01_s01_e00_v02", "a09_s01_e00_v03"):
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

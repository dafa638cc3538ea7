"""The sample set on disk."""

import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pytest

import hhmnet
from hhmnet.conversion import project
from hhmnet.readers.nw_ucla.depth_videos import NWUCLAConfig
from hhmnet.readers.nw_ucla.reader import NWUCLA
from hhmnet.synthetic import ACTIONS, CAMERAS, VIDEOS, clip_joints, generate, performance, render
from hhmnet.synthetic.__main__ import main
from hhmnet.synthetic.raw_files import write_video
from hhmnet.synthetic.rendering import draw
from hhmnet.synthetic.scene import LENS
from hhmnet.video import open_video


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_files_are_nw_uclas(tmp_path: Path) -> None:
    paths = generate(tmp_path / "set", clips=30, seed=6)
    assert sorted(contents(tmp_path / "set")) == sorted([*(path.name for path in paths), "classes.json"])
    for path in paths:
        named = re.fullmatch(r"a(\d\d)_s(\d\d)_e(\d\d)_v(\d\d)", path.stem)
        assert named is not None
        action, subject, episode, view = map(int, named.groups())
        clip = json.loads(path.read_text(encoding="utf-8"))
        assert set(clip) == {"file_name", "skeletons", "label"}
        assert clip["file_name"] == path.stem
        assert clip["label"] == [entry.id for entry in ACTIONS].index(action) + 1
        expected = clip_joints(action, subject, episode, view, seed=6)
        np.testing.assert_array_equal(np.array(clip["skeletons"]), np.round(expected, 5))
    classes = json.loads((tmp_path / "set" / "classes.json").read_text(encoding="utf-8"))
    assert classes["name"] == "hhmnet-sample"
    assert classes["classes"] == [{"id": entry.id, "name": entry.name} for entry in ACTIONS]


def test_the_nw_ucla_reader_reads_them(tmp_path: Path) -> None:
    path = generate(tmp_path, clips=30)[-1]
    reader = NWUCLA(tmp_path)
    assert reader.class_names == tuple(action.name for action in ACTIONS)
    sample = reader.read(path.name, Counter())
    assert (sample.sample_id, sample.label, sample.camera) == (path.stem, 9, "3")
    assert sample.joints.shape[2:] == (20, 3)


def test_the_set_is_balanced(tmp_path: Path) -> None:
    names = [path.stem for path in generate(tmp_path, clips=240)]
    assert len(set(names)) == 240
    for part, values in ((slice(0, 3), 10), (slice(4, 7), 8), (slice(12, 15), 3)):
        counts = Counter(name[part] for name in names)
        assert set(counts.values()) == {240 // values}
    pairs = Counter((name[:3], name[4:7]) for name in names)
    assert set(pairs.values()) == {len(CAMERAS)}


def test_same_seed_same_bytes_whatever_the_number_of_clips(tmp_path: Path) -> None:
    few, many, other = tmp_path / "few", tmp_path / "many", tmp_path / "other"
    generate(few, clips=7, seed=3)
    generate(many, clips=31, seed=3)
    generate(other, clips=7, seed=4)
    assert len(contents(few)) == 8
    assert contents(few).items() <= contents(many).items()
    differ = {name for name, data in contents(few).items() if contents(other)[name] != data}
    assert differ == set(contents(few)) - {"classes.json"}


def test_240_clips_take_seconds(tmp_path: Path) -> None:
    start = time.process_time()  # not the wall's clock, which other work on the machine would slow
    generate(tmp_path)
    assert time.process_time() - start < 10


def test_progress_counts_to_the_end(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    generate(tmp_path / "set", clips=5, progress=lambda done, wanted: seen.append((done, wanted)))
    assert seen == [(n, 5) for n in range(1, 6)]


def test_an_older_set_is_replaced_as_a_whole(tmp_path: Path) -> None:
    older, fresh = tmp_path / "older", tmp_path / "fresh"
    generate(older, clips=12, seed=1)
    generate(older, clips=4, seed=2)
    generate(fresh, clips=4, seed=2)
    assert contents(fresh) == contents(older)


class Interruption(Exception):
    pass


def interrupt(done: int, _: int) -> None:
    if done == 3:
        raise Interruption


def test_an_interrupted_run_leaves_what_was_there(tmp_path: Path) -> None:
    out = tmp_path / "set"
    with pytest.raises(Interruption):
        generate(out, clips=6, progress=interrupt)
    assert not out.exists()
    generate(out, clips=2, seed=1)
    before = contents(out)
    with pytest.raises(Interruption):
        generate(out, clips=6, seed=2, progress=interrupt)
    assert contents(out) == before


def test_what_a_killed_run_left_is_no_obstacle(tmp_path: Path) -> None:
    paths = generate(tmp_path, clips=6)
    (tmp_path / "classes.json").unlink()  # it moves into place last
    (tmp_path / ".hhmnet-sample-unfinished").mkdir()
    paths[-1].rename(tmp_path / ".hhmnet-sample-unfinished" / paths[-1].name)
    generate(tmp_path, clips=3)
    assert len(contents(tmp_path)) == 4


@pytest.mark.parametrize("name", ["notes.txt", "a01_s01_e00_v01.json", "classes.json", "a01_s01_e00_v01.csv"])
def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('{"name": "mine"}', encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape(str(tmp_path))):
        generate(tmp_path, clips=3)
    assert contents(tmp_path) == {name: b'{"name": "mine"}'}


def test_a_sample_set_with_a_file_of_someone_elses_is_refused(tmp_path: Path) -> None:
    generate(tmp_path, clips=3)
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r"notes\.txt"):
        generate(tmp_path, clips=3, seed=1)
    assert contents(tmp_path) == before


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "set").write_text("mine", encoding="utf-8")
    with pytest.raises(ValueError, match="is a file"):
        generate(tmp_path / "set", clips=3)


@pytest.mark.parametrize(("field", "value"), [("clips", 0), ("clips", 10**6), ("seed", -1), ("jobs", 0)])
def test_numbers_out_of_range_are_named_and_nothing_is_made(tmp_path: Path, field: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"'{field}'"):
        generate(tmp_path / "set", **{field: value})
    assert not (tmp_path / "set").exists()


# Videos


@pytest.fixture(scope="module")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One clip of every action from every view, with videos."""
    out = tmp_path_factory.mktemp("filmed") / "set"
    generate(out, clips=30, seed=6, videos=True, jobs=2)
    return out


def test_videos_leave_the_skeletons_as_they_are(tmp_path: Path, filmed: Path) -> None:
    generate(tmp_path, clips=30, seed=6)
    skeletons = {name: data for name, data in contents(filmed).items() if not name.startswith(VIDEOS)}
    assert skeletons == contents(tmp_path)
    videos = {Path(name).stem for name in contents(filmed)} - {"classes"}
    assert {path.stem for path in (filmed / VIDEOS).iterdir()} == videos


def test_videos_show_what_was_drawn(filmed: Path) -> None:
    acted = performance(8, 1, 0, seed=6)
    drawn = render(acted, 3, seed=6)
    with open_video(filmed / VIDEOS / "a08_s01_e00_v03.mp4") as video:
        assert len(video) == len(acted.joints)
        assert video.fps == pytest.approx(acted.fps)
        shown = video.frames(range(len(video)))
    assert shown.shape == drawn.shape
    errors = np.abs(shown.astype(int) - drawn).mean((1, 2, 3))
    assert errors.max() < 12  # of 255: noise and fine colour are what coding takes away
    assert np.abs(shown.mean((1, 2)) - drawn.mean((1, 2))).max() < 4


def test_the_nw_ucla_reader_pairs_videos_with_the_skeletons(filmed: Path) -> None:
    reader = NWUCLA(filmed, NWUCLAConfig(videos=filmed / VIDEOS))
    assert len(reader.items()) == 30
    notes: Counter[str] = Counter()
    for name in ("a01_s01_e00_v02", "a04_s01_e00_v01", "a09_s01_e00_v03"):
        sample = reader.read(f"{name}.json", notes)
        assert sample.video == f"{name}.mp4"
        np.testing.assert_array_equal(sample.video_frames, np.arange(sample.joints.shape[1]))
        action, view = int(name[1:3]), int(name[-1])
        body = np.isfinite(draw(performance(action, 1, 0, seed=6), view, seed=6).depth)
        pixels = sample.pixels[0]
        np.testing.assert_allclose(pixels, project(sample.joints[0], LENS), atol=0.01)
        inside = (pixels > 3).all(-1) & (pixels < np.array(body.shape[:0:-1]) - 4).all(-1)
        spots = zip(*np.nonzero(inside), *pixels[inside].round().astype(int).T, strict=False)
        near = [body[t, y - 3 : y + 4, x - 3 : x + 4].any() for t, _, x, y in spots]
        assert np.mean(near) > 0.97  # the sensor errs by some centimetres
    assert not notes


def test_videos_are_the_same_bytes_in_any_number_of_processes(tmp_path: Path, filmed: Path) -> None:
    generate(tmp_path, clips=7, seed=6, videos=True)
    assert contents(tmp_path).items() <= contents(filmed).items()


def test_processes_count_their_clips(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    generate(tmp_path, clips=30, jobs=2, progress=lambda done, wanted: seen.append((done, wanted)))
    assert seen[-1] == (30, 30)
    assert seen == sorted(seen)


def test_a_set_with_videos_is_replaced_as_a_whole(tmp_path: Path) -> None:
    older, fresh = tmp_path / "older", tmp_path / "fresh"
    generate(older, clips=4, seed=1, videos=True)
    generate(older, clips=2, seed=2, videos=True)
    generate(fresh, clips=2, seed=2, videos=True)
    assert contents(fresh) == contents(older)
    generate(older, clips=2, seed=2)
    assert not (older / VIDEOS).exists()


@pytest.mark.parametrize(
    "name", ["videos/notes.txt", "videos/a01_s01_e00_v01.avi", "a01_s01_e00_v01.mp4", "more/x.json"]
)
def test_a_set_with_other_videos_or_folders_is_refused(tmp_path: Path, name: str) -> None:
    generate(tmp_path, clips=1, videos=True)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"mine")
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=re.escape(name.removesuffix("/x.json"))):
        generate(tmp_path, clips=1)
    assert contents(tmp_path) == before


def test_without_an_h264_encoder_videos_are_mpeg4(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    pictures = render(performance(7, 1, 0), 1, frames=range(20))
    write_video(tmp_path / "clip.mp4", pictures, 30)
    with av.open(str(tmp_path / "clip.mp4")) as opened:
        assert opened.streams.video[0].codec_context.name == "mpeg4"
    with open_video(tmp_path / "clip.mp4") as video:
        assert np.abs(video.frames(range(20)).astype(int) - pictures).mean() < 12


# The command


def test_the_command_writes_a_set(tmp_path: Path) -> None:
    source = str(Path(hhmnet.__path__[0]).parent)
    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "hhmnet.synthetic",
            str(tmp_path / "set"),
            "--clips=4",
            "--seed=5",
            "--videos",
        ],
        env={**os.environ, "PYTHONPATH": source},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    generate(tmp_path / "same", clips=4, seed=5, videos=True)
    assert contents(tmp_path / "set") == contents(tmp_path / "same")


def test_the_command_answers_bad_input_with_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    assert main([str(tmp_path)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "notes.txt" in lines[0]

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hhmnet.cli import main
from hhmnet.store import VIDEOS_FILE, Store, VideoFolderError, write_video_folder
from made_crops import made_clip, write_made_store


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store's folder beside its videos, which it doesn't know of yet."""
    return write_made_store(tmp_path / "here", [made_clip()])[0].path


def test_a_store_without_a_note(store: Path, tmp_path: Path) -> None:
    assert Store(store).video_folder is None
    with pytest.raises(
        VideoFolderError, match=r"store .*store doesn't say where its videos are; .* --videos DIR"
    ):
        Store(store).find_videos()
    assert Store(store).find_videos(tmp_path) == tmp_path


def test_the_note_is_relative_so_both_may_be_moved(store: Path, tmp_path: Path) -> None:
    write_video_folder(store, store.parent / "videos")
    assert (store / VIDEOS_FILE).read_text() == '{"folder": "../videos"}'
    assert Store(store).video_folder == (store.parent / "videos").resolve()
    assert Store(store).find_videos() == (store.parent / "videos").resolve()
    shutil.move(store.parent, tmp_path / "there")
    assert Store(tmp_path / "there" / "store").find_videos() == (tmp_path / "there" / "videos").resolve()
    write_video_folder(tmp_path / "there" / "store", None)
    assert Store(tmp_path / "there" / "store").video_folder is None


def test_a_store_reached_by_a_link(store: Path, tmp_path: Path) -> None:
    write_video_folder(store, store.parent / "videos")
    (tmp_path / "deep" / "down").mkdir(parents=True)
    (tmp_path / "deep" / "down" / "link").symlink_to(store)
    linked = Store(tmp_path / "deep" / "down" / "link")
    assert linked.find_videos() == (store.parent / "videos").resolve()


def test_a_folder_that_is_gone(store: Path, tmp_path: Path) -> None:
    write_video_folder(store, tmp_path / "gone")
    with pytest.raises(
        VideoFolderError, match=r"no folder at .*gone, where store .* had its videos; .* --videos DIR"
    ):
        Store(store).find_videos()
    with pytest.raises(
        VideoFolderError, match=r"no folder at .*none; name the folder of videos with --videos DIR"
    ):
        Store(store).find_videos(tmp_path / "none")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"folder": 3}', "\udcff"])
def test_a_note_that_cannot_be_read(store: Path, text: str) -> None:
    (store / VIDEOS_FILE).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(VideoFolderError, match=r"videos\.json should hold"):
        Store(store).find_videos()


def test_prepare_writes_the_note(raw_folder: Path, tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    words = ["prepare", "nw_ucla", "--source", str(raw_folder), "--out", str(tmp_path / "store")]
    assert main([*words, "--videos", str(videos)]) == 0
    assert Store(tmp_path / "store").video_folder == videos.resolve()
    assert main(words) == 0
    assert Store(tmp_path / "store").video_folder is None, "a store that was made again without videos"

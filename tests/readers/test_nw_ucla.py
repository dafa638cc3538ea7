from __future__ import annotations

import copy
import json
import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hhmnet.prepare import prepare
from hhmnet.readers import READERS, ReadError, SourceError, get_reader, reader_class
from hhmnet.readers.nw_ucla import NWUCLA
from hhmnet.sample import Sample
from hhmnet.skeleton import KINECT20
from hhmnet.store import Store
from made_clips import CUT, NAME, clip, put


def read(folder: Path, content: Any, name: str = NAME) -> Sample:
    notes: Counter[str] = Counter()
    sample = NWUCLA(folder).read(put(folder, content, name).name, notes)
    assert not notes  # nothing is done to these data
    return sample


def test_a_clip(tmp_path: Path) -> None:
    sample = read(tmp_path, clip())
    assert (sample.sample_id, sample.label) == (NAME, 6)
    assert (sample.subject, sample.camera, sample.setup) == ("3", "2", "")
    assert sample.joints.shape == (1, 3, 20, 3)
    np.testing.assert_array_equal(sample.joints[0], np.array(clip()["skeletons"], np.float32))
    assert sample.present.all()
    assert sample.frame_index.tolist() == [0, 1, 2]
    assert sample.pixels is sample.confidence is sample.video is None


def test_action_ids_and_labels() -> None:
    ids = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 6, 8: 7, 9: 8, 11: 9, 12: 10}
    names = (
        "pick up with one hand, pick up with two hands, drop trash, walk around, sit down, stand up, donning"
    )
    assert "nw_ucla" in READERS
    assert reader_class("nw_ucla") is NWUCLA
    assert NWUCLA.layout is KINECT20
    assert NWUCLA.protocol == "nw_ucla_cross_view"
    reader = NWUCLA(Path())
    assert reader.class_names == (*names.split(", "), "doffing", "throw", "carry")
    assert reader._labels == {action: label - 1 for action, label in ids.items()}


def test_one_frame_and_whole_numbers_are_fine(tmp_path: Path) -> None:
    content = clip(frames=1)
    content["skeletons"] = [[[v, 0, 1] for v in range(20)]]
    sample = read(tmp_path, content)
    assert sample.joints.shape == (1, 1, 20, 3)
    assert sample.joints[0, 0, 19].tolist() == [19, 0, 1]


def test_a_frame_of_zeros_is_kept_as_absent(tmp_path: Path) -> None:
    content = clip()
    content["skeletons"][1] = [[0.0, 0.0, 0.0]] * 20
    sample = read(tmp_path, content)
    assert sample.present.tolist() == [[True, False, True]]
    assert sample.frame_index.tolist() == [0, 1, 2]


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    assert read(tmp_path, "\ufeff" + json.dumps(clip())).num_frames == 3


def edited(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    content = copy.deepcopy(clip())
    change(content)
    return content


def joint(value: Any) -> dict[str, Any]:
    """A clip with ``value`` as the x of joint 4 in frame 1."""

    def change(content: dict[str, Any]) -> None:
        content["skeletons"][1][4][0] = value

    return edited(change)


BAD: dict[str, tuple[Any, str]] = {
    "empty file": ("", "line 1: cut short"),
    "cut short": (CUT, "cut short"),
    "cut in a word": ('{"label": tr', "cut short"),
    "cut in a list": ("[[1, 2]", "cut short"),
    "a comma too many": ('{"label": 7,}', "line 1: not valid JSON"),
    "no JSON at all": ("label,7", "not valid JSON"),
    "text after the object": (json.dumps(clip()) + "}", "Extra data"),
    "not an object": ([1, 2], "must hold one JSON object, holds a list"),
    "null": ("null", "holds null"),
    "nested too deeply": ("[" * 200_000, "nested too deeply|cut short"),
    "skeletons nested too deeply": (
        edited(lambda c: c.update(skeletons=json.loads("[" * 80 + "]" * 80))),
        "frame 0: must have 20 joints, has 1",
    ),
    "no file_name": (edited(lambda c: c.pop("file_name")), "field 'file_name' is missing"),
    "no skeletons": (edited(lambda c: c.pop("skeletons")), "field 'skeletons' is missing"),
    "no label": (edited(lambda c: c.pop("label")), "field 'label' is missing"),
    "other file_name": (clip("a08_s03_e01_v03"), "'file_name' is 'a08_s03_e01_v03'.* 'a08_s03_e01_v02'"),
    "other label": (clip(label=8), "'label' is 8, but by the file's name it is 7"),
    "label as text": (edited(lambda c: c.update(label="7")), "'label' is '7'"),
    "label as list": (edited(lambda c: c.update(label=[7] * 99)), "'label' is a list, but"),
    "label as long text": (edited(lambda c: c.update(label="x" * 99)), r"'label' is 'xxx.*x\.\.\., but"),
    "no frames": (edited(lambda c: c.update(skeletons=[])), "'skeletons' is empty"),
    "skeletons as text": (edited(lambda c: c.update(skeletons="none")), "list of frames, is text"),
    "a frame as number": (edited(lambda c: c["skeletons"].insert(2, 5)), "frame 2: .* is a number"),
    "joints missing in all": (
        edited(lambda c: [frame.pop() for frame in c["skeletons"]]),
        "frame 0: must have 20 joints, has 19",
    ),
    "joints missing in one": (
        edited(lambda c: c["skeletons"][2].pop()),
        "frame 2: must have 20 joints, has 19",
    ),
    "another skeleton": (
        edited(lambda c: c.update(skeletons=[[[1.0, 2.0, 3.0]] * 25])),
        "must have 20 joints, has 25",
    ),
    "two coordinates": (
        edited(lambda c: c["skeletons"][0][19].pop()),
        "frame 0, joint 19: must have 3 coordinates, has 2",
    ),
    "a joint as object": (edited(lambda c: c["skeletons"][1].__setitem__(3, {})), "joint 3: .* is an object"),
    "NaN": (joint(float("nan")), "holds NaN, which is no number"),
    "infinity": (joint(float("inf")), "holds Infinity"),
    "minus infinity": (joint(float("-inf")), "holds -Infinity"),
    "number as text": (joint("1.5"), "frame 1, joint 4: must be numbers, has text"),
    "null as number": (joint(None), "frame 1, joint 4: must be numbers, has null"),
    "true as number": (joint(True), "frame 1, joint 4: must be numbers, has true or false"),
    "beyond float32": (joint(1e39), "too large"),
    "beyond float64": (json.dumps(joint(7e9)).replace("7000000000.0", "1e999"), "too large"),
    "whole number beyond float64": (joint(10**400), "too large"),
    "whole number of 5,000 digits": (json.dumps(joint(7e9)).replace("7000000000.0", "9" * 5000), "not valid"),
    "no body": (edited(lambda c: c.update(skeletons=[[[0, 0, 0]] * 20] * 2)), "no frame has a body"),
}


@pytest.mark.parametrize(("content", "reason"), BAD.values(), ids=BAD.keys())
def test_bad_content_is_refused_with_its_reason(tmp_path: Path, content: Any, reason: str) -> None:
    with pytest.raises(ReadError, match=reason) as caught:
        read(tmp_path, content)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_the_line_of_broken_json_is_given(tmp_path: Path) -> None:
    with pytest.raises(ReadError) as caught:
        read(tmp_path, CUT)
    assert caught.value.line == CUT.count("\n") + 1
    assert str(caught.value).startswith(f"line {caught.value.line}: ")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (
            "a07_s01_e01_v01",
            "action id 7 in the file's name is unknown; known: 1, 2, 3, 4, 5, 6, 8, 9, 11, 12",
        ),
        ("a08_s01_e01", "not of the form aAA_sSS_eEE_vVV.json"),
        ("b08_s01_e01_v01", "not of the form"),
        ("a08_s01_e01_v01 (copy)", "not of the form"),
        ("a\u0660\u0668_s01_e01_v01", "not of the form"),
    ],
)
def test_bad_names_are_refused(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(ReadError, match=reason):
        read(tmp_path, clip(name), name)


def test_not_utf8_names_the_line(tmp_path: Path) -> None:
    file = put(tmp_path, "")
    file.write_bytes(b'{\n"label": "\xff"}')
    with pytest.raises(ReadError, match="not UTF-8") as caught:
        NWUCLA(tmp_path).read(file.name, Counter())
    assert caught.value.line == 2


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    file = tmp_path / f"{NAME}.json"
    file.symlink_to(tmp_path / "gone")
    assert NWUCLA(tmp_path).items() == [file.name]
    with pytest.raises(ReadError, match="can't be read: No such file"):
        NWUCLA(tmp_path).read(file.name, Counter())


def test_items_are_sorted_and_only_clips(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "folder.json").mkdir()
    names = ["a02_s01_e00_v01.json", "a01_s01_e00_v01.JSON", "more/a01_s02_e00_v01.json"]
    others = [".a01_s01_e00_v01.json", "readme.txt", "classes.json"]
    for name in names + others:
        (tmp_path / name).write_text('{"classes": [{"id": 1, "name": "sit"}]}')
    assert NWUCLA(tmp_path).items() == sorted(names)


def test_a_missing_or_empty_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no folder at .*nowhere.*NW-UCLA"):
        get_reader("nw_ucla", tmp_path / "nowhere")
    with pytest.raises(SourceError, match=r"holds no NW-UCLA files \(\.json\)"):
        get_reader("nw_ucla", str(tmp_path)).items()
    with pytest.raises(SourceError, match=r"unknown reader 'nwucla'; known: .*nw_ucla"):
        get_reader("nwucla", tmp_path)


def test_classes_come_from_the_folder(tmp_path: Path) -> None:
    classes = {"name": "made", "classes": [{"id": 8, "name": "wave"}, {"id": 3, "name": "clap"}]}
    put(tmp_path, classes, "classes")
    reader = NWUCLA(tmp_path)
    assert reader.class_names == ("wave", "clap")
    assert read(tmp_path, clip(label=1)).label == 0
    assert read(tmp_path, clip("a03_s01_e00_v01", 2), "a03_s01_e00_v01").label == 1
    with pytest.raises(ReadError, match=r"action id 1 .* known: 8, 3"):
        read(tmp_path, clip("a01_s01_e00_v01", 1), "a01_s01_e00_v01")
    assert NWUCLA(tmp_path.parent).class_names[0] == "pick up with one hand"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "line 1: cut short"),
        ({"name": "made"}, "'classes' must be a list"),
        ({"classes": []}, "'classes' must be a list"),
        ({"classes": ["sit"]}, "entry 0: 'id' must be"),
        ({"classes": [{"id": 1, "name": "sit"}, {"id": "2", "name": "stand"}]}, "entry 1: 'id' must be"),
        ({"classes": [{"id": 1}]}, "entry 0: 'name' must be text"),
        ({"classes": [{"id": 1, "name": "sit"}, {"id": 1, "name": "stand"}]}, "entry 1: .* twice"),
        ({"classes": [{"id": 1, "name": "sit"}, {"id": 2, "name": "sit"}]}, "entry 1: .* twice"),
    ],
)
def test_bad_classes_are_refused(tmp_path: Path, content: Any, reason: str) -> None:
    put(tmp_path, content, "classes")
    with pytest.raises(SourceError, match=rf"classes\.json: .*{reason}"):
        NWUCLA(tmp_path)


WHOLE = json.dumps(clip(frames=2)).encode()
PLACES = st.integers(0, len(WHOLE))
PIECES = st.sampled_from(
    [b"NaN", b"null", b"true", b"1e999", b"-", b"[", b"]", b"{", b"}", b",", b'"', b"\xff"]
)


def cut(whole: bytes, place: int) -> bytes:
    return whole[:place]


def swap(whole: bytes, places: tuple[int, int]) -> bytes:
    first, second = sorted(places)
    return whole[:first] + whole[second : second + 1] + whole[first + 1 : second] + whole[second + 1 :]


def overwrite(whole: bytes, change: tuple[int, bytes]) -> bytes:
    place, piece = change
    return whole[:place] + piece + whole[place + len(piece) :]


def insert(whole: bytes, change: tuple[int, bytes]) -> bytes:
    place, piece = change
    return whole[:place] + piece + whole[place:]


DAMAGED = st.one_of(
    PLACES.map(lambda place: cut(WHOLE, place)),
    st.tuples(PLACES, PLACES).map(lambda places: swap(WHOLE, places)),
    st.tuples(PLACES, st.one_of(PIECES, st.binary(min_size=1, max_size=3))).map(
        lambda c: overwrite(WHOLE, c)
    ),
    st.tuples(PLACES, PIECES).map(lambda change: insert(WHOLE, change)),
    st.binary(max_size=50),
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)
FUZZ = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def read_or_refuse(folder: Path, content: bytes) -> None:
    file = folder / f"{NAME}.json"
    file.write_bytes(content)
    try:
        sample = NWUCLA(folder).read(file.name, Counter())
    except ReadError:
        return
    assert (sample.sample_id, sample.label) == (NAME, 6)
    assert sample.joints.shape[2:] == (20, 3)


@FUZZ
@given(content=DAMAGED)
def test_damaged_bytes_give_a_sample_or_a_read_error(tmp_path: Path, content: bytes) -> None:
    read_or_refuse(tmp_path, content)


@FUZZ
@given(value=JSON, depth=st.integers(0, 3))
def test_any_json_in_any_place_gives_a_sample_or_a_read_error(tmp_path: Path, value: Any, depth: int) -> None:
    content = clip(frames=2)
    holder: Any = content
    for key in ("skeletons", 1, 4)[:depth]:
        holder = holder[key]
    holder["skeletons" if depth == 0 else 0] = value
    read_or_refuse(tmp_path, json.dumps(content).encode())


@pytest.fixture(scope="module")
def real() -> Path:
    folder = Path(os.environ.get("HHMNET_DATA", "/nowhere")) / "nw_ucla" / "all_sqe"
    if not folder.is_dir():
        pytest.skip("HHMNET_DATA names no data folder with nw_ucla/all_sqe")
    return folder


def test_the_real_data_set(real: Path, tmp_path: Path) -> None:
    start = time.perf_counter()
    report = prepare(NWUCLA(real), tmp_path, jobs=2)
    assert time.perf_counter() - start < 60
    assert (report.accepted, report.rejected, report.frames) == (1484, [], 58534)
    store = Store(tmp_path)
    assert np.isin(store.cameras, ["1", "2"]).sum() == 1020
    assert (store.cameras == "3").sum() == 464
    assert store.sample_ids[store.lengths == 1].tolist() == ["a02_s09_e04_v02", "a02_s09_e04_v03"]
    for i, name in enumerate(store.sample_ids):
        raw = json.loads((real / f"{name}.json").read_text())
        np.testing.assert_array_equal(store.joints(i)[0], np.array(raw["skeletons"], np.float32))
        assert store.labels[i] == raw["label"] - 1

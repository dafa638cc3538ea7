"""The five real files, where HHMNET_DATA names the folder that has them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from plain_ntu import plain_parse

from hhmnet.cli import main
from hhmnet.readers.ntu_format import parse_plain_cases
from hhmnet.store import Store

PERSONS = {
    "S001C001P001R001A001": 1,
    "S001C001P001R001A011": 1,
    "S002C001P003R001A003": 1,
    "S017C003P020R002A054": 2,
    "S017C003P020R002A056": 2,
}


@pytest.fixture(scope="module")
def real() -> Path:
    folder = Path(os.environ.get("HHMNET_DATA", "/nowhere")) / "ntu"
    if not folder.is_dir():
        pytest.skip("HHMNET_DATA names no data folder with ntu")
    return folder


@pytest.fixture(scope="module", params=["ntu60", "ntu120"])
def store(real: Path, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Store:
    out = tmp_path_factory.mktemp("real") / request.param
    assert main(["prepare", request.param, "--source", str(real), "--out", str(out), "--jobs", "1"]) == 0
    assert len((out / "rejected.csv").read_text().splitlines()) == 1
    return Store(out)


def test_all_are_accepted(store: Store) -> None:
    assert {name: int(store.persons[store.index(name)]) for name in store.sample_ids.tolist()} == PERSONS
    assert store.lengths.tolist() == [103, 82, 100, 42, 80]
    assert store.labels.tolist() == [0, 10, 2, 53, 55]
    assert [str(array[4]) for array in (store.setups, store.cameras, store.subjects)] == ["17", "3", "20"]


def test_values_are_those_of_a_plain_parser_to_the_last_digit(store: Store, real: Path) -> None:
    for i, name in enumerate(store.sample_ids.tolist()):
        sample, data = store.sample(i), (real / f"{name}.skeleton").read_bytes()
        assert parse_plain_cases(data) is not None
        frames = plain_parse(data)
        ids = list(dict.fromkeys(body.id for frame in frames for body in frame))
        assert sample.num_frames == len(frames)
        assert sample.present.all()
        for t, frame in enumerate(frames):
            bodies = {body.id: body for body in frame}
            assert len(bodies) == sample.num_persons
            for person, body in enumerate(bodies[number] for number in ids):
                np.testing.assert_array_equal(sample.joints[person, t], body.joints)
                np.testing.assert_array_equal(sample.pixels[person, t], body.pixels)
                np.testing.assert_array_equal(sample.confidence[person, t], body.confidence)


def test_the_pair_of_skeletons_and_video(store: Store, real: Path) -> None:
    name = "S001C001P001R001A001"
    if not (real / f"{name}_rgb.avi").is_file():
        pytest.skip(f"HHMNET_DATA has no {name}_rgb.avi")
    sample = store.sample(store.index(name))
    assert sample.video == f"{name}_rgb.avi"
    assert sample.video_frames is not None
    assert sample.video_frames.tolist() == sample.frame_index.tolist() == list(range(103))
    assert all(store.sample(i).video is None for i in range(len(store)) if i != store.index(name))

"""MSR Action3D's and UTKinect's text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hhmnet.cli import main
from hhmnet.predict.sources import InputError, Sources, find_inputs
from hhmnet.skeleton import KINECT20
from hhmnet.store import Store
from made_poses import kinect_body, write_msr, write_utkinect

JOINTS = kinect_body()


def prepare(reader: str, source: Path) -> Store:
    out = source.parent / "out"
    assert main(["prepare", reader, "--source", str(source), "--out", str(out), "--jobs", "1"]) == 0
    return Store(out)


def test_msr_action3d(tmp_path: Path) -> None:
    file = write_msr(tmp_path)
    (tmp_path / "readme.txt").write_text("no clip")
    store = prepare("msr_action3d", tmp_path)
    sample = store.sample(0)
    np.testing.assert_allclose(sample.joints[0], JOINTS, atol=1e-5)
    assert (store.class_names[sample.label], sample.subject) == ("horizontal arm wave", "3")
    (found,) = find_inputs([tmp_path])[:1]
    np.testing.assert_array_equal(Sources(KINECT20).read(found).sample.joints, sample.joints)
    file.write_text("1 2 3\n")
    with pytest.raises(InputError, match="line 1: has 3 numbers; MSR Action3D has 4"):
        Sources(KINECT20).read(file)


def test_utkinect(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    file = write_utkinect(tmp_path / "data")
    store = prepare("utkinect", tmp_path / "data")
    assert len(store) == 4
    samples = [store.sample(row) for row in range(4)]
    walks = [sample for sample in samples if store.class_names[sample.label] == "walk"]
    for sample in walks:
        assert sample.frame_index.tolist() == [10, 12, 14]
        np.testing.assert_allclose(sample.joints[0], JOINTS[:3], atol=1e-5)
    assert sorted(sample.split for sample in walks) == ["test", "train"]
    recording = Sources(KINECT20).read(file).sample
    np.testing.assert_allclose(recording.joints[0], JOINTS, atol=1e-5)

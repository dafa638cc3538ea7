"""Data sets as arrays: CTR-GCN's, ST-GCN's and 2s-AGCN's, VideoPose3D's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hhmnet.cli import main
from hhmnet.predict.sources import Sources, find_inputs
from hhmnet.readers.array_sets import read_set
from hhmnet.sample import Sample
from hhmnet.skeleton import COCO17, H36M17, LAYOUTS, NTU25
from hhmnet.store import Store
from made_poses import FRAMES, body, kinect_body, pixels, write_ctr_gcn, write_h36m, write_st_gcn

METRES = kinect_body(NTU25)


def prepare(source: Path, *words: str) -> tuple[Store, dict[str, Sample]]:
    out = source.parent / "store"
    assert main(["prepare", "arrays", "--source", str(source), "--out", str(out), "--jobs", "1", *words]) == 0
    store = Store(out)
    return store, {store.sample(row).sample_id: store.sample(row) for row in range(len(store))}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_ctr_gcn(tmp_path: Path, save) -> None:
    file = write_ctr_gcn(tmp_path, save)
    store, samples = prepare(file, "--classes", "ntu60")
    names = {"train-000000", "train-000001", "test-000000", "test-000001"}
    assert {name: sample.split for name, sample in samples.items()} == {name: name[:-7] for name in names}
    sample = samples["test-000000"]
    assert store.layout == NTU25
    assert store.class_names[sample.label] == "sit down"
    np.testing.assert_allclose(sample.joints, METRES[None], atol=1e-5)
    found = find_inputs([file])
    assert len(found) == 4
    np.testing.assert_array_equal(Sources(NTU25).read(found[2]).sample.joints, sample.joints)


@pytest.mark.parametrize("turned", [False, True])
def test_st_gcn_and_2s_agcn(tmp_path: Path, turned: bool) -> None:
    """2s-AGCN turns each clip so that the first spine points to z."""
    clip = METRES - METRES[:1, :1]
    (tmp_path / "data").mkdir()
    written = clip[..., [0, 2, 1]] * (1, -1, 1) if turned else clip
    write_st_gcn(tmp_path / "data", written)
    store, samples = prepare(tmp_path / "data")
    assert sorted(samples) == ["train_a", "train_b", "val_a", "val_b"]
    assert (samples["val_b"].split, samples["val_b"].label) == ("val", 1)
    assert store.layout == NTU25
    np.testing.assert_allclose(samples["train_a"].joints[0], clip, atol=1e-5)


def test_kinetics_arrays(tmp_path: Path) -> None:
    points = pixels(LAYOUTS["coco18"]) / 2
    clip = np.concatenate([points / (340, 256) - 0.5, np.full((FRAMES, 18, 1), 0.5)], axis=-1)
    clip[1, 4] = -0.5, -0.5, 0
    (tmp_path / "data").mkdir()
    write_st_gcn(tmp_path / "data", clip)
    store, samples = prepare(tmp_path / "data")
    assert store.layout.name == "coco18"
    sample = samples["val_a"]
    assert not sample.joints[0, 1, 4].any()
    np.testing.assert_allclose(sample.joints[0, 2:], points[2:], atol=1e-2)
    np.testing.assert_allclose(sample.confidence[0, 2:], 0.5)


def test_human36m_in_3d(tmp_path: Path) -> None:
    file = write_h36m(tmp_path)
    store, samples = prepare(file)
    assert (store.layout, store.class_names) == (H36M17, ("Eating", "Walking"))
    parts = {"S1/Walking 1": "train", "S1/Eating": "train", "S9/Walking 1": "test", "S9/Eating": "test"}
    assert {name: sample.split for name, sample in samples.items()} == parts
    wanted = body(H36M17) * (-1, -1, 1)
    np.testing.assert_allclose(samples["S9/Walking 1"].joints[0], wanted, atol=1e-5)
    kinect = Sources(LAYOUTS["kinect20"]).read(find_inputs([file])[0]).sample
    near = body(LAYOUTS["kinect20"]) * (-1, -1, 1)  # a hand is the wrist, a foot the ankle
    np.testing.assert_allclose(kinect.joints[0], near, atol=0.13)


def test_positions_in_2d(tmp_path: Path) -> None:
    file = tmp_path / "data_2d_custom_mine.npz"
    metadata = {"layout_name": "coco", "num_joints": 17}
    np.savez_compressed(file, positions_2d={"a.mp4": {"custom": [pixels(COCO17)]}}, metadata=metadata)
    store, samples = prepare(file)
    assert store.layout == COCO17
    np.testing.assert_allclose(samples["a.mp4/custom/0"].joints[0], pixels(COCO17), atol=1e-3)


def test_other_arrays_are_none_of_these(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "a.npz", joints=METRES)
    assert read_set(tmp_path / "a.npz") is None
    words = ["--source", str(tmp_path / "a.npz"), "--out", str(tmp_path / "out")]
    assert main(["prepare", "arrays", *words]) == 2
    assert "is none of the arrays of CTR-GCN" in capsys.readouterr().err

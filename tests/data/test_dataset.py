"""Batches of a store's clips, with or without crops; their order; how long clips are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hhmnet.data.crop_cache import CropCache
from hhmnet.data.dataset import ClipDataset, EpochSampler, clip_length, make_loader
from hhmnet.data.roi import RoiConfig
from made_crops import made_clip, write_made_store


@pytest.mark.parametrize("persons", [1, 4])
@pytest.mark.parametrize("items", [[2, 0, 5, 3], [5, 5]])
def test_a_batch_holds_its_clips_one_behind_the_other(patchy_store, persons, items):
    indices = np.array([3, 10, 1, 17, 8, 4])
    batch = ClipDataset(patchy_store, indices, persons).__getitems__(items)
    rows = indices[items]
    assert batch.index.tolist() == rows.tolist()
    assert batch.clips.lengths.tolist() == patchy_store.lengths[rows].tolist()
    assert batch.clips.joints.dtype == torch.float32
    start = 0
    for row in rows:
        sample = patchy_store.sample(int(row))
        joints = np.zeros((persons, sample.num_frames, 20, 3), np.float32)
        present = np.zeros((persons, sample.num_frames), bool)
        kept = min(persons, sample.num_persons)
        joints[:kept], present[:kept] = sample.joints[:kept], sample.present[:kept]
        frames = slice(start, start + sample.num_frames)
        np.testing.assert_array_equal(batch.clips.joints[frames], joints.swapaxes(0, 1))
        assert batch.clips.present is not None or present.all()
        if batch.clips.present is not None:
            np.testing.assert_array_equal(batch.clips.present[frames], present.T)
        start += sample.num_frames
    assert len(batch.clips.joints) == start


def test_skeletons_and_crops_of_the_same_clips(tmp_path):
    samples = [made_clip(n, frames=6 + n) for n in range(4)] + [made_clip(4, video=None, video_frames=None)]
    store, videos = write_made_store(tmp_path, samples)
    cache = CropCache(tmp_path / "c", RoiConfig(instants=3, cell=12, scene=16, scene_instants=2))
    dataset = ClipDataset(store, np.array([4, 1, 0, 3]), 1, cache, videos)
    batches = list(make_loader(dataset, EpochSampler(4, 2, seed=1)))
    for batch in batches:
        plain = ClipDataset(store, batch.index.numpy(), 1).__getitems__(list(range(len(batch.index))))
        assert torch.equal(batch.clips.joints, plain.clips.joints)
        assert plain.video is None
        for n, row in enumerate(batch.index.tolist()):
            for value, array in zip(batch.video, cache.get(store, row, videos), strict=True):
                np.testing.assert_array_equal(value[n].numpy(), array)
        assert batch.video.part_mask.any((1, 2)).tolist() == [i != 4 for i in batch.index.tolist()]
        moved = batch.to(torch.device("meta")).video
        assert moved.parts.device.type == "meta"
    assert sorted(i for batch in batches for i in batch.index.tolist()) == [0, 1, 3, 4]


@pytest.mark.parametrize(("count", "size"), [(10, 3), (9, 3), (4, 5)])
def test_every_clip_once_an_epoch_in_another_order(count, size):
    sampler, orders = EpochSampler(count, size, seed=1), set()
    for epoch in range(3):
        sampler.epoch = epoch
        batches = list(sampler)
        assert len(batches) == len(sampler)
        seen = [clip for batch in batches for clip in batch]
        assert len(seen) == len(set(seen)) == (count // size * size or count)
        assert all(len(batch) == min(size, count) for batch in batches)
        orders.add(tuple(seen))
    assert len(orders) == 3


def test_frames_are_the_median_and_the_rate_is_the_videos(tmp_path):
    # The videos have 25 pictures a second, the skeletons of all clips but the first half as many or none.
    every_second = 2 * np.arange(6, dtype=np.int32)
    halved = [made_clip(number, 6, video_frames=every_second) for number in (1, 2)]
    samples = [made_clip(0), *halved, made_clip(3, 8, video=None, video_frames=None)]
    store, videos = write_made_store(tmp_path, samples)
    assert clip_length(store, np.array([1, 2]), videos) == (6, 12.5)
    assert clip_length(store, np.array([0, 3]), videos) == (10, 25.0)
    assert clip_length(store, np.arange(4), videos) == (7, 12.5)
    assert clip_length(store, np.arange(4)) == (7, None), "nobody says where the videos are"
    for file in videos.iterdir():
        file.unlink()
    assert clip_length(store, np.arange(4), videos) == (7, None)

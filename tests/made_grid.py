"""Made input for a video network."""

from __future__ import annotations

import torch

from hhmnet.data.video_batch import VideoBatch, VideoInput

PARTS = 5


def made_input(count: int = 3, *, cell: int = 32, seed: int = 0) -> VideoInput:
    """Random pictures, all of them there, at four even instants of 16 sampled frames."""
    generator = torch.Generator().manual_seed(seed)
    return VideoInput(
        grid=torch.randn(count, 3, PARTS * cell, 4 * cell, generator=generator),
        cell_mask=torch.ones(count, PARTS, 4, dtype=torch.bool),
        scene=torch.randn(count, 2, 3, 32, 32, generator=generator),
        scene_mask=torch.ones(count, 2, dtype=torch.bool),
        times=torch.tensor([1.5, 5.5, 9.5, 13.5]).expand(count, 4),
    )


def only(video: VideoInput, rows: slice | list[int]) -> VideoInput:
    """Some clips of a batch."""
    return VideoInput(*(value[rows] for value in video))


def blind(video: VideoInput, *rows: int) -> VideoInput:
    """The batch with nothing to see in these clips; what stands in their pixels must not matter."""
    cells, scenes = video.cell_mask.clone(), video.scene_mask.clone()
    cells[list(rows)] = False
    scenes[list(rows)] = False
    return video._replace(cell_mask=cells, scene_mask=scenes)


def made_batch() -> VideoBatch:
    """Random cached crops, all of them there, of three clips of ten frames."""
    generator = torch.Generator().manual_seed(0)
    return VideoBatch(
        parts=torch.randint(256, (3, 6, PARTS, 40, 40, 3), generator=generator, dtype=torch.uint8),
        part_mask=torch.ones(3, 6, PARTS, dtype=torch.bool),
        scene=torch.randint(256, (3, 2, 40, 40, 3), generator=generator, dtype=torch.uint8),
        scene_mask=torch.ones(3, 2, dtype=torch.bool),
        times=((torch.arange(6) + 0.5) * 10 / 6 - 0.5).expand(3, 6),
        scene_times=torch.tensor([2.0, 7.0]).expand(3, 2),
    )

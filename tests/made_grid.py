"""Made input for a video network."""

from __future__ import annotations

import torch

from hhmnet.data.video_batch import VideoBatch, VideoInput

PARTS = 5


def made_input(
    count: int = 3, *, instants: int = 4, cell: int = 32, scenes: int = 2, side: int = 32, seed: int = 0
) -> VideoInput:
    """Random pictures, all of them there, at even instants of 16 sampled frames."""
    generator = torch.Generator().manual_seed(seed)
    times = (torch.arange(instants) + 0.5) * 16 / instants - 0.5
    return VideoInput(
        grid=torch.randn(count, 3, PARTS * cell, instants * cell, generator=generator),
        cell_mask=torch.ones(count, PARTS, instants, dtype=torch.bool),
        scene=torch.randn(count, scenes, 3, side, side, generator=generator),
        scene_mask=torch.ones(count, scenes, dtype=torch.bool),
        times=times.expand(count, instants),
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


def made_batch(
    count: int = 3, *, instants: int = 6, cell: int = 40, side: int = 40, seed: int = 0
) -> VideoBatch:
    """Random cached crops, all of them there, of clips of ten frames."""
    generator = torch.Generator().manual_seed(seed)

    def pixels(*shape: int) -> torch.Tensor:
        return torch.randint(256, shape, generator=generator, dtype=torch.uint8)

    def times(amount: int) -> torch.Tensor:
        return ((torch.arange(amount) + 0.5) * 10 / amount - 0.5).expand(count, amount)

    return VideoBatch(
        parts=pixels(count, instants, PARTS, cell, cell, 3),
        part_mask=torch.ones(count, instants, PARTS, dtype=torch.bool),
        scene=pixels(count, 2, side, side, 3),
        scene_mask=torch.ones(count, 2, dtype=torch.bool),
        times=times(instants),
        scene_times=times(2),
    )

"""``python -m hhmnet.pose``: fetch the networks, or draw a sheet of overlays from a store."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from hhmnet.drawing import draw_box, draw_skeleton, save_png, sheet
from hhmnet.pose.networks import NETWORKS, PoseError, fetch_models
from hhmnet.sample import Sample
from hhmnet.skeleton import SkeletonLayout
from hhmnet.store import Store, StoreError
from hhmnet.video import VideoError, open_video

MOMENTS, WIDTH = 6, 320
"""Frames of each clip in a sheet, spread evenly over it, and the width of each in pixels."""
BOXES = ((255, 40, 40), (255, 225, 40), (40, 255, 90), (255, 90, 255))
"""Colours of the boxes of the first, second, third and fourth person; after that they begin anew."""
FILLED = (150, 150, 150)
"""Colour of the box of a body that was filled in."""


def draw_sheet(samples: Sequence[Sample], layout: SkeletonLayout, videos: Path, file: Path) -> None:
    """Draw some clips over their videos into a PNG file: a row a clip, a column a moment.

    Left is orange and right blue; a joint that was filled in or that is doubtful is a ring, a missing one isn't drawn.

    Args:
        samples: clips with pixels and the name of their video.
        layout: their skeleton.
        videos: folder that the videos' names are relative to.
        file: the picture; a file there is replaced.

    Raises:
        PoseError: a clip has no pixels, or no video that can be read.
    """
    cells = []
    for sample in samples:
        if sample.pixels is None or sample.video is None:
            raise PoseError(f"clip {sample.sample_id} has no pixel positions or no video to draw them on")
        times = np.round((np.arange(MOMENTS) + 0.5) / MOMENTS * sample.num_frames - 0.5).astype(int)
        indices = sample.frame_index if sample.video_frames is None else sample.video_frames
        try:
            with open_video(videos / sample.video) as video:
                blank = np.zeros((video.height, video.width, 3), np.uint8)
                for t in map(int, times):
                    image = blank if indices[t] < 0 else video.frame(int(indices[t]))
                    cells.append(_overlay(sample, t, image, layout))
        except VideoError as error:
            raise PoseError(f"clip {sample.sample_id}: {error}") from None
    tallest = max(cell.shape[0] for cell in cells)
    cells = [np.pad(cell, ((0, tallest - cell.shape[0]), (0, 0), (0, 0))) for cell in cells]
    save_png(sheet(cells, columns=MOMENTS), file)


def _overlay(sample: Sample, t: int, image: np.ndarray, layout: SkeletonLayout) -> np.ndarray:
    scale = WIDTH / image.shape[1]
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
    target = [round(image.shape[0] * scale), WIDTH]
    small = F.interpolate(pixels, size=target, mode="bilinear", antialias=True)[0].permute(1, 2, 0).numpy()
    assert sample.pixels is not None
    for person in np.flatnonzero(sample.present[:, t]):
        if sample.boxes is not None and sample.boxes[person, t].any():
            is_filled = sample.interpolated is not None and sample.interpolated[person, t]
            colour = FILLED if is_filled else BOXES[person % len(BOXES)]
            small = draw_box(small, (sample.boxes[person, t] * scale - 0.5).tolist(), colour, thickness=1.5)
        trust = None if sample.confidence is None else sample.confidence[person, t]
        points = (sample.pixels[person, t] + 0.5) * scale - 0.5
        small = draw_skeleton(small, points, layout, trust, thickness=1.5)
    return small


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one of the two commands; returns its exit code."""
    parser = argparse.ArgumentParser(
        "python -m hhmnet.pose", description="Joints from video: networks and sheets."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("fetch", help="fetch the networks, so that nothing needs the internet afterwards")
    add = commands.add_parser("sheet", help="draw skeletons over frames of their videos").add_argument
    add("store", type=Path, help="a store that was made from videos")
    add("--videos", type=Path, required=True, metavar="DIR", help="folder of the videos")
    add("--out", type=Path, required=True, metavar="DIR", help="folder of the sheets, sheet_001.png, …")
    add("--rows", type=int, default=10, help="clips on a sheet (10)")
    options = parser.parse_args(arguments)
    try:
        if options.command == "fetch":
            for name, file in fetch_models().items():
                print(f"{name:18} {file}  {NETWORKS[name].about}")
        else:
            store = Store(options.store)
            options.out.mkdir(parents=True, exist_ok=True)
            for number, first in enumerate(range(0, len(store), options.rows), start=1):
                samples = [store.sample(i) for i in range(first, min(first + options.rows, len(store)))]
                file = options.out / f"sheet_{number:03d}.png"
                draw_sheet(samples, store.layout, options.videos, file)
                print(f"{file}: {', '.join(sample.sample_id for sample in samples)} (from above)")
    except (PoseError, StoreError, OSError) as error:
        print(f"hhmnet.pose: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

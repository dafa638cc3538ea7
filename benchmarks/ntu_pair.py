"""Show that NTU RGB+D's joints lie on the persons in its videos, without showing the persons.

    python benchmarks/ntu_pair.py --source ../shared/data/ntu --out docs/images/ntu_pair.png

The data set's terms don't let its pictures be passed on. So the video is drawn as coarse cells of two colours: those
that differ from the wall and the floor, and the rest. Nobody can be known by that, but where a body is can be seen,
and counted: the script tells how many of the tracked joints lie on such a cell or beside one.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import numpy as np
from common import BenchmarkError, run
from PIL import Image

from hhmnet.commands.terminal import Parser
from hhmnet.drawing import draw_skeleton
from hhmnet.readers.ntu import NTU120
from hhmnet.sample import Sample
from hhmnet.skeleton import NTU25
from hhmnet.video import open_video

CELL = 6
"""Side of a cell in pixels; a face has some seven cells from ear to ear."""
CONTRAST = 26
"""How much a cell differs from most of its row, in one colour of 0 to 255, to be a body's."""
MARGIN = 60
BODY, GROUND = (120, 130, 140), (250, 250, 250)


def body_cells(image: np.ndarray) -> np.ndarray:
    """Cells ``(H // CELL, W // CELL)`` bool of an image ``(H, W, 3)`` that differ from most of their row.

    It takes a room whose walls and floor look alike all along a row of the picture.
    """
    height, width = (side // CELL for side in image.shape[:2])
    whole = image[: height * CELL, : width * CELL].reshape(height, CELL, width, CELL, 3)
    cells = whole.mean((1, 3))
    return np.asarray(np.abs(cells - np.median(cells, axis=1, keepdims=True)).max(-1) > CONTRAST)


def on_body(cells: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Whether each joint ``(V, 2)`` lies on a body's cell or beside one, ``(V,)`` bool."""
    grown = np.pad(cells, 1)
    grown = np.any(
        [np.roll(grown, (down, right), (0, 1)) for down in (-1, 0, 1) for right in (-1, 0, 1)], axis=0
    )
    column, row = np.floor((pixels + 0.5) / CELL).astype(int).T + 1
    inside = (row >= 0) & (row < len(grown)) & (column >= 0) & (column < grown.shape[1])
    return np.asarray(inside & grown[row.clip(0, len(grown) - 1), column.clip(0, grown.shape[1] - 1)])


def abstract(cells: np.ndarray) -> np.ndarray:
    """The cells as an image of two colours, ``(H, W, 3)`` uint8."""
    colours = np.where(cells[..., None], np.array(BODY), np.array(GROUND)).astype(np.uint8)
    return colours.repeat(CELL, 0).repeat(CELL, 1)


def check(sample: Sample, video_file: Path, instants: int) -> tuple[np.ndarray, int, int]:
    """Draw a clip at some instants; returns the picture, the number of tracked joints and of those on a body."""
    assert sample.pixels is not None
    assert sample.confidence is not None
    assert sample.video_frames is not None
    drawn = set(np.linspace(0, sample.num_frames - 1, instants).round().astype(int).tolist())
    tracked, hits, pictures = 0, 0, []
    with open_video(video_file) as video:
        for t, frame in enumerate(sample.video_frames.tolist()):
            if frame < 0:
                continue
            cells = body_cells(video.frame(frame))
            picture = abstract(cells)
            for person in np.flatnonzero(sample.present[:, t]):
                sure = sample.confidence[person, t] == 1
                tracked += int(sure.sum())
                hits += int(on_body(cells, sample.pixels[person, t][sure]).sum())
                picture = draw_skeleton(
                    picture, sample.pixels[person, t], NTU25, sample.confidence[person, t]
                )
            if t in drawn:
                pictures.append(picture)
    seen = sample.pixels[sample.confidence > 0]
    low = np.maximum(seen.min(0) - MARGIN, 0).astype(int)
    high = (seen.max(0) + MARGIN).astype(int)
    parts = [image[low[1] : high[1], low[0] : high[0]] for image in pictures]
    return np.concatenate(parts, 1), tracked, hits


def main(words: list[str]) -> None:
    """Run the check."""
    parser = Parser(
        "ntu_pair.py", "Count and draw the joints of an NTU clip that lie on a person in its video."
    )
    add = parser.add_argument
    add("--source", type=Path, required=True, metavar="DIR", help="folder of skeletons and videos")
    add("--clip", default="S001C001P001R001A001", metavar="NAME", help="the clip (%(default)s)")
    add("--instants", type=int, default=6, metavar="N", help="pictures to draw (%(default)s)")
    add("--out", type=Path, required=True, metavar="FILE", help="PNG file to write")
    options = parser.parse_args(words)
    sample = NTU120(options.source).read(f"{options.clip}.skeleton", Counter())
    if sample.video is None:
        raise BenchmarkError(f"--clip {options.clip}: {options.source} holds no video of it")
    picture, tracked, hits = check(sample, options.source / sample.video, options.instants)
    Image.fromarray(picture).save(options.out, "png")
    share = hits / max(tracked, 1)
    print(f"{options.clip}: {hits} of {tracked} tracked joints lie on a person ({share:.1%}); {options.out}")


if __name__ == "__main__":
    sys.exit(run(main))

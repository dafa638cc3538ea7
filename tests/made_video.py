"""Small videos of every kind, whose pictures show their own number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np

FRAMES = 41
WIDTH, HEIGHT = 64, 48
CELL = 8
MILLISECOND = Fraction(1, 1000)


def picture(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """An image ``(height, width, 3)`` whose lower rows move and whose top row of cells is ``number`` in binary."""
    rows, columns = np.mgrid[:height, :width]
    image = (
        np.stack([(columns * 3 + number * 5) % 128, (rows * 4) % 128, (columns + rows + number) % 128], -1)
        + 50
    )
    for bit in range(width // CELL):
        image[:CELL, bit * CELL : (bit + 1) * CELL] = 235 if number >> bit & 1 else 20
    return image.astype(np.uint8)


def number_in(image: np.ndarray) -> int:
    """The number that an image shows, after whatever coding did to it."""
    cells = image[2 : CELL - 2].mean((0, 2))[: image.shape[1] // CELL * CELL].reshape(-1, CELL)
    return sum(1 << bit for bit, cell in enumerate(cells) if cell[2:-2].mean() > 127)


def write_video(
    file: Path,
    codec: str = "libx264",
    *,
    pictures: Sequence[np.ndarray] | None = None,
    milliseconds: Sequence[int] | None = None,
    rate: int = 25,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    b_frames: int = 0,
    keyframe_every: int = 10,
    pixels: str = "yuv420p",
    rotation: tuple[Any, ...] | None = None,
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
    change: Callable[[list[av.Packet[Any]]], None] | None = None,
) -> Path:
    """Encode ``pictures``, by default FRAMES numbered ones of ``size``, at a ``rate`` or each at its ``milliseconds``.

    ``rotation`` is in degrees counterclockwise, and whether to mirror horizontally and vertically; ``options`` are the
    encoder's, ``container`` its format's; ``change`` may change the packets before they are written.
    """
    if pictures is None:
        pictures = [picture(number, *size) for number in range(FRAMES)]
    height, width = pictures[0].shape[:2]
    with av.open(str(file), "w", options=container or {}) as output:
        stream: Any = output.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        stream.codec_context.max_b_frames = b_frames
        stream.codec_context.gop_size = keyframe_every
        stream.codec_context.thread_count = 1
        stream.options = options or {}
        base = Fraction(1, rate) if milliseconds is None else MILLISECOND
        stream.codec_context.time_base = base
        if rotation is not None:
            stream.set_display_rotation(*rotation)
        packets = []
        for place, image in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(image)
            frame.pts = place if milliseconds is None else int(milliseconds[place])
            frame.time_base = base
            packets += stream.encode(frame)
        packets += stream.encode(None)
        if change is not None:
            change(packets)
        output.mux(packets)
    return file


def write_sound(file: Path) -> Path:
    """A file that has sound and no pictures."""
    with av.open(str(file), "w") as output:
        stream: Any = output.add_stream("aac", rate=16000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 16000
        output.mux(stream.encode(sound))
        output.mux(stream.encode(None))
    return file


class Kind(NamedTuple):
    """How a made video is written, and the numbers its frames show."""

    file: str
    settings: dict[str, Any]
    numbers: Sequence[int] = range(FRAMES)


def _swap_times(packets: list[av.Packet[Any]]) -> None:
    """Give two frames in the middle each other's time."""
    for one, other in pairwise(packets[len(packets) // 2 :]):
        if not one.is_keyframe and not other.is_keyframe and one.pts >= other.dts:
            one.pts, other.pts = other.pts, one.pts
            return


_UNEVEN = np.cumsum(np.random.default_rng(3).integers(5, 120, FRAMES)).tolist()
_EARLY = [40 * number - 440 for number in range(FRAMES)]
_OPEN = "open-gop=1:keyint=10:min-keyint=10:scenecut=0"
_B = {"b_frames": 2}

KINDS: dict[str, Kind] = {
    "constant rate": Kind("a.mp4", {}),
    "constant rate, B-frames": Kind("a.mp4", _B),
    "variable rate": Kind("a.mkv", {"milliseconds": _UNEVEN}),
    "variable rate, B-frames": Kind("a.mp4", _B | {"milliseconds": _UNEVEN}),
    "variable rate, B-frames, Matroska": Kind("a.mkv", _B | {"milliseconds": _UNEVEN}),
    "open GOPs": Kind("a.mp4", {"b_frames": 3, "options": {"x264-params": _OPEN}}),
    "open GOPs, HEVC": Kind(
        "a.mkv", {"codec": "libx265", "b_frames": 3, "options": {"x265-params": _OPEN + ":log=-1"}}
    ),
    "one keyframe": Kind("a.mp4", _B | {"keyframe_every": 250}),
    "intra only": Kind("a.avi", {"codec": "mjpeg", "pixels": "yuvj420p"}),
    "H.264 in AVI, times made up": Kind("a.avi", _B),
    "MPEG-4 in AVI": Kind("a.avi", _B | {"codec": "mpeg4"}),
    "MPEG-4 in AVI, no B-frames": Kind("a.avi", {"codec": "mpeg4"}),
    "raw H.264, no times": Kind("a.h264", _B),
    "raw MPEG-4, no times": Kind("a.m4v", {"codec": "mpeg4"}),
    "MPEG-2 in a transport stream": Kind("a.ts", _B | {"codec": "mpeg2video", "options": {"b": "2M"}}),
    "VP8": Kind("a.webm", {"codec": "libvpx", "options": {"b": "1M"}}),
    "VP9": Kind("a.webm", {"codec": "libvpx-vp9", "options": {"cpu-used": "8", "deadline": "realtime"}}),
    "edit list hides the beginning": Kind("a.mp4", _B | {"milliseconds": _EARLY}, range(11, FRAMES)),
    "fragmented": Kind("a.mp4", _B | {"container": {"movflags": "frag_keyframe+empty_moov"}}),
    "times that contradict the pictures": Kind("a.mp4", _B | {"change": _swap_times}),
    "grey": Kind("a.mkv", {"codec": "ffv1", "pixels": "gray"}),
    "odd size": Kind("a.mkv", {"size": (65, 49), "pixels": "yuv444p"}),
    "ten bits": Kind("a.mkv", {"pixels": "yuv420p10le"}),
}


def write_kind(folder: Path, name: str, kind: Kind) -> Path:
    (folder / name).mkdir(exist_ok=True)
    return write_video(folder / name / kind.file, **kind.settings)


def decode_all(file: Path) -> list[np.ndarray]:
    """All frames as FFmpeg gives them, one after the other."""
    with av.open(str(file)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(container.streams.video[0])]

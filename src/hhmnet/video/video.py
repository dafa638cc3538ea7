"""Frames of a video by their index, exactly: frame i is the i-th picture that decoding the whole file gives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, cast

import av
import numpy as np
from av.sidedata.sidedata import SideDataContainer, Type
from av.video.frame import VideoFrame

from hhmnet.video.decoding import Decoder, OutOfOrderError
from hhmnet.video.packets import LostError, open_stream

Errors = Literal["raise", "stop", "conceal"]

# From version 17 on, PyAV converts each picture with threads of its own unless told otherwise. That is slower, and a
# process that is forked meanwhile, such as a loader's worker, hangs when it frees them, since it hasn't got them.
_CONVERSION: dict[str, Any] = {"format": "rgb24"}
if int(av.__version__.partition(".")[0]) >= 17:
    _CONVERSION["threads"] = 1


class VideoError(ValueError):
    """A video, or a frame of it, that can't be had.

    Attributes:
        path: the file.
        frame: index of the frame; None if the error is about the whole file.
        reason: what is wrong, in one line.
    """

    def __init__(self, path: Path, frame: int | None, reason: str) -> None:
        super().__init__(path, frame, reason)
        self.path, self.frame, self.reason = path, frame, reason

    def __str__(self) -> str:
        return f"{self.path}: {'' if self.frame is None else f'frame {self.frame}: '}{self.reason}"


class Pictures(Protocol):
    """What can be cut out of: pictures by their index, of a file or of memory."""

    def __len__(self) -> int:
        """All indices are smaller than this."""
        ...

    def frame(self, index: int) -> np.ndarray:
        """Image ``(H, W, 3)`` uint8 of one frame; raises VideoError if it can't be had."""
        ...


def open_video(path: str | Path, *, threads: int = 1, errors: Errors = "raise") -> Video:
    """Open a video file; :class:`Video` says what the arguments mean and what is raised."""
    return Video(Path(path), threads=threads, errors=errors)


def stored_size(path: str | Path) -> tuple[int, int]:
    """Width and height of a file's pictures as they are stored, by its header, without decoding any.

    Raises:
        VideoError: the file can't be read, or has no pictures.
    """
    try:
        container, stream = open_stream(Path(path), threads=1, conceal=False)
    except LostError as lost:
        raise VideoError(Path(path), None, str(lost)) from None
    with container:
        return stream.codec_context.width, stream.codec_context.height


class Video:
    """A video's frames as ``(H, W, 3)`` uint8 RGB images, by index or one after the other.

    Images are turned and mirrored as the file's display matrix says; pixels that aren't square stay as stored.

    The index is made from the file's packets, without decoding. A frame is reached by decoding from the nearest
    keyframe before it, or by going on from the frame that came last; every frame that comes is checked against
    the index. Where a file doesn't say in which order its frames are shown (raw streams, B-frames in some AVI
    files), they are counted from the start, and only what was passed once can be jumped to.

    A damaged file gives its frames up to the damage, and by index also those that a later keyframe leads to.
    Iterating over it raises VideoError after the last frame before the damage, or ends there with ``errors="stop"``;
    ``damage`` tells where that was and why.

    Args:
        path: the file.
        threads: threads that decode; 0 lets FFmpeg choose. More than one pays off for large pictures in a row; for
            single frames, and in worker processes, one is faster.
        errors: "raise", "stop", or "conceal": take FFmpeg's guess for parts of frames that can't be decoded, and don't
            miss frames that were cut off.

    Attributes:
        path: the file.
        num_frames: number of frames in the file, counted, whatever its header says.
        damage: the first frame found to be lost, and why; None as long as none was. In a file that was cut off it
            may be the one after the last.

    Raises:
        VideoError: the file can't be read, or has no pictures.
    """

    def __init__(self, path: Path, *, threads: int = 1, errors: Errors = "raise") -> None:
        if errors not in ("raise", "stop", "conceal"):
            raise ValueError(f"errors must be 'raise', 'stop' or 'conceal', got {errors!r}")
        self.path = path
        self.damage: VideoError | None = None
        self._errors = errors
        self._run: Iterator[tuple[int, VideoFrame]] | None = None
        self._last: tuple[int, VideoFrame] | None = None
        self._size: tuple[int, ...] | None = None
        self._is_checked = False  # whether all was decoded to see if the file's times are right
        try:
            self._decoder = Decoder(path, threads, conceal=errors == "conceal")
        except LostError as lost:
            raise VideoError(path, None, str(lost)) from None
        self.num_frames = self._decoder.num_frames
        if self._decoder.cut:
            self.damage = VideoError(path, self.num_frames, self._decoder.cut)

    def __enter__(self) -> Video:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; no frames can be had after that."""
        self._run = self._last = None
        self._decoder.close()

    @property
    def height(self) -> int:
        """Height of the images in pixels, as they are shown."""
        return self._shape()[0]

    @property
    def width(self) -> int:
        """Width of the images in pixels, as they are shown."""
        return self._shape()[1]

    @cached_property
    def times(self) -> np.ndarray:
        """When each frame is shown, ``(num_frames,)`` float64, in seconds after the first one."""
        decoder, stream = self._decoder, self._decoder.stream
        numbers = decoder.order if len(decoder.order) == self.num_frames else decoder.packets.shown
        pts = {decoder.packets.pts[number] for number in numbers} - {None}
        if len(pts) != self.num_frames:
            return np.arange(self.num_frames) / float(stream.average_rate or 1)
        seconds = np.sort(np.array(list(pts), np.float64)) * float(stream.time_base or 0)
        return np.asarray(seconds - seconds[0])

    @property
    def fps(self) -> float:
        """Frames per second on average; what the header says where there is but one frame."""
        span = float(self.times[-1])
        return (self.num_frames - 1) / span if span > 0 else float(self._decoder.stream.average_rate or 0)

    def frame(self, index: int) -> np.ndarray:
        """Image ``(H, W, 3)`` uint8 of one frame; raises VideoError if it can't be had."""
        if not 0 <= index < self.num_frames:
            raise VideoError(self.path, index, f"isn't one of the video's frames 0 to {self.num_frames - 1}")
        return self._to_image(index, self._find(index))

    def frames(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Images ``(n, H, W, 3)`` uint8 of these frames, in any order and as often as asked for.

        No part of the file is decoded twice for one call. Raises VideoError at the first that can't be had.
        """
        wanted = np.asarray(indices, np.int64)
        images: np.ndarray | None = None
        for index in np.unique(wanted):
            image = self.frame(int(index))
            if images is None:
                images = np.empty((len(wanted), *image.shape), np.uint8)
            images[wanted == index] = image
        return images if images is not None else np.empty((0, *self._shape()), np.uint8)

    def __len__(self) -> int:
        return self.num_frames

    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
        """All frames, ``(index, image)``; raises VideoError where the video is damaged, or ends there."""
        for index in range(self.num_frames):
            try:
                image = self.frame(index)
            except VideoError:
                if self._errors == "stop":
                    return
                raise
            yield index, image
        if self.damage is not None and self._errors == "raise":
            raise self.damage

    def _shape(self) -> tuple[int, ...]:
        if self._size is None:
            self.frame(0)
        assert self._size is not None
        return self._size

    def _find(self, index: int) -> VideoFrame:
        """A frame as decoded; raises VideoError if no way leads to it."""
        decoder = self._decoder
        if self._last is not None and self._last[0] == index:
            return self._last[1]
        nearer = next(decoder.starts(index, self._reached), None)
        if self._run is not None and self._reached <= index and nearer is None:
            try:
                return self._go_on(index)
            except LostError:
                decoder.use_one_thread()
        starts = [*islice(decoder.starts(index), 2), 0]
        losses = []
        # The way that failed with several threads is worth a second try with one.
        for start in starts if decoder.threads == 1 else [starts[0], *starts]:
            self._run, self._last = decoder.run(start), None
            try:
                return self._go_on(index)
            except LostError as lost:
                losses.append((self._reached, lost))
                decoder.use_one_thread()
        return self._find_lost(index, losses)

    @property
    def _reached(self) -> int:
        """The frame that the run gives next."""
        return self._last[0] + 1 if self._last is not None else 0

    def _go_on(self, index: int) -> VideoFrame:
        """Decode on up to a frame; raises LostError if it doesn't come."""
        assert self._run is not None
        run, self._run = self._run, None
        for self._last in run:
            if self._last[0] == index:
                self._run = run
                return self._last[1]
        raise LostError("the video ends before it")

    def _find_lost(self, index: int, losses: list[tuple[int, LostError]]) -> VideoFrame:
        """Find a frame after all, if only the file's times are wrong; or else raise VideoError.

        ``losses`` are the frames at which decoding ended, and why; the last run is the one from the beginning.
        """
        first, lost = losses[-1]
        if isinstance(lost, OutOfOrderError) and not self._is_checked:
            self._is_checked = True
            missing = self._decoder.learn_order()
            if missing is None:
                return self._find(index)
            first = missing
        if self.damage is None or self.damage.frame is None or first < self.damage.frame:
            self.damage = VideoError(self.path, first, str(lost))
        end, lost = max([*losses, (first, lost)], key=lambda loss: loss[0])
        where = "" if end == index else f"can't be reached, for frame {end} is lost: "
        raise VideoError(self.path, index, f"{where}{lost}")

    def _to_image(self, index: int, frame: VideoFrame) -> np.ndarray:
        """The frame as it is shown; raises VideoError if it hasn't the size of the others."""
        try:
            image = _oriented(frame.to_ndarray(**_CONVERSION), frame)
        except (av.FFmpegError, ValueError) as error:
            raise VideoError(self.path, index, f"can't be turned into colours: {error}") from None
        if self._size is None:
            self._size = image.shape
        if image.shape != self._size:
            here, elsewhere = (f"{width} x {height}" for height, width, _ in (image.shape, self._size))
            raise VideoError(self.path, index, f"has {here} pixels, but other frames have {elsewhere}")
        return image


def _oriented(image: np.ndarray, frame: VideoFrame) -> np.ndarray:
    """Turn and mirror an image ``(H, W, 3)`` as the frame's display matrix says, in steps of 90 degrees.

    The matrix takes a stored pixel (x, y) to (ax + cy, bx + dy); ISO/IEC 14496-12, section 6.2.2.
    """
    matrix = cast("SideDataContainer", frame.side_data).get(Type.DISPLAYMATRIX)
    if matrix is None:
        return image
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
    if abs(b) + abs(c) > abs(a) + abs(d):
        image, a, d = image.transpose(1, 0, 2), c, b
    return np.ascontiguousarray(image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])

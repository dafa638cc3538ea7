"""Frames of a video by their index, exactly: frame i is the i-th picture that decoding the whole file gives."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Any, Protocol, cast

import av
import numpy as np
from av.packet import Packet
from av.sidedata.sidedata import SideDataContainer, Type
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from hhmnet.video.packets import LostError, VideoError, frame_order, open_stream, reason, scan, stored_size

__all__ = ["KEPT_BYTES", "Pictures", "RecentVideo", "Video", "VideoError", "open_video", "stored_size"]

KEPT_BYTES = 256 * 2**20
"""Pictures of a video that are kept in memory, at the most."""

# From version 17 on, PyAV converts each picture with threads of its own unless told otherwise. That is slower, and a
# process that is forked meanwhile, such as a loader's worker, hangs when it frees them, since it hasn't got them.
_CONVERSION: dict[str, Any] = {"format": "rgb24"}
if int(av.__version__.partition(".")[0]) >= 17:
    _CONVERSION["threads"] = 1


class OutOfOrderError(LostError):
    """A frame that comes in another place than its time says."""


class Pictures(Protocol):
    """What can be cut out of: pictures by their index, of a file or of memory."""

    def __len__(self) -> int:
        """All indices are smaller than this."""
        ...

    def frame(self, index: int) -> np.ndarray:
        """Image ``(H, W, 3)`` uint8 of one frame; raises VideoError if it can't be had."""
        ...


class Video:
    """A video's frames as ``(H, W, 3)`` uint8 RGB images, by index or one after the other.

    Images are turned and mirrored as the file's display matrix says; pixels that aren't square stay as stored. Where
    the size changes in mid-file, as in recordings of browsers, later images are scaled into the first one's.

    The index is made from the file's packets. A frame is reached by decoding from the nearest keyframe before it, or by
    going on from the frame that came last, and checked against the index. Where a file doesn't say in which order its
    frames are shown (raw streams, B-frames in some AVI files), or says it wrongly, all of it is decoded once to see. A
    damaged file gives its frames up to the damage, and by index also those that a later keyframe leads to.

    Attributes:
        num_frames: number of frames in the file, counted, whatever its header says.
        damage: the first frame found to be lost, and why; None as long as none was. In a file that was cut off it
            may be the one after the last. Whatever ends an iteration early stands here.

    Raises VideoError: the file can't be read, or has no pictures.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = path = Path(path)
        self.damage: VideoError | None = None
        self._run: Iterator[tuple[int, VideoFrame]] | None = None  # decodes on from the last frame
        self._last: tuple[int, VideoFrame] | None = None
        self._size: tuple[int, ...] | None = None
        self._failure: LostError | None = None  # what ended the run's decoding
        self._container, self._stream = open_stream(path)
        try:
            self._packets, self._cut = scan(self._container, self._stream)
            keys = {(packet.pos, packet.pts): number for number, packet in enumerate(self._packets)}
            self._keys = keys if len(keys) == len(self._packets) else {}  # nothing tells some of them apart
            order = frame_order(self._packets, self._stream, is_cut=bool(self._cut))
            self._is_learned = order is None
            if order is None:
                order, ended = self._learn_order()
                self._cut = self._cut or ended
                if not order:
                    raise LostError("has no picture that can be decoded" + (f": {ended}" if ended else ""))
        except LostError as lost:
            self.close()
            raise VideoError(path, None, str(lost)) from None
        self._set_order(order)
        self.num_frames = len(order)
        if self._cut:
            self.damage = VideoError(path, self.num_frames, self._cut)

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; no frames can be had after that."""
        self._run = self._last = None
        self._container.close()

    @property
    def height(self) -> int:
        """Of the images in pixels, as they are shown."""
        return self._shape()[0]

    @property
    def width(self) -> int:
        """Of the images in pixels, as they are shown."""
        return self._shape()[1]

    @cached_property
    def times(self) -> np.ndarray:
        """When each frame is shown, ``(num_frames,)`` float64, in seconds after the first one."""
        pts = {self._packets[number].pts for number in self._order} - {None}
        if len(pts) != self.num_frames:
            return np.arange(self.num_frames) / float(self._stream.average_rate or 1)
        seconds = np.sort(np.array(list(pts), np.float64)) * float(self._stream.time_base or 0)
        return np.asarray(seconds - seconds[0])

    @property
    def fps(self) -> float:
        """Frames per second on average; what the header says where there is but one frame."""
        span = float(self.times[-1])
        return (self.num_frames - 1) / span if span > 0 else float(self._stream.average_rate or 0)

    def frame(self, index: int) -> np.ndarray:
        """Image ``(H, W, 3)`` uint8 of one frame; raises VideoError if it can't be had."""
        if not 0 <= index < self.num_frames:
            raise VideoError(self.path, index, f"isn't one of the video's frames 0 to {self.num_frames - 1}")
        if self._size is None and index > 0:
            with suppress(VideoError):  # of a first frame that is lost nobody knows the size
                self.frame(0)
        frame = self._find(index)
        try:
            image = _oriented(frame.to_ndarray(**_CONVERSION), frame)
        except (av.FFmpegError, ValueError) as error:
            raise VideoError(self.path, index, f"can't be turned into colours: {error}") from None
        self._size = self._size or image.shape
        return image if image.shape == self._size else _fitted(image, *self._size[:2])

    def __len__(self) -> int:
        return self.num_frames

    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
        """All frames, ``(index, image)``, up to the damage if there is one."""
        for index in range(self.num_frames):
            try:
                image = self.frame(index)
            except VideoError as error:
                self._note_damage(error)
                return
            yield index, image

    def _shape(self) -> tuple[int, ...]:
        if self._size is None:
            self.frame(0)
        assert self._size is not None
        return self._size

    def _set_order(self, order: list[int]) -> None:
        """Take an order of the frames: a packet's number is its place in the file, a frame's rank its place here."""
        self._order = order
        self._ranks = ranks = {number: rank for rank, number in reversed(list(enumerate(order)))}
        # From a keyframe of H.264 decoding ends at a frame after it that is shown before it and needs what was before;
        # the other decoders pass over such frames.
        is_h264 = self._stream.codec_context.name == "h264"
        self._key_ranks = sorted(
            rank
            for number, rank in ranks.items()
            if rank > 0
            and self._packets[number].is_keyframe
            and not (is_h264 and ranks.get(number + 1, rank) < rank)
        )

    def _learn_order(self) -> tuple[list[int], str]:
        """Decode all; returns the frames' packets in the order in which they come, and why that ended early."""
        order: list[int] = []
        try:
            for frame in self._decode(0, is_learning=True):
                if frame.pts is None:
                    raise LostError("no picture comes of its data")
                order.append(frame.pts)
        except LostError as lost:
            return order, str(lost)
        return order, ""

    def _find(self, index: int) -> VideoFrame:
        """A frame as decoded; raises VideoError if no way leads to it."""
        if self._last is not None and self._last[0] == index:
            return self._last[1]
        nearest = bisect_right(self._key_ranks, index)
        keyframes = self._key_ranks[max(nearest - 2, 0) : nearest][::-1]
        runs = [self._frames_from(start) for start in [*(self._order[rank] for rank in keyframes), 0]]
        reached = self._last[0] + 1 if self._last is not None else 0
        if self._run is not None and max([0, *keyframes]) <= reached <= index:
            runs.insert(0, self._run)
        losses = []
        for run in runs:
            if run is not self._run:
                self._last = None
            self._run = None
            try:
                for self._last in run:
                    if self._last[0] == index:
                        self._run = run
                        return self._last[1]
                raise LostError("the video ends before it")
            except LostError as lost:
                losses.append((self._last[0] + 1 if self._last is not None else 0, lost))
        return self._find_lost(index, losses)

    def _find_lost(self, index: int, losses: list[tuple[int, LostError]]) -> VideoFrame:
        """Find a frame after all, if only the file's times are wrong; or else raise VideoError.

        ``losses`` are the frames at which decoding ended, and why; the last run is the one from the beginning.
        """
        first, lost = losses[-1]
        if isinstance(lost, OutOfOrderError) and not self._is_learned:
            self._is_learned = True
            order, _ = self._learn_order()
            missing = set(self._order) - set(order)
            if not missing:
                self._set_order(order)
                return self._find(index)
            first = min(self._ranks[number] for number in missing)
        self._note_damage(VideoError(self.path, first, str(lost)))
        end, lost = max([*losses, (first, lost)], key=lambda loss: loss[0])
        where = "" if end == index else f"can't be reached, for frame {end} is lost: "
        raise VideoError(self.path, index, f"{where}{lost}")

    def _note_damage(self, error: VideoError) -> None:
        if self.damage is None or (error.frame or 0) < (self.damage.frame or 0):
            self.damage = error

    def _frames_from(self, start: int) -> Iterator[tuple[int, VideoFrame]]:
        """Ranks and frames in the order in which they are shown, from the keyframe ``start`` on; 0 is the beginning.

        Only one run at a time can be used. Raises LostError after the last frame before damage.
        """
        rank, is_begun = self._ranks.get(start, 0) if start else 0, not start
        for frame in self._decode(start):
            is_begun = is_begun or frame.pts == start
            if is_begun:
                if rank >= len(self._order) or self._order[rank] != frame.pts:
                    raise self._failure or OutOfOrderError("no picture comes of its data")
                yield rank, frame
                rank += 1

    def _decode(self, start: int, is_learning: bool = False) -> Iterator[VideoFrame]:
        """Frames as the decoder gives them; their ``pts`` is the number of their packet."""
        number, self._failure = start, None
        try:
            for number, packet in self._packets_from(start):
                if packet.is_corrupt:
                    raise LostError("the file is damaged or cut off there")
                packet.pts = number
                yield from self._decoded(packet)
            if is_learning and self._cut:
                raise LostError(self._cut)
            yield from self._decoded(None)
        except (av.FFmpegError, LostError) as error:
            is_lost = isinstance(error, LostError)
            self._failure = LostError(str(error) if is_lost else f"can't be decoded: {reason(error)}")
            # What is left in the decoder may come after the lost frame, which only a known order shows.
            if not is_learning:
                with suppress(av.FFmpegError, LostError):
                    for frame in self._decoded(None):
                        if frame.pts == number:
                            break
                        yield frame
            raise self._failure from None

    def _decoded(self, packet: Packet[VideoStream] | None) -> Iterator[VideoFrame]:
        for frame in self._stream.codec_context.decode(packet):
            if frame.is_corrupt:
                raise LostError("parts of it can't be decoded")
            yield frame

    def _packets_from(self, start: int) -> Iterator[tuple[int, Packet[VideoStream]]]:
        """Packets and their numbers from ``start`` on."""
        times = [time for time in self._packets[start][1:3] if time is not None]
        if self._keys and times:
            with suppress(av.FFmpegError, LostError, StopIteration):
                self._container.seek(min(times), stream=self._stream)
                packets = self._numbered()
                first = next(packets)
                if first[0] <= start:
                    return (pair for pair in chain([first], packets) if pair[0] >= start)
        # A raw stream can't be searched, and in some files nothing tells the packets apart.
        self._container.close()
        self._container, self._stream = open_stream(self.path)
        return islice(enumerate(self._read()), start, None)

    def _numbered(self) -> Iterator[tuple[int, Packet[VideoStream]]]:
        for packet in self._read():
            number = self._keys.get((packet.pos, packet.pts))
            if number is None:
                raise LostError("the file reads differently the second time")
            yield number, packet

    def _read(self) -> Iterator[Packet[VideoStream]]:
        with suppress(av.FFmpegError, IndexError):  # the packets end here, as they did when they were counted
            yield from (packet for packet in self._container.demux(self._stream) if packet.size)


open_video = Video


class RecentVideo(Video):
    """A video that keeps the last pictures, as many as fit into 256 MiB: windows that overlap share theirs."""

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self._recent: dict[int, np.ndarray] = {}

    def frame(self, index: int) -> np.ndarray:
        """Image ``(H, W, 3)`` uint8 of one frame, only for reading; raises VideoError if it can't be had."""
        recent = self._recent
        if index not in recent:
            last = max(recent, default=index)
            most = max(KEPT_BYTES // recent[last].nbytes, 1) if recent else 1
            # What is passed now may be wanted by the next window.
            for passed in range(last + 1 if last < index <= last + most else index, index + 1):
                recent[passed] = image = super().frame(passed)
            for oldest in sorted(recent)[:-most]:
                del recent[oldest]
            return image
        return recent[index]


def _fitted(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """An image scaled into a picture of another size, in its own shape: black is beside or above it."""
    share = min(height / image.shape[0], width / image.shape[1])
    rows, columns = (max(round(side * share), 1) for side in image.shape[:2])
    frame = VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
    page = np.zeros((height, width, 3), np.uint8)
    top, left = (height - rows) // 2, (width - columns) // 2
    scaled = frame.to_ndarray(width=columns, height=rows, **_CONVERSION)
    page[top : top + rows, left : left + columns] = scaled
    return page


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

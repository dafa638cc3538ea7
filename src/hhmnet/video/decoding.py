"""Decoding a video from any keyframe on, with every frame known by its place: what hhmnet.video stands on."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

import av
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from hhmnet.video.packets import (
    LostError,
    certain_order,
    distinct_field,
    gives_all_frames,
    open_stream,
    reason,
    scan,
    shown_order,
)


class OutOfOrderError(LostError):
    """A frame that comes in another place than its time says."""


class Decoder:
    """Reads a video file's packets once, and decodes from any keyframe on.

    A packet's number is its place in the file, a frame's rank its place among all frames shown. ``order[rank]`` is
    the number of the packet that holds the frame. It follows from the packets' times; where those are missing or made
    up (raw streams, B-frames in some AVI files), it is learned as frames come, and as long as a frame's rank isn't
    known, only decoding from the start leads there.

    Attributes:
        packets: what is known of the packets.
        order: packet of every frame whose rank is known.
        is_learned: whether the order is taken from decoding.
        num_frames: number of frames, decoded or not.
        cut: why the file isn't whole; "" if no packet is known to be missing.

    Args:
        path: the file.
        threads: threads that decode; 0 lets FFmpeg choose.
        conceal: take FFmpeg's guess for what can't be decoded, instead of calling it lost.

    Raises:
        LostError: the file can't be read, or has no pictures.
    """

    def __init__(self, path: Path, threads: int, conceal: bool) -> None:
        self.path = path
        self.threads = threads
        self._conceals = conceal
        self._failure: LostError | None = None  # what ended the run's decoding
        self.container, self.stream = open_stream(path, threads, conceal)
        try:
            self.packets, self.cut = scan(self.container, self.stream)
            self._field = distinct_field(self.packets)
            keys = getattr(self.packets, self._field) if self._field else []
            self._numbers = {key: number for number, key in enumerate(keys)}
            if conceal:
                self.cut = ""
            order = shown_order(self.packets, self.stream)
            if order and self.cut:
                order = certain_order(self.packets, order)
            self.is_learned = order is None
            self.order = order or []
            self._ranks = {number: rank for rank, number in enumerate(self.order)}
            self.num_frames = len(self.order or self.packets.shown)
            if not gives_all_frames(self.packets, order, self.stream):
                self._count_frames()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self.container.close()

    def use_one_thread(self) -> None:
        """Decode with one thread from the next run on: then damage costs no frame that came before it."""
        if self.threads != 1:
            self.threads = 1
            self._reopen()

    def starts(self, rank: int, above: int = 0) -> Iterator[int]:
        """Keyframes from which frame ``rank`` can be reached and whose rank is over ``above``, nearest first."""
        for known in range(min(rank, len(self.order) - 1), above, -1):
            number = self.order[known]
            if number in self.packets.keyframes and not self._fails_after(number, known):
                yield number

    def run(self, start: int) -> Iterator[tuple[int, VideoFrame]]:
        """Ranks and frames in the order in which they are shown, from the keyframe ``start`` on; 0 is the beginning.

        Only one run at a time can be used. Raises LostError after the last frame before damage.
        """
        rank, begun = self._ranks.get(start, 0) if start else 0, not start
        held: deque[VideoFrame] = deque()
        for frame in self._decode(start):
            begun = begun or frame.pts == start
            if begun:
                self._check(rank + len(held), frame.pts)
                held.append(frame)
            # With several threads damage shows late, in frames that were made from a lost one.
            while len(held) > self._delay:
                yield rank, held.popleft()
                rank += 1
        yield from enumerate(held, rank)

    def learn_order(self) -> int | None:
        """Decode all to see which order is right; returns the first frame that doesn't come at all, if there is one."""
        expected, known = self.order, self._ranks
        self._decode_all()
        missing = set(expected) - set(self.order)
        if not missing:
            return None
        self.order, self._ranks, self.is_learned = expected, known, False
        return min(known[number] for number in missing)

    def _decode_all(self) -> str:
        """Learn the order from the beginning on; returns why that ended early."""
        self.order, self._ranks, self.is_learned = [], {}, True
        try:
            deque(self.run(0), maxlen=0)
        except LostError as lost:
            return str(lost)
        return ""

    def _count_frames(self) -> None:
        """Count the frames by decoding them, for packets won't tell."""
        ended = self._decode_all()
        self.cut = self.cut or ended
        self.num_frames = len(self.order)
        if not self.order:
            raise LostError(f"has no picture that can be decoded{': ' if self.cut else ''}{self.cut}")

    @property
    def _delay(self) -> int:
        return 0 if self.threads == 1 or self._conceals else self.stream.codec_context.thread_count

    def _fails_after(self, number: int, rank: int) -> bool:
        """Whether decoding from a keyframe ends at a frame after it that is shown before it and needs what was before.

        Only for H.264 that is an error; the other decoders pass over such frames.
        """
        is_open = self._ranks.get(number + 1, rank) < rank
        return is_open and self.stream.codec_context.name == "h264" and not self._conceals

    def _check(self, rank: int, number: int | None) -> None:
        """Enter a frame into the order, or see that it is the one that the order expects."""
        if self.is_learned and rank == len(self.order) and number is not None:
            self.order.append(number)
            self._ranks.setdefault(number, rank)
        elif not rank < len(self.order) or self.order[rank] != number:
            raise self._failure or OutOfOrderError("no picture comes of its data")

    def _reopen(self) -> None:
        self.close()
        self.container, self.stream = open_stream(self.path, self.threads, self._conceals)

    def _decode(self, start: int) -> Iterator[VideoFrame]:
        """Frames as the decoder gives them; their ``pts`` is the number of their packet."""
        context, number, self._failure = self.stream.codec_context, start, None
        try:
            for number, packet in self._packets(start):
                if packet.is_corrupt and not self._conceals:
                    raise LostError("the file is damaged or cut off there")
                context = self.stream.codec_context
                packet.pts = number
                yield from self._sound(context.decode(packet))
            if self.is_learned and self.cut:
                raise LostError(self.cut)
            yield from self._sound(context.decode(None))
        except (av.FFmpegError, LostError) as error:
            lost = isinstance(error, LostError)
            self._failure = LostError(str(error) if lost else f"can't be decoded: {reason(error)}")
            # What is left in the decoder may come after the lost frame, which only a known order shows.
            if self.threads == 1 and not self.is_learned:
                yield from self._rest(number)
            raise self._failure from None

    def _rest(self, number: int) -> Iterator[VideoFrame]:
        """Frames that were decoded before a packet failed."""
        try:
            for frame in self._sound(self.stream.codec_context.decode(None)):
                if frame.pts == number:
                    return
                yield frame
        except (av.FFmpegError, LostError):
            return

    def _sound(self, frames: list[VideoFrame]) -> Iterator[VideoFrame]:
        for frame in frames:
            if frame.is_corrupt and not self._conceals:
                raise LostError("parts of it can't be decoded")
            yield frame

    def _packets(self, start: int) -> Iterator[tuple[int, Packet[VideoStream]]]:
        """Packets and their numbers from ``start`` on."""
        times = [t for t in (self.packets.pts[start], self.packets.dts[start]) if t is not None]
        if self._field and times:
            try:
                self.container.seek(min(times), stream=self.stream)
                packets = self._numbered()
                first, packet = next(packets)
                if first <= start:
                    return (p for p in chain([(first, packet)], packets) if p[0] >= start)
            except (av.FFmpegError, LostError, StopIteration):
                pass
        self._reopen()
        return islice(enumerate(self._read()), start, None)

    def _numbered(self) -> Iterator[tuple[int, Packet[VideoStream]]]:
        for packet in self._read():
            number = self._numbers.get(getattr(packet, self._field or "pts"))
            if number is None:
                raise LostError("the file reads differently the second time")
            yield number, packet

    def _read(self) -> Iterator[Packet[VideoStream]]:
        try:
            yield from (packet for packet in self.container.demux(self.stream) if packet.size)
        except (av.FFmpegError, IndexError):  # the packets end here, as they did when they were counted
            return

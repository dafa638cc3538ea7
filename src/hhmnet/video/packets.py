"""What the packets of a video file tell without being decoded: how many frames there are, and in which order."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO, NamedTuple

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

# Codecs of which every packet holds one frame that is shown.
_PLAIN_CODECS = {
    *("h264", "hevc", "mpeg4", "msmpeg4v2", "msmpeg4v3", "h263", "mpeg1video", "mpeg2video", "mjpeg", "png"),
    *("rawvideo", "ffv1", "huffyuv", "ffvhuff", "prores", "dnxhd", "vp9", "libvpx-vp9", "av1", "libdav1d"),
}
# A smaller MPEG-4 packet may only say "as before", and then no frame comes of it.
_SMALLEST_MPEG4_FRAME = 16
_SMALLEST_FRAME = 8
"""Bytes; no coder of pictures makes fewer of one."""
_PARENT_BOXES = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf")
_MAX_BOXES, _MAX_TABLE_BYTES = 100_000, 1 << 26


LARGEST_PICTURE = 1 << 26
"""Pixels of a picture that is decoded, at the most; 8K video has half as many."""


class VideoError(ValueError):
    """A video that can't be had, or one ``frame`` of it; ``reason`` says in one line what is wrong."""

    def __init__(self, path: Path, frame: int | None, reason: str) -> None:
        super().__init__(path, frame, reason)
        self.path, self.frame, self.reason = path, frame, reason

    def __str__(self) -> str:
        return f"{self.path}: {'' if self.frame is None else f'frame {self.frame}: '}{self.reason}"


class LostError(Exception):
    """Frames that don't come; its text is the reason."""


class PacketInfo(NamedTuple):
    """One packet of a stream: its place in the file, when its frame is shown and decoded (None where the file doesn't
    say), its bytes, whether decoding can begin there, and whether it is shown."""

    pos: int | None
    pts: int | None
    dts: int | None
    size: int
    is_keyframe: bool
    is_shown: bool


def open_stream(path: Path) -> tuple[InputContainer, VideoStream]:
    """Open a file's first stream of pictures; a sound file's cover isn't one. Raises VideoError if there is none."""
    try:
        _check_tables(path)
        # Playlists count as videos, too: no file may make us read from the network.
        options = {"protocol_whitelist": "file"}
        container = av.open(f"file:{path}", "r", container_options=options, metadata_errors="replace")
    except (av.FFmpegError, OSError, ValueError) as error:
        raise VideoError(path, None, f"can't be opened as a video: {reason(error)}") from None
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams or streams[0].codec_context is None:
        container.close()
        raise VideoError(path, None, "has pictures of an unknown kind" if streams else "has no pictures")
    context = streams[0].codec_context
    if context.width * context.height > LARGEST_PICTURE:
        container.close()
        raise VideoError(path, None, f"announces pictures of {context.width:,} x {context.height:,} pixels")
    context.thread_count = 1
    context.options = {
        "err_detect": "explode",
        "max_pixels": str(LARGEST_PICTURE),
    }  # later ones may be larger
    return container, streams[0]


def stored_size(path: str | Path) -> tuple[int, int]:
    """Width and height of a file's pictures as they are stored, by its header; decodes none, raises VideoError."""
    container, stream = open_stream(Path(path))
    with container:
        return stream.codec_context.width, stream.codec_context.height


def scan(container: InputContainer, stream: VideoStream) -> tuple[list[PacketInfo], str]:
    """All packets of a stream, and what keeps the file from being whole, "" if nothing is known to.

    Raises LostError if there are none that are shown.
    """
    packets: list[PacketInfo] = []
    cut, end = "", 0
    try:
        for packet in container.demux(stream):
            if packet.size:
                times = (packet.pos, packet.pts, packet.dts)
                packets.append(PacketInfo(*times, packet.size, packet.is_keyframe, not packet.is_discard))
                end = max(end, (packet.pts or 0) + (packet.duration or 0))
    except (av.FFmpegError, IndexError) as error:  # the latter: of a stream that the file hadn't announced
        cut = f"the file can't be read on: {reason(error)}"
    if not any(packet.is_shown for packet in packets):
        raise LostError("has no pictures" + (f": {cut}" if cut else ""))
    return packets, cut or _find_cut(container, stream, len(packets), end)


def _find_cut(container: InputContainer, stream: VideoStream, count: int, end: int) -> str:
    """How a file announces more than it holds, "" if it doesn't; ``end`` is when the last frame's time is over."""
    announced = len(stream.index_entries)
    if container.format.name == "avi":  # its index stands at the end, where a cut takes it away
        announced = max(announced, stream.frames)
    if announced > count:
        return f"the file is cut off: it announces {announced} frames and holds {count}"
    # Matroska doesn't count its frames.
    if "matroska" in container.format.name and len(container.streams) == 1 and container.duration:
        announced_end, seconds = container.duration / av.time_base, end * float(stream.time_base or 0)
        if (announced_end - seconds) * float(stream.average_rate or 1) > 2:
            return f"the file is cut off: it announces {announced_end:.2f} s and ends at {seconds:.2f} s"
    return ""


def frame_order(packets: list[PacketInfo], stream: VideoStream, is_cut: bool) -> list[int] | None:
    """Places of the packets in the order in which their frames are shown; None if only decoding tells.

    It follows from the packets' times. Where a file was cut off, it ends where missing packets could change it.
    """
    context = stream.codec_context
    shown = [number for number, packet in enumerate(packets) if packet.is_shown]
    times = {number: pts for number in shown if (pts := packets[number].pts) is not None}
    is_reordered = context.reorder_depth > 0
    if not times and not is_reordered:
        order = shown
    elif len(set(times.values())) < len(shown):
        return None
    else:
        order = sorted(shown, key=times.__getitem__)
        # Packets with B-frames aren't shown as they stand in the file; such times the demuxer made up.
        if is_reordered and order == shown:
            return None
    has_all = (
        context.name in _PLAIN_CODECS
        and context.field_order <= 1  # else two fields may come in two packets
        and packets[0].is_keyframe
        and (context.name != "mpeg4" or min(packet.size for packet in packets) >= _SMALLEST_MPEG4_FRAME)
        # Else there are frames before the first keyframe, and nothing to decode them from.
        and (shown[0] > 0 or order[0] == 0)
    )
    if not has_all:
        return None
    if is_cut and order != shown:
        # No packet that is missing is decoded, so none is shown, before the last one that is there.
        end = max((packet.dts for packet in packets if packet.dts is not None), default=0)
        order = [number for number in order if times[number] <= end] or order[:1]
    return order


def _check_tables(path: Path) -> None:
    """Raise ValueError if an MP4 or MOV file announces more frames than its size allows.

    A few hundred bytes can announce a thousand million frames, for which FFmpeg takes gigabytes of memory and minutes.
    The boxes are those of ISO/IEC 14496-12: sizes of samples (8.7.3), how long they last (8.6.1.2 and 8.6.1.3), and
    the runs of a fragmented file (8.8.8), which may be of sound, as may be a whole track (8.4.3).
    """
    size, smallest, in_fragments = path.stat().st_size, _SMALLEST_FRAME, 0
    with open(path, "rb") as handle:
        if handle.read(8)[4:] not in (b"ftyp", b"moov", b"wide", b"mdat", b"free", b"skip"):
            return
        for kind, start, end in islice(_boxes(handle, 0, size), _MAX_BOXES):
            head = (
                12 if kind in (b"stsz", b"hdlr") else 8
            )  # its last number counts frames, or entries of the table
            if kind not in (b"hdlr", b"stsz", b"stts", b"ctts", b"trun") or end - start < head:
                continue
            handle.seek(start)
            last = handle.read(head)[-4:]
            if kind == b"hdlr":
                smallest = {b"vide": _SMALLEST_FRAME, b"soun": 1}.get(last, smallest)
                continue
            count = int.from_bytes(last)
            if kind == b"trun":
                count = in_fragments = in_fragments + count
                smallest = 1
            elif kind != b"stsz":
                table = handle.read(min(8 * count, end - start - head, _MAX_TABLE_BYTES))
                count = sum(times for times, _ in struct.iter_unpack(">II", table[: len(table) // 8 * 8]))
            if count > max(size // smallest, 1):
                raise ValueError(f"announces {count:,} frames in {size:,} bytes")


def _boxes(handle: IO[bytes], start: int, end: int, depth: int = 0) -> Iterator[tuple[bytes, int, int]]:
    """Kind, begin and end of the content of the boxes on the way to a stream's tables, in the order of the file."""
    while start + 8 <= end and depth <= len(_PARENT_BOXES):
        handle.seek(start)
        length, kind, large = struct.unpack(">I4sQ", handle.read(16).ljust(16, b"\0"))
        content = start + 8
        if length == 1 and start + 16 <= end:
            length, content = large, start + 16
        after = end if length == 0 else start + length
        if after < content:
            return
        yield kind, content, min(after, end)
        if kind in _PARENT_BOXES:
            yield from _boxes(handle, content, min(after, end), depth + 1)
        start = after


def reason(error: Exception) -> str:
    """What an error says, in one line."""
    return str(getattr(error, "strerror", None) or error) or type(error).__name__

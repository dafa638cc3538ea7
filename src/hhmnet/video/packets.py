"""What the packets of a video file tell without being decoded: how many frames there are, and in which order."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from hhmnet.video.tables import problem_of

# Codecs of which every packet holds one frame that is shown.
_PLAIN_CODECS = {
    *("h264", "hevc", "mpeg4", "msmpeg4v2", "msmpeg4v3", "h263", "mpeg1video", "mpeg2video", "mjpeg", "png"),
    *("rawvideo", "ffv1", "huffyuv", "ffvhuff", "prores", "dnxhd", "vp9", "libvpx-vp9", "av1", "libdav1d"),
}
# A smaller MPEG-4 packet may only say "as before", and then no frame comes of it.
_SMALLEST_MPEG4_FRAME = 16
_MICROSECOND = 1e-6


class LostError(Exception):
    """Frames that don't come; its text is the reason."""


class Packets(NamedTuple):
    """The packets of one stream, in the order of the file; a packet's number is its place there.

    Attributes:
        pos: where each begins in the file, in bytes.
        pts: when its frame is shown, in the stream's time base; None where the file doesn't say.
        dts: when its frame is decoded.
        sizes: bytes.
        keyframes: numbers of those from which decoding can begin.
        shown: numbers of those whose frame is shown; the beginning of a film may be hidden.
    """

    pos: list[int | None]
    pts: list[int | None]
    dts: list[int | None]
    sizes: list[int]
    keyframes: set[int]
    shown: list[int]


def open_stream(path: Path, threads: int, conceal: bool) -> tuple[InputContainer, VideoStream]:
    """Open a file's first stream of pictures; a sound file's cover isn't one. Raises LostError if there is none."""
    try:
        if problem := problem_of(path):
            raise LostError(f"can't be opened as a video: {problem}")
    except OSError as error:
        raise LostError(f"can't be opened as a video: {reason(error)}") from None
    # Playlists count as videos, too: no file may make us read from the network.
    options = {"protocol_whitelist": "file"}
    try:
        container = av.open(f"file:{path}", "r", container_options=options, metadata_errors="replace")
    except (av.FFmpegError, OSError, ValueError) as error:
        raise LostError(f"can't be opened as a video: {reason(error)}") from None
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams or streams[0].codec_context is None:
        container.close()
        raise LostError("has pictures of an unknown kind" if streams else "has no pictures")
    stream = streams[0]
    stream.thread_type = av.codec.context.ThreadType.AUTO
    stream.thread_count = threads
    if not conceal:
        stream.codec_context.options = {"err_detect": "explode"}
    return container, stream


def scan(container: InputContainer, stream: VideoStream) -> tuple[Packets, str]:
    """All packets of a stream, and what keeps the file from being whole, "" if nothing is known to.

    Raises:
        LostError: there are none.
    """
    packets = Packets([], [], [], [], set(), [])
    cut, end = "", 0
    try:
        for number, packet in enumerate(p for p in container.demux(stream) if p.size):
            packets.pos.append(packet.pos)
            packets.pts.append(packet.pts)
            packets.dts.append(packet.dts)
            packets.sizes.append(packet.size)
            if packet.is_keyframe:
                packets.keyframes.add(number)
            if not packet.is_discard:
                packets.shown.append(number)
            end = max(end, (packet.pts or 0) + (packet.duration or 0))
    except (av.FFmpegError, IndexError) as error:  # the latter: of a stream that the file hadn't announced
        cut = f"the file can't be read on: {reason(error)}"
    if not packets.shown:
        raise LostError("has no pictures" + (f": {cut}" if cut else ""))
    return packets, cut or _find_cut(container, stream, len(packets.sizes), end)


def _find_cut(container: InputContainer, stream: VideoStream, count: int, end: int) -> str:
    """How a file announces more than it holds, "" if it doesn't; ``end`` is when the last frame's time is over."""
    announced = len(stream.index_entries)
    if container.format.name == "avi":  # its index stands at the end, where a cut takes it away
        announced = max(announced, stream.frames)
    if announced > count:
        return f"the file is cut off: it announces {announced} frames and holds {count}"
    # Matroska doesn't count its frames.
    if "matroska" in container.format.name and len(container.streams) == 1 and container.duration:
        announced_end, seconds = container.duration * _MICROSECOND, end * float(stream.time_base or 0)
        if (announced_end - seconds) * float(stream.average_rate or 1) > 2:
            return f"the file is cut off: it announces {announced_end:.2f} s and ends at {seconds:.2f} s"
    return ""


def distinct_field(packets: Packets) -> Literal["pos", "pts"] | None:
    """The field by which a packet is known again after a jump; None if none tells all of them apart."""
    fields: tuple[Literal["pos", "pts"], ...] = ("pos", "pts")
    for field in fields:
        if len(set(getattr(packets, field)) - {None, -1}) == len(packets.sizes):
            return field
    return None


def shown_order(packets: Packets, stream: VideoStream) -> list[int] | None:
    """Numbers of the packets in the order in which their frames are shown; None if the file doesn't tell."""
    times = {number: pts for number in packets.shown if (pts := packets.pts[number]) is not None}
    is_reordered = stream.codec_context.reorder_depth > 0
    if not times and not is_reordered:
        return packets.shown
    if len(set(times.values())) < len(packets.shown):
        return None
    order = sorted(packets.shown, key=times.__getitem__)
    # Packets with B-frames aren't shown as they stand in the file; such times the demuxer made up.
    return None if is_reordered and order == packets.shown else order


def certain_order(packets: Packets, order: list[int]) -> list[int]:
    """The part of the order that stays right whatever packets were cut off: B-frames come after those they precede."""
    if order == packets.shown:
        return order
    # No packet that is missing is decoded, so none is shown, before the last one that is there.
    end = max((dts for dts in packets.dts if dts is not None), default=0)
    return [n for n in order if (packets.pts[n] or 0) <= end] or order[:1]


def gives_all_frames(packets: Packets, order: list[int] | None, stream: VideoStream) -> bool:
    """Whether a frame surely comes of every packet that is shown, if nothing is damaged."""
    context = stream.codec_context
    return (
        context.name in _PLAIN_CODECS
        and context.field_order <= 1  # else two fields may come in two packets
        and 0 in packets.keyframes
        and (context.name != "mpeg4" or min(packets.sizes) >= _SMALLEST_MPEG4_FRAME)
        # Else there are frames before the first keyframe, and nothing to decode them from.
        and (order is None or packets.shown[0] > 0 or order[0] == 0)
    )


def reason(error: Exception) -> str:
    """What an error says, in one line."""
    return str(getattr(error, "strerror", None) or error) or type(error).__name__

"""Frames as they come: from a camera, a stream or a file, never more than a few behind."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Generator, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any, NamedTuple

import av
import numpy as np
from av.container import InputContainer

from hhmnet.predict.sources import InputError
from hhmnet.video import Video, open_video
from hhmnet.video.packets import reason

PATIENCE = 10.0
"""A camera or stream that gives nothing for so many seconds has broken off."""
BUFFER = 4
"""Frames that wait at the most."""


class Frame(NamedTuple):
    """One picture ``(H, W, 3)`` uint8, red, green, blue; its ``time`` in seconds by the source's own clock, and when it
    was ``captured``, in those of ``time.monotonic()``."""

    image: np.ndarray
    time: float
    captured: float


class Capture:
    """Frames of a source, one after the other.

    A thread takes them as they come, and at most ``buffer`` wait to be taken from here. When another comes then, the
    oldest goes, and ``dropped`` counts it: whoever takes frames slowly misses some, but never lags behind for long.

    Args:
        source: number of a camera (``0`` is ``/dev/video0``), a path ``/dev/video…``, an address such as
            ``rtsp://…``, or a video file.
        real_time: play a file at its own rate, not as fast as its frames are taken, when none is dropped.
        loop: play a file again and again; its times go on.

    Attributes:
        rate: frames a second, as the source says; 30 where it doesn't.
        broken: why the source broke off; "" if it hasn't.

    Raises InputError or VideoError: the source can't be opened.
    """

    def __init__(self, source: str, real_time: bool = True, loop: bool = False, buffer: int = BUFFER) -> None:
        self.source, self.dropped, self.broken = source, 0, ""
        self._waiting: SimpleQueue[Frame | BaseException | None] = SimpleQueue()  # None is the end
        self._buffer, self._stopped = buffer, threading.Event()
        self._thread: threading.Thread | None = None
        self._opened: InputContainer | Video
        if is_live(source):
            self._opened = container = _open_live(source)
            self.rate = float(container.streams.video[0].average_rate or 30)
            self._frames = self._live_frames(container)
        else:
            self._opened = video = open_video(source)
            self.rate = video.fps
            self._frames = self._file_frames(video, real_time, loop)
        if real_time or is_live(source):
            self._thread = threading.Thread(target=self._take, name="capture", daemon=True)

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        """The frames from now on, once, until the source ends or breaks off or :meth:`close` is called."""
        if self._thread is None:
            yield from self._frames
            return
        self._thread.start()
        while not self._stopped.is_set():
            try:
                found = self._waiting.get(timeout=0.5)  # without a limit some systems hold back Ctrl-C
            except Empty:
                continue
            if isinstance(found, BaseException):
                raise found
            if found is None:
                return
            yield found

    def close(self) -> None:
        """Let go of the source. A stream that hangs is left to its thread, which ends when the stream does."""
        self._stopped.set()
        if self._thread is not None and self._thread.ident is not None:
            self._thread.join(1.0)
        else:
            self._frames.close()
            self._opened.close()

    def _take(self) -> None:
        """What the thread does."""
        end: BaseException | None = None
        try:
            for frame in self._frames:
                if self._stopped.is_set():
                    break
                if self._waiting.qsize() >= self._buffer:
                    with suppress(Empty):  # it was taken meanwhile
                        self._waiting.get_nowait()
                        self.dropped += 1
                self._waiting.put(frame)
        except Exception as error:
            end = error
        finally:
            self._frames.close()
            self._waiting.put(end)

    def _file_frames(self, video: Video, real_time: bool, loop: bool) -> Generator[Frame]:
        begun, shown = monotonic(), 0
        with video:
            for _ in count() if loop else range(1):
                for _, image in video:
                    at = shown / video.fps
                    if real_time and not self._wait_until(begun + at):
                        return
                    shown += 1
                    yield Frame(image, at, monotonic())
                if video.damage is not None:
                    self.broken = video.damage.reason
                    return

    def _wait_until(self, moment: float) -> bool:
        """Sleep until then; whether the capture is still open."""
        return not self._stopped.wait(max(moment - monotonic(), 0))

    def _live_frames(self, container: InputContainer) -> Generator[Frame]:
        with container:
            try:
                for packet in container.demux(container.streams.video[0]):
                    with suppress(av.error.InvalidDataError):  # it leads on from one that was lost
                        for frame in packet.decode():
                            captured = monotonic()
                            image = frame.to_ndarray(format="rgb24")
                            yield Frame(image, captured if frame.time is None else frame.time, captured)
                if "://" not in self.source or self.source.partition("://")[0] in ("rtsp", "rtsps", "rtmp"):
                    self.broken = "no more pictures came"
            except (av.FFmpegError, OSError, ValueError) as error:
                self.broken = _why(error)


def is_live(source: str) -> bool:
    """Whether a source is a camera or a stream, whose frames come when they want."""
    return source.isdecimal() or source.startswith("/dev/video") or "://" in source


def shown(source: str) -> str:
    """A source for people to read, without the name and password that an address may hold."""
    return re.sub(r"(?<=://)[^/@]*@", "", source)


def _why(error: Exception) -> str:
    is_late = isinstance(error, av.error.ExitError)
    return f"nothing came for {PATIENCE:.0f} seconds" if is_late else reason(error)


def _open_live(source: str) -> InputContainer:
    """Open a camera or a stream that has pictures; raises InputError."""
    settings: dict[str, Any] = {"timeout": PATIENCE}
    if "://" not in source:
        if not sys.platform.startswith("linux"):
            raise InputError(f"camera {source}: cameras are read on Linux alone; give a stream or a file")
        source = f"/dev/video{source}" if source.isdecimal() else source
        if not Path(source).exists():
            raise InputError(f"{source}: there is no such camera; ls /dev/video* shows those there are")
        settings["format"] = "v4l2"
    elif source.startswith("rtsp"):
        settings["options"] = {"rtsp_transport": "tcp"}  # over UDP lost packets tear pictures
    try:
        container = av.open(source, "r", **settings)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise InputError(f"{shown(source)}: can't be opened: {_why(error)}") from None
    if not container.streams.video:
        container.close()
        raise InputError(f"{shown(source)}: has no pictures")
    return container

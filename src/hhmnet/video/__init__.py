"""Frames of videos, by index."""

from __future__ import annotations

from hhmnet.video.video import Video, VideoError, open_video

__all__ = ["Video", "VideoError", "open_video"]

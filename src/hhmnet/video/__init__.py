"""Frames of videos, by index."""

from __future__ import annotations

from hhmnet.video.video import Pictures, Video, VideoError, open_video, stored_size

__all__ = ["Pictures", "Video", "VideoError", "open_video", "stored_size"]

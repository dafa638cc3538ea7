"""Frames of videos, by index."""

from __future__ import annotations

from hhmnet.video.recent import KEPT_BYTES, RecentVideo
from hhmnet.video.video import Pictures, Video, VideoError, open_video, stored_size

__all__ = ["KEPT_BYTES", "Pictures", "RecentVideo", "Video", "VideoError", "open_video", "stored_size"]

"""Frames of videos, by index."""

from hhmnet.video.video import (
    KEPT_BYTES,
    Pictures,
    RecentVideo,
    Video,
    VideoError,
    open_video,
    stored_size,
)

__all__ = ["KEPT_BYTES", "Pictures", "RecentVideo", "Video", "VideoError", "open_video", "stored_size"]

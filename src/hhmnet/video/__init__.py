"""Frames of videos, by index."""

from hhmnet.video.packets import VideoError, stored_size
from hhmnet.video.video import KEPT_BYTES, Pictures, RecentVideo, Video, open_video

__all__ = ["KEPT_BYTES", "Pictures", "RecentVideo", "Video", "VideoError", "open_video", "stored_size"]

"""A video whose last pictures are kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hhmnet.video.video import Video

KEPT_BYTES = 256 * 2**20
"""Pictures of a video that are kept in memory, at the most."""


class RecentVideo(Video):
    """A video that keeps the last pictures, as many as fit into 256 MiB: windows that overlap share theirs."""

    def __init__(self, path: Path) -> None:
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

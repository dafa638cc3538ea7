"""What a model of skeleton and video is shown of new clips' videos."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hhmnet.data.roi import RoiConfig, crop_clip, empty_crops
from hhmnet.data.video_batch import VideoBatch, stack_crops
from hhmnet.predict.sources import Clip
from hhmnet.skeleton import SkeletonLayout
from hhmnet.video import Pictures, VideoError, open_video


def cut_clips(
    clips: Sequence[Clip], layout: SkeletonLayout, config: RoiConfig
) -> tuple[VideoBatch, list[tuple[str, ...]]]:
    """The crops of clips as a batch, and for each clip its notes with what couldn't be had of its video.

    Args:
        clips: with their videos, by file or open.
        layout: of their joints.
        config: which crops.
    """
    crops, notes = [], []
    for clip in clips:
        problems: list[str] = []
        cut = empty_crops(config, clip.sample.num_frames)
        if clip.video is not None:
            try:
                with _opened(clip.video) as video:
                    cut = crop_clip(clip.sample, layout, video, config, problems)
            except VideoError as error:
                problems.append(error.reason)
        crops.append(cut)
        more = f" ({len(problems)} pictures in all)" if len(problems) > 1 else ""
        notes.append((*clip.notes, *(f"video: {problem}{more}" for problem in problems[:1])))
    return stack_crops(crops), notes


@contextmanager
def _opened(video: Path | Pictures) -> Iterator[Pictures]:
    """A video that is open; one that was open already stays so."""
    if not isinstance(video, Path):
        yield video
        return
    with open_video(video) as opened:
        yield opened

"""A folder of videos: joints are estimated from their pictures."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from hhmnet.conversion import targets
from hhmnet.fields import one_of
from hhmnet.pose.estimate import PoseConfig, VideoPoseEstimator, clip_fields
from hhmnet.pose.networks import NETWORKS, PoseError, fetch_models
from hhmnet.readers import ReaderConfig, ReadError
from hhmnet.readers.labels import DEFAULT_TABLE, LabelRow
from hhmnet.readers.listed import ListedReader
from hhmnet.readers.recorded import IN_PART, VIDEO_SUFFIXES
from hhmnet.sample import Sample
from hhmnet.skeleton import BLAZEPOSE33, LAYOUTS
from hhmnet.video import VideoError, open_video


@dataclass
class VideosConfig(PoseConfig, ReaderConfig):
    """What can be chosen when joints come from videos."""

    labels: Path = DEFAULT_TABLE
    """The table of the videos and their labels; a relative path is looked for in the source folder first."""
    layout: str = "kinect20"
    """Skeleton of the joints: kinect20, ntu25, blazepose33 (metres) or coco17 (pixels)."""
    protocol: str = "given"
    """Protocol that splits the clips: given (the parts that the table names), tennis, …"""

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self, "layout", targets(BLAZEPOSE33))


class Videos(ListedReader):
    """Videos of your own, in whatever FFmpeg reads, with the joints estimated from them.

    A table says what they are; here scenes are groups, too. The person who acts is followed, see
    :class:`~hhmnet.pose.estimate.VideoPoseEstimator`; frames without that person have no body. Raises PoseError where
    the networks can't be had.
    """

    name: ClassVar[str] = "videos"
    title: ClassVar[str] = "video"
    citation: ClassVar[str] = (
        "V. Bazarevsky, I. Grishchenko, K. Raveendran, T. Zhu, F. Zhang, M. Grundmann. "
        "BlazePose: On-device Real-time Body Pose Tracking. CV4ARVR 2020."
    )
    suffixes: ClassVar[tuple[str, ...]] = VIDEO_SUFFIXES
    config_class: ClassVar[type[ReaderConfig]] = VideosConfig
    chunk: ClassVar[int] = 1
    config: VideosConfig

    def __init__(self, source: Path, config: ReaderConfig | None = None) -> None:
        super().__init__(source, config)
        self.layout = LAYOUTS[self.config.layout]
        self.protocol = self.config.protocol
        fetch_models()

    @property
    def options(self) -> dict[str, Any]:
        """What was chosen, and the networks that were used."""
        return super().options | {"networks": list(NETWORKS)}

    @property
    def video_folder(self) -> Path:
        """The source folder."""
        return self.source

    def group(self, row: LabelRow) -> str:
        """The subject, or else the scene, or the recording."""
        return row.subject or row.setup or super().group(row)

    def describe(self) -> list[str]:
        """What was understood: the table, which videos are there, and what is estimated."""
        layout, config = self.layout, self.config
        kind = f"{layout.num_joints} joints, {'metres' if layout.dims == 3 else 'pixels'}"
        persons = f"{config.persons} person{'s' * (config.persons > 1)} a clip"
        looked = f"persons from ssd every {config.every} frames of 30 a second"
        return [*super().describe(), f"joints: blazepose → {layout.name} ({kind}), {persons}; {looked}"]

    def read(self, item: str, notes: Counter[str]) -> Sample:
        """Estimate the joints of one video; raises ReadError if nobody is seen in it or it can't be decoded."""
        file, row = self.file(item), self.labels.rows[item]
        config = dataclasses.replace(self.config, persons=row.persons or self.config.persons)
        begin, end = 0.0, math.inf
        try:
            if row.is_segment:
                with open_video(file) as video:
                    begin, end = self.frames(row, video.fps)
            poses = _estimator(dataclasses.astuple(config)).estimate(file, int(begin), end)
        except VideoError as error:
            where = "" if error.frame is None else f"frame {error.frame}: "
            raise ReadError(f"{where}{error.reason}") from None
        except PoseError as error:
            raise ReadError(str(error)) from None
        counts = {
            f"{IN_PART}: {poses.damage}": int(bool(poses.damage)),
            "frames without the person": int((~poses.present).sum()),
            "bodies filled in": int(poses.interpolated.sum()),
            "tracks of bystanders left out": poses.others,
        }
        notes.update(+Counter(counts))
        frames = np.arange(int(begin), int(begin) + poses.present.shape[1], dtype=np.int32)
        fields = clip_fields(poses, self.layout, config) | {"video": self.place(item)}
        fields |= {"frame_index": frames, "video_frames": frames}
        return self.sample(item, fields, notes, poses.fps)


@lru_cache(maxsize=2)
def _estimator(fields: tuple[Any, ...]) -> VideoPoseEstimator:
    """The networks, loaded once a process; clips of one person and of two may alternate."""
    return VideoPoseEstimator(VideosConfig(*fields))

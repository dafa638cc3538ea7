"""A folder of videos: joints are estimated from their pictures."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from hhmnet.conversion import targets
from hhmnet.fields import one_of
from hhmnet.pose.estimate import (
    ESTIMATORS,
    PoseConfig,
    VideoPoseEstimator,
    VideoPoses,
    clip_fields,
    networks_of,
)
from hhmnet.pose.networks import PoseError, fetch_models
from hhmnet.readers import ReaderConfig, ReadError
from hhmnet.readers.labels import LabelRow, ListedReader, count_splits
from hhmnet.readers.pairing import VIDEO_SUFFIXES
from hhmnet.sample import Sample
from hhmnet.skeleton import get_layout
from hhmnet.video import VideoError

_DEFAULT_LAYOUTS = {"blazepose": "kinect20", "movenet": "coco17"}


@dataclass
class VideosConfig(PoseConfig, ReaderConfig):
    """What can be chosen when joints come from videos."""

    labels: Path = Path("labels.csv")
    """The table of the videos and their labels; a relative path is looked for in the source folder first."""
    layout: str = ""
    """Skeleton of the joints: kinect20 (blazepose's default), ntu25, blazepose33 (metres) or coco17 (pixels)."""
    protocol: str = "given"
    """Protocol that splits the clips: given (the parts that the table names), tennis, …"""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.layout = self.layout or _DEFAULT_LAYOUTS[self.estimator]
        one_of(self, "layout", targets(ESTIMATORS[self.estimator].layout))


class Videos(ListedReader):
    """Videos of your own, with the joints estimated from them.

    Format: a folder of videos in whatever FFmpeg reads, and a table ``labels.csv`` with a line a video, see
    :func:`~hhmnet.readers.labels.read_labels`. Videos that the table doesn't name are left out.

    Splits: those of the table. If it has none, whole subjects are tested, or scenes, or clips: see
    :func:`~hhmnet.readers.labels.hold_out`.

    Each clip keeps every frame of its video. The person who acts is followed, see
    :class:`~hhmnet.pose.estimate.VideoPoseEstimator`; frames in which that person isn't seen have no body. Pixels,
    confidence, boxes, and which bodies were filled in are kept with the joints.

    Joints in metres have a Kinect's axes, see :func:`~hhmnet.pose.estimate.clip_fields`.

    Args:
        source: folder of the videos.
        config: how joints are estimated, and where the labels are.

    Raises:
        SourceError: there is no such folder or table.
        PoseError: the networks can't be had.
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
        self.layout = get_layout(self.config.layout)
        self.protocol = self.config.protocol
        fetch_models(networks_of(self.config))

    @property
    def options(self) -> dict[str, Any]:
        """What was chosen, and the networks that were used."""
        return super().options | {"networks": networks_of(self.config)}

    @property
    def video_folder(self) -> Path:
        """The source folder."""
        return self.source

    def group(self, row: LabelRow) -> str:
        """The subject, or else the scene."""
        return row.subject or row.setup

    def describe(self) -> list[str]:
        """What was understood: the table, which videos are there, and what is estimated."""
        config = self.config
        named = self.items()
        missing = [name for name in named if not (self.source / name).is_file()]
        kind = "metres" if self.layout.dims == 3 else "pixels"
        lines = [
            *self.labels.describe(),
            f"videos: {len(named) - len(missing):,} of {len(named):,} listed are in {self.source}, "
            f"{len(self.others()):,} others there are left out",
            f"joints: {config.estimator} → {self.layout.name} ({self.layout.num_joints} joints, {kind}), "
            f"{config.persons} person{'s' * (config.persons > 1)} a clip; persons from {config.detector} "
            f"every {config.every} frames",
            f"split: {self.rule}: {count_splits(list(self.split.values()))}; protocol {self.protocol}",
        ]
        if len(missing) == len(named):
            lines.append(
                f"none of the listed videos is there; the first is looked for at {self.source / named[0]}"
            )
        return lines

    def read(self, item: str, notes: Counter[str]) -> Sample:
        """Estimate the joints of one video; raises ReadError if nobody is seen in it or it can't be decoded."""
        file = self.file(item)
        try:
            poses = _estimator(dataclasses.astuple(self._pose_config())).estimate(file)
        except VideoError as error:
            raise ReadError(
                error.reason if error.frame is None else f"frame {error.frame}: {error.reason}"
            ) from None
        except PoseError as error:
            raise ReadError(str(error)) from None
        _count(poses, notes)
        return Sample(**self.listed(item), video=item, **clip_fields(poses, self.layout, self.config))

    def _pose_config(self) -> PoseConfig:
        names = [field.name for field in dataclasses.fields(PoseConfig)]
        return PoseConfig(**{name: getattr(self.config, name) for name in names})


@lru_cache(maxsize=1)
def _estimator(fields: tuple[Any, ...]) -> VideoPoseEstimator:
    """The networks, loaded once a process."""
    return VideoPoseEstimator(PoseConfig(*fields))


def _count(poses: VideoPoses, notes: Counter[str]) -> None:
    if poses.damage:
        notes["video damaged: what comes after the damage is left out"] += 1
    found = (
        ("frames without the person", int((~poses.present).sum())),
        ("bodies filled in", int(poses.interpolated.sum())),
        ("tracks of bystanders left out", poses.others),
    )
    for what, count in found:
        if count:
            notes[what] += count

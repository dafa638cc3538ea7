"""From what a user has (videos, skeleton files, folders of them, a store) to clips in a model's joints.

Free of torch as long as no joints have to be estimated.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hhmnet.predict.skeleton_files import SKELETON_SUFFIXES, in_layout, read_skeleton
from hhmnet.readers.nw_ucla.reader import CLASSES_FILE
from hhmnet.readers.pairing import VIDEO_SUFFIXES, pair_frames
from hhmnet.sample import MODALITIES, UNKNOWN_LABEL, Sample
from hhmnet.skeleton import SkeletonLayout
from hhmnet.store import SAMPLES_FILE, Store

if TYPE_CHECKING:
    from hhmnet.pose.clips import ClipConfig
    from hhmnet.pose.estimate import VideoPoseEstimator, VideoPoses
    from hhmnet.video import Pictures

_TABLES = (CLASSES_FILE, "labels.csv")  # stand beside clips and aren't any


class InputError(ValueError):
    """An input that can't be used; the message names it and says what to do."""


class Input(NamedTuple):
    """One clip to be recognised.

    Attributes:
        name: what it is called in the answer.
        path: a video, a skeleton file or a store.
        row: which clip of a store; None for a file.
    """

    name: str
    path: Path
    row: int | None = None


class Clip(NamedTuple):
    """A clip in a model's joints.

    Attributes:
        name: what it is called in the answer.
        sample: its skeleton; with nobody in it where nobody was found.
        video: the file of its video, or its pictures where somebody has them open; None if there is none.
        notes: what is missing, and why.
    """

    name: str
    sample: Sample
    video: Path | Pictures | None = None
    notes: tuple[str, ...] = ()


def find_inputs(paths: Iterable[str | Path]) -> list[Input]:
    """The clips that these paths stand for: a file for itself, a folder for the files in and below it, a store for all
    its clips. A video beside a skeleton file of its name belongs to that and isn't a clip of its own.

    Raises:
        InputError: a path doesn't exist, is no clip, or a folder holds none.
    """
    found: list[Input] = []
    for path in map(Path, paths):
        if path.is_dir():
            found += _in_store(path) if (path / SAMPLES_FILE).is_file() else _in_folder(path)
        else:
            check_file(path)
            found.append(Input(str(path), path))
    return found


def check_file(path: Path) -> None:
    """Raise InputError unless a path is a file whose name ends like a video's or a skeleton file's."""
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give one of its clips, which find_inputs lists")
    if not path.is_file():
        raise InputError(f"{path}: there is no such file or folder")
    if path.suffix.lower() not in (*VIDEO_SUFFIXES, *SKELETON_SUFFIXES):
        raise InputError(
            f"{path}: '{path.suffix}' is no ending of a video ({', '.join(VIDEO_SUFFIXES)}) or a skeleton file "
            f"({', '.join(SKELETON_SUFFIXES)})"
        )


def is_video(path: Path) -> bool:
    """Whether a file's name ends like a video's."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def _in_store(folder: Path) -> list[Input]:
    return [Input(f"{folder}#{name}", folder, row) for row, name in enumerate(Store(folder).sample_ids)]


def _in_folder(folder: Path) -> list[Input]:
    def refuse(error: OSError) -> None:
        raise InputError(f"{error.filename}: can't be listed: {error.strerror or error}")

    found = []
    for parent, below, names in os.walk(folder, onerror=refuse):
        below[:] = sorted(name for name in below if not name.startswith("."))
        files = [Path(parent, name) for name in sorted(names) if not name.startswith(".")]
        skeletons = [file for file in files if file.suffix.lower() in SKELETON_SUFFIXES]
        skeletons = [file for file in skeletons if file.name not in _TABLES]
        taken = {file.stem for file in skeletons}
        videos = [file for file in files if is_video(file) and file.stem.removesuffix("_rgb") not in taken]
        found += sorted(skeletons + videos)
    if not found:
        raise InputError(f"{folder}: holds no videos or skeleton files, and is no store")
    return [Input(str(file), file) for file in found]


def clip_of(sample: Sample, videos: Path | None) -> Clip:
    """A sample as a clip, with its video in the folder ``videos``."""
    file = None if sample.video is None or videos is None else Path(videos, sample.video)
    return Clip(sample.sample_id, sample, file)


def check_modalities(modalities: Sequence[str], looks_at_video: bool) -> None:
    """Raise InputError for modalities that don't exist, or that a model doesn't look at."""
    if not modalities or set(modalities) - set(MODALITIES):
        raise InputError(f"modalities must be among {', '.join(MODALITIES)}; got {', '.join(modalities)}")
    if not looks_at_video and "skeleton" not in modalities:
        raise InputError("the model looks at skeletons alone; it has no modality 'video'")


def check_answered(clip: Clip, used: Sequence[str], wanted: Sequence[str], notes: Sequence[str]) -> None:
    """Raise InputError, with the reason, for a clip with nothing to look at.

    Args:
        clip: that was asked about.
        used: modalities that its answer goes by.
        wanted: modalities that it was to go by.
        notes: what couldn't be had of it.
    """
    if not used:
        reason = "; ".join(notes) or f"it has no {' and no '.join(wanted)}"
        raise InputError(f"{clip.name}: {reason}")


class Sources:
    """Reads inputs as clips in one skeleton.

    Args:
        layout: the joints that are wanted. A skeleton file in another known layout is converted.
        pose: how joints are found in a video; the defaults if None.
        videos: folder of the videos of skeleton files and stores; beside the file, or where the store says, if None.
        with_videos: whether the videos of skeleton files and stores are wanted at all.
        units: what 3-D joints in files of no fixed unit are measured in: m, cm or mm.
    """

    def __init__(
        self,
        layout: SkeletonLayout,
        pose: ClipConfig | None = None,
        videos: Path | None = None,
        *,
        with_videos: bool = False,
        units: str = "m",
    ) -> None:
        self.layout, self.videos, self.with_videos, self.units = layout, videos, with_videos, units
        self._pose = pose
        self._stores: dict[Path, Store] = {}

    @cached_property
    def pose(self) -> ClipConfig:
        """How joints are found in a video."""
        from hhmnet.pose.clips import ClipConfig

        return ClipConfig() if self._pose is None else self._pose

    @cached_property
    def estimator(self) -> VideoPoseEstimator:
        """The networks that find joints, loaded when they are first needed; raises PoseError."""
        from hhmnet.pose.estimate import VideoPoseEstimator

        return VideoPoseEstimator(self.pose)

    def read(self, item: Input | Clip | str | Path) -> Clip:
        """One clip; one that was read already is returned as it is.

        Raises:
            InputError: it can't be read, or can't become the wanted joints; names the file and the reason.
        """
        if isinstance(item, Clip):
            return item
        if not isinstance(item, Input):
            check_file(Path(item))
            item = Input(str(item), Path(item))
        try:
            if item.row is not None:
                return self._of_store(item)
            return self._of_video(item) if is_video(item.path) else self._of_skeleton(item)
        except InputError:
            raise
        except OSError as error:
            raise InputError(f"{item.name}: {error.strerror or error}") from None
        except ValueError as error:  # the package's own: ReadError, PoseError, VideoError, LayoutError, …
            if not type(error).__module__.startswith("hhmnet."):
                raise
            reason = " ".join(str(error).split()).removeprefix(f"{item.path}: ")
            raise InputError(f"{item.name}: {reason}") from None

    def _of_store(self, item: Input) -> Clip:
        store = self._stores.setdefault(item.path, Store(item.path))
        assert item.row is not None
        sample = in_layout(store.sample(item.row), store.layout, self.layout)
        if sample.video is None or not self.with_videos:
            return Clip(item.name, sample)
        return Clip(item.name, sample, store.find_videos(self.videos) / sample.video)

    def _of_video(self, item: Input) -> Clip:
        """A clip of the person who acts; where nobody is found, the video alone."""
        from hhmnet.pose.assets import PoseError
        from hhmnet.pose.layouts import targets

        estimator = self.estimator
        known = targets(estimator.estimator.layout)
        if self.layout.name not in known:
            raise InputError(
                f"{item.name}: joints that are estimated from video can become {', '.join(known)}, and the model takes "
                f"{self.layout.name}; give a skeleton file"
            )
        try:
            poses = estimator.estimate(item.path)
        except PoseError as error:
            return Clip(item.name, self._nobody(item.path), item.path, (str(error),))
        notes = (f"the video is damaged: {poses.damage}",) if poses.damage else ()
        return Clip(item.name, self.sample_of(poses, item.path), item.path, notes)

    def sample_of(self, poses: VideoPoses, video: Path) -> Sample:
        """What was seen in a video, as a sample."""
        from hhmnet.pose.clips import clip_fields

        return Sample(
            video.stem, UNKNOWN_LABEL, video=video.name, **clip_fields(poses, self.layout, self.pose)
        )

    def _nobody(self, path: Path) -> Sample:
        from hhmnet.video import open_video

        with open_video(path) as video:
            frames = np.arange(len(video), dtype=np.int32)
        shape = (1, len(frames), self.layout.num_joints, self.layout.dims)
        absent = np.zeros((1, len(frames)), bool)
        return Sample(
            path.stem,
            UNKNOWN_LABEL,
            np.zeros(shape, np.float32),
            absent,
            frames,
            video=path.name,
            video_frames=frames,
        )

    def _of_skeleton(self, item: Input) -> Clip:
        videos = self.videos if self.with_videos else None
        layout, fields = read_skeleton(item.path, self.layout, self.units, videos)
        video = self._paired(item.path, fields)
        sample = Sample(item.path.stem, UNKNOWN_LABEL, **fields)
        return Clip(item.name, in_layout(sample, layout, self.layout), video)

    def _paired(self, path: Path, fields: dict[str, Any]) -> Path | None:
        """The video of a skeleton file, which is entered among the sample's fields; None if it has none."""
        if not self.with_videos:
            return None
        folder = self.videos or path.parent
        if "video" in fields:
            return Path(folder, fields["video"])
        names = [f"{path.stem}{more}{suffix}" for more in ("", "_rgb") for suffix in VIDEO_SUFFIXES]
        name = next((name for name in names if (folder / name).is_file()), None)
        if name is None:
            return None
        from hhmnet.video import VideoError, open_video

        try:
            with open_video(folder / name) as video:
                count = len(video)
        except VideoError:
            return None
        fields["video"] = name
        fields["video_frames"], _ = pair_frames(len(fields["frame_index"]), count)
        return folder / name

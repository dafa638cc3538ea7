"""From what a user has (videos, skeleton files, folders of them, a store) to clips in a model's joints.

Free of torch as long as no joints have to be estimated.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cache, cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hhmnet.conversion import convert
from hhmnet.files import on_disk
from hhmnet.readers import SourceError, files_below, printable
from hhmnet.readers.array_sets import read_set
from hhmnet.readers.arrays import ArrayConfig
from hhmnet.readers.clip_files import SUFFIXES
from hhmnet.readers.formats import clips_among, is_clip, is_msr, read_skeleton, understood
from hhmnet.readers.joints import DOUBT, tallness
from hhmnet.readers.listed import count_endings
from hhmnet.readers.nw_ucla import CLASSES_FILE
from hhmnet.readers.recorded import VIDEO_SUFFIXES, video_fields
from hhmnet.readers.text import foreign
from hhmnet.sample import UNKNOWN_LABEL, Sample
from hhmnet.skeleton import SkeletonLayout
from hhmnet.store import SAMPLES_FILE, Store

if TYPE_CHECKING:
    from hhmnet.pose.estimate import PoseConfig, VideoPoseEstimator
    from hhmnet.video import Pictures

SKELETON_SUFFIXES = (".skeleton", *SUFFIXES)

_TABLES = (CLASSES_FILE, "labels.csv")  # stand beside clips and aren't any
_OTHER_SIZE = 3.0  # so many times as large or small are no other people, and in a picture no usual distance


class InputError(ValueError):
    """An input that can't be used; the message names it and says what to do."""


class Input(NamedTuple):
    """One clip to be recognised: its name in the answer, a file or a store, and which clip of a store it is."""

    name: str
    path: Path
    row: int | None = None


class InputClip(NamedTuple):
    """A clip in a model's joints, with nobody in it where nobody was found; its ``video`` is a file, or pictures where
    somebody has them open, and its ``notes`` say what is missing, and why."""

    name: str
    sample: Sample
    video: Path | Pictures | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, sample: Sample, videos: Path | None) -> InputClip:
        """A sample with its video in the folder ``videos``."""
        file = None if sample.video is None or videos is None else Path(videos, sample.video)
        return cls(sample.sample_id, sample, file)


def find_inputs(paths: Iterable[str | Path], tell: Callable[[str], None] = lambda line: None) -> list[Input]:
    """The clips that these paths stand for: a file for itself, a folder for the files in and below it, a store for all
    its clips. A video beside a skeleton file of its name belongs to that and isn't a clip of its own.

    ``tell`` is called with a line that counts the files of a folder that are no clips. Raises InputError: a path
    doesn't exist, is no clip, or a folder holds none.
    """
    found: list[Input] = []
    for path in map(on_disk, map(Path, paths)):
        if (path / SAMPLES_FILE).is_file():
            names = Store(path).sample_ids
            found += [Input(f"{path}#{name}", path, row) for row, name in enumerate(names)]
        elif path.is_dir():
            found += _in_folder(path, tell)
        else:
            check_file(path)
            found += _in_file(path)
    return found


def _in_file(path: Path) -> list[Input]:
    """A file for itself, or the clips of a whole data set in it."""
    with suppress(SourceError):  # reading it says why
        if (found := read_set(path)) is not None:
            return [Input(f"{path}#{name}", path, row) for row, name in enumerate(found.clips)]
    return [Input(str(path), path)]


def _in_folder(folder: Path, tell: Callable[[str], None]) -> list[Input]:
    try:
        files = [folder / path for path in files_below(folder) if path.name not in _TABLES]
    except SourceError as error:
        raise InputError(str(error)) from None
    known = [file for file in files if file.suffix.lower() in SKELETON_SUFFIXES or is_msr(file)]
    skeletons = [Path(clip) for clip in clips_among(map(str, known))]
    paired = {(file.parent, file.stem) for file in skeletons}
    videos = [file for file in files if is_video(file)]
    alone = [file for file in videos if (file.parent, file.stem.removesuffix("_rgb")) not in paired]
    if not skeletons and not alone:
        raise InputError(f"{folder}: holds no videos or skeleton files, and is no store")
    if passed := {*files} - {*known, *videos}:
        endings = count_endings(file.name for file in passed)
        tell(f"{folder}: passed over, as no videos or skeleton files by their endings: {endings}")
    found = sorted(skeletons + alone, key=lambda file: (file.parent, file))
    return [one for file in found for one in _in_file(file)]


def check_file(path: Path) -> None:
    """Raise InputError unless a path is a recording of OpenPose, or a file called like a video or a skeleton file."""
    if path.is_file() and (fault := foreign(path)) is not None:
        raise InputError(f"{path}: is {fault}")
    if is_msr(path) or (not path.is_file() and is_clip(path)):
        return
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


class Sources:
    """Reads inputs as clips in one skeleton.

    Args:
        layout: the joints that are wanted. A skeleton file in another known layout is converted.
        pose: how joints are found in a video; the defaults, and as many as ``persons``, if None.
        videos: folder of the videos of skeleton files and stores; beside the file, or where the store says, if None.
        with_videos: whether the videos of skeleton files and stores are wanted at all.
        arrays: what is said of joints in files of no fixed form.
        persons: how many persons of a clip are looked at.
        body_size: how long bodies are in the training data, as ``ModelSpec`` has it; None if that doesn't matter.
    """

    def __init__(
        self,
        layout: SkeletonLayout,
        pose: PoseConfig | None = None,
        videos: Path | None = None,
        *,
        with_videos: bool = False,
        arrays: ArrayConfig | None = None,
        persons: int = 1,
        body_size: float | None = None,
    ) -> None:
        self.layout, self.pose, self.videos, self.with_videos = layout, pose, videos, with_videos
        self.arrays, self._persons, self._body_size = arrays or ArrayConfig(), persons, body_size
        self._store, self._set = cache(Store), cache(read_set)

    @cached_property
    def estimator(self) -> VideoPoseEstimator:
        """The networks that find joints, loaded when they are first needed; raises PoseError."""
        from hhmnet.pose.estimate import PoseConfig, VideoPoseEstimator
        from hhmnet.prepare.workers import cores

        return VideoPoseEstimator(self.pose or PoseConfig(persons=self._persons), threads=cores())

    def read(self, source: Input | InputClip | str | Path) -> InputClip:
        """One clip; one that was read already is returned as it is. Raises InputError, which names the file and the
        reason: it can't be read, or can't become the wanted joints."""
        if isinstance(source, InputClip):
            return source
        if not isinstance(source, Input):
            path = on_disk(Path(source))
            check_file(path)
            source = Input(str(source), path)
        try:
            is_film = source.row is None and is_video(source.path)
            return self._of_video(source) if is_film else self._of_skeletons(source)
        except ModuleNotFoundError as error:
            if error.name != "torch":
                raise
            raise InputError(
                f"{source.path}: joints are found in videos with PyTorch, which isn't installed; "
                "give a skeleton file, or pip install torch"
            ) from None
        except InputError:
            raise
        except OSError as error:
            raise InputError(f"{source.name}: {error.strerror or error}") from None
        except ValueError as error:  # the package's own: ReadError, PoseError, VideoError, LayoutError, …
            if not type(error).__module__.startswith("hhmnet."):
                raise
            reason = " ".join(str(error).split()).removeprefix(f"{source.path}: ")
            raise InputError(f"{source.name}: {reason}") from None

    def _of_skeletons(self, source: Input) -> InputClip:
        """A clip of a skeleton file, of a data set in one file or of a store, with its video if that is wanted."""
        path, row, notes, video = source.path, source.row, Counter[str](), None
        if row is not None and not path.is_file():
            store = self._store(path)
            sample, layout = store.sample(row), store.layout
            if sample.video is not None and self.with_videos:
                video = InputClip.of(sample, store.find_videos(self.videos)).video
        else:
            if row is not None:
                found = self._set(path)
                assert found is not None  # find_inputs saw it
                title, clip = next(islice(found.clips.items(), row, None))
                layout, fields = understood(clip.load(""), self.layout, self.arrays, notes)
            else:
                title, videos = path.stem, self.videos if self.with_videos else None
                layout, fields = read_skeleton(path, self.layout, self.arrays, videos, notes)
                video = self._paired(path, fields) if self.with_videos else None
            sample = Sample(printable(title), UNKNOWN_LABEL, **fields)
        sample = in_layout(sample, layout, self.layout)
        return InputClip(source.name, sample, video, (*notes, *self._differs(sample)))

    def _of_video(self, source: Input) -> InputClip:
        """A clip of the person who acts; where nobody is found, the video alone."""
        from hhmnet.conversion import targets
        from hhmnet.pose.estimate import clip_fields
        from hhmnet.pose.networks import PoseError
        from hhmnet.video import open_video

        known, path = targets(self.estimator.estimator.layout), source.path
        if self.layout.name not in known:
            raise InputError(
                f"{source.name}: joints that are estimated from video can become {', '.join(known)}, and the model "
                f"takes {self.layout.name}; give a skeleton file"
            )
        try:
            poses = self.estimator.estimate(path)
        except PoseError as error:
            with open_video(path) as video:
                frames, notes = np.arange(len(video), dtype=np.int32), [str(error)]
            joints = np.zeros((1, len(frames), self.layout.num_joints, self.layout.dims), np.float32)
            fields: dict[str, Any] = {"joints": joints, "present": np.zeros(joints.shape[:2], bool)}
            fields |= {"frame_index": frames, "video_frames": frames}
        else:
            fields = clip_fields(poses, self.layout, self.estimator.config)
            notes = [f"the video is damaged: {poses.damage}"] if poses.damage else []
        sample = Sample(printable(path.stem), UNKNOWN_LABEL, video=printable(path.name), **fields)
        return InputClip(source.name, sample, path, tuple(notes))

    def _differs(self, sample: Sample) -> Iterator[str]:
        """What a clip has that the model hasn't learned from: more persons, or bodies of another size."""
        if sample.num_persons > self._persons:
            yield f"{sample.num_persons} persons; the model looks at the {self._persons} who moves most"
        ratio = tallness(sample.joints) / (self._body_size or np.inf)
        if ratio and not 1 / _OTHER_SIZE < ratio < _OTHER_SIZE:
            yield f"{DOUBT}bodies are {ratio:.2g} times as large as those that the model learned from: see --units"

    def _paired(self, path: Path, fields: dict[str, Any]) -> Path | None:
        """The video of a skeleton file, which is entered among the sample's fields; None if it has none."""
        folder = self.videos or path.parent
        if "video" in fields:
            return Path(folder, fields["video"])
        names = [f"{path.stem}{more}{suffix}" for more in ("", "_rgb") for suffix in VIDEO_SUFFIXES]
        name = next((name for name in names if (folder / name).is_file()), None)
        if name is not None:
            fields |= video_fields(folder, name, fields["joints"], Counter())
        return folder / fields["video"] if "video" in fields else None


def frame_times(clip: InputClip, fps: float) -> tuple[np.ndarray, float]:
    """When each frame of a clip is shown, ``(T,)`` in seconds, and how long all of them last.

    Those of its video, where that has a frame for each of the clip's; else ``fps`` a second, from 0 on.
    """
    from hhmnet.video import open_video

    shown, index = clip.sample.video_frames, clip.sample.frame_index
    if isinstance(clip.video, Path) and shown is not None and shown[0] >= 0 and (np.diff(shown) > 0).all():
        with open_video(clip.video) as video:
            seconds, rate = video.times, video.fps
        if len(seconds) > shown[-1]:
            times = seconds[shown]
            return times, float(times[-1] - times[0] + 1 / (rate or fps))
    times = (index - index[0]) / fps
    return times, float(times[-1] + 1 / fps)


def in_layout(sample: Sample, source: SkeletonLayout, target: SkeletonLayout) -> Sample:
    """A sample of one layout as one of another, with its pixels; itself where they are the same. Raises LayoutError:
    there is no way from one to the other."""
    if source == target:
        return sample
    joints, confidence = convert(sample.joints, source, target, sample.confidence)
    confidence[~sample.present] = 0
    joints[~sample.present] = 0
    pixels = None
    if sample.pixels is not None and source.dims == target.dims == 3:
        pixels, _ = convert(sample.pixels, source, target, sample.confidence)
    return dataclasses.replace(sample, joints=joints, confidence=confidence, pixels=pixels)

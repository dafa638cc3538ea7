"""NTU RGB+D 60 and 120 from their raw ``.skeleton`` files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from hhmnet.readers import ReaderConfig, ReadError, SourceError
from hhmnet.readers.ntu_skeleton import read_persons
from hhmnet.readers.recorded import RecordedConfig, RecordedReader
from hhmnet.readers.text import read_lines
from hhmnet.skeleton import NTU25

_CLASSES = """
drink water, eat meal, brush teeth, brush hair, drop, pick up, throw, sit down, stand up, clapping, reading, writing,
tear up paper, put on jacket, take off jacket, put on a shoe, take off a shoe, put on glasses, take off glasses, put
on a hat or cap, take off a hat or cap, cheer up, hand waving, kicking something, reach into pocket, hopping, jump up,
phone call, play with phone or tablet, type on a keyboard, point to something, taking a selfie, check time from watch,
rub two hands, nod head or bow, shake head, wipe face, salute, put palms together, cross hands in front, sneeze or
cough, staggering, falling down, headache, chest pain, back pain, neck pain, nausea or vomiting, fan self, punch or
slap, kicking, pushing, pat on back, point finger, hugging, giving object, touch pocket, shaking hands, walking
towards, walking apart, put on headphone, take off headphone, shoot at basket, bounce ball, tennis bat swing, juggle
table tennis ball, hush, flick hair, thumb up, thumb down, make OK sign, make victory sign, staple book, counting
money, cutting nails, cutting paper, snap fingers, open bottle, sniff, squat down, toss a coin, fold paper, ball up
paper, play magic cube, apply cream on face, apply cream on hand, put on bag, take off bag, put object into bag, take
object out of bag, open a box, move heavy objects, shake fist, throw up cap or hat, capitulate, cross arms, arm
circles, arm swings, run on the spot, butt kicks, cross toe touch, side kick, yawn, stretch oneself, blow nose, hit
with object, wield knife, knock over, grab stuff, shoot with gun, step on foot, high-five, cheers and drink, carry
object, take a photo, follow, whisper, exchange things, support somebody, rock-paper-scissors
"""
NTU120_CLASSES = tuple(" ".join(name.split()) for name in _CLASSES.split(","))
"""The 120 actions in the order of their numbers; the first 60 are those of NTU RGB+D."""

NAME = re.compile(r"S(?P<setup>\d{3})C(?P<camera>\d{3})P(?P<subject>\d{3})R\d{3}A(?P<action>\d{3})", re.ASCII)


def _numbers(**most: int) -> dict[str, range]:
    return {group: range(1, number + 1) for group, number in most.items()}


@dataclass
class NTUConfig(RecordedConfig):
    """What can be chosen when NTU RGB+D is read: which files, and which videos."""

    missing: Path | None = None
    """List of clips to leave out, a name a line; by default the data set's own, if it lies in the source folder."""
    videos: Path | None = None
    """Folder of the colour videos (NAME_rgb.avi); by default they are looked for beside the skeletons."""


class NTU60(RecordedReader):
    """NTU RGB+D: 56,880 clips of 60 actions by 40 subjects, from 3 cameras, in 17 setups.

    Format: one text file a clip, ``SsssCcccPpppRrrrAaaa.skeleton`` (setup, camera, subject, replication, action);
    :mod:`hhmnet.readers.ntu_skeleton` says what is in it, and who counts as a person. The tracking state becomes the
    confidence: 0 not tracked, 0.5 inferred, 1 tracked. A joint that has no finite pixels gets pixels of zero and
    confidence 0. Every frame of the file is kept, also those without a body.

    Left out: the names on the authors' list of 302 missing or incomplete skeletons (:class:`NTUConfig`). Videos:
    ``NAME_rgb.avi``, recorded frame by frame with the skeletons. Splits: cross-subject (20 subjects train) and
    cross-view (cameras 2 and 3 train), as in the paper. Terms: after registration with the authors, for research.
    hhmnet brings no part of it along.
    """

    name: ClassVar[str] = "ntu60"
    title: ClassVar[str] = "NTU RGB+D 60"
    citation: ClassVar[str] = (
        "A. Shahroudy, J. Liu, T.-T. Ng, G. Wang. "
        "NTU RGB+D: A Large Scale Dataset for 3D Human Activity Analysis. CVPR 2016."
    )
    protocol = "ntu60_xsub"
    known: Mapping[str, range] = _numbers(action=60, setup=17, subject=40, camera=3)
    lists = ("missing_skeletons_60.txt", "NTU_RGBD_samples_with_missing_skeletons.txt")
    suffixes: ClassVar[tuple[str, ...]] = (".skeleton",)
    config_class: ClassVar[type[ReaderConfig]] = NTUConfig
    pattern = NAME
    form = "SsssCcccPpppRrrrAaaa.skeleton"
    video_tail = "_rgb"
    layout = NTU25

    def __init__(self, source: Path, config: ReaderConfig | None = None) -> None:
        super().__init__(source, config)
        self.class_names = NTU120_CLASSES[: len(self.known["action"])]
        beside = (self.source / name for name in self.lists)
        self._list = self.config.missing or next((file for file in beside if file.is_file()), None)
        self._missing = frozenset() if self._list is None else read_names(self._list)

    @property
    def options(self) -> dict[str, Any]:
        """What was chosen, and the list of missing skeletons that was found."""
        return super().options | {"missing": self._list and self._list.name}

    @property
    def video_folder(self) -> Path:
        """The folder of colour videos: the one that is given, or the source folder."""
        return self.config.videos or self.source

    def describe(self) -> list[str]:
        """What was found: files, videos, the list of missing skeletons."""
        found = f"no list ({' or '.join(self.lists)} in the source folder, or --missing)"
        if self._list is not None:
            listed = sum(PurePosixPath(item).stem in self._missing for item in self.items())
            found = f"{len(self._missing)} names in {self._list}, {listed} of them among the files"
        return [*super().describe(), f"missing skeletons: {found}"]

    def remedy(self, group: str, number: int) -> str:
        """The larger data set, if it has what this one hasn't."""
        return "; the reader ntu120 takes it" if number in NTU120.known[group] else ""

    def parse(self, file: Path, told: Mapping[str, int], notes: Counter[str]) -> dict[str, Any]:
        """The persons of one file; raises ReadError, with the line if there is one, if it can't be used."""
        if file.stem in self._missing and self._list is not None:
            raise ReadError(f"on the list of missing skeletons ({self._list.name})")
        return read_persons(file, notes)


class NTU120(NTU60):
    """NTU RGB+D 120: 114,480 clips of 120 actions by 106 subjects, from 3 cameras, in 32 setups.

    Format, persons, videos and terms are those of :class:`NTU60`, whose clips are a part of it. 535 clips are listed as
    missing (``missing_skeletons_120.txt``). Splits: cross-subject (53 subjects train), cross-setup (even ones train).
    """

    name: ClassVar[str] = "ntu120"
    title: ClassVar[str] = "NTU RGB+D 120"
    citation: ClassVar[str] = (
        "J. Liu, A. Shahroudy, M. Perez, G. Wang, L.-Y. Duan, A. C. Kot. "
        "NTU RGB+D 120: A Large-Scale Benchmark for 3D Human Activity Understanding. TPAMI 2020."
    )
    protocol = "ntu120_xsub"
    known = _numbers(action=120, setup=32, subject=106, camera=3)
    lists = ("missing_skeletons_120.txt", "NTU_RGBD120_samples_with_missing_skeletons.txt")


def read_names(file: Path) -> frozenset[str]:
    """The clips on a list: a name a line, with ``.skeleton`` behind it or not; lines above the first are a heading.
    Raises SourceError where the file is missing, lists no clips, or has something else between them.
    """
    names: set[str] = set()
    for number, line in enumerate(read_lines(file, "it should list names of clips"), start=1):
        name = line.strip().removesuffix(".skeleton")
        if NAME.fullmatch(name):
            names.add(name)
        elif name and names:
            raise SourceError(f"{file}, line {number}: '{name}' must be a name such as S001C002P005R002A008")
    if not names:
        raise SourceError(f"{file}: lists no clips; it should have names such as S001C002P005R002A008")
    return frozenset(names)

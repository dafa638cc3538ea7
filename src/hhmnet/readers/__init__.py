"""Readers of raw data sets: files → Sample, one module a format."""

from __future__ import annotations

import dataclasses
import json
import os
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass
from importlib import import_module
from operator import attrgetter
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, ClassVar

from hhmnet.fields import brief
from hhmnet.sample import Sample
from hhmnet.skeleton import SkeletonLayout

# Name of a reader → where its class is, and what it reads. Its module is imported when it is chosen: some need packages
# that not everybody has.
READERS = {
    "nw_ucla": (".nw_ucla:NWUCLA", "NW-UCLA as JSON clips"),
    "ntu60": (".ntu:NTU60", "NTU RGB+D as .skeleton files"),
    "ntu120": (".ntu:NTU120", "NTU RGB+D 120 as .skeleton files"),
    "pyskl": (".pyskl:Pyskl", "annotation pickles of pyskl and MMAction2"),
    "arrays": (".array_sets:ArraySets", "data sets as arrays of CTR-GCN, ST-GCN, 2s-AGCN and VideoPose3D"),
    "msr_action3d": (".formats:MSRAction3D", "MSR Action3D as text"),
    "folder": (".listed:Folder", "a folder of your own skeletons with a labels.csv"),
    "videos": (".videos:Videos", "a folder of your own videos with a labels.csv"),
    "utd_mhad": (".utd_mhad:UTDMHAD", "UTD-MHAD as skeleton .mat files"),
}


def reader_class(name: str) -> type[Reader]:
    """The class of the reader ``name``; raises SourceError with the known names, or for a missing package."""
    if name not in READERS:
        raise SourceError(f"unknown reader '{name}'; known: {', '.join(READERS)}")
    module, _, attribute = READERS[name][0].partition(":")
    try:
        found: type[Reader] = getattr(import_module(module, __name__), attribute)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "hhmnet":
            raise
        fault = f"needs the package '{error.name}', which isn't installed"
        remedy = "pip install 'hhmnet[all]' brings everything that readers need"
        raise SourceError(f"reader '{name}' {fault}; {remedy}") from None
    return found


def get_reader(name: str, source: str | Path, config: ReaderConfig | None = None) -> Reader:
    """The reader ``name`` on the folder ``source``; raises SourceError as :func:`reader_class` and the reader do."""
    return reader_class(name)(Path(source), config)


class ReadError(ValueError):
    """One raw item that can't be used: the ``reason`` in one line, and the file's ``line`` that shows it, from 1."""

    def __init__(self, reason: str, line: int | None = None) -> None:
        reason = brief(reason)  # it may quote the file, and goes into a table of all that is wrong
        super().__init__(reason if line is None else f"line {line}: {reason}")
        self.reason = reason
        self.line = line


class SourceError(ValueError):
    """A source folder that is missing, has no usable files or lacks what its format needs."""


@dataclass
class ReaderConfig:
    """What can be chosen for a reader: every field has a default and is a flag of ``hhmnet prepare``, its docstring the
    flag's help. ``__post_init__`` raises ValueError, naming the field, for values that can't be used.
    """


class Reader(ABC):
    """Turns the raw files of one data set into samples; raises SourceError where there is no such folder.

    An *item* is what becomes one sample: mostly a file, named by its path relative to the source; of many clips in one
    file ``ntu60.pkl#S001C001P001R001A001``. Items are read by worker processes: a reader must be picklable right after
    construction, and what :meth:`read` returns may depend on the reader and the item alone. Tables of its own are read
    at construction, so that a mistake there shows at once.

    Attributes:
        name, title, citation: its name on the command line; the data set's; the paper to cite.
        protocol: name of the protocol that splits the data set unless another is asked for.
        suffixes: endings of its files' names, in lower case.
        chunk: how many items a worker reads at a time, at the most: what an interruption costs.
        layout, class_names: the skeleton its joints have; the classes, into which a label is an index.
        source, config: folder of the raw files; what was chosen, an instance of ``config_class``.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    citation: ClassVar[str]
    protocol: str
    suffixes: ClassVar[tuple[str, ...]]
    config_class: ClassVar[type[ReaderConfig]] = ReaderConfig
    chunk: ClassVar[int] = 256
    layout: SkeletonLayout
    class_names: tuple[str, ...]
    config: ReaderConfig

    def __init__(self, source: Path, config: ReaderConfig | None = None) -> None:
        self.source = Path(source)
        self.config = self.config_class() if config is None else config
        if not self.source.is_dir():
            raise SourceError(f"no folder at {self.source}; it should hold the {self.title} files")

    @property
    def options(self) -> dict[str, Any]:
        """What was chosen, as it stands in the store's provenance: of a path only the last part, so that a store's
        bytes are the same on every machine.
        """
        return dict(json.loads(json.dumps(dataclasses.asdict(self.config), default=attrgetter("name"))))

    @property
    def video_folder(self) -> Path | None:
        """The folder that the samples' ``video`` is relative to; None if the data set has no videos."""
        return None

    def describe(self) -> list[str]:
        """What the reader understood of its source, line by line, for the user to check before it starts."""
        layout, found = self.layout, f"{self.title}: {len(self.items()):,} items in {self.source}"
        skeleton = f"{layout.name} ({layout.num_joints} joints, {layout.dims}-D)"
        return [f"{found}, skeleton {skeleton}, {len(self.class_names)} classes"]

    def items(self) -> list[str]:
        """Names of the items, sorted; by default posix paths of the files with one of the ``suffixes``, at any depth.
        Raises SourceError if there are none, or a folder can't be listed.
        """
        found = [path.as_posix() for path in files_below(self.source) if self._is_raw(path)]
        if not found:
            raise SourceError(f"{self.source} holds no {self.title} files ({', '.join(self.suffixes)})")
        return sorted(found)

    def _is_raw(self, path: PurePosixPath) -> bool:
        """Whether the file ``path``, relative to the source, is a raw file of this data set."""
        return path.suffix.lower() in self.suffixes

    @abstractmethod
    def read(self, item: str, notes: Counter[str]) -> Sample:
        """Read one item of :meth:`items`; raises ReadError if it can't be used. ``notes`` counts what was done to its
        data, such as ``"body removed: 4 frames or fewer"``; a store's report adds them up.
        """


def printable(name: str) -> str:
    """A file's name as text: bytes of it that are none are written as ``\\udcff``."""
    return name.encode(errors="backslashreplace").decode()


def files_below(folder: Path) -> list[PurePosixPath]:
    """The files in a folder and those below it, relative to it, without hidden ones; raises SourceError where one can't
    be listed.
    """
    found, faults = list[PurePosixPath](), list[OSError]()
    for parent, below, names in os.walk(folder, onerror=faults.append):
        below[:] = [name for name in below if not name.startswith(".")]
        inner = PurePath(parent).relative_to(folder).as_posix()
        found += [PurePosixPath(inner, name) for name in names if not name.startswith(".")]
    if faults:
        raise SourceError(f"{faults[0].filename}: can't be listed: {faults[0].strerror or faults[0]}")
    return found

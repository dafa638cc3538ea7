"""What every reader of raw files has in common, and the way from raw files to a store."""

from __future__ import annotations

import csv
import io
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from hhmnet.files import replacing
from hhmnet.sample import Sample, SampleError
from hhmnet.skeleton import SkeletonLayout
from hhmnet.store import StoreError, check_fits, write_store

REJECTED_FILE = "rejected.csv"


class ReadError(ValueError):
    """One raw file that can't be used.

    Attributes:
        reason: what is wrong with it, in one line.
        line: the line of the file where that shows, from 1; None where there is no such line.
    """

    def __init__(self, reason: str, line: int | None = None) -> None:
        super().__init__(reason if line is None else f"line {line}: {reason}")
        self.reason = reason
        self.line = line


class SourceError(ValueError):
    """A source folder that is missing, has no usable files or lacks what its format needs."""


class PrepareError(ValueError):
    """A data set of which no store could be made."""


class Rejected(NamedTuple):
    """A raw file that was left out: its path relative to the source, the line if known, and why."""

    file: str
    line: int | None
    reason: str


class Reader(ABC):
    """Turns the raw files of one data set into samples, one file a sample.

    Attributes:
        name: what the reader is called on the command line.
        title: the data set's full name.
        citation: the paper to cite.
        protocol: name of the protocol that splits the data set unless another is asked for.
        suffixes: endings of its files' names, in lower case.
        layout: the skeleton its joints have.
        class_names: the classes; a label is an index into them.
        source: folder of the raw files.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    citation: ClassVar[str]
    protocol: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    layout: SkeletonLayout
    class_names: tuple[str, ...]

    def __init__(self, source: Path) -> None:
        self.source = Path(source)
        if not self.source.is_dir():
            raise SourceError(f"no folder at {self.source}; it should hold the {self.title} files")

    @property
    def options(self) -> dict[str, Any]:
        """What was chosen for this reader, as it stands in the store's provenance."""
        return {}

    def files(self) -> list[Path]:
        """The raw files in the source folder and those below it, sorted; hidden ones are left out.

        Raises:
            SourceError: there are none.
        """
        found = [path for path in self.source.rglob("*") if self._is_raw(path.relative_to(self.source))]
        if not found:
            raise SourceError(f"{self.source} holds no {self.title} files ({', '.join(self.suffixes)})")
        return sorted(found, key=lambda path: path.relative_to(self.source).parts)

    def _is_raw(self, path: Path) -> bool:
        """Whether ``path``, relative to the source, is a raw file of this data set."""
        hidden = any(part.startswith(".") for part in path.parts)
        return path.suffix.lower() in self.suffixes and not hidden and not (self.source / path).is_dir()

    @abstractmethod
    def read(self, file: Path) -> Sample:
        """Read one raw file; raises ReadError if it can't be used."""


@dataclass
class PrepareReport:
    """What came of preparing a data set.

    Attributes:
        accepted: number of samples in the store.
        rejected: the files left out, in the order they were met.
        frames: number of frames of all samples.
        counts: number of samples per ``"class"``, ``"subject"``, ``"camera"`` and ``"setup"``.
    """

    accepted: int = 0
    rejected: list[Rejected] = field(default_factory=list)
    frames: int = 0
    counts: dict[str, Counter[str]] = field(
        default_factory=lambda: {key: Counter() for key in ("class", "subject", "camera", "setup")}
    )

    def add(self, sample: Sample, class_names: Sequence[str]) -> None:
        """Count one accepted sample."""
        self.accepted += 1
        self.frames += sample.num_frames
        self.counts["class"][class_names[sample.label] if sample.label >= 0 else ""] += 1
        for key in ("subject", "camera", "setup"):
            self.counts[key][getattr(sample, key)] += 1


def prepare(
    reader: Reader,
    out: Path,
    *,
    strict: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> PrepareReport:
    """Read all raw files into a store, and list those that can't be used in its ``rejected.csv``.

    A bad file costs only itself: the rest goes on. Of two files with one sample id the first counts.

    Args:
        reader: the reader on its source folder.
        out: the store's folder; an older store there is replaced only if all goes well.
        strict: make no store if any file is rejected.
        progress: called with (files done, files in all) after each file.

    Raises:
        PrepareError: no file is usable, or one isn't and ``strict`` holds. ``rejected.csv`` is written all
            the same; it says why.
        SourceError: the source folder has no such files.
        StoreError: ``out`` can't be written.
    """
    files = reader.files()
    report = PrepareReport()
    listed = Path(out) / REJECTED_FILE

    def accepted() -> Iterator[Sample]:
        yield from _accepted(reader, files, report, progress)
        # Raised here, inside the writing, so that no store comes of it.
        if not report.accepted or (strict and report.rejected):
            raise PrepareError(
                f"no store was made: {len(report.rejected)} of {len(files)} files in {reader.source} "
                f"can't be used; {listed} says why"
            )

    try:
        write_store(
            Path(out),
            accepted(),
            layout=reader.layout,
            class_names=reader.class_names,
            protocol=reader.protocol,
            provenance=_provenance(reader, len(files)),
        )
    except PrepareError:
        _write_rejected(listed, report.rejected)
        raise
    _write_rejected(listed, report.rejected)
    return report


def _accepted(
    reader: Reader,
    files: Sequence[Path],
    report: PrepareReport,
    progress: Callable[[int, int], None] | None,
) -> Iterator[Sample]:
    """The usable samples; both kinds of file are entered in ``report``."""
    first: dict[str, str] = {}
    for done, file in enumerate(files, start=1):
        relative = file.relative_to(reader.source).as_posix()
        try:
            sample = reader.read(file)
            check_fits(sample, reader.layout, reader.class_names)
            if sample.sample_id in first:
                raise ReadError(f"sample id {sample.sample_id!r} is taken by {first[sample.sample_id]}")
        except ReadError as error:
            report.rejected.append(_rejected(relative, error.line, error.reason))
        except OSError as error:
            report.rejected.append(_rejected(relative, None, f"can't be read: {error.strerror or error}"))
        except (SampleError, StoreError) as error:
            report.rejected.append(_rejected(relative, None, str(error)))
        else:
            first[sample.sample_id] = relative
            report.add(sample, reader.class_names)
            yield sample
        if progress is not None:
            progress(done, len(files))


def _rejected(file: str, line: int | None, reason: str) -> Rejected:
    """A file name need not be text, nor a reason one line; what is listed and printed must."""
    file, reason = (text.encode(errors="backslashreplace").decode() for text in (file, reason))
    return Rejected(file, line, " ".join(reason.split()))


def _provenance(reader: Reader, files: int) -> dict[str, Any]:
    """Where a store comes from; only what is the same on every machine, so that its bytes are too."""
    try:
        version = metadata.version("hhmnet")
    except metadata.PackageNotFoundError:
        version = "unknown"
    return {
        "reader": reader.name,
        "source": reader.source.resolve().name,
        "options": reader.options,
        "hhmnet": version,
        "counts": {"files": files},
    }


def _write_rejected(path: Path, rejected: Sequence[Rejected]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Rejected._fields)
    writer.writerows(rejected)
    with replacing(path) as file:
        file.write(text.getvalue().encode())

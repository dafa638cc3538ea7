"""The finished pieces of a store in the making: what an interrupted ``hhmnet prepare`` goes on from.

A *chunk* is a run of items, a *part* what was read of it: one Arrow file, which appears whole, of its usable samples.
What became of each item, usable or not, stands as JSON in the metadata of an empty last batch.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath
from typing import IO, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.ipc

import hhmnet
from hhmnet.arrow import SCHEMA, VERSION, groups, record_batch
from hhmnet.files import is_there, replacing
from hhmnet.readers import Reader, ReadError, SourceError, printable
from hhmnet.sample import Sample, SampleError
from hhmnet.store import StoreError, check_fits

PARTS_FOLDER = ".parts"
REJECTED_FILE = "rejected.csv"

_OUTCOMES = b"hhmnet"


class Rejected(NamedTuple):
    """A raw item that was left out: its name (a path relative to the source), the line if known, and why."""

    file: str
    line: int | None
    reason: str


# Why an item was left out stands under ``rejected`` (name, line, reason); or what a report counts, this and ``notes``.
_COUNTED = ("sample_id", "label", "num_frames", "subject", "camera", "setup")


def rejected(file: str, line: int | None, reason: str) -> Rejected:
    """A file's name need not be text, nor a reason one line; what is listed and printed must."""
    return Rejected(printable(file), line, " ".join(printable(reason).split()))


def cut(items: Sequence[str], longest: int) -> list[list[str]]:
    """Items in chunks of one length; it depends on nothing but their number and ``longest``. Few items are cut finer,
    so that many cores have something to do.
    """
    length = min(longest, max(64, -(-len(items) // 64)))
    return [list(items[start : start + length]) for start in range(0, len(items), length)]


def read_chunk(reader: Reader, items: Sequence[str], file: IO[bytes]) -> None:
    """Read items into a part. Raises SourceError where the source, or the folder of its videos, has gone meanwhile;
    what its files seem to lack then is not their fault.
    """
    places, videos = [reader.source], reader.video_folder
    if videos is not None and (is_there(videos) or not videos.exists()):
        places.append(videos)  # not if it is empty from the start
    # Taken beforehand: a file that changes while it is read must not look as if it hadn't.
    digest, outcomes = fingerprint_files(reader.source, items), list[dict[str, Any]]()
    with pa.ipc.new_file(file, SCHEMA) as writer:
        for group in groups(_usable(reader, items, outcomes)):
            writer.write_batch(record_batch(group))
        text = json.dumps({"files": digest, "items": outcomes}, default=int)  # a label may be numpy's
        writer.write_batch(record_batch([]), custom_metadata={_OUTCOMES: text.encode()})
    for place in places:
        if not is_there(place):
            remedy = "once it is back, the same call goes on from there"
            raise SourceError(f"{place} went away while it was read; {remedy}")


def _usable(reader: Reader, items: Sequence[str], outcomes: list[dict[str, Any]]) -> Iterator[Sample]:
    """The usable samples; what became of every item goes into ``outcomes``."""
    for item in items:
        notes: Counter[str] = Counter()
        try:
            sample = reader.read(item, notes)
            check_fits(sample, reader.layout, reader.class_names)
        except (ReadError, OSError, SampleError, StoreError) as error:
            line, reason = getattr(error, "line", None), getattr(error, "reason", str(error))
            if isinstance(error, OSError):
                reason = f"can't be read: {error.strerror or error}"
            outcomes.append({"rejected": rejected(item, line, reason)})
        except Exception as error:
            error.add_note(f"(while {type(reader).__name__} read {item!r})")
            raise
        else:
            outcomes.append({name: getattr(sample, name) for name in _COUNTED} | {"notes": notes})
            yield sample


class Parts:
    """The folder of the parts in a store's folder ``out``. ``key`` is the digest of the work, by
    :func:`fingerprint_work`: parts with another key are of something else.
    """

    def __init__(self, out: Path, key: str) -> None:
        self.folder = out / PARTS_FOLDER
        self._own = self.folder / key

    def open(self, source: Path, chunks: Sequence[Sequence[str]]) -> tuple[set[int], bool]:
        """Make the folder, and clear it of all that can't be used. Returns the numbers of the finished parts, and
        whether parts of something else were thrown away.
        """
        self._own.mkdir(parents=True, exist_ok=True)
        others = [path for path in self.folder.iterdir() if path != self._own]
        have_parts = any(any(path.glob("[0-9]*.arrow")) for path in others)
        for path in others:
            shutil.rmtree(path, ignore_errors=True)  # the workers of a killed call may just be leaving
        finished = set()
        for number, items in enumerate(chunks):
            with suppress(OSError, ValueError, LookupError, TypeError):
                if self._facts(number)["files"] == fingerprint_files(source, items):
                    finished.add(number)
        return finished, have_parts

    def make(self, reader: Reader, chunk: tuple[int, Sequence[str]]) -> None:
        """Read a chunk, a number and items, into a part."""
        with replacing(self._file(chunk[0])) as file:
            read_chunk(reader, chunk[1], file)

    def save(self, number: int, content: bytes) -> None:
        """Write a part that was read elsewhere."""
        with replacing(self._file(number)) as file:
            file.write(content)

    def outcomes(self, number: int) -> list[dict[str, Any]]:
        """What became of the items of a finished part."""
        return list(self._facts(number)["items"])

    def records(self, number: int) -> Iterator[pa.RecordBatch]:
        """The samples of a finished part, in record batches."""
        with self._opened(number) as reader:
            for place in range(reader.num_record_batches - 1):
                yield reader.get_batch(place)

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _file(self, number: int) -> Path:
        return self._own / f"{number:06d}.arrow"

    def _facts(self, number: int) -> dict[str, Any]:
        with self._opened(number) as reader:
            _, found = reader.get_batch_with_custom_metadata(reader.num_record_batches - 1)
            return dict(json.loads(found[_OUTCOMES]))

    @contextmanager
    def _opened(self, number: int) -> Iterator[pa.ipc.RecordBatchFileReader]:
        # Read, not mapped: mapped pages count as memory until the system takes them back.
        with pa.OSFile(str(self._file(number))) as file:
            yield pa.ipc.open_file(file, options=pa.ipc.IpcReadOptions(use_threads=False))


def fingerprint_work(reader: Reader, items: Sequence[str], chunk: int) -> str:
    """A digest of all that decides what reading these items gives, but for the content of their files: the reader with
    its code, its choices and what it has read at construction, the source, the items and how they are cut into chunks,
    and the versions of hhmnet and the store.
    """
    kinds = [kind for kind in type(reader).__mro__ if issubclass(kind, Reader) and kind is not Reader]
    work = (hhmnet.__version__, VERSION, chunk, reader.source.resolve(), items)
    facts = (*work, type(reader).__qualname__, list(map(_code, kinds)), reader.__getstate__())
    return hashlib.sha256(_text(facts).encode(errors="surrogatepass")).hexdigest()[:24]


def fingerprint_files(source: Path, items: Sequence[str]) -> str:
    """A digest of the items' file sizes and times of change: equal if no file was touched in between."""
    text = "".join(f"{_size_and_time(source, item)};" for item in items)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _size_and_time(source: Path, item: str) -> tuple[int, int]:
    # One of many clips in a file is named file#clip, but a file's own name may hold a # too.
    for name in (item, item.rpartition("#")[0]):
        with suppress(OSError, ValueError):
            facts = (source / name).stat()
            return facts.st_size, facts.st_mtime_ns
    return 0, 0


def _code(kind: type) -> str:
    """The text of the module a class is written in and of those beside it; "" where there is none."""
    with suppress(OSError, TypeError, ValueError):
        file = Path(inspect.getsourcefile(kind) or "")
        return "".join(path.read_text(encoding="utf-8") for path in sorted(file.parent.glob("*.py")))
    return ""


def _text(value: Any) -> str:
    """A value as text: equal values give equal texts in every process."""
    name = type(value).__qualname__
    if isinstance(value, (set, frozenset)):
        value = sorted(value, key=repr)  # the order of a set of texts changes from process to process
    elif isinstance(value, dict):
        value = [part for pair in value.items() for part in pair]
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = [getattr(value, field.name) for field in dataclasses.fields(value)]
    elif isinstance(value, np.ndarray) and value.dtype != np.object_:
        value = [value.dtype.str, value.shape, value.tobytes()]
    if isinstance(value, (list, tuple)):
        return f"{name}({len(value)}:{''.join(map(_text, value))})"
    # Any other object's repr may hold its address, which is another one in every process.
    is_known = isinstance(value, (str, bytes, bool, int, float, PurePath, np.generic, type(None)))
    return f"{name}:{value if is_known else ''!r};"

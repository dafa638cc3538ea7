"""The finished pieces of a store in the making: what an interrupted ``hhmnet prepare`` goes on from.

A *chunk* is a run of items, a *part* what was read of it: its usable samples as an Arrow file, and as JSON what
became of the other items and what was done to the data. The JSON is written last: where it is, the part is whole.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import sleep
from typing import IO, NamedTuple

import pyarrow as pa
import pyarrow.ipc

from hhmnet.arrow import SCHEMA, groups, record_batch
from hhmnet.files import is_there, replacing
from hhmnet.prepare.fingerprint import fingerprint_files
from hhmnet.prepare.report import Rejected, printable
from hhmnet.readers import Reader, ReadError, SourceError
from hhmnet.sample import Sample, SampleError
from hhmnet.store import StoreError, check_fits

PARTS_FOLDER = ".parts"


class Chunk(NamedTuple):
    """A run of items that are read together.

    Attributes:
        number: its place among the chunks, from 0.
        items: the items' names.
    """

    number: int
    items: list[str]


@dataclass(frozen=True)
class Summary:
    """What became of a chunk's items, besides the samples themselves.

    Attributes:
        files: digest of the items' files, by :func:`fingerprint_files`.
        rejected: the items that can't be used, by their place in the chunk.
        notes: what was done to the data of the others, by their place in the chunk.
        size: bytes of the Arrow file with the samples.
    """

    files: str
    rejected: dict[int, Rejected]
    notes: dict[int, dict[str, int]]
    size: int = 0

    def to_json(self) -> bytes:
        """The summary as text that :meth:`from_json` reads."""
        fields = {
            "files": self.files,
            "rejected": [[place, *row] for place, row in self.rejected.items()],
            "notes": list(self.notes.items()),
            "size": self.size,
        }
        return json.dumps(fields).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Summary:
        """The summary that :meth:`to_json` wrote; raises ValueError, KeyError or TypeError for anything else."""
        fields = json.loads(text)
        rejected = {place: Rejected(*row) for place, *row in fields["rejected"]}
        return cls(fields["files"], rejected, dict(fields["notes"]), fields["size"])


def cut(items: Sequence[str], longest: int) -> list[Chunk]:
    """Items in chunks of one length; it depends on nothing but their number and ``longest``.

    Few items are cut finer, so that many cores have something to do.
    """
    length = min(longest, max(64, -(-len(items) // 64)))
    starts = range(0, len(items), length)
    return [Chunk(number, list(items[start : start + length])) for number, start in enumerate(starts)]


def read_chunk(
    reader: Reader, items: Sequence[str], file: IO[bytes], on_item: Callable[[], None] = lambda: None
) -> Summary:
    """Read items, and write the usable samples to ``file`` as an Arrow file of :data:`hhmnet.arrow.SCHEMA`.

    Args:
        reader: the reader.
        items: what to read.
        file: binary file to write to.
        on_item: called after each item.

    Raises:
        SourceError: the source, or the folder of its videos, has gone meanwhile; what its files seem to lack then is
            not their fault.
    """
    places = [reader.source]
    if reader.video_folder is not None and (
        is_there(reader.video_folder) or not reader.video_folder.exists()
    ):
        places.append(reader.video_folder)  # not if it is empty from the start
    # Taken beforehand: a file that changes while it is read must not look as if it hadn't.
    summary = Summary(fingerprint_files(reader.source, items), {}, {})
    with pa.ipc.new_file(file, SCHEMA) as writer:
        for group in groups(_usable(reader, items, summary, on_item)):
            writer.write_batch(record_batch(group))
    for place in places:
        if not is_there(place):
            raise SourceError(
                f"{place} went away while it was read; once it is back, the same call goes on from there"
            )
    return replace(summary, size=file.tell())


def _usable(
    reader: Reader, items: Sequence[str], summary: Summary, on_item: Callable[[], None]
) -> Iterator[Sample]:
    """The usable samples; what else there is to say goes into ``summary``."""
    for place, item in enumerate(items):
        notes: Counter[str] = Counter()
        try:
            sample = reader.read(item, notes)
            check_fits(sample, reader.layout, reader.class_names)
        except ReadError as error:
            summary.rejected[place] = printable(item, error.line, error.reason)
        except OSError as error:
            summary.rejected[place] = printable(item, None, f"can't be read: {error.strerror or error}")
        except (SampleError, StoreError) as error:
            summary.rejected[place] = printable(item, None, str(error))
        except Exception as error:
            error.add_note(f"(while {type(reader).__name__} read {item!r})")
            raise
        else:
            if notes:
                summary.notes[place] = dict(sorted(notes.items()))
            yield sample
        on_item()


class Parts:
    """The folder of the parts.

    Args:
        folder: where it is; it need not exist.
        key: digest of the work, by :func:`fingerprint_work`. Parts with another key are of something else.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder = Path(folder)
        self.key = key

    def samples_file(self, number: int) -> Path:
        """The Arrow file of a part."""
        return self.folder / f"{self.key}-{number:06d}.arrow"

    def summary_file(self, number: int) -> Path:
        """The JSON file of a part."""
        return self.folder / f"{self.key}-{number:06d}.json"

    def open(self, source: Path, chunks: Sequence[Chunk]) -> tuple[set[int], bool]:
        """Make the folder and clear it of all that can't be used.

        Returns:
            The numbers of the finished parts, and whether parts of something else were thrown away.
        """
        self.folder.mkdir(exist_ok=True)
        finished = {chunk.number for chunk in chunks if self._is_finished(source, chunk)}
        keep = {self.samples_file(n).name for n in finished} | {self.summary_file(n).name for n in finished}
        others = False
        for path in self.folder.iterdir():
            others |= path.suffix == ".json" and not path.name.startswith(self.key)
            if path.name not in keep:
                path.unlink(missing_ok=True)  # the workers of a killed call may just be leaving
        return finished, others

    def _is_finished(self, source: Path, chunk: Chunk) -> bool:
        try:
            summary = self.summary(chunk.number)
            if self.samples_file(chunk.number).stat().st_size != summary.size:
                return False
        except (OSError, ValueError, KeyError, TypeError):
            return False
        return summary.files == fingerprint_files(source, chunk.items)

    def make(self, reader: Reader, chunk: Chunk, on_item: Callable[[], None]) -> None:
        """Read a chunk into a part."""
        with replacing(self.samples_file(chunk.number)) as file:
            summary = read_chunk(reader, chunk.items, file, on_item)
        self._finish(chunk.number, summary)

    def save(self, number: int, samples: bytes, summary: Summary) -> None:
        """Write a part that was read elsewhere."""
        with replacing(self.samples_file(number)) as file:
            file.write(samples)
        self._finish(number, summary)

    def _finish(self, number: int, summary: Summary) -> None:
        with replacing(self.summary_file(number)) as file:
            file.write(summary.to_json())

    def summary(self, number: int) -> Summary:
        """The summary of a finished part."""
        return Summary.from_json(self.summary_file(number).read_bytes())

    def records(self, number: int, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """The record batches of a finished part, or only some of their columns."""
        fields = None if columns is None else [SCHEMA.get_field_index(name) for name in columns]
        options = pa.ipc.IpcReadOptions(use_threads=False, included_fields=fields)
        # Read, not mapped: mapped pages count as memory until the system takes them back.
        with pa.OSFile(str(self.samples_file(number))) as file:
            reader = pa.ipc.open_file(file, options=options)
            for place in range(reader.num_record_batches):
                yield reader.get_batch(place)

    def remove(self) -> None:
        """Remove the folder; if the workers of a killed call still write there, the next call clears it."""
        for _ in range(20):
            shutil.rmtree(self.folder, ignore_errors=True)
            if not self.folder.exists():
                return
            sleep(0.05)

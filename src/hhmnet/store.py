"""Samples in one memory-mapped Arrow file: ragged, so nothing is padded; mapped, so nothing is read in vain.

A store is a folder with ``samples.arrow`` (Arrow IPC file format, readable by any Arrow library) and ``rejected.csv``
(the raw files that could not be used). What holds for the whole store, such as its layout and class names, stands as
JSON in the schema's metadata under ``hhmnet``. Where the clips have videos, ``videos.json`` says where those are.
"""

from __future__ import annotations

import difflib
import json
import mmap
import operator
import os
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc

from hhmnet.arrow import SCHEMA, VERSION, Rows, groups, record_batch
from hhmnet.files import made, remedy, replacing
from hhmnet.sample import UNKNOWN_LABEL, Sample, SampleError
from hhmnet.skeleton import LayoutError, SkeletonLayout

SAMPLES_FILE, VIDEOS_FILE = "samples.arrow", "videos.json"
_FORMAT, _METADATA_KEY = "hhmnet-store", b"hhmnet"


class StoreError(ValueError):
    """A store that can't be opened or written; the message names its path or the sample."""


class VideoFolderError(ValueError):
    """Videos that can't be found; the message names the store and says what to do."""


def check_fits(sample: Sample, layout: SkeletonLayout, class_names: Sequence[str]) -> None:
    """Raise StoreError, naming the sample, unless it has this layout and one of these classes (or -1)."""
    try:
        layout.check(sample.joints)
    except LayoutError as error:
        raise StoreError(f"sample {sample.sample_id!r}: field 'joints': {error}") from None
    if not UNKNOWN_LABEL <= sample.label < len(class_names):
        known = f"0..{len(class_names) - 1} ({UNKNOWN_LABEL} means unknown)"
        raise StoreError(f"sample {sample.sample_id!r}: field 'label': {sample.label} is outside {known}")


def write_store(
    folder: Path,
    samples: Iterable[Sample],
    *,
    layout: SkeletonLayout,
    class_names: Sequence[str],
    protocol: str,
    provenance: Mapping[str, Any],
    batches: Iterable[pa.RecordBatch] | None = None,
) -> int:
    """Write ``samples`` to ``folder/samples.arrow`` and return how many there were.

    Samples are written as they come, so a data set of any size needs the memory of two batches. The same samples give
    the same bytes. An older store in ``folder`` is replaced only once the new one is complete. ``batches`` are taken
    instead of ``samples`` where these are record batches already, and were checked when they became that.

    Raises StoreError: two samples of one name, a sample of another layout or class, no samples at all, class names that
    aren't unique, metadata JSON can't hold, or a folder that can't be written.
    """
    if len(set(class_names)) != len(class_names) or not class_names:
        raise StoreError("field 'class_names': a store needs class names, each of them once")
    about: dict[str, Any] = {"format": _FORMAT, "version": VERSION, "layout": layout.to_dict()}
    about |= {"class_names": list(class_names), "protocol": protocol, "provenance": dict(provenance)}
    try:
        schema = SCHEMA.with_metadata({_METADATA_KEY: json.dumps(about, allow_nan=False)})
    except (TypeError, ValueError) as error:
        raise StoreError(f"the store's metadata can't be written as JSON: {error}") from None
    if batches is None:
        batches = (record_batch(group) for group in groups(_checked(samples, layout, class_names)))
    folder, count = Path(folder), 0
    try:
        with made(folder), replacing(folder / SAMPLES_FILE) as file, pa.ipc.new_file(file, schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
                count += batch.num_rows
            if not count:
                raise StoreError(f"there are no samples to write to {folder}")
    except OSError as error:
        reason = f"{error.strerror or error}{remedy(error)}"
        raise StoreError(f"can't write {folder / SAMPLES_FILE}: {reason}") from error
    return count


def _checked(samples: Iterable[Sample], layout: SkeletonLayout, names: Sequence[str]) -> Iterator[Sample]:
    seen: set[str] = set()
    for sample in samples:
        check_fits(sample, layout, names)
        if sample.sample_id in seen:
            raise StoreError(f"sample {sample.sample_id!r}: field 'sample_id': there are two of this name")
        seen.add(sample.sample_id)
        yield sample


def _column(name: str, about: str) -> cached_property[np.ndarray]:
    """An attribute of a store: one of its small columns, read when it is first asked for; text as numpy's."""

    def read(store: Store) -> np.ndarray:
        column = pa.chunked_array([record.column(name) for record in store._records])
        try:
            column.validate(full=True)
        except pa.ArrowException as error:
            raise store._damaged(error) from None
        if column.null_count:
            raise store._damaged(f"column '{name}' has gaps")
        values = column.to_numpy()
        return values.astype(np.str_) if values.dtype == object else values

    read.__doc__ = about
    return cached_property(read)


class Store:
    """A prepared data set, the folder that ``hhmnet prepare`` wrote, opened read-only.

    Opening reads where things are, not the things, so size hardly matters. A store can be handed to other processes:
    they open the file anew and share its pages. Raises StoreError: the folder or its file is missing, cut short,
    damaged, of another format or version.
    """

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder)
        self._absolute = self.path.absolute()
        self._file = self.path / SAMPLES_FILE
        if not self._file.is_file():
            place = f"{self.path} (it has no {SAMPLES_FILE})" if self.path.is_dir() else self.path
            raise StoreError(f"no store at {place}; make one with `hhmnet prepare`")
        # Workers are often forked, and a forked thread pool can hang: read in the calling thread.
        options = pa.ipc.IpcReadOptions(use_threads=False)
        try:
            reader = pa.ipc.open_file(_mapped(self._file), options=options)
            self._records = [reader.get_batch(number) for number in range(reader.num_record_batches)]
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(error) from None
        self._read_metadata(reader.schema.metadata or {})
        if not reader.schema.equals(SCHEMA):
            raise self._damaged("its columns are not those of a store")
        self._starts = list(accumulate((record.num_rows for record in self._records), initial=0))
        self._length = self._starts.pop()
        if not self._length:
            raise self._damaged("it holds no samples")
        self._rows: dict[int, Rows] = {}  # by record batch, of those that were looked through

    def _read_metadata(self, metadata: Mapping[bytes, bytes]) -> None:
        about: Any = None
        with suppress(ValueError, RecursionError):
            about = json.loads(metadata.get(_METADATA_KEY, b"null"))
        if not isinstance(about, dict) or about.get("format") != _FORMAT:
            raise StoreError(f"{self._file} is an Arrow file, but not one that `hhmnet prepare` wrote")
        if (version := about.get("version")) != VERSION:
            versions = f"has store version {version}, this hhmnet reads version {VERSION}"
            raise StoreError(f"{self._file} {versions}; make it again with `hhmnet prepare`")
        names, protocol, provenance = (about.get(key) for key in ("class_names", "protocol", "provenance"))
        try:
            self.layout = SkeletonLayout.from_dict(about.get("layout", {}))
        except LayoutError as error:
            raise self._damaged(error) from None
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            raise self._damaged("field 'class_names' is no list of names")
        if not isinstance(protocol, str) or not isinstance(provenance, dict):
            raise self._damaged("field 'protocol' is no text, or 'provenance' no object")
        self.class_names, self.protocol, self.provenance = tuple(names), protocol, provenance

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, i: int) -> Sample:
        return self.sample(i)

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r}: {len(self)} samples, layout {self.layout.name})"

    def __reduce__(self) -> tuple[type[Store], tuple[Path]]:
        return type(self), (self._absolute,)

    @cached_property
    def video_folder(self) -> Path | None:
        """Where its videos were when it was made, if it says so; raises VideoFolderError where that can't be read."""
        return read_video_folder(self.path)

    def find_videos(self, override: Path | None = None) -> Path:
        """The folder that the clips' ``video`` names are relative to: ``override`` if the user names one. Raises
        VideoFolderError where there is no such folder, or the store doesn't know of one.
        """
        folder, way = self.video_folder if override is None else Path(override), "with --videos DIR"
        if folder is None:
            remedy = f"name their folder {way}"
            raise VideoFolderError(f"store {self.path} doesn't say where its videos are; {remedy}")
        if not folder.is_dir():
            noted = "" if override is not None else f", where store {self.path} had its videos"
            raise VideoFolderError(f"no folder at {folder}{noted}; name the folder of videos {way}")
        return folder

    sample_ids = _column("sample_id", "Names of all samples, ``(N,)`` text.")
    subjects = _column("subject", 'Subject of every sample, ``(N,)`` text; "" if unknown.')
    cameras = _column("camera", 'Camera or view of every sample, ``(N,)`` text; "" if unknown.')
    setups = _column("setup", 'Setup or scene of every sample, ``(N,)`` text; "" if unknown.')
    splits = _column("split", "The parts that every sample belongs to, ``(N,)`` text, separated by spaces.")
    labels = _column("label", "Class index of every sample, ``(N,)`` int64; -1 if unknown.")
    lengths = _column("length", "Number of frames T of every sample, ``(N,)`` int32.")
    persons = _column("persons", "Number of persons M of every sample, ``(N,)`` int32.")

    def joints(self, i: int) -> np.ndarray:
        """Joints ``(M, T, V, C)`` float32 of sample ``i``: a read-only view on the file, not a copy."""
        rows, row = self._locate(i)
        return rows.array(row, "joints")

    def present(self, i: int) -> np.ndarray:
        """Which bodies are there, ``(M, T)`` bool: a read-only view on the file."""
        rows, row = self._locate(i)
        return rows.array(row, "present")

    def sample(self, i: int) -> Sample:
        """All that is known of sample ``i``; its arrays are read-only views on the file."""
        rows, row = self._locate(i)
        try:
            return rows.sample(row)
        except SampleError as error:
            raise self._damaged(error) from None

    def index(self, sample_id: str) -> int:
        """Position of a sample by name; raises StoreError with the nearest names if there is none."""
        if sample_id in self._positions:
            return self._positions[sample_id]
        # difflib takes seconds for 100,000 names, so compare those with the same beginning, if any.
        alike = [name for name in self._positions if name.startswith(sample_id[: len(sample_id) // 2])]
        near = difflib.get_close_matches(sample_id, (alike or list(self._positions))[:5000], n=3)
        hint = f"; the nearest are {', '.join(near)}" if near else ""
        raise StoreError(f"store {self.path} has no sample {sample_id!r}{hint}")

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.sample_ids.tolist())}

    def _locate(self, i: int) -> tuple[Rows, int]:
        i = operator.index(i)
        if not 0 <= i < self._length:
            raise IndexError(f"store {self.path} has samples 0..{self._length - 1}, not {i}")
        number = bisect_right(self._starts, i) - 1
        if number not in self._rows:
            try:
                self._rows[number] = Rows(self._records[number], self.layout)
            except pa.ArrowException as error:
                raise self._damaged(error) from None
        return self._rows[number], i - self._starts[number]

    def _damaged(self, cause: object) -> StoreError:
        damage = f"is cut short or damaged ({' '.join(str(cause).split())})"
        return StoreError(f"{self._file} {damage}; make it again with `hhmnet prepare`")


def _mapped(file: Path) -> pa.BufferReader:
    """The file in memory, page by page as it is touched. ``pa.memory_map`` asks the system to read ahead whatever is
    opened, which is the whole store: gigabytes from a cold disk before the first clip.
    """
    with open(file, "rb") as opened:
        try:
            pages = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:  # an empty file can't be mapped; Arrow says what is wrong with it
            return pa.BufferReader(b"")
    if hasattr(pages, "madvise"):  # not on Windows
        pages.madvise(mmap.MADV_RANDOM)
    return pa.BufferReader(pa.py_buffer(pages))


def write_video_folder(store_folder: Path, videos: Path | None) -> None:
    """Note in a store's folder where its videos are, relative to it; None if it has none."""
    file = store_folder / VIDEOS_FILE
    if videos is None:
        file.unlink(missing_ok=True)
        return
    try:
        relative = Path(os.path.relpath(videos.resolve(), store_folder.resolve()))
    except ValueError:  # on another drive of Windows
        relative = videos.resolve()
    with replacing(file) as handle:
        handle.write(json.dumps({"folder": relative.as_posix()}).encode())


def read_video_folder(store_folder: Path) -> Path | None:
    """What :func:`write_video_folder` noted; None where there is no note. The folder itself may be gone. Raises
    VideoFolderError where the note can't be read.
    """
    file = store_folder / VIDEOS_FILE
    try:
        return (store_folder.resolve() / json.loads(file.read_bytes())["folder"]).resolve()
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RuntimeError):  # the last: too deep, a circle of links
        raise VideoFolderError(f'{file} should hold {{"folder": "..."}}; mend it or remove it') from None

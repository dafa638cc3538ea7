"""Readers of raw data sets: files → Sample, one module a format."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from hhmnet.readers.base import Reader, ReaderConfig, ReadError, SourceError

__all__ = [
    "READERS",
    "ReadError",
    "Reader",
    "ReaderConfig",
    "SourceError",
    "get_reader",
    "reader_class",
]

# Name of a reader → where its class is, and what it reads. A reader's module is imported when it is chosen and not
# before: some need packages that not everybody has.
READERS = {
    "nw_ucla": ("hhmnet.readers.nw_ucla.reader:NWUCLA", "NW-UCLA as JSON clips"),
    "ntu60": ("hhmnet.readers.ntu.reader:NTU60", "NTU RGB+D as .skeleton files"),
    "ntu120": ("hhmnet.readers.ntu.reader:NTU120", "NTU RGB+D 120 as .skeleton files"),
    "pyskl": ("hhmnet.readers.pyskl:Pyskl", "annotation pickles of pyskl and MMAction2"),
    "folder": ("hhmnet.readers.folder.reader:Folder", "a folder of your own skeletons with a labels.csv"),
    "videos": ("hhmnet.readers.videos:Videos", "a folder of your own videos with a labels.csv"),
    "utd_mhad": ("hhmnet.readers.utd_mhad:UTDMHAD", "UTD-MHAD as skeleton .mat files"),
}


def reader_class(name: str) -> type[Reader]:
    """The class of the reader ``name``; raises SourceError with the known names, or for a missing package."""
    if name not in READERS:
        raise SourceError(f"unknown reader '{name}'; known: {', '.join(READERS)}")
    module, _, attribute = READERS[name][0].partition(":")
    try:
        found: type[Reader] = getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "hhmnet":
            raise
        raise SourceError(
            f"reader '{name}' needs the package '{error.name}', which isn't installed; "
            "pip install 'hhmnet[all]' brings everything that readers need"
        ) from None
    return found


def get_reader(name: str, source: str | Path, config: ReaderConfig | None = None) -> Reader:
    """The reader ``name`` on the folder ``source``; raises SourceError as :func:`reader_class` and the reader do."""
    return reader_class(name)(Path(source), config)

"""Many raw files out of a few: the same content under as many valid names as are asked for."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from itertools import islice, product
from pathlib import Path

from hhmnet.readers import Reader

MUTUAL = frozenset((*range(50, 61), *range(106, 121)))
"""Actions of NTU RGB+D that two persons do together: there, a file with two bodies stays one with two."""


def nw_ucla_names(stem: str) -> Iterator[str]:
    """Names of clips of the same action as ``stem``."""
    action = stem[:3]
    for episode, subject, view in product(range(100), range(1, 100), (1, 2, 3)):
        yield f"{action}_s{subject:02d}_e{episode:02d}_v{view:02d}"


def ntu_names(stem: str, setups: int, subjects: int, actions: int) -> Iterator[str]:
    """Names of clips by as many persons as there are in ``stem``."""
    together = int(stem[-3:]) in MUTUAL
    alike = [action for action in range(1, actions + 1) if (action in MUTUAL) == together]
    for replication, subject, setup, camera, action in product(
        (1, 2), range(1, subjects + 1), range(1, setups + 1), (1, 2, 3), alike
    ):
        yield f"S{setup:03d}C{camera:03d}P{subject:03d}R{replication:03d}A{action:03d}"


NAMES: dict[str, Callable[[str], Iterator[str]]] = {
    "nw_ucla": nw_ucla_names,
    "ntu60": lambda stem: ntu_names(stem, 17, 40, 60),
    "ntu120": lambda stem: ntu_names(stem, 32, 106, 120),
}
"""For each reader, the names that a file's content may stand under."""


def repeat_files(reader: Reader, folder: Path, count: int) -> int:
    """Fill ``folder`` with ``count`` files of the reader's format, each source file as often as any other.

    They are hard links to one copy of each source file where the file system allows it, else copies. A file whose
    text holds its own name, as NW-UCLA's do, is written anew with the other name. Also a table of classes is copied.

    Returns:
        How many names there were, ``count`` or fewer.
    """
    folder.mkdir(parents=True)
    originals = folder.with_name(f"{folder.name}-originals")
    originals.mkdir()
    sources = [reader.source / item for item in reader.items()]
    kept = [Path(shutil.copyfile(source, originals / source.name)) for source in sources]
    for extra in reader.source.glob("classes.json"):
        shutil.copyfile(extra, folder / extra.name)
    taken: set[str] = set()
    names = [_new_names(NAMES[reader.name](source.stem), taken) for source in sources]
    made = 0
    for name_of_each in islice(zip(*names, strict=False), -(-count // len(kept))):
        for original, name in islice(zip(kept, name_of_each, strict=True), count - made):
            _repeat(original, folder / f"{name}{original.suffix}")
            made += 1
    return made


def _new_names(names: Iterator[str], taken: set[str]) -> Iterator[str]:
    for name in names:
        if name not in taken:
            taken.add(name)
            yield name


def _repeat(original: Path, target: Path) -> None:
    if original.suffix == ".json":
        text = original.read_bytes()
        target.write_bytes(re.sub(re.escape(original.stem).encode(), target.stem.encode(), text))
        return
    try:
        os.link(original, target)
    except OSError:
        shutil.copyfile(original, target)

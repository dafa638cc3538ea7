"""``labels.csv``: what a user says about the files of a folder, and which clips are tested where that isn't said."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from hhmnet.fields import brief
from hhmnet.readers import Reader, ReaderConfig, ReadError, SourceError
from hhmnet.readers.text import table_lines
from hhmnet.sample import UNKNOWN_LABEL

COLUMNS = {
    "path": ("path", "video", "file"),
    "label": ("label", "class", "action"),
    "subject": ("subject", "group", "person"),
    "camera": ("camera", "view"),
    "setup": ("setup", "scene"),
    "split": ("split", "fold"),
}
"""What a file says of each clip, and the headings it may say it under; upper and lower case are the same."""

_NEEDED = ("path", "label")
_LONGEST_NAME = 255
PARTS = ("train", "val", "test")
_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_PART = re.compile(rf"(?:(?P<split>.+)[_-])?(?P<word>{'|'.join(_WORDS)})(?P<number>\d*)", re.IGNORECASE)
_EVERY_GROUP, _EVERY_CLIP = 4, 5


@dataclass(frozen=True)
class LabelRow:
    """One line of the file.

    Attributes:
        path: the clip's file, relative to the source folder, with forward slashes.
        label: class index from 0; -1 where the file leaves it empty.
        subject: who acts, or the group to keep together; "" if unknown.
        camera: which camera or view; "" if unknown.
        setup: which setup, scene or room; "" if unknown.
        split: names of the parts it belongs to, separated by spaces; "" if none. A number stands for a fold: the
            value 2 becomes ``fold2``. See :func:`split_of`.
        line: where it stands in the file, from 1.
    """

    path: str
    label: int
    subject: str
    camera: str
    setup: str
    split: str
    line: int


@dataclass(frozen=True)
class Labels:
    """A whole ``labels.csv``.

    Attributes:
        file: the file.
        rows: its lines by path.
        class_names: the classes; in the order of the numbers if all labels are whole numbers, else of the alphabet.
        headings: which heading gave which field.
        unused: the other headings.
    """

    file: Path
    rows: dict[str, LabelRow]
    class_names: tuple[str, ...]
    headings: dict[str, str]
    unused: list[str]

    def __getitem__(self, path: str) -> LabelRow:
        return self.rows[path]

    def describe(self) -> list[str]:
        """What the file was understood to say, in a few lines."""
        shown = ", ".join(self.class_names[:8]) + (", …" if len(self.class_names) > 8 else "")
        lines = [
            f"{self.file.name}: {len(self.rows)} clips, {len(self.class_names)} classes ({shown})",
            "columns: " + ", ".join(f"{heading} → {field}" for field, heading in self.headings.items()),
        ]
        for field in ("subject", "camera", "setup", "split"):
            values = sorted({getattr(row, field) for row in self.rows.values()} - {""})
            if values:
                few = f" ({', '.join(values)})" if len(values) <= 8 else ""
                lines.append(f"{field}: {len(values)} different{few}")
        return lines


def read_labels(file: Path) -> Labels:
    """Read a ``labels.csv``: a line of headings, then a line a clip, in UTF-8.

    It needs a column ``path`` (also ``video`` or ``file``: relative to the source folder) and a column ``label``; it
    may have columns ``subject`` (``group``, ``person``), ``camera`` (``view``), ``setup`` (``scene``) and ``split``
    (``fold``). Other columns are left alone.

    Raises:
        SourceError: the file is missing, isn't such a table, or names a clip twice; the message says which line.
    """
    file = Path(file)
    (_, headings), *lines = read_table(file, "it should list the clips and their labels")
    places = _places(file, headings)
    rows: dict[str, LabelRow] = {}
    labels: dict[str, str] = {}
    for line, cells in lines:
        where = f"{file}, line {line}"
        if len(cells) <= max(index for index, _ in places.values()):
            raise SourceError(f"{where}: has {len(cells)} columns, the heading names more")
        row = {field: cells[index].strip() for field, (index, _) in places.items()}
        path = _path(where, places["path"][1], row["path"])
        if path in rows:
            raise SourceError(f"{where}: '{path}' stands in line {rows[path].line} already")
        labels[path] = row.pop("label")
        others = {field: row.get(field, "") for field in ("subject", "camera", "setup")}
        rows[path] = LabelRow(
            path, UNKNOWN_LABEL, **others, split=_split(where, row.get("split", "")), line=line
        )
    if not rows:
        raise SourceError(f"{file}: lists no clips; write one line a clip under the headings")
    names = _class_names(labels.values())
    numbers = {name: number for number, name in enumerate(names)}
    return Labels(
        file=file,
        rows={
            path: replace(row, label=numbers.get(labels[path], UNKNOWN_LABEL)) for path, row in rows.items()
        },
        class_names=names,
        headings={field: heading for field, (_, heading) in places.items()},
        unused=[text.strip() for i, text in enumerate(headings) if i not in {i for i, _ in places.values()}],
    )


def read_table(file: Path, purpose: str) -> list[tuple[int, list[str]]]:
    """The lines of a table with their numbers, first the headings; raises SourceError, which says its ``purpose``."""
    try:
        return list(table_lines(file.read_bytes()))
    except OSError as error:
        raise SourceError(f"{file}: {error.strerror or error}; {purpose}") from None
    except ReadError as error:
        raise SourceError(f"{file}, {error}; save it as CSV in UTF-8") from None


def _places(file: Path, headings: Sequence[str]) -> dict[str, tuple[int, str]]:
    """Column number and heading of every field that the file has."""
    places: dict[str, tuple[int, str]] = {}
    for field, known in COLUMNS.items():
        found = [(i, text.strip()) for i, text in enumerate(headings) if text.strip().lower() in known]
        if len(found) > 1:
            both = "' and '".join(text for _, text in found)
            raise SourceError(f"{file}, line 1: columns '{both}' say the same; keep one of them")
        if found:
            places[field] = found[0]
        elif field in _NEEDED:
            named = brief(", ".join(text.strip() for text in headings) or "none", 200)
            raise SourceError(
                f"{file}, line 1: no column '{field}' ({' or '.join(known)}); its headings: {named}"
            )
    return places


def _path(where: str, heading: str, text: str) -> str:
    """A clip's path with forward slashes; raises SourceError unless it stays inside the source folder."""
    path = PurePosixPath(text.replace("\\", "/"))
    outside = path.is_absolute() or ".." in path.parts or PureWindowsPath(text).drive
    if outside or not path.name or "\0" in text or any(len(part) > _LONGEST_NAME for part in path.parts):
        raise SourceError(
            f"{where}: column '{heading}': '{brief(text, 80)}' must be a path inside the source folder"
        )
    return path.as_posix()


def split_of(word: str) -> str:
    """The part that a word of a table, a pickle or a folder's name stands for.

    ``train`` (also ``training``), ``val`` (``valid``, ``validation``, ``dev``) or ``test`` (``testing``), in any case;
    one of several splits, ``xsub_train`` for ``xsub-Training``, and ``train1``; or a fold, ``fold2`` for ``2``.

    Raises:
        SourceError: for any other word; names it, and the known ones.
    """
    if (fold := re.fullmatch(r"(?:fold)?[_-]?(\d+)", word, re.IGNORECASE | re.ASCII)) is not None:
        return f"fold{fold[1]}"
    found = _PART.fullmatch(word)
    if found is None:
        raise SourceError(
            f"'{brief(word, 80)}' names no part; known: {', '.join(_WORDS)}, in any case, a fold's number, and these "
            "words behind the name of a split, as in xsub_train"
        )
    split = f"{found['split']}_" if found["split"] else ""
    return f"{split}{_WORDS[found['word'].lower()]}{found['number']}"


def _split(where: str, text: str) -> str:
    """Parts separated by single spaces; raises SourceError for a word that names none."""
    try:
        return " ".join(split_of(word) for word in text.split())
    except SourceError as error:
        raise SourceError(f"{where}: column 'split': {error}") from None


def _class_names(labels: Iterable[str]) -> tuple[str, ...]:
    names = set(labels) - {""}
    numbers = all(name.isdecimal() for name in names)
    return tuple(sorted(names, key=lambda name: (int(name), name) if numbers else (0, name)))


class ListedReader(Reader):
    """A reader of the files that a table of labels lists; its configuration has a field ``labels``.

    Attributes:
        labels: the table.
        split: the part of each clip, as the table says or by :func:`hold_out`.
        rule: says which of the two.
    """

    protocol = "given"
    config: Any

    def __init__(self, source: Path, config: ReaderConfig | None = None) -> None:
        super().__init__(source, config)
        beside = self.source / self.config.labels
        self.labels = read_labels(beside if beside.is_file() else self.config.labels)
        self.class_names = self.labels.class_names or ("unknown",)
        rows = self.labels.rows
        if any(row.split for row in rows.values()):
            self.split = {path: row.split for path, row in rows.items()}
            self.rule = f"as column '{self.labels.headings['split']}' says"
        else:
            self.split, self.rule = hold_out({path: self.group(row) for path, row in rows.items()})

    def group(self, row: LabelRow) -> str:
        """What must be in one part together, such as the clips of a subject; "" if that isn't known."""
        return row.subject

    def items(self) -> list[str]:
        """The files that the table lists, sorted."""
        return sorted(self.labels.rows)

    def others(self) -> set[str]:
        """Files of these formats that the table doesn't list."""
        try:
            found = set(super().items()) - set(self.labels.rows)
        except SourceError:
            return set()
        return {name for name in found if (self.source / name).resolve() != self.labels.file.resolve()}

    def file(self, item: str) -> Path:
        """The file of a clip; raises ReadError if there is none."""
        file = self.source / item
        if not file.is_file():
            raise ReadError(
                f"there is no such file; {self.labels.file.name} names it in line {self.labels[item].line}"
            )
        return file

    def listed(self, item: str) -> dict[str, Any]:
        """The fields of a clip's sample that the table gives."""
        row = self.labels[item]
        return {
            "sample_id": PurePosixPath(item).with_suffix("").as_posix(),
            "label": row.label,
            "subject": row.subject,
            "camera": row.camera,
            "setup": row.setup,
            "split": self.split[item],
        }


def hold_out(groups: Mapping[str, str]) -> tuple[dict[str, str], str]:
    """Train and test clips, by whole groups where that can be.

    Of the groups, sorted as people do ("2" before "10"), every fourth is tested; of two or three, the last. Clips
    without a group train. Without two groups, about every fifth clip is tested, by a hash of its name, so that a clip
    stays where it is when others are added.

    Args:
        groups: the group of each clip, such as its subject; "" if it has none.

    Returns:
        ``train`` or ``test`` for each clip, and a sentence that says by which rule.
    """
    names = sorted(set(groups.values()) - {""}, key=_as_people_sort)
    if len(names) < 2:
        split = {clip: "test" if _hash(clip) % _EVERY_CLIP == 0 else "train" for clip in groups}
        return split, (
            "one clip in five is tested, by a hash of its path. Warning: the same persons may be in training and test, "
            "and results will look better than they are; a column 'subject' or 'split' avoids that"
        )
    tested = set(names[_EVERY_GROUP - 1 :: _EVERY_GROUP] or names[-1:])
    split = {clip: "test" if group in tested else "train" for clip, group in groups.items()}
    alone = sum(not group for group in groups.values())
    warning = f". Warning: {alone:,} clips have no subject or group; they train" if alone else ""
    shown = ", ".join(sorted(tested, key=_as_people_sort)[:8]) + (", …" if len(tested) > 8 else "")
    return split, f"tested are the groups {shown}, {len(tested)} of {len(names)}{warning}"


def count_splits(splits: Sequence[str]) -> str:
    """How many clips each part has, such as ``test 3, train 9``."""
    counts = Counter(part for split in splits for part in split.split() or ["(none)"])
    return ", ".join(f"{part} {count:,}" for part, count in sorted(counts.items()))


def _as_people_sort(name: str) -> list[tuple[int, int, str]]:
    pieces = re.findall(r"[0-9]+|[^0-9]+", name)
    return [(0, int(piece), piece) if piece.isdecimal() else (1, 0, piece) for piece in pieces]


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode(errors="surrogatepass")).digest()[:8], "big")

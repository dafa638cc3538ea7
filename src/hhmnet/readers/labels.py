"""What a user says about the files of a folder: a table of labels, a list, or folders named as classes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from unicodedata import normalize

from hhmnet.fields import brief
from hhmnet.readers import ReadError, SourceError
from hhmnet.readers.text import decode_table, table_lines, to_number
from hhmnet.sample import UNKNOWN_LABEL

COLUMNS = {
    "path": ("path", "video", "file"),
    "label": ("label", "class", "action"),
    "subject": ("subject", "group", "person"),
    "camera": ("camera", "view"),
    "setup": ("setup", "scene"),
    "split": ("split", "fold"),
    "start": ("start", "start_frame", "start_seconds", "start_time"),
    "end": ("end", "end_frame", "end_seconds", "end_time"),
    "persons": ("persons",),
}
"""What a table says of each clip, and the headings it may say it under; upper and lower case are the same."""

DEFAULT_TABLE = Path("labels.csv")

_LONGEST_NAME = 255
PARTS = ("train", "val", "test")
_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_PART = re.compile(rf"(?:(?P<split>.+)[_-])?(?P<word>{'|'.join(_WORDS)})(?P<number>\d*)", re.IGNORECASE)


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


def split_doubts(class_names: Sequence[str], train: Iterable[int], test: Iterable[int]) -> list[str]:
    """What is odd about a split, a line each, from the labels of the clips that train and are tested."""
    trained, tested = set(train), set(test)
    doubts = []
    if not tested:
        doubts.append("warning: no clip is tested; write train, val or test in a column 'split'")
    if not trained:
        doubts.append("warning: no clip trains")
    lacking = [name for label, name in enumerate(class_names) if label not in trained]
    if trained and lacking:
        doubts.append(
            f"warning: no clip trains the class{'es' * (len(lacking) > 1)} {brief(', '.join(lacking), 200)}"
        )
    if len(class_names) == 1:
        doubts.append(f"warning: there is one class only, {class_names[0]}; nothing can be told from it")
    return doubts


@dataclass(frozen=True)
class LabelRow:
    """What is said of one clip.

    Attributes:
        path: its file, relative to the source folder, with forward slashes.
        label: class index from 0; -1 where it isn't said.
        subject: who acts, or the group to keep together; "" if unknown.
        camera: which camera or view; "" if unknown.
        setup: which setup, scene or room; "" if unknown.
        split: names of the parts it belongs to, by :func:`split_of`, separated by spaces; "" if none.
        line: where that stands in the table, from 1; 0 if in none.
        start: where in its recording the clip begins, in the unit of the table.
        end: where it ends, the first instant that is no more in it.
        persons: how many persons act in it; 0 if that isn't said.
    """

    path: str
    label: int = UNKNOWN_LABEL
    subject: str = ""
    camera: str = ""
    setup: str = ""
    split: str = ""
    line: int = 0
    start: float = 0.0
    end: float = math.inf
    persons: int = 0

    @property
    def is_segment(self) -> bool:
        """Whether the clip is a part of its recording."""
        return self.start > 0 or self.end < math.inf


@dataclass(frozen=True)
class Labels:
    """All clips of a folder.

    Attributes:
        file: the table, the list or the folder that says so.
        rows: what is said of each clip, by its item: the path, for a segment ``path#30-60``.
        class_names: the classes; in the order of the numbers if all labels are whole numbers, else of the alphabet.
        headings: which heading gave which field.
        unused: the other headings.
        in_seconds: whether segments begin and end in seconds; else in frames.
        remarks: how the file was understood, where that could be wrong.
    """

    file: Path
    rows: dict[str, LabelRow]
    class_names: tuple[str, ...]
    headings: dict[str, str]
    unused: list[str]
    in_seconds: bool = False
    remarks: tuple[str, ...] = ()

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
        if self.unused:
            lines.append(f"columns not used: {', '.join(self.unused)}")
        return [*lines, *self.remarks]


def read_labels(file: Path) -> Labels:
    """Read a table of clips: a line of headings, then a line a clip; or a list of lines ``path label``.

    A table has a column ``path`` (also ``video`` or ``file``: relative to the source folder) and a column ``label``; it
    may have columns ``subject`` (``group``, ``person``), ``camera`` (``view``), ``setup`` (``scene``), ``split``
    (``fold``), ``persons``, and ``start`` and ``end``, which cut the clip out of its recording: in frames under
    ``start_frame`` and ``end_frame``, in seconds under ``start_seconds`` and ``end_seconds``, and else in seconds if
    any has a fraction or a colon (``1:02.5``). :func:`~hhmnet.readers.text.table_lines` says how it may be written.

    A list has neither headings nor separators, ``wave/1.mp4 0``. Of one called ``train.txt`` all clips train, and
    ``val.txt`` and ``test.txt`` beside it are read too.

    Raises:
        SourceError: the file is missing, isn't such a table, or names a clip twice; the message says which line.
    """
    file = Path(file)
    purpose = "it should list the clips and their labels"
    (first, headings), *lines = read_table(file, purpose)
    if len(headings) == 1 and len(headings[0].split()) > 1:
        return _read_lists(file, purpose)
    places = _places(f"{file}, line {first}", headings)
    found: list[dict[str, str]] = []
    for line, cells in lines:
        if len(cells) <= max(index for index, _ in places.values()):
            raise SourceError(f"{file}, line {line}: has {len(cells)} columns, the heading names more")
        row = {field: normalize("NFC", cells[index].strip()) for field, (index, _) in places.items()}
        row["path"] = _path(f"{file}, line {line}", places["path"][1], row["path"])
        found.append(row | {"where": f"{file}, line {line}", "line": str(line)})
    in_seconds, remarks = _unit(f"{file}, line {first}", places, found)
    _, is_guess = decode_table(file.read_bytes())
    if is_guess:
        remarks.append(
            f"{file.name} isn't UTF-8: read as cp1252 of Western Europe; if names look wrong, save it as UTF-8"
        )
    return _to_labels(
        file,
        found,
        headings={field: heading for field, (_, heading) in places.items()},
        unused=[
            text.strip()
            for i, text in enumerate(headings)
            if text.strip() and i not in {i for i, _ in places.values()}
        ],
        in_seconds=in_seconds,
        remarks=tuple(remarks),
    )


def read_table(file: Path, purpose: str) -> list[tuple[int, list[str]]]:
    """The lines of a table with their numbers, first the headings; raises SourceError, which says its ``purpose``."""
    try:
        return list(table_lines(file.read_bytes()))
    except OSError as error:
        raise SourceError(f"{file}: {error.strerror or error}; {purpose}") from None
    except ReadError as error:
        raise SourceError(f"{file}, {error}") from None


def _places(where: str, headings: Sequence[str]) -> dict[str, tuple[int, str]]:
    """Column number and heading of every field that the table has."""
    places: dict[str, tuple[int, str]] = {}
    for field, known in COLUMNS.items():
        found = [(i, text.strip()) for i, text in enumerate(headings) if text.strip().lower() in known]
        if len(found) > 1:
            both = "' and '".join(text for _, text in found)
            raise SourceError(f"{where}: columns '{both}' say the same; keep one of them")
        if found:
            places[field] = found[0]
        elif field in ("path", "label"):
            named = brief(", ".join(text.strip() for text in headings) or "none", 200)
            raise SourceError(f"{where}: no column '{field}' ({' or '.join(known)}); its headings: {named}")
    return places


def _unit(
    where: str, places: Mapping[str, tuple[int, str]], rows: Iterable[Mapping[str, str]]
) -> tuple[bool, list[str]]:
    """Whether segments begin and end in seconds, and what to say of it; raises SourceError for columns of both."""
    headings = [places[field][1] for field in ("start", "end") if field in places]
    if not headings:
        return False, []
    names = "', '".join(headings)
    units = {heading.lower().partition("_")[2] == "frame" for heading in headings if "_" in heading}
    if len(units) == 2:
        raise SourceError(f"{where}: of '{names}' one counts frames and the other seconds")
    if units:
        return False in units, []
    cells = [row.get(field, "") for row in rows for field in ("start", "end")]
    in_seconds = not all(re.fullmatch(r"\d*", cell) for cell in cells)
    if in_seconds:
        return True, [f"'{names}': in seconds, as they have fractions"]
    return False, [
        f"'{names}': in frames, as all are whole; if they are seconds, call them start_seconds, end_seconds"
    ]


def _to_labels(file: Path, found: Iterable[Mapping[str, str]], **more: Any) -> Labels:
    """Labels of rows of text; raises SourceError, with the line, for what can't be used."""
    rows: dict[str, LabelRow] = {}
    labels: dict[str, str] = {}
    for fields in found:
        where, path = fields["where"], fields["path"]
        start, end = (
            _instant(where, field, fields.get(field, ""), default)
            for field, default in (("start", 0.0), ("end", math.inf))
        )
        if start >= end:
            raise SourceError(f"{where}: column 'end': must be above the start, {start:g}; got {end:g}")
        if not re.fullmatch(r"(?:[1-9]\d{0,2})?", fields.get("persons", ""), re.ASCII):
            raise SourceError(
                f"{where}: column 'persons': must be a whole number from 1; got '{brief(fields['persons'], 40)}'"
            )
        row = LabelRow(
            path,
            subject=fields.get("subject", ""),
            camera=fields.get("camera", ""),
            setup=fields.get("setup", ""),
            split=_split(where, fields.get("split", "")),
            line=int(fields["line"]),
            start=start,
            end=end,
            persons=int(fields.get("persons") or 0),
        )
        until = "" if end == math.inf else f"{end:.10g}"
        item = f"{path}#{start:.10g}-{until}" if row.is_segment else path
        if item in rows:
            raise SourceError(f"{where}: '{item}' stands in line {rows[item].line} already")
        if fields["label"] == "-1":
            raise SourceError(
                f"{where}: column 'label': does -1 say that the label isn't known, or is it a class? Leave the cell "
                "empty for the one, and give the class a name for the other"
            )
        rows[item], labels[item] = row, fields["label"]
    if not rows:
        raise SourceError(f"{file}: lists no clips; write one line a clip under the headings")
    names = _class_names(labels.values())
    numbers = {name: number for number, name in enumerate(names)}
    numbered = {
        item: replace(row, label=numbers.get(labels[item], UNKNOWN_LABEL)) for item, row in rows.items()
    }
    return Labels(file, numbered, names, **more)


def _path(where: str, heading: str, text: str) -> str:
    """A clip's path with forward slashes; raises SourceError unless it stays inside the source folder."""
    path = PurePosixPath(text.replace("\\", "/"))
    outside = path.is_absolute() or ".." in path.parts or PureWindowsPath(text).drive
    if outside or not path.name or "\0" in text or any(len(part) > _LONGEST_NAME for part in path.parts):
        raise SourceError(
            f"{where}: column '{heading}': '{brief(text, 80)}' must be a path inside the source folder"
        )
    return path.as_posix()


def _split(where: str, text: str) -> str:
    """Parts separated by single spaces; raises SourceError for a word that names none."""
    try:
        return " ".join(split_of(word) for word in text.split())
    except SourceError as error:
        raise SourceError(f"{where}: column 'split': {error}") from None


def _instant(where: str, field: str, text: str, default: float) -> float:
    """Frames or seconds, ``12``, ``1.5``, ``1:02.5``; raises SourceError."""
    instant = 0.0 if text else default
    try:
        for piece in text.split(":") if text else ():
            instant = 60 * instant + to_number(piece)
    except ValueError:
        instant = math.nan
    if not (0 <= instant < math.inf or instant == default):
        raise SourceError(
            f"{where}: column '{field}': must be frames or seconds from 0; got '{brief(text, 40)}'"
        )
    return instant


def _class_names(labels: Iterable[str]) -> tuple[str, ...]:
    names = set(labels) - {""}
    numbers = all(name.isdecimal() and len(name) < 20 for name in names)
    return tuple(sorted(names, key=lambda name: (int(name), name) if numbers else (0, name)))


def _read_lists(file: Path, purpose: str) -> Labels:
    """A list of lines ``path label``, with the lists of other parts that are beside it under the same name."""
    name, part = _without_part(file)
    beside = sorted(file.parent.iterdir()) if part else [file]
    files = {one: _without_part(one)[1] for one in beside if _without_part(one)[0] == name}
    found = []
    for one, split in files.items():
        try:
            lines = decode_table(one.read_bytes())[0].splitlines()
        except (OSError, ReadError) as error:
            raise SourceError(f"{one}: {error}; {purpose}") from None
        for line, text in enumerate(lines, start=1):
            if not text.strip() or (line == 1 and text.split()[0].lower() in COLUMNS["path"]):
                continue
            path, _, label = normalize("NFC", text.strip()).rpartition(" ")
            where = f"{one}, line {line}"
            row = {"path": _path(where, "path", path.strip()), "label": label, "split": split}
            found.append(row | {"where": where, "line": str(line)})
    remark = f"lists of lines 'path label': {', '.join(one.name for one in files)}"
    return _to_labels(file, found, headings={"path": "path", "label": "label"}, unused=[], remarks=(remark,))


def _without_part(file: Path) -> tuple[str, str]:
    """A list's name without the word for a part in it, and that part; "" if there is none."""
    word = re.search(rf"(?<![^\W\d_])({'|'.join(_WORDS)})(?![^\W\d_])", file.stem, re.IGNORECASE)
    if word is None:
        return file.name, ""
    return f"{file.stem[: word.start()]}/{file.stem[word.end() :]}{file.suffix}", _WORDS[word[1].lower()]


def folder_labels(source: Path, files: Iterable[str]) -> Labels | None:
    """Labels from folders: one a class, ``wave/1.mp4``, or one a part and in it one a class, ``train/wave/1.mp4``.

    Args:
        source: the folder.
        files: the clips' files, relative to it; those that lie in no folder of a class are left out.

    Returns:
        The labels; None unless there are two classes.
    """
    paths = [PurePosixPath(file) for file in files]
    tops = {path.parts[0] for path in paths if len(path.parts) > 1}
    has_parts = bool(tops) and all(top.lower() in _WORDS for top in tops)
    found = [
        {
            "path": path.as_posix(),
            "label": normalize("NFC", printable(path.parts[has_parts])),
            "split": _WORDS[path.parts[0].lower()] if has_parts else "",
            "where": str(source / path),
            "line": "0",
        }
        for path in paths
        if len(path.parts) > 1 + has_parts
    ]
    if len({row["label"] for row in found}) < 2:
        return None
    headings = {"label": "folder"} | ({"split": "folder above"} if has_parts else {})
    return _to_labels(source, found, headings=headings, unused=[])


def printable(name: str) -> str:
    """A file's name as text: bytes of it that are none are written as ``\\udcff``."""
    return name.encode(errors="backslashreplace").decode()

"""What a user says about the files of a folder: a table of labels, a list, or folders named as classes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NoReturn
from unicodedata import normalize

from hhmnet.fields import brief
from hhmnet.readers import SourceError
from hhmnet.readers.text import decode_table, read_lines, read_table, to_number
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
    """What is said of one clip; "" for what isn't.

    Attributes:
        path: its file, relative to the source folder, with forward slashes.
        label: class index from 0; -1 where it isn't said.
        subject: who acts, or the group to keep together.
        camera: which camera or view.
        setup: which setup, scene or room.
        split: names of the parts it belongs to, by :func:`split_of`, separated by spaces.
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
        in_seconds: whether segments begin and end in seconds; else in frames.
        remarks: how the file was understood, a line each.
    """

    file: Path
    rows: dict[str, LabelRow]
    class_names: tuple[str, ...]
    in_seconds: bool = False
    remarks: tuple[str, ...] = ()

    def describe(self) -> list[str]:
        """What the file was understood to say, in a few lines."""
        lines = [
            f"{self.file.name}: {len(self.rows)} clips, {len(self.class_names)} classes ({_few(self.class_names)})",
            *self.remarks,
        ]
        for field in ("subject", "camera", "setup", "split"):
            values = sorted({getattr(row, field) for row in self.rows.values()} - {""})
            if values:
                lines.append(f"{field}: {len(values)} different ({_few(values)})")
        return lines


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (", …" if len(names) > 8 else "")


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
    (first, headings), *lines = read_table(file, "it should list the clips and their labels")
    if len(headings) == 1 and len(headings[0].split()) > 1:
        return _read_lists(file)
    headings = [heading.strip() for heading in headings]
    places = _places(f"{file}, line {first}", headings)
    found = []
    for line, cells in lines:
        if len(cells) <= max(places.values()):
            raise SourceError(f"{file}, line {line}: has {len(cells)} columns, the heading names more")
        found.append((file, line, {field: cells[place].strip() for field, place in places.items()}))
    used = {field: headings[place] for field, place in places.items()}
    in_seconds, remarks = _unit(f"{file}, line {first}", used, [fields for *_, fields in found])
    if decode_table(file.read_bytes())[1]:
        remarks.append(
            f"{file.name} isn't UTF-8: read as cp1252 of Western Europe; if names look wrong, save it as UTF-8"
        )
    remarks.insert(0, "columns: " + ", ".join(f"{heading} → {field}" for field, heading in used.items()))
    if unused := [heading for heading in headings if heading and heading not in used.values()]:
        remarks.append(f"columns not used: {', '.join(unused)}")
    return _to_labels(file, found, in_seconds, remarks)


def _places(where: str, headings: Sequence[str]) -> dict[str, int]:
    """The column of every field that a table has."""
    places: dict[str, int] = {}
    for field, known in COLUMNS.items():
        found = [place for place, heading in enumerate(headings) if heading.lower() in known]
        if len(found) > 1:
            both = "' and '".join(headings[place] for place in found)
            raise SourceError(f"{where}: columns '{both}' say the same; keep one of them")
        if found:
            places[field] = found[0]
        elif field in ("path", "label"):
            named = brief(", ".join(headings) or "none", 200)
            raise SourceError(f"{where}: no column '{field}' ({' or '.join(known)}); its headings: {named}")
    return places


def _unit(where: str, used: Mapping[str, str], rows: Iterable[Mapping[str, str]]) -> tuple[bool, list[str]]:
    """Whether segments begin and end in seconds, and what to say of it; raises SourceError for columns of both."""
    headings = [used[field] for field in ("start", "end") if field in used]
    if not headings:
        return False, []
    names = "', '".join(headings)
    units = {heading.lower().partition("_")[2] == "frame" for heading in headings if "_" in heading}
    if len(units) == 2:
        raise SourceError(f"{where}: of '{names}' one counts frames and the other seconds")
    if units:
        return False in units, []
    if all(re.fullmatch(r"\d*", row.get(field, "")) for row in rows for field in ("start", "end")):
        return False, [
            f"'{names}': in frames, as all are whole; if they are seconds, call them start_seconds, end_seconds"
        ]
    return True, [f"'{names}': in seconds, as they have fractions"]


def _to_labels(
    file: Path,
    found: Iterable[tuple[Path, int, Mapping[str, str]]],
    in_seconds: bool = False,
    remarks: Sequence[str] = (),
) -> Labels:
    """Labels of what is said in the lines of some files; raises SourceError, with the line, for what can't be used."""
    rows: dict[str, LabelRow] = {}
    labels: dict[str, str] = {}
    for said_by, line, fields in found:
        fields = {field: normalize("NFC", text) for field, text in fields.items()}
        where = f"{said_by}, line {line}" if line else str(said_by)
        row = _row(where, line, fields)
        until = "" if row.end == math.inf else f"{row.end:.10g}"
        item = f"{row.path}#{row.start:.10g}-{until}" if row.is_segment else row.path
        if item in rows:
            raise SourceError(f"{where}: '{item}' stands in line {rows[item].line} already")
        rows[item], labels[item] = row, fields["label"]
    if not rows:
        raise SourceError(f"{file}: lists no clips; write one line a clip under the headings")
    names = _class_names(labels.values())
    numbers = {name: number for number, name in enumerate(names)}
    numbered = {
        item: replace(row, label=numbers.get(labels[item], UNKNOWN_LABEL)) for item, row in rows.items()
    }
    return Labels(file, numbered, names, in_seconds, tuple(remarks))


def _row(where: str, line: int, fields: Mapping[str, str]) -> LabelRow:
    """What a line says of a clip, but for its label's number; raises SourceError."""

    def refuse(field: str, fault: str) -> NoReturn:
        raise SourceError(f"{where}: column '{field}': {fault}")

    # What a person writes may have Windows' separators; what lies on the disk may be called anything.
    path = PurePosixPath(fields["path"].replace("\\", "/") if line else fields["path"])
    outside = path.is_absolute() or ".." in path.parts or PureWindowsPath(fields["path"]).drive
    absurd = not path.name or "\0" in fields["path"] or any(len(part) > _LONGEST_NAME for part in path.parts)
    if line and (outside or absurd):
        refuse("path", f"'{brief(fields['path'], 80)}' must be a path inside the source folder")
    if fields["label"] == "-1":
        refuse(
            "label",
            "does -1 say that the label isn't known, or is it a class? Leave the cell empty for the one, and give the "
            "class a name for the other",
        )
    try:
        split = " ".join(split_of(word) for word in fields.get("split", "").split())
    except SourceError as error:
        refuse("split", str(error))
    instants = {"start": 0.0, "end": math.inf}
    for field, default in instants.items():
        text = fields.get(field, "")
        instants[field] = _instant(text) if text else default
        if not (0 <= instants[field] < math.inf or not text):
            refuse(field, f"must be frames or seconds from 0; got '{brief(text, 40)}'")
    if instants["start"] >= instants["end"]:
        refuse("end", f"must be above the start, {instants['start']:g}; got {instants['end']:g}")
    persons = fields.get("persons", "")
    if not re.fullmatch(r"(?:[1-9]\d{0,2})?", persons, re.ASCII):
        refuse("persons", f"must be a whole number from 1; got '{brief(persons, 40)}'")
    return LabelRow(
        path.as_posix(),
        subject=fields.get("subject", ""),
        camera=fields.get("camera", ""),
        setup=fields.get("setup", ""),
        split=split,
        line=line,
        start=instants["start"],
        end=instants["end"],
        persons=int(persons or 0),
    )


def _instant(text: str) -> float:
    """Frames or seconds, ``12``, ``1.5``, ``1:02.5``; NaN for anything else."""
    instant = 0.0
    try:
        for piece in text.split(":"):
            instant = 60 * instant + to_number(piece)
    except ValueError:
        return math.nan
    return instant


def _class_names(labels: Iterable[str]) -> tuple[str, ...]:
    names = set(labels) - {""}
    numbers = all(name.isdecimal() and len(name) < 20 for name in names)
    return tuple(sorted(names, key=lambda name: (int(name), name) if numbers else (0, name)))


def _read_lists(file: Path) -> Labels:
    """A list of lines ``path label``, with the lists of other parts that are beside it under the same name."""
    name, part = _without_part(file)
    beside = sorted(file.parent.iterdir()) if part else [file]
    files = {one: _without_part(one)[1] for one in beside if _without_part(one)[0] == name}
    found = []
    for one, split in files.items():
        for line, text in enumerate(read_lines(one, "it should list clips and their labels"), start=1):
            if text.strip() and not (line == 1 and text.split()[0].lower() in COLUMNS["path"]):
                path, _, label = text.strip().rpartition(" ")
                found.append((one, line, {"path": path.strip(), "label": label, "split": split}))
    return _to_labels(
        file, found, remarks=[f"lists of lines 'path label': {', '.join(one.name for one in files)}"]
    )


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
    found = []
    for path in paths:
        if len(path.parts) > 1 + has_parts:
            split = _WORDS[path.parts[0].lower()] if has_parts else ""
            label = printable(path.parts[has_parts])
            found.append((source / path, 0, {"path": path.as_posix(), "label": label, "split": split}))
    if len({fields["label"] for *_, fields in found}) < 2:
        return None
    return _to_labels(source, found, remarks=["the folders are the classes"])


def action_labels(source: Path, files: Iterable[str]) -> Labels:
    """Labels of UTKinect's recordings, in which ``actionLabel.txt`` says from which to which frame an action goes on.

    Args:
        source: the folder of the recordings; the table lies in it, below it, or in ``joints``.
        files: the recordings, relative to it.

    Raises:
        SourceError: there is no such table, with the line, or it names none of the recordings.
    """
    by_name = {PurePosixPath(path).stem.lower().removeprefix("joints_"): path for path in files}
    places = [folder / "actionLabel.txt" for folder in (source, source.parent, source / "joints")]
    table = next((place for place in places if place.is_file()), None)
    if table is None:
        raise SourceError(f"{places[0]}: there is no such file; it says in which frames the actions are")
    found, recording = [], ""
    for line, text in enumerate(read_lines(table, "it says in which frames the actions are"), start=1):
        action, colon, frames = text.partition(":")
        if text.strip() and not colon:
            recording = text.strip().lower()
        elif (numbers := re.fullmatch(r"\s*(\d{1,9})\s+(\d{1,9})\s*", frames, re.ASCII)) is not None:
            if recording in by_name:
                fields = {"path": by_name[recording], "label": action, "subject": str(int(recording[1:3]))}
                fields |= {"start": numbers[1], "end": str(int(numbers[2]) + 1)}
                found.append((table, line, fields))
        elif colon and "nan" not in frames.lower():
            raise SourceError(f"{table}, line {line}: must be an action, a colon, and two frames")
    if not found:
        raise SourceError(f"{table}: none of its recordings is in {source}")
    return _to_labels(table, found)


def printable(name: str) -> str:
    """A file's name as text: bytes of it that are none are written as ``\\udcff``."""
    return name.encode(errors="backslashreplace").decode()

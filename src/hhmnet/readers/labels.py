"""What a user says about the files of a folder: a table of labels, a list, or folders named as classes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn
from unicodedata import normalize

from hhmnet.fields import brief
from hhmnet.readers import SourceError, printable
from hhmnet.readers.text import decode_table, read_lines, read_table, to_number
from hhmnet.sample import UNKNOWN_LABEL, is_inside

# What a table says of each clip, and the headings it may say it under; upper and lower case are the same.
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

DEFAULT_TABLE = Path("labels.csv")

_LONGEST_NAME = 255
_PARTS = {"train": "train training", "val": "val valid validation dev", "test": "test testing"}
PART_WORDS = {word: part for part, words in _PARTS.items() for word in words.split()}
_PART = re.compile(rf"(?:(?P<split>.+)[_-])?(?P<word>{'|'.join(PART_WORDS)})(?P<number>\d*)", re.IGNORECASE)
_EVERY_GROUP, _EVERY_CLIP = 4, 5

Line = tuple[Path, int, Mapping[str, str]]  # a file, a line of it, and what that says by field


def split_of(word: str) -> str:
    """The part that a word of a table, a pickle or a folder's name stands for; raises SourceError for any other word.
    ``train`` (also ``training``), ``val`` (``valid``, ``validation``, ``dev``) or ``test`` (``testing``), in any case;
    one of several splits, ``xsub_train`` for ``xsub-Training``, and ``train1``; or a fold, ``fold2`` for ``2``.
    """
    if (fold := re.fullmatch(r"(?:fold)?[_-]?(\d+)", word, re.IGNORECASE | re.ASCII)) is not None:
        return f"fold{fold[1]}"
    if (found := _PART.fullmatch(word)) is None:
        more = "in any case, a fold's number, and these words behind the name of a split, as in xsub_train"
        raise SourceError(f"'{brief(word, 80)}' names no part; known: {', '.join(PART_WORDS)}, {more}")
    split = f"{found['split']}_" if found["split"] else ""
    return f"{split}{PART_WORDS[found['word'].lower()]}{found['number']}"


def hold_out(groups: Mapping[str, str]) -> tuple[dict[str, str], str]:
    """The part of each clip, ``train`` or ``test``, by whole groups where that can be; and by which rule, in words.

    Of the groups, sorted as people do ("2" before "10"), every fourth is tested; of two or three, the last. Clips whose
    group is "" train. Without two groups, about every fifth clip is tested, by a hash of its name, so that a clip stays
    where it is when others are added.
    """
    names = sorted(set(groups.values()) - {""}, key=_as_people_sort)
    if len(names) < 2:
        hashes = {clip: sha256(clip.encode(errors="surrogatepass")).hexdigest()[:16] for clip in groups}
        split = {clip: "train" if int(found, 16) % _EVERY_CLIP else "test" for clip, found in hashes.items()}
        warning = "the same persons may be in training and test, and results will look better than they are"
        rule = f"one clip in five is tested, by a hash of its path. Warning: {warning}"
        return split, f"{rule}; a column 'subject' or 'split' avoids that"
    tested = names[_EVERY_GROUP - 1 :: _EVERY_GROUP] or names[-1:]
    split = {clip: "test" if group in tested else "train" for clip, group in groups.items()}
    alone = sum(not group for group in groups.values())
    warning = f". Warning: {alone:,} clips have no subject or group; they train" if alone else ""
    return split, f"tested are the groups {few(tested)}, {len(tested)} of {len(names)}{warning}"


def _as_people_sort(name: str) -> tuple[list[tuple[str, int, str]], str]:
    # Numbers by their length, then as text: Python makes none of thousands of digits.
    pieces = re.findall(r"([^0-9]*)0*([0-9]*)", name)
    return [(text, len(digits), digits) for text, digits in pieces], name


def split_doubts(class_names: Sequence[str], train: Iterable[int], test: Iterable[int]) -> list[str]:
    """What is odd about a split, a line each, from the labels of the clips that train and are tested."""
    trained = set(train)
    lacking = [name for label, name in enumerate(class_names) if label not in trained]
    classes = f"class{'es' * (len(lacking) > 1)} {brief(', '.join(lacking), 200)}"
    found = {
        "no clip is tested; write train, val or test in a column 'split'": not set(test),
        "no clip trains": not trained,
        f"no clip trains the {classes}": trained and lacking,
        f"there is one class only, {class_names[0]}; nothing can be told from it": len(class_names) == 1,
    }
    return [f"warning: {doubt}" for doubt, is_so in found.items() if is_so]


@dataclass(frozen=True)
class LabelRow:
    """What is said of one clip; "" for what isn't.

    Attributes:
        path: its file, relative to the source folder, with forward slashes.
        label: class index from 0; -1 where it isn't said.
        subject, camera, setup: who acts, or the group to keep together; which view; which scene or room.
        split: names of the parts it belongs to, by :func:`split_of`, separated by spaces.
        line: where that stands in the table, from 1; 0 if in none.
        start, end: where in its recording it begins, and the first instant that is no more in it, in the table's unit.
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
        file, remarks: the table, the list or the folder that says so, and how it was understood, a line each.
        rows: what is said of each clip, by its item: the path, for a segment ``path#30-60``.
        class_names: the classes; in the order of the numbers if all labels are whole numbers, else of the alphabet.
        in_seconds: whether segments begin and end in seconds; else in frames.
    """

    file: Path
    rows: dict[str, LabelRow]
    class_names: tuple[str, ...]
    in_seconds: bool = False
    remarks: tuple[str, ...] = ()

    def describe(self) -> list[str]:
        """What the file was understood to say."""
        classes = f"{len(self.class_names)} classes ({few(self.class_names)})"
        lines = [f"{self.file.name}: {len(self.rows)} clips, {classes}", *self.remarks]
        for field in ("subject", "camera", "setup", "split"):
            if values := sorted({getattr(row, field) for row in self.rows.values()} - {""}):
                lines.append(f"{field}: {len(values)} different ({few(values)})")
        return lines


def few(names: Sequence[str], most: int = 8) -> str:
    """The first names of a list, for a line."""
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def read_labels(file: Path) -> Labels:
    """Read a table of clips: a line of headings (:data:`COLUMNS`), then a line a clip; or lines ``path label``.

    ``start`` and ``end`` cut a clip out of its recording: in frames under ``start_frame`` and ``end_frame``, in seconds
    under ``start_seconds`` and ``end_seconds``, and else in seconds if any has a fraction or a colon (``1:02.5``).
    :func:`~hhmnet.readers.text.table_lines` says how a table may be written. A list has neither headings nor
    separators; of one called ``train.txt`` all clips train, and ``val.txt`` and ``test.txt`` beside it are read too.

    Raises SourceError, with the line, where the file is missing, isn't such a table, or names a clip twice.
    """
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
        guess = "read as cp1252 of Western Europe; if names look wrong, save it as UTF-8"
        remarks.append(f"{file.name} isn't UTF-8: {guess}")
    remarks.insert(0, "columns: " + ", ".join(f"{heading} → {field}" for field, heading in used.items()))
    if unused := [heading for heading in headings if heading and heading not in used.values()]:
        remarks.append(f"columns not used: {', '.join(unused)}")
    return _labels(file, found, in_seconds, remarks)


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
    names = "', '".join(headings)
    units = {heading.lower().partition("_")[2] == "frame" for heading in headings if "_" in heading}
    if len(units) == 2:
        raise SourceError(f"{where}: of '{names}' one counts frames and the other seconds")
    if units or not headings:
        return False in units, []
    if all(re.fullmatch(r"\d*", row.get(field, "")) for row in rows for field in ("start", "end")):
        remedy = "if they are seconds, call them start_seconds, end_seconds"
        return False, [f"'{names}': in frames, as all are whole; {remedy}"]
    return True, [f"'{names}': in seconds, as they have fractions"]


def _labels(file: Path, lines: Sequence[Line], in_seconds: bool, remarks: Sequence[str]) -> Labels:
    """Labels of what is said in the lines of some files; raises SourceError, with the line, for what can't be used."""
    if not lines:
        raise SourceError(f"{file}: lists no clips; write one line a clip under the headings")
    names = {normalize("NFC", cells["label"]) for *_, cells in lines} - {""}
    is_numbers = all(name.isdecimal() and len(name) < 20 for name in names)
    class_names = tuple(sorted(names, key=lambda name: (int(name) if is_numbers else 0, name)))
    number = {name: number for number, name in enumerate(class_names)} | {"": UNKNOWN_LABEL}
    rows: dict[str, LabelRow] = {}
    for source, line, cells in lines:
        fields = {field: normalize("NFC", text) for field, text in cells.items()}
        where = f"{source}, line {line}" if line else str(source)
        row = _row(where, line, fields, number[fields["label"]])
        until = "" if row.end == math.inf else f"{row.end:.10g}"
        item = f"{row.path}#{row.start:.10g}-{until}" if row.is_segment else row.path
        if item in rows:
            raise SourceError(f"{where}: '{item}' stands in line {rows[item].line} already")
        rows[item] = row
    return Labels(file, rows, class_names, in_seconds, tuple(remarks))


def _row(where: str, line: int, fields: Mapping[str, str], label: int) -> LabelRow:
    """What a line says of a clip; raises SourceError."""

    def refuse(field: str, fault: str) -> NoReturn:
        raise SourceError(f"{where}: column '{field}': {fault}")

    # What a person writes may have Windows' separators; what lies on the disk may be called anything.
    path = PurePosixPath(fields["path"].replace("\\", "/") if line else fields["path"])
    if line and not (is_inside(fields["path"]) and max(map(len, path.parts)) <= _LONGEST_NAME):
        refuse("path", f"'{brief(fields['path'], 80)}' must be a path inside the source folder")
    if fields["label"] == "-1":
        remedy = "leave the cell empty for the one, and give the class a name for the other"
        refuse("label", f"does -1 say that the label isn't known, or is it a class? {remedy}")
    try:
        split = " ".join(split_of(word) for word in fields.get("split", "").split())
    except SourceError as error:
        refuse("split", str(error))
    said: dict[str, Any] = {field: fields.get(field, "") for field in ("subject", "camera", "setup")}
    for field in ("start", "end"):
        if text := fields.get(field):
            said[field] = _instant(text)
            if not 0 <= said[field] < math.inf:
                refuse(field, f"must be frames or seconds from 0; got '{brief(text, 40)}'")
    if text := fields.get("persons"):
        if not re.fullmatch(r"[1-9]\d{0,2}", text, re.ASCII):
            refuse("persons", f"must be a whole number from 1; got '{brief(text, 40)}'")
        said["persons"] = int(text)
    row = LabelRow(path.as_posix(), label, split=split, line=line, **said)
    if row.start >= row.end:
        refuse("end", f"must be above the start, {row.start:g}; got {row.end:g}")
    return row


def _instant(text: str) -> float:
    """Frames or seconds, ``12``, ``1.5``, ``1:02.5``; NaN for anything else."""
    instant = 0.0
    try:
        for piece in text.split(":"):
            instant = 60 * instant + to_number(piece)
    except ValueError:
        return math.nan
    return instant


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
    names = ", ".join(one.name for one in files)
    return _labels(file, found, False, [f"lists of lines 'path label': {names}"])


def _without_part(file: Path) -> tuple[str, str]:
    """A list's name without the word for a part in it, and that part; "" if there is none."""
    word = re.search(rf"(?<![^\W\d_])({'|'.join(PART_WORDS)})(?![^\W\d_])", file.stem, re.IGNORECASE)
    if word is None:
        return file.name, ""
    return f"{file.stem[: word.start()]}/{file.stem[word.end() :]}{file.suffix}", PART_WORDS[word[1].lower()]


def folder_labels(source: Path, files: Iterable[str]) -> Labels:
    """Labels from folders: one a class, ``wave/1.mp4``, or one a part and in it one a class, ``train/wave/1.mp4``.
    Those of ``files``, which are relative to ``source``, that lie in no folder of a class are left out. Raises
    SourceError unless there are two classes.
    """
    paths = [path for path in map(PurePosixPath, files) if len(path.parts) > 1]
    has_parts = bool(paths) and all(path.parts[0].lower() in PART_WORDS for path in paths)
    found = []
    for path in paths:
        if len(path.parts) > 1 + has_parts:
            split = PART_WORDS[path.parts[0].lower()] if has_parts else ""
            label = printable(path.parts[has_parts])
            found.append((source / path, 0, {"path": path.as_posix(), "label": label, "split": split}))
    if len({fields["label"] for *_, fields in found}) < 2:
        fault = "No such file or directory; it should list the clips and their labels. Without one,"
        raise SourceError(f"{source / DEFAULT_TABLE}: {fault} {source} must hold a folder for each class")
    return _labels(source, found, False, ["the folders are the classes"])

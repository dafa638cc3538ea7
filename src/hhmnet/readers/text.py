"""Text files of others: tables as Excel and people write them, JSON; each fault with its line."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from hhmnet.readers import ReadError, SourceError

_SEPARATORS = ",;\t"
T = TypeVar("T")


def decode(content: bytes) -> str:
    """UTF-8 with a byte order mark or without, or UTF-16 with one; raises ReadError, with the line, for others."""
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ReadError(f"not UTF-8 text (byte {error.start})", line) from None


def decode_table(content: bytes) -> tuple[str, bool]:
    """The text of a table: as :func:`decode` says, or else cp1252, which Excel writes in Western Europe; and whether it
    is the latter because it is nothing else. Raises ReadError, with the line, for others.
    """
    try:
        text, is_guess = decode(content), False
    except ReadError as fault:
        try:
            text, is_guess = content.decode("cp1252"), True
        except UnicodeDecodeError:
            raise ReadError(f"{fault.reason}; save it as CSV in UTF-8", fault.line) from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise ReadError("not text: it holds zero bytes; save it as CSV in UTF-8", line)
    return text, is_guess


def table_lines(content: bytes) -> Iterator[tuple[int, list[str]]]:
    """The lines of a table, each with its number: first the headings, then those that hold anything.

    Cells are separated by commas, semicolons or tabs: as a first line ``sep=;`` says, or else by what parts the
    headings into most. A line may end in empty cells without a heading, as Excel writes them. Raises ReadError, with
    the line, if it isn't such a table, or a line has more cells than there are headings.
    """
    text, _ = decode_table(content)
    told = re.match(rf'"?sep=([{_SEPARATORS}|])"?\r?\n', text, re.IGNORECASE)
    text, before = (text[told.end() :], 1) if told else (text, 0)
    first = text.partition("\n")[0].rstrip("\r")
    separator = told[1] if told else max(_SEPARATORS, key=lambda one: len(_cells(first, one)))
    table = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        headings = next(table, [])
        yield 1 + before, headings
        for cells in table:
            while len(cells) > len(headings) and not cells[-1].strip():
                cells.pop()
            line = table.line_num + before
            if len(cells) > len(headings):
                remedy = f"put a text that holds {separator!r} into double quotes"
                reason = f"has {len(cells)} cells, and there are {len(headings)} headings; {remedy}"
                raise ReadError(reason, line)
            if any(cell.strip() for cell in cells):
                yield line, cells
    except csv.Error as error:
        raise ReadError(f"not a CSV table ({error})", table.line_num + before) from None


def _cells(line: str, separator: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=separator), [])
    except csv.Error:  # a field of absurd length
        return []


def read_table(file: Path, purpose: str) -> list[tuple[int, list[str]]]:
    """The lines of a table as :func:`table_lines` gives them; raises SourceError, which says its ``purpose``."""
    return _read(file, purpose, lambda content: list(table_lines(content)))


def read_lines(file: Path, purpose: str) -> list[str]:
    """The lines of a text; raises SourceError, which says its ``purpose``."""
    return _read(file, purpose, lambda content: decode_table(content)[0].splitlines())


def _read(file: Path, purpose: str, parse: Callable[[bytes], T]) -> T:
    try:
        return parse(file.read_bytes())
    except OSError as error:
        raise SourceError(f"{file}: {error.strerror or error}; {purpose}") from None
    except ReadError as error:
        raise SourceError(f"{file}, {error}") from None


def to_number(cell: str) -> float:
    """A number with a decimal point or comma; NaN for an empty cell. Raises ValueError for anything else."""
    return float(cell.strip().replace(",", ".") or "nan")


def read_json(file: Path, *, nan: bool = False) -> Any:
    """What a JSON file holds; raises ReadError if it can't be read, or holds NaN or Infinity unless ``nan`` lets it."""

    def refuse(constant: str) -> NoReturn:
        raise ReadError(f"holds {constant}, which is no number")

    try:
        text = decode(file.read_bytes())
        return json.loads(text, parse_constant=None if nan else refuse)
    except OSError as error:
        raise ReadError(f"can't be read: {error.strerror or error}") from None
    except json.JSONDecodeError as error:
        end = {"{": "}", "[": "]"}.get(text.strip()[:1], "")
        whole = text[error.pos :].strip() and text.rstrip().endswith(end)
        reason = "not valid JSON" if whole else "cut short"
        raise ReadError(f"{reason}: {error.msg} (column {error.colno})", error.lineno) from None
    except ReadError:
        raise
    except (RecursionError, ValueError) as error:  # or a number of thousands of digits
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ReadError(f"not valid JSON: {reason}") from None


_AS_CSV = "as a CSV with a line a frame (docs/your_own_data.md)"
_RIG = f"holds a moving figure, mostly as rotations of bones; export the joints' positions, {_AS_CSV}"
_MARKERS = f"holds markers on the skin; fit a skeleton to them, then export the joints' positions, {_AS_CSV}"
_FOREIGN = {  # endings of formats that aren't read, and the way out
    **dict.fromkeys([".bvh", ".fbx", ".amc", ".asf", ".glb", ".gltf", ".usd"], _RIG),
    **dict.fromkeys((".c3d", ".trc"), _MARKERS),
    **dict.fromkeys([".h5", ".slp", ".parquet", ".xlsx"], "isn't read; export it as CSV or NumPy's .npy"),
    ".mat": "is read of UTD-MHAD alone, by `hhmnet prepare utd_mhad`; of others save the joints as .npy",
}


def foreign(path: Path) -> str | None:
    """What a file is that isn't read, and what to do, by its ending; None if that isn't known."""
    kind = path.suffix.lower()
    return f"{kind[1:].upper()}, which {_FOREIGN[kind]}" if kind in _FOREIGN else None


_TORCH_SIGN = b"\x80\x02\x8a\nl\xfc\x9cF\xf9"
_ZIP_SIGN = b"PK\x03\x04"
_PAGE = "a web page (HTML), perhaps of a download that failed: download the file again"
_SIGNS = {
    b"version https://git-lfs": "a Git LFS pointer and not the file itself: fetch that with 'git lfs pull'",
    **{b"\x80%c" % protocol: "a pickle: its name must end in .pkl" for protocol in range(6)},
    _ZIP_SIGN: "a zip archive: unpack it first",
    b"\x89HDF\r\n": "an HDF5 file: open it with h5py and save its arrays with numpy.savez",
    b"\x1f\x8b": "a gzip file: unpack it first, with gunzip",
    b"BZh": "a bzip2 file: unpack it first",
    b"\xfd7zXZ": "an xz file: unpack it first",
    b"7z\xbc\xaf": "a 7z archive: unpack it first",
    b"Rar!": "a RAR archive: unpack it first",
    b"x\x9c": "zlib data, perhaps of joblib: load it with joblib and save it with pickle",
    b"\x93NUMPY": "an array of NumPy: its name must end in .npy",
    b"<!doctype html": _PAGE,
    b"<html": _PAGE,
    b"HIERARCHY": f"BVH, which {_RIG}",
    b"Kaydara FBX": f"FBX, which {_RIG}",
    b"glTF": f"GLB, which {_RIG}",
    b"PathFileType": f"TRC, which {_MARKERS}",
}
_OWN = {".npy": b"\x93NUMPY", ".npz": _ZIP_SIGN, ".pkl": b"\x80", ".pickle": b"\x80"}


def disguised(file: Path, suffix: str) -> str:
    """What a file is by its first bytes, and the way out, where its ``suffix`` doesn't say so; "" where that may be
    what it is. Raises OSError.
    """
    with open(file, "rb") as handle:
        head = handle.read(512)
    is_zip = head.startswith(_ZIP_SIGN)
    if head.startswith(_TORCH_SIGN) or (is_zip and (b"/data.pkl" in head or b"/.format_version" in head)):
        return "a file of torch.save: load it with torch and save its arrays with NumPy"
    if suffix in _OWN and head.startswith(_OWN[suffix]):
        return ""
    if is_zip and b".npy" in head[:100]:
        return "an archive of NumPy: its name must end in .npz"
    begins = (head, head.lstrip().lower())
    return next((what for sign, what in _SIGNS.items() if any(one.startswith(sign) for one in begins)), "")

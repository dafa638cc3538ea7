"""``hhmnet cache``: the crops of videos that are kept on disk; show them, make them ahead, remove them."""

from __future__ import annotations

import argparse
import dataclasses
import re
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from hhmnet.commands.flags import Flags
from hhmnet.commands.terminal import Parser, UsageError, console, counting, duration, print_json, table, whole
from hhmnet.data.crop_cache import CropCache, clear, crops_folder, holdings
from hhmnet.data.roi import RoiConfig
from hhmnet.prepare import WorkerLost
from hhmnet.prepare.workers import cores
from hhmnet.store import Store

SHOWN_PROBLEMS = 20
DONE, WORKER_LOST = 0, 1

_FLAGS = Flags(RoiConfig, "hhmnet cache")


class NoVideoError(ValueError):
    """Clips of which not one has a video."""


def main(words: list[str]) -> int:
    """Run the command; returns its exit code."""
    count = next((i for i, word in enumerate(words) if word.startswith("-")), len(words))
    names, parser = words[:count], _parser()
    if "-h" in words or "--help" in words:
        print(parser.format_help(), "which crops are made:", "", _FLAGS.format_help(), sep="\n", end="")
        return DONE
    options, rest = parser.parse_known_args(words[count:])
    folder: Path = options.folder or crops_folder()
    if options.older_than is not None and names != ["clear"]:
        raise UsageError("--older-than goes with `hhmnet cache clear`")
    if names in (["clear"], []):
        if rest:
            raise UsageError(f"unknown word '{rest[0]}'; STORE comes before the options")
        return _clear(folder, options) if names else _show(folder, options)
    if len(names) != 1:
        raise UsageError("name one store: hhmnet cache STORE; see hhmnet cache --help")
    config = _FLAGS.read(rest, parser.names)
    return _build(CropCache(folder, config), Store(names[0]), options)


def _parser() -> Parser:
    parser = Parser(
        "hhmnet cache",
        "Body parts and persons cut out of videos are kept on disk, since cutting takes longer than training on them. "
        "Training makes what is missing; this command shows what there is, makes it ahead, and removes it.",
        usage="hhmnet cache [options]\n"
        "       hhmnet cache STORE [options] [--field value ...]\n"
        "       hhmnet cache clear [options]",
        add_help=False,
    )
    add = parser.add_argument
    add("-h", "--help", action="store_true", help="show this help and leave")
    add("--videos", type=Path, metavar="DIR", help="folder of the store's videos, if they have moved")
    add("--jobs", type=whole, metavar="N", help="videos read at the same time (default: one a core)")
    add("--folder", type=Path, metavar="DIR", help=f"folder of the crops (default: {crops_folder()})")
    add("--older-than", type=_age, metavar="AGE", help="clear only what was made that long ago: 30d, 12h")
    add("--json", action="store_true", help="print the result as JSON on standard output")
    return parser


def _age(text: str) -> float:
    """Seconds of ``30d``, or of whatever :func:`hhmnet.commands.terminal.duration` takes."""
    days = re.fullmatch(r"(\d+(?:\.\d+)?)d", text.strip())
    return float(days[1]) * 86400 if days else duration(text)


def _show(folder: Path, options: argparse.Namespace) -> int:
    found, damaged = holdings(folder)
    clips, size = sum(entry.clips for entry in found), sum(entry.bytes for entry in found)
    if options.json:
        entries = [entry._asdict() | {"settings": dataclasses.asdict(entry.settings)} for entry in found]
        print_json(
            {"folder": str(folder), "clips": clips, "bytes": size, "damaged": damaged, "holdings": entries}
        )
        return DONE
    out = console(stderr=False)
    view = table(f"{folder}: crops of {clips:,} clips, {_size(size)}", "store", "settings", ">clips", ">size")
    usual = dataclasses.asdict(RoiConfig())
    for entry in found:
        fields = dataclasses.asdict(entry.settings).items()
        settings = ", ".join(f"{name} {value}" for name, value in fields if value != usual[name]) or "default"
        view.add_row(entry.store, settings, f"{entry.clips:,}", _size(entry.bytes))
    out.print(view)
    if damaged:
        out.print(f"{damaged:,} files can't be read; those that are needed are made again")
    return DONE


def _build(cache: CropCache, store: Store, options: argparse.Namespace) -> int:
    videos, log, began = store.find_videos(options.videos), console(), time.monotonic()
    size = _size(len(store) * cache.clip_bytes)
    log.print(
        f"{len(store):,} clips, videos in {videos}; crops of all take {size} in {cache.folder}",
        soft_wrap=True,
    )
    try:
        with counting(log, "cutting", "clips") as progress:
            report = cache.build(store, np.arange(len(store)), videos, options.jobs or cores(), progress)
    except WorkerLost as error:
        print(f"hhmnet cache: error: {error}; the same call goes on from there", file=sys.stderr)
        return WORKER_LOST
    seconds = time.monotonic() - began
    if options.json:
        names = {"store": str(store.path), "videos": str(videos), "folder": str(cache.folder)}
        print_json(names | dataclasses.asdict(report) | {"seconds": round(seconds, 1)})
        return DONE
    figures = [f"{report.made:,} made in {seconds:.0f} s", f"{report.found:,} there already"]
    figures += [f"{report.without_video:,} without video"] if report.without_video else []
    figures += [f"{len(report.problems):,} with a problem"] if report.problems else []
    line = f"crops of {report.clips:,} clips: {', '.join(figures)}; {_size(report.bytes)}"
    console(stderr=False).print(line, soft_wrap=True)
    _show_problems(report.problems)
    return DONE


def cut_crops(cache: CropCache, store: Store, rows: np.ndarray, videos: Path, log: Console) -> dict[str, str]:
    """See to it that the crops of these clips are there before anything looks at them; what is wrong is shown.

    Returns:
        What is wrong with a clip's video, by the clip's name.

    Raises:
        NoVideoError: not one of the clips has a video that can be read.
    """
    with counting(log, "cutting crops out of videos", "clips") as progress:
        report = cache.build(store, rows, videos, cores(), progress)
    _show_problems(report.problems)
    damaged = [cache.get(store, store.index(name), videos) for name in report.problems]
    blind = report.without_video + sum(
        not (crops.part_mask.any() or crops.scene_mask.any()) for crops in damaged
    )
    if blind:
        log.print(f"{blind:,} of {len(rows):,} clips have no picture at all", soft_wrap=True)
    if blind == len(rows):
        raise NoVideoError(
            f"{store.path}: none of the {len(rows):,} clips has a video in {videos} that can be read; name the "
            "folder of videos with --videos DIR"
        )
    return report.problems


def _show_problems(problems: dict[str, str]) -> None:
    if not problems:
        return
    view: Any = table("their crops stay empty", "sample", "problem")
    for name, text in list(problems.items())[:SHOWN_PROBLEMS]:
        view.add_row(name, text)
    log = console()
    log.print(view)
    if len(problems) > SHOWN_PROBLEMS:
        log.print(f"the first {SHOWN_PROBLEMS} are shown; --json lists all of them")


def _clear(folder: Path, options: argparse.Namespace) -> int:
    count, size = clear(folder, options.older_than)
    if options.json:
        print_json({"folder": str(folder), "removed": count, "bytes": size})
    else:
        console(stderr=False).print(
            f"{folder}: crops of {count:,} clips removed, {_size(size)}", soft_wrap=True
        )
    return DONE


def _size(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"

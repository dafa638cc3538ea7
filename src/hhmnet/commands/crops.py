"""The crops that a phase-2 command needs, cut before it begins."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.console import Console

from hhmnet.commands.terminal import UsageError, counting, table
from hhmnet.data.crop_cache import CropCache
from hhmnet.prepare.workers import cores
from hhmnet.store import Store

SHOWN_PROBLEMS = 20


def cut_crops(cache: CropCache, store: Store, rows: np.ndarray, videos: Path, log: Console) -> dict[str, str]:
    """See to it that the crops of these clips are there before anything looks at them; what is wrong is shown.

    Returns what is wrong, by the clip's name. Raises UsageError where not one of the clips has a video.
    """
    with counting(log, "cutting crops out of videos", "clips") as progress:
        problems = cache.build(store, rows, videos, cores(), progress)
    if problems:
        shown = list(problems.items())[:SHOWN_PROBLEMS]
        title = f"the crops of {len(problems):,} clips stay empty; the first are"
        log.print(table(title, "sample", "problem", rows=shown))
    damaged = [cache.get(store, store.index(name), videos) for name in problems]
    blind = sum(not (crops.part_mask.any() or crops.scene_mask.any()) for crops in damaged)
    blind += sum(store.sample(int(row)).video is None for row in rows)
    if blind:
        log.print(f"{blind:,} of {len(rows):,} clips have no picture at all")
    if blind == len(rows):
        raise UsageError(
            f"{store.path}: none of the {len(rows):,} clips has a video in {videos} that can be read; name the "
            "folder of videos with --videos DIR"
        )
    return problems

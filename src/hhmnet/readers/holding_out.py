"""Which clips of your own are tested, where you don't say so."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence

TRAIN, TEST = "train", "test"
EVERY_GROUP, EVERY_CLIP = 4, 5


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
        split = {clip: TEST if _hash(clip) % EVERY_CLIP == 0 else TRAIN for clip in groups}
        return split, (
            "one clip in five is tested, by a hash of its path. Warning: the same persons may be in training and test, "
            "and results will look better than they are; a column 'subject' or 'split' avoids that"
        )
    tested = set(names[EVERY_GROUP - 1 :: EVERY_GROUP] or names[-1:])
    split = {clip: TEST if group in tested else TRAIN for clip, group in groups.items()}
    alone = sum(not group for group in groups.values())
    warning = f". Warning: {alone:,} clips have no subject or group; they train" if alone else ""
    shown = _enumerated(sorted(tested, key=_as_people_sort))
    return split, f"tested are the groups {shown}, {len(tested)} of {len(names)}{warning}"


def count_splits(splits: Sequence[str]) -> str:
    """How many clips each part has, such as ``test 3, train 9``."""
    counts = Counter(part for split in splits for part in split.split() or ["(none)"])
    return ", ".join(f"{part} {count:,}" for part, count in sorted(counts.items()))


def _enumerated(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (", …" if len(names) > 8 else "")


def _as_people_sort(name: str) -> list[tuple[int, int, str]]:
    pieces = re.findall(r"[0-9]+|[^0-9]+", name)
    return [(0, int(piece), piece) if piece.isdecimal() else (1, 0, piece) for piece in pieces]


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode(errors="surrogatepass")).digest()[:8], "big")

"""Pictures: confusion matrix, skeletons over time."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from hhmnet.files import replacing
from hhmnet.sample import Sample
from hhmnet.skeleton import SkeletonLayout

SIDE_COLOURS = {"left": "#d95f02", "right": "#1b6ca8"}
"""Colour of left and right bones."""
POSES = 8
"""Poses in a row of a clip."""


def draw_confusion(matrix: np.ndarray, class_names: Sequence[str], file: Path) -> None:
    """Draw a confusion matrix ``(classes, classes)``, each row in percent of its class."""
    share = 100 * matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    count = len(matrix)
    side = 2.5 + 0.45 * min(count, 40)
    figure = new_figure(side + 1, side)
    axes = figure.add_subplot()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
    figure.colorbar(image, ax=axes, label="% of the true class", fraction=0.046)
    axes.set(xlabel="predicted", ylabel="true")
    if count <= 40:  # more names than that can't be read
        axes.set_xticks(range(count), class_labels(class_names), rotation=90)
        axes.set_yticks(range(count), class_labels(class_names))
    if count <= 20:
        for row, column in np.argwhere(matrix > 0):
            colour = "white" if share[row, column] > 50 else "black"
            axes.text(
                column, row, str(matrix[row, column]), ha="center", va="center", color=colour, fontsize=8
            )
    save_figure(figure, file)


def draw_strips(clips: Sequence[tuple[str, Sample]], layout: SkeletonLayout, file: Path) -> None:
    """Draw each clip, below its title, as a row of poses spread evenly over its frames, on one scale.

    Left joints are orange, right ones blue.
    """
    from matplotlib.collections import LineCollection

    figure = new_figure(1.3 * POSES, 2.1 * len(clips))
    colours = [
        SIDE_COLOURS.get(layout.joints[child].partition("_")[0], "#444444") for child, _ in layout.edges
    ]
    label = {"ha": "center", "va": "top", "fontsize": 7, "color": "#666666"}
    for axes, (title, clip) in zip(figure.subplots(len(clips), squeeze=False)[:, 0], clips, strict=True):
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_aspect("equal", anchor="W")
        axes.axis("off")
        seen = clip.joints[clip.present][..., :2].reshape(-1, 2)
        low, high = (seen.min(0), seen.max(0)) if len(seen) else (np.zeros(2), np.ones(2))
        margin = 0.05 * float((high - low).max()) + 1e-3
        low, (width, height) = low - margin, high - low + 2 * margin
        foot = -0.02 * height if layout.dims == 3 else 1.02 * height
        frames = np.unique(np.linspace(0, clip.num_frames - 1, POSES).round().astype(int))
        for place, frame in enumerate(frames):
            for person in np.flatnonzero(clip.present[:, frame]):
                bones = clip.joints[person, frame, :, :2][np.array(layout.edges)] - low + (place * width, 0)
                axes.add_collection(LineCollection(bones, colors=colours, linewidths=1.6, capstyle="round"))
            axes.text((place + 0.5) * width, foot, f"frame {clip.frame_index[frame]}", **label)
        axes.set(xlim=(0, POSES * width), ylim=(0, height))
        if layout.dims == 2:
            axes.invert_yaxis()  # pixels count downwards
    save_figure(figure, file)


def new_figure(width: float, height: float) -> Any:
    """A figure of its own, in inches, without pyplot's global state and without a screen."""
    from matplotlib.figure import Figure  # takes most of a second, and most commands draw nothing

    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Any, file: Path) -> None:
    """Write a figure as PNG, whole or not at all, its texts by :func:`set_fonts`."""
    set_fonts(figure)
    with replacing(file) as handle:
        figure.savefig(handle, format="png", dpi=120, bbox_inches="tight", pad_inches=0.15)


def class_label(name: str, number: int) -> str:
    """A class as a picture shows it: its name, or its number (from 0) where no installed font has the name."""
    return name if all(map(_family, _drawn(name))) else str(number)


def class_labels(names: Sequence[str]) -> list[str]:
    """All classes as a picture shows them; see :func:`class_label`."""
    return [class_label(name, number) for number, name in enumerate(names)]


def class_legend(names: Sequence[str]) -> str:
    """What numbers in the place of names mean, such as "classes shown by number: 0 is …"; "" if there are none."""
    pairs = enumerate(zip(class_labels(names), names, strict=True))
    numbered = [f"{number} is {name}" for number, (label, name) in pairs if label != name]
    return f"in pictures, for want of a font: {', '.join(numbered)}" if numbered else ""


def set_fonts(figure: Any) -> None:
    """Draw every text of a figure as it stands, in fonts that have its characters; "?" for one that none has."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_parse_math(False)  # a $ is a $
        if not text.get_text().isascii():
            shown = [(character, _family(character)) for character in _drawn(text.get_text())]
            text.set_text("".join(character if family else "?" for character, family in shown))
            text.set_fontfamily(
                list(dict.fromkeys([_family("x"), *(family for _, family in shown if family)]))
            )


def _drawn(text: str) -> str:
    """A text without what has no shape of its own: selectors of variants, joiners, marks of direction."""
    return "".join(c for c in text if not (unicodedata.category(c) == "Cf" or "\ufe00" <= c <= "\ufe0f"))


@cache
def _family(character: str) -> str | None:
    """A family of installed fonts that has the character, matplotlib's own first; None if none has."""
    from matplotlib.font_manager import FontProperties, findfont, fontManager

    own = findfont(FontProperties())
    # A font of last resort has a box for every character.
    fonts = [font for font in fontManager.ttflist if "resort" not in font.name.lower()]
    fonts.sort(key=lambda font: (font.fname != own, font.style != "normal", font.name))
    return next((font.name for font in fonts if ord(character) in _characters(font.fname)), None)


@cache
def _characters(file: str) -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(file).get_charmap())
    except (OSError, RuntimeError):  # a font that is gone or damaged
        return frozenset()

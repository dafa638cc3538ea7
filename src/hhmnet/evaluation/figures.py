"""Pictures: confusion matrix, training curves, skeletons over time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hhmnet.files import replacing
from hhmnet.skeleton import SkeletonLayout

SIDE_COLOURS = {"left": "#d95f02", "right": "#1b6ca8", "": "#444444"}
"""Colour of left, right and middle bones."""
POSES = 8
"""Poses in a row of a clip."""


class Strip(NamedTuple):
    """One clip to draw.

    Attributes:
        title: what stands above it.
        joints: ``(M, T, V, C)`` in the layout's units.
        present: ``(M, T)`` bool.
        frame_index: ``(T,)`` numbers of the frames.
    """

    title: str
    joints: np.ndarray
    present: np.ndarray
    frame_index: np.ndarray


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
        axes.set_xticks(range(count), class_names, rotation=90)
        axes.set_yticks(range(count), class_names)
    if count <= 20:
        for row, column in np.argwhere(matrix > 0):
            colour = "white" if share[row, column] > 50 else "black"
            axes.text(
                column, row, str(matrix[row, column]), ha="center", va="center", color=colour, fontsize=8
            )
    save_figure(figure, file)


def draw_curves(rows: Sequence[Any], file: Path) -> None:
    """Draw loss and accuracy over the epochs of a ``log.csv``, whose rows are given."""
    figure = new_figure(9, 3.5)
    loss, accuracy = figure.subplots(1, 2)
    epochs = [row.epoch for row in rows]
    loss.plot(epochs, [row.loss for row in rows], color=SIDE_COLOURS["right"])
    loss.set(xlabel="epoch", ylabel="training loss")
    accuracy.plot(epochs, [row.accuracy for row in rows], label="training", color=SIDE_COLOURS["right"])
    validated = [(row.epoch, row.val_top1) for row in rows if row.val_top1 is not None]
    if validated:
        accuracy.plot(*zip(*validated, strict=True), "o-", label="validation", color=SIDE_COLOURS["left"])
    accuracy.set(xlabel="epoch", ylabel="accuracy, %", ylim=(0, 101))
    accuracy.legend()
    for axes in (loss, accuracy):
        axes.grid(alpha=0.3)
    save_figure(figure, file)


def draw_strips(strips: Sequence[Strip], layout: SkeletonLayout, file: Path) -> None:
    """Draw each clip as a row of poses, spread evenly over its frames: x to the right, and up what is up.

    Left joints are orange, right ones blue. All poses of a row share one scale.

    Args:
        strips: the clips.
        layout: their skeleton.
        file: PNG to write.
    """
    figure = new_figure(1.3 * POSES, 2.1 * len(strips))
    for axes, strip in zip(figure.subplots(len(strips), squeeze=False)[:, 0], strips, strict=True):
        axes.set_title(strip.title, loc="left", fontsize=10)
        axes.set_aspect("equal", anchor="W")
        axes.axis("off")
        _draw_poses(axes, strip, layout)
    save_figure(figure, file)


def _draw_poses(axes: Any, strip: Strip, layout: SkeletonLayout) -> None:
    from matplotlib.collections import LineCollection

    low, high = _extent(strip)
    width, height = high - low
    frames = np.unique(np.linspace(0, strip.joints.shape[1] - 1, POSES).round().astype(int))
    colours = [_colour(layout.joints[child]) for child, _ in layout.edges]
    for place, frame in enumerate(frames):
        corner = low - np.array([place * width, 0])
        for person in np.flatnonzero(strip.present[:, frame]):
            bones = strip.joints[person, frame, :, :2][np.array(layout.edges)] - corner
            axes.add_collection(LineCollection(bones, colors=colours, linewidths=1.6, capstyle="round"))
        label = {"ha": "center", "va": "top", "fontsize": 7, "color": "#666666"}
        foot = -0.02 * height if layout.dims == 3 else 1.02 * height
        axes.text((place + 0.5) * width, foot, f"frame {strip.frame_index[frame]}", **label)
    axes.set(xlim=(0, POSES * width), ylim=(0, height))
    if layout.dims == 2:
        axes.invert_yaxis()  # pixels count downwards


def _colour(joint: str) -> str:
    return SIDE_COLOURS.get(joint.partition("_")[0], SIDE_COLOURS[""])


def _extent(strip: Strip) -> tuple[np.ndarray, np.ndarray]:
    """Corners of the box around all poses in x and y, with a margin."""
    seen = strip.joints[strip.present][..., :2].reshape(-1, 2)
    if not len(seen):
        return np.zeros(2), np.ones(2)
    low, high = seen.min(0), seen.max(0)
    margin = 0.05 * float((high - low).max()) + 1e-3
    return low - margin, high + margin


def new_figure(width: float, height: float) -> Any:
    """A figure of its own, in inches, without pyplot's global state and without a screen."""
    from matplotlib.figure import Figure  # takes most of a second, and most commands draw nothing

    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Any, file: Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    with replacing(file) as handle:
        figure.savefig(handle, format="png", dpi=120, bbox_inches="tight", pad_inches=0.15)

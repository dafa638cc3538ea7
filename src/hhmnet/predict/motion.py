"""Whether somebody moves: standing, sitting and being away are no actions."""

from __future__ import annotations

import numpy as np

from hhmnet.readers.joints import tallness

STILL = 0.15
"""Body lengths a second. In 99.6 and 98.7 % of half-seconds of NW-UCLA's and MSR Action3D's clips (all of them) a
person is faster."""
PAUSE = 0.5
"""Seconds without motion that are a pause; an action may have shorter ones."""
_SPAN = 0.1  # seconds before and after a frame: noise of joints isn't motion


def speeds(joints: np.ndarray, present: np.ndarray, rate: float) -> np.ndarray:
    """How fast a person's quickest fifth of joints is, in body lengths a second, ``(T,)``; 0 of nobody.

    Args:
        joints: ``(T, V, C)``; where the person is absent, the frame before counts.
        present: ``(T,)`` bool.
        rate: frames a second.
    """
    from scipy.ndimage import uniform_filter1d  # a fifth of a second, for recordings alone

    size = tallness(joints[present])
    if not size:
        return np.zeros(len(joints))
    frames = np.arange(len(joints))
    seen = np.maximum.accumulate(np.where(present, frames, present.argmax()))
    half = max(round(_SPAN * rate), 1)
    steady = uniform_filter1d(joints[seen].astype(np.float64), 2 * half + 1, axis=0, mode="nearest")
    before, after = (frames - half).clip(0), (frames + half).clip(max=len(frames) - 1)
    each = np.linalg.norm(steady[after] - steady[before], axis=2) * rate / (2 * half)
    return np.asarray(np.sort(each, axis=1)[:, -max(each.shape[1] // 5, 1) :].mean(1) / size)


def fastest(pace: np.ndarray, times: np.ndarray, middles: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The largest of the speeds ``pace (T,)`` about each window's middle, ``(W,)``; for ``edges`` see the timeline."""
    starts, ends = np.minimum(edges[:-1], middles - PAUSE / 2), np.maximum(edges[1:], middles + PAUSE / 2)
    spans = np.searchsorted(times, [starts, ends]).T
    return np.array([pace[first:end].max(initial=0.0) for first, end in spans])

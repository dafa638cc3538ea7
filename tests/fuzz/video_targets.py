"""Videos as targets: opened, looked at, decoded to their end."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from hunt import Target
from noise import damaged

from hhmnet.serving.answers import check_video
from hhmnet.serving.limits import Limits, Refused
from hhmnet.serving.uploads import ending
from hhmnet.video import open_video

if TYPE_CHECKING:
    from targets import World


def video_targets(world: World) -> list[Target]:
    """Decoding, and what a server looks at before it decodes."""
    return [Target("video", _video(world), ("clip.",)), Target("upload", _upload(world))]


def _video(world: World) -> Callable[[random.Random, Path], None]:
    wholes = [(file.suffix, file.read_bytes()) for file in world.videos]

    def attempt(rng: random.Random, folder: Path) -> None:
        suffix, whole = rng.choice(wholes)
        file = folder / f"clip{suffix}"
        file.write_bytes(damaged(rng, whole, [content for _, content in wholes]))
        with open_video(file, errors=rng.choice(("raise", "stop"))) as video:
            count, times = len(video), video.times
            assert count >= 1
            assert len(times) == count
            assert np.isfinite(times).all()
            assert video.fps >= 0
            wanted = rng.randrange(count)
            for index, image in video:
                assert image.shape == (video.height, video.width, 3)
                if index > 60:
                    break
            video.frame(wanted)

    return attempt


def _upload(world: World) -> Callable[[random.Random, Path], None]:
    wholes = [(file.suffix, file.read_bytes()) for file in world.videos]
    limits = Limits(resolution=640, video_seconds=10)

    def attempt(rng: random.Random, folder: Path) -> None:
        _, whole = rng.choice(wholes)
        content = damaged(rng, whole, [content for _, content in wholes])
        suffix = ending(content[:4096])
        if suffix is None:
            return
        file = folder / f"upload{suffix}"
        file.write_bytes(content)
        with contextlib.suppress(Refused):
            check_video(file, "clip", limits)

    return attempt

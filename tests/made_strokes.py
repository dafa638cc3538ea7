"""A folder of made clips in the form of the tennis clips, and networks that know who is in them.

Every picture carries the number of its clip and frame as a row of black and white blocks, which survive compression.
Whoever looks for persons and joints in it reads these, and gives the generator's own joints: all but the networks that
would have to be downloaded is real.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hhmnet.conversion import project
from hhmnet.pose.estimators import Pose
from hhmnet.skeleton import BLAZEPOSE33, KINECT20
from hhmnet.synthetic import CAMERAS, performance, render, write_video
from hhmnet.synthetic.scene import LENS, WIDTH

STROKES = {"b_slice": 1, "b_volley": 2, "backhand": 3, "f_volley": 4, "forehand": 5, "serve": 6, "smash": 9}
"""The tennis clips' classes, and the action of the sample set that stands for each."""

FPS = 15
_EVERY = 2  # frames of the sample set, of which there are 30 a second, to one of these
_BLOCK, _FRAME_BITS, _CLIP_BITS = 8, 8, 8
# What BlazePose has and Kinect hasn't lies where the nearest of Kinect's joints is.
_NEAREST = {"mouth": "head", "eye": "head", "ear": "head", "heel": "ankle"}
_NEAREST |= dict.fromkeys(("thumb", "index", "pinky"), "hand")


def make_strokes(folder: Path, rounds: int = 1) -> KnownPlayers:
    """Write ``videos/t001.mp4`` and so on and ``labels.csv`` to a folder.

    A round is a clip of every stroke in each of the folds 0, 1 and 2. Clips of fold 0 are called t001 and on, those of
    fold 1 t101, those of fold 2 t201. Each fold has a camera of its own, which is its scene.
    """
    (folder / "videos").mkdir(parents=True)
    players = KnownPlayers()
    rows = ["video,label,scene,fold,frames"]
    for fold in range(3):
        for number in range(rounds * len(STROKES)):
            name, label = f"t{100 * fold + number + 1:03d}.mp4", list(STROKES)[number % len(STROKES)]
            subject = 1 + number // len(STROKES) * 3 + fold
            frames = players.film(folder / "videos" / name, [(label, subject)], view=fold + 1)
            rows.append(f"{name},{label},{fold + 11},{fold},{frames}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return players


class KnownPlayers:
    """Films made players, and afterwards is the detector and the estimator that know them."""

    layout = BLAZEPOSE33

    def __init__(self) -> None:
        self.clips: list[np.ndarray] = []

    def film(self, file: Path, strokes: Sequence[tuple[str, int]], view: int) -> int:
        """Write a video of some strokes by these subjects, one behind the other; returns its frames."""
        pictures, joints = [], []
        for label, subject in strokes:
            acted = performance(STROKES[label], subject, episode=0)
            # Kinect's pictures are mirror images, an ordinary camera's aren't.
            shown = np.arange(0, len(acted.joints), _EVERY)
            pictures.append(render(acted, view, shown).pictures[:, :, ::-1])
            joints.append(CAMERAS[view].to_camera(acted.joints[shown]))
        film, number = np.concatenate(pictures).copy(), len(self.clips)
        for frame, picture in enumerate(film):
            _sign(picture, number << _FRAME_BITS | frame)
        write_video(file, film, FPS)
        self.clips.append(np.concatenate(joints))
        return len(film)

    def detect(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The player's box."""
        points = _pixels(self._seen(image))
        box = np.concatenate([points.min(0), points.max(0)])
        return box[None], np.array([0.9], np.float32)

    def estimate(self, image: np.ndarray, box: np.ndarray, region: np.ndarray | None = None) -> Pose:
        """The player's joints, whoever is asked about."""
        names = [_nearest(joint) for joint in BLAZEPOSE33.joints]
        seen = self._seen(image)[[KINECT20.index(name) for name in names]]
        hips = seen[[BLAZEPOSE33.index("left_hip"), BLAZEPOSE33.index("right_hip")]].mean(0)
        world = (seen - hips) * [-1, -1, 1]  # a Kinect's x goes to the left, its y up
        return Pose(_pixels(seen), np.ones(len(names)), world, found=1.0, region=None)

    def _seen(self, image: np.ndarray) -> np.ndarray:
        """The joints ``(20, 3)`` that a picture shows."""
        clip, frame = divmod(_read(image), 1 << _FRAME_BITS)
        return self.clips[clip][frame]


def _nearest(joint: str) -> str:
    """The joint of kinect20 in the place of one of blazepose33."""
    side, _, part = joint.partition("_")
    part = _NEAREST.get(part.split("_")[0], part)
    return "head" if joint == "nose" or part == "head" else f"{side}_{part}"


def _pixels(joints: np.ndarray) -> np.ndarray:
    mirrored = project(joints, LENS)
    return np.stack([WIDTH - 1 - mirrored[:, 0], mirrored[:, 1]], 1)


def _sign(picture: np.ndarray, number: int) -> None:
    for place in range(_FRAME_BITS + _CLIP_BITS):
        picture[:_BLOCK, place * _BLOCK : (place + 1) * _BLOCK] = 255 * (number >> place & 1)


def _read(picture: np.ndarray) -> int:
    inside = picture[2 : _BLOCK - 2].mean((0, 2)).reshape(-1, _BLOCK)[:, 2:-2].mean(1) > 127
    return sum(int(inside[place]) << place for place in range(_FRAME_BITS + _CLIP_BITS))

"""What the sample set's people do: ten actions, and the motion of one performance without camera or noise.

Two pairs of actions, lift a bottle / lift a book and swing a racket / swing a bat, share one motion each and
differ only in the object, which no skeleton shows: for the same subject, episode and view the skeletons of
both members of a pair are equal. A model that looks at skeletons alone gives both the same answer, so on any
set that holds both members it gets one of the two right at best. With 6 actions of their own and 2 pairs its
top-1 accuracy on a balanced set is therefore at most :data:`SKELETON_CEILING`, (6 + 2) / 10 = 80 %. Video may
pass that line.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hhmnet.synthetic.body import FPS, Subject, joints_of, make_subject, standing, turn
from hhmnet.synthetic.moves import MOTIONS, Motion

SUBJECTS = 10
EPISODES = 100  # per subject and action; file names leave two digits
MIN_FRAMES, MAX_FRAMES = 20, 80

_SUBJECT_STREAM, _MOTION_STREAM = 1, 2  # keep random streams of the same seed apart


@dataclass(frozen=True)
class Action:
    """A class of the sample set.

    Attributes:
        id: number in file names.
        name: what is done, in words.
        motion: its entry in :data:`~hhmnet.synthetic.moves.MOTIONS`.
        object: what the acting hand holds, if anything.
    """

    id: int
    name: str
    motion: str
    object: str | None = None


@dataclass(frozen=True)
class Performance:
    """One subject doing one action once, in the room: metres, y up from the floor, camera 1 on +z.

    Attributes:
        joints: ``(T, 20, 3)`` joints of the kinect20 layout; every bone keeps its length.
        fps: frames a second.
        action: the class.
        subject: body and style.
        episode: which of the subject's repetitions this is.
    """

    joints: np.ndarray
    fps: float
    action: Action
    subject: Subject
    episode: int

    @property
    def object(self) -> str | None:
        """What the acting hand holds, if anything."""
        return self.action.object

    @property
    def handedness(self) -> str:
        """``"left"`` or ``"right"``: the hand that acts and holds the object."""
        return self.subject.handedness


ACTIONS: tuple[Action, ...] = (
    Action(1, "wave", "wave"),
    Action(2, "throw", "throw"),
    Action(3, "pick up", "pick_up"),
    Action(4, "sit down", "sit_down"),
    Action(5, "stand up", "stand_up"),
    Action(6, "walk", "walk"),
    Action(7, "lift a bottle", "lift", "bottle"),
    Action(8, "lift a book", "lift", "book"),
    Action(9, "swing a racket", "swing", "racket"),
    Action(10, "swing a bat", "swing", "bat"),
)

# One right answer a motion: best top-1 accuracy of skeletons alone (0 to 1) on a set balanced over actions.
SKELETON_CEILING = len({action.motion for action in ACTIONS}) / len(ACTIONS)


def performance(action: int, subject: int, episode: int, seed: int = 0) -> Performance:
    """One subject's performance of one action, as it happens in the room.

    Depends on these numbers only, on ``action`` through its motion: the members of a pair come out equal.

    Args:
        action: action id, 1 to 10.
        subject: subject number, 1 to :data:`SUBJECTS`.
        episode: repetition, 0 to :data:`EPISODES` - 1.
        seed: seed of the whole set; not negative.

    Raises:
        ValueError: a number outside these ranges.
    """
    entries = {entry.id: entry for entry in ACTIONS}
    for field, value, low, high in (
        ("action", action, min(entries), max(entries)),
        ("subject", subject, 1, SUBJECTS),
        ("episode", episode, 0, EPISODES - 1),
        ("seed", seed, 0, None),
    ):
        if value < low or (high is not None and value > high):
            limits = f"at least {low}" if high is None else f"{low} to {high}"
            raise ValueError(f"sample set: field '{field}' must be {limits}, got {value}")
    entry = entries[action]
    motion = MOTIONS[entry.motion]
    person = make_subject(subject, np.random.default_rng([seed, _SUBJECT_STREAM, subject]))
    stream = list(MOTIONS).index(entry.motion)
    rng = np.random.default_rng([seed, _MOTION_STREAM, stream, subject, episode])
    u = _clock(motion, person, rng)
    pose = standing(person, len(u), rng)
    motion.move(u, pose, person, rng)
    joints = joints_of(pose, person)
    facing, place = rng.uniform(-motion.facing, motion.facing), rng.uniform(-0.2, 0.2, 2)
    shape = joints.shape
    joints = turn(joints.reshape(-1, 3), np.full(shape[0] * shape[1], facing)).reshape(shape)
    return Performance(joints + np.array([place[0], 0.0, place[1]]), FPS, entry, person, episode)


def _clock(motion: Motion, subject: Subject, rng: np.random.Generator) -> np.ndarray:
    """Time course ``u (T,)`` of one clip: it may start late or end early, and does not run evenly."""
    start, end = rng.uniform(-0.15, 0.2), rng.uniform(0.8, 1.15)
    seconds = rng.uniform(*motion.seconds) * (end - start) / subject.speed
    frames = int(np.clip(round(seconds * FPS), MIN_FRAMES, MAX_FRAMES))
    u = np.linspace(start, end, frames)
    return u + rng.uniform(-0.06, 0.06) * np.sin(np.pi * u)

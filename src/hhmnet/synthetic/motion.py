"""What the sample set's people do: ten actions, and how each moves a person who stands relaxed.

Two pairs of actions, lift a bottle / lift a book and swing a racket / swing a bat, share one motion each and differ
only in the object, which no skeleton shows: for the same subject, episode and view both skeletons are equal. So on a
balanced set skeletons alone reach at most :data:`SKELETON_CEILING`, (6 + 2) / 10 top-1. Video may pass that line.

A motion is a few key poses in time; between them every coordinate follows a quintic path (:func:`keyframes`), which
from rest to rest is the minimum-jerk path of human reaching (Flash and Hogan, 1985). Walking is a gait cycle instead.
Motions are written for a right-handed actor; :mod:`hhmnet.synthetic.body` mirrors them for a left-handed one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.interpolate import BPoly, PchipInterpolator

from hhmnet.synthetic.body import FPS, Pose, Subject, joints_of, make_subject, standing, turn

SUBJECTS = 10
EPISODES = 100  # per subject and action; file names leave two digits
MIN_FRAMES, MAX_FRAMES = 20, 80

_SUBJECT_STREAM, _MOTION_STREAM = 1, 2  # keep random streams of the same seed apart
_FREE, _ACTING = 0, 1  # limbs of a right-handed actor: left, right
Vector = tuple[float, float, float]
Key = tuple[float, Vector | None, Vector | None]  # time, wrist and elbow as in Pose; None: as at rest


class Action(NamedTuple):
    """A class of the sample set: number in file names, name, entry in :data:`MOTIONS`, what the acting hand holds."""

    id: int
    name: str
    motion: str
    object: str | None = None


ACTIONS = (
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


class Performance(NamedTuple):
    """One subject doing one action once, in the room: metres, y up from the floor, camera 1 on +z."""

    joints: np.ndarray  # (T, 20, 3) of the kinect20 layout; every bone keeps its length
    action: Action
    subject: Subject
    episode: int
    seed: int  # of the whole set

    def random(self, stream: int, *more: int) -> np.random.Generator:
        """Random numbers of this performance, the same for both members of a pair."""
        motion = list(MOTIONS).index(self.action.motion)
        return np.random.default_rng([self.seed, stream, motion, self.subject.number, self.episode, *more])


def performance(action: int, subject: int, episode: int, seed: int = 0) -> Performance:
    """One subject's performance of one action, as it happens in the room.

    It depends on these numbers only, on ``action`` (1 to 10) through its motion: the members of a pair come out equal.
    """
    entry = ACTIONS[action - 1]
    motion = MOTIONS[entry.motion]
    person = make_subject(subject, np.random.default_rng([seed, _SUBJECT_STREAM, subject]))
    acted = Performance(np.empty(0), entry, person, episode, seed)
    rng = acted.random(_MOTION_STREAM)
    # A clip may start late or end early, and its time does not run evenly.
    start, end = rng.uniform(-0.15, 0.2), rng.uniform(0.8, 1.15)
    seconds = rng.uniform(*motion.seconds) * (end - start) / person.speed
    u = np.linspace(start, end, int(np.clip(round(seconds * FPS), MIN_FRAMES, MAX_FRAMES)))
    u = u + rng.uniform(-0.06, 0.06) * np.sin(np.pi * u)
    pose = standing(person, len(u), rng)
    motion.move(u, pose, person, rng)
    turned = turn(joints_of(pose, person), rng.uniform(-motion.facing, motion.facing))
    x, z = rng.uniform(-0.2, 0.2, 2)
    return acted._replace(joints=turned + np.array([x, 0.0, z]))


class Motion(NamedTuple):
    """How a motion is performed: ``move(u, pose, subject, rng)`` turns relaxed standing into it.

    ``u (T,)`` is the time, from about 0 to about 1; ``seconds`` are the shortest and longest that takes at average
    speed, and ``facing`` is the largest angle between the actor's facing and camera 1, radians.
    """

    move: Callable[[np.ndarray, Pose, Subject, np.random.Generator], None]
    seconds: tuple[float, float]
    facing: float = 0.7


def keyframes(u: np.ndarray, *keys: tuple[float, float | Vector | np.ndarray]) -> np.ndarray:
    """Smooth path through ``(time, value)`` keys at ``u (T,)``: ``(T,)`` of numbers, ``(T, 3)`` of vectors.

    Quintic Hermite pieces with no acceleration at the keys. A key that is an end or a turning point is reached at rest;
    elsewhere the velocity is the weighted harmonic mean of its neighbours' (Fritsch and Butland, 1984), so nothing
    overshoots. Before the first and after the last key the path rests.
    """
    times = [time for time, _ in keys]
    values = np.array([value for _, value in keys], dtype=float)
    velocity = PchipInterpolator(times, values).derivative()(times)
    velocity[[0, -1]] = 0.0
    path = BPoly.from_derivatives(times, np.stack([values, velocity, np.zeros_like(values)], 1))
    return np.asarray(path(np.clip(u, times[0], times[-1])))


def _arm(pose: Pose, side: int, u: np.ndarray, rng: np.random.Generator, *keys: Key) -> None:
    """Lead one arm through its keys, which vary a little every time."""
    rest, down = pose.wrists[:, side].mean(0), pose.elbows[0, side]
    wander = pose.wrists[:, side] - rest
    wrists = [(t, rest if wrist is None else wrist + rng.normal(0.0, 0.06, 3)) for t, wrist, _ in keys]
    elbows = [(t, down if elbow is None else np.array(elbow)) for t, _, elbow in keys]
    pose.wrists[:, side] = keyframes(u, *wrists) + wander
    pose.elbows[:, side] = keyframes(u, *elbows)


def _rest(time: float) -> Key:
    """A key at which the arm hangs as it did."""
    return time, None, None


def _step(pose: Pose, side: int, u: np.ndarray, start: float, end: float, ahead: float) -> None:
    """Lift a foot and set it down ``ahead`` metres in front of where it stood."""
    pose.ankles[:, side, 2] += keyframes(u, (start, 0.0), (end, ahead))
    lift = 0.05 + 0.15 * abs(ahead)
    pose.ankles[:, side, 1] += keyframes(u, (start, 0.0), ((start + end) / 2, lift), (end, 0.0))


def _wave(u: np.ndarray, pose: Pose, subject: Subject, rng: np.random.Generator) -> None:
    up, down = rng.uniform(0.22, 0.3), rng.uniform(0.75, 0.85)
    raised = (rng.uniform(0.15, 0.45), rng.uniform(0.0, 0.5), rng.uniform(0.3, 0.45))
    elbow = (0.7, -1.0, 0.1)
    _arm(pose, _ACTING, u, rng, _rest(0.0), (up, raised, elbow), (down, raised, elbow), _rest(1.0))
    seconds = np.arange(len(u)) / FPS  # a wave keeps its own beat, however u runs
    swing = np.sin(2 * np.pi * (rng.uniform(1.4, 2.4) * subject.speed * seconds + rng.random()))
    swing *= subject.amplitude * rng.uniform(0.12, 0.32)
    swing *= keyframes(u, (up - 0.12, 0.0), (up + 0.05, 1.0), (down, 0.0))
    pose.wrists[:, _ACTING, 0] += swing
    pose.wrists[:, _ACTING, 1] -= 0.6 * swing**2
    pose.lean += keyframes(u, (0.0, 0.0), (up, 0.05), (down, 0.05), (1.0, 0.0))


def _lift(u: np.ndarray, pose: Pose, subject: Subject, rng: np.random.Generator) -> None:
    up, down = rng.uniform(0.32, 0.42), rng.uniform(0.6, 0.72)
    near = (rng.uniform(-0.2, 0.2), rng.uniform(-0.2, 0.45), rng.uniform(0.4, 0.6))
    elbow = (0.5, -1.0, -0.3)
    waist = (0.05, -0.55, 0.5)
    held = (up, near, elbow), (down, near, elbow)
    _arm(pose, _ACTING, u, rng, _rest(0.0), (0.6 * up, waist, None), *held, _rest(1.0))
    look = rng.uniform(-0.2, 0.35)
    pose.nod += keyframes(u, (0.1, 0.0), (up, look), (down, look), (1.0, 0.0))
    pose.bend -= keyframes(u, (0.1, 0.0), (up, 0.06), (down, 0.06), (1.0, 0.0))


def _throw(u: np.ndarray, pose: Pose, subject: Subject, rng: np.random.Generator) -> None:
    wide = subject.amplitude
    back, go = rng.uniform(0.32, 0.40), rng.uniform(0.54, 0.62)
    height = rng.uniform(0.05, 0.45)  # from sidearm to overarm
    path = (
        (0.5 * back, (0.10, -0.45, 0.45), (0.6, -0.4, -0.8)),
        (back, (0.60, height, -0.40 * wide), (0.6, -0.8, 0.0)),
        (go, (0.35, 0.10 + 0.8 * height, 0.75 * wide), (0.8, -0.6, -0.1)),
        (go + 0.14, (-0.35 * wide, -0.45, 0.65), (0.9, -0.2, 0.0)),
    )
    _arm(pose, _ACTING, u, rng, _rest(0.0), *path, _rest(1.0))
    aim = (0.05, -0.35, 0.45)
    _arm(pose, _FREE, u, rng, _rest(0.0), (back, aim, (0.5, -1.0, -0.3)), _rest(go + 0.14))
    _turn_into(u, pose, subject, rng, back, go)
    pose.bend += keyframes(u, (0.0, 0.0), (back, -0.10), (go + 0.1, 0.35 * wide), (1.0, 0.0))


def _swing(u: np.ndarray, pose: Pose, subject: Subject, rng: np.random.Generator) -> None:
    wide = subject.amplitude
    back, hit = rng.uniform(0.32, 0.40), rng.uniform(0.54, 0.62)
    low = rng.uniform(-0.45, 0.10)
    path = (
        (back, (0.75, low, -0.40 * wide), (-0.1, -0.3, -1.0)),
        (hit, (0.45, low + 0.05, 0.75), (0.3, -1.0, -0.3)),
        (hit + 0.16, (-0.55 * wide, 0.15, 0.40), (0.7, -0.7, 0.6)),
    )
    _arm(pose, _ACTING, u, rng, _rest(0.0), *path, _rest(1.0))
    aim = (0.10, -0.40, 0.50)
    _arm(pose, _FREE, u, rng, _rest(0.0), (back, aim, (0.6, -1.0, -0.3)), _rest(1.0))
    _turn_into(u, pose, subject, rng, back, hit)
    pose.bend += keyframes(u, (0.0, 0.0), (back, 0.10), (1.0, 0.0))


def _turn_into(
    u: np.ndarray, pose: Pose, subject: Subject, rng: np.random.Generator, back: float, go: float
) -> None:
    """Wind up and unwind the shoulders and step ahead: what throwing and swinging share."""
    wind = subject.amplitude * rng.uniform(0.45, 0.75)
    pose.twist += keyframes(u, (0.0, 0.0), (back, -wind), (go + 0.12, 0.8 * wind), (1.0, 0.0))
    pose.heading += keyframes(u, (0.0, 0.0), (back, -0.4 * wind), (go + 0.12, 0.35 * wind), (1.0, 0.0))
    pose.gaze -= keyframes(u, (0.0, 0.0), (back, -0.4 * wind), (go + 0.12, 0.35 * wind), (1.0, 0.0))
    stride = rng.uniform(0.08, 0.3)
    _step(pose, _FREE, u, back - 0.12, go - 0.04, stride)
    pose.root[:, 2] += keyframes(u, (0.0, 0.0), (back, -0.05), (go + 0.1, 0.55 * stride))
    sink = 0.1 * stride
    pose.root[:, 1] -= keyframes(u, (0.1, 0.0), (back, 0.03), (go + 0.05, 0.03 + sink), (1.0, sink))


def _pick_up(u: np.ndarray, pose: Pose, subject: Subject, rng: np.random.Generator) -> None:
    reach, leave = rng.uniform(0.40, 0.48), rng.uniform(0.52, 0.6)
    bend = 1.35 - 0.6 * subject.squat + rng.normal(0.0, 0.05)
    bones = subject.bones
    trunk = (bones["spine"] + bones["shoulder_center"] - 0.55 * bones["shoulder"]) * np.cos(bend)
    height = rng.uniform(0.05, 0.50)  # of the thing that is picked up
    low = height + bones["hand"] + 0.9 * subject.arm - trunk
    drop = subject.hip_height - np.clip(low, 0.42 * subject.hip_height, 0.96 * subject.hip_height)
    pose.root[:, 1] -= keyframes(u, (0.0, 0.0), (reach, drop), (leave, drop), (1.0, 0.0))
    back = 0.10 + 0.10 * (1 - subject.squat)
    pose.root[:, 2] -= keyframes(u, (0.0, 0.0), (reach, back), (leave, back), (1.0, 0.0))
    pose.bend += keyframes(u, (0.0, 0.0), (reach - 0.02, bend), (leave + 0.02, bend), (1.0, 0.0))
    pose.nod += keyframes(u, (0.0, 0.0), (reach - 0.1, 0.6 * bend), (leave, 0.6 * bend), (1.0, 0.0))
    aside = rng.uniform(-0.45, 0.35)
    pose.twist += keyframes(u, (0.0, 0.0), (reach, 0.5 * aside + 0.2), (leave, 0.5 * aside + 0.2), (1.0, 0.0))
    floor = (-0.2 * aside, -0.92, 0.25)
    carry = (0.08, rng.uniform(-0.8, -0.4), rng.uniform(0.1, 0.5))
    elbow = (0.7, 0.2, -1.0)
    _arm(pose, _ACTING, u, rng, _rest(0.05), (reach, floor, elbow), (leave, floor, elbow), (1.0, carry, None))
    brace = (0.05, -0.75, 0.35)
    _arm(pose, _FREE, u, rng, _rest(0.05), (reach, brace, elbow), (leave, brace, elbow), _rest(1.0))


def _sit_down(u: np.ndarray, pose: Pose, subject: Subject, rng: np.random.Generator) -> None:
    done = rng.uniform(0.82, 0.92)
    drop = subject.hip_height - subject.height * rng.uniform(0.28, 0.33)
    pose.root[:, 1] -= keyframes(u, (0.05, 0.0), (done, drop))
    pose.root[:, 2] -= keyframes(u, (0.0, 0.0), (0.9 * done, rng.uniform(0.88, 0.98) * subject.bones["knee"]))
    recline = rng.uniform(-0.12, 0.15)
    pose.bend += keyframes(u, (0.0, 0.0), (0.55 * done, rng.uniform(0.55, 0.9)), (1.0, recline))
    pose.nod += keyframes(u, (0.0, 0.0), (0.5 * done, 0.35), (1.0, 0.0))
    elbow = (0.6, -0.2, -1.0)
    for side in (_FREE, _ACTING):
        lap = (rng.uniform(-0.1, 0.15), -0.75, rng.uniform(0.25, 0.55))
        _arm(pose, side, u, rng, _rest(0.0), (0.5 * done, (0.1, -0.7, 0.5), elbow), (1.0, lap, elbow))


def _stand_up(u: np.ndarray, pose: Pose, subject: Subject, rng: np.random.Generator) -> None:
    _sit_down(1.0 - u, pose, subject, rng)


def _walk(u: np.ndarray, pose: Pose, subject: Subject, rng: np.random.Generator) -> None:
    speed = 0.95 * subject.speed  # metres a second
    # Strides a second. The root, since faster walkers take quicker and longer strides alike.
    rate = np.sqrt(speed) / (0.68 * subject.height)
    curve = rng.uniform(0.05, 0.6) * rng.choice([-1.0, 1.0])  # radians a metre
    start, middle = rng.random(), (len(u) - 1) / 2
    cycle = rate * np.arange(len(u)) / FPS + start
    stance, apart = 0.58, 0.03 * subject.height

    def along(cycles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Place ``(T, 3)`` on the floor and heading ``(T,)`` when the gait has run that many cycles."""
        bow = curve * ((cycles - start) / rate - middle / FPS) * speed
        return np.stack([1 - np.cos(bow), 0 * bow, np.sin(bow)], -1) / curve, bow

    def foothold(cycles: np.ndarray, lag: float, outward: float) -> np.ndarray:
        place, bow = along(np.floor(cycles) + stance / 2 - lag)  # the body passes over the foot in mid-stance
        return place + turn(np.array([outward, subject.ankle_height, 0.0]), bow)

    place, bow = along(cycle)
    for side, (lag, outward) in enumerate(((0.0, apart), (0.5, -apart))):
        run = cycle + lag
        part = run % 1.0
        swing = np.clip((part - stance) / (1 - stance), 0.0, 1.0)
        ease = 0.5 - 0.5 * np.cos(np.pi * swing[:, None])
        here, there = foothold(run, lag, outward), foothold(run + 1, lag, outward)
        pose.ankles[:, side] = here + ease * (there - here)
        pose.ankles[:, side, 1] += 0.05 * subject.amplitude * np.sin(np.pi * swing) ** 2
        roll = ((0.0, -0.25), (0.1, 0.0), (0.4, 0.0), (0.66, 0.8), (0.9, -0.25), (1.0, -0.25))
        pose.heel[:, side] = keyframes(part, *roll)
        pose.wrists[:, side, 2] -= 0.38 * subject.amplitude * np.cos(2 * np.pi * run)
        pose.wrists[:, side, 1] += 0.10 * (1 - np.cos(2 * np.pi * run)) / 2
    pose.heading += bow
    pose.toes += bow[:, None]
    pose.twist += 0.12 * np.cos(2 * np.pi * cycle)
    pose.bend += 0.04
    mid = 2 * np.pi * (cycle - stance / 2)
    bob = np.stack([0.018 * np.cos(mid), 0.015 * np.cos(2 * mid) - 0.04, 0 * mid], -1)
    pose.root += place + turn(bob, bow)


MOTIONS: dict[str, Motion] = {
    "wave": Motion(_wave, (1.6, 2.4)),
    "throw": Motion(_throw, (1.2, 1.8)),
    "pick_up": Motion(_pick_up, (1.4, 2.2)),
    "sit_down": Motion(_sit_down, (1.0, 1.6)),
    "stand_up": Motion(_stand_up, (0.9, 1.5)),
    "walk": Motion(_walk, (1.3, 1.7), facing=np.pi),
    "lift": Motion(_lift, (1.4, 2.3)),
    "swing": Motion(_swing, (1.2, 1.8)),
}

"""The sample set's pictures: a body where the joints are, an object in the hand, and nothing else that tells."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from hhmnet.conversion import project
from hhmnet.skeleton import KINECT20
from hhmnet.synthetic import ACTIONS, CAMERAS, SUBJECTS, Performance, performance, render
from hhmnet.synthetic.rendering import Look, draw, look
from hhmnet.synthetic.scene import HEIGHT, LENS, WIDTH

JOINT = {name: KINECT20.index(name) for name in KINECT20.joints}
PAIRS = [("bottle", 7, 8), ("racket", 9, 10)]
SEED = 11


def seen_joints(acted: Performance, view: int) -> np.ndarray:
    """Pixels ``(T, 20, 2)`` of the joints, by the camera of the NW-UCLA reader."""
    return project(CAMERAS[view].to_camera(acted.joints), LENS)


def away(acted: Performance, view: int) -> Performance:
    """The same performance, but far out of the picture: only the room is seen."""
    return dataclasses.replace(acted, joints=acted.joints + 99.0 * CAMERAS[view].rotation[0])


def grown(mask: np.ndarray, by: int) -> np.ndarray:
    """A mask ``(T, H, W)`` and what lies up to ``by`` pixels from it, in steps along rows and columns."""
    for _ in range(by):
        padded = np.pad(mask, ((0, 0), (1, 1), (1, 1)))
        mask = padded[:, 1:-1, 1:-1] | padded[:, 2:, 1:-1] | padded[:, :-2, 1:-1]
        mask = mask | padded[:, 1:-1, 2:] | padded[:, 1:-1, :-2]
    return mask


# Pictures


def test_pictures_are_decided_by_their_numbers_alone() -> None:
    acted = performance(8, 3, 2, SEED)
    pictures = render(acted, 2, SEED)
    assert pictures.shape == (len(acted.joints), HEIGHT, WIDTH, 3)
    assert pictures.dtype == np.uint8
    np.testing.assert_array_equal(render(performance(8, 3, 2, SEED), 2, SEED), pictures)
    for other in (
        render(acted, 1, SEED),
        render(acted, 2, SEED + 1),
        render(performance(8, 3, 3, SEED), 2, SEED),
    ):
        count = min(len(other), len(pictures))
        assert (other[:count] != pictures[:count]).any(-1).mean() > 0.3


def test_a_few_frames_look_as_among_all_of_them() -> None:
    acted = performance(9, 4, 0, SEED)
    frames = [17, 3, 3, 0]
    np.testing.assert_array_equal(render(acted, 1, SEED, frames), render(acted, 1, SEED)[frames])


def test_an_unknown_view_is_named() -> None:
    with pytest.raises(ValueError, match="'view'"):
        render(performance(1, 1, 0), 4)


# The body


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.name)
def test_joints_lie_on_the_body(action) -> None:
    for subject, view in ((1, 1), (2, 2), (5, 3)):
        acted = performance(action.id, subject, 1, SEED)
        frames = np.arange(0, len(acted.joints), 5)
        body = np.isfinite(draw(acted, view, SEED, frames).depth)
        column, row = np.moveaxis(seen_joints(acted, view)[frames].round().astype(int), -1, 0)
        inside = (column >= 0) & (column < WIDTH) & (row >= 0) & (row < HEIGHT)
        assert inside.mean() > 0.9
        frame = np.nonzero(inside)[0]
        assert body[frame, row[inside], column[inside]].mean() > 0.995
        aside = np.clip(column[inside] + 35, 0, WIDTH - 1)
        assert body[frame, row[inside], aside].mean() < 0.3  # the body isn't just everywhere


def test_the_body_is_as_far_as_its_joints() -> None:
    acted = performance(1, 1, 0, SEED)
    depth = draw(acted, 1, SEED).depth
    column, row = np.moveaxis(seen_joints(acted, 1)[:, JOINT["head"]].round().astype(int), -1, 0)
    found = depth[np.arange(len(depth)), row, column]
    true = CAMERAS[1].to_camera(acted.joints)[:, JOINT["head"], 2]
    assert (np.abs(found + 0.09 - true) < 0.06).all()  # the face is a head's radius nearer


def test_only_the_body_and_its_shadow_differ_from_the_room() -> None:
    acted = performance(2, 6, 0, SEED)
    frames = np.arange(0, len(acted.joints), 4)
    with_body, without = (render(person, 3, SEED, frames) for person in (acted, away(acted, 3)))
    body = np.isfinite(draw(acted, 3, SEED, frames).depth)
    changed = (with_body != without).any(-1)
    assert changed[body].mean() > 0.97
    ground = seen_joints(acted, 3)[frames][:, [JOINT["left_ankle"], JOINT["right_ankle"]], 1].min(1) - 15
    above = np.arange(HEIGHT)[:, None] < ground[:, None, None]
    assert not changed[~grown(body, 1) & above].any()


# What tells the members of a pair apart


@pytest.mark.parametrize(("name", "first", "second"), PAIRS)
def test_the_members_of_a_pair_differ_in_the_object_alone(name: str, first: int, second: int) -> None:
    reach = {"bottle": 0.3, "racket": 0.75}[name]
    sizes = []
    for subject in (1, 2, 3, 4):
        for view in CAMERAS:
            one, other = performance(first, subject, 0, SEED), performance(second, subject, 0, SEED)
            np.testing.assert_array_equal(one.joints, other.joints)
            frames = np.arange(0, len(one.joints), 6)
            differ = (render(one, view, SEED, frames) != render(other, view, SEED, frames)).any(-1)
            hand = CAMERAS[view].to_camera(one.joints[frames])[:, JOINT[f"{one.handedness}_hand"]]
            middle = project(hand, LENS)[:, None, None]
            pixels = np.stack(np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT)), -1)
            farthest = reach * LENS.fx / (hand[:, 2] - reach)
            near = np.linalg.norm(pixels - middle, axis=-1) < farthest[:, None, None]
            assert not differ[~near].any()
            sizes += differ.sum((1, 2)).tolist()
    assert np.median(sizes) > 100
    assert np.mean(np.array(sizes) < 25) < 0.1  # the body seldom hides the object


def test_an_object_moves_with_the_hand() -> None:
    for action in (7, 8, 9, 10):
        acted = performance(action, 1, 0, SEED)
        empty_handed = dataclasses.replace(acted, action=dataclasses.replace(acted.action, object=None))
        pair = [draw(person, 1, SEED) for person in (acted, empty_handed)]
        shown = (pair[0].pictures != pair[1].pictures).any(-1)
        rows, columns = np.mgrid[:HEIGHT, :WIDTH]
        seen = shown.sum((1, 2)) > 25
        middles = np.stack(
            [(shown * axis).sum((1, 2)) / np.maximum(shown.sum((1, 2)), 1) for axis in (columns, rows)], -1
        )
        hand = seen_joints(acted, 1)[:, JOINT[f"{acted.handedness}_hand"]]
        assert seen.mean() > 0.6
        assert np.linalg.norm(middles - hand, axis=-1)[seen].max() < 50
        assert np.corrcoef(middles[seen].ravel(), hand[seen].ravel())[0, 1] > 0.9


def hand_crops(action: int, subject: int, episode: int, view: int) -> np.ndarray:
    """What is seen within 24 pixels of the acting hand in four frames from the middle of a clip."""
    acted = performance(action, subject, episode, SEED)
    frames = np.linspace(0.3, 0.7, 4) * len(acted.joints)
    pictures = render(acted, view, SEED, frames.astype(int))
    hands = (
        seen_joints(acted, view)[frames.astype(int), JOINT[f"{acted.handedness}_hand"]].round().astype(int)
    )
    padded = np.pad(pictures, ((0, 0), (24, 24), (24, 24), (0, 0)), "edge")
    return np.stack([p[y : y + 48, x : x + 48] for p, (x, y) in zip(padded, hands, strict=True)])


def test_colours_about_the_hand_tell_a_bottle_from_a_book() -> None:
    """Shares of strong red and strong green to blue, compared among clips of the same performance."""
    right = []
    for subject in range(1, 7):
        for view in CAMERAS:
            shares = []
            for action in (7, 8):
                crops = hand_crops(action, subject, 1, view)[:, 8:40, 8:40].reshape(-1, 3).astype(float)
                red = (crops[:, 0] > 1.6 * crops[:, 1]) & (crops[:, 0] > 1.2 * crops[:, 2])
                glass = (crops[:, 1] > 1.3 * crops[:, 0]) | (crops[:, 2] > 1.6 * crops[:, 0])
                shares.append(red.mean() - glass.mean())
            right.append(shares[1] > shares[0])
    assert np.mean(right) > 0.9


# What tells nothing


def held_out_accuracy(features: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> float:
    """Accuracy of ridge regression on one-hot labels, each group classified by the others."""
    x = (features - features.mean(0)) / features.std(0).clip(1e-6)
    hits = 0
    for group in np.unique(groups):
        train = groups != group
        gram = x[train] @ x[train].T + x.shape[1] * np.eye(train.sum())
        scores = x[~train] @ x[train].T @ np.linalg.solve(gram, np.eye(labels.max() + 1)[labels[train]])
        hits += int((scores.argmax(1) == labels[~train]).sum())
    return hits / len(labels)


def of_every_motion(
    measure: Callable[[Performance, int], np.ndarray], episodes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A measure of one action of every motion, the motion and the subject, over subjects and episodes."""
    motions = sorted({action.motion for action in ACTIONS})
    ids = [next(action.id for action in ACTIONS if action.motion == motion) for motion in motions]
    features, labels, subjects = [], [], []
    for subject in range(1, SUBJECTS + 1):
        for episode in range(episodes):
            for label, action in enumerate(ids):
                features.append(
                    measure(performance(action, subject, episode, SEED), 1 + (subject + episode) % 3)
                )
                labels.append(label)
                subjects.append(subject)
    return np.array(features), np.array(labels), np.array(subjects)


def clothes(acted: Performance, view: int) -> np.ndarray:
    worn = look(acted, view, SEED)
    strips = [
        getattr(worn, field.name)
        for field in dataclasses.fields(Look)
        if field.name not in ("build", "light")
    ]
    means = np.concatenate([strip.mean(0) for strip in strips])
    return np.concatenate([means, means**2, worn.light, [worn.build, len(worn.shirt), len(worn.trousers)]])


def backdrop(acted: Performance, view: int) -> np.ndarray:
    pictures = render(away(acted, view), view, SEED, [0, 15]).astype(float)
    cells = pictures.reshape(2, 6, HEIGHT // 6, 8, WIDTH // 8, 3).mean((2, 4))
    return np.concatenate([cells.ravel(), (cells[1] - cells[0]).ravel(), pictures.std((1, 2)).ravel()])


@pytest.mark.parametrize(("measure", "episodes"), [(clothes, 10), (backdrop, 2)])
def test_clothes_and_rooms_say_nothing_about_the_motion(measure, episodes: int) -> None:
    features, labels, subjects = of_every_motion(measure, episodes)
    chance = 1 / (labels.max() + 1)
    spread = np.sqrt(chance * (1 - chance) / len(labels))
    assert held_out_accuracy(features, labels, subjects) < chance + 3 * spread
    told = features + 0.3 * features.std(0) * (labels[:, None] == np.arange(features.shape[1]) % 8)
    assert held_out_accuracy(told, labels, subjects) > chance + 6 * spread  # as it would if they did


def test_clothes_and_rooms_of_a_pair_are_the_same_and_change_with_everything_else() -> None:
    for _, first, second in PAIRS:
        one, other = performance(first, 4, 1, SEED), performance(second, 4, 1, SEED)
        for measure in (clothes, backdrop):
            np.testing.assert_array_equal(measure(one, 2), measure(other, 2))
            assert not np.allclose(measure(one, 2), measure(one, 3))
            assert not np.allclose(measure(one, 2), measure(performance(first, 4, 2, SEED), 2))


def test_a_person_keeps_skin_hair_and_build() -> None:
    worn = [
        look(performance(action, 4, action, SEED), view, SEED) for action in (1, 6, 10) for view in CAMERAS
    ]
    for field in ("skin", "hair", "build"):
        assert len({np.asarray(getattr(one, field)).tobytes() for one in worn}) == 1
    assert len({one.shirt.tobytes() for one in worn}) == len(worn)
    assert not np.allclose(worn[0].skin, look(performance(1, 5, 1, SEED), 1, SEED).skin)

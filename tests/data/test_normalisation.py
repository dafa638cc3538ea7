from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch

from hhmnet.data.transform import (
    CENTERS,
    DataConfig,
    center,
    face_camera,
    prepare,
    rescale,
)
from hhmnet.skeleton import COCO17, KINECT20, NTU25, SkeletonLayout
from made_ragged import about_y, make, moved

# Centring.


@pytest.mark.parametrize("gaps", [0.0, 0.4])
@pytest.mark.parametrize("how", CENTERS)
def test_centring_matches_a_loop(how: str, gaps: float) -> None:
    clips = make((8, 8, 8), gaps=gaps)
    x = clips.joints.view(3, 8, 2, 20, 3)
    mask = None if clips.present is None else clips.present.view(3, 8, 2)
    found = center(x, how, 0, mask)
    for n, t, m in itertools.product(range(3), range(8), range(2)):
        if mask is not None and not mask[n, t, m]:
            assert not found[n, t, m].any()
            continue
        seen = [s for s in range(8) if mask is None or mask[n, s, 0]]
        lead = 0 if mask is None or mask[n, t, 0] else m
        origin = {"none": torch.zeros(3), "first": x[n, seen[0], 0, 0], "frame": x[n, t, lead, 0]}[how]
        torch.testing.assert_close(found[n, t, m], x[n, t, m] - origin)


@pytest.mark.parametrize("how", ["first", "frame"])
def test_without_the_first_person_the_next_one_is_the_origin(how: str) -> None:
    """Else the others would stand metres away, in the camera's coordinates."""
    x = make((6, 6), persons=3).joints.view(2, 6, 3, 20, 3)
    mask = torch.ones(2, 6, 3).bool()
    mask[0, :, 0] = mask[0, 2, 1] = mask[1, 3, 0] = False
    x = x * mask[..., None, None]
    root = KINECT20.root
    found = center(x, how, root, mask)
    if how == "first":
        origin = torch.stack([x[0, 0, 1, root], x[1, 0, 0, root]])[:, None].expand(-1, 6, -1)
    else:
        origin = torch.stack([x[0, :, 1, root], x[1, :, 0, root]])
        origin[0, 2], origin[1, 3] = x[0, 2, 2, root], x[1, 3, 1, root]
    expected = (x - origin[:, :, None, None]) * mask[..., None, None]
    torch.testing.assert_close(found, expected)


def test_nobody_at_all_has_no_origin() -> None:
    x, mask = torch.zeros(1, 4, 2, 20, 3), torch.zeros(1, 4, 2).bool()
    for how in CENTERS:
        assert torch.equal(center(x, how, 0, mask), x)


@pytest.mark.parametrize("gaps", [0.0, 0.3])
@pytest.mark.parametrize("how", ["first", "frame"])
def test_where_a_clip_stands_does_not_matter(how: str, gaps: float) -> None:
    clips = make(gaps=gaps)
    there = moved(clips, clips.joints + torch.tensor([3.0, -1.0, 2.0]))
    config = DataConfig(frames=8, persons=2, center=how)
    torch.testing.assert_close(
        prepare(there, KINECT20, config)[0], prepare(clips, KINECT20, config)[0], atol=1e-4, rtol=1e-4
    )


# Facing the camera.


@pytest.mark.parametrize("gaps", [0.0, 0.3])
@pytest.mark.parametrize("how", ["first", "mean"])
@pytest.mark.parametrize("degrees", [30, 90, 200])
@pytest.mark.parametrize("layout", [KINECT20, NTU25], ids=lambda layout: layout.name)
def test_where_a_clip_is_filmed_from_does_not_matter(
    layout: SkeletonLayout, degrees: float, how: str, gaps: float
) -> None:
    clips = make((5, 12, 9), gaps=gaps, layout=layout)
    turned = moved(clips, clips.joints @ about_y(degrees).T)
    config = DataConfig(frames=8, persons=2, facing=how)
    expected = prepare(clips, layout, config)[0]
    torch.testing.assert_close(prepare(turned, layout, config)[0], expected, atol=1e-4, rtol=1e-4)
    plain = dataclasses.replace(config, facing="none")
    assert (prepare(turned, layout, plain)[0] - prepare(clips, layout, plain)[0]).abs().max() > 0.1


@pytest.mark.parametrize("how", ["first", "mean"])
def test_hips_and_shoulders_lie_along_x_with_the_left_ones_first(how: str) -> None:
    clips = make((6, 6))
    x = face_camera(clips.joints.view(2, 6, 2, 20, 3), how, KINECT20, None)
    across = torch.zeros(2, 6, 3)
    for name in ("shoulder", "hip"):
        across += x[:, :, 0, KINECT20.index(f"left_{name}")] - x[:, :, 0, KINECT20.index(f"right_{name}")]
    line = across[:, 0] if how == "first" else across.mean(1)
    torch.testing.assert_close(line[:, 2], torch.zeros(2), atol=1e-5, rtol=0)
    assert (line[:, 0] < 0).all()


def test_facing_is_a_rotation_about_the_vertical_axis() -> None:
    clips = make((6, 6))
    x = clips.joints.view(2, 6, 2, 20, 3)
    y = face_camera(x, "mean", KINECT20, None)
    torch.testing.assert_close(y[..., 1], x[..., 1])
    for n in range(2):
        before, after = (torch.pdist(z[n].flatten(0, 2)) for z in (x, y))
        torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)


def test_facing_first_takes_the_first_frame_with_a_body() -> None:
    clips = make((6,))
    mask = torch.ones(1, 6, 2).bool()
    mask[0, :2, 0] = False
    x = clips.joints[None] * mask[..., None, None]
    found = face_camera(x, "first", KINECT20, mask)
    torch.testing.assert_close(found[:, 2:], face_camera(x[:, 2:], "first", KINECT20, None))


@pytest.mark.parametrize("how", ["first", "mean"])
def test_facing_leaves_bodies_alone_whose_direction_is_unknown(how: str) -> None:
    """Without anybody, or with one who lies on the side, there is nothing to turn by."""
    clips = make((6,))
    nobody, mask = torch.zeros(1, 6, 2, 20, 3), torch.zeros(1, 6, 2).bool()
    assert torch.equal(face_camera(nobody, how, KINECT20, mask), nobody)
    upright = clips.joints[None].clone()
    upright[..., 0] = upright[..., 2] = 0.5
    torch.testing.assert_close(face_camera(upright, how, KINECT20, None), upright)


@pytest.mark.parametrize("how", ["first", "mean"])
def test_without_the_first_person_the_next_one_is_faced_and_measured(how: str) -> None:
    x = make((6,)).joints[None].clone()
    mask = torch.ones(1, 6, 2).bool()
    mask[0, :, 0] = mask[0, 0, 1] = False
    x = x * mask[..., None, None]
    alone, seen = x[:, :, 1:], mask[:, :, 1:]
    faced = face_camera(x, how, KINECT20, mask)[:, :, 1:]
    torch.testing.assert_close(faced, face_camera(alone, how, KINECT20, seen))
    assert (faced - alone).abs().max() > 0.1
    scaled = rescale(x, "trunk", KINECT20, mask)[:, :, 1:]
    torch.testing.assert_close(scaled, rescale(alone, "trunk", KINECT20, seen))


def test_facing_needs_three_dimensions() -> None:
    clips = make(layout=COCO17)
    with pytest.raises(ValueError, match="field 'facing' needs a 3-D layout, coco17 has 2 dimensions"):
        prepare(clips, COCO17, DataConfig(facing="first", persons=2))


# Scale.


@pytest.mark.parametrize("gaps", [0.0, 0.3])
@pytest.mark.parametrize("scale", ["trunk", "box"])
@pytest.mark.parametrize("layout", [KINECT20, NTU25, COCO17], ids=lambda layout: layout.name)
def test_how_large_a_clip_is_does_not_matter(layout: SkeletonLayout, scale: str, gaps: float) -> None:
    clips = make((5, 12, 4), gaps=gaps, layout=layout)
    config = DataConfig(frames=8, persons=2, scale=scale)
    expected = prepare(clips, layout, config)[0]
    found = prepare(moved(clips, clips.joints * 37.0), layout, config)[0]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_trunk_is_the_mean_way_from_shoulders_to_hips() -> None:
    mask = torch.tensor([1, 0, 1, 1, 0, 1]).bool()[None, :, None].expand(1, 6, 2)
    x = make((6,)).joints[None] * mask[..., None, None]
    lengths = [
        (x[0, t, 0, KINECT20.index(f"{side}_shoulder")] - x[0, t, 0, KINECT20.index(f"{side}_hip")]).norm()
        for t in (0, 2, 3, 5)
        for side in ("left", "right")
    ]
    torch.testing.assert_close(rescale(x, "trunk", KINECT20, mask), x / torch.stack(lengths).mean())


@pytest.mark.parametrize("gaps", [0.0, 0.3])
def test_box_spans_minus_1_to_1_on_every_axis(gaps: float) -> None:
    x, mask = prepare(make((5, 12, 4), gaps=gaps), KINECT20, DataConfig(frames=8, persons=2, scale="box"))
    rows = x.permute(0, 2, 4, 3, 1)
    for n in range(3):
        seen = rows[n] if mask is None else rows[n][mask[n]]
        torch.testing.assert_close(seen.reshape(-1, 3).amin(0), -torch.ones(3))
        torch.testing.assert_close(seen.reshape(-1, 3).amax(0), torch.ones(3))

from __future__ import annotations

import numpy as np

from hhmnet.pose.clips import ClipConfig, clip_fields, mix
from hhmnet.pose.estimate import VideoPoses
from hhmnet.sample import Sample
from hhmnet.skeleton import BLAZEPOSE33, COCO17, KINECT20, NTU25

PERSONS, FRAMES = 2, 6


def poses() -> VideoPoses:
    rng = np.random.default_rng(0)
    shape = (PERSONS, FRAMES, BLAZEPOSE33.num_joints)
    world = rng.normal(0, 0.4, (*shape, 3)).astype(np.float32)
    confidence = np.full(shape, 0.9, np.float32)
    confidence[0, :, BLAZEPOSE33.index("left_wrist")] = 0
    present = np.ones((PERSONS, FRAMES), bool)
    present[1, 4:] = False
    pixels = (world[..., :2] * 100 + 160).astype(np.float32)
    for array in (world, confidence, pixels):
        array[~present] = 0
    pixels[confidence == 0] = 0  # its place in the room is a guess, and stays
    boxes = np.full((PERSONS, FRAMES, 4), 5, np.float32)
    return VideoPoses(
        BLAZEPOSE33, pixels, confidence, world, boxes, present, ~present & False, (320, 240), 30.0, [], 0, ""
    )


def test_the_fields_make_a_sample() -> None:
    for layout in (KINECT20, NTU25, COCO17, BLAZEPOSE33):
        sample = Sample("a", -1, video="a.mp4", **clip_fields(poses(), layout, ClipConfig()))
        layout.check(sample.joints)
        assert (sample.num_persons, sample.num_frames) == (PERSONS, FRAMES)
        assert sample.video_frames is not None
        assert sample.video_frames.tolist() == sample.frame_index.tolist() == [*range(FRAMES)]


def test_axes_are_a_kinects_and_mirrored_pictures_have_x_the_other_way() -> None:
    seen = poses()
    assert seen.world is not None
    wanted, trust = mix(seen.world, seen.confidence, BLAZEPOSE33, KINECT20)
    straight = clip_fields(seen, KINECT20, ClipConfig(root="zero"))["joints"]
    mirrored = clip_fields(seen, KINECT20, ClipConfig(root="zero", mirrored=True))["joints"]
    np.testing.assert_allclose(straight, wanted * (-1, -1, 1), atol=1e-6)
    np.testing.assert_allclose(mirrored, wanted * (1, -1, 1), atol=1e-6)
    assert not (trust > 0).all()


def test_a_joint_that_is_not_seen_stays_with_its_body() -> None:
    """A zero would put it at the camera, some metres away from the others."""
    seen = poses()
    wrist = KINECT20.index("left_wrist")
    fields = clip_fields(seen, KINECT20, ClipConfig())
    joints, present = fields["joints"], seen.present
    assert (fields["confidence"][0, :, wrist] == 0).all()
    assert not fields["pixels"][0, :, wrist].any()
    hips = joints[..., [KINECT20.index("left_hip"), KINECT20.index("right_hip")], :].mean(-2)
    assert (np.linalg.norm(joints[..., wrist, :] - hips, axis=-1)[present] < 3).all()
    assert not joints[~present].any()


def test_pixels_count_from_the_middle_of_the_first() -> None:
    seen = poses()
    fields = clip_fields(seen, BLAZEPOSE33, ClipConfig())
    known = seen.confidence > 0
    np.testing.assert_allclose(fields["pixels"][known], seen.pixels[known] - 0.5, atol=1e-5)
    assert not fields["pixels"][~known].any()
    np.testing.assert_array_equal(
        clip_fields(seen, COCO17, ClipConfig())["joints"].shape, (PERSONS, FRAMES, 17, 2)
    )

"""Clips as pose estimators write them: one moving body, in each of their formats."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hhmnet.skeleton import (
    BLAZEPOSE33,
    BODY25,
    COCO17,
    H36M17,
    HALPE26,
    KINECT20,
    LAYOUTS,
    NTU25,
    SkeletonLayout,
)
from made_bodies import HIPS, at_rest

FRAMES = 6


def body(layout: SkeletonLayout, aside: float = 0.0, swing: float = 0.2) -> np.ndarray:
    """A person who faces the camera and moves an arm, ``(T, V, 3)``: metres from the hips, x right, y down, z away."""
    joints = np.stack([at_rest(layout) * (1, -1, 1) + (aside, HIPS, 0)] * FRAMES)
    arm = ("elbow", "wrist", "hand", "hand_tip", "index", "pinky", "thumb")
    moving = [at for at, name in enumerate(layout.joints) if name.removeprefix("left_") in arm]
    joints[:, moving, 1] -= swing * np.sin(np.arange(FRAMES))[:, None]
    return joints


def pixels(layout: SkeletonLayout, aside: float = 0.0) -> np.ndarray:
    """The same person in a picture of 640 × 480, ``(T, V, 2)``."""
    return body(layout, aside)[..., :2] * 200 + np.array([320, 240])


def flat(points: np.ndarray, score: float = 0.9) -> list[float]:
    """x, y, score, x, y, score, …"""
    return np.hstack([points, np.full((len(points), 1), score)]).round(3).reshape(-1).tolist()


def openpose_frame(*persons: np.ndarray) -> dict[str, Any]:
    rest = {"person_id": [-1], "face_keypoints_2d": [1.0] * 210, "hand_left_keypoints_2d": []}
    return {"version": 1.3, "people": [{"pose_keypoints_2d": flat(one)} | rest for one in persons]}


def write_openpose(folder: Path, layout: SkeletonLayout = BODY25, video: str = "") -> Path:
    """A folder of frames, the third without anybody."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, points in enumerate(pixels(layout)):
        frame = openpose_frame(*([] if number == 2 else [points]))
        (folder / f"{video or folder.name}_{number:012}_keypoints.json").write_text(json.dumps(frame))
    return folder


def alphapose(layout: SkeletonLayout = COCO17, more: int = 0) -> list[Any]:
    """``more`` joints of hands and face."""
    bodies = [flat(np.vstack([points, np.ones((more, 2))])) for points in pixels(layout)]
    entry = {"category_id": 1, "score": 2.9}
    return [entry | {"image_id": f"{frame}.jpg", "keypoints": body} for frame, body in enumerate(bodies)]


def coco() -> dict[str, Any]:
    persons = [{"id": f, "image_id": f, "keypoints": flat(p, 2)} for f, p in enumerate(pixels(COCO17))]
    images = [{"id": frame, "file_name": f"{frame:06}.jpg"} for frame in range(FRAMES)]
    return {"images": images, "annotations": persons, "categories": [{"id": 1, "name": "person"}]}


def ultralytics() -> list[Any]:
    frames = []
    for points in pixels(COCO17):
        joints = {"x": points[:, 0].tolist(), "y": points[:, 1].tolist(), "visible": [0.9] * 17}
        frames.append([{"name": "person", "box": {"x1": 1.0}, "keypoints": joints}])
    return frames


def mmpose(joints: np.ndarray | None = None) -> dict[str, Any]:
    found = pixels(COCO17) if joints is None else joints
    persons = [{"keypoints": p.tolist(), "keypoint_scores": [0.9] * len(p)} for p in found]
    frames = [{"frame_id": f + 1, "instances": [one]} for f, one in enumerate(persons)]
    return {"meta_info": {"dataset_name": "coco"}, "instance_info": frames}


def kinetics() -> dict[str, Any]:
    points = pixels(LAYOUTS["coco18"]) / (340, 256)
    persons = [{"pose": p.reshape(-1).tolist(), "score": [0.9] * 18} for p in points]
    frames = [{"frame_index": f, "skeleton": [one]} for f, one in enumerate(persons, 1)]
    return {"data": frames, "label": "waving", "label_index": 0}


def landmarks(points: np.ndarray) -> list[dict[str, float]]:
    return [{"x": x, "y": y, "z": z, "visibility": 0.9} for x, y, z in points.tolist()]


def mediapipe() -> list[Any]:
    return [{"pose_world_landmarks": [landmarks(points)]} for points in body(BLAZEPOSE33)]


def landmark_table() -> str:
    """World landmarks under the names of MediaPipe's own enumeration, with a column that isn't used."""
    own = {"left_mouth": "mouth_left", "right_mouth": "mouth_right"}
    own |= {"left_foot": "left_foot_index", "right_foot": "right_foot_index"}
    names = [own.get(name, name) for name in BLAZEPOSE33.joints]
    heads = [f"{name}_{end}" for name in names for end in ("x", "y", "z", "visibility")]
    lines = [",".join(["frame", "time", *heads])]
    for frame, points in enumerate(body(BLAZEPOSE33)):
        cells = np.hstack([points, np.full((33, 1), 0.9)]).round(4).reshape(-1).tolist()
        lines.append(",".join(map(str, [frame, frame / 30, *cells])))
    return "\n".join(lines) + "\n"


def mmpose_3d() -> dict[str, Any]:
    """As its lifter turns them: x to the left, y towards the camera, z up."""
    return mmpose(body(H36M17)[..., [0, 2, 1]] * -1)


JSON_FORMS: dict[str, tuple[Callable[[], Any], SkeletonLayout]] = {
    "alphapose": (alphapose, COCO17),
    "alphapose_halpe26": (lambda: alphapose(HALPE26), HALPE26),
    "alphapose_halpe136": (lambda: alphapose(HALPE26, 110), HALPE26),
    "coco_wholebody": (lambda: alphapose(COCO17, 116), COCO17),
    "coco": (coco, COCO17),
    "ultralytics": (ultralytics, COCO17),
    "mmpose": (mmpose, COCO17),
    "mmpose_3d": (mmpose_3d, H36M17),
    "kinetics": (kinetics, LAYOUTS["coco18"]),
    "mediapipe": (mediapipe, BLAZEPOSE33),
    "openpose": (lambda: [openpose_frame(points) for points in pixels(BODY25)], BODY25),
}
"""By name: a document of that form, and the layout that it has."""


def expected(layout: SkeletonLayout) -> np.ndarray:
    """What must be read, ``(T, V, C)``: pixels, or metres as a Kinect has them."""
    return pixels(layout) if layout.dims == 2 else body(layout) * (-1, -1, 1)


def kinect_body(layout: SkeletonLayout = KINECT20) -> np.ndarray:
    """The person three metres away, ``(T, V, 3)``, as a Kinect has it."""
    return body(layout) * (-1, -1, 1) + np.array([0, 0, 3])


def write_msr(folder: Path, name: str = "a02_s03_e01_skeleton3D.txt") -> Path:
    order = [
        8,
        4,
        2,
        1,
        16,
        12,
        0,
        9,
        5,
        10,
        6,
        11,
        7,
        17,
        13,
        18,
        14,
        19,
        15,
        3,
    ]  # right shoulder, left, …, head
    rows = kinect_body()[:, order].reshape(-1, 3)
    np.savetxt(folder / name, np.hstack([rows, np.ones((len(rows), 1))]), fmt="%.6e")
    return folder / name


def write_ctr_gcn(folder: Path, save: Callable[..., None] = np.savez) -> Path:
    """Two clips of each part, filled up with zeros; the second person isn't there."""
    rows = np.zeros((2, FRAMES + 5, 150), np.float32)
    rows[:, :FRAMES, :75] = kinect_body(NTU25).reshape(FRAMES, 75)
    labels = np.eye(60)[[7, 3]]
    save(folder / "NTU60_CS.npz", x_train=rows, y_train=labels, x_test=rows, y_test=labels)
    return folder / "NTU60_CS.npz"


def write_st_gcn(folder: Path, clip: np.ndarray | None = None) -> Path:
    """``(N, C, T, V, M)`` with the labels beside it, for both parts; ``clip`` is ``(T, V, C)``."""
    clip = kinect_body(NTU25) if clip is None else clip
    rows = np.zeros((2, clip.shape[2], len(clip) + 4, clip.shape[1], 2), np.float32)
    rows[:, :, : len(clip), :, 0] = clip.transpose(2, 0, 1)
    for part in ("train", "val"):
        np.save(folder / f"{part}_data_joint.npy", rows)
        np.save(folder / f"{part}_data_bone.npy", rows)
        names = [f"{part}_a.skeleton", f"{part}_b.skeleton"]
        (folder / f"{part}_label.pkl").write_bytes(pickle.dumps((names, [0, 1])))
    return folder / "train_data_joint.npy"


def write_h36m(folder: Path) -> Path:
    """Two subjects' actions, 32 joints in metres, z up."""
    raw = np.zeros((FRAMES, 32, 3), np.float32)
    kept = [0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27]
    raw[:, kept] = body(H36M17)[..., [0, 2, 1]] * (-1, -1, -1)
    positions = {subject: {"Walking 1": raw, "Eating": raw} for subject in ("S1", "S9")}
    np.savez_compressed(folder / "data_3d_h36m.npz", positions_3d=np.array(positions, object))
    return folder / "data_3d_h36m.npz"

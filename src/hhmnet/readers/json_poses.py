"""What pose estimators and annotation tools write as JSON, told apart by its keys.

=====================  ===============================================================================================
format                 source of what is known of it
=====================  ===============================================================================================
OpenPose               doc/02_output.md of CMU-Perceptual-Computing-Lab/openpose
AlphaPose              docs/run.md and ``write_json`` of alphapose/utils/pPose_nms.py in MVIG-SJTU/AlphaPose: COCO's
                       results, with the picture's name as ``image_id`` and ``idx`` where persons are tracked
COCO                   cocodataset.org/#format-data and #format-results; ``track_id`` is PoseTrack's
ultralytics            ``Results.summary`` of ultralytics/engine/results.py: a list of persons a frame
MMPose                 ``split_instances`` of mmpose/structures/utils.py, as its inferencers and demos write it
Kinetics-skeleton      README of yysijie/st-gcn: positions from 0 to 1 in videos of 340 × 256 pixels
MediaPipe              ``pose_landmarks`` and ``pose_world_landmarks`` of its solution and of its tasks, as dicts
=====================  ===============================================================================================

OpenPose writes a file a frame, ``VIDEO_000000000012_keypoints.json`` after its video and frame. Hands and face
(OpenPose's, Halpe's, COCO-WholeBody's) are left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from hhmnet.readers import ReadError
from hhmnet.readers.clip_files import RawClip
from hhmnet.readers.text import read_json
from hhmnet.skeleton import BLAZEPOSE33, LAYOUTS

Layouts = dict[int, str]  # by the number of joints in a file, of which the layout's are the first
_OPENPOSE = {25: "body25", 18: "coco18"}
_KINETICS = {18: "coco18", 17: "coco17"}
_MMPOSE = {2: {17: "coco17", 26: "halpe26", 133: "coco17", 136: "halpe26"}, 3: {17: "h36m17"}}
_COCO = _MMPOSE[2] | _OPENPOSE
_KINETICS_SIZE = (340.0, 256.0)
_LANDMARKS = (
    *("pose_world_landmarks", "poseWorldLandmarks", "world_landmarks", "worldLandmarks"),  # metres come first
    *("pose_landmarks", "poseLandmarks", "landmarks", "landmark"),
)
_FRAME = ("frame", "frame_id", "frame_index", "frame_idx")
_MOST = 20  # persons that are kept of a clip; passers-by and mistakes of a detector make hundreds
_LARGEST = 1e9  # coordinates and scores beyond this are no one's
_TALL = 400.0  # height that persons are brought to before they are followed: the tracker thinks in pixels


class Person(NamedTuple):
    """One person in one frame: joints ``(V, C)`` float64, NaN where one wasn't found; how sure each is, ``(V,)``, if
    that is known; what the file calls the person in all frames, if it says that; the layout.
    """

    points: np.ndarray
    trust: np.ndarray | None
    who: Hashable
    layout: str


Frames = Iterable[tuple[int, list[Person]]]  # frames by their numbers, with the persons in them


def person(
    array: Any, size: int, known: Layouts, where: str, trust: Any = None, who: Any = None, dims: int = 2
) -> Person:
    """A person from a flat list of numbers, or from a list of joints; raises ReadError if ``array`` is no such.

    A joint has ``size`` numbers: ``dims`` coordinates, and then perhaps its confidence, unless ``trust`` has that for
    all of them. ``known`` are the layouts by the number of joints in the file; those after the layout's own (hands,
    face) are left out. ``where`` names the place in the file, ``who`` is what the file calls the person.
    """
    array = numbers(array, where).reshape(-1)
    count = len(array) // size
    if len(array) % size or count not in known:
        wanted = ", ".join(f"{joints} ({layout})" for joints, layout in known.items())
        raise ReadError(f"{where}: {len(array)} numbers; joints of {size} numbers can be {wanted}")
    joints = LAYOUTS[known[count]].num_joints
    array = array.reshape(count, size)[:joints]
    points, rated = array[:, :dims].copy(), array[:, dims] if size > dims else None
    if trust is not None:
        rated = numbers(trust, where).reshape(-1)[:joints]
        if len(rated) != joints:
            raise ReadError(f"{where}: {len(rated)} scores for {joints} joints")
    if dims == 2:
        points[~points.any(axis=1)] = np.nan  # estimators write (0, 0) for a joint that they didn't find
    return Person(points, rated, who if isinstance(who, (int, str)) else None, known[count])


def numbers(values: Any, where: str) -> np.ndarray:
    """``values`` as float64, null as NaN; raises ReadError if they aren't finite numbers."""
    try:
        array = np.array(values, np.float64)
    except (TypeError, ValueError, OverflowError):
        raise ReadError(f"{where}: must be numbers") from None
    if (np.abs(array) > _LARGEST).any():
        raise ReadError(f"{where}: infinite or too large")
    return array


def gather(found: Frames, form: str) -> RawClip:
    """A clip of all persons in frames by their numbers; those who are there longest come first.

    Who is who is what the file says, or else follows from where they are (:class:`~hhmnet.pose.tracking.Tracker`). If
    no frame has more than one, that is one person. ``form`` is what the file's format is called. Raises ReadError where
    nobody is there, or their skeletons differ.
    """
    frames = sorted(found, key=lambda frame: frame[0])
    seen = [[one for one in persons if np.isfinite(one.points).any()] for _, persons in frames]
    layouts = sorted({one.layout for persons in seen for one in persons})
    if not layouts:
        raise ReadError(f"{form}: no frame has a body: it lists no persons")
    if len(layouts) > 1:
        raise ReadError(f"{form}: its persons have different skeletons: {', '.join(layouts)}")
    tracks: dict[Hashable, dict[int, Person]] = {}
    for place, called in enumerate(_follow(seen)):
        for one, who in zip(seen[place], called, strict=True):
            tracks.setdefault(who, {}).setdefault(place, one)
    kept = sorted(tracks.values(), key=len, reverse=True)[:_MOST]
    size = (len(kept), len(frames), LAYOUTS[layouts[0]].num_joints)
    joints, trust = np.full((*size, next(iter(kept[0].values())).points.shape[1]), np.nan), np.ones(size)
    for who, track in enumerate(kept):
        for place, one in track.items():
            joints[who, place] = one.points
            trust[who, place] = 1 if one.trust is None else one.trust
    notes = [f"{form}: read as {layouts[0]}"]
    if len(tracks) > _MOST:
        notes.append(f"persons left out: more than {_MOST} in a clip")
    if (trust < 0).any() or (trust > 1).any():
        notes.append("confidence moved to 0 to 1")
    is_rated = any(one.trust is not None for track in kept for one in track.values())
    confidence = np.clip(trust, 0, 1) if is_rated else None
    index = np.array([number for number, _ in frames])
    return RawClip(joints, index, confidence, layout=layouts[0], notes=tuple(notes))


def _follow(frames: Sequence[Sequence[Person]]) -> list[list[Hashable]]:
    """What each person in each frame is called."""
    if all(one.who is not None for persons in frames for one in persons):
        return [[one.who for one in persons] for persons in frames]
    if max(map(len, frames)) == 1:
        return [[0] * len(persons) for persons in frames]
    from hhmnet.pose.tracking import Tracker  # SciPy's optimiser takes longer to load than most files to read

    boxes = [np.array([_box(one.points) for one in persons]).reshape(-1, 4) for persons in frames]
    scale = _TALL / max(float(np.median([box[3] - box[1] for inner in boxes for box in inner])), 1e-9)
    tracker, called = Tracker(), list[list[Hashable]]()
    for place, inner in enumerate(boxes):
        wide = np.clip(inner * scale, -1e6, 1e6) + np.array([-1, -1, 1, 1])
        called.append(tracker.update(place, wide, np.ones(len(inner))).tolist())
    return called


def _box(points: np.ndarray) -> np.ndarray:
    """Left, top, right and bottom of the joints that were found."""
    return np.concatenate([np.nanmin(points[:, :2], axis=0), np.nanmax(points[:, :2], axis=0)])


def read_poses(document: Any) -> RawClip | None:
    """The clip in a JSON document of one of these formats; None if it is none. Raises ReadError, which says where."""
    if isinstance(document, dict):
        for field in ("data", "results", "frames"):  # where a format's list may be
            inner = _first(document.get(field))
            if isinstance(inner, dict) and inner.keys() & {"skeleton", "keypoints", *_LANDMARKS}:
                return read_poses(document[field])
    outer = _first(document)
    first = _first(outer) if isinstance(outer, list) else outer
    if not isinstance(first, dict):
        return None
    frames = document if isinstance(document, list) else [document]
    keys = first.keys()
    if isinstance(first.get("keypoints"), dict):
        lists = _by_frame([document] if first is outer else document)
        return gather(_frames(lists, "", _ultralytics), "ultralytics")
    if "people" in keys:
        return gather(_frames(enumerate(frames), "people", _openpose), "OpenPose")
    if {"images", "annotations"} <= keys:
        return gather(_coco(first), "COCO keypoints")
    if {"image_id", "keypoints"} <= keys:
        persons = _dicts(document, "the list")
        pictures = [str(one["image_id"]) for one in persons if one.get("image_id") is not None]
        names = dict(zip(pictures, pictures, strict=True))
        return gather(_in_pictures(persons, names, "entry"), "AlphaPose or COCO results")
    if "instance_info" in keys:
        frames = _dicts(first["instance_info"], "field 'instance_info'")
        if "keypoints" in _first(frames):  # persons of a single picture
            return gather(_frames([(0, frames)], "", _mmpose), "MMPose")
    if keys & {"instance_info", "instances"}:
        return gather(_frames(_by_frame(frames), "instances", _mmpose), "MMPose")
    if {"keypoints", "keypoint_scores"} <= keys:
        return gather(_frames([(0, frames)], "", _mmpose), "MMPose")
    if "skeleton" in keys:
        return gather(_frames(_by_frame(frames), "skeleton", _kinetics), "Kinetics-skeleton")
    if keys & {*_LANDMARKS} or {"x", "y", "z"} <= keys:
        return landmarks_as_metres(gather(_mediapipe(document), "MediaPipe"))
    return None


def _frames(entries: Iterable[tuple[int, Any]], field: str, read: Callable[..., Person | None]) -> Frames:
    """Frames, each a list of persons or an object that may have that in ``field``: without it nobody is there."""
    for frame, entry in entries:
        where = f"frame {frame}: field '{field}'" if field else f"frame {frame}"
        persons = entry.get(field) if isinstance(entry, dict) else entry
        found = [read(one, f"frame {frame}") for one in _dicts(persons or [], where)]
        yield frame, [one for one in found if one is not None]


def _openpose(one: dict[str, Any], where: str) -> Person | None:
    values, ids = one.get("pose_keypoints_2d") or one.get("pose_keypoints"), one.get("person_id")
    if not values:  # a face may come without a body
        return None
    who = ids[0] if isinstance(ids, list) and ids and ids[0] != -1 else None
    return person(values, 3, _OPENPOSE, f"{where}: field 'pose_keypoints_2d'", who=who)


def _ultralytics(one: dict[str, Any], where: str) -> Person | None:
    points, where = one.get("keypoints"), f"{where}: field 'keypoints'"
    if not isinstance(points, dict):
        return None
    values = numbers([points.get("x"), points.get("y")], where).T
    return person(values, 2, {17: "coco17"}, where, who=one.get("track_id"), trust=points.get("visible"))


def _mmpose(one: dict[str, Any], where: str) -> Person:
    where = f"{where}: field 'keypoints'"
    points = numbers(one.get("keypoints"), where)
    dims = points.shape[-1] if points.ndim > 1 else 0
    if dims not in _MMPOSE:
        raise ReadError(f"{where}: must be joints of 2 or 3 coordinates")
    trust, who = one.get("keypoint_scores"), one.get("track_id")
    found = person(points, dims, _MMPOSE[dims], where, who=who, trust=trust, dims=dims)
    if dims == 3:  # MMPose turns them so that z points up: x to the left, y towards the camera
        found = found._replace(points=found.points[:, [0, 2, 1]] * (1, 1, -1))
    return found


def _kinetics(one: dict[str, Any], where: str) -> Person:
    found = person(one.get("pose"), 2, _KINETICS, f"{where}: field 'pose'", trust=one.get("score"))
    return found._replace(points=found.points * _KINETICS_SIZE)


def _coco(document: dict[str, Any]) -> Frames:
    """Pictures, and the persons in them; a third number of 0, 1 or 2 says whether a joint is labelled and visible."""
    images = _dicts(document["images"], "field 'images'")
    names = {str(image.get("id")): str(image.get("file_name", image.get("id"))) for image in images}
    folders = sorted({str(PurePosixPath(name).parent) for name in names.values()})
    if len(folders) > 1:
        several = f"{len(folders)} folders ({', '.join(folders[:3])}, …)"
        raise ReadError(f"COCO: pictures of {several} are several clips; write one file a clip")
    annotations = _dicts(document["annotations"], "field 'annotations'")
    frames = list(_in_pictures(annotations, names, "annotation"))
    trusts = [one.trust for _, persons in frames for one in persons if one.trust is not None]
    if trusts and np.isin(np.concatenate(trusts), (0, 1, 2)).all():
        for trust in trusts:
            np.minimum(trust, 1, out=trust)
    return frames


def _in_pictures(persons: Sequence[Mapping[str, Any]], names: Mapping[str, str], what: str) -> Frames:
    """COCO's persons by frame; ``names`` are the pictures' by their ids."""
    frame_of = _numbered(names.values())
    frames: dict[int, list[Person]] = {number: [] for number in frame_of.values()}
    for place, one in enumerate(persons):
        picture, who = str(one.get("image_id")), one.get("idx", one.get("track_id"))
        if picture not in names:
            raise ReadError(f"{what} {place}: field 'image_id' must name a picture")
        if what == "annotation" and "keypoints" not in one:  # of something else than a person
            continue
        where = f"{what} {place}: field 'keypoints'"
        found = person(one.get("keypoints"), 3, _COCO, where, who=None if who is None else str(who))
        frames[frame_of[names[picture]]].append(found)
    return frames.items()


def _mediapipe(document: Any) -> Frames:
    """Frames, each with the landmarks of one person or of several."""
    first = _first(document)
    alone = not isinstance(document, list) or (isinstance(first, dict) and "x" in first)
    for frame, entry in _by_frame([document] if alone else document):
        while isinstance(entry, dict):
            entry = next((entry[name] for name in _LANDMARKS if entry.get(name)), None)
        if entry and not isinstance(entry, list):
            raise ReadError(f"frame {frame}: landmarks: must be a list")
        single = _first(entry)
        persons = [entry] if isinstance(single, dict) and "x" in single else entry or []
        yield frame, [_landmarks(points, f"frame {frame}: landmarks") for points in persons]


def _landmarks(points: Any, where: str) -> Person:
    points = _dicts(points.get("landmark") if isinstance(points, dict) else points, where)
    values = [[one.get(axis) for axis in "xyz"] for one in points]
    seen = [one.get("visibility", one.get("score")) for one in points]
    return person(values, 3, {33: "blazepose33"}, where, trust=None if None in seen else seen, dims=3)


def _by_frame(entries: Iterable[Any]) -> Iterable[tuple[int, Any]]:
    """Frames with their numbers: what they say, or else the one after the frame before."""
    used, frame = set(), -1
    for place, entry in enumerate(entries):
        named = next((name for name in _FRAME if name in entry), None) if isinstance(entry, dict) else None
        frame = frame + 1 if named is None else entry[named]
        if not isinstance(frame, int) or not 0 <= frame < 2**31 or frame in used:
            raise ReadError(f"entry {place}: field '{named}' must be a whole number that no other entry has")
        used.add(frame)
        yield frame, entry


def _numbered(names: Iterable[str]) -> dict[str, int]:
    """Frame numbers of pictures by their names: the last number in each, or else its place in order."""
    different = list(dict.fromkeys(names))
    digits = [re.findall(r"[0-9]+", PurePosixPath(name).stem)[-1:] for name in different]
    found = [int(last[0]) for last in digits if last and len(last[0]) < 10]
    if len(set(found)) < len(different):
        different, found = sorted(different), list(range(len(different)))
    return dict(zip(different, found, strict=True))


def _first(entries: Any) -> Any:
    """What is in the first entry of a list that holds anything, since a frame may be empty; else ``entries``."""
    return next(filter(None, entries), {}) if isinstance(entries, list) else entries


def _dicts(value: Any, where: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise ReadError(f"{where}: must be a list of objects")
    return value


# What the ``PoseLandmark`` enumeration of MediaPipe's documentation calls otherwise than our blazepose33.
_RENAMED = {"mouth_left": "left_mouth", "mouth_right": "right_mouth"}
_RENAMED |= {f"{side}_foot_index": f"{side}_foot" for side in ("left", "right")}


def landmarks_as_metres(clip: RawClip) -> RawClip:
    """Landmarks as MediaPipe writes them, y down, turned as a Kinect has them: y up, x to the camera's left. The origin
    of world landmarks, which are metres, lies between the hips. Others are places in the picture, x and z in its widths
    and y in its heights; they stay so, and a note says it. Landmarks whose y points up are left alone.
    """
    nose, left, right = (BLAZEPOSE33.index(name) for name in ("nose", "left_hip", "right_hip"))
    hips = clip.joints[:, :, [left, right]]
    notes, joints = [*clip.notes], clip.joints
    if np.nanmedian(joints[:, :, nose, 1]) < np.nanmedian(hips[..., 1]):
        joints = joints * (-1, -1, 1)
        notes.append("MediaPipe: y points down; turned")
    if np.nanmedian(np.abs(hips[..., :2].mean(axis=2))) > 0.05:
        notes.append("MediaPipe: places in the picture, not metres; its world landmarks are better")
    return clip._replace(joints=joints, notes=tuple(notes))


def named_landmarks(clip: RawClip) -> RawClip:
    """A table's clip as blazepose33 if it has the landmarks under MediaPipe's names; else as it is."""
    if clip.names is None or clip.joints.shape[3] != 3:
        return clip
    called = [_RENAMED.get(name, name) for name in clip.names]
    if not set(BLAZEPOSE33.joints) <= set(called):
        return clip
    places = [called.index(joint) for joint in BLAZEPOSE33.joints]
    trust = None if clip.confidence is None else np.clip(clip.confidence[:, :, places], 0, 1)
    notes = (*clip.notes, "MediaPipe: read as blazepose33")
    found = clip._replace(joints=clip.joints[:, :, places], confidence=trust, names=None, notes=notes)
    return landmarks_as_metres(found._replace(layout=BLAZEPOSE33.name))


def read_recording(files: Mapping[int, Path]) -> RawClip:
    """A clip from OpenPose's files by frame; raises ReadError, which names the file, for one that is no such."""
    frames: list[tuple[int, list[Person]]] = []
    for number, file in files.items():
        try:
            entry = read_json(file)
            if entry and not (isinstance(entry, dict) and "people" in entry):
                raise ReadError(f"frame {number}: has no field 'people'")
            frames += _frames([(number, entry)], "people", _openpose)
        except ReadError as error:
            raise ReadError(f"{file.name}, {error}") from None
    return gather(frames, "OpenPose")

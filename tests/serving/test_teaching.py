"""Classes that clients teach a running server."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra 'serve' isn't installed")

from starlette.testclient import TestClient

from hhmnet.pose import estimate
from hhmnet.predict import Recognizer
from hhmnet.serving import Limits
from hhmnet.serving.answers import learn
from hhmnet.serving.workers import load
from made_bodies import POSES, write_clip
from made_models import KNOWN, UNKNOWN, skeleton_model, telling_unknown, video_model
from made_people import BoxEstimator, KnowingDetector, MadeVideo, straight
from made_server import PATIENCE, PREDICT, left_over, serving

TAUGHT = "/api/v1/taught"


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A server that looks at videos, too, and keeps nine examples."""
    folder = tmp_path_factory.mktemp("model")
    telling_unknown(video_model()).save_pretrained(folder)
    limits = Limits(videos=False, answer_seconds=PATIENCE, examples=9)
    with serving(limits, partial(load, str(folder), "cpu", False)) as client:
        yield client
        assert not left_over(client)


def form(folder: Path, pose: str, seed: int) -> dict[str, Any]:
    return {"file": ("clip.npz", write_clip(folder / "clip.npz", pose, seed).read_bytes())}


def test_taught_classes_answer_and_can_be_taken_home(taught: TestClient, tmp_path: Path) -> None:
    refused = taught.get(f"{TAUGHT}/model")
    assert (refused.status_code, "teach 2 classes or more" in refused.text) == (409, True)
    for pose in POSES:
        for seed in range(3):
            label = pose.upper().replace(" ", "_") if seed else pose
            response = taught.post(TAUGHT, files=form(tmp_path, pose, seed), data={"label": label})
            assert response.status_code == 200, response.text
    assert response.json() == {"classes": dict.fromkeys(POSES, 3), "most": 9, "ready": True}
    full = taught.post(TAUGHT, files=form(tmp_path, "crouch", 3), data={"label": "more"})
    assert (full.status_code, "forget some first" in full.text) == (409, True)
    data = {"taught": "true", "details": "true", "timeline": "true"}
    for pose in POSES:
        answer = taught.post(PREDICT, files=form(tmp_path, pose, 50), data=data).json()
        assert (answer["label"], answer["modalities"]) == (pose, ["skeleton"])
    assert taught.post(PREDICT, files=form(tmp_path, "crouch", 50)).json()["label"] not in POSES
    model = taught.get(f"{TAUGHT}/model")
    assert model.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(model.content)) as archive:
        archive.extractall(tmp_path / "home")
    home = Recognizer.from_pretrained(tmp_path / "home" / "taught", "cpu")
    alone = home.predict(write_clip(tmp_path / "later.npz", pose, 50))
    assert alone.top[0][1] == pytest.approx(answer["top"][0]["probability"], abs=1e-4)
    rest = taught.delete(TAUGHT, params={"label": "Crouch"}).json()["classes"]
    assert rest.keys() == {"arms up", "arms out"}
    assert taught.delete(TAUGHT, params={"label": "crouch"}).status_code == 404
    assert taught.delete(TAUGHT).json()["classes"] == {}


def test_a_clip_that_is_none_of_the_classes_is_unknown(taught: TestClient, tmp_path: Path) -> None:
    found = [taught.post(PREDICT, files=form(tmp_path, pose, 0)).json() for pose in (KNOWN, UNKNOWN)]
    assert [answer["known"] for answer in found] == [True, False]
    assert [answer["label"] for answer in found] == [found[0]["top"][0]["label"], "unknown"]


def test_a_bad_example_teaches_nothing(taught: TestClient, tmp_path: Path) -> None:
    wrong: list[tuple[dict[str, str], str]] = [
        ({}, "field 'label' is missing"),
        ({"label": "  "}, "field 'label' String should have at least 1"),
        ({"label": "x" * 61}, "field 'label'"),
        ({"label": "\x1b[31m"}, "field 'label'"),
        ({"label": "wave", "top": "3"}, 'no field "top"; known: file, label'),
    ]
    for data, reason in wrong:
        response = taught.post(TAUGHT, files=form(tmp_path, "crouch", 0), data=data)
        assert (response.status_code, reason in response.json()["detail"]) == (422, True), response.text
    assert taught.post(TAUGHT, files={"file": ("a.json", b"{}")}, data={"label": "wave"}).status_code == 422
    assert taught.get(TAUGHT).json()["classes"] == {}


def test_an_example_lasts_as_long_as_its_video_whatever_the_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    way = straight((100, 130), (0.8, 0), (60, 140))
    monkeypatch.setattr(estimate, "_load_detector", lambda config: KnowingDetector(way))
    monkeypatch.setattr(estimate, "_load_estimator", lambda threads: BoxEstimator())
    film = tmp_path / "slow.mkv"
    MadeVideo(film, 20, rate=10)
    found = learn(Recognizer(skeleton_model()), {"path": str(film), "name": film.name}, Limits())
    assert found["frames"] == 60  # 30ths of a second

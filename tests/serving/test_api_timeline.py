"""Timelines that the HTTP API answers with."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the extra 'serve' isn't installed")

from starlette.testclient import TestClient

from made_server import PREDICT, left_over, order

pytestmark = pytest.mark.xdist_group("serving")  # they share a server


def test_the_timeline_tells_windows_and_segments(client: TestClient) -> None:
    data = {"timeline": "true", "top": "2"}
    answer = client.post(PREDICT, files=order("nothing", frames=180), data=data).json()
    timeline = answer["timeline"]
    assert (timeline["start"], timeline["end"], timeline["frames"]) == (0, 6, 180)
    assert (timeline["config"]["window"], timeline["config"]["stride"]) == (2, 0.25)
    assert timeline["classes"] == ["sit", "walk"]  # the model has a third one
    (person,) = timeline["persons"]
    windows = person["windows"]
    assert [window["start"] for window in windows] == [0.25 * n for n in range(17)]
    assert [window["end"] - window["start"] for window in windows] == [2] * 17
    # It sits where the middle frame of a window lies before 3 s.
    assert [window["label"] for window in windows] == ["sit"] * 8 + ["walk"] * 9
    high, low = np.exp([4, 1]) / np.exp([4, 0, 1]).sum()
    np.testing.assert_allclose(windows[0]["probabilities"], [high, low], atol=1e-4)
    assert [segment["label"] for segment in person["segments"]] == ["sit", "walk"]
    assert [(segment["start"], segment["end"]) for segment in person["segments"]] == [(0, 2.875), (2.875, 6)]
    assert answer["label"] == "walk"  # of the whole
    assert answer["seconds"] < 100  # its own, not the recognizer's
    assert left_over(client) == []


def test_the_timeline_of_a_video_is_in_its_own_time(client: TestClient, clip: bytes) -> None:
    files = {"file": ("c.mp4", clip)}
    timeline = client.post(PREDICT, files=files, data={"timeline": "true"}).json()["timeline"]
    assert timeline["end"] == pytest.approx(41 / 25, abs=1e-3)
    (window,) = timeline["persons"][0]["windows"]  # a clip that is shorter than a window has one
    assert window["end"] == pytest.approx(41 / 25, abs=0.03)
    assert timeline["modalities"] == ["skeleton", "video"]


def test_every_person_has_a_timeline(client: TestClient) -> None:
    form = order("nothing", frames=240, persons=2)
    timeline = client.post(PREDICT, files=form, data={"timeline": "true"}).json()["timeline"]
    first, second = timeline["persons"]
    assert [segment["label"] for segment in first["segments"]] == ["sit", "walk"]
    assert [segment["label"] for segment in second["segments"]] == ["walk"]  # is there from 4 s on
    assert second["windows"][0]["label"] is None
    assert second["windows"][0]["probabilities"] is None
    nobody = client.post(PREDICT, files=order("nothing", persons=0), data={"timeline": "true"})
    assert nobody.json()["timeline"] is None


def test_a_timeline_has_a_bounded_number_of_windows(client: TestClient) -> None:
    for persons in (1, 2):
        form = order("nothing", frames=3000, persons=persons)
        answer = client.post(PREDICT, files=form, data={"timeline": "true"}).json()
        windows = answer["timeline"]["persons"][0]["windows"]
        assert len(windows) == 120 / persons
        assert windows[-1]["end"] == pytest.approx(100, abs=0.01)
        assert "s apart, so that the answer comes in time" in answer["notes"][0]

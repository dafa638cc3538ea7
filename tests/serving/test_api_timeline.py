"""Timelines that the HTTP API answers with."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the extra 'serve' isn't installed")

from starlette.testclient import TestClient

from hhmnet.predict.sources import InputClip
from hhmnet.serving.answers import timeline
from hhmnet.serving.schema import RequestOptions
from made_server import PREDICT, ObedientRecognizer, left_over, made_sample, order

pytestmark = pytest.mark.xdist_group("serving")  # they share a server


def test_the_timeline_tells_windows_and_segments(client: TestClient) -> None:
    data = {"timeline": "true", "stride": "0.5", "top": "2"}
    answer = client.post(PREDICT, files=order("nothing", frames=180), data=data).json()
    timeline = answer["timeline"]
    assert (timeline["start"], timeline["end"], timeline["frames"]) == (0, 6, 180)
    assert (timeline["config"]["window"], timeline["config"]["stride"]) == (2, 0.5)
    assert timeline["classes"] == ["sit", "walk"]  # the model has a third one
    (person,) = timeline["persons"]
    windows = person["windows"]
    assert [window["start"] for window in windows] == [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4]
    assert [window["end"] - window["start"] for window in windows] == [2] * 9
    # It sits where the middle frame of a window lies before 3 s.
    assert [window["label"] for window in windows] == ["sit"] * 4 + ["walk"] * 5
    high, low = np.exp([4, 1]) / np.exp([4, 0, 1]).sum()
    np.testing.assert_allclose(windows[0]["probabilities"], [high, low], atol=1e-4)
    assert [segment["label"] for segment in person["segments"]] == ["sit", "walk"]
    assert [(segment["start"], segment["end"]) for segment in person["segments"]] == [(0, 2.75), (2.75, 6)]
    assert answer["label"] == "walk"  # of the whole
    assert answer["seconds"] < 100  # its own, not the recognizer's
    assert left_over(client) == []


def test_the_timeline_of_a_video_is_in_its_own_time(client: TestClient, clip: bytes) -> None:
    for window, count in (("1", 4), ("5", 1)):  # a clip that is shorter than a window has one
        data = {"timeline": "true", "window": window, "stride": "0.25"}
        timeline = client.post(PREDICT, files={"file": ("c.mp4", clip)}, data=data).json()["timeline"]
        assert timeline["end"] == pytest.approx(41 / 25, abs=1e-3)
        windows = timeline["persons"][0]["windows"]
        assert len(windows) == count
        assert windows[-1]["end"] == pytest.approx(41 / 25, abs=0.03)
    assert timeline["modalities"] == ["skeleton", "video"]


def test_every_person_has_a_timeline(client: TestClient) -> None:
    form = order("nothing", frames=240, persons=2)
    timeline = client.post(PREDICT, files=form, data={"timeline": "true", "stride": "1"}).json()["timeline"]
    first, second = timeline["persons"]
    assert [segment["label"] for segment in first["segments"]] == ["sit", "walk"]
    assert [segment["label"] for segment in second["segments"]] == ["walk"]  # is there from 4 s on
    assert second["windows"][0]["label"] is None
    assert second["windows"][0]["probabilities"] is None
    nobody = client.post(PREDICT, files=order("nothing", persons=0), data={"timeline": "true"})
    assert nobody.json()["timeline"] is None


def test_a_timeline_has_a_bounded_number_of_windows(client: TestClient) -> None:
    data = {"timeline": "true", "stride": "0.01"}
    refused = client.post(PREDICT, files=order("nothing", frames=300), data=data)
    assert refused.status_code == 422
    assert "field 'stride' makes 801 windows of 'order.json'; at most 240" in refused.json()["detail"]
    answer = client.post(PREDICT, files=order("nothing", frames=3000), data={"timeline": "true"}).json()
    windows = answer["timeline"]["persons"][0]["windows"]
    assert 2 <= len(windows) <= 240
    assert windows[-1]["end"] == pytest.approx(100, abs=0.01)
    assert "s apart, so that the answer comes in time" in answer["notes"][0]


def test_windows_lie_further_apart_where_the_model_is_slow() -> None:
    class Slow(ObedientRecognizer):
        def logits(self, clips: Any, modalities: Any) -> Any:
            time.sleep(0.05 * len(clips))
            return super().logits(clips, modalities)

    clip = InputClip("c", made_sample(Path("c.json"), frames=600))
    options = RequestOptions(modality=["skeleton"], top=2, timeline=True, window=2.0)
    # 73 windows a quarter of a second apart would take 3.6 s.
    found, notes = timeline(Slow(), clip, options, None, 0.5)  # type: ignore[arg-type]
    assert found is not None
    assert 2 <= len(found["persons"][0]["windows"]) <= 10
    assert notes

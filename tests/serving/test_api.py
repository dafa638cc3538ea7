"""The HTTP API, as a client sees it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the extra 'serve' isn't installed")

from starlette.testclient import TestClient

from hhmnet.serving import Limits
from made_server import CLASSES, PREDICT, left_over, order, serving, until
from made_video import write_video

pytestmark = pytest.mark.xdist_group("serving")  # they share a server


def test_answers_a_video(client: TestClient, clip: bytes) -> None:
    answer = client.post(PREDICT, files={"file": ("a clip.mp4", clip)}, data={"top": "2"}).json()
    names = {"input", "label", "known", "top", "modalities", "seconds", "members", "votes", "notes"}
    assert answer.keys() == names
    assert (answer["input"], answer["label"]) == ("a clip.mp4", "walk")
    assert [entry["label"] for entry in answer["top"]] == ["walk", "stand"]
    assert answer["top"][0]["probability"] == pytest.approx(0.7)
    np.testing.assert_allclose(answer["members"]["video"], [0.7, 0.2, 0.1], rtol=1e-6)
    assert (answer["modalities"], answer["votes"]) == (
        ["skeleton", "video"],
        {"joint": "walk", "video": "sit"},
    )
    assert left_over(client) == []
    answer = client.post(PREDICT, files={"file": ("c.mp4", clip)}, data={"modality": ["skeleton"]}).json()
    assert (answer["modalities"], list(answer["members"])) == (["skeleton"], ["joint"])


def test_details_say_what_to_draw_and_when(client: TestClient, clip: bytes) -> None:
    answer = client.post(PREDICT, files={"file": ("c.mp4", clip)}, data={"details": "true"}).json()
    details = answer["details"]
    assert details["size"] == [64, 48]
    np.testing.assert_allclose(details["seconds"], np.arange(41) / 25, atol=1e-3)
    assert len(details["points"][0]) == 41
    assert details["points"][0][0][0] == [12.3, 12.3]
    assert details["points"][0][0][3] is None  # no confidence
    assert len(details["guidance"]) == 5
    np.testing.assert_allclose(details["instants"], [0.04, 0.12, 0.2, 0.28], atol=1e-3)
    # A skeleton alone is seen from the camera, whose left is the picture's right; y goes down.
    details = client.post(PREDICT, files=order("nothing"), data={"details": "true"}).json()["details"]
    joints = np.random.default_rng(0).normal(size=(1, 8, 20, 3)).astype(np.float32)[0, 0]
    points = details["points"][0][0]
    for axis in (0, 1):
        assert (points[0][axis] < points[1][axis]) == bool(joints[0, axis] > joints[1, axis])
    drawn = np.array([point for frame in details["points"][0] for point in frame if point])
    assert drawn.min() >= 0
    assert (drawn <= details["size"]).all()


def timeline(client: TestClient, files: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """The answer on a file, or on one that says how many frames and persons it has, with a timeline."""
    files = files or order("nothing", **more)
    answer: dict[str, Any] = client.post(PREDICT, files=files, data={"timeline": "true", "top": "2"}).json()
    return answer


def test_the_timeline_tells_windows_and_segments(client: TestClient) -> None:
    answer = timeline(client, frames=180)
    found = answer["timeline"]
    assert (found["start"], found["end"], found["frames"]) == (0, 6, 180)
    assert (found["config"]["window"], found["config"]["stride"]) == (2, 0.25)
    assert found["classes"] == ["sit", "walk"]  # the model has a third one
    (person,) = found["persons"]
    windows = person["windows"]
    assert [(window["start"], window["end"]) for window in windows] == [(n / 4, n / 4 + 2) for n in range(17)]
    # It sits where the middle frame of a window lies before 3 s.
    assert [window["label"] for window in windows] == ["sit"] * 8 + ["walk"] * 9
    high, low = np.exp([4, 1]) / np.exp([4, 0, 1]).sum()
    np.testing.assert_allclose(windows[0]["probabilities"], [high, low], atol=1e-4)
    segments = [(segment["label"], segment["start"], segment["end"]) for segment in person["segments"]]
    assert segments == [("sit", 0, 2.875), ("walk", 2.875, 6)]
    assert answer["label"] == "walk"  # of the whole
    assert answer["seconds"] < 100  # its own, not the recognizer's


def test_every_person_has_a_timeline_in_the_videos_own_time_of_bounded_length(
    client: TestClient, clip: bytes
) -> None:
    first, second = timeline(client, frames=240, persons=2)["timeline"]["persons"]
    assert [segment["label"] for segment in first["segments"]] == ["sit", "walk"]
    assert [segment["label"] for segment in second["segments"]] == ["walk"]  # is there from 4 s on
    assert second["windows"][0]["label"] is second["windows"][0]["probabilities"] is None
    assert timeline(client, persons=0)["timeline"] is None
    found = timeline(client, {"file": ("c.mp4", clip)})["timeline"]
    (window,) = found["persons"][0]["windows"]  # a clip that is shorter than a window has one
    assert found["end"] == pytest.approx(41 / 25, abs=1e-3)
    assert window["end"] == pytest.approx(41 / 25, abs=0.03)
    assert found["modalities"] == ["skeleton", "video"]
    answer = timeline(client, frames=3000, persons=2)
    windows = answer["timeline"]["persons"][0]["windows"]
    assert (len(windows), windows[-1]["end"]) == (120 / 2, pytest.approx(100, abs=0.01))
    assert "s apart, so that the answer comes in time" in answer["notes"][0]


def test_facts_of_the_model_and_of_the_server(client: TestClient) -> None:
    model = client.get("/api/v1/model").json()
    assert (model["classes"], model["modalities"]) == (list(CLASSES), ["skeleton", "video"])
    assert (len(model["joints"]), model["layout"]) == (20, "kinect20")
    assert client.get("/api/v1/ready").json() == {"status": "ready"}
    headers = client.get("/api/v1/health", headers={"Origin": "http://testserver"}).headers
    assert not [name for name in headers if name.startswith("access-control")]
    for path in ("/api/v1/nothing", "/docs", "/api/v1", "/api/v2/predict", "/openapi.json", "/"):
        assert (client.get(path).status_code, client.get(path).json()) == (404, {"detail": "Not Found"})
    assert client.get(PREDICT).status_code == 405


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../../etc/passwd", "passwd"),
        ("C:\\windows\\system.ini", "system.ini"),
        ("..", "upload"),
        ("\u202egpj.exe", "gpj.exe"),
        ("x" * 300 + ".json", "x" * 100),
        ("http://127.0.0.1/x.m3u8", "x.m3u8"),
    ],
)
def test_a_hostile_name_is_shown_and_never_opened(client: TestClient, name: str, shown: str) -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="%s"\r\n\r\n{"do": "neighbours"}\r\n--b--\r\n'
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    response = client.post(PREDICT, content=body % name.replace("\\", "\\\\").encode(), headers=kind)
    assert response.status_code == 422
    detail = response.json()["detail"]
    assert "upload.json among ['upload.json']" in detail  # alone in its folder, under a name of ours
    assert detail.startswith(f"'{shown}'")


PLAYLIST = b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"
FORM = "multipart/form-data; boundary=b"
PART = b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n'


def check_refused(client: TestClient, status: int, reason: str, **more: Any) -> None:
    """One line says why, and nothing is left."""
    response = client.post(PREDICT, **more)
    assert (response.status_code, response.json().keys()) == (status, {"detail"}), response.text
    assert reason in response.json()["detail"]
    assert left_over(client) == []


def file_of(content: bytes) -> dict[str, Any]:
    return {"files": {"file": ("clip.mp4", content)}}


def body(content: bytes, kind: str = FORM) -> dict[str, Any]:
    return {"content": content, "headers": {"Content-Type": kind}}


def fields(**texts: str) -> dict[str, Any]:
    return {"files": order("nothing"), "data": texts}


@pytest.mark.parametrize(
    ("status", "reason", "request_"),
    [
        (415, "nothing that this server takes", file_of(PLAYLIST)),
        (422, "no video that can be read", file_of(b"\x00\x00\x00\x18ftypisom" + PLAYLIST)),
        (415, "nothing that this server takes", file_of(b"ffconcat version 1.0\nfile /etc/passwd\n")),
        (415, "nothing that this server takes", file_of(b"RIFF\x00\x00\x00\x00WAVEfmt ")),
        (422, "is empty", file_of(b"")),
        (413, "the upload is larger than 1 MB", file_of(b"x" * 1_000_000)),
        (422, "no video that can be read", file_of(b"\x1a\x45\xdf\xa3" + bytes(200))),
        (415, "send a form", body(b'{"a": 1}', "application/json")),
        (400, "form can't be read", body(b"garbage")),
        (400, "ends in the middle", body(PART % b'file"; filename="a' + b'{"do"')),
        (422, "no file", body(PART % b"top" + b"3\r\n--b--\r\n")),
        (422, "field 'video'", body(PART % b'video"; filename="a' + b"{}\r\n--b--\r\n")),
        (400, "Too many files", body((PART % b'file"; filename="a' + b"{}\r\n") * 2 + b"--b--\r\n")),
        (422, "field 'top' must be greater than or equal to 1", fields(top="0")),
        (422, "field 'top' must be a valid integer", fields(top="1e3")),
        (422, "field 'modality' must be 'skeleton' or 'video'", fields(modality="sound")),
        (422, "field 'details' must be a valid boolean", fields(details="maybe")),
        (422, 'no field "path"; known: file, top, modality, details, timeline', fields(path="/etc/passwd")),
    ],
)
def test_what_cannot_be_taken_is_refused(
    client: TestClient, status: int, reason: str, request_: dict[str, Any]
) -> None:
    check_refused(client, status, reason, **request_)


@pytest.mark.parametrize(
    ("what", "status", "detail"),
    [
        ("refuse", 422, "'order.json': has no bodies, see /other"),
        ("fault", 500, "the server failed on this file; its log says why"),
        ("crash", 500, "the server failed on this file; its log says why"),
        ("gorge", 413, "'order.json' takes more memory than this server gives to one request"),
    ],
)
def test_what_goes_wrong_takes_only_its_request(
    client: TestClient, what: str, status: int, detail: str
) -> None:
    response = client.post(PREDICT, files=order(what))
    assert (response.status_code, response.json()) == (status, {"detail": detail})
    assert left_over(client) == []
    assert client.post(PREDICT, files=order("nothing")).status_code == 200
    assert client.get("/api/v1/ready").status_code == 200


def test_bytes_are_limited_where_no_length_is_told(client: TestClient) -> None:
    def pieces() -> Iterator[bytes]:
        yield PART % b'file"; filename="a' + b"{"
        for _ in range(30):
            yield b"x" * 100_000

    check_refused(client, 413, "larger", content=pieces(), headers={"Content-Type": FORM})


def test_videos_are_limited(client: TestClient, tmp_path: Path) -> None:
    for size, frames, reason in (((32, 656), 3, "656 x 32 pixels"), ((32, 32), 100, "takes 4.0 seconds")):
        file = write_video(tmp_path / "l.mp4", pictures=[np.zeros((*size, 3), np.uint8)] * frames)
        check_refused(client, 413, reason, files={"file": ("l.mp4", file.read_bytes())})


def test_time_workers_and_requests_at_a_time_are_limited(clip: bytes) -> None:
    with serving(Limits(videos=False, concurrent=3, workers=2, answer_seconds=3.0)) as client:
        folder, workers = client.app.state.folder, client.app.state.workers  # type: ignore[attr-defined]
        assert folder.stat().st_mode & 0o077 == 0
        response = client.post(PREDICT, files={"file": ("c.json", clip)})
        assert (response.status_code, "skeleton files alone" in response.text) == (415, True)
        before = [worker.process for worker in workers._all]
        found: list[Any] = []
        form = order("sleep", seconds=600)
        threads = [
            threading.Thread(target=lambda: found.append(client.post(PREDICT, files=form))) for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        until(lambda: left_over(client).count("upload.json") == 3 or found)
        if not found:  # all are in work, unless this machine stood still
            refused = client.post(PREDICT, files=order("nothing"))
            assert refused.status_code == 503
            assert int(refused.headers["Retry-After"]) > 0
            assert "3 requests" in refused.json()["detail"]
        for thread in threads:
            thread.join()
        # Two had a worker each; the third waited for one, and the wait counts.
        statuses = sorted(response.status_code for response in found)
        assert (statuses[0] in (503, 504), statuses[1:]) == (True, [504, 504])
        assert any("longer than 3 seconds" in response.json()["detail"] for response in found)
        assert not any(process.is_alive() for process in before)
        assert left_over(client) == []
    assert not folder.exists()

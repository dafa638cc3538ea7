"""The HTTP API, as a client sees it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the extra 'serve' isn't installed")

from starlette.testclient import TestClient

from hhmnet.serving.worker import NotLoaded
from made_server import CLASSES, PREDICT, BrokenRecognizer, left_over, order, serving
from made_video import write_video


def test_answers_a_video(client: TestClient, clip: bytes) -> None:
    response = client.post(PREDICT, files={"file": ("a clip.mp4", clip)}, data={"top": "2"})
    assert response.status_code == 200
    answer = response.json()
    assert answer.keys() == {"input", "label", "top", "modalities", "seconds", "members", "votes", "notes"}
    assert (answer["input"], answer["label"]) == ("a clip.mp4", "walk")
    assert [entry["label"] for entry in answer["top"]] == ["walk", "stand"]
    assert answer["top"][0]["probability"] == pytest.approx(0.7)
    assert answer["modalities"] == ["skeleton", "video"]
    np.testing.assert_allclose(answer["members"]["video"], [0.7, 0.2, 0.1], rtol=1e-6)
    assert answer["votes"] == {"joint": "walk", "video": "sit"}
    assert left_over(client) == []


def test_modality_is_handed_on(client: TestClient, clip: bytes) -> None:
    answer = client.post(PREDICT, files={"file": ("c.mp4", clip)}, data={"modality": ["skeleton"]}).json()
    assert answer["modalities"] == ["skeleton"]
    assert list(answer["members"]) == ["joint"]


def test_details_say_what_to_draw_and_when(client: TestClient, clip: bytes) -> None:
    answer = client.post(PREDICT, files={"file": ("c.mp4", clip)}, data={"details": "true"}).json()
    details = answer["details"]
    assert details["size"] == [64, 48]
    np.testing.assert_allclose(details["seconds"], np.arange(41) / 25, atol=1e-3)
    person = details["points"][0]
    assert len(person) == 41
    assert person[0][0] == [12.3, 12.3]
    assert person[0][3] is None  # no confidence
    assert len(details["guidance"]) == 5
    np.testing.assert_allclose(details["instants"], [0.04, 0.12, 0.2, 0.28], atol=1e-3)


def test_a_skeleton_alone_is_drawn_as_seen_from_the_camera(client: TestClient) -> None:
    details = client.post(PREDICT, files=order("nothing"), data={"details": "true"}).json()["details"]
    joints = np.random.default_rng(0).normal(size=(1, 8, 20, 3)).astype(np.float32)
    points = details["points"][0][0]
    assert points[3] is None
    # The camera's left is the picture's right, and y goes down.
    assert (points[0][0] < points[1][0]) == bool(joints[0, 0, 0, 0] > joints[0, 0, 1, 0])
    assert (points[0][1] < points[1][1]) == bool(joints[0, 0, 0, 1] > joints[0, 0, 1, 1])
    shown = np.array([point for frame in details["points"][0] for point in frame if point])
    width, height = details["size"]
    assert shown.min() >= 0
    assert (shown <= [width, height]).all()


def test_tells_of_the_model(client: TestClient) -> None:
    model = client.get("/api/v1/model").json()
    assert model["classes"] == list(CLASSES)
    assert model["modalities"] == ["skeleton", "video"]
    assert len(model["joints"]) == 20
    assert model["layout"] == "kinect20"


def test_health_and_readiness(client: TestClient) -> None:
    assert client.get("/api/v1/health").json() == {"status": "ok"}
    assert client.get("/api/v1/ready").json() == {"status": "ready"}


def test_openapi_describes_every_route_with_examples(client: TestClient) -> None:
    document = client.get("/api/v1/openapi.json").json()
    assert document["servers"] == [{"url": "/api/v1"}]
    assert set(document["paths"]) == {"/health", "/ready", "/model", "/predict"}
    predict = document["paths"]["/predict"]["post"]
    assert {"200", "400", "413", "415", "422", "500", "503", "504"} <= set(predict["responses"])
    form = predict["requestBody"]["content"]["multipart/form-data"]
    assert form["schema"]["required"] == ["file"]
    assert "example" in form
    assert document["components"]["schemas"]["Answer"]["properties"]["label"]["examples"] == ["forehand"]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../../etc/passwd", "passwd"),
        ("/etc/passwd", "passwd"),
        ("C:\\windows\\system.ini", "system.ini"),
        ("..", "upload"),
        ("a\nb\x1b[31m.json", "ab[31m.json"),
        ("x" * 300 + ".json", "x" * 100),
        ("http://127.0.0.1/x.m3u8", "x.m3u8"),
        ("<img src=x onerror=alert(1)>.mp4", "<img src=x onerror=alert(1)>.mp4"),
    ],
)
def test_a_hostile_name_is_shown_and_never_opened(client: TestClient, name: str, shown: str) -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="%s"\r\n\r\n{"do": "neighbours"}\r\n--b--\r\n'
    escaped = name.replace("\\", "\\\\").replace("\n", "%0A").encode()
    response = client.post(
        PREDICT, content=body % escaped, headers={"Content-Type": "multipart/form-data; boundary=b"}
    )
    assert response.status_code == 422
    detail = response.json()["detail"]
    assert "upload.json among ['upload.json']" in detail  # alone in its folder, under a name of ours
    if "\n" not in name:
        assert detail.startswith(f"'{shown}'")


@pytest.mark.parametrize(
    ("content", "status", "reason"),
    [
        (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", 415, "nothing that this server takes"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", 415, "nothing that this server takes"),
        (b"\x7fELF\x02\x01\x01" + bytes(100), 415, "nothing that this server takes"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), 415, "nothing that this server takes"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", 415, "nothing that this server takes"),
        (b"plain words", 415, "nothing that this server takes"),
        (b"", 422, "is empty"),
        (b"\x00\x00\x00\x20ftypisom" + bytes(200), 422, "no video that can be read"),
        (b"\x1a\x45\xdf\xa3" + bytes(200), 422, "no video that can be read"),
    ],
)
def test_wrong_content_is_refused(client: TestClient, content: bytes, status: int, reason: str) -> None:
    response = client.post(PREDICT, files={"file": ("clip.mp4", content)})
    assert response.status_code == status, response.text
    assert response.json().keys() == {"detail"}
    assert reason in response.json()["detail"]
    assert left_over(client) == []


def test_a_playlist_in_the_clothes_of_a_video_opens_nothing(client: TestClient, tmp_path: Path) -> None:
    # Whatever the name says, and even behind the first bytes of an MP4 file.
    secret = write_video(tmp_path / "secret.mp4")
    playlist = f"#EXTM3U\n#EXTINF:1,\n{secret}\n#EXT-X-ENDLIST\n".encode()
    for content in (playlist, b"\x00\x00\x00\x18ftypisom" + playlist):
        assert client.post(PREDICT, files={"file": ("clip.mp4", content)}).status_code in (415, 422)


def test_a_cut_video_is_refused_or_answered_in_one_line(client: TestClient, clip: bytes) -> None:
    for share in (0.05, 0.3, 0.6, 0.95):
        response = client.post(PREDICT, files={"file": ("c.mp4", clip[: int(share * len(clip))])})
        assert response.status_code in (200, 422), response.text
        if response.status_code == 422:
            assert "\n" not in response.json()["detail"]


@pytest.mark.parametrize(
    ("body", "kind", "status", "reason"),
    [
        (b'{"a": 1}', "application/json", 415, "send a form"),
        (b"file=x", "application/x-www-form-urlencoded", 415, "send a form"),
        (b"--b", "multipart/form-data", 400, "boundary"),
        (b"garbage", "multipart/form-data; boundary=b", 400, "form can't be read"),
        (
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n{"do"',
            "multipart/form-data; boundary=b",
            400,
            "ends in the middle",
        ),
        (
            b'--b\r\nContent-Disposition: form-data; name="top"\r\n\r\n3\r\n--b--\r\n',
            "multipart/form-data; boundary=b",
            422,
            "no file",
        ),
        (
            b'--b\r\nContent-Disposition: form-data; name="video"; filename="a"\r\n\r\n{}\r\n--b--\r\n',
            "multipart/form-data; boundary=b",
            422,
            "field 'video'",
        ),
    ],
)
def test_a_bad_form_is_refused(client: TestClient, body: bytes, kind: str, status: int, reason: str) -> None:
    response = client.post(PREDICT, content=body, headers={"Content-Type": kind})
    assert response.status_code == status, response.text
    assert reason in response.json()["detail"]
    assert left_over(client) == []


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"top": "0"}, "field 'top'"),
        ({"top": "²"}, "field 'top'"),
        ({"top": "1e3"}, "field 'top'"),
        ({"modality": "sound"}, "field 'modality'"),
        ({"details": "maybe"}, "field 'details'"),
        ({"timeline": "maybe"}, "field 'timeline'"),
        ({"window": "2"}, "field 'window' goes with timeline=true"),
        ({"timeline": "true", "window": "two"}, "field 'window' must be a number of seconds"),
        ({"timeline": "true", "window": "nan"}, "field 'window'"),
        ({"timeline": "true", "window": "1e9"}, "field 'window'"),
        ({"timeline": "true", "stride": "0"}, "field 'stride'"),
        ({"path": "/etc/passwd"}, 'no field "path"'),
    ],
)
def test_a_bad_field_is_refused(client: TestClient, fields: dict[str, str], reason: str) -> None:
    response = client.post(PREDICT, files=order("nothing"), data=fields)
    assert response.status_code == 422
    assert reason in response.json()["detail"]
    assert left_over(client) == []


def test_two_files_are_refused(client: TestClient) -> None:
    files = [("file", ("a.json", b"{}")), ("file", ("b.json", b"{}"))]
    assert client.post(PREDICT, files=files).status_code == 400
    assert left_over(client) == []


def test_a_refusal_never_tells_of_folders(client: TestClient) -> None:
    response = client.post(PREDICT, files=order("refuse"))
    assert response.status_code == 422
    assert "has no bodies" in response.json()["detail"]
    assert "hhmnet-serve" not in response.text


def test_a_fault_of_ours_is_500_and_tells_nothing(client: TestClient) -> None:
    response = client.post(PREDICT, files=order("fault"))
    assert response.status_code == 500
    assert response.json() == {"detail": "the server failed on this file; its log says why"}
    assert left_over(client) == []


def test_a_crash_takes_only_its_worker(client: TestClient) -> None:
    before = client.post(PREDICT, files=order("nothing")).json()["seconds"]
    assert client.post(PREDICT, files=order("crash")).status_code == 500
    assert left_over(client) == []
    after = client.post(PREDICT, files=order("nothing"))  # waits for the new one
    assert after.status_code == 200
    assert after.json()["seconds"] != before
    assert client.get("/api/v1/ready").status_code == 200


def test_memory_is_limited(client: TestClient) -> None:
    response = client.post(PREDICT, files=order("gorge"))
    assert response.status_code == 413
    assert "memory" in response.json()["detail"]
    assert client.post(PREDICT, files=order("nothing")).status_code == 200


def test_unknown_routes_and_methods(client: TestClient) -> None:
    assert client.get("/api/v1/nothing").status_code == 404
    assert client.get(PREDICT).status_code == 405
    assert client.get("/docs").status_code == 404


def test_no_cors(client: TestClient) -> None:
    told = client.get("/api/v1/health", headers={"Origin": "http://testserver"}).headers
    assert not [name for name in told if name.startswith("access-control")]
    assert told["cache-control"] == "no-store"


def test_a_model_that_cannot_be_loaded_is_named() -> None:
    with pytest.raises(NotLoaded, match="there is no model"), serving(recognizer=BrokenRecognizer):
        pass

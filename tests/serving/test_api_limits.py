"""Limits of the HTTP API."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the extra 'serve' isn't installed")

from starlette.testclient import TestClient

from hhmnet.serving.limits import Limits
from made_server import PREDICT, left_over, order, serving, until
from made_video import write_video


class TestLimits:
    def test_bytes(self, client: TestClient) -> None:
        large = {"file": ("a.json", b'{"a": "' + b"x" * 1_000_000 + b'"}')}
        response = client.post(PREDICT, files=large)
        assert response.status_code == 413
        assert response.json()["detail"] == "the upload is larger than 1 MB"

    def test_bytes_of_a_body_that_tells_no_length(self, client: TestClient) -> None:
        def pieces() -> Any:
            yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n{'
            for _ in range(30):
                yield b"x" * 100_000
            yield b"\r\n--b--\r\n"

        kind = {"Content-Type": "multipart/form-data; boundary=b"}
        response = client.post(PREDICT, content=pieces(), headers=kind)
        assert response.status_code == 413
        assert left_over(client) == []

    def test_resolution(self, client: TestClient, tmp_path: Path) -> None:
        file = write_video(tmp_path / "l.mp4", pictures=[np.zeros((32, 656, 3), np.uint8)] * 3)
        response = client.post(PREDICT, files={"file": ("l.mp4", file.read_bytes())})
        assert response.status_code == 413
        assert "656 x 32 pixels" in response.json()["detail"]

    def test_seconds_of_video(self, client: TestClient, tmp_path: Path) -> None:
        file = write_video(tmp_path / "l.mp4", pictures=[np.zeros((32, 32, 3), np.uint8)] * 100)
        response = client.post(PREDICT, files={"file": ("l.mp4", file.read_bytes())})
        assert response.status_code == 413
        assert "4.0 seconds" in response.json()["detail"]

    def test_videos(self, clip: bytes) -> None:
        with serving(Limits(videos=False)) as client:
            response = client.post(PREDICT, files={"file": ("c.json", clip)})
            assert response.status_code == 415
            assert "skeleton files alone" in response.json()["detail"]
            assert client.post(PREDICT, files=order("nothing")).status_code == 200

    def test_time_for_the_answer_and_the_work_ends(self) -> None:
        with serving(Limits(answer_seconds=4.0)) as client:
            worker = int(client.post(PREDICT, files=order("nothing")).json()["seconds"])
            began = time.monotonic()
            response = client.post(PREDICT, files=order("sleep", seconds=600))
            assert response.status_code == 504
            assert time.monotonic() - began < 60
            assert "longer than 4 seconds" in response.json()["detail"]
            assert not Path(f"/proc/{worker}").exists()
            assert left_over(client) == []

    def test_time_for_the_answer_counts_the_wait_for_a_worker(self) -> None:
        with serving(Limits(answer_seconds=2.0, concurrent=3)) as client:
            statuses = _at_once(client, [order("sleep", seconds=600)] * 3)
            assert set(statuses) <= {503, 504}
            assert 504 in statuses

    def test_requests_at_a_time(self) -> None:
        with serving(Limits(concurrent=2, answer_seconds=30)) as client:
            long = threading.Thread(target=_at_once, args=(client, [order("sleep", seconds=3)] * 2))
            long.start()
            until(lambda: left_over(client).count("upload.json") == 2)
            refused = client.post(PREDICT, files=order("nothing"))
            long.join()
            assert refused.status_code == 503
            assert int(refused.headers["Retry-After"]) > 0
            assert "2 requests" in refused.json()["detail"]
            assert client.post(PREDICT, files=order("nothing")).status_code == 200

    def test_several_workers_answer_at_the_same_time(self) -> None:
        with serving(Limits(concurrent=2, workers=2)) as client:
            found: list[float] = []
            threads = [
                threading.Thread(
                    target=lambda: found.append(
                        client.post(PREDICT, files=order("sleep", seconds=2)).json()["seconds"]
                    )
                )
                for _ in range(2)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(set(found)) == 2


def _at_once(client: TestClient, forms: list[dict[str, Any]]) -> list[int]:
    statuses: list[int] = []
    threads = [
        threading.Thread(
            target=lambda form=form: statuses.append(client.post(PREDICT, files=form).status_code)
        )  # type: ignore[misc]
        for form in forms
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses


@pytest.mark.parametrize(
    "field",
    [
        "upload_mb",
        "upload_seconds",
        "video_seconds",
        "resolution",
        "answer_seconds",
        "concurrent",
        "workers",
        "memory_mb",
    ],
)
def test_limits_are_checked(field: str) -> None:
    with pytest.raises(ValueError, match=f"field '{field}'"):
        Limits(**{field: -1})


def test_the_private_folder_goes_with_the_server() -> None:
    with serving() as client:
        api = next(route.app for route in client.app.routes if getattr(route, "path", "") == "/api/v1")  # type: ignore[attr-defined]
        folder = api.state.folder
        assert folder.stat().st_mode & 0o077 == 0
    assert not folder.exists()

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from hhmnet.predict import capture as module
from hhmnet.predict.capture import Capture
from hhmnet.predict.sources import InputError
from made_video import number_in, picture, write_video

FRAMES = 24


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("capture") / "clip.mkv"
    return write_video(file, pictures=[picture(number) for number in range(FRAMES)])


def test_a_file_plays_at_its_own_rate(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moments: list[float] = []
    monkeypatch.setattr(module, "monotonic", lambda: 1000.0)
    monkeypatch.setattr(Capture, "_wait_until", lambda self, moment: moments.append(moment) or True)
    with Capture(str(video), buffer=FRAMES) as capture:
        frames = list(capture)
    assert [number_in(frame.image) for frame in frames] == list(range(FRAMES))
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(FRAMES) / 25, atol=1e-9)
    np.testing.assert_allclose(moments, 1000 + np.arange(FRAMES) / 25, atol=1e-9)
    assert (capture.rate, capture.dropped, capture.broken) == (pytest.approx(25), 0, "")


def test_whoever_is_slow_gets_the_newest_frames_and_the_others_are_counted(
    video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Capture, "_wait_until", lambda self, moment: True)  # all frames come at once
    numbers = []
    with Capture(str(video), buffer=2) as capture:
        for frame in capture:
            numbers.append(number_in(frame.image))
            assert capture._thread is not None
            capture._thread.join()
    assert numbers[-2:] == [FRAMES - 2, FRAMES - 1]
    assert len(numbers) + capture.dropped == FRAMES
    assert len(numbers) <= 3


def test_a_file_as_fast_as_possible_in_a_loop_drops_nothing_and_goes_on_in_time(video: Path) -> None:
    with Capture(str(video), real_time=False, loop=True, buffer=1) as capture:
        frames = [frame for frame, _ in zip(capture, range(2 * FRAMES + 3), strict=False)]
    assert [number_in(frame.image) for frame in frames] == [*range(FRAMES), *range(FRAMES), 0, 1, 2]
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(len(frames)) / 25, atol=1e-9)
    assert capture.dropped == 0


@contextmanager
def served(content: bytes, announced: int) -> Iterator[str]:
    """An address on this machine that gives ``content`` and says that it has so many bytes."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(announced))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *words: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/live.ts"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("missing", [0, 1000])
def test_a_stream_that_ends_and_one_that_breaks_off(tmp_path: Path, missing: int) -> None:
    content = write_video(tmp_path / "live.ts").read_bytes()
    with served(content, len(content) + missing) as address, Capture(address, buffer=1000) as capture:
        numbers = [number_in(frame.image) for frame in capture]
    assert len(numbers) >= 30
    assert numbers == sorted(numbers)
    assert bool(capture.broken) == bool(missing)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("rtsp://name:secret@127.0.0.1:9/door", "rtsp://127.0.0.1:9/door: can't be opened"),
        ("odd://somewhere", "can't be opened"),
    ],
)
def test_what_cannot_be_opened_is_named_in_one_line_without_a_password(source: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        Capture(source)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)

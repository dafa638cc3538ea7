"""A trained model behind HTTP: an API, and a page for the browser. What a request may cost, and how one is refused."""

from __future__ import annotations

from dataclasses import dataclass

from hhmnet.fields import brief, within

MEGABYTE = 1_000_000


@dataclass
class Limits:
    """What a request may take. What lies beyond is refused with a status of its own and one line that says why."""

    upload_mb: float = 64.0
    """Largest request, in megabytes; 413 beyond."""
    upload_seconds: float = 60.0
    """Time for a request to arrive in full; 408 beyond."""
    videos: bool = True
    """Whether videos are taken, or skeleton files alone (no networks that find joints are needed then); 415 beyond."""
    video_seconds: float = 30.0
    """Longest video, in seconds; 413 beyond."""
    resolution: int = 1920
    """Longer side of a video's pictures, in pixels; 413 beyond."""
    answer_seconds: float = 120.0
    """Time from the end of an upload to its answer, in seconds; 504 beyond, and the work is stopped. If no worker was
    free until then, 503."""
    concurrent: int = 4
    """Requests at a time, from the first byte to the answer; 503 beyond, with Retry-After."""
    workers: int = 1
    """Processes that answer, each with the model in its memory."""
    memory_mb: float = 4096.0
    """What a worker may take while it answers beyond what the loaded model takes, in megabytes; 413 beyond.
    Not enforced with a GPU, or outside of Linux."""

    examples: int = 200
    """Examples of taught classes that are kept at a time; 409 beyond. With 0 nobody teaches."""

    def __post_init__(self) -> None:
        within(self, 0.001, 100_000, "upload_mb")
        within(self, 0.01, 86_400, "upload_seconds", "video_seconds", "answer_seconds")
        within(self, 16, 16_384, "resolution")
        within(self, 1, 1024, "concurrent", "workers")
        within(self, 64, 10_000_000, "memory_mb")
        within(self, 0, 10_000, "examples")


class Refused(Exception):
    """A request that gets no answer: an HTTP ``status``, and one line for the client, ``detail``, which never names a
    file or folder of the server; with ``headers``."""

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(status, detail)
        self.status, self.detail, self.headers = status, brief(" ".join(detail.split())), headers or {}


def busy(detail: str) -> Refused:
    """503, to come again after five seconds."""
    return Refused(503, detail, {"Retry-After": "5"})

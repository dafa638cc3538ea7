"""The window of ``hhmnet live``: the picture with the persons' joints over it, and the answers below."""

from __future__ import annotations

import numpy as np

from hhmnet.commands.live_views import Meter, headlines
from hhmnet.commands.terminal import UsageError
from hhmnet.drawing import draw_skeleton
from hhmnet.predict.capture import Frame
from hhmnet.predict.live import StreamingRecognizer
from hhmnet.predict.prediction import LivePrediction

LARGEST = 960
"""Larger pictures are shown at a half, a third and so on, so that the longer side has at most so many pixels."""


class WindowView:
    """A window of the system's.

    Args:
        title: what it is called.
        recognizer: knows where the joints are.

    Raises:
        UsageError: there is no screen, or Python was built without windows.
    """

    def __init__(self, title: str, recognizer: StreamingRecognizer) -> None:
        try:
            import tkinter
        except ImportError:
            raise UsageError(
                "--view window needs Python's tkinter (python3-tk); take --view terminal"
            ) from None
        try:
            self._root = tkinter.Tk()
        except tkinter.TclError as error:
            raise UsageError(f"--view window: there is no screen ({error}); take --view terminal") from None
        self._recognizer, self._is_open = recognizer, True
        self._root.title(f"hhmnet live: {title}")
        self._root.protocol("WM_DELETE_WINDOW", self._shut)
        for key in ("<Escape>", "q"):
            self._root.bind(key, lambda event: self._shut())
        self._image = tkinter.PhotoImage(master=self._root)
        self._picture = tkinter.Canvas(self._root, highlightthickness=0)
        self._picture.create_image(0, 0, image=self._image, anchor="nw")
        self._picture.pack()
        self._text = tkinter.Label(self._root, font=("", 18))
        self._text.pack()

    def show(self, frame: Frame | None, answer: LivePrediction | None, meter: Meter) -> bool:
        """Draw a frame; returns False once the window was closed."""
        if frame is not None:
            image = drawn(frame.image, self._recognizer)
            self._image.configure(data=as_ppm(image))
            self._picture.configure(width=image.shape[1], height=image.shape[0])
            self._picture.delete("number")
            for x, y, number in numbers(frame.image.shape, self._recognizer):
                self._picture.create_text(
                    x, y, text=str(number), fill="yellow", font=("", 18, "bold"), tags="number"
                )
        speed = meter.figures()
        lines = headlines(answer, self._recognizer.config.persons)
        lines[-1] += f"     {speed['frames_per_second']:.0f} frames/s"
        self._text.configure(text="\n".join(lines))
        self._root.update()
        return self._is_open

    def close(self) -> None:
        """Take the window away."""
        self._root.destroy()

    def _shut(self) -> None:
        self._is_open = False


def drawn(image: np.ndarray, recognizer: StreamingRecognizer) -> np.ndarray:
    """The picture ``(H, W, 3)`` at the size in which it is shown, with the joints of the persons in it."""
    step = -(-max(image.shape[:2]) // LARGEST)
    image = np.ascontiguousarray(image[::step, ::step])
    pose = recognizer.pose
    for place in range(len(pose.followed) if pose is not None else 0):
        assert pose is not None
        newest = pose.newest(place)
        if newest is None:
            continue
        pixels, confidence = newest
        seen = np.where(confidence >= pose.config.min_confidence, confidence, 0)
        image = draw_skeleton(image, (pixels - 0.5) / step, pose.layout, seen)
    return image


def numbers(shape: tuple[int, ...], recognizer: StreamingRecognizer) -> list[tuple[float, float, int]]:
    """Where each person's number stands at the size in which a picture ``(H, W, 3)`` is shown: x, y, number.

    It stands over the head, inside the picture; none where one person is answered.
    """
    step, pose = -(-max(shape[:2]) // LARGEST), recognizer.pose
    if pose is None or recognizer.config.persons == 1:
        return []
    found = []
    for place, one in enumerate(pose.followed):
        newest = pose.newest(place)
        if newest is not None:
            left, top = newest[0].min(0)
            middle = (left + newest[0][:, 0].max()) / 2
            found.append((float(middle) / step, max(float(top) / step - 14, 14.0), one.person))
    return found


def as_ppm(image: np.ndarray) -> bytes:
    """An image ``(H, W, 3)`` as a Portable Pixmap, which needs no encoder."""
    return b"P6 %d %d 255 " % (image.shape[1], image.shape[0]) + image.tobytes()

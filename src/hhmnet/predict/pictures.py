"""Predictions as files: drawn on their video, and over time as a table, a document and a picture."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np

from hhmnet.confidence import UNKNOWN
from hhmnet.data.places import part_squares, pictures_of
from hhmnet.drawing import draw_box, draw_skeleton
from hhmnet.evaluation.figures import class_label, class_labels, new_figure, save_figure, set_fonts
from hhmnet.files import replacing, write_json
from hhmnet.predict.recognizer import Prediction
from hhmnet.predict.sources import InputError
from hhmnet.predict.timeline import Segment, Timeline
from hhmnet.skeleton import SkeletonLayout
from hhmnet.video import Video, open_video

if TYPE_CHECKING:
    from hhmnet.data.roi import RoiConfig

CLOCK = Fraction(1, 90_000)
"""Unit of a frame's time in the file: the frames of videos of uneven rate stay where they were."""

_RAMP = np.array([(120, 120, 120), (250, 205, 40), (225, 30, 40)])  # of the weights 0, 1 and 2


def draw_overlay(
    prediction: Prediction, layout: SkeletonLayout, out: Path, roi: RoiConfig | None = None
) -> None:
    """Write the video of a prediction with joints and answer drawn on it, as MP4 without sound.

    The squares around head, hands and feet are those whose content the video network sees, cut out as ``roi`` says;
    their colour, from grey through yellow to red, says how strongly the skeleton's guidance weights them (0 to 2).
    Raises InputError: there is no video to draw on, ``out`` is that video or no MP4 file; VideoError: it can't be read.
    """
    sample = prediction.sample
    if prediction.video is None:
        raise InputError(f"{prediction.input}: has no video to draw on")
    if out.suffix.lower() != ".mp4":
        raise InputError(f"{out}: the name of the video to write must end in .mp4")
    if out.exists() and isinstance(prediction.video, Path) and out.samefile(prediction.video):
        raise InputError(f"{out}: is the video to draw on, and would be lost; give another name")
    out.parent.mkdir(parents=True, exist_ok=True)
    parts = _parts_of(prediction, layout, roi)
    with open_video(prediction.video) as video, replacing(out) as handle:
        shown = {int(picture): t for t, picture in enumerate(pictures_of(sample, len(video)))}
        caption = _caption(prediction, video.width, video.height)

        def drawn() -> Iterator[np.ndarray]:
            for index, image in video:
                t = shown.get(index)
                if t is not None and sample.pixels is not None:
                    for person in np.flatnonzero(sample.present[:, t]):
                        trust = None if sample.confidence is None else sample.confidence[person, t]
                        image = draw_skeleton(image, sample.pixels[person, t], layout, trust)
                    for box, weight in parts[t] if parts else ():
                        red, green, blue = (
                            round(float(np.interp(weight, (0, 1, 2), tone))) for tone in _RAMP.T
                        )
                        thickness = max(1.5, image.shape[0] / 300) * (0.75 + weight / 2)
                        image = draw_box(image, box, (red, green, blue), thickness)
                yield with_caption(image, caption)

        _write(handle, drawn(), video)


def _parts_of(
    prediction: Prediction, layout: SkeletonLayout, roi: RoiConfig | None
) -> list[list[tuple[tuple[float, float, float, float], float]]]:
    """Squares around the parts that are known, with the weight of each, for each of the clip's T frames."""
    sample = prediction.sample
    if roi is None or prediction.guidance is None or prediction.times is None:
        return []
    every = np.arange(sample.num_frames)
    frames, places, sides = part_squares(sample, layout, every, every >= 0, roi.window, roi.part_size)
    half = sides[..., None] / 2
    boxes = np.concatenate([places - half, places + half], -1).tolist()
    weights = prediction.guidance.T[np.abs(every[:, None] - prediction.times).argmin(1)].tolist()
    return [[(boxes[t][part], weights[t][part]) for part in np.flatnonzero(frames[t] == t)] for t in every]


def _caption(prediction: Prediction, width: int, height: int) -> np.ndarray:
    """``unknown`` where it is none of them, and the surest classes: ``(h, w, 4)``, no wider than the picture."""
    order = np.argsort(-prediction.probabilities, kind="stable").tolist()  # that of the answers
    answers = zip(order, prediction.top[:3], strict=False)
    lines = [f"{class_label(label, number)}  {100 * share:.0f} %" for number, (label, share) in answers]
    lines = lines if prediction.known else [UNKNOWN, *lines]
    line = max(round(height / 20), 11)
    while (image := text_image(lines, line)).shape[1] > width and line > 6:
        line -= 1
    return image


def text_image(lines: list[str], height: int) -> np.ndarray:
    """Lines of white text on a dark ground as an image ``(h, w, 4)`` uint8, the last channel says how much it covers.

    Each line is ``height`` pixels high; the first one is bold where there are several.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure, dpi = new_figure(1, 1), 100
    figure.set(dpi=dpi, layout_engine="none", facecolor=(0, 0, 0, 0.6))
    canvas = FigureCanvasAgg(figure)
    style = {"fontsize": 0.66 * height * 72 / dpi, "color": "white", "va": "center"}
    texts = [figure.text(0, 0, line, **style) for line in lines]
    texts[0].set_weight("bold" if len(lines) > 1 else "normal")
    set_fonts(figure)
    widest = max(text.get_window_extent(canvas.get_renderer()).width for text in texts)
    width, tall = int(widest + 0.6 * height) + 1, height * len(lines)
    figure.set_size_inches(width / dpi, tall / dpi)
    for number, text in enumerate(texts):
        text.set_position((0.3 * height / width, 1 - (number + 0.5) / len(lines)))
    canvas.draw()
    return np.array(canvas.buffer_rgba())


def with_caption(image: np.ndarray, caption: np.ndarray) -> np.ndarray:
    """A copy of ``image (H, W, 3)`` with ``caption (h, w, 4)`` in its upper left corner, as far as that lies inside."""
    image = image.copy()
    place = image[: caption.shape[0], : caption.shape[1]]
    inside = caption[: place.shape[0], : place.shape[1]]
    cover = inside[..., 3:].astype(np.float64) / 255
    place[...] = np.round(place * (1 - cover) + inside[..., :3] * cover).astype(np.uint8)
    return image


def _write(handle: Any, images: Iterator[np.ndarray], video: Video) -> None:
    """Encode the video's images, each at its time; H.264 where PyAV has its encoder, else MPEG-4."""
    codec, settings = "mpeg4", {"qmin": "2", "qmax": "5"}
    if "libx264" in av.codecs_available:
        codec, settings = "libx264", {"preset": "veryfast", "crf": "20"}
    with av.open(handle, "w", format="mp4") as output:
        rate = Fraction(video.fps or 25).limit_denominator(1001)
        stream: Any = output.add_stream(codec, rate=rate, options=settings)
        # Chroma is halved in both directions, so sides must be even.
        stream.width, stream.height = video.width + video.width % 2, video.height + video.height % 2
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = CLOCK
        for time, image in zip(video.times, images, strict=False):
            grown = np.pad(image, ((0, image.shape[0] % 2), (0, image.shape[1] % 2), (0, 0)), mode="edge")
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(grown), format="rgb24")
            frame.pts, frame.time_base = round(float(time) / CLOCK), CLOCK
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def write_timeline(timeline: Timeline, folder: Path) -> list[Path]:
    """Write segments.csv, timeline.json and timeline.png into a folder, which is made if need be; returns them."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / name for name in ("segments.csv", "timeline.json", "timeline.png")]
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Segment._fields)
    for segment in timeline.segments:
        times = f"{segment.start:.3f}", f"{segment.end:.3f}"
        writer.writerow([*segment[:2], *times, *segment[4:6], f"{segment.probability:.4f}"])
    with replacing(files[0]) as handle:
        handle.write(text.getvalue().encode(errors="backslashreplace"))
    write_json(files[1], timeline.to_dict())
    _draw_timeline(timeline, files[2])
    return files


def _draw_timeline(timeline: Timeline, file: Path) -> None:
    """Draw each person's probabilities over time, a row a class, with the segments framed."""
    names, persons, edges = timeline.class_names, timeline.smoothed, timeline.windows.edges
    figure = new_figure(11, len(persons) * (0.9 + 0.28 * min(len(names), 30)))
    rows = figure.subplots(len(persons), squeeze=False, sharex=True)[:, 0]
    image = None
    for number, (axes, smoothed) in enumerate(zip(rows, persons, strict=True), 1):
        axes.set_facecolor("#dddddd")  # where there is no answer
        shares = np.ma.masked_invalid(smoothed.T)
        image = axes.pcolormesh(edges, np.arange(len(names) + 1), shares, cmap="Blues", vmin=0, vmax=1)
        for segment in timeline.of_person(number):
            row, span = names.index(segment.label), [(segment.start, segment.end - segment.start)]
            axes.broken_barh(span, (row, 1), facecolor="none", edgecolor="#d95f02", lw=1.8)
        if len(names) <= 60:
            axes.set_yticks(np.arange(len(names)) + 0.5, class_labels(names), fontsize=8)
        axes.set_ylim(len(names), 0)
        axes.set_title(f"person {number}", loc="left", fontsize=10)
    rows[-1].set(xlabel="seconds", xlim=(0, timeline.duration))
    figure.colorbar(image, ax=list(rows), label="probability", fraction=0.03)
    save_figure(figure, file)

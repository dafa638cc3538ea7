"""Classes that clients teach a running server by a few examples, which stay in its memory and nowhere else.

The server keeps what its workers' encoders make of each clip; the clip itself is gone with its request. A worker that
is asked for these classes is given all examples and fits the head anew, which takes a tenth of a second.
"""

from __future__ import annotations

import base64
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hhmnet.serving.answers import read_upload
from hhmnet.serving.limits import Limits, Refused

if TYPE_CHECKING:
    from hhmnet.models.pretrained import ActionModel
    from hhmnet.predict.enroll import Examples
    from hhmnet.predict.recognizer import Recognizer

FEWEST = 2
"""Classes, and examples of each, that can be told apart."""
MODEL_FOLDER = "taught"
"""The one folder in the file that holds the model."""

Taught = dict[str, list[dict[str, Any]]]
"""By class, what :func:`learn` returned of each clip."""


class Classroom:
    """The examples that a server holds.

    Args:
        most: examples at a time.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._taught: Taught = {}

    def check_room(self) -> None:
        """Raise Refused where no further example is taken."""
        if sum(map(len, self._taught.values())) >= self.most:
            raise Refused(409, f"this server keeps {self.most} examples; forget some first")

    def add(self, label: str, example: dict[str, Any]) -> None:
        """Keep an example; a class that differs in capitals alone is the same."""
        self.check_room()
        known = next((name for name in self._taught if name.casefold() == label.casefold()), label)
        self._taught.setdefault(known, []).append(example)

    def forget(self, label: str | None) -> None:
        """Forget a class, or all of them; raises Refused where there is no such class."""
        if label is None:
            self._taught.clear()
        elif self._taught.pop(label, None) is None:
            raise Refused(404, "no class of that name is taught")

    def enough(self) -> Taught:
        """The examples; raises Refused where they are too few."""
        if not self.summary()["ready"]:
            raise Refused(409, f"teach {FEWEST} classes or more, by {FEWEST} examples each or more")
        return dict(self._taught)

    def summary(self) -> dict[str, Any]:
        """See :class:`hhmnet.serving.schema.TaughtClasses`."""
        counts = {name: len(examples) for name, examples in self._taught.items()}
        ready = len(counts) >= FEWEST and min(counts.values()) >= FEWEST
        return {"classes": counts, "most": self.most, "ready": ready}


def learn(recognizer: Recognizer, job: dict[str, Any], limits: Limits) -> dict[str, Any]:
    """What the recognizer's encoders make of a job's file, as JSON."""
    from hhmnet.predict.enroll import embed
    from hhmnet.predict.sources import InputError

    clip, _ = read_upload(recognizer, job, limits)
    if not clip.sample.present.any():
        raise InputError("nobody is found in it")
    (embedding,) = embed(_model(recognizer), [clip.sample])
    return {"embedding": base64.b64encode(embedding.tobytes()).decode(), "frames": clip.sample.num_frames}


def taught_recognizer(recognizer: Recognizer, taught: Taught) -> Recognizer:
    """A recognizer of the taught classes, which finds joints by the networks that are loaded."""
    from hhmnet.predict.enroll import enrolled
    from hhmnet.predict.recognizer import Recognizer

    model = _model(recognizer)
    made = Recognizer(enrolled(model, _examples(model, taught))[0], next(model.parameters()).device)
    made.sources = recognizer.sources
    return made


def save(recognizer: Recognizer, job: dict[str, Any], limits: Limits) -> dict[str, Any]:
    """Write the model of the taught classes, as ``hhmnet enroll`` does, to a zip file at the job's path."""
    from hhmnet.predict.enroll import enrolled, save_examples

    model, path = _model(recognizer), Path(job["path"])
    examples, folder = _examples(model, job["taught"]), path.parent / MODEL_FOLDER
    enrolled(model, examples)[0].save_pretrained(folder)
    save_examples(examples, folder)
    shutil.make_archive(str(path.with_suffix("")), "zip", path.parent, MODEL_FOLDER)
    return {}


def _model(recognizer: Recognizer) -> ActionModel:
    from hhmnet.predict.engines import TorchEngine
    from hhmnet.predict.enroll import EnrollError

    if not isinstance(recognizer.engine, TorchEngine):
        raise EnrollError("this server's model is an exported one, which has no encoders to build on")
    return recognizer.engine.model


def _examples(model: ActionModel, taught: Taught) -> Examples:
    from hhmnet.predict.enroll import Examples

    clips = [clip for examples in taught.values() for clip in examples]
    labels = np.repeat(np.arange(len(taught)), [len(examples) for examples in taught.values()])
    rows = [np.frombuffer(base64.b64decode(clip["embedding"]), np.float32) for clip in clips]
    lengths = np.array([clip["frames"] for clip in clips])
    return Examples(
        tuple(taught), labels, np.stack(rows).reshape(len(rows), len(model.spec.data.streams), -1), lengths
    )

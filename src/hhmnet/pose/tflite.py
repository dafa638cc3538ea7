"""Running a TensorFlow Lite model."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from hhmnet.pose.assets import PoseError


class TFLite:
    """One model, on one thread: that is the fastest for networks this small.

    A folder of videos is spread over the cores by the file.

    Args:
        path: the ``.tflite`` file.

    Raises:
        PoseError: the package ``ai-edge-litert`` is missing, or the file is not a model.
    """

    def __init__(self, path: Path) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            remedy = "install hhmnet with its extra: pip install 'hhmnet[pose]'"
            raise PoseError(f"the package ai-edge-litert can't be used ({error}); {remedy}") from None
        try:
            with _quiet():
                self._interpreter: Any = Interpreter(str(path), num_threads=1)
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise PoseError(f"{path} is not a TensorFlow Lite model ({error})") from None
        self._input: dict[str, Any] = self._interpreter.get_input_details()[0]
        self._outputs = {d["name"]: d["index"] for d in self._interpreter.get_output_details()}

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the input."""
        return tuple(int(size) for size in self._input["shape"])

    @property
    def input_type(self) -> np.dtype:
        """Type of the input's numbers."""
        return np.dtype(self._input["dtype"])

    def run(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """The outputs by name, for an input of the model's shape and type."""
        self._interpreter.set_tensor(self._input["index"], x)
        self._interpreter.invoke()
        return {name: self._interpreter.get_tensor(index) for name, index in self._outputs.items()}


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the runtime's own lines off standard error: it writes there, below Python, that it took its usual path."""
    with suppress(OSError, ValueError):
        sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # there is no standard error
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)

"""Answers from trained models: on files and videos, live, with torch or with an exported graph."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hhmnet.predict.prediction import Prediction
    from hhmnet.predict.recognizer import Recognizer
    from hhmnet.predict.sources import InputError

__all__ = ["InputError", "Prediction", "Recognizer"]

# Imported when it is asked for: an exported model answers without torch.
_PLACES = {"Prediction": "prediction", "Recognizer": "recognizer", "InputError": "sources"}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)

"""Answers from trained models: on files and videos, live, with torch or with an exported graph."""

from __future__ import annotations

from hhmnet.predict.recognizer import Prediction, Recognizer
from hhmnet.predict.sources import InputError

__all__ = ["InputError", "Prediction", "Recognizer"]

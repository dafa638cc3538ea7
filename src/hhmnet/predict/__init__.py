"""Answers from trained models: on files and videos, live, with torch or with an exported graph."""

from __future__ import annotations

from hhmnet.predict.prediction import Prediction
from hhmnet.predict.recognizer import Recognizer
from hhmnet.predict.sources import InputError

__all__ = ["InputError", "Prediction", "Recognizer"]

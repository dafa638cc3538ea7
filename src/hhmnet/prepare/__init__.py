"""Raw files → store: on all cores or a cluster, resumably, with bytes that depend on neither."""

from __future__ import annotations

from hhmnet.prepare.engine import ENGINES, prepare
from hhmnet.prepare.parts import PrepareError, PrepareReport, Rejected
from hhmnet.prepare.workers import WorkerLost

__all__ = ["ENGINES", "PrepareError", "PrepareReport", "Rejected", "WorkerLost", "prepare"]

"""Raw files → store: on all cores or a cluster, resumably, with bytes that depend on neither."""

from __future__ import annotations

from hhmnet.preparing.engine import ENGINES, prepare
from hhmnet.preparing.report import PrepareError, PrepareReport, Rejected
from hhmnet.preparing.workers import WorkerLost

__all__ = ["ENGINES", "PrepareError", "PrepareReport", "Rejected", "WorkerLost", "prepare"]

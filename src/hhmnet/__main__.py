"""``python -m hhmnet`` is ``hhmnet``."""

from __future__ import annotations

import sys

from hhmnet.cli import program

if __name__ == "__main__":
    sys.exit(program())

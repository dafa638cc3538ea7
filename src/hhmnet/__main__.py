"""``python -m hhmnet`` is ``hhmnet``."""

from __future__ import annotations

import sys

from hhmnet.cli import main

if __name__ == "__main__":
    sys.exit(main())

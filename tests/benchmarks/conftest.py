from __future__ import annotations

import sys
from pathlib import Path

# The benchmarks are scripts beside the package: found by their folder, as when one of them is run.
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

"""Memory that a training on a CPU keeps for its next step."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from hhmnet import allocator

FAULTS = """
import resource, numpy as np
from hhmnet.allocator import keep_freed_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        np.ones(2**22)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
before = faults()
keep_freed_memory()
faults()
assert faults() < 0.2 * before, before
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_freed_memory_is_used_again_without_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    if not hasattr(ctypes.CDLL(None), "mallopt"):
        pytest.skip("this C library has no mallopt")
    subprocess.run([sys.executable, "-c", FAULTS], check=True)
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: object())
    assert not allocator.keep_freed_memory(), "other C libraries are left as they are"

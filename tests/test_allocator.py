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
{call}
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    np.ones(2**22)
before = faults()
for _ in range(4):
    np.ones(2**22)
print(faults() - before)
"""


def _faults(call: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", FAULTS.format(call=call)], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_freed_memory_is_used_again_without_the_system() -> None:
    if not hasattr(ctypes.CDLL(None), "mallopt"):
        pytest.skip("this C library has no mallopt")
    assert _faults("keep_freed_memory()") < 0.2 * _faults("")


def test_other_c_libraries_are_left_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: object())
    assert not allocator.keep_freed_memory()

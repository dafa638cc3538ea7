"""The C library's memory allocator, set for networks on a CPU."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # glibc's malloc.h: M_TRIM_THRESHOLD, M_MMAP_MAX


def keep_freed_memory() -> bool:
    """Let this process keep what it frees, for its next step, instead of giving it back to the system.

    glibc maps every large block anew and the system fills it with zeros. Feature maps are such blocks: a forward pass
    takes half as long again that way, a training step up to a quarter (results/performance.md). The peak stays the
    same. Returns whether the C library knows the setting; others are left as they are.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, -1))  # -1: never

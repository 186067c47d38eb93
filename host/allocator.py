"""Memory that is freed stays with the process, for the tensors of the next candidate.

glibc gives large blocks back to the system at once and asks for them again at the next layer, which
then pays for every page: three quarters of a pass of MobileNetV2 (docs/results.md).
"""

from __future__ import annotations

import ctypes

# From malloc.h: how much must be free at the heap's end, and what is mapped on its own, in bytes.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_TRIM_BYTES, _MMAP_BYTES = 2**31 - 1, 2**30


def keep_freed_memory() -> bool:
    """Let malloc keep blocks below a GiB; False where the C library has no such setting."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    settings = {_MMAP_THRESHOLD: _MMAP_BYTES, _TRIM_THRESHOLD: _TRIM_BYTES}
    return all([mallopt(name, count) for name, count in settings.items()])

"""Small matrices on one thread: several threads spend more time at their barriers than they save.

On two busy cores a search of the toy problem took a quarter of the time with this.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from threadpoolctl import ThreadpoolController


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch and BLAS use one thread; afterwards what they used before."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with _libraries().limit(limits=1, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(before)


@cache
def _libraries() -> ThreadpoolController:
    """Find the libraries once: it takes milliseconds."""
    import scipy.linalg  # noqa: F401  brings a BLAS of its own

    return ThreadpoolController()

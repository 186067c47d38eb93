"""One thread per test process when several run side by side; nothing else."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

# Read when torch loads. Two processes with two threads each on two cores spin at each other's
# barriers: tests of seconds then take minutes.
SIDE_BY_SIDE = "PYTEST_XDIST_WORKER" in os.environ
if SIDE_BY_SIDE:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def one_thread_again() -> Iterator[None]:
    """What a test asks of torch is not left to those after it."""
    yield
    if SIDE_BY_SIDE and "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)

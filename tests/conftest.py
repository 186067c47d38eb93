"""One thread per test process when several run side by side; nothing else."""

from __future__ import annotations

import os

# Read when torch loads. Two processes with two threads each on two cores spin at each other's
# barriers: tests of seconds then take minutes.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

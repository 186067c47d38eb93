"""Seeded jitter of runs and of units; a key decides it all, so a resumed search sees it again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np

SIGMA = 0.004  # guess: a quiet, tuned board
OUTLIER_RATE = 0.002  # guess: interrupts
OUTLIER_RATIO = (1.03, 1.25)  # guess
UNIT_SIGMA = 0.01  # guess: silicon and memory of boards of one kind
FIRST_UNIT = 1
_CHUNK = 1024


def unit_factor(unit: int) -> float:
    """Return how much longer than the model says a unit takes; the first is the model itself."""
    if unit == FIRST_UNIT:
        return 1.0
    return float(np.exp(_generator("unit", unit).normal(0.0, UNIT_SIGMA)))


def factors(*key: object) -> Iterator[float]:
    """Yield factors around 1: lognormal, with rare slow outliers; the key decides all of them."""
    rng = _generator(*key)
    while True:
        chunk = np.exp(rng.normal(0.0, SIGMA, _CHUNK))
        slow = rng.random(_CHUNK) < OUTLIER_RATE
        chunk[slow] *= rng.uniform(*OUTLIER_RATIO, int(slow.sum()))
        yield from chunk.tolist()


def _generator(*key: object) -> np.random.Generator:
    text = "\x1f".join(str(part) for part in key)
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    return np.random.default_rng(seed)

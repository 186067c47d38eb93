"""Seeded jitter of single runs; it depends on its key alone, so a resumed search sees it again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np

SIGMA = 0.004  # guess: a quiet, tuned board
OUTLIER_RATE = 0.002  # guess: interrupts
OUTLIER_RATIO = (1.03, 1.25)  # guess
_CHUNK = 1024


def factors(*key: object) -> Iterator[float]:
    """Yield factors around 1: lognormal, with rare slow outliers; the key decides all of them."""
    text = "\x1f".join(str(part) for part in key)
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    rng = np.random.default_rng(seed)
    while True:
        chunk = np.exp(rng.normal(0.0, SIGMA, _CHUNK))
        slow = rng.random(_CHUNK) < OUTLIER_RATE
        chunk[slow] *= rng.uniform(*OUTLIER_RATIO, int(slow.sum()))
        yield from chunk.tolist()

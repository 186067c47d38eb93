"""What an answer counts for: right or wrong, or how often it would be expected to be right.

Between candidates that lose little a few images decide, and whoever searches among hundreds of them
finds the lucky one: of 288 images the best seemed to lose nothing, and lost four points on others.
What compression does to an image's margin (the logit of its class above the largest other) is much
alike in images that are far from the border and in those that are near it. So every image's margin
in the uncompressed network meets every image's change, and what is counted is the share of pairs
that stay right: no parameter, and each image says how hard the network was hit, not only whether it
crossed the border.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

COUNTED, EXPECTED = "counted", "expected"
MARKINGS = (COUNTED, EXPECTED)
Floats = NDArray[np.float64]
Labels = NDArray[np.integer]


def margins(logits: NDArray[np.floating], labels: Labels) -> Floats:
    """Return by how much the right class leads [images]: positive where an answer is right."""
    scores = np.array(logits, dtype=np.float64)
    rows = np.arange(len(scores))
    right = scores[rows, labels].copy()
    scores[rows, labels] = -np.inf
    return np.asarray(right - scores.max(axis=1))


def expected_right(whole: Floats, compressed: Floats) -> float:
    """Return how many images are expected to be right, of margins before and after [images]."""
    changes = np.sort(compressed - whole)
    too_much = np.searchsorted(changes, -whole, side="right")
    return float((len(changes) - too_much).sum()) / len(changes)

"""Validation images in fixed batches, counted until the rest cannot matter; never runs a network.

A candidate is hopeless when its accuracy on all images, of which some have been counted, lies below
a floor at the stated confidence. The images are a finite population and come in an order shuffled
once, so the number of correct ones among those seen is hypergeometric; the test is exact, and its
error is shared out over all the looks that it may take.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from host.data import Data, Split
from host.types import Evaluation

BATCH_IMAGES = 256
CONFIDENCE = 0.999
_SHUFFLE_SEED = 0
_ACCURACY_STEP = 1e-6
# All that is known of a policy but its accuracy -> the accuracy below which it does not matter.
Floor = Callable[[Evaluation], float | None]


@dataclass(frozen=True, eq=False)
class Exam:
    """The images that score a candidate, in the order and the batches in which they are counted."""

    data: Data
    images: Split
    shuffled: bool = False

    @classmethod
    def of(cls, data: Data, limit: int | None, *, shuffled: bool = False) -> Exam:
        """Take the first `limit` validation images (None: all), shuffled always in the same way."""
        images = data.validation.take(slice(limit))
        if shuffled:
            images = images.take(np.random.default_rng(_SHUFFLE_SEED).permutation(len(images)))
        return cls(data, images, shuffled)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Images of every batch."""
        full, rest = divmod(len(self.images), BATCH_IMAGES)
        return (BATCH_IMAGES,) * full + ((rest,) if rest else ())

    def batch(self, number: int) -> tuple[Tensor, np.ndarray]:
        """Return a batch as the network's input, and its labels."""
        part = self.images.take(slice(number * BATCH_IMAGES, (number + 1) * BATCH_IMAGES))
        return self.data.tensor(part.images), part.labels

    def name(self, number: int) -> str:
        """Return what tells a batch from every other batch of this data set."""
        order = "shuffled" if self.shuffled else "in order"
        return f"validation {order} {len(self.images)} {number}"


def grade(
    sizes: Sequence[int], count: Callable[[int], float], floor: float | None
) -> tuple[float, ...]:
    """Count the correct answers of batch after batch, until all are or the floor is out of reach.

    The same counts and the same floor end at the same batch, wherever the counts come from.
    """
    counts: list[float] = []
    looks = len(sizes) - 1  # after the last batch nothing is left to save
    for number in range(len(sizes)):
        counts.append(count(number))
        seen = sum(sizes[: number + 1])
        if floor is not None and hopeless(round(sum(counts)), seen, sum(sizes), floor, looks=looks):
            break
    return tuple(counts)


def hopeless(
    correct: int,
    seen: int,
    total: int,
    floor: float,
    *,
    looks: int = 1,
    confidence: float = CONFIDENCE,
) -> bool:
    """Whether an accuracy of `floor` on all images is refuted by those seen.

    It is where so few correct ones among those seen have a probability below (1 - confidence) /
    looks if just enough of all are correct; more correct ones make it smaller still.
    """
    needed = math.ceil(floor * total) if floor <= 1.0 else total + 1
    if needed > total:
        return True
    return probability_at_most(correct, seen, needed, total) < (1.0 - confidence) / max(looks, 1)


def probability_at_most(correct: int, seen: int, needed: int, total: int) -> float:
    """Return P(X <= correct) for X correct ones in `seen` of `total` images, `needed` correct."""
    first, last = max(0, seen - (total - needed)), min(correct, needed, seen)
    whole = _log_choose(total, seen)
    return math.fsum(
        math.exp(_log_choose(needed, x) + _log_choose(total - needed, seen - x) - whole)
        for x in range(first, last + 1)
    )


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def needed_accuracy(
    score: Callable[[Evaluation], float], known: Evaluation, goal: float
) -> float | None:
    """Return the accuracy from which a score that rises with it reaches a goal.

    None where any accuracy does; infinite where none does.
    """

    def reached(accuracy: float) -> bool:
        return score(replace(known, accuracy=accuracy)) >= goal

    if reached(0.0):
        return None
    if not reached(1.0):
        return math.inf
    low, high = 0.0, 1.0
    while high - low > _ACCURACY_STEP:
        middle = (low + high) / 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return low

"""Accuracy of encoded policies, with an uncertainty that is checked against what was held out.

Accuracies are stretched: the logit of their share between chance and one. What solving cannot make
up for adds up over blocks, each with a weight that is learned and never negative,

    stretched = a - b log(sum of weight x harm + c),

so that no forecast rises with harm: searches find, and exploit, every direction in which a freer
model is wrong. The ensemble's members are fitted to disturbed values from disturbed priors, which
spreads them as the posterior is (randomised maximum a posteriori). Cross-validation gives what is
left over, and a factor on the stated deviations, so that intervals cover what they say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit
from scipy.stats import norm

from host.encoding import Batch, Encoding, Floats

# Keeps logits of perfect scores and of chance within reach of the others.
EDGE = 0.01
COVERED = 0.9
LEAST_EVALUATIONS = 4
MEMBERS, FOLDS = 8, 5
# A handful of evaluations is no reason to believe that everything is known.
LEAST_FACTOR = 1.0
# How far the logarithm of a block's weight lies from zero before anything is known.
SPREAD = 0.8
# Standard deviation of stretched accuracies about the model before anything is known.
NOISE = 0.4
# So many times as far nothing is looked for.
FARTHEST = 8.0
# Before anything is known: a, log b and log c, and how far they may lie from it.
START, REACH = np.asarray([0.0, np.log(2.0), -3.0]), np.asarray([3.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Forecast:
    """Stretched accuracies of n policies: mean and standard deviation."""

    mean: Floats
    deviation: Floats
    chance: float

    def accuracy(self, deviations: float = 0.0) -> Floats:
        """Return accuracies, so many standard deviations above the mean."""
        return unstretch(self.mean + deviations * self.deviation, self.chance)

    def interval(self, share: float = COVERED) -> tuple[Floats, Floats]:
        """Return the bounds between which so large a share of accuracies should lie.

        Beyond the edges nothing is told apart: a bound there is open.
        """
        reach, edge = float(norm.ppf((1 + share) / 2)) * self.deviation, float(logit(1 - EDGE))
        low = unstretch(np.minimum(self.mean - reach, edge), self.chance)
        high = unstretch(np.maximum(self.mean + reach, -edge), self.chance)
        low = np.where(self.mean - reach <= -edge, 0.0, low)
        return low, np.where(self.mean + reach >= edge, 1.0, high)


def stretch(accuracy: Floats, chance: float) -> Floats:
    """Return the logit of an accuracy's share between chance and one."""
    share = np.clip((accuracy - chance) / (1 - chance), EDGE, 1 - EDGE)
    return np.asarray(logit(share), dtype=np.float64)


def unstretch(value: Floats, chance: float) -> Floats:
    """Return the accuracy of a stretched value."""
    return np.asarray(chance + (1 - chance) * expit(value), dtype=np.float64)


class AccuracyModel:
    """The ensemble; fitted anew to all evaluations, in a tenth of a second."""

    def __init__(
        self, encoding: Encoding, groups: Sequence[Sequence[str]], classes: int, seed: int = 0
    ) -> None:
        self.encoding = encoding
        self.chance = 1.0 / classes
        self._widths = _sums(groups, [x.name for x in encoding.drivers])
        self._forms = _sums(groups, [x.name for x in encoding.layers])
        self._seed = seed
        self._members: Floats = np.zeros((0, 0))
        self.noise, self.factor = NOISE, 1.0

    @property
    def ready(self) -> bool:
        """Whether it was fitted."""
        return len(self._members) > 0

    def harm(self, batch: Batch) -> Floats:
        """Return the harm of pruning and of formats per block: [n, 2 x blocks]."""
        pruning, formats = self.encoding.harm(batch)
        return np.concatenate([pruning @ self._widths, formats @ self._forms], 1)

    def fit(self, batch: Batch, accuracy: Floats) -> None:
        """Learn from evaluations; fewer than four teach nothing."""
        if len(batch) < LEAST_EVALUATIONS:
            return
        rng = np.random.default_rng(self._seed)
        harm, values = self.harm(batch), stretch(accuracy, self.chance)
        self.noise, off = self._cross_validated(harm, values, rng)
        self._members = _ensemble(harm, values, self.noise, rng)
        reach = float(norm.ppf((1 + COVERED) / 2))
        self.factor = max(float(np.quantile(off, COVERED)) / reach, LEAST_FACTOR)

    def __call__(self, batch: Batch) -> Forecast:
        """Return the forecast of n policies."""
        mean, deviation = self._spread(self._members, self.harm(batch))
        return Forecast(mean, deviation * self.factor, self.chance)

    def _cross_validated(
        self, harm: Floats, values: Floats, rng: np.random.Generator
    ) -> tuple[float, Floats]:
        """Return what is left over, and how many deviations each value lies off."""
        errors, deviations = np.zeros(len(values)), np.zeros(len(values))
        # Each fold is a range of accuracies, which the others must extrapolate to: what a search
        # evaluates is alike, and what it will be asked for is not.
        count = min(FOLDS, len(values))
        folds = np.argsort(np.argsort(values, kind="stable")) * count // len(values)
        for fold in np.unique(folds):
            rest, held = folds != fold, folds == fold
            members = _ensemble(harm[rest], values[rest], self.noise, rng)
            mean, deviations[held] = self._spread(members, harm[held])
            errors[held] = mean - values[held]
        # As many evaluations as the prior is worth pull towards it.
        found = (np.square(errors).sum() + LEAST_EVALUATIONS * NOISE**2) / (
            len(values) + LEAST_EVALUATIONS
        )
        return float(np.sqrt(found)), np.abs(errors) / deviations

    def _spread(self, members: Floats, harm: Floats) -> tuple[Floats, Floats]:
        values = _values(members, harm)
        return values.mean(0), np.sqrt(values.var(0) + self.noise**2)


def _ensemble(harm: Floats, values: Floats, noise: float, rng: np.random.Generator) -> Floats:
    """Return the parameters of the members: [members, blocks + 3]; the first is undisturbed."""
    blocks = harm.shape[1]
    members = []
    for member in range(MEMBERS):
        at = 0.0 if member == 0 else 1.0
        prior = np.concatenate([np.zeros(blocks), START])
        prior += (
            at * np.concatenate([SPREAD * np.ones(blocks), REACH]) * rng.normal(size=blocks + 3)
        )
        disturbed = values + at * noise * rng.normal(size=len(values))
        members.append(_fit(harm, disturbed, noise, prior))
    return np.stack(members)


def _fit(harm: Floats, values: Floats, noise: float, prior: Floats) -> Floats:
    """Return the likeliest log weights, a, log b and log c."""
    blocks = harm.shape[1]
    width = np.concatenate([SPREAD * np.ones(blocks), REACH])

    def loss(x: Floats) -> tuple[float, Floats]:
        weight, slope, floor = np.exp(x[:blocks]), np.exp(x[-2]), np.exp(x[-1])
        total = harm @ weight + floor
        error = (x[-3] - slope * np.log(total) - values) / noise**2
        away = (x - prior) / width**2
        by_total = -slope * error / total
        gradient = np.concatenate(
            [
                (harm.T @ by_total) * weight,
                [error.sum(), -slope * (error * np.log(total)).sum(), by_total.sum() * floor],
            ]
        )
        missed = 0.5 * (error**2).sum() * noise**2 + 0.5 * (away * (x - prior)).sum()
        return float(missed), gradient + away

    # A line search tries steps whose exponentials are infinite, unless it is held back.
    bounds = list(zip(prior - FARTHEST * width, prior + FARTHEST * width, strict=True))
    found: Floats = minimize(loss, prior, jac=True, method="L-BFGS-B", bounds=bounds).x
    return found


def _values(members: Floats, harm: Floats) -> Floats:
    """Return every member's stretched accuracies: [members, n]."""
    total = np.exp(members[:, :-3]) @ harm.T + np.exp(members[:, -1:])
    return np.asarray(members[:, -3:-2] - np.exp(members[:, -2:-1]) * np.log(total))


def _sums(groups: Sequence[Sequence[str]], names: Sequence[str]) -> Floats:
    """Return the matrix that adds up columns `names` by group: [names, groups]."""
    return np.asarray([[float(name in group) for group in groups] for name in names]).reshape(
        len(names), len(groups)
    )

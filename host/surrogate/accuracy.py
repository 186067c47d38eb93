"""Accuracy of encoded policies, with an uncertainty that is checked against what was held out.

Accuracies are stretched (the logit of their share between chance and one), where divergences add
up nearly linearly. An ensemble of Gaussian processes looks at a policy's divergences in three ways:
as totals, per block and per layer. Their weights come from how well each predicts every evaluation
from all others, and so does the factor on the stated deviations, so that intervals cover what they
say.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit, logit, logsumexp
from scipy.stats import norm

from host.search.encoding import Batch, Encoding, Floats

# Keeps logits of perfect scores and of chance within reach of the others.
EDGE = 0.01
# Divergences below this are all the same.
FLOOR = 0.02
COVERED = 0.9
LEAST_EVALUATIONS = 6


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
        """Return the bounds between which so large a share of accuracies should lie."""
        reach = float(norm.ppf((1 + share) / 2))
        return self.accuracy(-reach), self.accuracy(reach)


def stretch(accuracy: Floats, chance: float) -> Floats:
    """Return the logit of an accuracy's share between chance and one."""
    share = np.clip((accuracy - chance) / (1 - chance), EDGE, 1 - EDGE)
    return np.asarray(logit(share), dtype=np.float64)


def unstretch(value: Floats, chance: float) -> Floats:
    """Return the accuracy of a stretched value."""
    return np.asarray(chance + (1 - chance) * expit(value), dtype=np.float64)


class Views:
    """A policy's divergences as features: totals, per block, per layer."""

    def __init__(self, encoding: Encoding, groups: Sequence[Sequence[str]]) -> None:
        self.encoding = encoding
        self._widths = _sums(groups, [x.name for x in encoding.drivers])
        self._forms = _sums(groups, [x.name for x in encoding.layers])

    def __call__(self, batch: Batch) -> tuple[Floats, ...]:
        """Return the three views, [n, features] each; every one begins with the totals."""
        pruning, formats = self.encoding.harm(batch)
        removed, coarse = pruning.sum(1), formats.sum(1)
        totals = _log(np.stack([removed, coarse, removed + coarse], 1))
        blocks = _log(np.concatenate([pruning @ self._widths, formats @ self._forms], 1))
        layers = _log(np.concatenate([pruning, formats], 1))
        return (
            totals,
            np.concatenate([totals, blocks], 1),
            np.concatenate([totals, layers], 1),
        )


class Member:
    """A Gaussian process over one view: a linear trend and what departs from it smoothly."""

    def __init__(self, features: Floats, values: Floats, seed: int) -> None:
        self._mean, self._spread = features.mean(0), features.std(0) + 0.1
        scaled = self._scaled(features)
        self._process = _process(features.shape[1], seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # bounds of hyper-parameters are met on purpose
            self._process.fit(scaled, values)
        # Standard deviation of the values that it was fitted to.
        self._unit = float(self._process._y_train_std)
        self._inverse = np.linalg.inv(self._process.L_)
        self.left_out = self._leave_one_out()

    def __call__(self, features: Floats) -> tuple[Floats, Floats]:
        """Return means and standard deviations [n]."""
        process, scaled = self._process, self._scaled(features)
        cross = process.kernel_(scaled, process.X_train_)
        mean = cross @ process.alpha_ * self._unit + float(process._y_train_mean)
        # As the library's predict, without solving the same triangle for every batch.
        explained = np.square(cross @ self._inverse.T).sum(1)
        variance = np.maximum(process.kernel_.diag(scaled) - explained, 1e-12)
        return mean, np.sqrt(variance) * self._unit

    def _scaled(self, features: Floats) -> Floats:
        return np.asarray((features - self._mean) / self._spread, dtype=np.float64)

    def _leave_one_out(self) -> tuple[Floats, Floats]:
        """Return the error and the deviation of each value, predicted from all others.

        Rasmussen and Williams 2006, section 5.4.2.
        """
        inverse = self._inverse.T @ self._inverse
        diagonal = inverse.diagonal()
        errors = (inverse @ self._process.y_train_) / diagonal * self._unit
        return errors, np.sqrt(1 / diagonal) * self._unit


class AccuracyModel:
    """The ensemble; fitted anew to all evaluations."""

    def __init__(
        self, encoding: Encoding, groups: Sequence[Sequence[str]], classes: int, seed: int = 0
    ) -> None:
        self.views = Views(encoding, groups)
        self.chance = 1.0 / classes
        self._seed = seed
        self._members: list[Member] = []
        self.weights: Floats = np.zeros(0)
        self.factor = 1.0

    @property
    def ready(self) -> bool:
        """Whether it was fitted."""
        return bool(self._members)

    def fit(self, batch: Batch, accuracy: Floats) -> None:
        """Learn from evaluations; fewer than six teach nothing."""
        if len(batch) < LEAST_EVALUATIONS:
            return
        values = stretch(accuracy, self.chance)
        self._members = [Member(view, values, self._seed) for view in self.views(batch)]
        left_out = [member.left_out for member in self._members]
        fits = np.asarray([norm.logpdf(e, scale=d).sum() for e, d in left_out])
        # A view that is barely better on few evaluations must not drive out the others.
        fits = fits / np.sqrt(len(batch))
        self.weights = np.exp(fits - logsumexp(fits))
        self.factor = _factor(self._left_out(left_out))

    def __call__(self, batch: Batch) -> Forecast:
        """Return the forecast of n policies."""
        parts = [m(view) for m, view in zip(self._members, self.views(batch), strict=True)]
        mean, deviation = _mixed(parts, self.weights)
        return Forecast(mean, deviation * self.factor, self.chance)

    def _left_out(self, parts: list[tuple[Floats, Floats]]) -> Floats:
        """Return how many deviations each evaluation lies off, predicted from all others."""
        error, deviation = _mixed(parts, self.weights)
        return np.abs(error) / deviation


def _factor(deviations_off: Floats) -> float:
    """Return what deviations must be multiplied by to cover their share of left-out values."""
    reach = float(norm.ppf((1 + COVERED) / 2))
    found = float(np.quantile(deviations_off, COVERED)) / reach
    # A handful of evaluations is no reason to believe that everything is known.
    return max(found, 1.0)


def _mixed(parts: list[tuple[Floats, Floats]], weights: Floats) -> tuple[Floats, Floats]:
    """Return mean and deviation of a mixture."""
    means = np.stack([mean for mean, _ in parts])
    variances = np.stack([deviation**2 for _, deviation in parts])
    mean = weights @ means
    variance = weights @ (variances + (means - mean) ** 2)
    return mean, np.sqrt(variance)


def _process(width: int, seed: int) -> Any:
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct, WhiteKernel

    # Distances grow with the number of features.
    size = float(np.sqrt(width))
    smooth = ConstantKernel(0.5, (1e-2, 1e1)) * RBF(size, (0.5 * size, 10 * size))
    trend = ConstantKernel(0.5 / width, (1e-4, 1e1)) * DotProduct(1.0, (1e-2, 1e2))
    noise = WhiteKernel(0.05, (1e-3, 1.0))
    return GaussianProcessRegressor(smooth + trend + noise, normalize_y=True, random_state=seed)


def _sums(groups: Sequence[Sequence[str]], names: Sequence[str]) -> Floats:
    """Return the matrix that adds up columns `names` by group: [names, groups]."""
    return np.asarray([[float(name in group) for group in groups] for name in names]).reshape(
        len(names), len(groups)
    )


def _log(harm: Floats) -> Floats:
    return np.asarray(np.log(FLOOR + harm), dtype=np.float64)

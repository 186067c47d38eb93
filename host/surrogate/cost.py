"""Costs of encoded policies: fast and rough for thousands, from the planned program for a few.

A layer's time, energy or bytes are linear in its products and in its channels, one fit per layer
and kind of format, to programs that were planned and costed layer by layer. What measurements
differ from the prediction by is learned as a factor on each kind of format, with its uncertainty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from host.encoding import Batch, Encoding, Floats
from host.policy import MODES, Policy
from host.types import Layer

ProgramCost = Callable[[Policy], Mapping[str, float]]
PLANNED = 300
# How far a kind's factor lies from one before anything is measured.
PRIOR_SPREAD = 0.05
# What factors leave unexplained before anything is measured, and how many measurements that is
# worth: of small programs single calls are forecast worse than kinds of format can make up for.
NOISE, NOISE_WEIGHT, NOISE_ROUNDS = 0.005, 3.0, 4
RIDGE = 1e-6


class LayerCosts:
    """The fast model: the costs of n policies at once, in the unit of `program_cost`.

    What was planned is remembered layer by layer: where a search goes its programs get planned, and
    the model is exact there instead of being exploited where it is wrong.
    """

    def __init__(
        self, encoding: Encoding, program_cost: ProgramCost, rng: np.random.Generator
    ) -> None:
        self.encoding = encoding
        batch = encoding.random(PLANNED, rng)
        rows = [program_cost(encoding.policy(batch, i)) for i in range(len(batch))]
        costs = by_layer(encoding.layers, rows)
        self.rest = float(np.mean([sum(row.values()) for row in rows] - costs.sum(1)))
        self._fits = self._fit(batch, costs)
        self._memory: dict[int, float] = {}
        self._keys: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._known: Floats = np.zeros(0)

    def learn(self, batch: Batch, rows: Sequence[Mapping[str, float]]) -> None:
        """Remember the layers of policies whose programs were planned."""
        for keys, row in zip(self._layer_keys(batch), rows, strict=True):
            for layer, key in zip(self.encoding.layers, keys.tolist(), strict=True):
                self._memory[key] = row.get(layer.name, 0.0)
        self._index()

    def _index(self) -> None:
        self._keys = np.asarray(sorted(self._memory), dtype=np.int64)
        self._known = np.asarray([self._memory[key] for key in self._keys.tolist()])

    def state_dict(self) -> dict[str, Any]:
        """Return what is remembered; the fits are a consequence of the problem."""
        return {"keys": self._keys.tolist(), "costs": self._known.tolist()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self._memory = dict(zip(state["keys"], state["costs"], strict=True))
        self._index()

    def _fit(self, batch: Batch, costs: Floats) -> dict[tuple[int, str], Floats]:
        features, modes = self._features(batch), self._modes(batch)
        fits: dict[tuple[int, str], Floats] = {}
        for layer in range(costs.shape[1]):
            for mode in MODES:
                chosen = modes[:, layer] == mode
                if chosen.any():
                    fits[layer, mode] = _ridge(features[chosen, layer], costs[chosen, layer])
        return fits

    def by_layer(self, batch: Batch) -> Floats:
        """Return the cost of every layer: [n, layers]."""
        features, modes = self._features(batch), self._modes(batch)
        costs = np.zeros(modes.shape)
        for (layer, mode), fit in self._fits.items():
            chosen = modes[:, layer] == mode
            costs[chosen, layer] = features[chosen, layer] @ fit
        costs = np.maximum(costs, 0.0)
        if len(self._keys):
            keys = self._layer_keys(batch)
            at = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
            costs = np.where(self._keys[at] == keys, self._known[at], costs)
        return costs

    def _layer_keys(self, batch: Batch) -> NDArray[np.int64]:
        """Return what a layer's cost depends on most, as one number: [n, layers]."""
        inside, outside = (c.astype(np.int64) for c in self.encoding.channels(batch))
        most = 1 + max(max(x.in_channels, x.out_channels) for x in self.encoding.layers)
        place = np.arange(batch.forms.shape[1]) * len(self.encoding.forms) + batch.forms
        keys: NDArray[np.int64] = (place * most + inside) * most + outside
        return keys

    def __call__(self, batch: Batch) -> Floats:
        """Return the cost of every policy: [n]."""
        total: Floats = self.by_layer(batch).sum(1) + self.rest
        return total

    def _modes(self, batch: Batch) -> NDArray[np.str_]:
        names = np.asarray([form.mode for form in self.encoding.forms])
        return names[batch.forms]

    def _features(self, batch: Batch) -> Floats:
        """Return what a layer's cost is a sum of: [n, layers, 7], relative to the whole layer."""
        inside, outside = self.encoding.channels(batch)
        inside = inside / [layer.in_channels for layer in self.encoding.layers]
        outside = outside / [layer.out_channels for layer in self.encoding.layers]
        forms = self.encoding.forms
        pairs = np.asarray([f.weight_bits * f.act_bits for f in forms])[batch.forms] / 36
        weights, acts = (
            np.asarray([getattr(f, name) for f in forms])[batch.forms] / 6
            for name in ("weight_bits", "act_bits")
        )
        products = inside * outside
        ones = np.ones_like(products)
        by_bits = (products * pairs, products * weights, inside * acts)
        return np.stack([products, *by_bits, inside, outside, ones], 2)


class Correction:
    """What measurements differ from predictions by: a factor for the time of each kind of format.

    Bayesian linear regression on all that was measured; the factors are one before that. What they
    leave over is estimated from the residuals, less the freedom that the factors took.
    """

    def __init__(self) -> None:
        self.mean: Floats = np.ones(len(MODES))
        self.covariance: Floats = np.eye(len(MODES)) * PRIOR_SPREAD**2
        # Standard deviation of what factors leave over, as a share of the prediction.
        self.noise = NOISE
        self._shares: list[Floats] = []
        self._ratios: list[float] = []

    def learn(self, shares: Floats, ratio: float) -> None:
        """Take in a measurement: the predicted share of each kind, measured over predicted."""
        self._shares.append(shares)
        self._ratios.append(ratio)
        rows, ratios = np.stack(self._shares), np.asarray(self._ratios)
        self.noise = NOISE
        for _ in range(NOISE_ROUNDS):
            precision = rows.T @ rows / self.noise**2 + np.eye(len(MODES)) / PRIOR_SPREAD**2
            self.covariance = np.asarray(np.linalg.inv(precision), dtype=np.float64)
            moved = self.covariance @ rows.T @ (ratios - rows.sum(1)) / self.noise**2
            self.mean = np.asarray(1.0 + moved, dtype=np.float64)
            taken = float(np.einsum("ni,ij,nj->", rows, self.covariance, rows)) / self.noise**2
            squares = float(np.square(ratios - rows @ self.mean).sum())
            free = NOISE_WEIGHT + len(ratios) - taken
            self.noise = float(np.sqrt((NOISE_WEIGHT * NOISE**2 + squares) / free))

    def __call__(self, shares: Floats) -> tuple[float, float]:
        """Return the factor on a prediction, and its standard deviation."""
        variance = float(shares @ self.covariance @ shares) + self.noise**2
        return float(shares @ self.mean), float(np.sqrt(variance))

    def factors(self) -> dict[str, float]:
        """Return the present factor of each kind of format."""
        return dict(zip(MODES, self.mean.tolist(), strict=True))


def by_layer(layers: Iterable[Layer], rows: Iterable[Mapping[str, float]]) -> Floats:
    """Return the predictions of some programs as [n, layers]; a layer without kernels costs 0."""
    names = [layer.name for layer in layers]
    return np.asarray([[row.get(name, 0.0) for name in names] for row in rows])


def shares(policy: Policy, costs: Mapping[str, float]) -> Floats:
    """Return which share of a predicted cost each kind of format takes; the rest counts as fp32."""
    times = dict.fromkeys(MODES, 0.0)
    for form in policy.layers:
        times[form.mode] += costs.get(form.layer, 0.0)
    total = sum(costs.values())
    times["fp32"] += total - sum(times.values())
    return np.asarray([times[mode] for mode in MODES]) / total


def _ridge(features: Floats, costs: Floats) -> Floats:
    """Return coefficients of least squared error, small ones where data says nothing."""
    gram = features.T @ features + RIDGE * len(costs) * np.eye(features.shape[1])
    return np.asarray(np.linalg.solve(gram, features.T @ costs), dtype=np.float64)

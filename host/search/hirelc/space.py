"""Configurations of a network as HiReLC's agents wish them, and what the space makes of them.

A configuration is an array [..., layers, 4]: bits, share of channels pruned, scheme and
granularity of every layer. Bits up to the space's most bit-serial ones are that format, more are
int8; what the space refuses falls back as `Space.policy` says. Our integer kernels have one scheme
and one granularity (symmetric weights per channel): the agents' choices of these two are kept, as
published, and recorded with every sample of the surrogate, but no program differs by them.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from host.blocks import blocks
from host.errors import RecipeError
from host.policy import FULL_BITS, INT8_BITS, Choice, Policy, uncompressed
from host.search.hirelc.settings import HiReLCSettings
from host.search.strategy import Problem
from host.surrogate.cost import by_layer
from host.types import Layer

Array = NDArray[np.float64]
BITS, PRUNE, SCHEME, GRANULARITY = range(4)
# Categories of each of a kernel's choices (section 2.2), in this order.
CHOICES = (15, 15, 2, 4)
STEPS = CHOICES[BITS] - 1
SCHEMES = ("symmetric", "asymmetric")
GRANULARITIES = ("tensor", "log", "channel", "learned")
FEATURES = 5


class Landscape:
    """A network's blocks, and what configurations cost; [...] are any leading dimensions."""

    def __init__(self, problem: Problem, settings: HiReLCSettings) -> None:
        self.problem, self.settings = problem, settings
        self.space, self.graph = problem.space, problem.space.graph
        self.layers = self.graph.layers
        self.blocks = blocks(self.graph)
        self.places = {layer.name: place for place, layer in enumerate(self.layers)}
        self._read_widths()

    def _read_widths(self) -> None:
        """Note which layers decide widths, and whose widths others read."""
        count = len(self.layers)
        self._step_share = np.ones(count)
        self._levels = np.ones(count)
        self._driver = np.full(count, -1)
        self._reads, self._whole = np.zeros((count, count)), np.zeros(count)
        for place, layer in enumerate(self.layers):
            if self.space.prunable(layer):
                self._levels[place] = layer.out_channels / self.space.step(layer)
                self._step_share[place] = self.space.step(layer) / layer.out_channels
            if layer.group:
                self._driver[place] = self.places[layer.group]
            self._read_sources(place, layer)
        self.prunable = np.array([self.space.prunable(layer) for layer in self.layers])

    def _read_sources(self, place: int, layer: Layer) -> None:
        if layer.depthwise:
            self._whole[place] = 1.0  # its products shrink with its own channels alone
            return
        for source in layer.sources:
            share = source.channels / layer.in_channels
            if source.group:
                self._reads[place, self.places[source.group]] += share
            else:
                self._whole[place] += share

    @property
    def kernels(self) -> list[int]:
        """Layers of every block."""
        return [len(block.layers) for block in self.blocks]

    @cached_property
    def block_of(self) -> NDArray[np.int64]:
        """The block of every layer, by number."""
        return np.repeat(np.arange(len(self.blocks)), self.kernels)

    @cached_property
    def kernel_of(self) -> NDArray[np.int64]:
        """The place of every layer within its block."""
        return np.concatenate([np.arange(count) for count in self.kernels])

    @cached_property
    def by_cost(self) -> bool:
        """Whether budgets bound predicted costs."""
        goal, predicts = self.settings.goal, self.problem.layer_cost is not None
        if goal == "cost" and not predicts:
            raise RecipeError('search.agent.goal: "cost" needs predicted costs; take "ratio"')
        return predicts if goal == "auto" else goal == "cost"

    @property
    def target(self) -> float:
        """The share of the cost, or of bits and channels, that the whole network should come to."""
        if self.by_cost:
            return self.problem.target / self.problem.reference
        return self.settings.target_ratio

    def mildest(self) -> Array:
        """Return the configuration of whole layers with the most bits, which is int8."""
        config = np.zeros((len(self.layers), len(CHOICES)))
        config[:, BITS] = self.settings.max_bits
        return config

    def choice(self, layer: Layer, bits: int, prune: float) -> Choice:
        """Return the wish for a layer."""
        keep = self.space.keep_for(layer, prune) if prune > 0 else None
        if bits > self.space.max_mix_bits:
            return Choice(keep, "int8", INT8_BITS, INT8_BITS)
        return Choice(keep, "mix", bits, bits)

    def policy(self, config: Array) -> Policy:
        """Return the legal policy of one configuration [layers, 4]."""
        wishes = {
            layer.name: self.choice(layer, int(row[BITS]), float(row[PRUNE]))
            for layer, row in zip(self.layers, config, strict=True)
        }
        return self.space.policy(wishes)

    @cached_property
    def _uniform(self) -> list[Policy]:
        """The policies of whole layers with 1, 2, ... bits."""
        config = self.mildest()
        found = []
        for bits in range(1, self.settings.max_bits + 1):
            config[:, BITS] = bits
            found.append(self.policy(config))
        return found

    @cached_property
    def _legal_bits(self) -> Array:
        """Weight bits that come of wished ones, [layers, 1 + bits]; 32 is fp32."""
        rows = [[float(p.weight_bits) for p in policy.layers] for policy in self._uniform]
        return np.asarray([rows[0], *rows]).T

    @cached_property
    def _costs(self) -> Array:
        """Costs of whole layers by wished bits, [layers, 1 + bits]; fp32 in column 0."""
        predict = self.problem.layer_cost
        assert predict is not None
        return by_layer(self.layers, map(predict, (uncompressed(self.graph), *self._uniform))).T

    def bits(self, config: Array) -> Array:
        """Return the weight bits of every layer [..., layers] after all fallbacks."""
        wished = config[..., BITS].astype(np.int64)
        return self._legal_bits[np.arange(len(self.layers)), wished]

    def kept(self, config: Array) -> Array:
        """Return the share of output channels that every layer keeps [..., layers]."""
        # As Space.keep_for, for all configurations at once.
        left = np.floor((1.0 - config[..., PRUNE]) * self._levels) + 1.0
        own = np.clip(left, 1.0, np.floor(self._levels)) * self._step_share
        own = np.where(self.prunable & (config[..., PRUNE] > 0), np.minimum(own, 1.0), 1.0)
        return np.where(self._driver >= 0, own[..., self._driver], 1.0)

    def products(self, config: Array) -> Array:
        """Return the share of multiply-accumulates that every layer keeps [..., layers]."""
        kept = self.kept(config)
        return kept * (kept @ self._reads.T + self._whole)

    def block_costs(self, config: Array) -> Array:
        """Return v of every block [..., blocks]: 1 is uncompressed.

        As published the mean over kernels of bits / 32 x kept channels; with a cost goal the
        predicted milliseconds over the uncompressed ones. A layer's time is that of its format,
        times the share of products that it keeps, as `host.layer_times` predicts.
        """
        if not self.by_cost:
            shares = ratio_of(self.bits(config), self.kept(config))
            return np.asarray(self._sums(shares) / np.asarray(self.kernels))
        wished = config[..., BITS].astype(np.int64)
        costs = self._costs[np.arange(len(self.layers)), wished] * self.products(config)
        return np.asarray(self._sums(costs) / np.maximum(self._sums(self._costs[:, 0]), 1e-12))

    def _sums(self, by_layer: Array) -> Array:
        """Sum the layers of every block."""
        starts = np.concatenate([[0], np.cumsum(self.kernels)[:-1]])
        return np.add.reduceat(by_layer, starts, axis=-1)

    @cached_property
    def shares(self) -> Array:
        """How much every block counts in the mean of all: equally, or by its uncompressed time."""
        if not self.by_cost:
            return np.full(len(self.blocks), 1.0 / len(self.blocks))
        costs = np.maximum(self._sums(self._costs[:, 0]), 1e-12)
        return np.asarray(costs / costs.sum())

    def compression(self, config: Array) -> Array:
        """Return the mean of v over blocks [...]."""
        return np.asarray((self.block_costs(config) * self.shares).sum(-1))

    def features(self, config: Array) -> Array:
        """Return five numbers in [0, 1] per layer [..., layers x 5] (section 2.7).

        Bits / 10, kept channels, scheme, granularity, and 1 where a layer is both pruned and
        below 8 bits, else 0.5. Layers that stay fp32 count as 10 bits.
        """
        bits, kept = self.bits(config), self.kept(config)
        both = np.where((kept < 1.0) & (bits < INT8_BITS), 1.0, 0.5)
        scheme, granularity = config[..., SCHEME], config[..., GRANULARITY]
        capped = np.where(bits == FULL_BITS, 1.0, bits / 10.0)
        columns = [capped, kept, scheme, granularity / (CHOICES[GRANULARITY] - 1), both]
        return np.stack(columns, axis=-1).reshape(*config.shape[:-2], -1)


def ratio_of(bits: Array, kept: Array) -> Array:
    """Return a kernel's published cost: bits / 32 times the share of channels kept."""
    return bits / FULL_BITS * kept


def bits_of(index: Array, min_bits: Array, max_bits: int) -> Array:
    """Return the bits of an action index 0..14 (section 2.2)."""
    return min_bits + np.floor(index * (max_bits - min_bits) / STEPS)


def prune_of(index: Array, low: float, high: Array) -> Array:
    """Return the share of channels to prune of an action index 0..14 (section 2.2)."""
    return low + index / STEPS * np.maximum(high - low, 0.0)


def actions_of(config: Array, s: HiReLCSettings) -> Array:
    """Return (share pruned, how few bits) of every layer [layers, 2], each in [0, 1]."""
    return np.stack([config[:, PRUNE], 1.0 - config[:, BITS] / s.max_bits], axis=-1)


def moved(config: Array, actions: Array, settings: HiReLCSettings) -> Array:
    """Return a configuration with what `actions_of` says, within what the settings allow."""
    low, high = min(settings.level_min_bits), settings.max_bits
    made = config.copy()
    made[:, PRUNE] = np.clip(actions[:, 0], settings.min_prune, max(settings.level_prunes))
    made[:, BITS] = np.clip(np.rint((1.0 - actions[:, 1]) * high), low, high)
    return made

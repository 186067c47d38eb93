"""Policies as arrays: thousands of them drawn, changed and costed at once.

A batch of n policies is a `Batch`: `widths` [n, drivers], the index of each driver's kept width,
and `forms` [n, layers], the index of each layer's number format. Only legal policies have codes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from host.policy import FULL_BITS, INT8_BITS, Choice, Mode, Policy, Space
from host.sensitivity.table import Kind
from host.types import Layer

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Harms = Mapping[str, Mapping[Kind, Sequence[float]]]


@dataclass(frozen=True, slots=True)
class Form:
    """A number format of a layer."""

    mode: Mode
    weight_bits: int
    act_bits: int


@dataclass(frozen=True, eq=False)
class Batch:
    """Encoded policies: indices of widths [n, drivers] and of forms [n, layers]."""

    widths: Ints
    forms: Ints

    def __len__(self) -> int:
        return len(self.forms)

    def __getitem__(self, rows: slice | Ints | NDArray[np.bool_]) -> Batch:
        return Batch(self.widths[rows], self.forms[rows])

    def keys(self) -> list[bytes]:
        """Return what tells policies apart."""
        joined = np.concatenate([self.widths, self.forms], 1).astype(np.uint8)
        return [row.tobytes() for row in joined]


def join(batches: Iterable[Batch]) -> Batch:
    """Return the policies of several batches, in order."""
    parts = list(batches)
    return Batch(
        np.concatenate([part.widths for part in parts]),
        np.concatenate([part.forms for part in parts]),
    )


class Encoding:
    """The codes of a space's legal policies, and the harm that each decision does by itself.

    `harms[layer][kind]` are shaped as the features of host.sensitivity.table; what is missing does
    none.
    """

    def __init__(self, space: Space, harms: Harms | None = None) -> None:
        self.space = space
        self.graph = space.graph
        self.layers: tuple[Layer, ...] = self.graph.layers
        self.drivers = tuple(x for x in self.graph.drivers if self.space.prunable(x))
        self.forms = tuple(_forms(self.space.max_mix_bits))
        self.levels = tuple(np.asarray(self.space.keep_levels(x)) for x in self.drivers)
        self._harms = harms or {}

    @cached_property
    def legal(self) -> NDArray[np.bool_]:
        """Which forms each layer may take: [layers, forms]."""
        why_not = self.space.why_not
        return np.asarray(
            [
                [why_not(x, f.mode, f.weight_bits, f.act_bits) is None for f in self.forms]
                for x in self.layers
            ]
        )

    @cached_property
    def choices(self) -> tuple[Ints, ...]:
        """The legal forms of each layer, by index."""
        return tuple(np.flatnonzero(row) for row in self.legal)

    @cached_property
    def counts(self) -> Ints:
        """How many widths each driver may take."""
        return np.asarray([len(levels) for levels in self.levels], dtype=np.int64)

    def random(self, count: int, rng: np.random.Generator) -> Batch:
        """Draw policies, every choice by itself and evenly."""
        widths = rng.integers(0, np.maximum(self.counts, 1), (count, len(self.drivers)))
        forms = np.stack([rng.choice(options, count) for options in self.choices], 1)
        return Batch(widths, forms)

    def policy(self, batch: Batch, row: int = 0) -> Policy:
        """Return one policy of a batch."""
        keeps = {
            x.name: int(levels[i])
            for x, levels, i in zip(self.drivers, self.levels, batch.widths[row], strict=True)
        }
        wishes = {}
        for layer, index in zip(self.layers, batch.forms[row], strict=True):
            form = self.forms[index]
            bits = (form.weight_bits, form.act_bits)
            wishes[layer.name] = Choice(keeps.get(layer.name), form.mode, *bits)
        return self.space.policy(wishes)

    def batch(self, policies: Sequence[Policy]) -> Batch:
        """Return the codes of legal policies."""
        index = {form: i for i, form in enumerate(self.forms)}
        forms = [
            [index[Form(p.mode, p.weight_bits, p.act_bits)] for p in policy.layers]
            for policy in policies
        ]
        widths = [
            [
                int(np.searchsorted(levels, policy[x.name].keep))
                for x, levels in zip(self.drivers, self.levels, strict=True)
            ]
            for policy in policies
        ]
        shape = (len(policies), len(self.drivers))
        codes = np.asarray(forms, dtype=np.int64).reshape(len(policies), len(self.layers))
        return Batch(np.asarray(widths, dtype=np.int64).reshape(shape), codes)

    def neighbours(self, row: Batch) -> Batch:
        """Return all policies that differ from one in a single decision."""
        widths, forms = [], []
        for driver, count in enumerate(self.counts):
            for level in range(int(count)):
                if level != row.widths[0, driver]:
                    changed = row.widths.copy()
                    changed[0, driver] = level
                    widths.append(changed)
                    forms.append(row.forms)
        for layer, options in enumerate(self.choices):
            for form in options:
                if form != row.forms[0, layer]:
                    changed = row.forms.copy()
                    changed[0, layer] = form
                    widths.append(row.widths)
                    forms.append(changed)
        return Batch(np.concatenate(widths), np.concatenate(forms))

    def channels(self, batch: Batch) -> tuple[Floats, Floats]:
        """Return the input and output channels of every layer: two arrays [n, layers]."""
        kept = {
            x.name: levels[batch.widths[:, d]] / x.out_channels
            for d, (x, levels) in enumerate(zip(self.drivers, self.levels, strict=True))
        }
        whole = np.ones(len(batch))
        inside = [
            sum(s.channels * kept.get(s.group, whole) for s in x.sources) for x in self.layers
        ]
        outside = [x.out_channels * kept.get(x.group, whole) for x in self.layers]
        return np.stack(inside, 1), np.stack(outside, 1)

    def harm(self, batch: Batch) -> tuple[Floats, Floats]:
        """Return the harm that single changes do, up to a factor.

        Of pruning [n, drivers] and of number formats [n, layers]; 0 where a table has no entry.
        """
        pruning = [table[batch.widths[:, d]] for d, table in enumerate(self._pruning)]
        shape = (len(batch), len(self.drivers))
        formats = np.take_along_axis(self._formats, batch.forms.T, 1).T
        return np.asarray(pruning).T.reshape(shape), formats

    @cached_property
    def _pruning(self) -> list[Floats]:
        """Harm of each driver's widths."""
        tables = []
        for layer, levels in zip(self.drivers, self.levels, strict=True):
            ratios = self._harms.get(layer.name, {}).get("prune", (0.0, 0.0))
            sparsity = 1 - levels / layer.out_channels
            at = np.interp(sparsity * len(ratios), np.arange(len(ratios)), ratios)
            tables.append(np.where(sparsity > 0, at, 0.0))
        return tables

    @cached_property
    def _formats(self) -> Floats:
        """Harm of each layer's forms: [layers, forms]."""
        return np.asarray([[self._form_harm(x, f) for f in self.forms] for x in self.layers])

    def _form_harm(self, layer: Layer, form: Form) -> float:
        table = self._harms.get(layer.name, {})
        if form.mode == "fp32":
            return 0.0
        if form.mode == "int8":
            return float(sum(table.get("int8", ())))
        act, weight = table.get("act", ()), table.get("weight", ())
        pairs = ((act, form.act_bits), (weight, form.weight_bits))
        return float(sum(row[min(bits, len(row)) - 1] for row, bits in pairs if len(row)))


def _forms(max_mix_bits: int) -> Iterable[Form]:
    yield Form("fp32", FULL_BITS, FULL_BITS)
    yield Form("int8", INT8_BITS, INT8_BITS)
    for weight_bits in range(max_mix_bits, 0, -1):
        for act_bits in range(max_mix_bits, 0, -1):
            yield Form("mix", weight_bits, act_bits)

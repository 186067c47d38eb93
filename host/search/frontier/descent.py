"""Descents: from one policy step by step to cheaper ones, the least harm for what is saved first.

What the greedy baseline does on divergences and scaled layers is done here on what the search
forecasts, so that islands of deep networks need not find the whole way by single changes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from host.encoding import Batch, Encoding, Floats, Ints, join
from host.search.stage import JOINT, Stage

# policies -> one figure of each: [n]
Forecast = Callable[[Batch], Floats]


class Descent:
    """The steps that narrow a driver or take a layer to fewer bits, and the way down by them.

    Of the mixed formats only those with as many weight bits as activation bits are steps.
    """

    def __init__(self, encoding: Encoding, stage: Stage = JOINT) -> None:
        self.encoding, self.stage = encoding, stage

    def __call__(
        self, start: Batch, goals: Sequence[float], harm: Forecast, cost: Forecast
    ) -> Batch:
        """Return the policies on either side of every goal, or the last one where none is below.

        `start` is one policy; `cost` falls with every step that is taken.
        """
        waiting, kept, before, row = sorted(goals), [], start, start
        while waiting:
            now = float(cost(row)[0])
            while waiting and now <= waiting[-1]:
                kept += [before, row]
                waiting.pop()
            following = self._best(row, now, harm, cost)
            if following is None:
                kept.append(row)
                break
            before, row = row, following
        return join(kept)

    def _best(self, row: Batch, now: float, harm: Forecast, cost: Forecast) -> Batch | None:
        steps = self._steps(row)
        if not len(steps):
            return None
        saved = now - cost(steps)
        if not (saved > 0).any():
            return None
        added = harm(steps) - float(harm(row)[0])
        price = np.where(saved > 0, added / np.where(saved > 0, saved, 1.0), np.inf)
        best = int(np.argmin(price))
        return steps[best : best + 1]

    def _steps(self, row: Batch) -> Batch:
        """Return every policy that one step leads to."""
        driver, level = self._narrower
        layer, form = self._coarser
        if not self.stage.widths:
            driver, level = driver[:0], level[:0]
        if not self.stage.forms:
            layer, form = layer[:0], form[:0]
        thinner = level < row.widths[0, driver]
        bits = self._bits
        fewer = bits[form] < bits[row.forms[0, layer]]
        driver, level, layer, form = driver[thinner], level[thinner], layer[fewer], form[fewer]
        count = len(driver) + len(layer)
        widths, forms = (np.repeat(x, count, 0) for x in (row.widths, row.forms))
        widths[np.arange(len(driver)), driver] = level
        forms[len(driver) + np.arange(len(layer)), layer] = form
        return Batch(widths, forms)

    @cached_property
    def _narrower(self) -> tuple[Ints, Ints]:
        return _pairs([np.arange(count) for count in self.encoding.counts])

    @cached_property
    def _coarser(self) -> tuple[Ints, Ints]:
        even = np.asarray([f.weight_bits == f.act_bits for f in self.encoding.forms])
        return _pairs([options[even[options]] for options in self.encoding.choices])

    @cached_property
    def _bits(self) -> NDArray[np.int64]:
        return np.asarray([f.weight_bits * f.act_bits for f in self.encoding.forms])


def _pairs(options: Sequence[Ints]) -> tuple[Ints, Ints]:
    """Return (place, option) for all options of all places."""
    empty = np.zeros(0, dtype=np.int64)
    places = [np.full(len(values), place) for place, values in enumerate(options)]
    return np.concatenate([empty, *places]), np.concatenate([empty, *options])

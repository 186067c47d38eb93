"""Agents on two levels that learn from the islands what suits a target, and propose to them.

The high-level agent sees a target and a block and sets the block's budget: the share of its cost
that it may keep. The low-level agent sees the target, its block's budget and a layer, and decides
the layer's width and format. Both see layers by their features alone, so that what is learned of
one layer, or for one target, serves others. They learn by expert iteration (Anthony et al. 2017,
arXiv 1705.08439): the evolution on forecasts is the expert, whose best policies they imitate, and
begins from what they propose. Nothing here is measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from host.encoding import Batch, Encoding, Floats, join
from host.layer_events import Events
from host.policy import uncompressed
from host.search.agents.moments import load_moments, moments
from host.search.frontier.features import layer_features
from host.surrogate.cost import ProgramCost, by_layer

HIDDEN = 64
LR = 3e-3
# Budgets are shares of a block's cost; their logarithms are bounded so that no draw runs away.
LEAST_SHARE, MOST_SHARE = 0.01, 4.0
LEAST_SPREAD, MOST_SPREAD = -3.0, 0.5


@dataclass(frozen=True, eq=False)
class View:
    """What the agents see: features of layers [layers, F], and each layer's block by number."""

    layers: Floats
    block_of: NDArray[np.int64]
    # The cost of every block of the uncompressed network.
    block_costs: Floats

    @property
    def blocks(self) -> Floats:
        """Features of blocks: the mean of their layers' [blocks, F]."""
        return np.stack(
            [self.layers[self.block_of == b].mean(0) for b in range(len(self.block_costs))]
        )


def view_of(
    encoding: Encoding,
    groups: Sequence[Sequence[str]],
    program_cost: ProgramCost,
    events: Events,
) -> View:
    """Return what agents see of a network whose blocks are `groups`."""
    costs = by_layer(encoding.layers, [program_cost(uncompressed(encoding.graph))])[0]
    block_of = np.asarray(
        [next(b for b, g in enumerate(groups) if x.name in g) for x in encoding.layers]
    )
    sums = np.bincount(block_of, costs, len(groups)).astype(np.float64)
    return View(layer_features(encoding, program_cost, events), block_of, sums)


@dataclass(frozen=True, eq=False)
class Lessons:
    """Policies to imitate: their codes, log target shares [n] and log budgets [n, blocks]."""

    batch: Batch
    targets: Floats
    budgets: Floats


class Hierarchy:
    """Both agents; with `high_level` false every block's budget is the target's share."""

    def __init__(self, encoding: Encoding, view: View, seed: int, *, high_level: bool) -> None:
        self.encoding, self.view = encoding, view
        self.high_level = high_level
        self.learned = 0
        generator = torch.Generator().manual_seed(seed)
        features = view.layers.shape[1]
        widths = int(max(encoding.counts, default=1))
        self._sizes = (widths, len(encoding.forms))
        self.high = _network(features + 1, 2, generator)
        self.low = _network(features + 2, sum(self._sizes), generator)
        parameters = [*self.high.parameters(), *self.low.parameters()]
        self._optimizer = torch.optim.Adam(parameters, lr=LR)
        self._blocks = torch.tensor(view.blocks, dtype=torch.float32)
        self._layers = torch.tensor(view.layers, dtype=torch.float32)
        self._block_of = torch.from_numpy(view.block_of)
        self._legal_forms = torch.from_numpy(encoding.legal)
        self._legal_widths = torch.arange(widths) < torch.from_numpy(encoding.counts)[:, None]
        places = {layer.name: i for i, layer in enumerate(encoding.layers)}
        self._drivers = torch.tensor([places[x.name] for x in encoding.drivers], dtype=torch.long)

    def lessons(self, batch: Batch, targets: Floats, by_layer: Floats) -> Lessons:
        """Return what policies teach: the budgets that they spent, from costs [n, layers]."""
        blocks = len(self.view.block_costs)
        spent = np.stack([by_layer[:, self.view.block_of == b].sum(1) for b in range(blocks)], 1)
        share = np.clip(spent / np.maximum(self.view.block_costs, 1e-12), LEAST_SHARE, MOST_SHARE)
        return Lessons(batch, np.log(targets), np.log(share))

    def learn(self, lessons: Lessons, steps: int) -> float:
        """Take some steps towards policies; returns the last mean negative log-likelihood."""
        targets = torch.tensor(lessons.targets, dtype=torch.float32)
        budgets = torch.tensor(lessons.budgets, dtype=torch.float32)
        widths, forms = (torch.from_numpy(x) for x in (lessons.batch.widths, lessons.batch.forms))
        loss = torch.zeros(())
        for _ in range(steps):
            loss = self._low_loss(targets, budgets, widths, forms)
            if self.high_level:
                loss = loss + self._high_loss(targets, budgets)
            self._optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()
        self.learned += steps
        return float(loss.detach())

    @torch.no_grad()
    def propose(self, targets: Floats, count: int, seed: int) -> Batch:
        """Draw `count` policies for every target, shares of the uncompressed network's cost."""
        generator = torch.Generator().manual_seed(seed)
        return join([self._drawn(float(np.log(t)), count, generator) for t in targets])

    def _drawn(self, target: float, count: int, generator: torch.Generator) -> Batch:
        targets = torch.full((count,), target)
        width_scores, form_scores = self._scores(targets, self._budgets(targets, generator))
        return Batch(_draw(width_scores, generator), _draw(form_scores, generator))

    def _budgets(self, targets: Tensor, generator: torch.Generator) -> Tensor:
        """Draw the log budget of every block, together what the target allows: [n, blocks]."""
        if not self.high_level:
            return targets[:, None].expand(-1, len(self.view.block_costs))
        mean, spread = self._expected(targets)
        drawn = mean + spread.exp() * torch.randn(mean.shape, generator=generator)
        costs = torch.tensor(self.view.block_costs, dtype=torch.float32)
        spent = (drawn.exp() * costs).sum(1) / costs.sum()
        bounded = drawn + (targets - spent.log())[:, None]
        return bounded.clamp(float(np.log(LEAST_SHARE)), float(np.log(MOST_SHARE)))

    def _expected(self, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log standard deviation of every block's log budget: [n, blocks]."""
        n, blocks = len(targets), len(self._blocks)
        seen = torch.cat(
            [self._blocks.expand(n, -1, -1), targets[:, None, None].expand(-1, blocks, 1)], 2
        )
        mean, spread = self.high(seen).unbind(2)
        # Residual to the target: before anything is learned, budgets are uniform.
        return targets[:, None] + mean, spread.clamp(LEAST_SPREAD, MOST_SPREAD)

    def _scores(self, targets: Tensor, budgets: Tensor) -> tuple[Tensor, Tensor]:
        """Return log-probabilities: widths [n, drivers, levels] and forms [n, layers, forms]."""
        if not self.high_level:
            budgets = targets[:, None].expand(-1, len(self.view.block_costs))
        n, layers = len(targets), len(self._layers)
        own = budgets[:, self._block_of, None]
        seen = torch.cat(
            [self._layers.expand(n, -1, -1), targets[:, None, None].expand(-1, layers, 1), own], 2
        )
        widths, forms = self.low(seen).split(self._sizes, 2)
        widths = widths[:, self._drivers].masked_fill(~self._legal_widths, -torch.inf)
        forms = forms.masked_fill(~self._legal_forms, -torch.inf)
        return widths.log_softmax(2), forms.log_softmax(2)

    def _low_loss(self, targets: Tensor, budgets: Tensor, widths: Tensor, forms: Tensor) -> Tensor:
        width_scores, form_scores = self._scores(targets, budgets)
        taken = form_scores.gather(2, forms[..., None]).mean()
        if widths.shape[1]:
            taken = taken + width_scores.gather(2, widths[..., None]).mean()
        return -taken

    def _high_loss(self, targets: Tensor, budgets: Tensor) -> Tensor:
        mean, spread = self._expected(targets)
        return (spread + 0.5 * ((budgets - mean) / spread.exp()).square()).mean()

    def state_dict(self) -> dict[str, Any]:
        """Return the parameters, the optimizer's moments and how much was learned."""
        return {
            "high": self.high.state_dict(),
            "low": self.low.state_dict(),
            "moments": moments(self._optimizer),
            "learned": self.learned,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.high.load_state_dict(state["high"])
        self.low.load_state_dict(state["low"])
        load_moments(self._optimizer, state["moments"])
        self.learned = int(state["learned"])


def _draw(scores: Tensor, generator: torch.Generator) -> NDArray[np.int64]:
    """Draw categories by Gumbel's trick: the largest noisy log-probability."""
    noise = torch.empty_like(scores).exponential_(generator=generator).log()
    drawn: NDArray[np.int64] = (scores - noise).argmax(2).numpy()
    return drawn


def _network(inputs: int, outputs: int, generator: torch.Generator) -> nn.Sequential:
    """Return two hidden layers of tanh, orthogonal, and a last layer of nearly nothing."""
    sizes = ((inputs, HIDDEN, 1.0), (HIDDEN, HIDDEN, 1.0), (HIDDEN, outputs, 0.01))
    modules: list[nn.Module] = []
    for seen, made, gain in sizes:
        linear = nn.Linear(seen, made)
        nn.init.orthogonal_(linear.weight, gain, generator=generator)
        nn.init.zeros_(linear.bias)
        modules += [linear, nn.Tanh()]
    return nn.Sequential(*modules[:-1])

"""The agents imitate what they are shown, for targets in between too, within what is legal."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from host.blocks import blocks
from host.encoding import Batch, Encoding, Floats, join
from host.search.frontier.hierarchy import Hierarchy, Lessons, view_of
from host.surrogate.cost import by_layer
from tests.host.search.toy import GRAPH, SPACE, layer_cost

ENCODING = Encoding(SPACE)
GROUPS = [block.layers for block in blocks(GRAPH)]
VIEW = view_of(ENCODING, GROUPS, layer_cost, {})
WHOLE = VIEW.block_costs.sum()
COPIES = 16


def agents(seed: int = 0, *, high_level: bool = True) -> Hierarchy:
    return Hierarchy(ENCODING, VIEW, seed, high_level=high_level)


def uniform(level: int, mode: str, bits: int) -> Batch:
    """Some copies of a network with every driver at one width and every layer in one format."""
    form = next(i for i, f in enumerate(ENCODING.forms) if f.mode == mode and f.weight_bits == bits)
    forms = [form if ENCODING.legal[i, form] else 0 for i in range(len(GRAPH.layers))]
    return Batch(
        np.full((COPIES, len(ENCODING.drivers)), level),
        np.tile(np.asarray(forms, dtype=np.int64), (COPIES, 1)),
    )


def costs_of(batch: Batch) -> Floats:
    policies = [ENCODING.policy(batch, i) for i in range(len(batch))]
    return by_layer(GRAPH.layers, map(layer_cost, policies))


def lessons(hierarchy: Hierarchy, batch: Batch) -> Lessons:
    costs = costs_of(batch)
    return hierarchy.lessons(batch, costs.sum(1) / WHOLE, costs)


# From narrow and coarse to wide and fine.
SHOWN = [uniform(0, "mix", 4), uniform(1, "mix", 4), uniform(2, "int8", 8), uniform(3, "int8", 8)]


def share(batch: Batch) -> float:
    """The mean share of the uncompressed network's cost."""
    return float(costs_of(batch).sum(1).mean() / WHOLE)


@pytest.fixture(scope="module")
def taught() -> Hierarchy:
    hierarchy = agents()
    hierarchy.learn(lessons(hierarchy, join(SHOWN)), 200)
    return hierarchy


@pytest.mark.parametrize("shown", SHOWN)
def test_they_propose_what_they_were_shown_for_a_target(taught: Hierarchy, shown: Batch) -> None:
    proposed = taught.propose(np.asarray([share(shown)]), 50, 1)
    assert (proposed.forms == shown.forms[0]).mean() > 0.7
    assert (proposed.widths == shown.widths[0]).mean() > 0.7


def test_what_they_propose_in_between_costs_in_between(taught: Hierarchy) -> None:
    shares = [share(shown) for shown in SHOWN]
    middle = taught.propose(np.asarray([np.sqrt(shares[1] * shares[2])]), 100, 1)
    assert shares[0] < share(middle) < shares[3]


def test_nothing_is_preferred_before_anything_is_learned() -> None:
    proposed = agents().propose(np.asarray([0.5]), 400, 1)
    frequent = [np.bincount(column).max() / 400 for column in proposed.widths.T]
    assert max(frequent) < 2.0 / ENCODING.counts.min()


def test_learning_makes_what_was_shown_likelier() -> None:
    hierarchy = agents()
    shown = lessons(hierarchy, join(SHOWN))
    first, last = hierarchy.learn(shown, 1), hierarchy.learn(shown, 40)
    assert last < first


def test_budgets_together_are_what_the_target_allows(taught: Hierarchy) -> None:
    targets = torch.log(torch.tensor([0.1, 0.3, 0.9]))
    budgets = taught._budgets(targets, torch.Generator().manual_seed(0))
    spent = (budgets.exp() * torch.from_numpy(VIEW.block_costs)).sum(1) / WHOLE
    assert spent.tolist() == pytest.approx([0.1, 0.3, 0.9], rel=1e-4)


def test_without_the_high_level_every_budget_is_the_target() -> None:
    targets = torch.log(torch.tensor([0.1, 0.3]))
    budgets = agents(high_level=False)._budgets(targets, torch.Generator())
    assert torch.equal(budgets, targets[:, None].expand(-1, len(GROUPS)))


@given(st.integers(0, 1000), st.floats(0.01, 1.0))
@settings(max_examples=20, deadline=None)
def test_proposals_are_legal_policies(seed: int, target: float) -> None:
    proposed = agents(seed).propose(np.asarray([target]), 3, seed)
    policies = [ENCODING.policy(proposed, i) for i in range(3)]
    again = ENCODING.batch(policies)
    assert again.keys() == proposed.keys()


def test_the_same_seed_proposes_the_same(taught: Hierarchy) -> None:
    targets = np.asarray([0.2, 0.6])
    first, second = (taught.propose(targets, 5, 3) for _ in range(2))
    assert first.keys() == second.keys()
    assert first.keys() != taught.propose(targets, 5, 4).keys()


def test_a_state_goes_on_as_if_nothing_had_happened() -> None:
    one, other = agents(1), agents(2)
    shown = lessons(one, join(SHOWN))
    one.learn(shown, 5)
    other.load_state_dict(one.state_dict())
    assert other.learned == 5
    assert one.learn(shown, 5) == other.learn(shown, 5)
    targets = np.asarray([0.4])
    assert one.propose(targets, 5, 0).keys() == other.propose(targets, 5, 0).keys()

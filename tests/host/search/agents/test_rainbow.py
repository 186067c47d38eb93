"""Rainbow: it solves what has a known answer, keeps to what is legal, and goes on from a state."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from host.search.agents.noisy import NoisyLinear
from host.search.agents.rainbow import Rainbow, RainbowSettings
from host.search.agents.replay import PrioritisedReplay

SMALL = RainbowSettings(hidden=32, lr=3e-3, batch=32, warmup_episodes=20, tau=0.05)
STATES = np.eye(5)
BEST = np.array([2, 0, 3, 1, 2])
ACTIONS = 4


def played(agent: Rainbow, episodes: int, legal: np.ndarray | None = None) -> None:
    """Episodes of five steps; the reward is the share of steps that chose the best category."""
    for _ in range(episodes):
        rows = [None] * len(STATES) if legal is None else list(legal)
        actions = np.array([agent.act(s, row) for s, row in zip(STATES, rows, strict=True)])
        agent.learn(STATES, actions, float((actions == BEST).mean()), legal)


def walked(agent: Rainbow, *, explore: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """One episode whose states also tell how much was right so far."""
    states, actions = [], []
    for step in range(len(BEST)):
        right = np.mean(np.array(actions) == BEST[:step]) if step else 0.0
        states.append(np.append(STATES[step], right))
        actions.append(agent.act(states[-1], explore=explore))
    return np.stack(states), np.array(actions)


def chosen(agent: Rainbow) -> list[int]:
    return [agent.act(state, explore=False) for state in STATES]


@pytest.mark.parametrize("seed", [0, 1])
def test_the_best_category_of_every_step_is_found(seed: int) -> None:
    agent = Rainbow(5, ACTIONS, SMALL, seed)
    played(agent, 200)
    assert chosen(agent) == BEST.tolist()


def test_short_returns_do_where_states_tell_what_was_chosen() -> None:
    agent = Rainbow(6, ACTIONS, replace(SMALL, n_step=2), seed=0)
    for _ in range(250):
        states, actions = walked(agent)
        agent.learn(states, actions, float((actions == BEST).mean()))
    assert (walked(agent, explore=False)[1] == BEST).mean() >= 0.8


def test_only_legal_categories_are_taken() -> None:
    legal = np.ones((5, ACTIONS), dtype=bool)
    legal[np.arange(5), BEST] = False
    agent = Rainbow(5, ACTIONS, SMALL, seed=0)
    played(agent, 30, legal)
    for state, row in zip(STATES, legal, strict=True):
        assert all(row[agent.act(state, row)] for _ in range(5))


def test_the_same_seed_plays_the_same_and_a_state_goes_on() -> None:
    first, second, resumed = (Rainbow(5, ACTIONS, SMALL, seed=3) for _ in range(3))
    played(first, 40)
    played(second, 25)
    resumed.load_state_dict(copy.deepcopy(second.state_dict()))
    played(resumed, 15)
    for name, tensor in first.network.state_dict().items():
        assert torch.equal(tensor, resumed.network.state_dict()[name]), name


def test_the_global_generator_is_left_alone() -> None:
    state = torch.random.get_rng_state()
    played(Rainbow(5, ACTIONS, SMALL, seed=0), 25)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_distribution_moves_to_the_reward_and_keeps_its_mass() -> None:
    agent = Rainbow(5, ACTIONS, SMALL, seed=0)
    batch = {
        "next": torch.eye(5)[:2],
        "legal": torch.ones(2, ACTIONS),
        "reward": torch.tensor([[0.41], [0.0]]),
        "end": torch.tensor([[1.0], [0.0]]),
    }
    wanted = agent._projected(batch)
    assert wanted.sum(1).tolist() == pytest.approx([1.0, 1.0])
    assert float(wanted[0] @ agent.support) == pytest.approx(0.41, abs=1e-5)
    assert int((wanted[0] > 0).sum()) == 2
    assert int((wanted[1] > 0).sum()) == SMALL.atoms


def test_noise_is_factorised_and_can_be_hushed() -> None:
    layer, x = NoisyLinear(6, 4), torch.ones(1, 6)
    quiet = layer(x)
    layer.draw(torch.Generator().manual_seed(1))
    noisy = layer(x)
    layer.hush()
    assert torch.equal(layer(x), quiet)
    assert not torch.allclose(noisy, quiet)


def test_surprising_rows_are_drawn_more_often_and_weigh_less() -> None:
    replay = PrioritisedReplay(8, {"x": 1}, alpha=1.0)
    replay.add({"x": torch.arange(4.0)})
    replay.surprise(torch.arange(4), torch.tensor([1.0, 1.0, 1.0, 7.0]))
    places, weights = replay.draw(4000, 1.0, np.random.default_rng(0))
    shares = np.bincount(places.numpy(), minlength=4) / 4000
    np.testing.assert_allclose(shares, [0.1, 0.1, 0.1, 0.7], atol=0.03)
    assert float(weights[places == 3][0]) == pytest.approx(1 / 7)
    replay.add({"x": torch.tensor([9.0])})
    assert float(replay.columns["priority"][4]) == 7.0

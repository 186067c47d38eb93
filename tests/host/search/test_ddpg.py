"""The agent alone: a one-step problem that it must solve, its noise, and its masks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from host.search.agents.ddpg import DDPG, DDPGSettings, truncated_normal

SMALL = DDPGSettings(
    hidden=(32, 24),
    actor_lr=1e-3,
    critic_lr=5e-3,
    critic_decay=0.0,
    warmup_episodes=20,
    sigma_decay=0.97,
)


@pytest.mark.parametrize("imitation", [0.0, DDPGSettings().imitation])
def test_the_agent_finds_the_best_action_of_each_state(imitation: float) -> None:
    """Three steps; the reward is how near each action is to its state's secret."""
    secrets = np.array([0.2, 0.8, 0.5])
    states = np.eye(3)
    agent = DDPG(3, 1, replace(SMALL, imitation=imitation), seed=0)
    for _ in range(150):
        actions = np.stack([agent.act(s) for s in states])
        agent.learn(states, actions, float(-np.abs(actions[:, 0] - secrets).sum()))
    found = np.array([agent.act(s, explore=False)[0] for s in states])
    np.testing.assert_allclose(found, secrets, atol=0.15)


def test_imitation_keeps_the_actor_at_the_best_episode() -> None:
    """The reward is noise, so that only the best episode says where to stay."""
    states, rng = np.eye(3), np.random.default_rng(0)
    best = np.array([[0.2], [0.8], [0.5]])
    agent = DDPG(3, 1, replace(SMALL, updates_per_step=5), seed=0)
    agent.learn(states, best, 2.0)
    for _ in range(60):
        agent.learn(states, rng.random((3, 1)), rng.random())
    found = np.stack([agent.act(s, explore=False) for s in states])
    np.testing.assert_allclose(found, best, atol=0.1)


def test_the_last_step_of_an_episode_does_not_look_ahead() -> None:
    agent = DDPG(2, 1, SMALL, seed=0)
    agent.learn(np.zeros((3, 2)), np.zeros((3, 1)), 1.0)
    assert agent.replay.columns["end"][:3, 0].tolist() == [0.0, 0.0, 1.0]


def test_warm_up_draws_uniform_actions_then_noise_shrinks() -> None:
    agent = DDPG(2, 4, SMALL, seed=0)
    drawn = np.stack([agent.act(np.zeros(2)) for _ in range(500)])
    assert abs(drawn.mean() - 0.5) < 0.05
    assert drawn.std() == pytest.approx(12**-0.5, abs=0.02)
    agent.episode = 40
    assert agent.sigma == pytest.approx(0.5 * 0.97**20)


def test_noise_stays_in_range_and_centres_on_the_mean() -> None:
    rng = np.random.default_rng(0)
    drawn = truncated_normal(np.full(4000, 0.5), 0.2, rng)
    assert drawn.min() >= 0.0
    assert drawn.max() <= 1.0
    assert drawn.mean() == pytest.approx(0.5, abs=0.02)
    edge = truncated_normal(np.full(4000, 1.0), 0.5, rng)
    assert edge.max() <= 1.0


def test_making_an_agent_leaves_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    DDPG(2, 1, SMALL, seed=3)
    assert torch.equal(before, torch.random.get_rng_state())

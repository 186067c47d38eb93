"""Stacked agents: solve a bandit, equal stable-baselines3's, resume exactly, and never mix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from host.search.agents.a2c import A2C, A2CSettings
from host.search.agents.actor_critic import Agents, Rollout, advantages, batch_of, collect, train
from host.search.agents.networks import Shapes
from host.search.agents.ppo import PPO, PPOSettings
from tests.host.search.agents.bandit import STEPS, Bandit

ONE = Shapes((3,), ((4, 3),))
THREE = Shapes((3, 5, 2), ((4, 3), (5, 2, 4, 3), (6,)))
PPO_SETTINGS = PPOSettings(n_steps=16, batch=8, epochs=3, ent_coef=0.01)
A2C_SETTINGS = A2CSettings(n_steps=8, ent_coef=0.02, gae_lambda=0.9)
COPIES = 2
KINDS: dict[str, Callable[[Shapes, int], Any]] = {
    "ppo": lambda shapes, seed: PPO(shapes, PPO_SETTINGS, seed),
    "a2c": lambda shapes, seed: A2C(shapes, A2C_SETTINGS, seed),
}


def rollout_of(agents: Agents, shapes: Shapes) -> Rollout:
    bandit = Bandit(shapes, COPIES)
    rollout, _ = collect(agents, bandit, bandit.reset())
    return rollout


def reward_of(agents: Agents, shapes: Shapes) -> torch.Tensor:
    """The mean reward of the likeliest actions [A]."""
    bandit = Bandit(shapes, 1)
    seen, total = bandit.reset(), torch.zeros(shapes.agents)
    for _ in range(STEPS):
        seen, rewards, _ = bandit.step(agents.act(seen, explore=False).actions)
        total += rewards[:, 0] / STEPS
    return total


@pytest.mark.parametrize("shapes", [ONE, THREE])
def test_ppo_finds_the_best_categories_of_every_context(shapes: Shapes) -> None:
    agents = PPO(shapes, PPOSettings(lr=3e-3, n_steps=32, batch=32), 0)
    train(agents, Bandit(shapes, COPIES), 2048)
    assert reward_of(agents, shapes).min() == 1.0


@pytest.mark.parametrize("shapes", [ONE, THREE])
def test_a2c_finds_the_best_categories_of_every_context(shapes: Shapes) -> None:
    agents = A2C(shapes, A2CSettings(lr=2e-3, n_steps=16, ent_coef=0.01), 0)
    train(agents, Bandit(shapes, 8), 48000)
    assert reward_of(agents, shapes).min() == 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_agents_and_a_state_goes_on_exactly(kind: str) -> None:
    one, two, other = (KINDS[kind](THREE, seed) for seed in (0, 0, 1))
    for agents in (one, two):
        train(agents, Bandit(THREE, COPIES), 32)
    other.load_state_dict(one.state_dict())
    for agents in (one, two, other):
        train(agents, Bandit(THREE, COPIES), 32)
    for a, b, c in zip(*(x.networks.parameters() for x in (one, two, other)), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_padded_never_moves(kind: str) -> None:
    agents = KINDS[kind](THREE, 0)
    train(agents, Bandit(THREE, COPIES), 64)
    layers = agents.networks.layers
    for agent, size in enumerate(THREE.observations):
        assert not layers["policy_0_weight"][agent, size:].any()
        assert not layers["policy_2_weight"][agent][:, ~THREE.mask()[agent].flatten()].any()
    rollout = rollout_of(agents, THREE)
    counts = THREE.mask().sum(2)[None, :, None]
    assert (rollout.actions < counts.clamp(min=1)).all()


def test_agents_of_a_stack_learn_as_if_alone() -> None:
    """An agent's gradient, clipped by its own norm, is not changed by its neighbours."""
    stack = A2C(THREE, A2C_SETTINGS, 0)
    alone = A2C(THREE, A2C_SETTINGS, 0)
    rollout = rollout_of(stack, THREE)
    louder = replace(rollout, rewards=rollout.rewards * torch.tensor([1.0, 1e4, 1e-3])[:, None])
    stack.update(rollout)
    alone.update(louder)
    for a, b in zip(stack.networks.parameters(), alone.networks.parameters(), strict=True):
        torch.testing.assert_close(a[0], b[0])
    assert not torch.equal(
        stack.networks.layers["value_1_weight"][1], alone.networks.layers["value_1_weight"][1]
    )


def test_advantages_stop_at_the_end_of_an_episode() -> None:
    rewards = torch.tensor([1.0, 2.0, 4.0]).view(3, 1, 1)
    values = torch.tensor([0.5, 1.0, 1.5]).view(3, 1, 1)
    ends = torch.tensor([0.0, 1.0, 0.0]).view(3, 1, 1)
    rollout = Rollout(values, values, values, values, rewards, ends, torch.full((1, 1), 2.0))
    found = advantages(rollout, 0.5, 0.5).flatten().tolist()
    last, middle = 4.0 + 0.5 * 2.0 - 1.5, 2.0 - 1.0
    assert found == pytest.approx([1.0 + 0.5 * 1.0 - 0.5 + 0.25 * middle, middle, last])


def test_making_and_training_leaves_the_global_generators_alone() -> None:
    torch_before, numpy_before = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    train(PPO(ONE, PPO_SETTINGS, 3), Bandit(ONE, COPIES), 32)
    assert torch.equal(torch_before, torch.random.get_rng_state())
    assert (numpy_before == np.random.get_state()[1]).all()


def copy_to_sb3(agents: Any, agent: int, shapes: Shapes, policy: Any) -> None:
    """Give a stable-baselines3 policy the parameters of one agent."""
    for name, parameter in sb3_layout(agents, agent, shapes).items():
        policy.state_dict()[name].copy_(parameter)


def sb3_layout(agents: Any, agent: int, shapes: Shapes) -> dict[str, torch.Tensor]:
    """Return one agent's parameters under stable-baselines3's names and shapes."""
    layers, found = agents.networks.layers, {}
    mask = shapes.mask()[agent].flatten()
    names = {
        "policy_0": "mlp_extractor.policy_net.0",
        "policy_1": "mlp_extractor.policy_net.2",
        "policy_2": "action_net",
        "value_0": "mlp_extractor.value_net.0",
        "value_1": "mlp_extractor.value_net.2",
        "value_2": "value_net",
    }
    for ours, theirs in names.items():
        weight = layers[f"{ours}_weight"][agent].detach()
        bias = layers[f"{ours}_bias"][agent, 0].detach()
        if ours.endswith("_0"):
            weight = weight[: shapes.observations[agent]]
        if ours == "policy_2":
            weight, bias = weight[:, mask], bias[mask]
        found[f"{theirs}.weight"], found[f"{theirs}.bias"] = weight.T, bias
    return found


class TestAgainstStableBaselines3:
    """Same parameters and rollout in: same losses and same parameters out."""

    @pytest.fixture(autouse=True)
    def installed(self) -> None:
        pytest.importorskip("stable_baselines3")

    @pytest.mark.parametrize("shapes", [ONE, THREE])
    @pytest.mark.parametrize("kind", KINDS)
    def test_one_update_moves_the_parameters_alike(
        self, kind: str, shapes: Shapes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from host.search.agents.sb3 import fill, make_model

        agents = KINDS[kind](shapes, 0)
        rollout = rollout_of(agents, shapes)
        models = []
        for agent in range(shapes.agents):
            sizes = shapes.observations[agent], shapes.choices[agent]
            model = make_model(agents.settings, *sizes, COPIES)
            copy_to_sb3(agents, agent, shapes, model.policy)
            fill(model, rollout, agent, shapes)
            models.append(model)
        before = agents.generator.get_state()
        agents.update(rollout)
        for agent, model in enumerate(models):
            orders = torch.Generator()
            orders.set_state(before)
            monkeypatch.setattr(
                np.random, "permutation", lambda n, g=orders: torch.randperm(n, generator=g).numpy()
            )
            model.train()
            for name, parameter in sb3_layout(agents, agent, shapes).items():
                theirs = model.policy.state_dict()[name]
                torch.testing.assert_close(parameter, theirs, atol=1e-5, rtol=0)

    @pytest.mark.parametrize("shapes", [ONE, THREE])
    @pytest.mark.parametrize("kind", KINDS)
    def test_the_losses_are_alike(self, kind: str, shapes: Shapes) -> None:
        from host.search.agents.sb3 import fill, make_model

        agents = KINDS[kind](shapes, 1)
        rollout = rollout_of(agents, shapes)
        if kind == "ppo":  # away from a ratio of one
            for parameter in agents.networks.parameters():
                parameter.data.mul_(1.1)
        with torch.no_grad():
            losses = agents.losses(batch_of(rollout, agents.settings))
        for agent in range(shapes.agents):
            sizes = shapes.observations[agent], shapes.choices[agent]
            settings = agents.settings
            if kind == "ppo":
                settings = replace(settings, batch=16 * COPIES, epochs=1)
            model = make_model(settings, *sizes, COPIES)
            copy_to_sb3(agents, agent, shapes, model.policy)
            fill(model, rollout, agent, shapes)
            model.train()
            logged = model.logger.name_to_value
            policy = "train/policy_gradient_loss" if kind == "ppo" else "train/policy_loss"
            assert logged[policy] == pytest.approx(float(losses.policy[agent]), abs=1e-5)
            assert logged["train/value_loss"] == pytest.approx(float(losses.value[agent]), abs=1e-5)
            entropy = float(losses.entropy[agent])
            assert logged["train/entropy_loss"] == pytest.approx(entropy, abs=1e-5)

    def test_first_weights_have_the_same_gains(self) -> None:
        from host.search.agents.sb3 import make_model

        ours = sb3_layout(KINDS["ppo"](ONE, 0), 0, ONE)
        theirs = make_model(PPO_SETTINGS, 3, (4, 3), COPIES).policy.state_dict()
        assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}
        for name, parameter in ours.items():
            assert float(parameter.norm()) == pytest.approx(float(theirs[name].norm()), rel=1e-5)

    def test_the_backend_solves_resumes_and_leaves_the_generators_alone(self) -> None:
        from host.search.agents.sb3 import SB3Agents

        before = np.random.get_state()[1].copy()
        settings = PPOSettings(lr=3e-3, n_steps=32, batch=64)
        one, two = (SB3Agents(THREE, settings, COPIES, seed) for seed in (0, 1))
        train(one, Bandit(THREE, COPIES), 64)
        two.load_state_dict(one.state_dict())
        for agents in (one, two):
            train(agents, Bandit(THREE, COPIES), 640)
        assert reward_of(one, THREE).min() == 1.0
        seen = torch.ones(3, 1, 5)
        assert torch.equal(one.act(seen).values, two.act(seen).values)
        assert (before == np.random.get_state()[1]).all()

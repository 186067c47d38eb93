"""One suite over every strategy: legal, deterministic, resumable; and the learning ones learn."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given

from host.errors import CallerError, StoreError
from host.policy import Policy
from host.search import checkpoint
from host.search.actions import choice, joint_actions
from host.search.episode import Episode, pareto
from host.search.loop import Memory, search
from host.search.strategy import STRATEGIES, State, make_strategy
from tests.host.search.toy import SPACE, evaluate, problem
from tests.host.test_policy import policies

QUICK = {"hidden": (64, 48), "warmup_episodes": 4, "batch": 32, "actor_lr": 1e-3}
QUICK_CYCLE = {
    "warmup": 4,
    "low_steps": 32,
    "low_ppo_steps": 16,
    "low_a2c_steps": 8,
    "high_first_steps": 16,
    "high_steps": 16,
    "high_ppo_steps": 16,
}
NAMES = (
    "galen-prune",
    "galen-quantize",
    "galen-joint",
    "amc",
    "haq",
    "composite",
    "two-stage",
    "frontier",
    "hirelc",
    "uniform",
    "random",
    "greedy",
    "tpe",
    "nsga2",
)


QUICK_ISLANDS = {"generations": 6, "population": 8, "offspring": 8, "design": 5}


def settings(name: str) -> dict[str, object]:
    if name == "hirelc":
        return QUICK_CYCLE
    if name == "frontier":
        return QUICK_ISLANDS
    if name in ("amc", "haq", "composite", "two-stage"):
        return {key: value for key, value in QUICK.items() if key != "warmup_episodes"}
    return QUICK if name.startswith("galen") else {}


def run(name: str, episodes: int = 12, seed: int = 0) -> list[Episode]:
    made = problem(seed, episodes, **settings(name))
    strategy = make_strategy(name, made)
    return search(made, strategy, evaluate, Memory(lambda e: None, lambda n, s: None))


def digests(episodes: Sequence[Episode]) -> list[str]:
    return [e.policy.digest() for e in episodes]


def test_the_suite_covers_every_strategy() -> None:
    make_strategy("random", problem())
    assert set(STRATEGIES) == set(NAMES)


def test_unknown_strategy_is_refused_with_a_hint() -> None:
    with pytest.raises(CallerError, match='did you mean "greedy"'):
        make_strategy("greddy", problem())


@pytest.mark.parametrize("name", NAMES)
class TestEveryStrategy:
    def test_every_policy_is_legal(self, name: str) -> None:
        for episode in run(name):
            SPACE.check(episode.policy)

    def test_the_same_seed_gives_the_same_policies(self, name: str) -> None:
        assert digests(run(name)) == digests(run(name))

    def test_a_killed_search_ends_as_an_undisturbed_one(self, name: str, tmp_path: Path) -> None:
        whole = run(name)
        made = problem(0, 12, **settings(name))
        kept: list[Episode] = []
        path = tmp_path / "state.safetensors"

        class Killed(Exception):
            pass

        def record(episode: Episode) -> None:
            if episode.number == 8:
                raise Killed
            kept.append(episode)

        def save(number: int, state: State) -> None:
            checkpoint.save(path, {"number": number, "strategy": state})

        with pytest.raises(Killed):
            search(made, make_strategy(name, made), evaluate, Memory(record, save))
        saved = checkpoint.load(path)
        calls: list[Policy] = []

        def counted(policy: Policy) -> object:
            calls.append(policy)
            return evaluate(policy)

        again = search(
            made,
            make_strategy(name, made),
            counted,  # type: ignore[arg-type]
            Memory(lambda e: None, save),
            past=kept,
            state=(saved["number"], saved["strategy"]),
        )
        assert digests(again) == digests(whole)
        assert len(calls) == 12 - len(kept)


def test_a_run_whose_policies_changed_is_refused() -> None:
    past = run("random", 3, seed=1)
    made = problem(2, 5)
    with pytest.raises(StoreError, match="start a new run"):
        search(
            made,
            make_strategy("random", made),
            evaluate,
            Memory(lambda e: None, lambda n, s: None),
            past=past,
        )


@pytest.mark.parametrize("name", ["galen-joint", "tpe", "greedy"])
def test_what_learns_ends_with_better_policies_than_chance(name: str) -> None:
    """The mean reward of the last ten of sixty evaluations, over two seeds."""

    def late(strategy: str) -> float:
        return float(np.mean([e.reward for s in range(2) for e in run(strategy, 60, s)[-10:]]))

    assert late(name) > late("random")


def test_the_first_greedy_policy_beats_most_random_ones() -> None:
    first = run("greedy", 1)[0].reward
    drawn = [e.reward for e in run("random", 60)]
    assert first > np.quantile(drawn, 0.9)


def test_galen_quantization_thresholds() -> None:
    from host.search.actions import quantization

    layer = SPACE.graph.layers[1]
    formats = {
        (0.1, 0.2): ("fp32", 32, 32),
        (0.3, 0.1): ("int8", 8, 8),
        (0.5, 0.5): ("int8", 8, 8),
        (0.6, 0.1): ("mix", 6, 5),
        (1.0, 1.0): ("mix", 1, 1),
    }
    for (act, weight), expected in formats.items():
        wish = quantization(act, weight, layer, SPACE)
        assert (wish.mode, wish.weight_bits, wish.act_bits) == expected


def test_states_lie_between_zero_and_one() -> None:
    from host.search.galen import Galen

    galen = Galen("joint", problem(0, 4, **QUICK))
    galen.ask()
    assert galen.trace is not None
    states, actions = galen.trace
    assert states.shape == (6, galen.encoder.width)
    assert states.min() >= 0.0
    assert states.max() <= 1.0
    assert actions.shape == (6, 3)


def test_the_front_holds_what_nothing_beats() -> None:
    episodes = run("random", 30)
    front = pareto(episodes)
    for one in front:
        assert not any(
            e.latency_ms <= one.latency_ms and e.evaluation.accuracy > one.evaluation.accuracy
            for e in episodes
        )
    assert [e.latency_ms for e in front] == sorted(e.latency_ms for e in front)


def test_a_state_is_json_and_tensors_only(tmp_path: Path) -> None:
    made = problem(0, 4, **QUICK)
    strategy = make_strategy("galen-joint", made)
    search(made, strategy, evaluate, Memory(lambda e: None, lambda n, s: None))
    path = tmp_path / "state.safetensors"
    checkpoint.save(path, strategy.state_dict())
    header = path.read_bytes()
    length = int.from_bytes(header[:8], "little")
    assert json.loads(header[8 : 8 + length])["__metadata__"]["state"]


def test_a_torn_checkpoint_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(StoreError, match="not a checkpoint"):
        checkpoint.load(path)


@given(policies())
def test_actions_of_a_policy_lead_back_to_it(policy: Policy) -> None:
    for layer, form in zip(SPACE.graph.layers, policy.layers, strict=True):
        wish = choice("joint", joint_actions(form, layer, SPACE), layer, SPACE)
        again = SPACE.policy({layer.name: wish})[layer.name]
        assert (again.mode, again.weight_bits, again.act_bits) == (
            form.mode,
            form.weight_bits,
            form.act_bits,
        )
        if SPACE.prunable(layer):
            assert again.keep == form.keep


def test_the_joint_agent_starts_with_what_it_is_shown() -> None:
    first = run("galen-joint", 1)[0].policy
    assert first.digest() == run("greedy", 1)[0].policy.digest()
    assert problem().layer_cost is not None
    alone = problem(0, 1, **QUICK, demonstrations=0)
    assert make_strategy("galen-joint", alone).ask().digest() != first.digest()

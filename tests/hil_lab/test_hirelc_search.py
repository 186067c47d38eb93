"""HiReLC through the product: what it asks for in its registration is what it gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil_lab import experiment
from host.policy import Policy
from host.proxy import LogitError
from tests.hil_lab import tiny
from tests.hil_lab.commands import hil_lab

pytestmark = [pytest.mark.tvm, pytest.mark.slow]

CYCLE = {
    "warmup": 1,
    "low_steps": 16,
    "low_ppo_steps": 8,
    "low_a2c_steps": 8,
    "high_first_steps": 8,
    "high_steps": 8,
    "high_ppo_steps": 8,
}


def test_before_the_surrogate_has_samples_drops_come_from_logits(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in tiny.environment(tmp_path_factory).items():
        monkeypatch.setenv(name, value)
    asked: list[float] = []

    class Counted(LogitError):
        def __call__(self, policy: Policy) -> float:
            asked.append(super().__call__(policy))
            return asked[-1]

    monkeypatch.setattr(experiment, "LogitError", Counted)
    agent = {f"search.agent.{key}": value for key, value in CYCLE.items()}
    own = {"search.strategy": "hirelc", "search.episodes": 2, "finetune.reconstruction": "false"}
    settings = tiny.arguments(**own, **agent)
    done = hil_lab("search", "digits", *settings, "--json")
    assert done.status == 0, done.err
    assert len(asked) > 6, "every setting of every layer"
    assert min(asked) >= 0.0 and max(asked) > 0.0

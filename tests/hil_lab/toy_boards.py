"""Boards and an evaluator of the toy problem: programs are policies, a measurement is a formula."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from host.errors import BoardError, BoardUnreachable
from host.evaluate import Figures
from host.policy import Policy
from host.rack import Rack
from host.types import Evaluation
from tests.host.search.toy import evaluate


@dataclass
class ToyMeter:
    """A board of the toy: a program is its policy; `together` is passed when all measure."""

    name: str
    together: threading.Barrier | None = None
    fails: bool = False
    slow_s: float = 0.0
    seen: list[Policy] = field(default_factory=list)

    def artifact(self, network: Any, policy: Policy, folder: Path) -> Any:
        return policy

    def revive(self, why: BoardError) -> None:
        raise why

    def of(self, policy: Any) -> Figures:
        if self.fails:
            raise BoardUnreachable(f"{self.name}: no answer")
        if self.together:
            self.together.wait(20)
        time.sleep(random.uniform(0.0, self.slow_s))
        self.seen.append(policy)
        figure = evaluate(policy).latency_ms
        assert figure is not None
        return Figures("a", 7, figure, None, f"m-{self.name}", "trusted")


@contextmanager
def rack_of(*meters: ToyMeter) -> Iterator[Rack]:
    rack = Rack(meters)  # type: ignore[arg-type]
    try:
        yield rack
    finally:
        rack.close()


@dataclass
class ToyEvaluator:
    """Remembers as the real one does, and asks the rack for what it does not know."""

    rack: Rack
    known: dict[str, Evaluation] = field(default_factory=dict)

    def knows(self, policy: Policy) -> bool:
        return policy.digest() in self.known

    def __call__(self, policy: Policy) -> Evaluation:
        if not self.knows(policy):
            self.rack.figures(None, policy)  # type: ignore[arg-type]
            self.known[policy.digest()] = evaluate(policy)
        return self.known[policy.digest()]


def shape(policy: Policy) -> Any:
    return None

"""Rings of transitions for off-policy agents: drawn evenly, or by how much they still teach."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor


class Replay:
    """Columns of float32 vectors; the oldest rows are overwritten."""

    def __init__(self, capacity: int, widths: Mapping[str, int]) -> None:
        self.capacity = capacity
        self.size = 0
        self.next = 0
        self.columns = {name: torch.zeros(capacity, width) for name, width in widths.items()}

    def add(self, rows: Mapping[str, Tensor]) -> None:
        """Append rows: every column [n, width]."""
        count = len(next(iter(rows.values())))
        places = (self.next + torch.arange(count)) % self.capacity
        for name, values in rows.items():
            self.columns[name][places] = values.to(torch.float32).reshape(count, -1)
        self.next = int((self.next + count) % self.capacity)
        self.size = min(self.size + count, self.capacity)

    def sample(self, count: int, rng: np.random.Generator) -> dict[str, Tensor]:
        """Return `count` rows drawn with replacement."""
        return self.rows(torch.as_tensor(rng.integers(0, self.size, count)))

    def rows(self, places: Tensor) -> dict[str, Tensor]:
        """Return the rows at these places."""
        return {name: column[places] for name, column in self.columns.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return the filled rows and the write position."""
        filled = {name: column[: self.size].clone() for name, column in self.columns.items()}
        return {"size": self.size, "next": self.next, "columns": filled}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore rows and position."""
        self.size, self.next = int(state["size"]), int(state["next"])
        for name, column in self.columns.items():
            column[: self.size] = state["columns"][name]


class PrioritisedReplay(Replay):
    """Draws rows by the power `alpha` of what they last surprised by (Schaul et al. 2016).

    New rows count as the most surprising of all.
    """

    PRIORITY = "priority"

    def __init__(self, capacity: int, widths: Mapping[str, int], alpha: float) -> None:
        super().__init__(capacity, {**widths, self.PRIORITY: 1})
        self.alpha = alpha

    def add(self, rows: Mapping[str, Tensor]) -> None:
        """Append rows: every column [n, width]."""
        count = len(next(iter(rows.values())))
        known = self.columns[self.PRIORITY][: self.size]
        most = float(known.max()) if self.size else 1.0
        super().add({**rows, self.PRIORITY: torch.full((count, 1), most)})

    def draw(self, count: int, beta: float, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return places [count], and weights that undo the share `beta` of the unevenness."""
        power = self.columns[self.PRIORITY][: self.size, 0].double().numpy() ** self.alpha
        chance = power / power.sum()
        places = rng.choice(self.size, count, p=chance)
        weights = (self.size * chance[places]) ** -beta
        return torch.as_tensor(places), torch.as_tensor(weights / weights.max()).float()

    def surprise(self, places: Tensor, by: Tensor) -> None:
        """Remember how much rows surprised; `by` [n] is positive."""
        self.columns[self.PRIORITY][places, 0] = by.float()

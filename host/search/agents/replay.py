"""A ring of transitions for off-policy agents."""

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
        places = torch.as_tensor(rng.integers(0, self.size, count))
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

"""An optimizer's moments as a checkpoint can hold them: by parameter number, without settings."""

from __future__ import annotations

from typing import Any

import torch


def moments(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return copies of the moments by parameter number."""
    state = optimizer.state_dict()["state"]
    return {
        str(key): {name: value.clone() for name, value in own.items()} for key, own in state.items()
    }


def load_moments(optimizer: torch.optim.Optimizer, values: dict[str, Any]) -> None:
    """Put moments back; the optimizer keeps its own settings."""
    groups = optimizer.state_dict()["param_groups"]
    state = {int(key): value for key, value in values.items()}
    optimizer.load_state_dict({"state": state, "param_groups": groups})

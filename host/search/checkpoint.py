"""A strategy's state on disk: tensors as safetensors, all else as its JSON header; no pickles."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from host.errors import StoreError

_TENSOR = "\0tensor"


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a nested state atomically."""
    tensors: dict[str, torch.Tensor] = {}
    plain = _split(state, "", tensors)
    temporary = path.with_suffix(".part")
    try:
        save_file(tensors, temporary, metadata={"state": json.dumps(plain)})
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, SafetensorError) as e:
        raise StoreError(f"cannot write {path}: {e}; free some space and resume the run") from e


def load(path: Path) -> dict[str, Any]:
    """Read a state; raises StoreError where the file is not a checkpoint."""
    try:
        with safe_open(path, framework="pt") as file:
            plain = json.loads(file.metadata()["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, TypeError) as e:
        raise StoreError(f"{path} is not a checkpoint: {e}") from e
    state: dict[str, Any] = _join(plain, tensors)
    return state


def _split(value: Any, path: str, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        tensors[path] = value.detach().clone().contiguous()
        return {_TENSOR: path}
    if isinstance(value, dict):
        return {str(k): _split(v, f"{path}/{k}", tensors) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_split(v, f"{path}/{i}", tensors) for i, v in enumerate(value)]
    return value


def _join(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, dict):
        if _TENSOR in value:
            return tensors[value[_TENSOR]]
        return {k: _join(v, tensors) for k, v in value.items()}
    if isinstance(value, list):
        return [_join(v, tensors) for v in value]
    return value

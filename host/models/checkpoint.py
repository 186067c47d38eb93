"""Checkpoints, weights only: .pt, .pth, .th, .safetensors; never runs what a file contains."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from host.errors import CheckpointError

_WRAPPERS = ("state_dict", "model_state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.")


def load_checkpoint(module: nn.Module, path: Path | str) -> None:
    """Load the weights of a file into a network; every misfit is one CheckpointError."""
    path = Path(path)
    state = _strip_prefixes(_unwrap(read_state(path), path))
    _check_fit(module, state, path)
    module.load_state_dict(state, strict=False)


def read_state(path: Path) -> object:
    """Return what the file holds; only tensors and plain containers are accepted."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as e:
        raise CheckpointError(
            f"{path}: not a weights-only checkpoint; save it again with "
            "torch.save(model.state_dict(), path)"
        ) from e
    except (RuntimeError, EOFError, OSError, ValueError) as e:
        raise CheckpointError(f"{path}: not a torch checkpoint: {_first_line(e)}") from e


def _read_safetensors(path: Path) -> object:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as e:
        raise CheckpointError(f"{path}: not a safetensors file: {_first_line(e)}") from e


def _unwrap(found: object, path: Path) -> Mapping[str, Tensor]:
    for key in _WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping) or not found:
        raise CheckpointError(f"{path}: holds no weights; a state dict was expected")
    if bad := [key for key, value in found.items() if not isinstance(value, Tensor)]:
        raise CheckpointError(f"{path}: {bad[0]!r} is not a tensor; a state dict was expected")
    return found


def _strip_prefixes(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    for prefix in _PREFIXES:
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return dict(state)


def _check_fit(module: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    own = module.state_dict()
    missing = [k for k in own if k not in state and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in state if k not in own]
    if missing or unexpected:
        odd = f"lacks {missing[0]!r}" if missing else f"has {unexpected[0]!r} besides"
        raise CheckpointError(
            f"{path}: the checkpoint of another network: it {odd} "
            f"({len(missing)} tensors missing, {len(unexpected)} unexpected)"
        )
    misfits = [k for k in state if state[k].shape != own[k].shape]
    if misfits and _only_classes_differ(own, state, misfits):
        have, want = state[misfits[0]].shape[0], own[misfits[0]].shape[0]
        raise CheckpointError(f"{path}: has {have} classes, the network has {want}")
    if misfits:
        key = misfits[0]
        raise CheckpointError(
            f"{path}: the checkpoint of another network: {key!r} has shape "
            f"{tuple(state[key].shape)}, the network {tuple(own[key].shape)}"
        )


def _only_classes_differ(
    own: Mapping[str, Tensor], state: Mapping[str, Tensor], misfits: list[str]
) -> bool:
    last_layer = list(own)[-1].rpartition(".")[0]
    return all(
        key.rpartition(".")[0] == last_layer and state[key].shape[1:] == own[key].shape[1:]
        for key in misfits
    )


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]

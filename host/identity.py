"""Identity of what results depend on: weights, images, and how this machine computes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import torch
from torch import nn

from host.canonical import digest
from host.data import Data, Split


def network_digest(network: nn.Module) -> str:
    """Return the digest of all tensors of a network, with their names, types and shapes."""
    hasher = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        hasher.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        hasher.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return hasher.hexdigest()


def data_digest(data: Data) -> str:
    """Return the digest of the training and validation images and of what is done to them."""
    parts = [_split_digest(split) for split in (data.train, data.validation)]
    augmentation = [data.augmentation.pad_px, data.augmentation.flip]
    return digest([parts, data.classes, list(data.mean), list(data.std), augmentation])


def arithmetic() -> list[object]:
    """Return what the last bits of a float result depend on beside the weights and the images."""
    return [torch.__version__, torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()]


def _split_digest(split: Split) -> str:
    hasher = hashlib.sha256()
    for array in _arrays(split):
        hasher.update(f"{array.dtype}{array.shape}".encode())
        hasher.update(np.ascontiguousarray(array).data)
    return hasher.hexdigest()


def _arrays(split: Split) -> Iterable[np.ndarray]:
    return split.images, split.labels

"""Tensors by key within a number of bytes, the least recently used forgotten; never computes."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor

# What a key and a tensor's head take beside the elements.
_OVERHEAD_BYTES = 512


class TensorMemory:
    """Remembers tensors; one that does not fit by itself is never kept."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes, self.used_bytes = limit_bytes, 0
        self._kept: OrderedDict[str, Tensor] = OrderedDict()

    def __contains__(self, key: str) -> bool:
        return key in self._kept

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, key: str) -> Tensor:
        self._kept.move_to_end(key)
        return self._kept[key]

    def __setitem__(self, key: str, value: Tensor) -> None:
        if key in self._kept:
            self._kept.move_to_end(key)
            return
        size = size_bytes(value)
        if size > self.limit_bytes:
            return
        self._kept[key] = value
        self.used_bytes += size
        while self.used_bytes > self.limit_bytes:
            _, gone = self._kept.popitem(last=False)
            self.used_bytes -= size_bytes(gone)


class Seen:
    """Which keys came before; the oldest are forgotten beyond a number of keys."""

    def __init__(self, limit: int = 100_000) -> None:
        self._limit = limit
        self._keys: dict[str, None] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._keys

    def add(self, key: str) -> None:
        """Remember a key."""
        self._keys[key] = self._keys.pop(key, None)
        if len(self._keys) > self._limit:
            self._keys.pop(next(iter(self._keys)))


def size_bytes(value: Tensor) -> int:
    """Return the memory that a tensor holds; an expanded one holds what it was expanded from."""
    return value.untyped_storage().nbytes() + _OVERHEAD_BYTES

"""A memory of tensors keeps to its bytes and forgets what was used longest ago."""

from __future__ import annotations

import torch

from host.prefix.memory import Seen, TensorMemory, size_bytes

ONE = size_bytes(torch.zeros(1000))


def test_the_least_recently_used_is_forgotten_first() -> None:
    memory = TensorMemory(2 * ONE)
    memory["a"], memory["b"] = torch.zeros(1000), torch.zeros(1000)
    assert memory["a"].numel() == 1000
    memory["c"] = torch.zeros(1000)
    assert [key in memory for key in "abc"] == [True, False, True]
    assert memory.used_bytes == 2 * ONE


def test_what_does_not_fit_is_not_kept() -> None:
    memory = TensorMemory(ONE - 1)
    memory["a"] = torch.zeros(1000)
    assert "a" not in memory
    assert memory.used_bytes == 0


def test_the_oldest_keys_are_forgotten() -> None:
    seen = Seen(2)
    for key in ("a", "b", "a", "c"):
        seen.add(key)
    assert [key in seen for key in "abc"] == [True, False, True]


def test_the_shape_of_a_tensor_alone_takes_next_to_nothing() -> None:
    assert size_bytes(torch.zeros(()).expand(1000, 1000)) < ONE

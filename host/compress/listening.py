"""Hears what single layers of a network read and answer while it runs, or answers for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from host.compress.finetune import evaluating

# (layer by name, its module, what it reads, what it answers) -> what is answered instead, or None
Hear = Callable[[str, nn.Module, tuple[Any, ...], Tensor], Tensor | None]


@contextmanager
def listening(module: nn.Module, layers: Iterable[str], hear: Hear) -> Iterator[None]:
    """Put a network into evaluation mode and call `hear` whenever one of these layers has run."""
    with ExitStack() as hooks, evaluating(module):
        for layer in layers:
            hook = module.get_submodule(layer).register_forward_hook(partial(hear, layer))
            hooks.callback(hook.remove)
        yield

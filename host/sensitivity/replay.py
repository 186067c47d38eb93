"""Run a network again from the first changed layer on, earlier layers answering from memory.

Only leaf modules are remembered; additions, reshapes and other functions between them run again,
which costs little and needs no knowledge of the network. Never changes a weight.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from host.prefix.calls import Forward, answering


class Replay:
    """The outputs of all leaf modules of a network on one batch, and runs that reuse them."""

    def __init__(self, module: nn.Module, x: Tensor) -> None:
        """Run the network once."""
        self._module, self._x = module, x
        self._outputs: dict[str, Tensor] = {}
        leaves = {n: m for n, m in module.named_modules() if not list(m.children())}
        self.logits = self._run({n: self._recorder(n, leaf) for n, leaf in leaves.items()})
        self._places = {name: place for place, name in enumerate(self._outputs)}

    def first(self, names: Collection[str]) -> str:
        """Return which of these modules, if it is a leaf, runs first."""
        return min(names, key=lambda name: self._places.get(name, len(self._places)))

    def run(self, start: str, changed: Mapping[str, Forward] | None = None) -> Tensor:
        """Return the logits when `start` and all after it run again, some of them `changed`."""
        remembered = {
            name: _returning(self._outputs[name])
            for name, place in self._places.items()
            if place < self._places[start]
        }
        return self._run({**remembered, **(changed or {})})

    def _run(self, forwards: Mapping[str, Forward]) -> Tensor:
        with torch.no_grad(), answering(self._module, forwards):
            out: Tensor = self._module(self._x)
        return out

    def _recorder(self, name: str, leaf: nn.Module) -> Forward:
        original: Forward = leaf.forward

        def forward(*args: Any, **keywords: Any) -> Tensor:
            out = original(*args, **keywords)
            if isinstance(out, Tensor):
                self._outputs[name] = out.clone()  # what follows may work in place
            return out

        return forward


def _returning(output: Tensor) -> Forward:
    return lambda *_, **__: output.clone()

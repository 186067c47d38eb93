"""Settle and run compressed networks from the deepest layer that an earlier one shares.

A key of the first k layers is the digest of their classes, formats and weights, so what is
remembered under it is what running them again would give, to the bit: the same operations on the
same batches. One memory serves one network, its calibration images and its validation images.

Outputs are remembered when their layers come a second time: most of what a search tries has an end
of its own, which would push out what its candidates share.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from host.compress.candidate import Settling
from host.prefix.calls import Call, Cut, Forward, answering, cut_before, trace_calls
from host.prefix.choose import worth_keeping
from host.prefix.memory import Seen, TensorMemory
from host.types import Graph

DEFAULT_BYTES = 1 << 30
# The share of the memory that one policy's outputs may fill, so that the last two parents stay.
_POLICY_SHARE = 0.5
_TRACE_IMAGES = 2
WHOLE = Cut(0, (), frozenset())


@dataclass(frozen=True)
class Batch:
    """Images under a name; equal names always mean equal images."""

    name: str
    x: Tensor


@dataclass(frozen=True)
class Prefixes:
    """The key of the first k leaf calls of a network, k = 0, 1, ...; `seen` of them came before."""

    keys: tuple[str, ...]
    seen: int

    def output(self, call: Call, batch: Batch) -> str:
        """Return the key of a call's output."""
        return f"{self.keys[call.end]} {call.module} {batch.name}"


class SharedPrefix:
    """What the layers of one network's policies sent, and runs that start after it.

    `example` holds at least two images; `images` is how many of all batches a policy sees.
    """

    def __init__(
        self,
        network: nn.Module,
        graph: Graph,
        example: Tensor,
        images: int,
        limit_bytes: int = DEFAULT_BYTES,
    ) -> None:
        x = example[:_TRACE_IMAGES]
        self.memory, self._seen = TensorMemory(limit_bytes), Seen()
        self.calls = trace_calls(network, x)
        order = {leaf: place for place, leaf in enumerate(self.calls.leaves)}
        macs = {order[layer.name]: layer.macs for layer in graph.layers if layer.name in order}
        cuts = [cut_before(network, x, self.calls, place) for place in sorted(macs) if place]
        self.cuts = worth_keeping(cuts, macs, int(_POLICY_SHARE * limit_bytes / images))
        self._kept: dict[Call, bool] = {}
        for cut in self.cuts:
            for call in cut.before:
                self._kept[call] = self._kept.get(call, False) or call.module in cut.live

    def prefixes(self, network: nn.Module, way: str = "settled") -> Prefixes:
        """Return the identity of every prefix of a network; it holds until the network changes."""
        keys = tuple(f"{way} {key}" for key in self.calls.keys(network))
        seen = max((c.place for c in self.cuts if keys[c.place] in self._seen), default=0)
        for cut in self.cuts:
            self._seen.add(keys[cut.place])
        return Prefixes(keys, seen)

    def settle(self, network: nn.Module, way: Settling) -> None:
        """Set ranges, statistics and weights of a shaped network, as running all of it does."""
        prefixes = self.prefixes(network, way.name)
        batches = [Batch(f"batch {number}", x) for number, x in enumerate(way.batches)]
        cut = self._deepest(network, prefixes, batches)
        # All are taken before the first run, which may push them out of the memory.
        answers = [self._answers(cut, prefixes, batch) for batch in batches]
        states = {n: self.memory[n] for n, _ in self._states(network, prefixes, cut.place)}
        with way.watching(network, self.calls.leaves[: cut.place]), torch.no_grad():
            for name, tensor in self._states(network, prefixes, cut.place):
                tensor.copy_(states[name])
            for batch, known in zip(batches, answers, strict=True):
                self._run(network, prefixes, batch, known)
        for name, tensor in self._states(network, prefixes, prefixes.seen):
            self.memory[name] = tensor.detach().clone()

    def run(self, network: nn.Module, prefixes: Prefixes, batch: Batch) -> Tensor:
        """Return the logits of a calibrated network with these prefixes."""
        cut = next((c for c in self.cuts[::-1] if self._knows(c, prefixes, batch)), WHOLE)
        return self._run(network, prefixes, batch, self._answers(cut, prefixes, batch))

    def _deepest(self, network: nn.Module, prefixes: Prefixes, batches: Sequence[Batch]) -> Cut:
        """Return the last cut before which all is remembered, ranges and statistics too."""
        for cut in self.cuts[::-1]:
            states = self._states(network, prefixes, cut.place)
            if all(name in self.memory for name, _ in states) and all(
                self._knows(cut, prefixes, batch) for batch in batches
            ):
                return cut
        return WHOLE

    def _knows(self, cut: Cut, prefixes: Prefixes, batch: Batch) -> bool:
        return all(prefixes.output(call, batch) in self.memory for call in cut.before)

    def _answers(self, cut: Cut, prefixes: Prefixes, batch: Batch) -> dict[str, Tensor]:
        return {call.module: self.memory[prefixes.output(call, batch)] for call in cut.before}

    def _states(
        self, network: nn.Module, prefixes: Prefixes, place: int
    ) -> Iterator[tuple[str, Tensor]]:
        """Yield (key, tensor) of all that settling may set in the layers before a place."""
        for number, leaf in enumerate(self.calls.leaves[:place]):
            module, key = network.get_submodule(leaf), prefixes.keys[number + 1]
            for label, tensor in chain(
                module.named_buffers(recurse=False), module.named_parameters(recurse=False)
            ):
                yield f"{key} {label}", tensor

    def _run(
        self, network: nn.Module, prefixes: Prefixes, batch: Batch, known: Mapping[str, Tensor]
    ) -> Tensor:
        forwards: dict[str, Forward] = {name: _returning(out) for name, out in known.items()}
        for call, live in self._kept.items():
            name = prefixes.output(call, batch)
            wanted = call.end <= prefixes.seen and name not in self.memory
            if wanted and call.module not in forwards:
                original = network.get_submodule(call.module).forward
                forwards[call.module] = self._recording(original, name, live)
        with answering(network, forwards):
            logits: Tensor = network(batch.x)
        return logits

    def _recording(self, original: Forward, name: str, live: bool) -> Forward:
        def forward(*args: Any, **keywords: Any) -> Tensor:
            out: Tensor = original(*args, **keywords)
            self.memory[name] = out.clone() if live else _shape_of(out)
            return out

        return forward


def _returning(output: Tensor) -> Forward:
    return lambda *_, **__: output.clone()  # what follows may work in place


def _shape_of(output: Tensor) -> Tensor:
    """Return a tensor of this shape that takes no memory; should it be read, it reads as NaN."""
    return output.new_full((), math.nan if output.is_floating_point() else 0).expand(output.shape)

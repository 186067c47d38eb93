"""Which module calls a network makes in which order, and where it can be cut; changes nothing.

A *cut* lies before one leaf module's call. Everything that ended before it may answer from memory:
the outermost finished modules, of which only some are read again. What is read is observed on the
network itself, at every operation of torch, so that residual paths and attention need no rules.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from host.compress.quantize import QuantLayer

Forward = Callable[..., Tensor]


@dataclass(frozen=True, slots=True)
class Call:
    """A module's only call: it spans the leaf calls `start` to `end` - 1.

    `entered` and `left` count the events of a forward pass; `image_bytes` is its output's size.
    """

    module: str
    start: int
    end: int
    entered: int
    left: int
    image_bytes: int


@dataclass(frozen=True)
class Cut:
    """The place before leaf call `place`: what ended by then, and which of it is read after."""

    place: int
    before: tuple[Call, ...]
    live: frozenset[str]

    @property
    def sizes_bytes(self) -> dict[str, int]:
        """Bytes per image of the outputs that are read."""
        return {call.module: call.image_bytes for call in self.before if call.module in self.live}


@dataclass(frozen=True)
class Calls:
    """The leaf modules that are called once, in order, and all modules that span some of them."""

    leaves: tuple[str, ...]
    calls: tuple[Call, ...]

    def before(self, place: int) -> tuple[Call, ...]:
        """Return the outermost calls that ended before a leaf call."""
        found: list[Call] = []
        for call in self.calls:  # in the order in which they were entered
            if call.end <= place and (not found or call.entered > found[-1].left):
                found.append(call)
        return tuple(found)

    def keys(self, network: nn.Module) -> tuple[str, ...]:
        """Return for k = 0, 1, ... the digest of all that the first k leaf calls depend on."""
        hasher = hashlib.sha256()
        leaves = set(self.leaves)
        for name, module in network.named_modules():
            if name not in leaves:
                _feed(hasher, name, module)
        keys = [hasher.hexdigest()]
        for name in self.leaves:
            _feed(hasher, name, network.get_submodule(name))
            keys.append(hasher.hexdigest())
        return tuple(keys)


def _feed(hasher: Any, name: str, module: nn.Module) -> None:
    """Add a module's own identity: its class, mode, number format and tensors."""
    bits = (module.weight_bits, module.act_bits) if isinstance(module, QuantLayer) else ()
    hasher.update(f"{name}:{type(module).__name__}:{module.training}:{bits}".encode())
    own = (module.named_parameters(recurse=False), module.named_buffers(recurse=False))
    for part in own:
        for label, tensor in part:
            hasher.update(f"{label}:{tensor.dtype}:{tuple(tensor.shape)}".encode())
            hasher.update(tensor.detach().contiguous().numpy().tobytes())


def trace_calls(network: nn.Module, x: Tensor) -> Calls:
    """Run a network once and return its calls; none where a layer with weights runs twice."""
    events: list[tuple[str, bool, int | None]] = []
    modules = dict(network.named_modules())

    def enter(name: str) -> Callable[..., None]:
        return lambda *_: events.append((name, True, None))

    def leave(name: str) -> Callable[..., None]:
        return lambda _, __, out: events.append((name, False, _image_bytes(out)))

    with ExitStack() as stack, torch.no_grad():
        for name, module in modules.items():
            stack.callback(module.register_forward_pre_hook(enter(name)).remove)
            stack.callback(module.register_forward_hook(leave(name)).remove)
        network(x)
    return _calls(modules, events)


def _image_bytes(out: Any) -> int | None:
    """Return an output's bytes per image, or None where it is no single tensor."""
    return out.nbytes // len(out) if isinstance(out, Tensor) and out.ndim and len(out) else None


def _calls(modules: Mapping[str, nn.Module], events: list[tuple[str, bool, int | None]]) -> Calls:
    counts = Counter(name for name, entered, _ in events if entered)
    tensors = {name for name, entered, size in events if not entered and size is not None}
    leaves: list[str] = []
    calls: list[Call] = []
    opened: dict[str, tuple[int, int]] = {}
    for number, (name, entered, size) in enumerate(events):
        leaf = not list(modules[name].children())
        if counts[name] > 1 or name not in tensors:
            if leaf and next(modules[name].parameters(), None) is not None:
                return Calls((), ())
            continue
        if entered:
            opened[name] = len(leaves), number
            if leaf:
                leaves.append(name)
        elif opened[name][0] < len(leaves):
            start, begun = opened[name]
            calls.append(Call(name, start, len(leaves), begun, number, size or 0))
    return Calls(tuple(leaves), tuple(sorted(calls, key=lambda call: call.entered)))


def cut_before(network: nn.Module, x: Tensor, calls: Calls, place: int) -> Cut:
    """Return the cut before a leaf call, from one run that watches what is read after it."""
    before = calls.before(place)
    watch = _Watch()
    live: set[str] = set()
    with ExitStack() as stack, torch.no_grad():
        made = {c.module: watch.marking(network.get_submodule(c.module), c.module) for c in before}
        stack.enter_context(answering(network, made))
        for leaf in calls.leaves[place:]:
            hook = network.get_submodule(leaf).register_forward_pre_hook(
                lambda _, args: live.update(watch.marks_of(args))
            )
            stack.callback(hook.remove)
        stack.enter_context(watch)
        live |= watch.marks_of(network(x))
    return Cut(place, before, frozenset(live))


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows marks on tensors through every operation: what was made from a marked one has it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._marks: dict[int, frozenset[str]] = {}
        self._alive: list[Tensor] = []  # a freed storage's address would be used again

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and hand the marks of its inputs to all that it writes."""
        out = func(*args, **(kwargs or {}))
        given = _tensors((args, kwargs))
        written = [*_tensors(out), *(given if func._schema.is_mutable else ())]
        marks = self.marks_of(given)
        for tensor in written:
            self.mark(tensor, marks | self.marks_of(tensor))
        return out

    def mark(self, tensor: Tensor, marks: frozenset[str]) -> None:
        """Set the marks of a tensor and of all that shares its memory."""
        self._alive.append(tensor)
        self._marks[tensor.untyped_storage().data_ptr()] = marks

    def marks_of(self, values: Any) -> frozenset[str]:
        """Return the marks of all tensors in a value."""
        found = (self._marks.get(t.untyped_storage().data_ptr()) for t in _tensors(values))
        return frozenset().union(*(marks for marks in found if marks))

    def marking(self, module: nn.Module, name: str) -> Forward:
        """Return a module's forward with an output that bears its name alone."""
        original = module.forward

        def forward(*args: Any, **keywords: Any) -> Tensor:
            out: Tensor = original(*args, **keywords).clone()
            self.mark(out, frozenset((name,)))
            return out

        return forward


def _tensors(values: Any) -> list[Tensor]:
    return [v for v in tree_leaves(values) if isinstance(v, Tensor)]


@contextmanager
def answering(network: nn.Module, forwards: Mapping[str, Forward]) -> Iterator[None]:
    """Let modules answer by other functions for a while."""
    modules = {network.get_submodule(name): forward for name, forward in forwards.items()}
    for module, forward in modules.items():
        module.forward = forward
    try:
        yield
    finally:
        for module in modules:
            del module.forward

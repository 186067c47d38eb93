"""Layers and whole policies of a network as programs, at any legal width and number format."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from host.artifact import Artifact
from host.canonical import canonical_json
from host.compress.candidate import shaped
from host.compress.plan import PruningPlan
from host.dataset.kernels import KernelSpec, LayerPrograms
from host.dataset.spaces import Program, Row, Spec
from host.encoding import Encoding
from host.errors import RecipeError
from host.lower.build import Builder
from host.lower.objects import ObjectCache
from host.lower.targets import Target, refusal
from host.policy import INT8_BITS, MAX_MIX_BITS, Choice, Mode, Policy, Space, program_digest
from host.types import Graph, Layer

# Shares of the channels that a grid keeps.
GRID_SHARES = (1.0, 0.25, 0.5, 0.75, 0.125)


@dataclass(frozen=True, eq=False)
class Traced:
    """A network with its layers and channel groups."""

    network: nn.Module
    graph: Graph
    plan: PruningPlan

    @cached_property
    def encoding(self) -> Encoding:
        """The legal policies."""
        return Encoding(Space(self.graph, refusal))

    def drawn(self, rng: np.random.Generator) -> Policy:
        """Return a policy at random, every choice by itself."""
        return self.encoding.policy(self.encoding.random(1, rng))

    def uniform(self) -> Iterator[Policy]:
        """Yield policies that treat all layers alike: every share of channels in every format."""
        space = self.encoding.space
        bits = [("fp32", 32), ("int8", INT8_BITS), *(("mix", b) for b in range(1, MAX_MIX_BITS))]
        for share in GRID_SHARES:
            for mode, width in bits:
                yield space.policy(
                    {x.name: _choice(space, x, share, mode, width) for x in self.graph.layers}
                )


def _choice(space: Space, layer: Layer, share: float, mode: str, bits: int) -> Choice:
    keep = space.keep_for(layer, 1 - share) if share < 1 else None
    names: dict[str, Mode] = {"fp32": "fp32", "int8": "int8", "mix": "mix"}
    return Choice(keep, names[mode], bits, bits)


@dataclass
class LayerSpace(LayerPrograms):
    """The layers of a network, each alone."""

    traced: Traced | None = None

    def draw(self, rng: np.random.Generator) -> Spec:
        """Return one layer of a random policy."""
        assert self.traced is not None
        names = self._taken
        policy = self.traced.drawn(rng)
        return asdict(self._spec(policy, names[rng.integers(len(names))]))

    def grid(self) -> Iterator[Spec]:
        """Yield every layer of every uniform policy."""
        assert self.traced is not None
        for policy in self.traced.uniform():
            for name in self._taken:
                yield asdict(self._spec(policy, name))

    @cached_property
    def _taken(self) -> list[str]:
        assert self.traced is not None
        names = [layer.name for layer in self.traced.graph.layers if _square(layer)]
        if not names:
            raise RecipeError(f"model: {self.traced.graph.name} has no layer with a square kernel")
        return names

    def _spec(self, policy: Policy, name: str) -> KernelSpec:
        assert self.traced is not None
        graph, layer, form = self.traced.graph, self.traced.graph[name], policy[name]
        inputs = graph.in_channels(layer, policy.keeps(graph))
        depthwise = layer.depthwise
        kind = "dense" if layer.kind == "linear" else "depthwise" if depthwise else "conv"
        padding, stride, kernel = layer.padding[0], layer.stride[0], layer.kernel[0]
        size = (layer.out_size[1] - 1) * stride + kernel - 2 * padding
        if kind == "dense":
            size, kernel, stride, padding = layer.positions, 1, 1, 0
        inputs = form.keep if depthwise else inputs
        one = KernelSpec(kind, inputs, form.keep, size, kernel, stride, padding)
        return replace(one, mode=form.mode, weight_bits=form.weight_bits, act_bits=form.act_bits)


def _square(layer: Layer) -> bool:
    alike = all(len(set(x)) == 1 for x in (layer.kernel, layer.stride, layer.padding))
    return alike and (layer.groups == 1 or layer.depthwise)


@dataclass
class PolicySpace:
    """Whole compressed networks."""

    traced: Traced
    target: Target
    threads: int = 1
    cache: ObjectCache = field(default_factory=ObjectCache)

    @cached_property
    def _builder(self) -> Builder:
        traced = self.traced
        source = traced.network
        return Builder(traced.graph, self.target, self.threads, self.cache, source=source)

    def draw(self, rng: np.random.Generator) -> Spec:
        """Return a policy at random."""
        return self.traced.drawn(rng).to_dict()

    def grid(self) -> Iterator[Spec]:
        """Yield the uniform policies."""
        return (policy.to_dict() for policy in self.traced.uniform())

    def columns(self, spec: Spec) -> dict[str, Any]:
        """Return the network's name, and the policy as JSON."""
        return {"model": self.traced.graph.name, "policy": canonical_json(dict(spec))}

    def plan(self, spec: Spec) -> Program:
        """Return the program of a policy."""
        policy = Policy.from_dict(spec)
        plan = self._builder.plan_traced(policy, lambda: self._shaped(policy))
        rows = tuple(map(Row.of, self._builder.rows(plan, policy)))
        graph = self.traced.graph
        structure = program_digest(graph, policy, self.target.name, self.threads)
        return Program(structure, rows)

    def build(self, spec: Spec, folder: Path) -> Artifact:
        """Write the artifact of a policy."""
        policy = Policy.from_dict(spec)
        plan = self._builder.plan_traced(policy, lambda: self._shaped(policy))
        return self._builder.write(plan, policy, folder)

    def _shaped(self, policy: Policy) -> nn.Module:
        return shaped(self.traced.network, policy, self.traced.plan)


def policy_of(cell: str) -> Policy:
    """Read the cell `policy` of a table."""
    return Policy.from_dict(json.loads(cell))

"""A compression problem without a network: six layers, a smooth accuracy, additive costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from host.cost import ENERGY, SIZE, Cost
from host.energy import AcceleratorEnergy, eyeriss
from host.lower.targets import refusal
from host.policy import Policy, Space, policy_macs, uncompressed
from host.search.reward import absolute
from host.search.strategy import Problem
from host.types import Evaluation, Figure, Graph, Layer, Source

# How much accuracy a layer's compression costs: the middle ones can take the most.
FRAGILITY = (0.30, 0.12, 0.04, 0.03, 0.10, 0.25)
TARGET_MS = 3.0


def toy_graph() -> Graph:
    """A chain of six 3x3 convolutions of 32 channels at 8 x 8."""
    layers = []
    previous = Source("", 16)
    for i in range(6):
        name = f"conv{i}"
        layers.append(
            Layer(
                name=name,
                kind="conv",
                in_channels=previous.channels,
                out_channels=32,
                kernel=(3, 3),
                stride=(1, 1),
                padding=(1, 1),
                groups=1,
                out_size=(8, 8),
                params=previous.channels * 32 * 9,
                group=name if i < 5 else "",
                sources=(previous,),
            )
        )
        previous = Source(name, 32)
    return Graph("toy", (16, 8, 8), 10, tuple(layers))


GRAPH = toy_graph()
SPACE = Space(GRAPH, refusal)


def layer_cost(policy: Policy) -> Mapping[str, float]:
    """Milliseconds per layer: MACs by a rate that grows with fewer bits."""
    macs = policy_macs(GRAPH, policy)
    times = {}
    for p in policy.layers:
        rate = {"fp32": 1.0, "int8": 2.0, "mix": 32.0 / (p.weight_bits * p.act_bits)}[p.mode]
        times[p.layer] = 10.0 * macs[p.layer] / GRAPH.macs / rate
    return times


def layer_bytes(policy: Policy) -> Mapping[str, float]:
    """Bytes per layer: weights by their bits and by the channels that are left."""
    macs = policy_macs(GRAPH, policy)
    full = {layer.name: layer for layer in GRAPH.layers}
    return {
        p.layer: full[p.layer].params * macs[p.layer] / full[p.layer].macs * p.weight_bits / 8
        for p in policy.layers
    }


def energy_mj(policy: Policy) -> float:
    """Millijoules: integer kernels draw a tenth more power than others, which no one predicts."""
    watts = {p.layer: 5.0 if p.mode == "fp32" else 5.5 for p in policy.layers}
    return sum(watts[layer] * ms for layer, ms in layer_cost(policy).items())


def evaluate(policy: Policy) -> Evaluation:
    """Score a policy exactly, without noise."""
    accuracy = 0.95
    for p, layer, fragility in zip(policy.layers, GRAPH.layers, FRAGILITY, strict=True):
        pruned = 1 - p.keep / layer.out_channels
        coarse = {"fp32": 0.0, "int8": 0.02, "mix": 1.5 / (p.weight_bits + p.act_bits)}[p.mode]
        accuracy -= fragility * (pruned**2 + coarse**1.5)
    return Evaluation(
        accuracy=max(accuracy, 0.1),
        samples=1000,
        split="validation",
        macs=sum(policy_macs(GRAPH, policy).values()),
        bops=0,
        size_bytes=round(sum(layer_bytes(policy).values())),
        latency_ms=Figure(sum(layer_cost(policy).values()), "measured"),
        energy_mj=Figure(energy_mj(policy), "measured"),
    )


def problem(seed: int = 0, episodes: int = 40, **settings: Any) -> Problem:
    """The toy problem for a strategy."""
    sensitivity = {
        layer.name: {
            "prune": tuple(f * i / 10 for i in range(10)),
            "act": tuple(f / (bits + 1) for bits in range(1, 7)),
            "weight": tuple(f / (bits + 1) for bits in range(1, 7)),
            "int8": (f * 0.01,),
        }
        for layer, f in zip(GRAPH.layers, FRAGILITY, strict=True)
    }
    return Problem(
        space=SPACE,
        reward=absolute(),
        target=TARGET_MS,
        reference=10.0,
        episodes=episodes,
        seed=seed,
        sensitivity=sensitivity,  # type: ignore[arg-type]
        layer_cost=layer_cost,
        settings=settings,
        energy=AcceleratorEnergy(GRAPH, eyeriss()),
    )


def problem_in(
    cost: Cost, share: float, seed: int = 0, episodes: int = 40, **settings: Any
) -> Problem:
    """The toy problem with a target of another cost: a share of the uncompressed network's."""
    reference = cost.of(evaluate(uncompressed(GRAPH)))
    watts = 5.0 if cost is ENERGY else 1.0

    def predict(policy: Policy) -> Mapping[str, float]:
        if cost is SIZE:
            return layer_bytes(policy)
        return {layer: ms * watts for layer, ms in layer_cost(policy).items()}

    return replace(
        problem(seed, episodes, **settings),
        cost=cost,
        reward=absolute(cost=cost),
        target=share * reference,
        reference=reference,
        layer_cost=predict,
    )

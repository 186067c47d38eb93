"""Predicted time of every layer under a policy, from profiles of a few uniform programs.

A layer's time is that of its kernels in the profile of its number format, scaled by its remaining
MACs; bit-serial times are interpolated over weight bits x activation bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from host.policy import Choice, LayerPolicy, Policy, Space, policy_macs, uncompressed, uniform_int8

# layer -> milliseconds; "" holds the kernels that belong to no layer
Times = Mapping[str, float]
FP32, INT8 = "fp32", "int8"


@dataclass(frozen=True)
class LayerTimes:
    """Profiles by format: fp32, int8, and the product of bits for bit-serial."""

    space: Space
    profiles: Mapping[str, Times]

    def __call__(self, policy: Policy) -> dict[str, float]:
        """Return milliseconds per layer and, under "", of everything else."""
        macs = policy_macs(self.space.graph, policy)
        times = {"": self.profiles[FP32].get("", 0.0)}
        for layer, form in zip(self.space.graph.layers, policy.layers, strict=True):
            times[layer.name] = self._full(form) * macs[layer.name] / layer.macs
        return times

    def _full(self, form: LayerPolicy) -> float:
        if form.mode != "mix":
            return self.profiles[form.mode].get(form.layer, 0.0)
        products = sorted(int(name) for name in self.profiles if name.isdigit())
        known = [self.profiles[str(p)].get(form.layer, 0.0) for p in products]
        return float(np.interp(form.weight_bits * form.act_bits, products, known))

    def to_dict(self) -> dict[str, Any]:
        """Return the profiles as JSON."""
        return {name: dict(times) for name, times in self.profiles.items()}


def uniform_programs(space: Space) -> dict[str, Policy]:
    """Return the policies whose profiles are needed, by format."""
    programs = {FP32: uncompressed(space.graph), INT8: uniform_int8(space)}
    for bits in range(1, space.max_mix_bits + 1):
        form = Choice(None, "mix", bits, bits)
        policy = space.policy({layer.name: form for layer in space.graph.layers})
        if any(p.mode == "mix" for p in policy.layers):
            programs[str(bits * bits)] = policy
    return programs


def profile_layers(
    space: Space, profile: Callable[[Policy], Iterable[tuple[str, float]]]
) -> LayerTimes:
    """Profile every uniform program; `profile` yields (layer, milliseconds) per kernel call."""
    profiles: dict[str, dict[str, float]] = {}
    for name, policy in uniform_programs(space).items():
        times: dict[str, float] = {}
        for layer, ms in profile(policy):
            times[layer] = times.get(layer, 0.0) + ms
        profiles[name] = times
    return LayerTimes(space, profiles)

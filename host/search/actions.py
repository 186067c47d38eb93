"""Galen's actions: from ratios in [0, 1] to a layer's wish, and back; pure arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from host.policy import Choice, LayerPolicy, Policy, Space, discretise
from host.types import Layer

Agent = Literal["prune", "quantize", "joint"]
# Which actions each agent sets, in order (paper, section 4).
ACTIONS: dict[Agent, tuple[str, ...]] = {
    "prune": ("sparsity",),
    "quantize": ("act", "weight"),
    "joint": ("sparsity", "act", "weight"),
}
# Actions in the middle of what maps to FP32 and to INT8.
FP32_ACTION, INT8_ACTION = 0.1, 0.35
MIX_THRESHOLD = 0.5
INT8_THRESHOLD = 0.2


def quantization(act: float, weight: float, layer: Layer, space: Space) -> Choice:
    """Map two actions to a number format (paper, section 4.3 and eq. 8).

    The larger one chooses MIX above 0.5, INT8 above 0.2, else FP32; MIX rescales both to bits.
    """
    strongest = max(act, weight)
    if strongest > MIX_THRESHOLD and "mix" in space.modes(layer):
        weight_bits, act_bits = (
            discretise(np.clip((a - MIX_THRESHOLD) / (1 - MIX_THRESHOLD), 0, 1), space.max_mix_bits)
            for a in (weight, act)
        )
        return Choice(None, "mix", weight_bits, act_bits)
    if strongest > INT8_THRESHOLD:
        return Choice(None, "int8", 8, 8)
    return Choice()


def choice(kind: Agent, actions: np.ndarray, layer: Layer, space: Space) -> Choice:
    """Map one step's actions in [0, 1] to a wish for its layer."""
    values = dict(zip(ACTIONS[kind], (float(a) for a in actions), strict=True))
    form = Choice()
    if "act" in values:
        form = quantization(values["act"], values["weight"], layer, space)
    keep = space.keep_for(layer, values["sparsity"]) if "sparsity" in values else None
    return Choice(keep, form.mode, form.weight_bits, form.act_bits)


def policy_of(kind: Agent, layers: Sequence[Layer], actions: np.ndarray, space: Space) -> Policy:
    """Map rows of actions [layers, actions], one per layer, to a policy; the others stay as is."""
    pairs = zip(layers, actions, strict=True)
    return space.policy({layer.name: choice(kind, row, layer, space) for layer, row in pairs})


def joint_actions(form: LayerPolicy, layer: Layer, space: Space) -> np.ndarray:
    """Return the (sparsity, activation, weight) actions that map to a layer's policy."""
    sparsity = 0.0
    if space.prunable(layer):
        levels = layer.out_channels / space.step(layer)
        sparsity = 1.0 - (form.keep / space.step(layer) - 0.5) / levels
    if form.mode != "mix":
        action = INT8_ACTION if form.mode == "int8" else FP32_ACTION
        return np.clip([sparsity, action, action], 0.0, 1.0)
    act, weight = (_mix_action(bits, space) for bits in (form.act_bits, form.weight_bits))
    return np.clip([sparsity, act, weight], 0.0, 1.0)


def _mix_action(bits: int, space: Space) -> float:
    ratio = 1.0 - (bits - 0.5) / space.max_mix_bits
    return 0.5 + 0.5 * ratio

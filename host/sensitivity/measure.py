"""Measure the table: one layer changed at a time, everything before it remembered; never trains.

The figure is the mean Kullback-Leibler divergence KL(M_P || M) between the class probabilities of
the network with one layer changed and of the network itself: the direction of Galen's paper
(eq. 5), not of its public code.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from host.canonical import digest
from host.compress.channels import zero_channels
from host.compress.finetune import evaluating
from host.compress.plan import PruningPlan
from host.compress.prune import strongest
from host.compress.quantize import QuantLayer, quantized
from host.compress.ranges import best_clip_ratio, thinned
from host.data import Data
from host.errors import UnsupportedLayer
from host.identity import network_digest
from host.policy import INT8_BITS, MAX_MIX_BITS
from host.prefix.calls import Forward
from host.sensitivity.replay import Replay
from host.sensitivity.table import SENSITIVITY_FORMAT, SETTINGS, Entry, SensitivityTable, Setting
from host.types import Graph

IMAGES = 256
_CHUNK_IMAGES = 64  # bounds the memory that the remembered outputs take
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Subject:
    """The network to examine: what it is, what can be pruned, and images that it was trained on."""

    module: nn.Module
    graph: Graph
    plan: PruningPlan
    images: Tensor


def measure(
    module: nn.Module,
    graph: Graph,
    plan: PruningPlan,
    data: Data,
    *,
    images: int = IMAGES,
    cache_dir: Path | None = None,
    on_progress: OnProgress | None = None,
) -> SensitivityTable:
    """Return the table over un-augmented training images, from `cache_dir` where it is there.

    `on_progress(done, total)` counts layer settings.
    """
    subject = Subject(module, graph, plan, data.calibration(images))
    path = cache_dir / f"sensitivity-{_identity(subject, data)}.json" if cache_dir else None
    if path and path.is_file():
        return SensitivityTable.from_json(path.read_text())
    with evaluating(module):
        table = _measure(subject, on_progress or (lambda done, total: None))
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(table.to_json())
        partial.replace(path)
    return table


def _measure(subject: Subject, on_progress: OnProgress) -> SensitivityTable:
    inputs = _input_samples(subject)
    sums: dict[tuple[str, Setting], float] = {}
    chunks = torch.split(subject.images, _CHUNK_IMAGES)
    replays = (Replay(subject.module, chunk) for chunk in chunks)
    total = len(chunks) * len(subject.graph.layers)
    for number, replay in enumerate(replays):
        for place, layer in enumerate(subject.graph.layers):
            for setting in SETTINGS:
                kl = _divergence(subject, replay, layer.name, setting, inputs[layer.name])
                if kl is not None:
                    key = layer.name, setting
                    sums[key] = sums.get(key, 0.0) + kl
            done = number * len(subject.graph.layers) + place + 1
            on_progress(done * len(SETTINGS), total * len(SETTINGS))
    count = len(subject.images)
    entries = (
        Entry(layer.name, s, sums.get((layer.name, s), 0.0) / count, (layer.name, s) in sums)
        for layer in subject.graph.layers
        for s in SETTINGS
    )
    return SensitivityTable(tuple(entries), count)


def _input_samples(subject: Subject) -> dict[str, Tensor]:
    """Return a sample of every layer's input values over all images."""
    seen: dict[str, list[Tensor]] = {layer.name: [] for layer in subject.graph.layers}

    def keep(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _, args: seen[name].append(thinned(args[0]))

    handles = [
        subject.module.get_submodule(name).register_forward_pre_hook(keep(name)) for name in seen
    ]
    try:
        with torch.no_grad():
            for chunk in torch.split(subject.images, _CHUNK_IMAGES):
                subject.module(chunk)
    finally:
        for handle in handles:
            handle.remove()
    return {name: torch.cat(parts) for name, parts in seen.items()}


def _divergence(
    subject: Subject, replay: Replay, layer: str, setting: Setting, samples: Tensor
) -> float | None:
    """Return the summed divergence of one changed layer over a chunk; None if it cannot change."""
    if setting.kind == "prune":
        changed = _without_channels(subject, layer, setting.value)
    else:
        changed = _with_fewer_bits(subject.module, layer, setting, samples)
    if changed is None:
        return None
    if not changed:
        return 0.0
    logits = replay.run(replay.first(changed), changed)
    before, after = F.log_softmax(replay.logits.double(), 1), F.log_softmax(logits.double(), 1)
    return float(F.kl_div(before, after, reduction="sum", log_target=True).clamp_min(0.0))


def _without_channels(subject: Subject, layer: str, ratio: float) -> dict[str, Forward] | None:
    """Return the layers of a group with their weakest channels zeroed: exact, as removing them."""
    if layer not in {group.driver for group in subject.plan.groups}:
        return None
    group = subject.plan[layer]
    keep = max(round((1.0 - ratio) * group.width), 1)
    removed = subject.plan.removed({layer: strongest(subject.module, group, keep)})
    copies: dict[str, nn.Module] = {}
    for (name, side), channels in removed.items():
        if len(channels):
            zeroed = copies.setdefault(name, copy.deepcopy(subject.module.get_submodule(name)))
            zero_channels(zeroed, side, channels)
    return {name: module.forward for name, module in copies.items()}


def _with_fewer_bits(
    module: nn.Module, layer: str, setting: Setting, samples: Tensor
) -> dict[str, Forward] | None:
    weight_bits, act_bits = {
        "act": (MAX_MIX_BITS, int(setting.value)),
        "weight": (int(setting.value), MAX_MIX_BITS),
        "int8": (INT8_BITS, INT8_BITS),
    }[setting.kind]
    try:
        changed: QuantLayer = quantized(module.get_submodule(layer), weight_bits, act_bits)
    except UnsupportedLayer:
        return None
    changed.clip_ratio.copy_(best_clip_ratio(changed.weight, weight_bits))
    changed.fit_range(samples)
    return {layer: changed.forward}


def _identity(subject: Subject, data: Data) -> str:
    """Return the digest of all that the table depends on."""
    images = hashlib.sha256(subject.images.numpy().tobytes()).hexdigest()
    settings = [[s.kind, s.value] for s in SETTINGS]
    parts = [SENSITIVITY_FORMAT, network_digest(subject.module), data.name, images, settings]
    return digest(parts)[:32]

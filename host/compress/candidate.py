"""One policy, one module: prune, quantize, calibrate; deterministic, never touches the original."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import nn

from host.compress.finetune import batch_statistics
from host.compress.plan import PruningPlan
from host.compress.prune import prune
from host.compress.quantize import calibrate, quantize
from host.compress.reconstruct import Teacher, reconstruct
from host.data import Data
from host.policy import INT8_BITS, Policy

CALIBRATION_IMAGES = 256
_BATCH = 128


def compress(
    module: nn.Module,
    policy: Policy,
    plan: PruningPlan,
    data: Data,
    *,
    images: int = CALIBRATION_IMAGES,
    known: Teacher | None = None,
) -> nn.Module:
    """Return the compressed network of a policy, calibrated on training images, not yet trained.

    With a teacher its weights are solved to answer as the uncompressed network's do.
    """
    compressed = quantize(prune(module, policy, plan).eval(), policy)
    if known is not None:
        reconstruct(compressed, module, policy, plan, known)
        return compressed
    batches = torch.split(data.calibration(images), _BATCH)
    # What changes the statistics of activations makes the old batch norms wrong; int8 does not.
    stale = disturbs(policy, plan)
    with batch_statistics(compressed) if stale else nullcontext():
        calibrate(compressed, batches)
    return compressed


def disturbs(policy: Policy, plan: PruningPlan) -> bool:
    """Whether a policy removes channels or goes below 8 bits anywhere."""
    pruned = any(policy[group.driver].keep < group.width for group in plan.groups)
    return pruned or any(p.weight_bits < INT8_BITS for p in policy.layers)

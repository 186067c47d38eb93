"""One policy, one module: prune, quantize, calibrate; deterministic, never touches the original."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from host.compress.finetune import batch_statistics
from host.compress.plan import PruningPlan
from host.compress.prune import prune
from host.compress.quantize import calibrate, quantize
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
) -> nn.Module:
    """Return the compressed network of a policy, calibrated on training images, not yet trained."""
    compressed = shaped(module, policy, plan)
    with statistics_of(compressed, policy, plan):
        calibrate(compressed, calibration_batches(data, images))
    return compressed


def shaped(module: nn.Module, policy: Policy, plan: PruningPlan) -> nn.Module:
    """Return the pruned and quantized network before calibration: all that its program needs."""
    return quantize(prune(module, policy, plan).eval(), policy)


def calibration_batches(data: Data, images: int = CALIBRATION_IMAGES) -> tuple[Tensor, ...]:
    """Return the images that every policy is calibrated on, in batches."""
    return torch.split(data.calibration(images), _BATCH)


def statistics_of(
    compressed: nn.Module, policy: Policy, plan: PruningPlan
) -> AbstractContextManager[None]:
    """Let batch norms take new statistics where a policy made the old ones wrong; int8 does not."""
    return batch_statistics(compressed) if disturbs(policy, plan) else nullcontext()


def disturbs(policy: Policy, plan: PruningPlan) -> bool:
    """Whether a policy removes channels or goes below 8 bits anywhere."""
    pruned = any(policy[group.driver].keep < group.width for group in plan.groups)
    return pruned or any(p.weight_bits < INT8_BITS for p in policy.layers)

"""One policy, one module: prune, quantize, calibrate; deterministic, never touches the original."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from host.compress.finetune import batch_statistics
from host.compress.patterns import thin
from host.compress.plan import PruningPlan
from host.compress.prune import prune
from host.compress.quantize import observing, quantize
from host.compress.reconstruct import Teacher, solving
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
    compressed = shaped(module, policy, plan)
    settling(module, policy, plan, data, images=images, known=known).settle(compressed)
    return compressed


@dataclass(frozen=True, eq=False)
class Settling:
    """How a shaped network gets its ranges, statistics and weights: these batches run through it.

    Meanwhile `watching(network, done)` sets every layer, on its input, but those that are `done`.
    `name` tells apart ways that give other results on equal layers.
    """

    name: str
    batches: tuple[Tensor, ...]
    watching: Callable[[nn.Module, Collection[str]], AbstractContextManager[None]]

    def settle(self, network: nn.Module) -> None:
        """Set all layers of a shaped network."""
        with self.watching(network, ()):
            for batch in self.batches:
                network(batch)


def settling(
    module: nn.Module,
    policy: Policy,
    plan: PruningPlan,
    data: Data,
    *,
    images: int = CALIBRATION_IMAGES,
    known: Teacher | None = None,
) -> Settling:
    """Return how a policy's network is settled: with a teacher solved, else calibrated."""
    if known is not None:
        teacher = known
        return Settling(
            "solved",
            (teacher.images,),
            lambda network, done: solving(network, module, policy, plan, teacher, done),
        )
    # What changes the statistics of activations makes the old batch norms wrong; int8 does not.
    stale = disturbs(policy, plan)
    batches = torch.split(data.calibration(images), _BATCH)
    name = "calibrated anew" if stale else "calibrated"
    return Settling(name, batches, lambda network, done: _calibrating(network, stale))


@contextmanager
def _calibrating(network: nn.Module, stale: bool) -> Iterator[None]:
    with batch_statistics(network) if stale else nullcontext(), observing(network):
        yield


def shaped(module: nn.Module, policy: Policy, plan: PruningPlan) -> nn.Module:
    """Return the pruned and quantized network before calibration: all that its program needs."""
    return quantize(thin(prune(module, policy, plan).eval(), policy), policy)


def disturbs(policy: Policy, plan: PruningPlan) -> bool:
    """Whether a policy removes channels or weights, or goes below 8 bits, anywhere."""
    pruned = any(policy[group.driver].keep < group.width for group in plan.groups)
    return pruned or any(p.weight_bits < INT8_BITS or p.zeros for p in policy.layers)

"""Training of what was compressed, with progress; the same seed for the same policy."""

from __future__ import annotations

import torch
from torch import nn

from hil_lab.workbench import Workbench
from host.compress.finetune import Training, finetune
from host.compress.quantize import quant_layers
from host.evaluate import seed_of
from host.policy import Policy


def tune(
    bench: Workbench,
    network: nn.Module,
    policy: Policy,
    epochs: int,
    lr: float,
    what: str,
    *,
    warmup: float = 0.0,
) -> None:
    """Train a policy's network in place; its best epoch on validation images stays.

    The rate rises over the share `warmup` of all steps.
    """
    tuning, seed = bench.recipe.finetune, bench.recipe.search.seed
    training = Training(
        epochs=epochs,
        batch_size=tuning.batch_size,
        lr=lr,
        warmup=warmup,
        cutout_px=tuning.cutout_px,
        distillation=tuning.distillation,
        half=tuning.half and not quant_layers(network),
        keep_best=True,
    )
    generator = torch.Generator().manual_seed(seed_of(policy, seed))
    per_epoch = len(bench.data.train) // min(training.batch_size, len(bench.data.train))
    with bench.reporter.progress("finetune", what, epochs) as advance:
        best_so_far = finetune(
            network,
            bench.data,
            training,
            generator=generator,
            teacher=bench.subject.network,
            on_progress=lambda p: advance(p.step // per_epoch, ""),
        )
        advance(epochs, f"{best_so_far:.1%} validation")

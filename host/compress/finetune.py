"""Train a network, quantized layers through their integers; never looks at test images."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from host.compress.patterns import kept_weights
from host.data import Data, Split, SplitName
from host.errors import CallerError

# Images -> the logits that are wanted of them, or None.
Ask = Callable[[Tensor], Tensor | None]


@dataclass(frozen=True, slots=True)
class Training:
    """How to train; the defaults are Galen's final fine-tuning.

    `steps` overrides `epochs`; `warmup` is the share of steps over which the rate rises linearly;
    `cutout_px` blackens a square of that side in every image (DeVries and Taylor 2017). `half`
    multiplies in bfloat16, which quantized layers, whose sums are exact, must not; None: on a GPU.
    `distillation` is the share of the loss that asks for a teacher's answers instead of the labels,
    both softened by `temperature` (Hinton et al. 2015, arXiv 1503.02531).
    """

    epochs: int = 30
    steps: int | None = None
    batch_size: int = 256
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.02
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 5e-4
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: float = 0.0
    augment: bool = True
    cutout_px: int = 0
    label_smoothing: float = 0.0
    distillation: float = 0.0
    temperature: float = 4.0
    keep_best: bool = False
    half: bool | None = False
    device: Literal["auto", "cpu", "cuda"] = "auto"

    def __post_init__(self) -> None:
        if self.batch_size < 2:
            raise CallerError(f"batch_size must be at least 2, got {self.batch_size}")
        if not 0 <= self.distillation <= 1:
            raise CallerError(f"distillation must lie in [0, 1], got {self.distillation}")

    def rate(self, step: int, steps: int) -> float:
        """Return the learning rate of a step."""
        rising = self.warmup * steps
        if step < rising:
            return self.lr * (step + 1) / (rising + 1)
        if self.schedule == "constant":
            return self.lr
        share = (step - rising) / max(steps - rising, 1)
        return self.lr * 0.5 * (1.0 + math.cos(math.pi * share))

    def arithmetic(self) -> torch.autocast:
        """Return what multiplies as this training does, while it is entered."""
        place = self.place().type
        half = place == "cuda" if self.half is None else self.half
        return torch.autocast(place, torch.bfloat16, enabled=half)

    def place(self) -> torch.device:
        """Return where to train: on a GPU where there is one, unless told otherwise."""
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise CallerError('training on "cuda", but torch sees no GPU here; leave device "auto"')
        return torch.device(self.device)


@dataclass(frozen=True, slots=True)
class Progress:
    """Where training is; `validation` is an epoch's accuracy, where it is measured."""

    step: int
    steps: int
    validation: float | None = None


def finetune(
    module: nn.Module,
    data: Data,
    training: Training,
    *,
    generator: torch.Generator,
    teacher: nn.Module | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> float | None:
    """Train in place; with `keep_best` end at the best epoch and return its validation accuracy.

    Where no epoch is better than the network was, it is left so. The `teacher` is asked where the
    training distils, and stays as it is.
    """
    if teacher is None and training.distillation:
        raise CallerError("distillation needs a teacher")
    per_epoch = len(data.train) // min(training.batch_size, len(data.train))
    steps = training.epochs * per_epoch if training.steps is None else training.steps
    best: tuple[float, dict[str, Tensor]] | None = None
    with _training(module, generator, training.place()), _asking(teacher, training) as ask:
        if training.keep_best:
            best = _validation(module, data), copy.deepcopy(module.state_dict())
        optimizer = _optimizer(module, training)
        batches = _endless(data, training, generator)
        for step in range(steps):
            x, y = next(batches)
            _step(module, optimizer, training, training.rate(step, steps), x, y, ask(x))
            validation = None
            if best and ((step + 1) % per_epoch == 0 or step + 1 == steps):
                validation = _validation(module, data)
                if validation >= best[0]:
                    best = validation, copy.deepcopy(module.state_dict())
            if on_progress:
                on_progress(Progress(step + 1, steps, validation))
    if best is None:
        return None
    module.load_state_dict(best[1])
    return best[0]


def _validation(module: nn.Module, data: Data) -> float:
    return ratio(accuracy(module, "validation", data))


def accuracy(
    module: nn.Module,
    split: SplitName | Split,
    data: Data,
    *,
    limit: int | None = None,
    batch_size: int = 256,
) -> tuple[int, int]:
    """Return how many images of a split are classified correctly, and how many there are."""
    chosen = data.split(split) if isinstance(split, str) else split
    chosen = chosen.take(slice(limit))
    correct = 0
    with evaluating(module), torch.inference_mode():
        for x, labels in data.batches(chosen, batch_size, device=place_of(module)):
            correct += int((module(x).argmax(1) == labels).sum())
    return correct, len(chosen)


def place_of(module: nn.Module) -> torch.device:
    """Return where a network's parameters are."""
    return next((p.device for p in module.parameters()), torch.device("cpu"))


def ratio(counts: tuple[float, int]) -> float:
    """Return (correct, total) as a fraction."""
    return counts[0] / counts[1]


def reestimate_batch_norm(module: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace the running statistics of all batch norms by those of these batches."""
    with batch_statistics(module), torch.no_grad():
        for batch in batches:
            module(batch)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode, and back."""
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)


@contextmanager
def batch_statistics(module: nn.Module) -> Iterator[None]:
    """Let batch norms use, and average, the statistics of what runs through; the rest evaluates."""
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    momenta = [norm.momentum for norm in norms]
    with evaluating(module):
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain average over batches
            norm.train()
        try:
            yield
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum


@contextmanager
def _training(module: nn.Module, generator: torch.Generator, place: torch.device) -> Iterator[None]:
    """Training mode; dropout, which knows only torch's global generator, is seeded from ours."""
    seed = int(torch.randint(2**62, (1,), generator=generator))
    before = place_of(module)
    gpus = [torch.cuda.current_device()] if place.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus), ExitStack() as hooks:
        torch.random.manual_seed(seed)
        module.to(place).train()
        for layer in module.modules():
            if (kept := kept_weights(layer)) is not None:
                weight: Tensor = layer.weight  # type: ignore[assignment]
                hook = weight.register_hook(partial(torch.mul, kept))  # type: ignore[no-untyped-call]
                hooks.callback(hook.remove)
        try:
            yield
        finally:
            module.eval().to(before)


@contextmanager
def _asking(teacher: nn.Module | None, training: Training) -> Iterator[Ask]:
    """Give what answers images as the teacher does: None where the training does not distil."""
    if teacher is None or not training.distillation:
        yield lambda x: None
        return
    before = place_of(teacher)
    with evaluating(teacher.to(training.place())):
        try:
            yield partial(_answers, teacher, training)
        finally:
            teacher.to(before)


def _answers(teacher: nn.Module, training: Training, x: Tensor) -> Tensor:
    with torch.no_grad(), training.arithmetic():
        answers: Tensor = teacher(x)
    return answers.float()


def _optimizer(module: nn.Module, training: Training) -> torch.optim.Optimizer:
    parameters = [p for p in module.parameters() if p.requires_grad]
    decay = training.weight_decay
    if training.optimizer == "adamw":
        return torch.optim.AdamW(parameters, training.lr, weight_decay=decay)
    return torch.optim.SGD(
        parameters,
        training.lr,
        momentum=training.momentum,
        weight_decay=decay,
        nesterov=training.nesterov,
    )


def _endless(
    data: Data, training: Training, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield full batches for ever; the short last one of an epoch is left out."""
    size = min(training.batch_size, len(data.train))
    augmentation = None
    if training.augment:
        augmentation = replace(data.augmentation, cutout_px=training.cutout_px)
    place = training.place()
    while True:
        for x, y in data.batches(
            "train", size, generator=generator, augmentation=augmentation, device=place
        ):
            if len(y) == size:
                yield x, y


def _step(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    training: Training,
    rate: float,
    x: Tensor,
    y: Tensor,
    wanted: Tensor | None,
) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
    with training.arithmetic():
        logits = module(x)
    loss = F.cross_entropy(logits.float(), y, label_smoothing=training.label_smoothing)
    if wanted is not None:
        loss = torch.lerp(loss, _distance(logits.float(), wanted, training), training.distillation)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def _distance(logits: Tensor, wanted: Tensor, training: Training) -> Tensor:
    """Return the divergence between softened answers, whose gradients are of the loss's size."""
    soft, aim = (F.log_softmax(z / training.temperature, 1) for z in (logits, wanted))
    divergence = F.kl_div(soft, aim, reduction="batchmean", log_target=True)
    return divergence * training.temperature**2

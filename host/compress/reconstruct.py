"""Weights that answer as the uncompressed network does: least squares, layer after layer.

In one pass over calibration images every layer is solved anew before it runs, on what the layers
before it now send, for what it answered in the uncompressed network (feature-map reconstruction;
He et al. 2017). Integer weights are then rounded column by column, each column's error made up for
by those after it (optimal brain quantization; Frantar et al. 2022). Nothing is trained.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from host.compress.finetune import evaluating
from host.compress.layers import QuantLayer
from host.compress.listening import listening
from host.compress.patterns import kept_weights
from host.compress.plan import PruningPlan
from host.compress.prune import kept_channels
from host.compress.ranges import best_clip_ratio, thinned, weight_scales
from host.policy import INT8_BITS, Policy

# Output positions of a layer that are compared, over all images: for each weight of a channel.
SAMPLES_PER_UNKNOWN = 8
LEAST_SAMPLES = 1024
# Larger systems cost more than they gain; such layers keep their weights.
MOST_UNKNOWNS = 1200
# Of the mean squared input: how strongly a solution is held to the weights that were there.
DAMPING = 0.01
_SEED = 0
_BLOCK = 32
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
# A column of weights [outputs] -> what stands for it.
Replace = Callable[[Floats], Floats]


@dataclass(frozen=True, eq=False)
class Teacher:
    """What the layers of the uncompressed network answer to some images.

    `rows[layer]` are positions in the flattened outputs [images x positions], `outputs[layer]` what
    is there: [rows, channels].
    """

    images: Tensor
    rows: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]


def teacher(module: nn.Module, layers: Sequence[str], images: Tensor) -> Teacher:
    """Run the uncompressed network once and remember samples of every layer's output."""
    generator = torch.Generator().manual_seed(_SEED)
    rows: dict[str, Tensor] = {}
    outputs: dict[str, Tensor] = {}

    def remember(layer: str, at: nn.Module, _inputs: Any, out: Tensor) -> None:
        answers = flat(out)
        # Too many now may be few enough once channels are gone.
        solved = min(unknowns(at), MOST_UNKNOWNS)
        count = max(SAMPLES_PER_UNKNOWN * solved, LEAST_SAMPLES)
        rows[layer] = torch.randperm(len(answers), generator=generator)[:count]
        outputs[layer] = answers[rows[layer]].clone()

    with listening(module, layers, remember), torch.inference_mode():
        module(images)
    return Teacher(images, rows, outputs)


@contextmanager
def solving(
    compressed: nn.Module,
    original: nn.Module,
    policy: Policy,
    plan: PruningPlan,
    known: Teacher,
    done: Collection[str] = (),
) -> Iterator[None]:
    """Let the next run of the teacher's images solve all layers but those that are `done`."""
    removed = plan.removed(kept_channels(original, policy, plan))

    def solve(layer: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        wanted, gone = known.outputs[layer], removed.get((layer, "out"), ())
        stays = torch.ones(wanted.shape[1], dtype=torch.bool)
        stays[torch.as_tensor(gone, dtype=torch.int64)] = False
        _solve(module, inputs[0], wanted[:, stays], known.rows[layer])

    disturbed = False  # what comes before the first changed layer already answers as it should
    with ExitStack() as hooks, evaluating(compressed), torch.no_grad():
        for layer in known.rows:
            module = compressed.get_submodule(layer)
            disturbed |= isinstance(module, QuantLayer) or len(removed.get((layer, "out"), ())) > 0
            disturbed |= kept_weights(module) is not None
            if disturbed and layer not in done:
                hooks.callback(module.register_forward_pre_hook(partial(solve, layer)).remove)
        yield


@dataclass(frozen=True, eq=False)
class System:
    """The least-squares problem of one layer's weights, per group of its channels.

    `gram` [groups, unknowns, unknowns] and `right` [groups, unknowns, outputs] are means over
    samples, `target` [groups, samples, outputs] are the wanted outputs; all three are without the
    means `mean_x`, `mean_y` where a layer has a bias. `taps` are the unknowns of one input channel.
    """

    gram: Tensor
    right: Tensor
    target: Tensor
    taps: int
    mean_x: Tensor | None
    mean_y: Tensor | None

    @classmethod
    def of(cls, module: nn.Module, x: Tensor, wanted: Tensor, rows: Tensor) -> System:
        """Return the problem of a layer that reads x and is to answer `wanted` at `rows`.

        A quantized layer reads x as its codes represent it.
        """
        inputs = _inputs(module, x, rows)
        if isinstance(module, QuantLayer):
            inputs = module.quantized_input(inputs)
        target = wanted.reshape(len(wanted), inputs.shape[0], -1).transpose(0, 1)
        mean_x = mean_y = None
        if module.bias is not None:
            mean_x, mean_y = inputs.mean(1, keepdim=True), target.mean(1, keepdim=True)
            inputs, target = inputs - mean_x, target - mean_y
        gram = inputs.mT @ inputs / len(rows)
        taps = math.prod(getattr(module, "kernel_size", (1,)))
        right = inputs.mT @ target / len(rows)
        return cls(gram, right, target, taps, mean_x, mean_y)

    @cached_property
    def energy(self) -> float:
        """The mean square of the wanted outputs, summed over them."""
        return float(self.target.square().mean(1).sum())

    @cached_property
    def variance(self) -> float:
        """The variance of the wanted outputs, summed over them."""
        return float(self.target.var(1, correction=0).sum())

    @property
    def damping(self) -> Tensor:
        """What is added to the diagonal: [groups, 1, 1]."""
        mean = self.gram.diagonal(dim1=1, dim2=2).mean(1).clamp_min(1e-8)
        return DAMPING * mean[:, None, None]

    def solve(self, module: nn.Module) -> None:
        """Set a layer's weights, and its bias, to the solution nearest to what they were."""
        weight: Tensor = module.weight  # type: ignore[assignment]
        old = self._matrix(weight)
        damped = self.gram + self.damping * torch.eye(self.gram.shape[1])
        solved = torch.linalg.solve(damped, self.right + self.damping * old.mT).mT
        weight.data.copy_(solved.reshape(weight.shape))
        if isinstance(module, QuantLayer) and module.weight_bits < INT8_BITS:
            _round(module, damped)
        elif kept_weights(module) is not None:
            _thin(module, damped)
        if self.mean_x is not None and self.mean_y is not None:
            offset = self.mean_y - self.mean_x @ self._matrix(weight).mT
            bias: Tensor = module.bias  # type: ignore[assignment]
            bias.data.copy_(offset.transpose(0, 1).reshape(-1))

    def loss(self, weight: Tensor) -> float:
        """Return the squared error of these weights over the variance of what is wanted."""
        matrix = self._matrix(weight)
        missed = ((matrix @ self.gram) * matrix).sum() - 2 * (matrix * self.right.mT).sum()
        return self._share(missed)

    def loss_without(self, channels: Any) -> float:
        """Return the loss of the best weights that do not read some input channels."""
        groups, unknowns = self.gram.shape[:2]
        if groups > 1:
            return 0.0  # depthwise: whoever reads what it writes counts
        taps = self.taps
        gone = (torch.as_tensor(channels)[:, None] * taps + torch.arange(taps)).flatten()
        stays = torch.ones(unknowns, dtype=torch.bool)
        stays[gone] = False
        gram, right = self.gram[0][stays][:, stays], self.right[0][stays]
        damped = gram + self.damping[0] * torch.eye(len(gram))
        solved = torch.linalg.solve(damped, right)
        missed = (solved * (gram @ solved)).sum() - 2 * (solved * right).sum()
        return self._share(missed)

    def _share(self, missed: Tensor) -> float:
        error = max(float(missed) + self.energy, 0.0)
        return error / self.variance if self.variance > 0 else 0.0

    def _matrix(self, weight: Tensor) -> Tensor:
        return weight.detach().reshape(len(self.gram), -1, self.gram.shape[1])


def _solve(module: nn.Module, x: Tensor, wanted: Tensor, rows: Tensor) -> None:
    if isinstance(module, QuantLayer):
        module.clip_ratio.copy_(best_clip_ratio(module.weight, module.weight_bits))
        module.fit_range(thinned(x))
    if solvable(module):
        System.of(module, x, wanted, rows).solve(module)


def _round(module: QuantLayer, gram: Tensor) -> None:
    """Replace weights by codes times scale, columns in turn; what follows makes up for each."""
    bits = module.weight_bits
    module.clip_ratio.copy_(best_clip_ratio(module.weight, bits))
    scale = weight_scales(module.weight, bits, module.clip_ratio)
    steps = scale.reshape(len(gram), -1).double().numpy()

    def rounded(group: int) -> Replace:
        limit = 2.0 ** (bits - 1) - 1

        def replace(column: Floats) -> Floats:
            now = column / steps[group]
            code = np.where(now >= 0, 1.0, -1.0) if bits == 1 else np.rint(now)
            return np.asarray((code if bits == 1 else np.clip(code, -limit, limit)) * steps[group])

        return replace

    _made_up_for(module, gram, rounded)
    module.clip_ratio.copy_(_ratio_of(scale, module.weight, bits))


def _thin(module: nn.Module, gram: Tensor) -> None:
    """Set weights that do not stay to zero, columns in turn; what follows makes up for each."""
    _made_up_for(module, gram, lambda group: lambda column: column)


def _made_up_for(module: nn.Module, gram: Tensor, by: Callable[[int], Replace]) -> None:
    """Replace every column of weights, those of a group by `by(group)`; zeros stay zeros."""
    groups, unknowns = gram.shape[:2]
    factor = _factor(gram.double())
    weight: Tensor = module.weight  # type: ignore[assignment]
    left = weight.detach().reshape(groups, -1, unknowns)
    stays, kept = torch.ones_like(left, dtype=torch.bool), kept_weights(module)
    if kept is not None:
        stays = kept.reshape(left.shape)
    made = [
        _columns(w.double().numpy(), f.numpy(), k.numpy(), by(group))
        for group, (w, f, k) in enumerate(zip(left, factor, stays, strict=True))
    ]
    found = torch.from_numpy(np.stack(made)).to(weight.dtype)
    weight.data.copy_(found.reshape(weight.shape))


def _factor(gram: Tensor) -> Tensor:
    """Return the upper triangles whose transposes times themselves are the inverses of `gram`.

    The inverses are not made: rounded, those of strongly correlated inputs are not positive.
    """
    upper = torch.linalg.cholesky(gram.flip(1, 2)).flip(1, 2)
    one = torch.eye(gram.shape[1], dtype=gram.dtype)
    factor: Tensor = torch.linalg.solve_triangular(upper, one, upper=True)
    return factor


def _columns(weights: Floats, factor: Floats, stays: Bools, replace: Replace) -> Floats:
    """Return what replaces weights [outputs, unknowns]; `factor` is upper triangular."""
    left = np.ascontiguousarray(weights.T)
    made = np.empty_like(left)
    for start in range(0, len(left), _BLOCK):
        end = min(start + _BLOCK, len(left))
        errors = np.empty((end - start, left.shape[1]))
        for column in range(start, end):
            made[column] = np.where(stays[:, column], replace(left[column]), 0.0)
            error = (left[column] - made[column]) / factor[column, column]
            errors[column - start] = error
            left[column + 1 : end] -= factor[column, column + 1 : end, None] * error
        left[end:] -= factor[start:end, end:].T @ errors
    found: Floats = made.T
    return found


def _ratio_of(scale: Tensor, weight: Tensor, bits: int) -> Tensor:
    """Return the clipping ratios that give these scales for rounded weights."""
    if bits == 1:
        return torch.ones(len(weight))
    largest = weight.detach().abs().flatten(1).amax(1).clamp_min(1e-8)
    return scale * (2.0 ** (bits - 1) - 1) / largest


def _inputs(module: nn.Module, x: Tensor, rows: Tensor) -> Tensor:
    """Return what the chosen outputs are made of: [groups, rows, unknowns]."""
    if isinstance(module, nn.Linear):
        return x.reshape(-1, x.shape[-1])[rows][None]
    assert isinstance(module, nn.Conv2d)
    height, width = x.shape[2:]
    down, across = _taps(module, 0, height), _taps(module, 1, width)
    image, line, column = torch.unravel_index(rows, (len(x), len(down), len(across)))
    down, across = down[line][:, :, None], across[column][:, None, :]
    outside = (down < 0) | (down >= height) | (across < 0) | (across >= width)
    # What is padded is read from the nearest place and then made zero, so that x is not copied.
    down, across = down.clamp(0, height - 1), across.clamp(0, width - 1)
    patches = x[image[:, None, None], :, down, across].masked_fill_(outside[..., None], 0.0)
    split: Tensor = patches.reshape(*patches.shape[:3], module.groups, -1)
    return split.permute(3, 0, 4, 1, 2).contiguous().flatten(2)


def _taps(module: nn.Conv2d, axis: int, size: int) -> Tensor:
    """Return what outputs read along an axis: [outputs, taps]; -1 is the place before the first."""
    assert not isinstance(module.padding, str)
    padding, dilation = module.padding[axis], module.dilation[axis]
    taps = torch.arange(module.kernel_size[axis]) * dilation
    first = torch.arange(-padding, size + padding - int(taps[-1]), module.stride[axis])
    return first[:, None] + taps


def unknowns(module: nn.Module) -> int:
    """Return the weights of one output channel of a layer."""
    weight: Tensor = module.weight  # type: ignore[assignment]
    return weight[0].numel()


def solvable(module: nn.Module) -> bool:
    """Whether a layer is small enough to be solved; others keep their weights."""
    return unknowns(module) <= MOST_UNKNOWNS


def flat(out: Tensor) -> Tensor:
    """Return an output as [images x positions, channels]."""
    if out.ndim == 4:
        return out.permute(0, 2, 3, 1).flatten(0, 2)
    return out.reshape(-1, out.shape[-1])

"""Images in memory, their three splits and batches of them; reads no files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from host.errors import DataError

SplitName = Literal["train", "validation", "test"]


@dataclass(frozen=True, eq=False)
class Split:
    """`images`: uint8 (N, H, W, C); `labels`: int64 (N,)."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim != 4:
            raise DataError(
                f"images must be uint8 (N, H, W, C), got {self.images.dtype} {self.images.shape}"
            )
        if self.labels.shape != self.images.shape[:1]:
            raise DataError(f"{len(self.images)} images but labels of shape {self.labels.shape}")

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: NDArray[np.int64] | slice) -> Split:
        """Return the images at these places."""
        return Split(self.images[index], self.labels[index])


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Random shifts by up to `pad_px` with black borders and, where `flip`, random mirroring.

    A square of `cutout_px` around a random pixel is blackened.
    """

    pad_px: int = 0
    flip: bool = False
    cutout_px: int = 0

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Crop, flip and cut uint8 images (N, H, W, C), each in its own way.

        Chance is drawn on the generator's device, and so is the same wherever the images are.
        """
        count, height, width, _ = images.shape
        pad, place = self.pad_px, images.device
        padded = torch.nn.functional.pad(images, (0, 0, pad, pad, pad, pad))
        top, left = torch.randint(0, 2 * pad + 1, (2, count, 1), generator=generator)
        columns = torch.arange(width).expand(count, width)
        if self.flip:
            mirrored = torch.randint(0, 2, (count, 1), generator=generator).bool()
            columns = torch.where(mirrored, width - 1 - columns, columns)
        rows = (top + torch.arange(height))[:, :, None].to(place)
        columns = (left + columns)[:, None, :].to(place)
        moved = padded[torch.arange(count, device=place)[:, None, None], rows, columns]
        return self._cut(moved, generator) if self.cutout_px else moved

    def _cut(self, images: Tensor, generator: torch.Generator) -> Tensor:
        count, height, width, _ = images.shape
        y = torch.randint(0, height, (count, 1), generator=generator)
        x = torch.randint(0, width, (count, 1), generator=generator)
        rows = self._near(y, height).to(images.device)[:, :, None, None]
        columns = self._near(x, width).to(images.device)[:, None, :, None]
        return images.masked_fill(rows & columns, 0)

    def _near(self, centre: Tensor, size: int) -> Tensor:
        """Return which of `size` places lie in the square: (N, size)."""
        start = centre - self.cutout_px // 2
        places = torch.arange(size)
        return (places >= start) & (places < start + self.cutout_px)


@dataclass(frozen=True, eq=False)
class Data:
    """A data set: three disjoint splits, and how its pixels become the network's input.

    `mean` and `std` are per channel, on pixels scaled to [0, 1].
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augmentation: Augmentation = Augmentation()

    def __post_init__(self) -> None:
        channels = self.train.images.shape[3]
        if len(self.mean) != channels or len(self.std) != channels:
            raise DataError(f"{self.name}: mean and std must each have {channels} values")
        for split in (self.train, self.validation, self.test):
            if len(split) == 0:
                raise DataError(f"{self.name}: a split is empty")
            if split.labels.min() < 0 or split.labels.max() >= self.classes:
                raise DataError(f"{self.name}: labels must lie in 0..{self.classes - 1}")

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""
        height, width, channels = self.train.images.shape[1:]
        return channels, height, width

    def split(self, name: SplitName) -> Split:
        """Return a split by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[name]

    def tensor(self, images: NDArray[np.uint8] | Tensor) -> Tensor:
        """Turn uint8 images (N, H, W, C) into the network's float32 input (N, C, H, W).

        They stay stored pixel by pixel, in which CPU convolutions train a quarter faster.
        """
        pixels = torch.as_tensor(images).permute(0, 3, 1, 2).float()
        place = pixels.device
        scale = torch.tensor([1.0 / (255.0 * s) for s in self.std], device=place).view(1, -1, 1, 1)
        shifts = [m / s for m, s in zip(self.mean, self.std, strict=True)]
        shift = torch.tensor(shifts, device=place)
        return pixels * scale - shift.view(1, -1, 1, 1)

    def batches(
        self,
        split: SplitName | Split,
        batch_size: int,
        *,
        generator: torch.Generator | None = None,
        augmentation: Augmentation | None = None,
        device: torch.device | str = "cpu",
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (input, labels) once through, made on `device`; `generator` shuffles and augments.

        Which images come, and how they are augmented, does not depend on the device.
        """
        chosen = self.split(split) if isinstance(split, str) else split
        count = len(chosen)
        order = torch.randperm(count, generator=generator) if generator else torch.arange(count)
        images = torch.from_numpy(chosen.images).to(device)
        labels = torch.from_numpy(chosen.labels).to(device)
        for index in torch.split(order, batch_size):
            index = index.to(device)
            batch = images[index]
            if augmentation and generator:
                batch = augmentation(batch, generator)
            yield self.tensor(batch), labels[index]

    def calibration(self, count: int, *, seed: int = 0) -> Tensor:
        """Return `count` un-augmented training images as input, the same ones for a seed."""
        return self.tensor(self.calibration_split(count, seed=seed).images)

    def calibration_split(self, count: int, *, seed: int = 0) -> Split:
        """Return the images of `calibration` with their labels."""
        return self.train.take(np.random.default_rng(seed).permutation(len(self.train))[:count])

    def normalised(self, mean: tuple[float, ...], std: tuple[float, ...]) -> Data:
        """Return the same images with other constants."""
        return replace(self, mean=mean, std=std)

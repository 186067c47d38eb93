"""Data sets by name: how each is read and split; never downloads anything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from host.data.files import Images, read_cifar, read_digits, read_folder, read_npz
from host.data.types import Augmentation, Data, Split
from host.errors import DataError
from host.registry import did_you_mean

Constants = tuple[tuple[float, ...], tuple[float, ...]]

VALIDATION_SHARE = 0.2  # of the training images, as Galen
DIGITS_TEST_SHARE = 0.2  # scikit-learn's digits have no test set of their own
_TEST_SEED = 20240229  # fixes the test images of data sets without a test set, whatever the seed

IMAGENET: Constants = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
DIGITS: Constants = ((0.305,), (0.376,))
GREY: Constants = ((0.5,), (0.5,))


@dataclass(frozen=True, slots=True)
class Source:
    """How a data set is read: its training images, and test images where it has its own."""

    read: Callable[[Path | None], tuple[Images, Images | None]]
    constants: Constants | None = None
    augmentation: Augmentation | None = None


DATASETS: dict[str, Source] = {
    "digits": Source(read_digits, DIGITS, Augmentation(pad_px=1)),
    "cifar10": Source(lambda root: read_cifar(root, "cifar10")),
    "cifar100": Source(lambda root: read_cifar(root, "cifar100")),
    "folder": Source(read_folder),
    "npz": Source(read_npz),
}


def load_data(
    name: str,
    data_dir: Path | str | None = None,
    *,
    seed: int = 0,
    constants: Constants | None = None,
) -> Data:
    """Read a data set; `seed` draws the validation images, the test images never change.

    `constants` (mean, std) default to ImageNet's for colour images, which the published CIFAR
    ResNets expect too.
    """
    if name not in DATASETS:
        raise DataError(f'unknown data set "{name}"{did_you_mean(name, DATASETS)}')
    source = DATASETS[name]
    root = Path(data_dir).expanduser() if data_dir is not None else None
    train, test = source.read(root)
    if test is None:
        test_part, train_part = _shares(train.split, DIGITS_TEST_SHARE, _TEST_SEED)
    else:
        test_part, train_part = test.split, train.split
    validation_part, train_part = _shares(train_part, VALIDATION_SHARE, seed)
    height, _, channels = train.split.images.shape[1:]
    colour = channels == 3
    # Crops of 32 from 40 pixels and flips, as is usual for CIFAR; in proportion for other sizes.
    usual = Augmentation(pad_px=height // 8, flip=colour)
    mean, std = constants or source.constants or (IMAGENET if colour else GREY)
    return Data(
        name,
        train_part,
        validation_part,
        test_part,
        train.classes,
        mean,
        std,
        source.augmentation or usual,
    )


def _shares(split: Split, share: float, seed: int) -> tuple[Split, Split]:
    """Cut a random share off; both parts keep the original order of their images."""
    order: NDArray[np.int64] = np.random.default_rng(seed).permutation(len(split))
    cut = round(share * len(split))
    return split.take(np.sort(order[:cut])), split.take(np.sort(order[cut:]))

"""Readers of digits, CIFAR, image folders and npz files; never splits, never scales."""

from __future__ import annotations

import io
import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from host.data.types import Split
from host.errors import DataError

_IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}
_CIFAR_FOLDERS = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}


@dataclass(frozen=True, eq=False)
class Images:
    """What one reader found: images, labels and the number of classes."""

    split: Split
    classes: int


def read_digits(_: Path | None) -> tuple[Images, None]:
    """Read scikit-learn's 1797 grey 8x8 digits; their 17 levels are spread over 0..255."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = np.rint(bunch.images * (255.0 / 16.0)).astype(np.uint8)[..., None]
    return Images(Split(pixels, bunch.target.astype(np.int64)), 10), None


def read_cifar(root: Path | None, name: str) -> tuple[Images, Images]:
    """Read CIFAR in torchvision's layout: its python batches below `root`."""
    folder = _needed(root, name) / _CIFAR_FOLDERS[name]
    if name == "cifar10":
        train = [_cifar_batch(folder / f"data_batch_{i}", b"labels") for i in range(1, 6)]
        test, classes = [_cifar_batch(folder / "test_batch", b"labels")], 10
    else:
        train = [_cifar_batch(folder / "train", b"fine_labels")]
        test, classes = [_cifar_batch(folder / "test", b"fine_labels")], 100
    return Images(_joined(train), classes), Images(_joined(test), classes)


def read_folder(root: Path | None) -> tuple[Images, Images]:
    """Read `train/<class>/*` and `test/<class>/*` (or `val/<class>/*`) as RGB of one size.

    The size is that of the first training image; the others are scaled and cropped to it.
    """
    root = _needed(root, "folder")
    test_root = next((root / n for n in ("test", "val") if (root / n).is_dir()), root / "test")
    train_files, test_files = _image_files(root / "train"), _image_files(test_root)
    names = sorted(train_files)
    if odd := sorted(set(test_files) - set(names)):
        raise DataError(f"{test_root}: class {odd[0]!r} has no training images")
    size = _image_size(train_files[names[0]][0])
    train = _read_classes(train_files, names, size)
    return Images(train, len(names)), Images(_read_classes(test_files, names, size), len(names))


def read_npz(root: Path | None) -> tuple[Images, Images]:
    """Read `x_train, y_train, x_test, y_test` (uint8 NHWC), and `classes` where it is there."""
    path = _npz_path(_needed(root, "npz"))
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in ("x_train", "y_train", "x_test", "y_test")}
            classes = len(file["classes"]) if "classes" in file.files else 0
    except KeyError as e:
        raise DataError(f"{path}: {e.args[0]}") from e
    except (OSError, ValueError, zipfile.BadZipFile) as e:
        raise DataError(f"{path}: not a readable npz file: {e}") from e
    labels = {key: arrays[key].astype(np.int64).reshape(-1) for key in ("y_train", "y_test")}
    classes = classes or int(max(y.max(initial=0) for y in labels.values())) + 1
    train = Split(arrays["x_train"], labels["y_train"])
    return Images(train, classes), Images(Split(arrays["x_test"], labels["y_test"]), classes)


class _ArraysOnly(pickle.Unpickler):
    """An unpickler that can build numpy arrays and plain containers, and nothing that runs."""

    def find_class(self, module: str, name: str) -> Any:
        """Refuse every global but those of a pickled array."""
        if (module.split(".")[0], name) in {
            ("numpy", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("_codecs", "encode"),
        }:
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed in a data file")


def _cifar_batch(path: Path, key: bytes) -> Split:
    if not path.is_file():
        raise DataError(f"{path}: not found; expected torchvision's layout of CIFAR")
    try:
        batch = _ArraysOnly(io.BytesIO(path.read_bytes()), encoding="bytes").load()
        pixels = batch[b"data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        return Split(np.ascontiguousarray(pixels), np.asarray(batch[key], np.int64))
    except (pickle.UnpicklingError, EOFError, KeyError, ValueError, TypeError) as e:
        raise DataError(f"{path}: not a CIFAR batch: {e}") from e


def _joined(parts: list[Split]) -> Split:
    return Split(
        np.concatenate([p.images for p in parts]), np.concatenate([p.labels for p in parts])
    )


def _image_files(root: Path) -> dict[str, list[Path]]:
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected train/<class>/* and test/<class>/*")
    found = {
        folder.name: sorted(f for f in folder.iterdir() if f.suffix.lower() in _IMAGE_SUFFIXES)
        for folder in sorted(root.iterdir())
        if folder.is_dir()
    }
    if not found or not all(found.values()):
        raise DataError(f"{root}: expected one folder with images for every class")
    return found


def _image_size(path: Path) -> tuple[int, int]:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return image.size
    except (UnidentifiedImageError, OSError) as e:
        raise DataError(f"{path}: not an image") from e


def _read_classes(files: dict[str, list[Path]], names: list[str], size: tuple[int, int]) -> Split:
    images = [_read_image(path, size) for name in files for path in files[name]]
    labels = [names.index(name) for name in files for _ in files[name]]
    return Split(np.stack(images), np.asarray(labels, np.int64))


def _read_image(path: Path, size: tuple[int, int]) -> Any:
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            rgb = image.convert("RGB")
    except (UnidentifiedImageError, OSError) as e:
        raise DataError(f"{path}: not an image") from e
    return np.asarray(rgb if rgb.size == size else ImageOps.fit(rgb, size), np.uint8)


def _npz_path(root: Path) -> Path:
    if root.is_file():
        return root
    found = sorted(root.glob("*.npz")) if root.is_dir() else []
    if len(found) != 1:
        raise DataError(f"{root}: expected an npz file, or a folder with exactly one")
    return found[0]


def _needed(root: Path | None, name: str) -> Path:
    if root is None:
        raise DataError(f'data set "{name}" needs data_dir')
    return root

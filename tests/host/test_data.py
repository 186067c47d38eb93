"""Data sets: fixed and disjoint splits, batches, and what malformed files answer."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from host.data import Augmentation, Split, load_data
from host.errors import DataError


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), np.uint8)


def rows(split: Split) -> set[bytes]:
    return {image.tobytes() for image in split.images}


class TestSplits:
    @settings(max_examples=5, deadline=None)
    @given(seed=st.integers(0, 1000))
    def test_digits_are_shared_out_whole(self, seed):
        data = load_data("digits", seed=seed)
        assert (len(data.train), len(data.validation), len(data.test)) == (1150, 288, 359)
        assert len(rows(data.train) | rows(data.validation) | rows(data.test)) == 1797

    def test_test_images_never_change(self):
        first, other = load_data("digits", seed=0), load_data("digits", seed=1)
        assert np.array_equal(first.test.images, other.test.images)
        assert not np.array_equal(first.validation.images, other.validation.images)

    def test_the_same_seed_gives_the_same_split(self):
        first, again = load_data("digits", seed=5), load_data("digits", seed=5)
        assert np.array_equal(first.validation.images, again.validation.images)


class TestBatches:
    def test_input_is_normalised(self):
        data = load_data("digits")
        x = data.calibration(1000)
        assert x.shape == (1000, 1, 8, 8)
        assert abs(float(x.mean())) < 0.05
        assert abs(float(x.std()) - 1) < 0.05

    def test_constants_can_be_replaced(self):
        data = load_data("digits", constants=((0.0,), (1.0,)))
        assert float(data.calibration(10).max()) == 1.0

    def test_every_image_comes_once_and_shuffled_by_the_generator(self):
        data = load_data("digits")
        order = [
            torch.cat([y for _, y in data.batches("train", 100, generator=g)])
            for g in (torch.Generator().manual_seed(s) for s in (1, 1, 2))
        ]
        assert torch.equal(order[0], order[1])
        assert not torch.equal(order[0], order[2])
        assert sorted(order[0].tolist()) == sorted(data.train.labels.tolist())

    @settings(max_examples=20, deadline=None)
    @given(pad=st.integers(0, 4), flip=st.booleans(), seed=st.integers(0, 99))
    def test_augmentation_only_moves_and_mirrors(self, pad, flip, seed):
        batch = torch.from_numpy(images(3, seed))
        moved = Augmentation(pad, flip)(batch, torch.Generator().manual_seed(seed))
        assert moved.shape == batch.shape
        assert moved.dtype == torch.uint8
        if pad == 0:
            for after, before in zip(moved, batch, strict=True):
                assert torch.equal(after, before) or torch.equal(after, before.flip(1))

    @settings(max_examples=20, deadline=None)
    @given(side=st.integers(1, 6), seed=st.integers(0, 99))
    def test_cutout_blackens_one_square_and_nothing_else(self, side, seed):
        white = torch.full((5, 8, 8, 3), 255, dtype=torch.uint8)
        cut = Augmentation(cutout_px=side)(white, torch.Generator().manual_seed(seed))
        for image in cut:
            black = (image == 0).all(2)
            assert ((image == 255).all(2) | black).all()
            rows, columns = black.any(1), black.any(0)
            assert black.sum() == rows.sum() * columns.sum()
            # At the border a part of the square falls outside.
            assert side // 2 <= int(rows.sum()) <= side
            assert side // 2 <= int(columns.sum()) <= side


class TestFiles:
    def npz(self, path, **changed):
        arrays = {
            "x_train": images(50),
            "y_train": np.arange(50) % 5,
            "x_test": images(10, 1),
            "y_test": np.arange(10) % 5,
        }
        kept = {key: value for key, value in {**arrays, **changed}.items() if value is not None}
        np.savez(path, **kept)
        return path

    def test_npz_reads(self, tmp_path):
        data = load_data("npz", self.npz(tmp_path / "a.npz", classes=np.array(list("abcdef"))))
        assert (data.classes, data.input_shape) == (6, (3, 32, 32))
        assert (len(data.train), len(data.validation), len(data.test)) == (40, 10, 10)
        assert data.mean == (0.485, 0.456, 0.406)

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"y_test": None}, "y_test"),
            ({"x_train": images(50).astype(np.float32)}, "uint8"),
            ({"y_train": np.arange(49)}, "50 images"),
            ({"y_train": np.arange(50) - 1, "classes": np.arange(50)}, "labels must lie in"),
        ],
    )
    def test_malformed_npz_is_refused(self, tmp_path, changed, message):
        with pytest.raises(DataError, match=message):
            load_data("npz", self.npz(tmp_path / "a.npz", **changed))

    def test_broken_npz_is_refused(self, tmp_path):
        (tmp_path / "a.npz").write_bytes(b"PK not a zip")
        with pytest.raises(DataError, match="not a readable npz"):
            load_data("npz", tmp_path)

    @pytest.mark.parametrize("name", ["cifar10", "cifar100", "folder", "npz"])
    def test_missing_files_are_named(self, tmp_path, name):
        with pytest.raises(DataError):
            load_data(name, tmp_path / "none")
        with pytest.raises(DataError, match="needs data_dir"):
            load_data(name)

    def test_unknown_names_are_refused_with_a_hint(self):
        with pytest.raises(DataError, match='did you mean "cifar10"'):
            load_data("cifar-10")

    def test_cifar10_reads_in_torchvisions_layout(self, tmp_path):
        folder = tmp_path / "cifar-10-batches-py"
        folder.mkdir()
        for i, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
            pixels = images(10, i).transpose(0, 3, 1, 2).reshape(10, -1)
            batch = {b"data": pixels, b"labels": list(range(10))}
            (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
        data = load_data("cifar10", tmp_path)
        assert (len(data.train), len(data.validation), len(data.test)) == (40, 10, 10)
        assert np.array_equal(data.test.images, images(10, 5))

    def test_a_pickle_that_would_run_something_is_refused(self, tmp_path):
        class Evil:
            def __reduce__(self):
                return print, ("ran",)

        folder = tmp_path / "cifar-10-batches-py"
        folder.mkdir()
        (folder / "data_batch_1").write_bytes(pickle.dumps({b"data": Evil()}))
        with pytest.raises(DataError, match="not allowed"):
            load_data("cifar10", tmp_path)

    def test_image_folders_read_in_one_size(self, tmp_path):
        for split, count in (("train", 10), ("val", 2)):
            for name in ("cat", "dog"):
                (tmp_path / split / name).mkdir(parents=True)
                for i in range(count):
                    size = (20, 16) if i == 0 else (24 + i, 30)
                    Image.new("RGB", size, (i, 0, 0)).save(tmp_path / split / name / f"{i}.png")
        data = load_data("folder", tmp_path)
        assert (data.classes, data.input_shape) == (2, (3, 16, 20))
        assert (len(data.train), len(data.validation), len(data.test)) == (16, 4, 4)

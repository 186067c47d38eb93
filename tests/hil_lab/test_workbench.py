"""A run is tied to the weights and the images that its figures are of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hil_lab.console import Silent
from hil_lab.recipe import Recipe
from hil_lab.runs import Run, start_run
from hil_lab.workbench import Workbench, save_network
from host.errors import CallerError
from host.models import make_network


@pytest.fixture
def run(tmp_path: Path) -> Run:
    write_images(tmp_path)
    write_weights(tmp_path)
    recipe = Recipe(
        "digits-cnn",
        "npz",
        checkpoint=str(tmp_path / "weights.safetensors"),
        data_dir=str(tmp_path / "images.npz"),
        runs=str(tmp_path / "runs"),
    )
    return start_run(recipe, {})


def write_images(folder: Path, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    arrays: dict[str, np.ndarray] = {}
    for split, count in (("train", 60), ("test", 20)):
        arrays[f"x_{split}"] = rng.integers(0, 256, (count, 8, 8, 1), np.uint8)
        arrays[f"y_{split}"] = np.arange(count) % 10
    np.savez(folder / "images.npz", **arrays)


def write_weights(folder: Path, seed: int = 0) -> None:
    network = make_network("digits-cnn", classes=10, input_shape=(1, 8, 8), seed=seed)
    save_network(network, folder / "weights.safetensors")


def work(run: Run) -> None:
    bench = Workbench(run, Silent())
    _ = bench.data, bench.network


def test_a_run_says_of_which_weights_and_images_it_is(run: Run) -> None:
    assert run.origin == {}
    work(run)
    assert set(run.origin) == {"images", "weights"}
    work(run)


@pytest.mark.parametrize(("what", "write"), [("weights", write_weights), ("images", write_images)])
def test_what_changed_under_the_same_name_is_refused(
    tmp_path: Path, run: Run, what: str, write: Callable[..., None]
) -> None:
    work(run)
    write(tmp_path, seed=1)
    with pytest.raises(CallerError, match=f"figures of other {what}"):
        work(run)
    write(tmp_path)
    work(run)

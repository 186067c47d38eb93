"""Kernels that skip blocks, counted whole: fewer cycles with every block that goes."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from hil_lab.bench.sparse import SHARES, Figure, Sizes, count, shows
from host.errors import BuildError
from host.lower.objects import ObjectCache
from host.lower.targets import cortex_a72

pytestmark = pytest.mark.tvm
needs_tools = pytest.mark.skipif(
    not (shutil.which("llvm-mca") and shutil.which("qemu-aarch64-static")),
    reason="llvm-mca or qemu-aarch64-static is missing",
)
FIGURE = Figure("a", "int8", "int8_conv", 90.0, {50: 100.0, 80: 45.0}, {50: 99.0, 80: 44.0}, (80,))


@needs_tools
def test_what_is_counted_shrinks_with_what_stays_and_the_forecast_knows_it(tmp_path: Path) -> None:
    layers = (Sizes("a picture", 8, 16, 16, 3), Sizes("a token", 1, 32, 32, 1))
    figures = list(count(layers, cortex_a72(), ObjectCache(tmp_path)))
    assert [f.layer for f in figures] == ["a picture"] * 2 + ["a token"] * 2
    for figure in figures:
        spent = [figure.skipping[share] for share in SHARES]
        assert spent == sorted(spent, reverse=True)
    picture = figures[1]
    assert picture.taken and picture.skipping[90] < picture.dense / 2
    for share in SHARES:
        assert picture.forecast[share] == pytest.approx(picture.skipping[share], rel=0.25)


def test_what_is_not_taken_stands_in_brackets() -> None:
    assert FIGURE.row() == ["a", "int8", "int8_conv", "90", "(100)", "45"]


def test_the_least_gain_is_of_what_is_taken() -> None:
    gain, error = shows([replace(FIGURE, skipping=dict.fromkeys(SHARES, 45.0),
                                 forecast=dict.fromkeys(SHARES, 54.0))])  # fmt: skip
    assert (gain.value, gain.holds, error.value) == (2.0, True, pytest.approx(0.2))
    with pytest.raises(BuildError, match="no layer takes"):
        list(shows([replace(FIGURE, taken=())]))

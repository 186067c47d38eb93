"""Events per layer and inference: summed over kernels, divided by runs, never invented."""

from __future__ import annotations

import pytest

from host.layer_events import layer_events
from protos.values import Counter, KernelTiming, Profile


def kernel(layer: str, *counters: Counter, repeats: int = 4) -> KernelTiming:
    return KernelTiming(0, "call", layer, "conv_fp32", (1000,) * repeats, counters=counters)


def test_kernels_of_a_layer_add_up_per_inference() -> None:
    refills = [Counter("l2d_refill", count, 100, 100) for count in (40, 80)]
    profile = Profile((kernel("a", refills[0]), kernel("a", refills[1]), kernel("b", refills[0])))
    assert layer_events(profile) == {"a": {"l2d_refill": 30.0}, "b": {"l2d_refill": 10.0}}


def test_counts_were_scaled_by_the_board_and_are_not_scaled_again() -> None:
    half = Counter("l2d_refill", 40, 100, 50)
    assert layer_events(Profile((kernel("a", half),)))["a"]["l2d_refill"] == pytest.approx(10.0)


def test_a_pass_of_other_runs_is_divided_by_its_own() -> None:
    other = Counter("ase_spec", 40, 100, 100, runs=20)
    assert layer_events(Profile((kernel("a", other),)))["a"]["ase_spec"] == pytest.approx(2.0)


def test_an_event_that_a_kernel_lacks_or_that_never_ran_is_unknown() -> None:
    known, never = Counter("l2d_refill", 40, 100, 100), Counter("bus_access", 0, 100, 0)
    profile = Profile((kernel("a", known, never), kernel("a"), kernel("b", known, never)))
    assert layer_events(profile) == {"a": {}, "b": {"l2d_refill": 10.0}}


def test_kernels_of_no_layer_are_left_out() -> None:
    assert layer_events(Profile((kernel("", Counter("l2d_refill", 4, 1, 1)),))) == {}

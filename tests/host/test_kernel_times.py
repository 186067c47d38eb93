"""Times of kernels: what was timed is taken as it was, the others by their kind's regression."""

from __future__ import annotations

from typing import Any

import pytest

from host.kernel_times import KernelTimes, Timed, terms, timed_programs
from host.policy import Policy, uncompressed
from tests.host.search.toy import GRAPH, SPACE

# Milliseconds per million of products, operations and bytes, and of a call.
RATES = {"macs": 0.1, "ops": 0.2, "bytes": 0.05, "call": 0.002}


def row(call: str, macs: int, kind: str = "conv_fp32", layer: str = "conv0") -> dict[str, Any]:
    return {
        "call": call,
        "kind": kind,
        "layer": layer,
        "macs": macs,
        "ops": macs // 10,
        "bytes_read": macs // 20,
        "bytes_written": macs // 50,
        "weight_bytes": 0,
        "weight_bits": 32,
        "act_bits": 32,
    }


def truth(r: dict[str, Any]) -> float:
    moved = r["bytes_read"] + r["bytes_written"]
    per_million = RATES["macs"] * r["macs"] + RATES["ops"] * r["ops"] + RATES["bytes"] * moved
    return per_million / 1e6 + RATES["call"]


SAMPLES = [row(f"k{i}", 100_000 * (i + 1) ** 2) for i in range(8)]


def times(rows: list[dict[str, Any]], odd: float = 1.0) -> KernelTimes:
    timed = [Timed(r, truth(r) * (odd if r["call"] == "k0" else 1.0)) for r in SAMPLES]
    return KernelTimes(lambda policy: rows, timed)


def test_an_unknown_kernel_follows_its_kind() -> None:
    unknown = row("new", 730_000)
    assert times([]).kernel_ms(unknown) == pytest.approx(truth(unknown), rel=0.02)


def test_a_timed_kernel_takes_what_it_took() -> None:
    assert times([], odd=3.0).kernel_ms(SAMPLES[0]) == pytest.approx(3 * truth(SAMPLES[0]))


def test_an_unknown_kind_follows_all_kinds() -> None:
    unknown = row("new", 730_000, kind="never_seen")
    assert times([]).kernel_ms(unknown) == pytest.approx(truth(unknown), rel=0.02)


def test_layers_are_the_sum_of_their_kernels() -> None:
    rows = [SAMPLES[1], SAMPLES[2], row("x", 200_000, layer="conv1")]
    found = times(rows)(uncompressed(GRAPH))
    assert found["conv0"] == pytest.approx(truth(SAMPLES[1]) + truth(SAMPLES[2]))
    assert found["conv1"] == pytest.approx(truth(rows[2]), rel=0.02)


def test_one_bit_products_count_for_bit_serial_kernels_alone() -> None:
    bits = {**row("b", 1_000_000, kind="bit_gemm"), "weight_bits": 2, "act_bits": 3}
    assert terms(bits)[1] == 6.0
    assert terms(row("f", 1_000_000))[1] == 0.0


def test_programs_to_time_are_legal_narrow_ones_among_them() -> None:
    programs = timed_programs(SPACE)
    for policy in programs:
        SPACE.check(policy)
    assert len({policy.digest() for policy in programs}) == len(programs)
    assert any(_narrowest(policy) <= 0.5 for policy in programs)


def _narrowest(policy: Policy) -> float:
    pairs = zip(policy.layers, GRAPH.layers, strict=True)
    return min(p.keep / layer.out_channels for p, layer in pairs)

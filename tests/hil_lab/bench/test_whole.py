"""Cycles of whole layers: how blocks are cut and weighed, and what the bar is on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hil_lab.bench.disassembly import Function, Instruction
from hil_lab.bench.networks import BenchNetwork
from hil_lab.bench.programs import planned
from hil_lab.bench.whole import LayerCycles, blocks, layer_cycles, layer_shows, spent
from hil_lab.console import Silent
from host.lower.objects import ObjectCache
from host.lower.targets import cortex_a72

needs_mca = pytest.mark.skipif(shutil.which("llvm-mca") is None, reason="llvm-mca is missing")
needs_qemu = pytest.mark.skipif(
    shutil.which("qemu-aarch64-static") is None, reason="qemu-aarch64-static is missing"
)

FUNCTION = Function(
    "kernel",
    (
        Instruction(0, "mov", "x9, #3"),
        Instruction(4, "fmla", "v8.4s, v0.4s, v1.4s"),
        Instruction(8, "subs", "x9, x9, #1"),
        Instruction(12, "b.ne", "0x4", 4),
        Instruction(16, "ret", ""),
    ),
)


def test_a_block_begins_at_a_target_and_ends_with_a_branch() -> None:
    found = [[i.address for i in block] for block in blocks(FUNCTION, {})]
    assert found == [[0], [4, 8, 12], [16]]


def test_a_change_of_counts_begins_a_block() -> None:
    found = [[i.address for i in block] for block in blocks(FUNCTION, {0: 1, 4: 3, 8: 5, 12: 5})]
    assert found == [[0], [4], [8, 12], [16]]


@needs_mca
def test_a_block_costs_its_cycles_as_often_as_it_runs() -> None:
    once = {0: 1, 4: 10, 8: 10, 12: 10}
    more = {0: 1, 4: 20, 8: 20, 12: 20}
    assert spent([FUNCTION], more) - spent([FUNCTION], once) == pytest.approx(10 * 4.0)


def layer(name: str, mode: str, kernel: int, macs: int, cycles: float) -> LayerCycles:
    form = "a2w2" if mode == "mix" else mode
    spent = {"quantize": cycles / 2, "product": cycles / 2}
    return LayerCycles("net", form, mode, name, (kernel, kernel), (1, 1), macs, spent)


def test_the_bar_is_on_the_mean_by_work_of_bit_serial_layers() -> None:
    layers = [
        layer("a", "mix", 3, 3000, 100.0),
        layer("b", "mix", 3, 1000, 300.0),
        layer("c", "mix", 1, 100, 100.0),
        layer("d", "int8", 3, 700, 100.0),
    ]
    bar, *beside = layer_shows(layers)
    assert (bar.value, bar.bar, bar.holds) == (10.0, 12.0, False)
    assert [show.bar for show in beside] == [None] * len(beside)
    assert beside[0].value == pytest.approx(1000 / 300)  # the least
    assert list(layer_shows([])) == []


@pytest.mark.tvm
@needs_mca
@needs_qemu
def test_every_layer_of_a_network_is_counted_whole(tmp_path: Path) -> None:
    target = cortex_a72()
    programs = list(planned(BenchNetwork("tiny", "digits-cnn", (1, 8, 8)), target))
    layers = layer_cycles(programs, target, ObjectCache(tmp_path), Silent())
    assert len(layers) == 3 * len(programs[0].graph.layers)
    assert all(0 < layer.macs_per_cycle < 64 for layer in layers)
    serial = next(layer for layer in layers if layer.mode == "mix")
    assert "bit_gemm" in serial.cycles
    assert serial.row()[0] == "a2w2"

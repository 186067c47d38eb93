"""How often instructions run: qemu's log is read, and a real kernel is counted."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hil_lab.bench.counts import executed, find_qemu, link, parameters, run
from hil_lab.bench.disassembly import disassemble
from hil_lab.bench.mca import is_kernel
from hil_lab.bench.whole import blocks, kernel_cycles
from host.errors import CallerError
from host.lower.kernels.codes import Codes
from host.lower.kernels.quantize import Quantize
from host.lower.objects import ObjectCache
from host.lower.targets import cortex_a72

pytestmark = pytest.mark.tvm
needs_tools = pytest.mark.skipif(
    not (shutil.which("llvm-mca") and shutil.which("qemu-aarch64-static")),
    reason="llvm-mca or qemu-aarch64-static is missing",
)

LOG = b"""----------------
IN: kernel
0x00001000:  d10083ff  sub      sp, sp, #0x20
0x00001004:  d10083ff  sub      sp, sp, #0x20
0x00001008:  54003c61  b.ne     #0x1004

Trace 0: 0x7fe9fa400100 [0000000000001001/0000000000001000/00000001/00000200] kernel
----------------
IN: kernel
0x00001004:  d10083ff  sub      sp, sp, #0x20
0x00001008:  54003c61  b.ne     #0x1004

Trace 0: 0x7fe9fa400240 [0000000000001001/0000000000001004/00000001/00000200] kernel
Trace 0: 0x7fe9fa400240 [0000000000001001/0000000000001004/00000001/00000200] kernel
"""


def test_blocks_that_overlap_are_added_up() -> None:
    counts = executed(LOG.splitlines(keepends=True))
    assert counts == {0x1000: 1, 0x1004: 3, 0x1008: 3}


def test_without_the_emulator_one_sentence_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(CallerError, match="apt install qemu-user-static"):
        find_qemu()


def quantize(lines: int) -> Quantize:
    return Quantize(Codes(lines, 4, 16, (1, 1), bits=8, signed=False))


def test_parameters_are_the_tensors_of_a_kernel() -> None:
    x, quantizer, out = parameters(quantize(2).prim_func(cortex_a72()))
    assert (x.shape, x.dtype, x.bytes) == ((1, 2, 4, 16), "float32", 512)
    assert (quantizer.shape, out.dtype) == ((2,), "uint8")


@needs_tools
def test_a_loop_runs_as_often_as_the_kernel_says(tmp_path: Path) -> None:
    target = cortex_a72()
    kernels = {f"{n}": quantize(n) for n in (3, 6)}
    objects = ObjectCache(tmp_path).objects(kernels.values(), target)
    named = dict(zip(objects, kernels.values(), strict=True))
    taken = {name: parameters(k.prim_func(target)) for name, k in named.items()}
    program = tmp_path / "program"
    link(taken, objects.values(), target, program)
    functions = [f for f in disassemble(program) if is_kernel(f.name)]
    few, many = (
        max(counts.get(i.address, 0) for f in functions for i in f.instructions)
        for counts in (run(program, 0), run(program, 1))
    )
    assert few > 0
    assert many == 2 * few


@needs_tools
def test_twice_the_work_takes_about_twice_the_cycles(tmp_path: Path) -> None:
    kernels = {"a": quantize(8), "b": quantize(16)}
    cache, target = ObjectCache(tmp_path), cortex_a72()
    objects = cache.objects(kernels.values(), target)
    named = dict(zip(objects, kernels.values(), strict=True))
    few, many = (spent for _, spent in kernel_cycles(named, target, cache))
    assert 1.5 * few < many < 2.1 * few


@needs_tools
def test_a_function_is_cut_where_its_counts_change(tmp_path: Path) -> None:
    target = cortex_a72()
    (path,) = ObjectCache(tmp_path).objects([quantize(2)], target).values()
    function = max(disassemble(path), key=lambda f: len(f.instructions))
    found = blocks(function, {})
    assert [i for block in found for i in block] == list(function.instructions)
    assert all(not i.ends_block for block in found for i in block[:-1])

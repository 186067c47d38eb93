"""Inner loops of a kernel: which ones there are, what they multiply, what they spill."""

from __future__ import annotations

import shutil

import pytest

from hil_lab.bench.disassembly import Function, Instruction, parse
from hil_lab.bench.mca import cycles, inner_loops

needs_mca = pytest.mark.skipif(shutil.which("llvm-mca") is None, reason="llvm-mca is missing")

LISTING = """
0000000000000000 <__tvm_ffi_main>:
       0:      	add	x0, x0, #1
       4:      	cmp	x0, x1
       8:      	b.ne	0x0 <__tvm_ffi_main>

000000000000000c <kernel_compute_>:
       c:      	mov	x9, xzr
      10:      	ldr	q0, [x2], #16
      14:      	ldr	q4, [sp, #32]
      18:      	fmla	v16.4s, v0.4s, v1.s[0]
      1c:      	fmla	v17.4s, v0.4s, v2.s[0]
      20:      	subs	x9, x9, #1
      24:      	b.ne	0x10 <kernel_compute_+0x4>
      28:      	fmul	s0, s1, s2
      2c:      	subs	x8, x8, #1
      30:      	b.ne	0x28 <kernel_compute_+0x1c>
      34:      	subs	x10, x10, #1
      38:      	b.ne	0xc <kernel_compute_>
      3c:      	ret
"""


def block(*texts: str) -> tuple[Instruction, ...]:
    pairs = (text.partition(" ") for text in texts)
    return tuple(Instruction(4 * i, name, rest) for i, (name, _, rest) in enumerate(pairs))


@needs_mca
def test_only_the_innermost_loops_of_the_kernel_itself_are_counted() -> None:
    first, second = inner_loops(parse(LISTING))
    assert (first.products, first.spills, first.vector, first.scalar_float) == (8, 1, True, False)
    assert first.instructions == 6
    assert 0 < first.products_per_cycle <= 4.0
    assert (second.products, second.vector, second.scalar_float) == (0, False, True)


@needs_mca
def test_independent_products_reach_the_peak_and_a_chain_does_not() -> None:
    many = block(*(f"fmla v{r}.4s, v0.4s, v1.4s" for r in range(8, 24)))
    chain = block(*["fmla v8.4s, v0.4s, v1.4s"] * 16)
    free, bound = cycles([many, chain])
    assert 4 * 16 / free > 3.9
    assert bound > 2 * free


@needs_mca
def test_what_happens_once_is_not_counted() -> None:
    (alone,) = cycles([block("fmla v8.4s, v0.4s, v1.4s")])
    assert alone == 4.0  # the latency of a sum that waits for itself
    assert cycles([]) == []


def test_a_function_without_a_loop_has_none() -> None:
    assert inner_loops([Function("kernel", block("ret"))]) == []


@needs_mca
def test_code_behind_the_return_that_jumps_back_is_no_loop() -> None:
    listing = (
        Instruction(0, "cbz", "x0, 0x10", 16),
        Instruction(4, "fmla", "v0.4s, v1.4s, v2.4s"),
        Instruction(8, "ldp", "d9, d8, [sp, #16]"),
        Instruction(12, "ret", ""),
        Instruction(16, "mov", "x0, #1"),
        Instruction(20, "b", "0x4", 4),
    )
    assert inner_loops([Function("kernel", listing)]) == []


@needs_mca
def test_steps_of_a_polynomial_are_no_products() -> None:
    listing = (
        Instruction(0, "ldr", "q1, [x0], #16"),
        Instruction(4, "mov", "v2.16b, v7.16b"),
        Instruction(8, "fmla", "v2.4s, v1.4s, v6.4s"),
        Instruction(12, "fmla", "v0.4s, v1.4s, v2.4s"),
        Instruction(16, "b.ne", "0x0", 0),
    )
    (loop,) = inner_loops([Function("kernel", listing)])
    assert loop.products == 4

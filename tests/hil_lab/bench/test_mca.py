"""Inner loops of an assembly listing: which ones there are, what they multiply, what they spill."""

from __future__ import annotations

import shutil

import pytest

from hil_lab.bench.mca import inner_loops, require_mca
from host.errors import CallerError

needs_mca = pytest.mark.skipif(shutil.which("llvm-mca") is None, reason="llvm-mca is missing")

LISTING = """
__tvm_ffi_main:
.LBB0_1:
\tadd\tx0, x0, #1
\tcmp\tx0, x1
\tb.ne\t.LBB0_1
kernel_compute_:
.LBB1_1:
\tmov\tx9, xzr
.LBB1_2:
\tldr\tq0, [x2], #16
\tldr\tq4, [sp, #32]
\tfmla\tv16.4s, v0.4s, v1.s[0]
\tfmla\tv17.4s, v0.4s, v2.s[0]
\tsubs\tx9, x9, #1
\tb.ne\t.LBB1_2
.LBB1_3:
\tfmul\ts0, s1, s2
\tsubs\tx8, x8, #1
\tb.ne\t.LBB1_3
\tsubs\tx10, x10, #1
\tb.ne\t.LBB1_1
\tret
"""


@needs_mca
def test_only_the_innermost_loops_of_the_kernel_itself_are_counted() -> None:
    first, second = inner_loops(LISTING)
    assert (first.products, first.spills, first.vector, first.scalar_float) == (8, 1, True, False)
    assert first.instructions == 6
    assert 0 < first.products_per_cycle <= 4.0
    assert (second.products, second.vector, second.scalar_float) == (0, False, True)


@needs_mca
def test_independent_products_reach_the_peak_and_a_chain_does_not() -> None:
    def loop(registers: list[int]) -> str:
        lines = [f"\tfmla\tv{r}.4s, v0.4s, v1.4s" for r in registers]
        return "\n".join(["kernel:", ".LBB0_1:", *lines, "\tsubs\tx9, x9, #1", "\tb.ne\t.LBB0_1"])

    (many,) = inner_loops(loop(list(range(8, 24))))
    (chain,) = inner_loops(loop([8] * 16))
    assert many.products_per_cycle > 3.5
    assert chain.products_per_cycle < 0.5 * many.products_per_cycle


def test_without_the_tool_one_sentence_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(CallerError, match="apt install llvm"):
        require_mca()

"""Cycles of a Cortex-A72 for the arithmetic of a kernel call: rates by kind; never a clock.

The simulated board computes with them, and so does a choice between kernels. Every constant says
where it comes from: "mca" is a static estimate of the inner loop by llvm-mca, and "guess" a value
that no source here states.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Row = Mapping[str, Any]

# Multiply-accumulates per cycle of one core.
MACS_PER_CYCLE = {
    "conv_fp32": 3.9,  # mca: 3.86 to 3.99 of 4.0
    "winograd_fp32": 3.9,  # mca: its products are those of a matrix
    "grouped_fp32": 1.2,  # guess: a third of dense
    "dense_fp32": 3.9,  # as a convolution; in practice its weights' traffic decides
    "depthwise_fp32": 3.8,  # mca: 3.84 to 4.0
    "matmul_fp32": 3.9,  # mca: 3.91
    "int8_conv": 7.9,  # mca: 7.98
    "int8_depthwise": 6.1,  # mca: 6.1
    "block_fp32": 3.9,  # mca: 4.0 of 4.0
    "block_int8": 12.0,  # mca: line through 18, 28 and 34 cycles of 64, 192 and 256 products
}
# Bit-serial: cycles per MAC = flush + per_plane_pair x weight bits x activation bits; fitted
# through mca's A1W1 (62 MAC/cycle) and A3W3 (9.45), gives 20.1 at A2W2 (mca: 15.8 to 21.3).
BIT_FLUSH_CYCLES = 0.0049
BIT_PAIR_CYCLES = 0.0112

# Element operations per cycle of one core: 4 float lanes and one vector operation per cycle at
# best; bytes have 16 lanes. All guesses below these bounds.
OPS_PER_CYCLE = {
    "quantize": 4.0,
    "bit_pack": 8.0,
    "int8_conv": 4.0,
    "int8_depthwise": 4.0,
    "winograd_fp32": 4.0,
    "bit_gemm": 4.0,
    "elementwise": 4.0,
    "pool": 3.0,
    "softmax": 2.0,
    "layer_norm": 2.0,
    "layout": 2.0,
}
DEFAULT_OPS_PER_CYCLE = 4.0


def compute_cycles(row: Row) -> float:
    """Return cycles of one core for the arithmetic of a row of the kernel table."""
    kind = row["kind"]
    macs = int(row["macs"])
    cycles = int(row["ops"]) / OPS_PER_CYCLE.get(kind, DEFAULT_OPS_PER_CYCLE)
    if kind == "bit_gemm":
        pairs = int(row["weight_bits"]) * int(row["act_bits"])
        return cycles + macs * (BIT_FLUSH_CYCLES + BIT_PAIR_CYCLES * pairs)
    return cycles + macs / MACS_PER_CYCLE.get(kind, 1.0)

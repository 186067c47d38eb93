"""How much smaller a program is: real bytes, and the papers' formula beside; pure functions.

Real bytes are those of the artifact: packed weights, scales and tables of the whole network.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from host.policy import FULL_BITS, Policy
from host.types import Evaluation


def times_smaller(size_bytes: int, whole_bytes: int) -> float:
    """Return how many times smaller a program is than the fp32 program of the same network."""
    return whole_bytes / size_bytes


def papers_ratio(policy: Policy, whole: Policy) -> float:
    """Return the compression ratio as HiReLC and others count it; `whole` changes nothing.

    One over the mean over layers of weight bits / 32 x share of channels kept. It weighs a layer of
    a hundred weights as one of a million, sees the channels that a layer keeps but not those that
    it no longer reads, and leaves out scales, tables and all that is no layer.
    """
    widths = {p.layer: p.keep for p in whole.layers}
    shares = [p.weight_bits / FULL_BITS * p.keep / widths[p.layer] for p in policy.layers]
    return len(shares) / sum(shares)


def compression(row: Mapping[str, Any], whole: Mapping[str, Any]) -> dict[str, float]:
    """Return the ratios of a row of a run's result against its fp32 row.

    `fewer_weights` counts those of convolutions and linear layers that are left and not zero; rows
    of before they were counted have none.
    """
    evaluations = (Evaluation.from_dict(r["evaluation"]) for r in (row, whole))
    policies = (Policy.from_dict(r["policy"]) for r in (row, whole))
    ratios = {
        "times_smaller": times_smaller(*(e.size_bytes for e in evaluations)),
        "papers_ratio": papers_ratio(*policies),
    }
    if "weights" in row and "weights" in whole:
        ratios["fewer_weights"] = whole["weights"] / row["weights"]
    return ratios

"""The calibration: what it reads is what torch writes, fits find known rates, the shows hold."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from hil_lab.bench.board_data import kernels, nasbench201
from hil_lab.bench.calibrate import Rates, fit, halves, predicted_ms
from hil_lab.bench.report import Options
from hil_lab.bench.simulator import report
from hil_lab.console import Silent
from hil_lab.simboard.published import Table, Work, tables, works
from host.errors import CallerError, DataError
from host.lower.importer import import_module
from tests.hil_lab.bench.nasbench201 import network
from tests.host.shared_data import SHARED, needs_shared_data

MIXED = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|none~0|avg_pool_3x3~1|nor_conv_3x3~2|"
# Its second node is computed from nothing but zeros, its third edge is never needed.
DEAD = "|none~0|+|nor_conv_3x3~0|nor_conv_1x1~1|+|avg_pool_3x3~0|nor_conv_3x3~1|none~2|"


def work(kind: str, macs: int = 0, elements: int = 0, moved: int = 0) -> Work:
    return Work("x", (kind,), macs, elements, 0, moved)


@pytest.mark.parametrize("architecture", [MIXED, DEAD])
def test_architectures_are_read_as_torch_exports_them(architecture: str) -> None:
    ours = works(nasbench201(architecture))
    theirs = works(import_module(network(architecture), (3, 32, 32)))
    assert [(w.kinds, w.macs, w.elements) for w in ours] == [
        (w.kinds, w.macs, w.elements) for w in theirs
    ]


def test_zeros_cut_what_is_before_them_and_not_what_is_after() -> None:
    found = works(nasbench201(DEAD))
    weights = {4 * 16 * (kernel * kernel * 16 + 1) for kernel in (1, 3)}
    cells = [w for w in found if w.weight_bytes in weights]
    # Of three convolutions in a cell only that on the zeros reaches the output.
    assert len(cells) == 5


def test_a_convolution_of_a_log_has_its_products(tmp_path: Path) -> None:
    header = "model,template,dtype,N,C,H,W,Wt0_out,Wt1_in_per_group,KH,KW,SH,SW,PH,PW,DH,DW,ms"
    rows = ["m,t,float32,1,32,112,112,32,1,3,3,2,2,1,1,1,1,1.9"]
    rows += ["m,t,float32,1,8,4,4,6,8,1,1,1,1,0,0,1,1,0.5"]
    (tmp_path / "rk3399_a72_conv_fp32_ms.csv").write_text("\n".join([header, *rows]))
    depthwise, dense = (works(m.program)[0] for m in kernels(tmp_path))
    assert (depthwise.kinds, depthwise.macs) == (("depthwise",), 9 * 32 * 56 * 56)
    assert (dense.kinds, dense.macs, dense.weight_bytes) == (("conv1x1",), 768, 4 * 6 * 9)


def test_a_fit_finds_the_rates_in_spite_of_a_third_of_wild_measurements() -> None:
    rng = np.random.default_rng(0)
    truth = Table("", {"conv": 2.0, "conv1x1": 5.0}, {"pool": 50.0}, gbytes_per_s=4.0)
    rates = Rates(("conv", "conv1x1"), ("pool",), memory=True)
    programs = [
        [
            work("conv", macs=int(rng.integers(1e6, 1e8))),
            work("conv1x1", macs=int(rng.integers(1e6, 1e8)), moved=int(rng.integers(1e5, 1e7))),
            work("pool", elements=int(rng.integers(1e4, 1e6)), moved=int(rng.integers(1e5, 1e7))),
        ]
        for _ in range(200)
    ]
    ms = np.asarray([predicted_ms(p, truth) for p in programs])
    ms[::3] *= rng.uniform(1.0, 2.0, len(ms[::3]))
    found = rates.table("", fit(programs, ms.tolist(), rates))
    assert found.gmacs_per_s == pytest.approx(dict(truth.gmacs_per_s), rel=0.02)
    assert found.melements_per_s == pytest.approx(dict(truth.melements_per_s), rel=0.1)
    assert found.gbytes_per_s == pytest.approx(4.0, rel=0.05)


def test_what_takes_no_time_has_no_rate() -> None:
    programs = [[work("conv", macs=m), work("pool", elements=e)] for m, e in ((1, 5), (2, 1))]
    rates = Rates(("conv",), ("pool",))
    found = rates.table("", fit(programs, [1e-6, 2e-6], rates))
    assert found.gmacs_per_s["conv"] == pytest.approx(1.0)
    assert found.seconds(work("pool", elements=7))["elements"] < 1e-12


def test_the_halves_are_disjoint_and_whole() -> None:
    first, second = (range(7)[part] for part in halves(7))
    assert sorted([*first, *second]) == list(range(7))


def test_a_table_serves_what_it_names_first() -> None:
    fast = Work("x", ("winograd", "conv"), 9, 1, 0, 0)
    assert tables()["kernels"].kind(fast) == "winograd"
    assert tables()["networks"].kind(fast) == "conv"
    assert math.isinf(tables()["networks"].gbytes_per_s)


@needs_shared_data
def test_the_shows_hold_on_the_measurements_of_others() -> None:
    done = report(Options([], Silent(), data=str(SHARED / "board_latency")))
    assert done.holds and len(done.shows) == 6
    assert {show.name.split(":")[0] for show in done.shows} >= {"1000 networks held back"}


def test_without_data_it_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(CallerError, match="--data"):
        report(Options([], Silent()))
    with pytest.raises(DataError, match="--data names the folder"):
        report(Options([], Silent(), data=str(tmp_path)))

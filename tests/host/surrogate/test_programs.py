"""Latency from kernel tables: ranks what it was not told, and knows where it knows nothing."""

from __future__ import annotations

import numpy as np

from host.dataset.spaces import Row
from host.stats import spearman
from host.surrogate.programs import LEAST_PROGRAMS, ProgramModel


def programs(count: int, seed: int) -> tuple[list[tuple[Row, ...]], list[float]]:
    rng = np.random.default_rng(seed)
    rows, ms = [], []
    for _ in range(count):
        macs, moved = 10 ** rng.uniform(4, 8), 10 ** rng.uniform(3, 6)
        kind = str(rng.choice(["conv_fp32", "int8_conv"]))
        rows.append((Row("x", kind, int(macs), 0, int(moved), 0, 0, 32, 32),))
        ms.append(macs / (7e6 if kind == "conv_fp32" else 14e6) + moved / 5e6 + 0.002)
    return rows, ms


def test_programs_that_were_not_told_are_ranked() -> None:
    model = ProgramModel()
    model.fit(*programs(200, 1))
    rows, ms = programs(100, 2)
    forecast = model(rows)
    assert spearman(forecast.ms, ms) > 0.97
    assert np.median(np.abs(forecast.ms / ms - 1)) < 0.2


def test_far_from_all_that_was_told_it_is_less_sure() -> None:
    rows, ms = programs(200, 1)
    model = ProgramModel()
    model.fit(rows[:150], ms[:150])
    near = model(rows[:150]).spread.mean()
    assert model(rows[150:]).spread.mean() > 1.5 * near


def test_a_handful_teaches_nothing() -> None:
    model = ProgramModel()
    model.fit(*programs(LEAST_PROGRAMS - 1, 1))
    assert not model.ready


def test_the_same_seed_forecasts_the_same() -> None:
    rows, ms = programs(50, 3)
    models = [ProgramModel(7), ProgramModel(7)]
    for model in models:
        model.fit(rows, ms)
    assert (models[0](rows).ms == models[1](rows).ms).all()

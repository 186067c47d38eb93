"""The simulated board asked directly says what it says behind its agent, without the noise."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil_lab.inventory import served
from hil_lab.simboard.board import sim_machine
from hil_lab.simboard.direct import DirectMeter
from host.boards.protocol import SEARCH
from host.graph import trace_unpruned
from host.lower.build import Builder
from host.lower.targets import TARGETS, refusal
from host.models import make_network
from host.policy import Space, uniform_int8

SHAPE = (1, 8, 8)


def test_it_agrees_with_the_board_behind_the_agent(tmp_path: Path) -> None:
    network = make_network("digits-cnn", classes=10, input_shape=SHAPE, seed=0).eval()
    graph = trace_unpruned(network, "digits-cnn", SHAPE, 10)
    policy = uniform_int8(Space(graph, refusal))
    builder = Builder(graph, TARGETS["cortex-a72"](), source=network)
    figures = DirectMeter(builder).figures(network, policy)
    artifact = builder.build(network, policy, tmp_path / "artifact")
    with served(sim_machine("sim")) as client, client.lease("me") as session:
        measurement = session.measure(artifact, SEARCH, synthetic_weights=True)
    assert figures.latency_ms.value == pytest.approx(measurement.latency_ms.median, rel=0.02)
    assert figures.size_bytes == artifact.size_bytes
    assert measurement.energy_mj is not None
    assert figures.energy_mj is not None
    assert figures.energy_mj.value == pytest.approx(measurement.energy_mj, rel=0.05)


def test_a_profile_adds_up_to_the_whole() -> None:
    network = make_network("digits-cnn", classes=10, input_shape=SHAPE, seed=0).eval()
    graph = trace_unpruned(network, "digits-cnn", SHAPE, 10)
    policy = uniform_int8(Space(graph, refusal))
    meter = DirectMeter(Builder(graph, TARGETS["cortex-a72"](), source=network))
    whole = meter.figures(network, policy).latency_ms.value
    assert sum(ms for _, ms in meter.profile(network, policy)) == pytest.approx(whole)

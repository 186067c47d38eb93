"""The simulated board: the model's shape, determinism, virtual time, heat and faults."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from hil_lab.inventory import open_board, served
from hil_lab.simboard import cost
from hil_lab.simboard.board import SimSettings, sim_machine
from hil_lab.simboard.power import watts
from hil_lab.simboard.thermal import Physics
from host.artifact import Artifact
from host.boards.protocol import QUICK, REPORT, SEARCH
from host.boards.session import BoardSession
from host.errors import ArtifactRejected, BoardBusy, MeasurementFailed
from host.lower.cycles import compute_cycles
from tests.contracts.support import ARCH, ROW, plain_artifact

GHZ = 1e9


@contextmanager
def session(settings: SimSettings | None = None) -> Iterator[BoardSession]:
    with served(sim_machine("sim", settings)) as client, client.lease("me") as session:
        yield session


@pytest.fixture
def artifact(library: bytes, tmp_path: Path) -> Artifact:
    return plain_artifact(tmp_path / "artifact", library)


def kernel(kind: str, **more: object) -> dict[str, object]:
    return {**ROW, "kind": kind, "call": kind, "macs": 10_000_000, **more}


def seconds(*rows: dict[str, object], threads: int = 1) -> float:
    manifest = {"kernels": list(rows), "threads": threads}
    return sum(c.seconds for c in cost.program_costs(manifest, 1.5 * GHZ))


class TestModel:
    def test_families_keep_their_order(self) -> None:
        fp32, int8 = seconds(kernel("conv_fp32")), seconds(kernel("int8_conv"))
        bits = {n: seconds(kernel("bit_gemm", weight_bits=n, act_bits=n)) for n in (1, 2, 3, 4)}
        assert fp32 / int8 == pytest.approx(2.0, rel=0.05)
        assert bits[1] < bits[2] < int8 < bits[4] < fp32

    def test_bit_serial_meets_the_static_estimates(self) -> None:
        def macs_per_cycle(bits: int) -> float:
            row = kernel("bit_gemm", weight_bits=bits, act_bits=bits)
            return 1e7 / compute_cycles(row)

        assert macs_per_cycle(1) == pytest.approx(62, rel=0.02)
        assert 15.8 <= macs_per_cycle(2) <= 21.3
        assert macs_per_cycle(3) == pytest.approx(9.45, rel=0.02)

    def test_weights_beyond_the_cache_cost_memory_bandwidth(self) -> None:
        dense = kernel("dense_fp32", macs=1_000_000, weight_bytes=4_000_000)
        assert seconds(dense) == pytest.approx(4_000_000 / 4.8e9, rel=0.05)

    def test_threads_help_arithmetic_but_not_memory(self) -> None:
        conv = kernel("conv_fp32")
        assert 3 < seconds(conv) / seconds(conv, threads=4) < 4
        dense = kernel("dense_fp32", macs=1_000, weight_bytes=4_000_000)
        assert seconds(dense) == pytest.approx(seconds(dense, threads=4), rel=0.05)

    def test_an_empty_kernel_costs_its_call(self) -> None:
        row = {**ROW, "kind": "layout", "call": "x", "bytes_read": 0, "bytes_written": 0}
        assert seconds(row) == cost.CALL_OVERHEAD_S


class TestDeterminism:
    def test_same_seed_same_numbers_whatever_was_measured_before(
        self, artifact: Artifact, library: bytes, tmp_path: Path
    ) -> None:
        other = plain_artifact(tmp_path / "b", library, structure="other")
        with session() as s:
            alone = s.measure(artifact, SEARCH)
        with session() as s:
            s.measure(other, REPORT)
            after = s.measure(artifact, SEARCH)
            again = s.measure(artifact, SEARCH)
        assert alone == after == again

    def test_another_seed_or_program_gives_other_noise(
        self, artifact: Artifact, library: bytes, tmp_path: Path
    ) -> None:
        other = plain_artifact(tmp_path / "b", library, structure="other")
        with session() as s:
            first, second = s.measure(artifact, QUICK), s.measure(other, QUICK)
        with session(SimSettings(seed=1)) as s:
            third = s.measure(artifact, QUICK)
        assert len({first.samples_ns, second.samples_ns, third.samples_ns}) == 3
        assert first.latency_ms.median == pytest.approx(third.latency_ms.median, rel=0.01)

    def test_blocks_of_a_report_differ_and_agree(self, artifact: Artifact) -> None:
        with session() as s:
            measured = s.measure(artifact, replace(REPORT, seconds=1.0))
        assert len({block.samples_ns for block in measured.blocks}) == 5
        assert measured.verdict == "trusted"

    def test_a_search_measurement_takes_next_to_no_real_time(
        self, library: bytes, tmp_path: Path
    ) -> None:
        rows = [kernel("conv_fp32", layer="layer")] * 2
        artifact = plain_artifact(tmp_path / "b", library)
        artifact = Artifact(artifact.root, {**artifact.manifest, "kernels": rows})
        with session() as s:
            s.measure(artifact, SEARCH)
            start = time.perf_counter()
            measured = s.measure(artifact, SEARCH)
            elapsed_s = time.perf_counter() - start
        assert sum(measured.samples_ns) > 1e9
        assert elapsed_s < 0.2  # 20 ms on a quiet machine


class TestPhysics:
    def test_power_lies_between_idle_and_full_load(self) -> None:
        assert (watts(0), watts(4), watts(9)) == (2.3, 6.0, 6.0)

    def test_energy_is_the_power_of_one_core_over_the_window(self, artifact: Artifact) -> None:
        with session() as s:
            energy = s.measure(artifact, SEARCH).energy
        assert energy and energy.active_j / energy.active_s == pytest.approx(watts(1), rel=0.01)

    def test_load_heats_and_heat_throttles(self) -> None:
        physics = Physics(1800.0, ambient_c=50.0)
        cool_mhz = physics.clock_mhz()
        for _ in range(6000):
            physics.advance(100_000_000, 4)
        assert cool_mhz == 1800.0 and physics.clock_mhz() == 1000.0
        assert physics.present_bits() == 4 and physics.sticky_bits == 4 << 16
        physics.rest()
        assert physics.clock_mhz() == 1800.0


class TestFaults:
    @pytest.mark.parametrize("fault", ["crash", "hang", "memory"])
    def test_a_failing_program_leaves_with_its_reason(self, artifact: Artifact, fault: str) -> None:
        with session(SimSettings(fault=fault)) as s, pytest.raises(MeasurementFailed) as caught:
            s.measure(artifact, SEARCH)
        assert caught.value.reason == fault

    def test_a_hot_board_measures_slower_and_the_number_is_invalid(
        self, artifact: Artifact
    ) -> None:
        with session() as s:
            cool = s.measure(artifact, SEARCH)
        with session(SimSettings(fault="throttle")) as s:
            hot = s.measure(artifact, SEARCH)
        assert hot.verdict == "invalid" and "throttled" in hot.reasons
        assert hot.latency_ms.median > cool.latency_ms.median

    def test_a_governor_that_lies_is_found_out(self, artifact: Artifact) -> None:
        with session(SimSettings(fault="lying-governor")) as s:
            lied = s.measure(artifact, SEARCH)
        assert lied.verdict == "invalid"
        assert lied.reasons[0].startswith("the clock runs at 1500 MHz instead of 1800")
        assert lied.blocks[0].start and lied.blocks[0].start.clock_mhz == 1800.0
        assert any(note.startswith("gate: the clock") for note in lied.flags)

    def test_throttling_without_a_bit_shows_in_the_samples(self, artifact: Artifact) -> None:
        with session(SimSettings(fault="silent-throttle")) as s:
            hushed = s.measure(artifact, replace(SEARCH, seconds=2.0))
        assert hushed.blocks[0].throttle_seen == 0
        assert hushed.verdict == "invalid"
        assert any("moved by 5 %" in reason for reason in hushed.reasons)

    def test_a_board_that_drifts_is_slower_from_its_sixth_measurement_on(
        self, artifact: Artifact
    ) -> None:
        with session(SimSettings(fault="drift")) as s:
            medians = [s.measure(artifact, QUICK).latency_ms.median for _ in range(7)]
        assert len(set(medians[:5])) == 1
        assert medians[5] == medians[6] == pytest.approx(1.03 * medians[0], rel=1e-3)

    def test_lost_readings_make_the_energy_suspect_and_the_time_not(
        self, artifact: Artifact
    ) -> None:
        with session() as s:
            whole = s.measure(artifact, REPORT)
        with session(SimSettings(fault="lost-readings")) as s:
            holed = s.measure(artifact, REPORT)
        assert (whole.verdict, whole.energy_verdict) == ("trusted", ("trusted", ()))
        assert holed.verdict == "trusted"
        assert holed.energy_verdict and holed.energy_verdict[0] == "suspect"
        assert "lost" in holed.energy_verdict[1][0]

    def test_a_brown_out_invalidates_and_quarantines(self, artifact: Artifact) -> None:
        with served(sim_machine("sim", SimSettings(fault="brown-out"))) as client:
            with client.lease("me") as s:
                measured = s.measure(artifact, SEARCH)
            assert measured.verdict == "invalid" and "under-voltage" in measured.reasons
            with pytest.raises(BoardBusy, match="quarantined"), client.lease("me"):
                pass


def test_numbers_of_another_machine_need_an_emulator(
    library: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HIL_ARM64_ROOT", str(tmp_path / "none"))
    foreign = plain_artifact(tmp_path / "b", library, arch="aarch64")
    if ARCH == "aarch64":
        pytest.skip("this machine runs aarch64")
    with open_board("sim:rpi4") as client, client.lease("me") as s:
        assert s.measure(foreign, QUICK).verdict == "trusted"
        with pytest.raises(ArtifactRejected, match="need qemu-aarch64"):
            s.verify(foreign)


class TestUnits:
    def test_boards_of_a_rack_differ_by_a_little_and_by_their_number_alone(
        self, artifact: Artifact
    ) -> None:
        medians = []
        for unit in (1, 2, 3, 2):
            with session(SimSettings(unit=unit)) as board:
                medians.append(board.measure(artifact, QUICK).latency_ms.median)
        first, second, third, again = medians
        assert second == again
        assert len({first, second, third}) == 3
        for other in (second, third):
            assert 0.001 < abs(other / first - 1) < 0.04

    def test_profiles_differ_by_the_same_factor(self, artifact: Artifact) -> None:
        totals, latencies = [], []
        for unit in (1, 2):
            with session(SimSettings(unit=unit)) as board:
                profile = board.profile(artifact)
                totals.append(sum(kernel.median_us for kernel in profile.kernels))
                latencies.append(board.measure(artifact, SEARCH).latency_ms.median)
        ratio = latencies[1] / latencies[0]
        assert totals[1] / totals[0] == pytest.approx(ratio, rel=0.005)

    def test_the_number_is_part_of_the_fingerprint_but_for_the_first(self) -> None:
        prints = []
        for unit in (1, 2):
            with session(SimSettings(unit=unit)) as board:
                prints.append(dict(board.info.fingerprint))
        assert "unit" not in prints[0]
        assert prints[1] == {**prints[0], "unit": "2"}

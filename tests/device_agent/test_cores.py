"""Which cores programs and the daemon get."""

from __future__ import annotations

from pathlib import Path

import pytest

from device_agent.cores import Cores, numbers


@pytest.mark.parametrize(
    ("text", "cores"),
    [("", ()), ("3\n", (3,)), ("2-3\n", (2, 3)), ("1,4-6", (1, 4, 5, 6))],
)
def test_the_kernels_lists_are_read(text: str, cores: tuple[int, ...]) -> None:
    assert numbers(text) == cores


def test_programs_get_the_last_cores_and_the_daemon_the_first(tmp_path: Path) -> None:
    cores = Cores.of_machine(tmp_path, allowed=(3, 1, 0, 2))
    assert cores.daemon == (0,)
    assert [cores.program(threads) for threads in (1, 2, 4, 9)] == [
        (3,), (2, 3), (0, 1, 2, 3), (0, 1, 2, 3),
    ]  # fmt: skip


def test_one_thread_gets_an_isolated_core_and_several_threads_do_not(tmp_path: Path) -> None:
    isolated = tmp_path / "sys/devices/system/cpu/isolated"
    isolated.parent.mkdir(parents=True)
    isolated.write_text("2\n")  # the scheduler may use the others
    cores = Cores.of_machine(tmp_path, allowed=(0, 1, 3))
    assert cores.program(1) == (2,)
    assert cores.program(2) == (1, 3)

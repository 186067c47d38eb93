"""What a benchmark says of the machine that it ran on."""

from __future__ import annotations

from pathlib import Path

from hil_lab.bench.machine import describe

CPUINFO = """processor\t: 0
model name\t: A fast one
flags\t\t: fpu avx2 fma avx512f avx512_vnni

processor\t: 1
model name\t: Another
flags\t\t: fpu
"""


def test_the_first_core_speaks_for_all(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(CPUINFO)
    machine = describe(tmp_path)
    assert machine["cpu"] == "A fast one"
    assert machine["flags"] == ["avx2", "fma", "avx512f", "avx512_vnni"]
    assert machine["cores"] >= 1
    assert len(machine["load"]) == 3
    assert machine["versions"]["numpy"]


def test_what_cannot_be_known_is_none(tmp_path: Path) -> None:
    assert describe(tmp_path)["cpu"] is None
    assert describe(tmp_path)["flags"] == []

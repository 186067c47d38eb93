"""What a power cut leaves of small files: synced before they get their name."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from device_agent.durable import write_durably
from device_agent.leases import Leases


def synced(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Return what is synced from now on, as (inode, bytes)."""
    found: list[tuple[int, int]] = []

    def fsync(file: int) -> None:
        about = os.fstat(file)
        found.append((about.st_ino, about.st_size))

    monkeypatch.setattr(os, "fsync", fsync)
    return found


def test_a_file_is_synced_whole_before_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = synced(monkeypatch)
    write_durably(tmp_path / "key", b"secret", mode=0o600)
    about = (tmp_path / "key").stat()
    assert (about.st_ino, 6) in found
    assert stat.S_IMODE(about.st_mode) == 0o600
    assert tmp_path.stat().st_ino in [inode for inode, _ in found]
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_the_fence_outlives_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = synced(monkeypatch)
    fence = tmp_path / "fence"
    lease = Leases(fence).acquire("me", 5, "n")
    assert (fence.stat().st_ino, len(fence.read_text())) in found
    assert Leases(fence).acquire("me", 5, "n").fence == lease.fence + 1

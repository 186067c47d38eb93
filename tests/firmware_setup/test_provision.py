"""Provisioning against this machine's own tools, faked where they would change it."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from firmware_setup import provision, units
from firmware_setup.bundle import Bundle
from firmware_setup.provision import Provisioner
from firmware_setup.remote import Done, Here, ProvisionError
from firmware_setup.wanted import Choices, Credentials
from host.errors import BoardUnreachable

BOOT = "[all]\narm_64bit=1\n"
CREDENTIALS = Credentials(b"certificate", b"key", b"authority", b"revoked")
# What units are asked for, and how systemd answers once they were started.
SYSTEMCTL = """#!/bin/sh
echo "$@" >> {log}
case "$1" in
is-active) grep -q "restart $2" {log} && echo active || { echo inactive; exit 3; } ;;
is-enabled) grep -q "^enable $2" {log} && echo enabled || echo disabled ;;
--version) echo systemd 252 ;;
esac
"""


def small_bundle() -> Bundle:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        info = tarfile.TarInfo("site/package.py")
        info.size = 3
        tar.addfile(info, io.BytesIO(b"x=1"))
    data = gzip.compress(raw.getvalue(), mtime=0)
    return Bundle(hashlib.sha256(data).hexdigest(), data)


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Here]:
    """A board's file system in a folder, with a systemctl that only remembers."""
    root, tools = tmp_path / "board", tmp_path / "tools"
    for folder in ("boot/firmware", "etc/systemd/system", "etc/sysctl.d", "opt", "var/lib"):
        (root / folder).mkdir(parents=True)
    (root / "etc/os-release").write_text('PRETTY_NAME="Debian GNU/Linux 12"\n')
    (root / "boot/firmware/config.txt").write_text(BOOT)
    tools.mkdir()
    fakes = {"systemctl": SYSTEMCTL.replace("{log}", str(tmp_path / "log"))}
    fakes |= {name: "#!/bin/sh\nexit 0\n" for name in ("useradd", "usermod", "userdel", "sysctl")}
    for name, text in fakes.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    (tmp_path / "log").touch()
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    # Nobody of that name is here.
    monkeypatch.setattr(units, "USER", "root")
    monkeypatch.setattr(units, "GROUPS", ())
    monkeypatch.setattr(provision, "bundle", lambda *_: small_bundle())
    yield Here(root)


@pytest.fixture
def provisioner(board: Here, tmp_path: Path) -> Provisioner:
    return Provisioner(board, Choices("pi4-01"), tmp_path / "cache", CREDENTIALS)


def tree(root: Path) -> dict[str, bytes | None]:
    """Everything below a folder: content, None of folders; a link is what it says."""
    return {
        str(p.relative_to(root)): (
            os.readlink(p).encode() if p.is_symlink() else None if p.is_dir() else p.read_bytes()
        )
        for p in sorted(root.rglob("*"))
    }


def test_a_fresh_board_becomes_ours_and_is_then_left_alone(
    provisioner: Provisioner, board: Here, tmp_path: Path
) -> None:
    assert provisioner.apply()
    unit = (board.folder / "etc/systemd/system" / units.AGENT_UNIT).read_text()
    assert "--name pi4-01" in unit and "Type=notify" in unit and "WatchdogSec" in unit
    assert (board.folder / "opt/hil-lab/current/site/package.py").read_text() == "x=1"
    before, log = tree(board.folder), (tmp_path / "log").read_text()
    assert provisioner.check() == [] and provisioner.apply() == []
    assert tree(board.folder) == before
    assert "restart" not in (tmp_path / "log").read_text().replace(log, "", 1)


def test_check_says_what_differs_and_changes_nothing(provisioner: Provisioner, board: Here) -> None:
    before = tree(board.folder)
    found = {d.what: d.how for d in provisioner.check()}
    assert found["/etc/hil-lab/agent.crt"] == "missing"
    assert found["/boot/firmware/config.txt"] == "differs"
    assert found[units.AGENT_UNIT] == "inactive"
    assert tree(board.folder) == before


def test_undo_restores_every_file(provisioner: Provisioner, board: Here) -> None:
    before = tree(board.folder)
    provisioner.apply()
    config = (board.folder / "boot/firmware/config.txt").read_text()
    assert config.startswith(BOOT) and "dtparam=i2c_arm=on" in config
    undone = provisioner.undo()
    assert "restored /boot/firmware/config.txt" in undone
    assert tree(board.folder) == before
    assert provisioner.undo() == []


def test_one_changed_file_is_mended_alone(provisioner: Provisioner, board: Here) -> None:
    provisioner.apply()
    (board.folder / "etc/hil-lab/revoked.txt").write_text("somebody else")
    assert [(d.what, d.how) for d in provisioner.apply()] == [
        ("/etc/hil-lab/revoked.txt", "differs")
    ]
    assert (board.folder / "etc/hil-lab/revoked.txt").read_bytes() == b"revoked"


def test_without_credentials_those_on_the_board_stay(provisioner: Provisioner, board: Here) -> None:
    provisioner.apply()
    later = replace(
        provisioner, credentials=None, choices=Choices("pi4-01", meters=("ina226@0x40",))
    )
    assert [d.what for d in later.apply()] == ["/etc/hil-lab/tune.sh"]
    assert (board.folder / "etc/hil-lab/agent.key").read_bytes() == b"key"
    assert "ina226@0x40" in (board.folder / "etc/hil-lab/tune.sh").read_text()


@pytest.mark.parametrize("lost_at", range(1, 9))
def test_a_connection_that_is_lost_anywhere_is_gone_on_from(
    provisioner: Provisioner, board: Here, lost_at: int
) -> None:
    class Lossy(Here):
        calls = 0

        def run(self, command: str, stdin: bytes) -> Done:
            Lossy.calls += 1
            done = super().run(command, stdin)
            if Lossy.calls == lost_at:
                raise BoardUnreachable("the connection was lost")
            return done

    before = tree(board.folder)
    lossy = replace(provisioner, remote=Lossy(board.folder))
    with pytest.raises(BoardUnreachable):
        for _ in range(3):
            lossy.apply()
    provisioner.apply()
    assert provisioner.check() == []
    provisioner.undo()
    assert tree(board.folder) == before


@pytest.mark.parametrize(
    ("tool", "text", "said"),
    [
        ("uname", "echo armv7l", "64-bit one"),
        ("python3", "echo 3.9", "needs 3.11"),
        ("systemctl", "exit 1", "no systemd"),
        ("df", "echo Avail; echo 1000", "are needed"),
    ],
)
def test_a_board_that_cannot_be_ours_says_why(
    provisioner: Provisioner, board: Here, tmp_path: Path, tool: str, text: str, said: str
) -> None:
    path = tmp_path / "tools" / tool
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    before = tree(board.folder)
    with pytest.raises(ProvisionError, match=said):
        provisioner.apply()
    assert tree(board.folder) == before


def test_our_block_of_the_firmware_config_is_replaced_not_repeated() -> None:
    once = units.boot_block(BOOT)
    assert units.boot_block(once) == once
    assert units.without_block(once) == BOOT


def test_boot_tuning_sets_clock_interrupts_and_lights_and_undoes_them(tmp_path: Path) -> None:
    files = {
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_min_freq": "600000\n",
        "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": "1800000\n",
        "proc/irq/default_smp_affinity": "f\n",
        "proc/irq/31/smp_affinity": "f\n",
        "sys/class/leds/ACT/trigger": "none timer [mmc0] default-on\n",
        "sys/class/leds/ACT/brightness": "255\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    script = units.tune_script()
    for folder in ("/sys/", "/proc/", "/run/"):
        script = script.replace(folder, f"{tmp_path}{folder}")

    def run(action: str) -> dict[str, str]:
        subprocess.run(["sh", "-c", script, "tune.sh", action], check=True)
        return {name: (tmp_path / name).read_text().strip() for name in files}

    for _ in range(2):  # started twice it still knows how things were
        assert list(run("start").values()) == [
            "performance", "1800000", "1800000", "1", "1", "none", "0",
        ]  # fmt: skip
    assert list(run("stop").values()) == [
        "ondemand", "600000", "1800000", "f", "f", "mmc0", "255",
    ]  # fmt: skip
    assert not (tmp_path / "run/hil-lab-tune").exists()


def test_random_addresses_are_given_up_by_choice_alone() -> None:
    usual = units.agent_unit("pi4-01", "rpi4", "0.0.0.0:7010")
    assert "--require-sandbox --pin --tls-cert" in usual and "LockPersonality=yes" in usual
    fixed = units.agent_unit("pi4-01", "rpi4", "0.0.0.0:7010", aslr=False)
    assert "--pin --no-aslr --tls-cert" in fixed and "LockPersonality=no" in fixed

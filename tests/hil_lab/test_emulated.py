"""The emulated machine as far as it goes without an emulator: how it is started and let in."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from hil_lab import emulated
from hil_lab.emulated import FILES, HOST_KEY, KEY, Machine, lacking


@pytest.fixture
def image(tmp_path: Path) -> Path:
    folder = tmp_path / "image"
    folder.mkdir()
    for name in FILES:
        (folder / name).write_text(f"{name} of a test\n")
    (folder / HOST_KEY).write_text("ssh-ed25519 AAAAC3Nz root@emulated\n")
    return folder


@pytest.fixture
def machine(image: Path, tmp_path: Path) -> Machine:
    return Machine(image, tmp_path, ssh_port=2022, agent_port=7777)


def test_the_network_reaches_it_through_loopback_alone(machine: Machine) -> None:
    (forward,) = (part for part in machine.command if "hostfwd" in part)
    rules = [rule for rule in forward.split(",") if rule.startswith("hostfwd")]
    assert rules == ["hostfwd=tcp:127.0.0.1:2022-:22", "hostfwd=tcp:127.0.0.1:7777-:7010"]


def test_the_disk_is_an_overlay_and_the_image_is_only_read(machine: Machine) -> None:
    command = machine.command
    assert f"file={machine.scratch / 'disk.qcow2'},if=virtio" in command
    assert not any(str(machine.image / "disk.qcow2") in part for part in command)


def test_the_key_is_copied_to_where_nobody_else_may_read_it(machine: Machine) -> None:
    assert machine.key == machine.scratch / KEY
    assert machine.key.stat().st_mode & 0o777 == 0o600


def test_the_host_key_is_given_as_its_fingerprint(machine: Machine) -> None:
    assert machine.fingerprint.startswith("SHA256:") and "=" not in machine.fingerprint


def test_an_image_that_lacks_a_file_says_so_and_who_makes_it(image: Path) -> None:
    (image / KEY).unlink()
    assert lacking(image) == f"{image} has no {KEY}: .ci/arm64-image {image} makes it"


def test_an_emulator_that_is_not_there_is_named(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emulated.shutil, "which", lambda program: None)
    assert lacking(image).startswith("qemu-system-aarch64 is not installed")
    monkeypatch.setattr(emulated.shutil, "which", lambda program: f"/usr/bin/{program}")
    assert lacking(image) == ""


def test_a_machine_that_never_started_has_no_power(machine: Machine) -> None:
    assert not machine.runs
    machine.power_cut()
    machine.thaw()


def test_the_reset_button_is_pressed_over_the_monitor(machine: Machine) -> None:
    asked: list[str] = []
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(machine.scratch / "qmp"))
    server.listen(1)

    def monitor() -> None:
        connection, _ = server.accept()
        with connection, connection.makefile("rw") as wire:
            wire.write('{"QMP": {}}\n')
            wire.flush()
            for _ in range(2):
                asked.append(wire.readline())
                wire.write('{"return": {}}\n')
                wire.flush()

    thread = threading.Thread(target=monitor)
    thread.start()
    machine.reset()
    thread.join()
    server.close()
    assert asked == ['{"execute": "qmp_capabilities"}\n', '{"execute": "system_reset"}\n']

"""Switches: what each kind does to the world, with the world replaced at the library's edge."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from host.errors import CallerError, RecipeError, SupplyError
from host.supply import KINDS, Supply, supply_from

TABLES: dict[str, dict[str, Any]] = {
    "command": {"on": "true", "off": "true"},
    "gpio": {"line": 17},
    "mqtt": {"broker": "broker.lab", "topic": "cmnd/pi4-01/POWER"},
    "labgrid": {"place": "pi4-01"},
}


def supply(kind: str, **more: Any) -> Supply:
    return supply_from({"kind": kind, **TABLES[kind], **more}, "boards.toml: boards.pi4-01.supply")


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_kind_refuses_what_it_does_not_know(kind: str) -> None:
    with pytest.raises(RecipeError, match=r"pi4-01\.supply\.volts: unknown key"):
        supply(kind, volts=5)
    with pytest.raises(RecipeError, match=r"must be given"):
        supply_from({"kind": kind}, "supply")


def test_an_unknown_kind_gets_a_hint() -> None:
    with pytest.raises(RecipeError, match='did you mean "command"'):
        supply_from({"kind": "comand"}, "supply")


def test_a_cycle_is_off_a_pause_and_on(tmp_path: Path) -> None:
    log = tmp_path / "log"
    commands = {word: f"sh -c 'echo {word} >> {log}'" for word in ("on", "off")}
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        log.write_text(log.read_text() + "pause\n")

    supply("command", **commands).cycle(sleep, off_s=3.0)
    assert log.read_text().split() == ["off", "pause", "on"]
    assert pauses == [3.0]


def test_a_command_that_fails_says_what_it_said() -> None:
    with pytest.raises(SupplyError, match="exit status 3 no such hub"):
        supply("command", on="sh -c 'echo no such hub >&2; exit 3'").on()
    with pytest.raises(SupplyError, match="absent-command"):
        supply("command", off="absent-command").off()


def test_labgrid_is_asked_by_its_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = tmp_path / "labgrid-client"
    client.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    client.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    supply("labgrid").off()
    supply("labgrid", coordinator="lab:20408").on()
    assert (tmp_path / "asked").read_text().splitlines() == [
        "-p pi4-01 power off",
        "-x lab:20408 -p pi4-01 power on",
    ]


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Messages to any broker; the broker `gone` refuses."""
    found: list[dict[str, Any]] = []

    def single(topic: str, message: str, **more: Any) -> None:
        if more["hostname"] == "gone":
            raise ConnectionRefusedError(111, "Connection refused")
        found.append({"topic": topic, "message": message, **more})

    publish = ModuleType("paho.mqtt.publish")
    publish.single = single  # type: ignore[attr-defined]
    for name, module in (("paho", None), ("paho.mqtt", None), ("paho.mqtt.publish", publish)):
        monkeypatch.setitem(sys.modules, name, module or ModuleType(name))
    return found


def test_a_plug_gets_its_messages(
    published: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLUG", "secret")
    supply("mqtt", broker="broker.lab:8883", user="lab", password_env="PLUG", tls=True).off()
    supply("mqtt").on()
    first, second = published
    assert (first["message"], first["port"], first["tls"]) == ("OFF", 8883, {})
    assert first["auth"] == {"username": "lab", "password": "secret"}
    assert (second["message"], second["port"], second["auth"]) == ("ON", 1883, None)
    assert second["topic"] == "cmnd/pi4-01/POWER" and second["qos"] == 1


def test_a_broker_that_is_gone_and_a_password_that_is_missing(
    published: list[dict[str, Any]],
) -> None:
    with pytest.raises(SupplyError, match=r"broker gone.*Connection refused"):
        supply("mqtt", broker="gone").on()
    with pytest.raises(CallerError, match="NOWHERE holds no password"):
        supply("mqtt", user="lab", password_env="NOWHERE").on()


def test_a_missing_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gpiod", None)
    with pytest.raises(CallerError, match="pip install gpiod"):
        supply("gpio").on()


def test_a_line_is_driven_and_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    driven: list[tuple[str, int, str, bool]] = []
    line = SimpleNamespace(
        Value=SimpleNamespace(ACTIVE="active", INACTIVE="inactive"),
        Direction=SimpleNamespace(OUTPUT="output"),
    )

    def request_lines(chip: str, consumer: str, config: dict[int, Any]) -> Any:
        if chip != "/dev/gpiochip0":
            raise FileNotFoundError(2, "No such file or directory")
        ((number, s),) = config.items()
        driven.append((s.direction, number, s.output_value, s.active_low))
        return SimpleNamespace(release=lambda: driven.append(("released", number, "", False)))

    gpiod = ModuleType("gpiod")
    gpiod.line, gpiod.request_lines = line, request_lines  # type: ignore[attr-defined]
    gpiod.LineSettings = SimpleNamespace  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "gpiod", gpiod)
    supply("gpio").on()
    supply("gpio", active_low=True).off()
    assert driven == [
        ("output", 17, "active", False),
        ("released", 17, "", False),
        ("output", 17, "inactive", True),
        ("released", 17, "", False),
    ]
    with pytest.raises(SupplyError, match="gpiochip9, line 17: No such file"):
        supply("gpio", chip="/dev/gpiochip9").on()

"""Power of a place of labgrid, by its own client, which knows some thirty kinds of switches."""

from __future__ import annotations

from dataclasses import dataclass

from host.supply.command import run


@dataclass(frozen=True, slots=True)
class Settings:
    """A place, and the coordinator where it is not the client's own default (host:port)."""

    place: str
    coordinator: str = ""


def on(settings: Settings) -> None:
    """Switch the place on."""
    run([*_client(settings), "on"])


def off(settings: Settings) -> None:
    """Switch the place off."""
    run([*_client(settings), "off"])


def _client(settings: Settings) -> list[str]:
    at = ["-x", settings.coordinator] if settings.coordinator else []
    return ["labgrid-client", *at, "-p", settings.place, "power"]

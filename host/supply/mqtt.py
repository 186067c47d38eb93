"""Power by a message to a broker: Tasmota plugs and whatever else listens; needs paho-mqtt."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from host.errors import CallerError, SupplyError
from host.supply import extra

PORT, QOS = 1883, 1


@dataclass(frozen=True, slots=True)
class Settings:
    """A broker (host or host:port), a topic, and the two messages.

    `password_env` names the variable that holds the password: it is no matter for an inventory.
    """

    broker: str
    topic: str
    on: str = "ON"
    off: str = "OFF"
    user: str = ""
    password_env: str = ""
    tls: bool = False


def on(settings: Settings) -> None:
    """Publish the message that switches on."""
    _publish(settings, settings.on)


def off(settings: Settings) -> None:
    """Publish the message that switches off."""
    _publish(settings, settings.off)


def _publish(settings: Settings, message: str) -> None:
    publish = extra("paho.mqtt.publish", "paho-mqtt")
    host, _, port = settings.broker.partition(":")
    auth = _auth(settings)
    try:
        publish.single(
            settings.topic,
            message,
            qos=QOS,
            hostname=host,
            port=int(port or PORT),
            auth=auth,
            tls={} if settings.tls else None,
        )
    except (OSError, ValueError) as e:
        raise SupplyError(f"broker {settings.broker}, topic {settings.topic}: {e}") from e


def _auth(settings: Settings) -> dict[str, Any] | None:
    if not settings.user:
        return None
    password = os.environ.get(settings.password_env) if settings.password_env else None
    if settings.password_env and password is None:
        raise CallerError(f"supply: the variable {settings.password_env} holds no password")
    return {"username": settings.user, "password": password}

"""Tells systemd that the agent serves and lives; silent where no service manager listens.

The protocol of sd_notify(3): datagrams to the socket that NOTIFY_SOCKET names.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

MICROSECONDS = 1_000_000
ANSWER_S = 5.0
# Where an agent that listens everywhere hears itself.
LOOPBACK = {"0.0.0.0": "127.0.0.1", "[::]": "::1"}


@contextmanager
def notified(
    alive: Callable[[], bool], environment: Mapping[str, str] = os.environ
) -> Iterator[None]:
    """Say READY, then WATCHDOG while `alive` says so, twice in the time that systemd waits."""
    address = environment.get("NOTIFY_SOCKET", "")
    if not address:
        yield
        return
    _say(address, "READY=1")
    ended = threading.Event()
    period_s = int(environment.get("WATCHDOG_USEC", "0")) / MICROSECONDS / 2
    beat = threading.Thread(target=_beat, args=(address, period_s, alive, ended), daemon=True)
    if period_s:
        beat.start()
    try:
        yield
    finally:
        ended.set()
        _say(address, "STOPPING=1")


def answers(host: str, port: int) -> bool:
    """Whether the agent takes connections where it listens: what a hung one does not."""
    own = LOOPBACK.get(host, host).strip("[]")
    try:
        with socket.create_connection((own, port), ANSWER_S):
            return True
    except OSError:
        return False


def _beat(address: str, period_s: float, alive: Callable[[], bool], ended: threading.Event) -> None:
    while not ended.wait(period_s):
        if alive():
            _say(address, "WATCHDOG=1")


def _say(address: str, text: str) -> None:
    # A leading @ stands for the zero byte of the abstract namespace.
    name = "\0" + address[1:] if address.startswith("@") else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as wire:
        try:
            wire.sendto(text.encode(), name)
        except OSError:
            return  # a manager that is gone needs no word of us

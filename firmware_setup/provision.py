"""From a fresh system to a board and back: looks, says what differs, changes it, undoes it all."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from firmware_setup import units
from firmware_setup.bundle import bundle
from firmware_setup.facts import Facts, facts_of
from firmware_setup.remote import Order, ProvisionError, Remote, order, upload
from firmware_setup.wanted import (
    INCOMING,
    Choices,
    Credentials,
    Wanted,
    put,
    wanted,
)

# Says what is done, a line each.
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Difference:
    """Something of a board that is not as it should be."""

    what: str
    how: str


@dataclass
class Provisioner:
    """Makes one board ours; `cache` keeps bundles."""

    remote: Remote
    choices: Choices
    cache: Path
    credentials: Credentials | None = None
    say: Say = lambda _: None

    def __post_init__(self) -> None:
        self._facts: Facts | None = None

    @property
    def facts(self) -> Facts:
        """What the board is; asked once."""
        self._facts = self._facts or facts_of(self.remote)
        return self._facts

    def check(self) -> list[Difference]:
        """Return what differs from a provisioned board; changes nothing."""
        aim = self._aim()
        (state,) = order(self.remote, ("state", {"paths": aim.paths}))
        found = [Difference(*pair) for pair in aim.differences(state)]
        return found + self._idle(aim)

    def apply(self) -> list[Difference]:
        """Change what differs, and return it; a board that is as it should be is left alone."""
        aim = self._aim()
        found = self.check()
        if not found:
            return []
        changed = {difference.what for difference in found}
        self._account()
        if aim.release in changed:
            self._send(aim)
        orders = [put(file) for file in aim.files if file.path in changed]
        if units.CURRENT in changed:
            orders.append(("link", {"path": units.CURRENT, "to": aim.target}))
        for difference in found:
            self.say(f"change   {difference.what}")
        order(self.remote, *orders)
        self._start(aim)
        return found

    def undo(self) -> list[str]:
        """Restore every file that was changed, remove what was made; return what was done."""
        orders: list[Order] = [
            ("ask", {"command": ["systemctl", "disable", "--now", unit]})
            for unit in (units.AGENT_UNIT, units.TUNE_UNIT)
        ]
        *_, undone, _ = order(
            self.remote,
            *orders,
            ("undo", {}),
            ("ask", {"command": ["systemctl", "daemon-reload"]}),
        )
        return list(undone)

    def _aim(self) -> Wanted:
        facts = self.facts
        boot = ""
        if facts.boot_config:
            (content,) = order(self.remote, ("read", {"path": facts.boot_config}))
            boot = base64.b64decode(content or "").decode(errors="replace")
        made = bundle(facts.arch, facts.python, self.cache)
        return wanted(self.choices, facts, made, self.credentials, boot)

    def _idle(self, aim: Wanted) -> list[Difference]:
        """Return the units that do not run."""
        asked = [("ask", {"command": ["systemctl", "is-active", unit]}) for unit in aim.units]
        answers = order(self.remote, *asked)
        pairs = zip(aim.units, answers, strict=True)
        return [Difference(unit, a["said"]) for unit, a in pairs if a["said"] != "active"]

    def _account(self) -> None:
        user, state = units.USER, units.STATE
        order(
            self.remote,
            ("user", {"name": user, "home": state}),
            ("groups", {"name": user, "groups": list(units.GROUPS)}),
            ("folder", {"path": state, "mode": "0750", "owner": f"{user}:{user}"}),
        )

    def _send(self, aim: Wanted) -> None:
        """Send the bundle, going on with an upload that was cut off, and unpack it."""
        made = bundle(self.facts.arch, self.facts.python, self.cache)
        archive = f"{INCOMING}/{made.digest}.tar.gz"
        self.say(f"send     {len(made.data) / 1e6:.0f} MB of packages")
        upload(self.remote, archive, made.data)
        unpacked = {"archive": archive, "digest": made.digest, "into": aim.release}
        order(self.remote, ("unpack", unpacked))

    def _start(self, aim: Wanted) -> None:
        """Load and start the units; a running agent starts anew with what has changed."""
        self.say("start    " + ", ".join(aim.units))
        run = [
            ["systemctl", "daemon-reload"],
            ["sysctl", "-q", "-p", "/etc/sysctl.d/60-hil-lab.conf"],
        ]
        order(self.remote, ("run", {"command": run[0]}), ("ask", {"command": run[1]}))
        for unit in reversed(aim.units):
            _, started, journal = order(
                self.remote,
                ("unit", {"name": unit}),
                ("ask", {"command": ["systemctl", "restart", unit]}),
                ("ask", {"command": ["journalctl", "-u", unit, "-n", "40", "-o", "cat", "-q"]}),
            )
            if started["status"]:
                raise ProvisionError(f"{self.remote.where}: {unit}: {_reason(journal['said'])}")


def _reason(journal: str) -> str:
    """Return the last thing that a unit said before systemd spoke of it."""
    lines = [line for line in journal.splitlines() if line.strip()]
    own = [line for line in lines if not line.startswith(_MANAGER)]
    return (own or lines or ["it did not start"])[-1].strip()


# How systemd's own lines about a unit begin.
_MANAGER = ("Start", "Stop", "Fail", units.AGENT_UNIT, units.TUNE_UNIT, "Schedul")

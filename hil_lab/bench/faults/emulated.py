"""A board that is an emulated machine, provisioned once; what a trial did to it is undone after."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from firmware_setup.ca.certificates import Leaf
from firmware_setup.ca.lab import ROLES, LabCA
from firmware_setup.provision import Provisioner
from firmware_setup.ssh import SshRemote
from firmware_setup.units import AGENT_UNIT, STATE
from firmware_setup.wanted import Choices
from hil_lab.bench.faults.boards import PATIENCE_S
from hil_lab.bench.faults.child import NAME
from hil_lab.commands.provision import credentials
from hil_lab.emulated import LOOPBACK, Machine, machine, said
from hil_lab.inventory import EMULATED
from host.lower.objects import default_cache

AGENT_STATE, FILLER = f"{STATE}/agent", "/filler"
LISTENS = (
    f"timeout {PATIENCE_S:.0f} sh -c 'until systemctl -q is-active {AGENT_UNIT}; do sleep 1; done'"
)
KILL = f"systemctl kill --kill-whom=main -s KILL {AGENT_UNIT}"
# What cannot be had in one piece is written block by block.
FILL = (
    f"fallocate -l $(df --output=avail -B1 {STATE} | tail -n 1) {FILLER}; "
    f"dd if=/dev/zero of={FILLER}.rest bs=4k 2> /dev/null; true"
)
FREE = f"rm -f {FILLER} {FILLER}.rest"
ROT = f"""python3 - <<'END'
from pathlib import Path
for blob in Path("{AGENT_STATE}/blobs").iterdir():
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 1
    blob.write_bytes(data)
END"""
JUMP = "date -s @$(($(date +%s) + {seconds}))"
FORGET = (
    f"systemctl stop {AGENT_UNIT}; rm -rf {AGENT_STATE}; {FREE}; date -s @{{now_s:.0f}}; "
    f"systemctl start {AGENT_UNIT}"
)


@dataclass(frozen=True)
class Provisioned:
    """A machine that has an agent, and the files that a host shows to it: ca, cert, key."""

    machine: Machine
    wire: Mapping[str, Path]

    def board(self) -> EmulatedBoard:
        """Return the machine as the board of one trial."""
        return EmulatedBoard(self.machine, self.wire)


@dataclass
class EmulatedBoard:
    """A board that is a provisioned machine, which outlives it."""

    machine: Machine
    wire: Mapping[str, Path]
    kind: str = EMULATED
    port: int = field(init=False)
    _remote: SshRemote | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.port = self.machine.agent_port

    def start(self) -> None:
        """Power on, where it is off; returns when the agent listens."""
        if not self.machine.runs:
            self.machine.start()
        self.machine.wait_for_ssh()
        self._order(LISTENS)

    def kill(self) -> None:
        """Kill the agent; systemd starts it again."""
        self._order(KILL)

    def power_cut(self) -> list[str]:
        """Take the power away; what the machine had not written is lost, nobody knows of what."""
        self.machine.power_cut()
        self._hang_up()
        return []

    def reset(self) -> None:
        """Press the reset button; returns when the agent listens again."""
        self.machine.reset()
        self._hang_up()
        self.start()

    def freeze(self) -> None:
        """Stop the machine where it is."""
        self.machine.freeze()

    def thaw(self) -> None:
        """Let the machine go on."""
        self.machine.thaw()

    def fill_disk(self) -> None:
        """Fill the file system to the last block."""
        self._order(FILL)

    def free_disk(self) -> None:
        """Make room again."""
        self._order(FREE)

    def rot(self) -> None:
        """Flip a bit of every blob that is kept."""
        self._order(ROT)

    def jump(self, seconds: int) -> None:
        """Set the machine's wall clock forward, or back."""
        self._order(JUMP.format(seconds=seconds))

    def close(self) -> None:
        """Leave the machine as the next trial is to find it: on, its agent without a memory."""
        self.thaw()
        self.start()
        self._order(FORGET.format(now_s=time.time()))
        self._hang_up()

    def _order(self, command: str) -> str:
        """Run a command as root; the connection is kept, so that the next one strikes at once."""
        if self._remote is None:
            self._remote = self.machine.remote().__enter__()
        return said(self._remote, command)

    def _hang_up(self) -> None:
        if self._remote is not None:
            self._remote.__exit__(None, None, None)
            self._remote = None


@contextmanager
def provisioned(image: Path, folder: Path, say: Callable[[str], None]) -> Iterator[Provisioned]:
    """Yield a machine that has an agent, with an authority of its own; takes about 3 minutes."""
    ca, scratch = LabCA(folder / "ca"), folder / "machine"
    scratch.mkdir(parents=True)
    ca.init()
    ours = ca.issue(Leaf("faults", "person", ROLES[0]))
    say("boot     the emulated machine")
    with machine(image, scratch) as made:
        with made.remote() as remote:
            choices = Choices(NAME, EMULATED)
            shown = credentials(ca, NAME, LOOPBACK)
            Provisioner(remote, choices, default_cache(), shown, say).apply()
        wire = {"ca": ours.authority, "cert": ours.certificate, "key": ours.key}
        yield Provisioned(made, wire)

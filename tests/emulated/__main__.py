"""The whole life of a board on an emulated machine: `python -m tests.emulated IMAGE [--fast]`.

Provision it with the real command over SSH, restart it, search on it, verify every artifact on it,
undo everything. Prints what took how long; status 1 at the first thing that is not as it should be.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hil_lab.emulated import LOOPBACK, USER, Machine, machine
from host.errors import HilError

ROOT = Path(__file__).parent.parent.parent
NAME, EPISODES = "emulated", 10
MOST_STARTS = 5
EXPOSURE_BAR = 2.5
BOOT_ID = "/proc/sys/kernel/random/boot_id"
# What provisioning may change, and what must be as it was once it is undone.
FOUND = (
    "find /etc /opt /var/lib /root /home -xdev \\( -path '/var/lib/systemd/*' -o -path "
    "/var/lib/private -o -path '/etc/*-' \\) -prune -o"
)
LISTING = (
    f"{FOUND} \\( -type f -o -type l -o -type d \\) -printf '%p %m %u:%g %l\\n' | sort; "
    f"{FOUND} -type f -print0 | xargs -0 sha256sum | sort"
)


@dataclass
class Life:
    """One machine and the folder that the commands run in."""

    board: Machine
    folder: Path
    took_s: dict[str, float] = field(default_factory=dict)
    starts: int = 0

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Say what is done and how long it took."""
        start = time.monotonic()
        sys.stderr.write(f"{name} ...\n")
        yield
        self.took_s[name] = time.monotonic() - start
        sys.stderr.write(f"{name}: {self.took_s[name]:.0f} s\n")

    def hil_lab(self, *arguments: str, status: int = 0) -> Any:
        """Run a command as a person does; its JSON, or the end of the run."""
        command = [sys.executable, "-m", "hil_lab.cli", *arguments, "--json"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(self.folder)}
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True
        )
        if done.returncode != status:
            raise SystemExit(
                f"{' '.join(arguments)}: status {done.returncode}: {done.stderr}{done.stdout}"
            )
        return json.loads(done.stdout) if done.stdout else None

    @property
    def login(self) -> tuple[str, ...]:
        """How the machine is logged in to; its host key is given, never taken on trust."""
        board = self.board
        where = f"{USER}@{LOOPBACK}:{board.ssh_port}"
        return (where, "--name", NAME, "--key", str(board.key), "--host-key", board.fingerprint)


def live(life: Life) -> dict[str, Any]:
    """Go through a board's life; return what was measured of it."""
    board = life.board
    before = board.ssh(LISTING)
    with life.step("authority"):
        life.hil_lab("ca", "init")
        folder = life.folder / ".config/hil-lab"
        life.hil_lab("ca", "issue", "me", "--out", str(folder))
    with life.step("check a fresh machine"):
        fresh = life.hil_lab("provision", *life.login, "--check", status=1)
    address = f"{LOOPBACK}:{board.agent_port}"
    with life.step("provision"):
        ours = ("--address", address, "--kind", "emulated", "--quick")
        life.hil_lab("provision", *life.login, *ours)
    with life.step("check, provision again"):
        again = life.hil_lab("provision", *life.login, "--kind", "emulated", "--check")
        assert again == {"differences": []}, again
    exposure = _exposure(board.ssh("systemd-analyze security hil-lab-agent --no-pager"))
    with life.step("restart"):
        before_id = board.ssh(f"cat {BOOT_ID}")
        board.ssh("systemd-run --on-active=1 systemctl reboot")
        _wait(lambda: _restarted(board, before_id))
        _wait(lambda: life.hil_lab("boards", "doctor", NAME))
    with life.step("search"):
        found = _searched(life)
    with life.step("verify"):
        run = life.folder / "runs" / found["run"]
        finalists = sorted(p for p in (run / "final").iterdir() if (p / "artifact").is_dir())
        for finalist in finalists:
            life.hil_lab("verify", str(finalist / "artifact"), "--board", NAME)
    with life.step("undo"):
        life.hil_lab("provision", *life.login, "--undo")
        after = board.ssh(LISTING)
    changed = sorted(set(before.splitlines()) ^ set(after.splitlines()))
    return {
        "differences_fresh": len(fresh["differences"]),
        "exposure": exposure,
        "episodes": EPISODES,
        "starts": life.starts,
        "verified": [finalist.name for finalist in finalists],
        "left_behind": changed,
        "took_s": life.took_s,
    }


def _searched(life: Life) -> Any:
    """Search, and go on as the error says where an emulator's unsteady time ends the search."""
    arguments: tuple[str, ...] = ("search", "digits", *_settings())
    while True:
        life.starts += 1
        try:
            return life.hil_lab(*arguments)
        except SystemExit as e:
            if "then resume the run" not in str(e) or life.starts == MOST_STARTS:
                raise
        (run,) = (folder for folder in (life.folder / "runs").iterdir() if folder.is_dir())
        arguments = ("resume", str(run))


def _restarted(board: Machine, before_id: str) -> None:
    """Raise SystemExit while a machine has not booted again."""
    try:
        now_id = board.ssh(f"cat {BOOT_ID}")
    except HilError:
        now_id = before_id
    if now_id == before_id:
        raise SystemExit("the machine did not restart")


def _exposure(said: str) -> float:
    """Read the last line of systemd-analyze: ... exposure level for UNIT: 2.4 OK."""
    return float(said.strip().splitlines()[-1].rpartition(": ")[2].split()[0])


def _settings() -> list[str]:
    sets = {
        "search.episodes": EPISODES,
        "search.strategy": "random",
        "measure.search": "quick",
        "measure.report": "quick",
        "finetune.search_steps": 0,
        "finetune.final_epochs": 1,
        "train.epochs": 3,
    }
    return ["--board", NAME, *(p for k, v in sets.items() for p in ("--set", f"{k}={v}"))]


def _wait(attempt: Callable[[], Any], patience_s: float = 180.0) -> None:
    deadline = time.monotonic() + patience_s
    while True:
        try:
            attempt()
            return
        except SystemExit:
            if time.monotonic() > deadline:
                raise
            time.sleep(3)


def main() -> int:
    """Run it all; the report is JSON on standard output."""
    parser = argparse.ArgumentParser()
    parser.add_argument("image", type=Path)
    arguments = parser.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="hil-emulated-") as scratch:
        disk, folder = Path(scratch, "disk"), Path(scratch, "lab")
        disk.mkdir()
        folder.mkdir()
        with machine(arguments.image, disk) as board:
            life = Life(board, folder, {"boot": time.monotonic() - start})
            report = live(life)
    report["seconds"] = time.monotonic() - start
    print(json.dumps(report, indent=1))
    held = report["exposure"] <= EXPOSURE_BAR and not report["left_behind"]
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())

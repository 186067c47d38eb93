"""Starts the worker with addresses that are the same in every run: `python -m` of this module.

A process cannot move itself, only what it becomes: so this one gives random addresses up and then
becomes the worker. With --check it says what the machine does not grant, and becomes nothing.
"""

from __future__ import annotations

import os
import subprocess
import sys

from device_agent import linux
from device_agent.errors import Unsupported

COMMAND = (sys.executable, "-m", "device_agent.unrandomised")


def check() -> None:
    """Raise Unsupported where addresses cannot be fixed here."""
    done = subprocess.run((*COMMAND, "--check"), capture_output=True, text=True, timeout=60)
    if done.returncode:
        said = (done.stdout or done.stderr).strip().splitlines()
        raise Unsupported(
            f"addresses stay random here ({said[-1] if said else 'no reason'}): leave --no-aslr "
            "out, or allow personality() in the agent's unit"
        )


def main() -> int:
    """Become the worker; addresses stay random where the machine insists."""
    try:
        linux.fix_addresses()
    except OSError as e:
        if sys.argv[1:] == ["--check"]:
            sys.stdout.write(f"{e.strerror}\n")
            return 1
    if sys.argv[1:] == ["--check"]:
        return 0
    os.execv(sys.executable, (sys.executable, "-m", "device_agent.worker"))


if __name__ == "__main__":
    sys.exit(main())

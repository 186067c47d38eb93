"""`hil-lab agent`: the daemon of a board; the only command of the base install."""

from __future__ import annotations

import argparse

from device_agent.__main__ import run_agent


def run(arguments: argparse.Namespace) -> int:
    """Serve until stopped."""
    return run_agent(arguments.arguments)

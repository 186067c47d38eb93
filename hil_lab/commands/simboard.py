"""`hil-lab simboard`: a simulated board as its own process, served by the real agent."""

from __future__ import annotations

import argparse

from device_agent.__main__ import serve, serving_parser
from hil_lab.inventory import simulated
from hil_lab.simboard.faults import interceptors
from hil_lab.simboard.names import is_simulated, sim_settings
from host.errors import CallerError


def run(arguments: argparse.Namespace) -> int:
    """Serve until stopped."""
    parser = serving_parser("hil-lab simboard", "Serve a simulated board.")
    parser.add_argument("board", nargs="?", default="sim:rpi4", help="sim:rpi4-3?seed=1&pace=1")
    parser.set_defaults(name="")
    args = parser.parse_args(arguments.arguments)
    if not is_simulated(args.board):
        raise CallerError(f'"{args.board}" is no simulated board, such as sim:rpi4-3?pace=1')
    settings = sim_settings(args.board)
    args.name = args.name or args.board
    return serve(args, lambda: simulated(args.board, args.name), interceptors(settings.fault))

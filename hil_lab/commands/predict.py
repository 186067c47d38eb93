"""`hil-lab predict`: what a model would take on a modelled board, and why; measures nothing."""

from __future__ import annotations

import argparse
from pathlib import Path

from hil_lab.console import print_json, print_table, print_text
from hil_lab.predict import RUNTIMES, Operation, Prediction, Setup
from hil_lab.simboard.board import KIND
from hil_lab.simboard.names import sim_settings
from hil_lab.simboard.power import CORES
from host.errors import CallerError, UnsupportedLayer
from host.lower.exported import SUFFIX, read_program
from host.lower.importer import import_module
from host.lower.program import Program
from host.models import make_network
from host.models.zoo import default_shape
from host.registry import did_you_mean

OURS = "ours"


def run(arguments: argparse.Namespace) -> int:
    """Predict every model, in the order given."""
    runtime, setup = RUNTIMES[arguments.runtime], _setup(arguments)
    predictions = [runtime(name, _program(name, arguments), setup) for name in arguments.model]
    if arguments.json:
        board = {"board": arguments.board, "runtime": arguments.runtime}
        print_json({**board, "models": [found.to_dict() for found in predictions]})
    else:
        _print(predictions, arguments.top)
    return 0


def _setup(arguments: argparse.Namespace) -> Setup:
    if not arguments.board.startswith(KIND):
        hint = did_you_mean(arguments.board, [KIND])
        raise CallerError(f'"{arguments.board}" is not modelled, only {KIND} is{hint}')
    if not 1 <= arguments.threads <= CORES:
        raise CallerError(f"--threads is 1 to {CORES}, not {arguments.threads}")
    return Setup(sim_settings(arguments.board), arguments.threads)


def _program(name: str, arguments: argparse.Namespace) -> Program:
    if name.endswith(SUFFIX):
        return read_program(Path(name), lenient=arguments.runtime != OURS)
    shape, classes = default_shape(name)
    shape = _shape(arguments.input) if arguments.input else shape
    network = make_network(name, classes=classes, input_shape=shape)
    try:
        return import_module(network, shape)
    except UnsupportedLayer as e:
        raise UnsupportedLayer(f"{name}: {e}") from e


def _shape(text: str) -> tuple[int, int, int]:
    parts = text.lower().split("x")
    if len(parts) != 3 or not all(part.isdigit() and int(part) for part in parts):
        raise CallerError(f"--input takes sizes such as 3x224x224, not {text!r}")
    return (int(parts[0]), int(parts[1]), int(parts[2]))


def _print(predictions: list[Prediction], top: int) -> None:
    rows = [
        [
            found.name,
            f"{found.latency_ms:.3f}",
            f"{found.energy_mj:.2f}",
            f"{found.memory_bytes / 1e6:.2f}",
            f"{found.weight_bytes / 1e6:.2f}",
        ]
        for found in predictions
    ]
    print_table(("model", "ms", "mJ", "MB in all", "MB of weights"), rows)
    for found in predictions:
        print_text(f"\n{found.name}: {found.source}")
        slowest = sorted(found.operations, key=lambda x: -x.seconds)[: max(top, 0)]
        columns = ("operation", "kind", "ms", "share", "MAC/byte", "GMAC/s", "roof", "why")
        print_table(columns, [_row(found, operation) for operation in slowest])


def _row(found: Prediction, operation: Operation) -> list[str]:
    share = 1e3 * operation.seconds / found.latency_ms if found.latency_ms else 0.0
    products = (
        [f"{operation.macs_per_byte:.1f}", f"{operation.gmacs_per_s:.2f}"]
        if operation.macs
        else ["-", "-"]
    )
    roof = f"{found.roof(operation):.2f}" if operation.macs else "-"
    timing = [f"{1e3 * operation.seconds:.4f}", f"{share:.1%}"]
    return [operation.layer, operation.kind, *timing, *products, roof, found.why(operation)]

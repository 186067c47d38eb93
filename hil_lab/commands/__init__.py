"""The commands by name; each module is imported only when its command runs."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from dataclasses import dataclass

Run = Callable[[argparse.Namespace], int]


@dataclass(frozen=True, slots=True)
class Command:
    """A command: what it says of itself, its arguments, and where it lives.

    A raw one reads all that follows its name itself.
    """

    help: str
    configure: Callable[[argparse.ArgumentParser], None]
    module: str
    function: str = "run"
    raw: bool = False

    def load(self) -> Run:
        """Import the command's module and return what runs it."""
        run: Run = getattr(importlib.import_module(self.module), self.function)
        return run


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _at_most(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--boards", type=int, default=0, help="take at most so many of the boards, free ones first"
    )


def _record(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--record", metavar="FILE", help="keep what the boards answer, for replay:")


def _settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a recipe key, such as search.episodes=40",
    )
    parser.add_argument(
        "--board",
        action="append",
        default=[],
        help="board to use instead of the recipe's; several with commas, or repeated",
    )
    _at_most(parser)
    _record(parser)
    parser.add_argument("--target", help="latency targets, such as 0.2,0.3,0.5")
    parser.add_argument("--seed", type=int, help="seed of the search")


def _recipe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", help="a TOML recipe, or the name of a built-in one")
    _settings(parser)
    parser.add_argument("--explain", action="store_true", help="print the resolved recipe and end")
    _json(parser)


def _demo(parser: argparse.ArgumentParser) -> None:
    _settings(parser)
    parser.set_defaults(recipe="digits", explain=False)
    _json(parser)


def _run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", help="a run folder")


def _resume(parser: argparse.ArgumentParser) -> None:
    _run(parser)
    _json(parser)


def _report(parser: argparse.ArgumentParser) -> None:
    _run(parser)
    parser.add_argument("--open", action="store_true", help="show it in the browser")


def _compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folders of finished runs")
    parser.add_argument("--anyway", action="store_true", help="also where data or boards differ")
    parser.add_argument("-o", "--out", default="", metavar="FILE.html", help="write a page too")
    _json(parser)


def _at(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--at", help="which finalist: a target such as 0.3, fp32 or uniform-int8")


def _export(parser: argparse.ArgumentParser) -> None:
    _run(parser)
    _at(parser)
    parser.add_argument("-o", "--out", required=True, help="the new folder")


def _verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", help="a run folder, or an artifact folder")
    _at(parser)
    parser.add_argument("--board", default="local", help="where to run it (default: local)")
    _json(parser)


def _evaluate(parser: argparse.ArgumentParser) -> None:
    _run(parser)
    _at(parser)
    parser.add_argument("--data", required=True, help="an npz with x (uint8 NHWC) and y")
    parser.add_argument("--board", default="local", help="where to run it (default: local)")
    _json(parser)


# Where `report(options)` of each benchmark lives in hil_lab.bench; imported when it runs.
BENCHMARKS = {
    "kernels": "kernels",
    "models": "models",
    "layers": "layers",
    "sparse": "sparse",
    "compile": "builds",
    "profile": "profiles",
    "search": "search",
    "systems": "systems",
    "energy": "energies",
    "simulator": "simulator",
    "dataset": "datasets",
    "rack": "rack",
    "faults": "faults.report",
}


def _bench(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=BENCHMARKS)
    parser.add_argument("--network", action="append", default=[], help="only this one; repeatable")
    parser.add_argument("--threads", default="", help="threads of every runtime, such as 1,2")
    parser.add_argument("--rounds", type=int, default=0, help="repeats of every timing")
    parser.add_argument("--target", default="cortex-a72", help="what to build for")
    parser.add_argument("--data", default="", help="simulator: the folder of measured latencies")
    parser.add_argument("--image", default="", help="faults: the emulated board's, if elsewhere")
    searches = parser.add_argument_group("search")
    searches.add_argument("--method", action="append", default=[], help="only this; repeatable")
    searches.add_argument("--seed", action="append", type=int, default=[], help="repeatable")
    searches.add_argument("--out", default="", help="the folder of kept trials")
    searches.add_argument("--picture", default="", metavar="FILE", help="draw the curves as SVG")
    searches.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a recipe key"
    )
    _json(parser)


def _predict(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", nargs="+", help="a network by name (timm's, built-in ones), or a .pt2 file"
    )
    parser.add_argument("--board", default="sim:rpi4", help="a modelled board (default: sim:rpi4)")
    parser.add_argument(
        "--runtime",
        default="ours",
        help="ours, or published: fitted to what others measured (default: ours)",
    )
    parser.add_argument("--input", metavar="CxHxW", help="pictures of a named network")
    parser.add_argument("--threads", type=int, default=1, help="cores that work (default: 1)")
    parser.add_argument("--top", type=int, default=12, help="slowest operations to print")
    _json(parser)


def _dataset(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("collect", "export"))
    parser.add_argument("name", help="collect: a TOML recipe; export: a dataset's folder or name")
    parser.add_argument("--board", action="append", default=[], help="instead of the recipe's")
    _at_most(parser)
    parser.add_argument("--count", type=int, default=0, help="programs, instead of the recipe's")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--folder", default="", help="where datasets lie (default: datasets)")
    _record(parser)
    parser.add_argument("-o", "--out", action="append", default=[], help=".parquet or .csv; both")
    _json(parser)


def _provision(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("login", nargs="?", help="user@host or user@host:port of a fresh system")
    parser.add_argument("--name", default="", help="the board's name (default: the host's)")
    parser.add_argument("--check", action="store_true", help="say what differs, change nothing")
    parser.add_argument("--undo", action="store_true", help="restore all that was changed")
    parser.add_argument("--update", action="store_true", help="agent and units alone, as named")
    parser.add_argument("--key", default="", help="the SSH key to log in with")
    parser.add_argument("--host-key", default="", help="the host key's fingerprint, SHA256:...")
    parser.add_argument("--ca", default="", help="the lab CA (default: ~/.config/hil-lab/ca)")
    parser.add_argument("--kind", default="", help="the board's kind (default: what it is)")
    parser.add_argument("--bind", default="0.0.0.0:7010", help="where the agent listens")
    parser.add_argument("--address", default="", help="where we reach it (default: HOST:7010)")
    parser.add_argument("--meter", action="append", default=[], help="such as ina226@0x40")
    parser.add_argument("--burn-in", type=float, default=10.0, help="minutes of full load")
    parser.add_argument("--quick", action="store_true", help="no burn-in, a short baseline")
    parser.add_argument(
        "--no-aslr", dest="aslr", action="store_false", help="the same addresses in every run"
    )
    parser.add_argument("--cloud-init", action="store_true", help="write a card's user-data")
    _json(parser)


def _agent(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="see hil-lab agent --help")


def _repro(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", help="a measurement's name, or how it begins: m-81f2c0")
    parser.add_argument("--run", action="store_true", help="measure it again and compare")
    parser.add_argument("--store", default="runs/store.db", help="default: runs/store.db")
    parser.add_argument("--board", help="another board of the same kind")
    parser.add_argument("--artifact", help="the folder of its program, where no run kept it")
    _json(parser)


BOARD_ACTIONS = (
    "list", "show", "acquire", "release", "measure", "profile", "doctor", "reset", "power",
)  # fmt: skip


def _boards(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=BOARD_ACTIONS)
    parser.add_argument("board", nargs="?", help="a board's name")
    parser.add_argument(
        "what", nargs="?", help="an artifact folder, to measure or profile; power: on, off or cycle"
    )
    parser.add_argument("--protocol", default="search", help="quick, search, report or compare")
    parser.add_argument("--anchor", help="an artifact folder to interleave with what is measured")
    parser.add_argument(
        "--store",
        help="measure: keep the measurement here; list: what is known of boards (runs/store.db)",
    )
    parser.add_argument("--power", action="store_true", help="reset: switch it off and on first")
    _record(parser)
    _json(parser)


def _ca(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("init", "issue", "revoke", "send", "list"))
    parser.add_argument("name", nargs="?", help="of a board or a person; of the lab, for init")
    parser.add_argument("--ca", help="the authority's folder (default: ~/.config/hil-lab/ca)")
    parser.add_argument("--kind", choices=("board", "person"), default="person")
    parser.add_argument("--role", help="of a person: measure (default) or administer")
    parser.add_argument(
        "--host",
        action="append",
        default=[],
        help="a host name or an address that a board answers to; repeatable",
    )
    parser.add_argument("--days", type=int, default=0, help="how long it is good")
    parser.add_argument(
        "--send", action="store_true", help="revoke: tell the boards at once, as send does"
    )
    parser.add_argument(
        "--board", action="append", default=[], help="send: to this one (default: all); repeatable"
    )
    parser.add_argument("-o", "--out", help="where to write key and certificate")
    _json(parser)


_HERE = "hil_lab.commands"
COMMANDS: dict[str, Command] = {
    "demo": Command("train, search and report on the embedded digits", _demo, f"{_HERE}.search"),
    "search": Command("search a policy for a recipe", _recipe, f"{_HERE}.search"),
    "resume": Command("go on with a run", _resume, f"{_HERE}.search", "resume"),
    "train": Command("train a recipe's network", _recipe, f"{_HERE}.train"),
    "sensitivity": Command("measure a recipe's KL table", _recipe, f"{_HERE}.sensitivity"),
    "report": Command("write a run's report.html", _report, f"{_HERE}.report"),
    "compare": Command("finished runs side by side", _compare, f"{_HERE}.compare"),
    "export": Command("copy a finished program out of a run", _export, f"{_HERE}.export"),
    "verify": Command("prove a program against its network", _verify, f"{_HERE}.verify"),
    "evaluate": Command("accuracy of the compiled program", _evaluate, f"{_HERE}.evaluate"),
    "boards": Command(f"boards: {', '.join(BOARD_ACTIONS)}", _boards, f"{_HERE}.boards"),
    "repro": Command("how a number was measured, and does it hold", _repro, f"{_HERE}.repro"),
    "dataset": Command("collect and export hardware datasets", _dataset, f"{_HERE}.dataset"),
    "provision": Command("make a fresh system a board", _provision, f"{_HERE}.provision"),
    "predict": Command("latency of a model on a modelled board", _predict, f"{_HERE}.predict"),
    "bench": Command(f"benchmarks: {', '.join(BENCHMARKS)}", _bench, f"{_HERE}.bench"),
    "ca": Command("certificates: init, issue, revoke, send, list", _ca, f"{_HERE}.ca"),
    "simboard": Command(
        "run a simulated board as its own process", _agent, f"{_HERE}.simboard", raw=True
    ),
    "agent": Command("run the daemon of a board", _agent, f"{_HERE}.agent", raw=True),
}

"""Who may import whom, what stays light, and what nobody does: read off the syntax trees."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = ("protos", "device_agent", "host", "firmware_setup", "hil_lab")
# What a package may import of ours beside itself.
ARROWS: dict[str, tuple[str, ...]] = {
    "protos": (),
    "device_agent": ("protos",),
    "host": ("protos",),
    "firmware_setup": ("protos", "host.boards", "host.errors", "host.registry", "host.canonical"),
    "hil_lab": ("protos", "host", "firmware_setup", "device_agent"),
}
# What hil_lab takes of the agent, and why.
AGENT_FOR_HIL_LAB = {
    "device_agent": "where the agent's code lies, for the worker under qemu",
    "device_agent.__main__": "`hil-lab agent` is the agent's own command line",
    "device_agent.server": "make_server: built-in boards run under the real agent",
    "device_agent.local": "the board `local`",
    "device_agent.measure": "Machine: what make_server serves",
    "device_agent.power": "Window: what the simulated meter answers with",
    "device_agent.runner": "the Runner protocol, which the simulated board implements",
    "device_agent.supervise": "real numbers come from the agent's child process",
    "device_agent.timing": "the same sampling in virtual time",
    "device_agent.values": "Job, Limits and Identity, which runners are given",
    "device_agent.program": "a benchmark runs programs in its own process, beside other runtimes",
    "device_agent.weights": "a benchmark makes up weights as a measurement of latency does",
    "device_agent.errors": "simulated faults are the agent's errors",
}
SEARCH_NEVER = ("host.boards", "host.lower", "host.store", "tvm", "grpc", "sqlite3", "sqlite_utils")
HEAVY = ("torch", "tvm", "torchvision", "timm", "sklearn", "optuna")
LIGHT = (
    "host.store", "host.boards.client", "host.boards.pool", "host.artifact", "host.policy",
    "hil_lab.report", "hil_lab.recipe", "hil_lab.runs", "hil_lab.inventory", "hil_lab.cli",
    "hil_lab.commands.agent", "hil_lab.commands.boards", "hil_lab.commands.report",
    "hil_lab.commands.verify", "hil_lab.commands.export", "hil_lab.commands.repro",
)  # fmt: skip
# Files that may name pickle: one unpickles CIFAR's files, arrays only; one names its error.
PICKLE = ("host/data/files.py", "host/models/checkpoint.py")
PRINTS = ("hil_lab/console.py",)


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def files_of(package: str) -> list[Path]:
    paths = sorted((ROOT / package.replace(".", "/")).rglob("*.py"))
    return [p for p in paths if "_pb2" not in p.name]


def all_files() -> list[Path]:
    return [path for package in OURS for path in files_of(package)]


def module_exists(name: str) -> bool:
    path = ROOT / name.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").is_file()


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, module) of every import, inside functions too."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                ours = str(node.module).partition(".")[0] in OURS
                yield node.lineno, inner if ours and module_exists(inner) else str(node.module)


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def offences(package: str, forbidden: tuple[str, ...]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for path in files_of(package)
        for line, module in imports(path)
        if any(within(module, name) for name in forbidden)
    ]


@pytest.mark.parametrize("package", OURS)
def test_imports_follow_the_arrows(package: str) -> None:
    allowed = (package, *ARROWS[package])
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for path in files_of(package)
        for line, module in imports(path)
        if module.partition(".")[0] in OURS and not any(within(module, a) for a in allowed)
    ]
    assert wrong == []


def test_of_the_agent_hil_lab_imports_what_is_listed() -> None:
    used = {
        module
        for path in files_of("hil_lab")
        for _, module in imports(path)
        if within(module, "device_agent")
    }
    assert used == set(AGENT_FOR_HIL_LAB)


def test_the_search_never_sees_a_board() -> None:
    assert offences("host.search", SEARCH_NEVER) == []


@pytest.mark.parametrize("package", ["device_agent", "protos"])
def test_the_agent_and_the_contract_import_neither_torch_nor_tvm(package: str) -> None:
    assert offences(package, (*HEAVY, "cryptography")) == []


def test_light_modules_import_without_torch_and_tvm() -> None:
    code = (
        "import importlib, sys\n"
        f"for name in {LIGHT!r}:\n"
        "    importlib.import_module(name)\n"
        f"    pulled = [m for m in {HEAVY!r} if m in sys.modules]\n"
        "    if pulled:\n"
        "        sys.exit(f'{name} pulls {pulled}')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_command_line_imports_nothing_beyond_the_base_install() -> None:
    code = (
        "import sys, hil_lab.cli, hil_lab.commands.agent\n"
        "extras = ('rich', 'sqlite_utils', 'filelock', 'safetensors', 'jinja2', 'torch', 'host')\n"
        "sys.exit(str([m for m in extras if m in sys.modules] or ''))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr.strip() == ""


def calls(names: tuple[str, ...]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{node.lineno} calls {node.func.id}"
        for path in all_files()
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in names
        and str(path.relative_to(ROOT)) not in PRINTS
    ]


def test_nothing_runs_text_as_code() -> None:
    assert calls(("exec", "eval", "__import__")) == []


def test_only_the_console_prints() -> None:
    assert calls(("print", "input")) == []


def test_only_data_files_may_be_pickles_and_those_hold_arrays_alone() -> None:
    pickles = ("pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib")
    wrong = [text for package in OURS for text in offences(package, pickles)]
    assert [text for text in wrong if text.partition(":")[0] not in PICKLE] == []
    loads = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in all_files()
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "pickle"
        and node.attr not in ("Unpickler", "UnpicklingError")
    ]
    assert loads == []


def test_no_exception_is_swallowed_silently() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in all_files()
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or ast.unparse(node.type) in ("Exception", "BaseException"))
        and not any(isinstance(inner, (ast.Raise, ast.Call)) for inner in ast.walk(node))
    ]
    assert wrong == []


def test_every_module_says_first_what_it_is() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in all_files()
        if path.read_text().strip() and not ast.get_docstring(tree_of(path))
    ]
    assert silent == []

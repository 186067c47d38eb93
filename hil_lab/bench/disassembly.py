"""Functions of an object or program as lists of instructions, by llvm-objdump; nothing is run."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from host.errors import CallerError

OBJDUMP = "llvm-objdump"
_FUNCTION = re.compile(r"^[0-9a-f]+ <(.+)>:$")
_INSTRUCTION = re.compile(r"^\s*([0-9a-f]+):\s+([a-z][\w.]*)\s*(.*)$")
_BRANCH = re.compile(r"^(?:b|b\.\w+|bl|blr|br|cbn?z|tbn?z|ret)$")
_TARGET = re.compile(r"0x([0-9a-f]+)$")
# A call or a return does not jump within its function.
_LEAVES = ("bl", "blr", "ret")


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction; `target` is the address that a branch may go to."""

    address: int
    name: str
    operands: str
    target: int | None = None

    @property
    def text(self) -> str:
        """The instruction as an assembler reads it; a branch goes nowhere, which is near enough."""
        near = self.operands if self.target is None else _TARGET.sub("0x0", self.operands)
        return f"{self.name}\t{near}"

    @property
    def ends_block(self) -> bool:
        """Whether what follows may run another number of times."""
        return bool(_BRANCH.match(self.name))


@dataclass(frozen=True, slots=True)
class Function:
    """A function's instructions, in order of their addresses."""

    name: str
    instructions: tuple[Instruction, ...]


def require(programs: Iterable[str]) -> None:
    """Raise CallerError where one of LLVM's programs is not installed."""
    for program in programs:
        if shutil.which(program) is None:
            raise CallerError(f"{program} is not installed: apt install llvm")


def disassemble(path: Path) -> list[Function]:
    """Return the functions of an object or program."""
    done = subprocess.run(
        [OBJDUMP, "-d", "--no-show-raw-insn", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise CallerError(f"{OBJDUMP} cannot read {path.name}: {done.stderr.strip()[:200]}")
    return parse(done.stdout)


def parse(listing: str) -> list[Function]:
    """Return the functions of a listing of llvm-objdump."""
    found: list[tuple[str, list[Instruction]]] = []
    for line in listing.splitlines():
        if function := _FUNCTION.match(line):
            found.append((function.group(1), []))
        elif found and (match := _INSTRUCTION.match(line)):
            found[-1][1].append(_instruction(*match.groups()))
    return [Function(name, tuple(instructions)) for name, instructions in found]


def _instruction(address: str, name: str, operands: str) -> Instruction:
    operands = operands.partition("<")[0].strip()
    jumps = _BRANCH.match(name) and name not in _LEAVES
    target = _TARGET.search(operands) if jumps else None
    return Instruction(int(address, 16), name, operands, target and int(target.group(1), 16))

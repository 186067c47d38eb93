"""Static cycles of a kernel's inner loops on the Cortex-A72, by llvm-mca; nothing is run.

What this leaves out: cache misses, branch misses, and how often each loop runs.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from host.errors import CallerError

MCA = "llvm-mca"
ITERATIONS = 200
_FUNCTION = re.compile(r"^([A-Za-z_][\w.]*):")
_LABEL = re.compile(r"^(\.L\w+):")
_BACK = re.compile(r"^\s+(?:b\.\w+\s+|cbn?z\s+\w+,\s*|tbn?z\s+.*,\s*|b\s+)(\.L\w+)")
_INSTRUCTION = re.compile(r"^\s+([a-z][\w.]*)\s*(.*)$")
_SPILL = re.compile(r"^(?:ldr|str|ldp|stp|ldur|stur)$")
# x29 is a frame pointer at negative offsets only; else the compiler uses it as any register.
_STACK = re.compile(r"\[sp\b|\[x29,\s*#-")
_VECTOR = re.compile(r"\bv\d+\.\d+[bhsd]|\bq\d+\b")
_SCALAR_FLOAT = re.compile(r"^(?:fmul|fadd|fsub|fmadd|fdiv|fmax|fmaxnm)$")
# Multiply-accumulates of one instruction, by mnemonic and lanes; `cnt` counts one-bit products.
_MACS = (
    (re.compile(r"^f(?:mla|mls)$"), re.compile(r"\.4s"), 4),
    (re.compile(r"^[su]m(?:ul|la|ls)l2?$"), re.compile(r"\.8h"), 8),
    (re.compile(r"^cnt$"), re.compile(r"\.16b"), 128),
    (re.compile(r"^cnt$"), re.compile(r"\.8b"), 64),
)


@dataclass(frozen=True, slots=True)
class Loop:
    """One inner loop: instructions, cycles per iteration, products per iteration, stack traffic."""

    instructions: int
    cycles: float
    products: int
    spills: int
    vector: bool
    scalar_float: bool

    @property
    def products_per_cycle(self) -> float:
        """Products per cycle: multiply-accumulates, or one-bit products of bit-serial kernels."""
        return self.products / self.cycles if self.cycles else 0.0


def inner_loops(assembly: str) -> list[Loop]:
    """Return the inner loops of an aarch64 function; most products first, then most cycles."""
    loops = [_analyse(body) for body in _bodies(assembly)]
    return sorted(loops, key=lambda loop: (-loop.products, -loop.cycles))


def require_mca() -> None:
    """Raise CallerError where llvm-mca is not installed."""
    if shutil.which(MCA) is None:
        raise CallerError(f"{MCA} is not installed: apt install llvm")


def _bodies(assembly: str) -> Iterator[list[str]]:
    """Yield the instructions of every loop that holds no other loop."""
    lines = _kernel_lines(assembly)
    labels: dict[str, int] = {}
    ranges: list[tuple[int, int]] = []
    for number, line in enumerate(lines):
        if label := _LABEL.match(line):
            labels[label.group(1)] = number
        elif (back := _BACK.match(line)) and back.group(1) in labels:
            ranges.append((labels[back.group(1)], number))
    for start, end in ranges:
        if not any(start <= a and b <= end and (a, b) != (start, end) for a, b in ranges):
            body = [line for line in lines[start : end + 1] if _INSTRUCTION.match(line)]
            # Code behind a return that jumps back to the function's end is no loop.
            if not any(line.split() == ["ret"] for line in body):
                yield [line for line in body if not line.lstrip().startswith(".")]


def _kernel_lines(assembly: str) -> list[str]:
    """Leave out what every object holds: argument checks and runtime stubs, all named `__...`."""
    kept, inside = [], False
    for line in assembly.splitlines():
        if function := _FUNCTION.match(line):
            inside = not function.group(1).startswith("__") or "lambda" in function.group(1)
        if inside:
            kept.append(line)
    return kept


def _analyse(body: list[str]) -> Loop:
    pairs = [(m.group(1), m.group(2)) for line in body if (m := _INSTRUCTION.match(line))]
    return Loop(
        instructions=len(pairs),
        cycles=_cycles(body),
        products=sum(_products(name, operands) for name, operands in pairs),
        spills=sum(bool(_SPILL.match(n) and _STACK.search(o)) for n, o in pairs),
        vector=any(_VECTOR.search(operands) for _, operands in pairs),
        scalar_float=any(_SCALAR_FLOAT.match(n) and not _VECTOR.search(o) for n, o in pairs),
    )


def _products(name: str, operands: str) -> int:
    for mnemonic, lanes, count in _MACS:
        if mnemonic.match(name) and lanes.search(operands):
            return count
    return 0


def _cycles(body: list[str]) -> float:
    """Return cycles per iteration; branches are left out, since the loop repeats by itself."""
    kept = [line for line in body if not re.match(r"^\s+(?:b\.|b\s|cbn?z|tbn?z|bl\s|ret)", line)]
    result = subprocess.run(
        [MCA, "-mtriple=aarch64", "-mcpu=cortex-a72", f"-iterations={ITERATIONS}"],
        input="\n".join(kept),
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.search(r"Total Cycles:\s+(\d+)", result.stdout)
    if found is None:
        raise CallerError(f"{MCA} cannot read a kernel: {result.stderr.strip()[:200]}")
    return int(found.group(1)) / ITERATIONS

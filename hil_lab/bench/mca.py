"""Static cycles on the Cortex-A72, by llvm-mca; nothing is run.

What this leaves out: cache misses, branch misses, and how often each loop runs.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from hil_lab.bench.disassembly import Function, Instruction
from host.errors import CallerError

MCA = "llvm-mca"
# The difference of two lengths: what happens once, when the pipeline fills, is not counted.
ITERATIONS = (40, 140)
_SPILL = re.compile(r"^(?:ldr|str|ldp|stp|ldur|stur)$")
_STACK = re.compile(r"\[sp\b")
_STACK_AND_FRAME = re.compile(r"\[sp\b|\[x29,\s*#-")
_VECTOR = re.compile(r"\bv\d+\.\d+[bhsd]|\bq\d+\b")
_SCALAR_FLOAT = re.compile(r"^(?:fmul|fadd|fsub|fmadd|fdiv|fmax|fmaxnm)$")
_FLOAT_MAC = re.compile(r"^f(?:mla|mls)$")
_REGISTER = re.compile(r"\b[vqdshb](\d+)\b")
# Multiply-accumulates of one instruction, by mnemonic and lanes; `cnt` counts one-bit products.
_MACS = (
    (_FLOAT_MAC, re.compile(r"\.4s"), 4),
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


def inner_loops(functions: Iterable[Function]) -> list[Loop]:
    """Return the inner loops of an aarch64 kernel; most products first, then most cycles."""
    kernels = [f for f in functions if is_kernel(f.name)]
    found = [(body, _stack(f)) for f in kernels for body in _bodies(f.instructions)]
    costs = cycles([body for body, _ in found])
    loops = [_analyse(*loop, cost) for loop, cost in zip(found, costs, strict=True)]
    return sorted(loops, key=lambda loop: (-loop.products, -loop.cycles))


def is_kernel(name: str) -> bool:
    """Leave out what every object holds: argument checks and runtime stubs, all named `__...`."""
    return not name.startswith("__") or "lambda" in name


def cycles(blocks: Sequence[Sequence[Instruction]]) -> list[float]:
    """Return the cycles of each block when it repeats, in the steady state."""
    few, many = (_totals(blocks, count) for count in ITERATIONS)
    repeats = ITERATIONS[1] - ITERATIONS[0]
    return [(b - a) / repeats for a, b in zip(few, many, strict=True)]


def _bodies(instructions: Sequence[Instruction]) -> Iterator[Sequence[Instruction]]:
    """Yield the instructions of every loop that holds no other loop, in order of addresses.

    A loop is what comes back to its head: its parts may lie far apart.
    """
    after = _successors(instructions)
    before: dict[int, list[int]] = {}
    for i, following in enumerate(after):
        for j in following:
            before.setdefault(j, []).append(i)
    loops = [_reaching(tail, head, before) for tail, head in _back_edges(after)]
    for body in loops:
        if not any(other < body for other in loops):
            yield [instructions[i] for i in sorted(body)]


def _successors(instructions: Sequence[Instruction]) -> list[list[int]]:
    """Return which instructions may follow each one, within the function."""
    numbers = {instruction.address: i for i, instruction in enumerate(instructions)}
    after = []
    for i, instruction in enumerate(instructions):
        following = [] if instruction.name in ("b", "ret", "br") else [i + 1]
        if instruction.target in numbers and instruction.name != "bl":
            following.append(numbers[instruction.target])
        after.append([j for j in following if j < len(instructions)])
    return after


def _back_edges(after: Sequence[Sequence[int]]) -> Iterator[tuple[int, int]]:
    """Yield the jumps to an instruction on the way to the jump itself.

    What no way leads to begins a way of its own: local functions have no symbol.
    """
    done: set[int] = set()
    for entry in range(len(after)):
        way = {} if entry in done else {entry: iter(after[entry])}
        while way:
            at = next(reversed(way))
            following = next(way[at], None)
            if following is None:
                done.add(at)
                del way[at]
            elif following in way:
                yield at, following
            elif following not in done:
                way[following] = iter(after[following])


def _reaching(tail: int, head: int, before: Mapping[int, Sequence[int]]) -> set[int]:
    """Return what leads to `tail` without passing `head`."""
    found, ahead = {head}, [tail]
    while ahead:
        at = ahead.pop()
        if at not in found:
            found.add(at)
            ahead.extend(before.get(at, ()))
    return found


def _stack(function: Function) -> re.Pattern[str]:
    """Return what an access to the stack looks like: x29 is a pointer like others, or the frame."""
    framed = any(
        i.name in ("mov", "add") and i.operands.startswith("x29, sp") for i in function.instructions
    )
    return _STACK_AND_FRAME if framed else _STACK


def _analyse(body: Sequence[Instruction], stack: re.Pattern[str], cost: float) -> Loop:
    pairs = [(instruction.name, instruction.operands) for instruction in body]
    return Loop(
        instructions=len(pairs),
        cycles=cost,
        products=_products(pairs),
        spills=sum(bool(_SPILL.match(n) and stack.search(o)) for n, o in pairs),
        vector=any(_VECTOR.search(operands) for _, operands in pairs),
        scalar_float=any(_SCALAR_FLOAT.match(n) and not _VECTOR.search(o) for n, o in pairs),
    )


def _products(pairs: Sequence[tuple[str, str]]) -> int:
    """Return the products that a turn adds to sums which outlive it.

    A float multiply-add whose sum begins anew in every turn is a step of a polynomial, say.
    """
    begun = {
        register
        for name, operands in pairs
        if not _FLOAT_MAC.match(name) and not name.startswith("st")
        for register in _REGISTER.findall(operands)[: 2 if name.startswith("ldp") else 1]
    }
    return sum(
        _count(name, operands)
        for name, operands in pairs
        if not (_FLOAT_MAC.match(name) and _REGISTER.findall(operands)[0] in begun)
    )


def _count(name: str, operands: str) -> int:
    for mnemonic, lanes, count in _MACS:
        if mnemonic.match(name) and lanes.search(operands):
            return count
    return 0


def _totals(blocks: Sequence[Sequence[Instruction]], iterations: int) -> list[int]:
    """Return the cycles of so many repeats of each block: one process for all of them."""
    if not blocks:
        return []
    regions = (
        "\n".join(["# LLVM-MCA-BEGIN", *(i.text for i in block), "# LLVM-MCA-END", ""])
        for block in blocks
    )
    options = (f"-iterations={iterations}", "-all-views=false", "-summary-view")
    done = subprocess.run(
        [MCA, "-mtriple=aarch64", "-mcpu=cortex-a72", *options],
        input="".join(regions),
        capture_output=True,
        text=True,
        check=False,
    )
    totals = [int(found) for found in re.findall(r"Total Cycles:\s+(\d+)", done.stdout)]
    if len(totals) != len(blocks):
        raise CallerError(f"{MCA} cannot read a kernel: {done.stderr.strip()[:200]}")
    return totals

"""How often every instruction of a Cortex-A72 kernel runs: one call under qemu, never timed.

The kernels are linked with driver.c into one static program without a C library; qemu says which
block of code it enters, each time, and how far the block reaches. The counts are exact.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tvm import tirx

from host.errors import BuildError, CallerError
from host.lower.link import find_linker
from host.lower.targets import Target

QEMU = ("qemu-aarch64", "qemu-aarch64-static")
DRIVER = Path(__file__).with_name("driver.c")
# No library, and none of the calls to one that compilers make up for loops.
FLAGS = ("-O2", "-ffreestanding", "-fno-builtin", "-nostdlib", "-static")
ALIGNMENT = 128  # as in driver.c
# Fields of DLPack: kDLInt, kDLUInt, kDLFloat.
_CODES = {"int": 0, "uint": 1, "float": 2}
_DTYPE = re.compile(r"^(int|uint|float)(\d+)$")
_ADDRESS = re.compile(rb"^0x([0-9a-f]+):")
START = """
void start(long *stack) {
  const char *digits = (const char *)stack[2];
  int which = 0;
  while (*digits) which = 10 * which + *digits++ - '0';
  __TVMBackendParallelLaunch = launch;
  __TVMBackendAllocWorkspace = allocate;
  __TVMBackendFreeWorkspace = release;
  leave(run(&kernels[which]));
}
__asm__(".global _start\\n_start:\\n mov x0, sp\\n bl start\\n");
"""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A tensor that a kernel takes: of zeros, or of `values` where they say what is done."""

    shape: tuple[int, ...]
    dtype: str
    values: tuple[int, ...] = ()

    @property
    def bytes(self) -> int:
        """Size of the tensor."""
        count = 1
        for extent in self.shape:
            count *= extent
        return count * _type(self.dtype)[1] // 8


def parameters(function: tirx.PrimFunc) -> tuple[Parameter, ...]:
    """Return the tensors that a kernel takes, the destination last."""
    return tuple(
        Parameter(tuple(int(extent) for extent in b.shape), str(b.dtype)) for b in function.params
    )


def find_qemu() -> str:
    """Return the emulator; raises CallerError saying what to install."""
    for name in QEMU:
        if found := shutil.which(name):
            return found
    raise CallerError("qemu-aarch64 is not installed: apt install qemu-user-static")


def link(
    kernels: Mapping[str, Sequence[Parameter]], objects: Iterable[Path], target: Target, out: Path
) -> None:
    """Write the program that calls the kernel whose place in `kernels` is its argument."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "program.c"
        source.write_text(_source(kernels))
        linker = find_linker(target, Path(folder))
        command = [linker, *FLAGS, "-o", str(out), str(source), *(str(p) for p in objects)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(f"the kernels cannot be linked alone: {done.stderr.strip()[:300]}")


def run(program: Path, which: int) -> dict[int, int]:
    """Call a kernel once; return how often the instruction at each address ran."""
    command = [find_qemu(), "-d", "exec,nochain,in_asm", "-D", "/dev/stderr", str(program)]
    process = subprocess.Popen([*command, str(which)], stderr=subprocess.PIPE)
    assert process.stderr is not None
    with process.stderr as log:
        counts = executed(log)
    if status := process.wait():
        raise BuildError(f"kernel {which} does not run alone: status {status}")
    return counts


def executed(log: Iterable[bytes]) -> dict[int, int]:
    """Return the count of every address from qemu's log of blocks and their entries."""
    entries: Counter[bytes] = Counter()
    blocks: dict[int, list[int]] = {}
    block: list[int] = []
    for line in log:
        if line.startswith(b"Trace "):
            # Trace 0: HOST [CS_BASE/ADDRESS/FLAGS/CFLAGS] SYMBOL
            entries[line.split(b"/", 2)[1]] += 1
        elif line.startswith(b"IN:"):
            block = []
        elif match := _ADDRESS.match(line):
            block.append(int(match.group(1), 16))
            blocks[block[0]] = block
    counts: Counter[int] = Counter()
    for entry, times in entries.items():
        for address in blocks[int(entry, 16)]:
            counts[address] += times
    return dict(counts)


def is_driver(name: str) -> bool:
    """Whether a function of the program is ours, not a kernel's or what a kernel calls."""
    return name in ("_start", "start", "run", "leave")


def _source(kernels: Mapping[str, Sequence[Parameter]]) -> str:
    """Return driver.c with its table of kernels; all of them share one memory for zeros."""
    size = max(sum(_aligned(p.bytes) for p in taken) for taken in kernels.values())
    parts = [DRIVER.read_text(), f"static char memory[{size}] __attribute__((aligned(ALIGNMENT)));"]
    for number, (name, taken) in enumerate(kernels.items()):
        parts.append(f"extern int __tvm_ffi_{name}(void *, Any *, int, Any *);")
        offset, tensors = 0, []
        for i, parameter in enumerate(taken):
            shape = f"shape_{number}_{i}"
            extents = ", ".join(str(extent) for extent in parameter.shape)
            parts.append(f"static long {shape}[] = {{{extents}}};")
            where = f"memory + {offset}"
            if parameter.values:
                where = f"values_{number}_{i}"
                parts.append(_values(where, parameter))
            tensors.append(_tensor(parameter, where, shape))
            offset += _aligned(parameter.bytes)
        parts.append(f"static Tensor tensors_{number}[] = {{{', '.join(tensors)}}};")
    rows = (f"{{__tvm_ffi_{n}, {len(t)}, tensors_{i}}}" for i, (n, t) in enumerate(kernels.items()))
    parts.append(f"static const Kernel kernels[] = {{{', '.join(rows)}}};")
    return "\n".join([*parts, START])


def _values(name: str, parameter: Parameter) -> str:
    if parameter.dtype != "int32":
        raise BuildError(f"a kernel takes {parameter.dtype}, whose values the driver cannot hold")
    values = ", ".join(str(value) for value in parameter.values)
    return f"static int {name}[] __attribute__((aligned(ALIGNMENT))) = {{{values}}};"


def _tensor(parameter: Parameter, where: str, shape: str) -> str:
    code, bits = _type(parameter.dtype)
    rank = len(parameter.shape)
    return f"{{{where}, 1, 0, {rank}, {code}, {bits}, 1, {shape}, 0, 0}}"


def _type(dtype: str) -> tuple[int, int]:
    match = _DTYPE.match(dtype)
    if match is None:
        raise BuildError(f"a kernel takes {dtype}, which the driver does not know")
    return _CODES[match.group(1)], int(match.group(2))


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT

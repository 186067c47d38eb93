"""A listing of llvm-objdump as functions and instructions."""

from __future__ import annotations

import shutil

import pytest

from hil_lab.bench.disassembly import parse, require
from host.errors import CallerError

LISTING = """
kernel.o:	file format elf64-littleaarch64

Disassembly of section .text:

0000000000000000 <__tvm_ffi_kernel>:
       0:      	cbz	x1, 0x8 <__tvm_ffi_kernel+0x8>
       4:      	bl	0x20 <kernel_compute_>
       8:      	ret

000000000000000c <kernel_compute_>:
       c:      	ldr	q0, [x2], #16
      10:      	b.ne	0xc <kernel_compute_>
"""


def test_functions_and_their_instructions_are_read() -> None:
    entry, kernel = parse(LISTING)
    assert (entry.name, kernel.name) == ("__tvm_ffi_kernel", "kernel_compute_")
    assert [i.address for i in kernel.instructions] == [12, 16]
    assert kernel.instructions[0].text == "ldr\tq0, [x2], #16"


def test_a_branch_has_a_target_and_a_call_or_return_has_none() -> None:
    entry, kernel = parse(LISTING)
    assert [i.target for i in entry.instructions] == [8, None, None]
    assert kernel.instructions[1].target == 12
    assert [i.ends_block for i in (*entry.instructions, *kernel.instructions)] == [
        True, True, True, False, True,
    ]  # fmt: skip


def test_a_branch_is_assembled_without_its_far_target() -> None:
    entry, _ = parse(LISTING)
    assert entry.instructions[0].text == "cbz\tx1, 0x0"


def test_without_a_tool_one_sentence_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(CallerError, match="llvm-mca is not installed: apt install llvm"):
        require(("llvm-mca",))

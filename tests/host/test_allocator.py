"""What was freed is taken again without asking the system for a page."""

from __future__ import annotations

import ctypes
import json
import resource
import subprocess
import sys

import pytest

from host import allocator

# Pages that are asked for while eight tensors of 64 MB follow each other: by default, and with the
# setting, once the first few have settled. In a process of its own, since nothing undoes it.
_PROGRAM = """
import json, resource, torch
from host.allocator import keep_freed_memory

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        torch.ones(16_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

found = [pages(), keep_freed_memory()]
pages(), pages()
print(json.dumps([*found, pages()]))
"""
_TENSOR_PAGES = 64_000_000 // resource.getpagesize()


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="not glibc")
def test_freed_tensors_are_taken_again() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True
    )
    before, kept, after = json.loads(done.stdout)
    assert before >= 8 * _TENSOR_PAGES
    assert kept is True
    assert after < _TENSOR_PAGES


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert allocator.keep_freed_memory() is False

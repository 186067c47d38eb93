"""Exported files become programs: the same as of the module, also decomposed ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from hil_lab.simboard.published import works
from host.errors import CheckpointError, UnsupportedLayer
from host.lower.exported import read_program
from host.lower.fuse import drop_unread
from host.lower.importer import import_module
from host.lower.program import Node, Program, View


class Net(nn.Module):
    """A convolution with its norm, pooled, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1, stride=2)
        self.norm = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.norm(self.conv(x)))
        return self.fc(y.mean((2, 3)))


def saved(
    path: Path, module: nn.Module, *shapes: tuple[int, ...], decomposed: bool = False
) -> Path:
    exported = torch.export.export(module.eval(), tuple(torch.zeros(s) for s in shapes))
    torch.export.save(exported.run_decompositions() if decomposed else exported, path)
    return path


@pytest.mark.parametrize("decomposed", [False, True])
def test_a_file_is_the_program_of_its_module(tmp_path: Path, decomposed: bool) -> None:
    module = Net().eval()
    path = saved(tmp_path / "net.pt2", module, (1, 3, 16, 16), decomposed=decomposed)
    read, made = read_program(path), import_module(module, (3, 16, 16))
    assert [(w.kinds, w.macs, w.weight_bytes) for w in works(read)] == [
        (w.kinds, w.macs, w.weight_bytes) for w in works(made)
    ]
    assert works(read)[0].macs == 3 * 3 * 3 * 8 * 8 * 8


def test_an_unknown_operation_is_named_or_counted(tmp_path: Path) -> None:
    class Sorts(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cumsum(x, 1).relu()

    path = saved(tmp_path / "sorts.pt2", Sorts(), (1, 3, 4, 4))
    with pytest.raises(UnsupportedLayer, match=r"sorts\.pt2: operation cumsum"):
        read_program(path)
    assert [n.op for n in read_program(path, lenient=True).nodes] == ["unknown", "pointwise"]


def test_files_that_hold_no_program_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.pt2").write_text("no program")
    with pytest.raises(CheckpointError, match=r"torch\.export\.save"):
        read_program(tmp_path / "text.pt2")
    with pytest.raises(CheckpointError, match="no such file"):
        read_program(tmp_path / "absent.pt2")


def test_two_inputs_are_one_too_many(tmp_path: Path) -> None:
    class Sum(nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return x + y

    path = saved(tmp_path / "sum.pt2", Sum(), (1, 3, 4, 4), (1, 3, 4, 4))
    with pytest.raises(UnsupportedLayer, match="takes 2 inputs"):
        read_program(path)


def test_what_no_output_needs_is_dropped() -> None:
    x = View("x", (1, 4))
    used, unused = (Node(n, "pointwise", (x,), (1, 4), post=(("relu",),)) for n in ("a", "b"))
    after = Node("c", "pointwise", (View("b", (1, 4)),), (1, 4), post=(("relu",),))
    program = Program("x", (1, 4), (used, unused, after), View("a", (1, 4)))
    assert drop_unread(program).nodes == (used,)

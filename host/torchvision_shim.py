"""Make torchvision importable beside a CPU-only torch; never touches an install that works."""

from __future__ import annotations

import importlib
import sys

import torch

_MISSING = "operator torchvision::nms does not exist"
_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
# A library's operators live as long as the object does.
_kept_alive: list[torch.library.Library] = []


def ensure_torchvision() -> None:
    """Import torchvision; call it before the first import of timm or torch_pruning in a process.

    PyPI's wheel is built for CUDA, so beside a CPU-only torch its extension does not load and the
    import stops at two operators that nobody here calls: declaring their schemas is enough.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError as e:
        if _MISSING not in str(e):
            raise
        _forget_half_import()
        library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
        for schema in _SCHEMAS:
            library.define(schema)  # type: ignore[no-untyped-call]
        _kept_alive.append(library)
        importlib.import_module("torchvision")


def _forget_half_import() -> None:
    for name in [n for n in sys.modules if n == "torchvision" or n.startswith("torchvision.")]:
        del sys.modules[name]

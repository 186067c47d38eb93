"""Packages that only some meters need: imported when such a meter is asked for, never before."""

from __future__ import annotations

import importlib
from typing import Any

from device_agent.errors import Unsupported


def imported(module: str, extra: str) -> Any:
    """Import a module of an optional extra; raises Unsupported that says what to install."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as e:
        raise Unsupported(
            f"the meter {extra} needs a package that the base install leaves out: "
            f"pip install 'hil-lab[{extra}]'"
        ) from e

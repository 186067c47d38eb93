"""Where the development data lies, and how tests skip without it; not part of the product."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_BESIDE_THE_REPOSITORY = Path(__file__).resolve().parents[3] / "shared"
SHARED = Path(os.environ.get("HIL_SHARED", _BESIDE_THE_REPOSITORY)) / "data"

needs_shared_data = pytest.mark.skipif(
    not SHARED.is_dir(), reason=f"development data not found at {SHARED} (set HIL_SHARED)"
)

"""The switch that rewrites golden files."""

from __future__ import annotations

import pytest

from tests.contracts.fixtures import library

__all__ = ["library"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Register --update-golden: `pytest tests/hil_lab --update-golden`."""
    parser.addoption(
        "--update-golden", action="store_true", help="rewrite tests/golden from what is made now"
    )


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    """Whether golden files are to be rewritten; the option is unknown above this folder."""
    return bool(request.config.getoption("--update-golden", default=False))

"""A small trained network on the embedded digits, once per test process."""

from __future__ import annotations

import pytest

from tests.host.trained import Subject, digits_subject


@pytest.fixture(scope="session")
def digits() -> Subject:
    return digits_subject()

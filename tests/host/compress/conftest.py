"""A small trained network on the embedded digits, and one seed for layers made in tests."""

from __future__ import annotations

import pytest
import torch

from tests.host.trained import Subject, digits_subject


@pytest.fixture(scope="session")
def digits() -> Subject:
    return digits_subject()


@pytest.fixture(autouse=True)
def _seeded_torch() -> None:
    torch.manual_seed(0)  # a layer's first weights come from the global generator

"""Fixtures of the board suites."""

from tests.contracts.fixtures import library, plain, quantized, tiny

__all__ = ["library", "plain", "quantized", "tiny"]

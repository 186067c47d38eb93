"""Layers that policies share run once: what they send is remembered, to the bit; never guesses."""

from host.prefix.shared import SharedPrefix

__all__ = ["SharedPrefix"]

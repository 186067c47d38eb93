"""From a policy to a smaller network that computes with integers; never touches the original."""

from host.compress.candidate import compress

__all__ = ["compress"]

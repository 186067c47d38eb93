"""Networks by name and their checkpoints; never downloads anything."""

from host.models.checkpoint import load_checkpoint
from host.models.zoo import make_network, network_names

__all__ = ["load_checkpoint", "make_network", "network_names"]

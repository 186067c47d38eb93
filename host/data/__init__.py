"""Data sets by name with fixed, disjoint splits; never downloads anything."""

from host.data.load import DATASETS, load_data
from host.data.types import Augmentation, Data, Split, SplitName

__all__ = ["DATASETS", "Augmentation", "Data", "Split", "SplitName", "load_data"]

"""How much each layer minds each kind of compression, before any search; never trains anything."""

from host.sensitivity.measure import measure
from host.sensitivity.table import SETTINGS, Entry, SensitivityTable, Setting

__all__ = ["SETTINGS", "Entry", "SensitivityTable", "Setting", "measure"]

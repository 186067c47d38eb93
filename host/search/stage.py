"""What may be decided at one time: widths, formats, or both; the rest is as in a base policy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from host.encoding import Batch, Encoding, Ints


@dataclass(frozen=True, eq=False)
class Stage:
    """Free decisions; `base` is one encoded policy that holds the others."""

    widths: bool = True
    forms: bool = True
    base: Batch | None = None

    def fixed(self, batch: Batch) -> Batch:
        """Return policies with the base's decisions where nothing may be decided."""
        if self.base is None:
            return batch
        held = self.base[np.zeros(len(batch), dtype=np.int64)]
        return Batch(
            batch.widths if self.widths else held.widths,
            batch.forms if self.forms else held.forms,
        )

    def genes(self, encoding: Encoding) -> Ints:
        """Return the free decisions by number: drivers first, then the formats of layers."""
        drivers, layers = len(encoding.drivers), len(encoding.layers)
        first = 0 if self.widths else drivers
        return np.arange(first, drivers + (layers if self.forms else 0))


JOINT = Stage()

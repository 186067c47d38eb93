"""The table of sensitivities, its normalised features and its JSON; never runs a network.

A setting that a layer cannot take is flagged, not given a huge value.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from host.errors import StoreError
from host.policy import MAX_MIX_BITS

Kind = Literal["prune", "act", "weight", "int8"]
SENSITIVITY_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Setting:
    """One change to one layer: a share of channels removed, or bits (the other at its loosest)."""

    kind: Kind
    value: float


SPARSITIES = tuple(Setting("prune", tenth / 10) for tenth in range(10))
ACT_BITS = tuple(Setting("act", bits) for bits in range(1, MAX_MIX_BITS + 1))
WEIGHT_BITS = tuple(Setting("weight", bits) for bits in range(1, MAX_MIX_BITS + 1))
INT8 = Setting("int8", 8)
SETTINGS: tuple[Setting, ...] = (*SPARSITIES, *ACT_BITS, *WEIGHT_BITS, INT8)


@dataclass(frozen=True, slots=True)
class Entry:
    """The divergence of one setting in nats per image; meaningless where not `supported`."""

    layer: str
    setting: Setting
    kl: float
    supported: bool


@dataclass(frozen=True)
class SensitivityTable:
    """All settings of all layers, in order of execution and of SETTINGS."""

    entries: tuple[Entry, ...]
    images: int

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers, in order of execution."""
        return tuple(dict.fromkeys(entry.layer for entry in self.entries))

    def row(self, layer: str) -> tuple[Entry, ...]:
        """Return the entries of a layer, in the order of SETTINGS."""
        return tuple(entry for entry in self.entries if entry.layer == layer)

    def kl(self, layer: str, setting: Setting) -> float | None:
        """Return one divergence, or None where the setting is not supported."""
        entry = self.row(layer)[SETTINGS.index(setting)]
        return entry.kl if entry.supported else None

    def features(self, layer: str) -> dict[Kind, tuple[float, ...]]:
        """Return log(1 + KL) over the table's largest, in [0, 1], by kind; 0 where unsupported.

        10 values for prune (0, 10, ... 90 %), one per bit for act and weight, one for int8.
        """
        largest = max((math.log1p(e.kl) for e in self.entries if e.supported), default=0.0) or 1.0
        return _by_kind(
            (e.setting.kind, math.log1p(e.kl) / largest if e.supported else 0.0)
            for e in self.row(layer)
        )

    def mask(self, layer: str) -> dict[Kind, tuple[float, ...]]:
        """Return 1 where a setting is supported and 0 elsewhere, shaped as the features."""
        return _by_kind((e.setting.kind, float(e.supported)) for e in self.row(layer))

    def all_features(self) -> dict[str, dict[Kind, tuple[float, ...]]]:
        """Return the features of every layer, as strategies take them."""
        return {layer: self.features(layer) for layer in self.layers}

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "format": SENSITIVITY_FORMAT,
            "images": self.images,
            "entries": [asdict(entry) for entry in self.entries],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SensitivityTable:
        """Read the JSON form; raises StoreError for another format."""
        if data.get("format") != SENSITIVITY_FORMAT:
            raise StoreError(
                f"sensitivity format {data.get('format')!r}: delete it to measure anew"
            )
        entries = (
            Entry(**{**raw, "setting": Setting(**raw["setting"])}) for raw in data["entries"]
        )
        return cls(tuple(entries), data["images"])

    def to_json(self) -> str:
        """Return the table as JSON text."""
        return json.dumps(self.to_dict(), indent=1)

    @classmethod
    def from_json(cls, text: str) -> SensitivityTable:
        """Read the JSON text of a table."""
        return cls.from_dict(json.loads(text))


def _by_kind(pairs: Iterable[tuple[Kind, float]]) -> dict[Kind, tuple[float, ...]]:
    grouped: dict[Kind, list[float]] = {}
    for kind, value in pairs:
        grouped.setdefault(kind, []).append(value)
    return {kind: tuple(values) for kind, values in grouped.items()}

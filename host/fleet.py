"""Figures of programs on a whole fleet: each board measures them, and a quantile speaks for all."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import nn

from host.artifact import Artifact
from host.crew import Revive, persistently
from host.errors import BoardError
from host.evaluate import Figures
from host.layer_events import Events
from host.meter import Meter
from host.policy import Policy
from host.types import Figure, Provenance

# The share of boards that are as fast as a figure says, by the name of the statistic.
QUANTILES: Mapping[str, float] = {"median": 0.5, "p90": 0.9}
# The worst one of a fleet is the fleet's.
VERDICTS = ("", "trusted", "suspect", "invalid")


@dataclass(frozen=True)
class FleetMeter:
    """A ProgramMeter over several boards of one kind, which measure at the same time.

    A figure is the linear quantile over the boards. Its bounds are those of the spread: from the
    lower bound of the fastest board to the upper bound of the slowest one.
    """

    meters: Sequence[Meter]
    statistic: str

    @classmethod
    def over(cls, meters: Sequence[Meter], statistic: str) -> FleetMeter:
        """Return the meter of a fleet, in which no board answers for another."""
        return cls([replace(meter, own=True, measured=0) for meter in meters], statistic)

    @property
    def measured(self) -> int:
        """Measurements so far, on all boards."""
        return sum(meter.measured for meter in self.meters)

    def figures(self, network: nn.Module, policy: Policy) -> Figures:
        """Build the program for latency alone and return the fleet's figures."""
        with tempfile.TemporaryDirectory() as folder:
            return self.of(self.meters[0].artifact(network, policy, Path(folder)))

    def of(self, artifact: Artifact) -> Figures:
        """Return the figures of a built program; all boards must answer, or it is another fleet."""
        with ThreadPoolExecutor(len(self.meters)) as pool:
            jobs = [
                pool.submit(persistently, lambda m: m.of(artifact), meter, Meter.revive)
                for meter in self.meters
            ]
            try:
                return combined([job.result() for job in jobs], QUANTILES[self.statistic])
            except BoardError as e:
                raise BoardError(
                    f"{e}; the {self.statistic} of a fleet needs all of its {len(self.meters)} "
                    "boards: mend this one, then resume the run"
                ) from e

    def profile(self, network: nn.Module, policy: Policy) -> Iterable[tuple[str, float]]:
        """Yield (layer, median milliseconds) of every kernel call on the first board."""
        return persistently(lambda m: list(m.profile(network, policy)), *self._first)

    def events(self, network: nn.Module, policy: Policy) -> Events:
        """Return the hardware events of every layer in one inference on the first board."""
        return persistently(lambda m: m.events(network, policy), *self._first)

    @property
    def _first(self) -> tuple[Meter, Revive[Meter]]:
        return self.meters[0], Meter.revive


def combined(each: Sequence[Figures], share: float) -> Figures:
    """Return the figures of a program that several boards ran, from those of every board."""
    energies = [figures.energy_mj for figures in each if figures.energy_mj is not None]
    first, *others = each
    return replace(
        first,
        latency_ms=quantile([figures.latency_ms for figures in each], share),
        energy_mj=quantile(energies, share) if len(energies) == len(each) else None,
        verdict=max((figures.verdict for figures in each), key=VERDICTS.index),
        others=tuple(figures.measurement for figures in others),
    )


def quantile(each: Sequence[Figure], share: float) -> Figure:
    """Return the linear quantile over boards, bounded by their spread; measured where any was."""
    fresh = any(figure.source == "measured" for figure in each)
    source: Provenance = "measured" if fresh else "cached"
    lows = [figure.value if figure.low is None else figure.low for figure in each]
    highs = [figure.value if figure.high is None else figure.high for figure in each]
    value = float(np.quantile([figure.value for figure in each], share))
    return Figure(value, source, min(lows), max(highs))

"""A board with a meter whose clock is not the board's; time passes only where somebody waits."""

from __future__ import annotations

import numpy as np

from device_agent.power.signals import Chirp, Signal
from device_agent.power.stream import StreamMeter

IDLE_W, READING_S = 2.3, 0.01


class Bench:
    """Readings arrive as time passes; their instants are `ahead_s` of the board's."""

    def __init__(
        self,
        ahead_s: float,
        load_w: float = 1.0,
        noise_w: float = 0.0,
        rng: np.random.Generator | None = None,
    ) -> None:
        self.now_s, self.ahead_s, self.load_w, self.noise_w = 100.0, ahead_s, load_w, noise_w
        self._rng = rng or np.random.default_rng(0)
        self._came: list[tuple[float, float]] = []

    def sleep(self, seconds: float, watts: float = IDLE_W) -> None:
        """Let time pass at a power."""
        count = round(seconds / READING_S)
        noise = self._rng.normal(0.0, self.noise_w, count)
        for i in range(count):
            self.now_s += READING_S
            self._came.append((self.now_s + self.ahead_s, watts + float(noise[i])))

    def load(self, seconds: float) -> None:
        """Let time pass with a core busy."""
        self.sleep(seconds, IDLE_W + self.load_w)

    def drain(self) -> list[tuple[float, float]]:
        """Return what came since the last call."""
        came, self._came = self._came, []
        return came

    def clock_s(self) -> float:
        """Return the board's time."""
        return self.now_s

    def meter(self, signal: Signal | None = None) -> StreamMeter:
        """Return a meter over the readings, which a chirp aligns where there is no other signal."""
        return StreamMeter(
            "usb",
            self.drain,
            resolution_w=0.005,
            signal=signal or Chirp(self.load, self.sleep, self.clock_s),
            sleep=self.sleep,
            clock_s=self.clock_s,
        )

"""A perf layer that plays recorded streams: the lowest seam of the counters."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from device_agent.perf import DISABLE, ENABLE, RESET, Reading

NAMES = {ENABLE: "enable", DISABLE: "disable", RESET: "reset"}


@dataclass
class RecordedPerf:
    """Every event has a stream of readings, by (kind, config); the last one stays.

    An event without a stream is not there (ENOENT), as on the A72's missing ones.
    """

    streams: Mapping[tuple[int, int], Sequence[Reading]]
    files: list[tuple[int, int]] = field(default_factory=list)
    played: dict[int, int] = field(default_factory=dict)
    log: list[tuple[str, int]] = field(default_factory=list)
    closed: list[int] = field(default_factory=list)

    def open(self, kind: int, config: int) -> int:
        if (kind, config) not in self.streams:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        self.files.append((kind, config))
        return len(self.files) - 1

    def control(self, file: int, request: int) -> None:
        self.log.append((NAMES[request], file))

    def read(self, file: int) -> Reading:
        stream = self.streams[self.files[file]]
        place = min(self.played.get(file, 0), len(stream) - 1)
        self.played[file] = place + 1
        return stream[place]

    def close(self, file: int) -> None:
        self.closed.append(file)

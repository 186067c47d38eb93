"""A line of the board's own pins, driven through the kernel's GPIO device (uAPI v2); no package.

Tests put a fake in the kernel's place, so that the structures below are read by somebody.
"""

from __future__ import annotations

import fcntl
import os
import struct
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

from device_agent.errors import Unsupported

DEFAULT_CHIP = "/dev/gpiochip0"
CONSUMER = b"hil-lab"
GET_LINE, SET_VALUES = 0xC250B407, 0xC010B40F
OUTPUT = 1 << 3
# gpio_v2_line_request: 64 offsets, consumer, line_config (flags, num_attrs, padding, 10 attributes
# of 24 bytes: none, so the line begins low), num_lines, event_buffer_size, padding, fd.
REQUEST = struct.Struct("=64I32sQI20x240xII20xi")
VALUES = struct.Struct("=QQ")  # bits, mask: of the first line that was asked for


class Kernel(Protocol):
    """What is asked of the kernel; every call raises OSError."""

    def open(self, chip: str) -> int:
        """Open a chip."""
        ...

    def ioctl(self, file: int, request: int, data: bytearray) -> None:
        """Make a request of an open chip or line, in place."""
        ...

    def close(self, file: int) -> None:
        """Close a chip or a line."""
        ...


class LinuxKernel:
    """The kernel of this machine."""

    def open(self, chip: str) -> int:
        """Open a chip."""
        return os.open(chip, os.O_RDWR | os.O_CLOEXEC)

    def ioctl(self, file: int, request: int, data: bytearray) -> None:
        """Make a request of an open chip or line, in place."""
        fcntl.ioctl(file, request, data)

    def close(self, file: int) -> None:
        """Close a chip or a line."""
        os.close(file)


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a chip, by its number there: on a Raspberry Pi the BCM number of the pin."""

    number: int
    chip: str = DEFAULT_CHIP

    @classmethod
    def parse(cls, text: str) -> Line:
        """Read `[CHIP:]LINE`; raises Unsupported for what is no number."""
        chip, _, number = text.rpartition(":")
        if not number.isdecimal():
            raise Unsupported(f'"{text}": name a line by its number, such as 17')
        return cls(int(number), chip or DEFAULT_CHIP)

    def __str__(self) -> str:
        return f"line {self.number} of {self.chip}"


class Output:
    """A line that is ours and driven while the context lasts, low at first."""

    def __init__(self, line: Line, kernel: Kernel | None = None) -> None:
        self._line = line
        self._kernel = kernel or LinuxKernel()
        self._file = -1

    def __enter__(self) -> Output:
        chip = self._kernel.open(self._line.chip)
        try:
            request = bytearray(
                REQUEST.pack(self._line.number, *([0] * 63), CONSUMER, OUTPUT, 0, 1, 0, -1)
            )
            self._kernel.ioctl(chip, GET_LINE, request)
        finally:
            self._kernel.close(chip)
        self._file = REQUEST.unpack(request)[-1]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._kernel.close(self._file)

    def set(self, *, high: bool) -> None:
        """Set the level; raises OSError."""
        self._kernel.ioctl(self._file, SET_VALUES, bytearray(VALUES.pack(int(high), 1)))


def check(line: Line, kernel: Kernel | None = None) -> None:
    """Raise Unsupported where a line cannot be driven here."""
    try:
        with Output(line, kernel):
            pass
    except OSError as e:
        raise Unsupported(
            f"{line} cannot be driven ({e.strerror}): is it free, and is the agent's user in the "
            "group gpio?"
        ) from e

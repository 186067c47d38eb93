"""A line of the board, over a kernel that reads what it is asked as <linux/gpio.h> says."""

from __future__ import annotations

import ctypes
import errno
import os
from dataclasses import dataclass, field

import pytest

from device_agent.errors import Unsupported
from device_agent.power.gpio import GET_LINE, OUTPUT, SET_VALUES, Line, Output, check

CHIP_FILE, LINE_FILE = 5, 7


class Attribute(ctypes.Structure):
    _fields_ = (
        ("id", ctypes.c_uint32), ("padding", ctypes.c_uint32),
        ("values", ctypes.c_uint64), ("mask", ctypes.c_uint64),
    )  # fmt: skip


class Config(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64), ("num_attrs", ctypes.c_uint32),
        ("padding", ctypes.c_uint32 * 5), ("attrs", Attribute * 10),
    )  # fmt: skip


class Request(ctypes.Structure):
    _fields_ = (
        ("offsets", ctypes.c_uint32 * 64), ("consumer", ctypes.c_char * 32), ("config", Config),
        ("num_lines", ctypes.c_uint32), ("event_buffer_size", ctypes.c_uint32),
        ("padding", ctypes.c_uint32 * 5), ("fd", ctypes.c_int32),
    )  # fmt: skip


class Values(ctypes.Structure):
    _fields_ = (("bits", ctypes.c_uint64), ("mask", ctypes.c_uint64))


@dataclass
class FakeKernel:
    """One chip; remembers the levels of its line and what is open."""

    refuses: int = 0
    asked: list[tuple[int, bytes, int, int]] = field(default_factory=list)
    levels: list[int] = field(default_factory=list)
    open_files: list[int] = field(default_factory=list)

    def open(self, chip: str) -> int:
        if chip != "/dev/gpiochip0":
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        self.open_files.append(CHIP_FILE)
        return CHIP_FILE

    def ioctl(self, file: int, request: int, data: bytearray) -> None:
        if self.refuses:
            raise OSError(self.refuses, os.strerror(self.refuses))
        if request == GET_LINE:
            assert file == CHIP_FILE and len(data) == ctypes.sizeof(Request)
            asked = Request.from_buffer(data)
            self.asked.append(
                (asked.offsets[0], asked.consumer, asked.config.flags, asked.num_lines)
            )
            asked.fd = LINE_FILE
            self.open_files.append(LINE_FILE)
        else:
            assert (file, request, len(data)) == (LINE_FILE, SET_VALUES, ctypes.sizeof(Values))
            values = Values.from_buffer(data)
            assert values.mask == 1
            self.levels.append(values.bits)

    def close(self, file: int) -> None:
        self.open_files.remove(file)


def test_a_line_is_asked_for_driven_and_given_back() -> None:
    kernel = FakeKernel()
    with Output(Line(17), kernel) as line:
        assert kernel.open_files == [LINE_FILE]
        line.set(high=True)
        line.set(high=False)
    assert kernel.asked == [(17, b"hil-lab", OUTPUT, 1)]
    assert kernel.levels == [1, 0] and kernel.open_files == []


def test_the_requests_are_those_of_the_kernels_header() -> None:
    # _IOWR(0xB4, number, structure): direction, size, type, number.
    for request, number, structure in ((GET_LINE, 7, Request), (SET_VALUES, 15, Values)):
        assert request == 3 << 30 | ctypes.sizeof(structure) << 16 | 0xB4 << 8 | number


def test_a_line_that_is_taken_is_one_sentence_and_leaves_nothing_open() -> None:
    kernel = FakeKernel(refuses=errno.EBUSY)
    with pytest.raises(Unsupported, match=r"line 17 of /dev/gpiochip0 cannot be driven \(.* busy"):
        check(Line(17), kernel)
    assert kernel.open_files == []
    with pytest.raises(Unsupported, match="line 1 of /dev/nochip"):
        check(Line(1, "/dev/nochip"), kernel)


def test_lines_are_read_from_text() -> None:
    assert Line.parse("17") == Line(17)
    assert Line.parse("/dev/gpiochip1:4") == Line(4, "/dev/gpiochip1")
    for text in ("", "GPIO17", "/dev/gpiochip0:", "-1"):
        with pytest.raises(Unsupported, match="name a line by its number"):
            Line.parse(text)

"""The system calls that no program needs, refused by a filter; decides, `linux` installs it.

The second layer: where namespaces cannot be had, a program still opens no socket, runs no other
program and signals nobody but itself.
"""

from __future__ import annotations

import os
import platform
import struct

from device_agent.linux import (
    NEW_IPC,
    NEW_MOUNTS,
    NEW_NAMES,
    NEW_NETWORK,
    NEW_PIDS,
    NEW_USER,
    filter_calls,
    number,
)

# Numbers on x86_64 and aarch64.
REFUSED: dict[str, tuple[int, int]] = {
    "socket": (41, 198), "io_uring_setup": (425, 425),
    "execve": (59, 221), "execveat": (322, 281),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "pidfd_getfd": (438, 438), "kill": (62, 129), "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240), "pidfd_send_signal": (424, 424),
    # Groups are how the daemon finds what a program started.
    "setsid": (112, 157), "setpgid": (109, 154),
    # Memory that belongs to no process is missed by the limits.
    "memfd_create": (319, 279), "shmget": (29, 194),
    "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39),
    "pivot_root": (155, 41), "chroot": (161, 51), "fsopen": (430, 430), "open_tree": (428, 428),
    "move_mount": (429, 429), "mount_setattr": (442, 442),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218),
}  # fmt: skip
_CLONE, _CLONE3 = (56, 220), (435, 435)
_SIGNAL_THREAD = (234, 131)  # tgkill: how a program aborts itself
_SPACES = NEW_MOUNTS | NEW_NAMES | NEW_IPC | NEW_USER | NEW_PIDS | NEW_NETWORK | 0x02000000
_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32_BIT = 0x40000000

# Classic BPF: load a word, jump where it equals / is at least / shares a bit, return.
_LOAD, _EQUAL, _AT_LEAST, _SHARES, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER_AT, _ARCH_AT, _ARGUMENT_AT = 0, 4, 16
_ALLOW, _KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000
_NOT_PERMITTED, _NO_SUCH_CALL = 1, 38


def refuse_calls() -> None:
    """Refuse them in this process from here on, for good; raises OSError where that fails."""
    filter_calls(program(platform.machine(), os.getpid()))


def program(machine: str, own_pid: int) -> bytes:
    """Return the filter of a machine for a process; raises OSError for an unknown machine."""
    arch = number(_ARCH) if machine == platform.machine() else _ARCH[machine]
    column = 0 if machine == "x86_64" else 1
    lines = [
        _line(_LOAD, _ARCH_AT), _line(_EQUAL, arch, 1, 0), _line(_RETURN, _KILL),
        _line(_LOAD, _NUMBER_AT),
    ]  # fmt: skip
    if machine == "x86_64":
        lines += [_line(_AT_LEAST, _X32_BIT, 0, 1), _line(_RETURN, _KILL)]
    for numbers in REFUSED.values():
        lines += [_line(_EQUAL, numbers[column], 0, 1), _line(_RETURN, _ERROR | _NOT_PERMITTED)]
    # Its flags lie in memory, where a filter cannot look: libraries then use clone.
    lines += [_line(_EQUAL, _CLONE3[column], 0, 1), _line(_RETURN, _ERROR | _NO_SUCH_CALL)]
    lines += _refused_if(_CLONE[column], _SHARES, _SPACES, when=True)
    lines += _refused_if(_SIGNAL_THREAD[column], _EQUAL, own_pid, when=False)
    return b"".join([*lines, _line(_RETURN, _ALLOW)])


def _refused_if(call: int, test: int, value: int, *, when: bool) -> list[bytes]:
    """Refuse a call by its first argument; the number is loaded again for what follows."""
    refuse, allow = (0, 1) if when else (1, 0)
    return [
        _line(_EQUAL, call, 0, 4),
        _line(_LOAD, _ARGUMENT_AT),
        _line(test, value, refuse, allow),
        _line(_RETURN, _ERROR | _NOT_PERMITTED),
        _line(_RETURN, _ALLOW),
    ]


def _line(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)

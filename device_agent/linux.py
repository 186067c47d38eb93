"""The Linux calls that Python lacks, by ctypes on libc; each raises OSError, none decides."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import signal

NEW_MOUNTS, NEW_NAMES, NEW_IPC = 0x00020000, 0x04000000, 0x08000000
NEW_USER, NEW_PIDS, NEW_NETWORK = 0x10000000, 0x20000000, 0x40000000
NO_SUID, NO_DEVICES, NO_EXEC = 2, 4, 8
_BIND, _RECURSIVE, _PRIVATE = 4096, 16384, 1 << 18
_DETACH = 2
_AT_RECURSIVE, _READ_ONLY = 0x8000, 1  # flags of mount_setattr
_PDEATHSIG, _NO_NEW_PRIVS = 1, 38  # commands of prctl
_ASK, _NO_RANDOMIZE = 0xFFFFFFFF, 0x0040000  # of personality
_CAPABILITY_VERSION = 0x20080522
# Of the calls that libc has no function for; mount_setattr has one number everywhere.
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_CAPSET = {"x86_64": 126, "aarch64": 91}
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_MOUNT_SETATTR = 442
_FILTER = 1
# Without it kernels before 5.16 slow every filtered process down (speculative stores).
_SPEC_ALLOW = 1 << 2

_LIBC = ctypes.CDLL(None, use_errno=True)


def number(table: dict[str, int]) -> int:
    """Return this machine's number of a call; raises OSError where it is not known."""
    machine = platform.machine()
    if machine not in table:
        raise OSError(errno.ENOSYS, f"no system call numbers of {machine}")
    return table[machine]


def die_with_parent() -> None:
    """Have this process killed when the one that made it ends."""
    _checked(_LIBC.prctl(_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")


def fix_addresses() -> None:
    """Give what this process becomes (exec) the same addresses each time."""
    _checked(_LIBC.personality(_LIBC.personality(_ASK) | _NO_RANDOMIZE), "personality")


def addresses_fixed() -> bool:
    """Whether this process has such addresses."""
    return bool(_LIBC.personality(_ASK) & _NO_RANDOMIZE)


def gain_nothing() -> None:
    """Give up all capabilities, and gaining any by running a set-user-ID program."""
    _checked(_LIBC.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    none = (ctypes.c_uint32 * 6)()
    _checked(_LIBC.syscall(number(_CAPSET), header, none), "capset")


def unshare(flags: int) -> None:
    """Leave namespaces for new ones; new process ids are those of later children."""
    _checked(_LIBC.unshare(flags), "unshare")


def keep_mounts() -> None:
    """Let no mount made from here on be seen by others."""
    _mount("none", "/", None, _RECURSIVE | _PRIVATE)


def mount_memory(place: str, options: str, flags: int) -> None:
    """Mount an empty file system of memory."""
    _mount("tmpfs", place, "tmpfs", flags, options)


def bind(source: str, place: str) -> None:
    """Show a file or a folder at another place as well."""
    _mount(source, place, None, _BIND | _RECURSIVE)


def make_read_only(place: str) -> None:
    """Make a mount and all below it read-only, without devices (Linux 5.12)."""
    attributes = (ctypes.c_uint64 * 4)(_READ_ONLY | NO_SUID | NO_DEVICES, 0, 0, 0)
    size = ctypes.c_size_t(ctypes.sizeof(attributes))
    done = _LIBC.syscall(_MOUNT_SETATTR, -100, place.encode(), _AT_RECURSIVE, attributes, size)
    _checked(done, "mount_setattr")


def unmount(place: str) -> None:
    """Take a mount away, also where it is in use."""
    _checked(_LIBC.umount2(place.encode(), _DETACH), "umount")


def change_root(place: str) -> None:
    """Make a mount the root of this namespace; nothing of the old one can be reached."""
    os.chdir(place)
    _checked(_LIBC.syscall(number(_PIVOT_ROOT), b".", b"."), "pivot_root")
    unmount(".")
    os.chdir("/")


def filter_calls(program: bytes) -> None:
    """Put every later system call of this process through a filter (classic BPF)."""
    instructions = ctypes.create_string_buffer(program, len(program))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    packed = Program(len(program) // 8, ctypes.addressof(instructions))
    done = _LIBC.syscall(number(_SECCOMP), _FILTER, _SPEC_ALLOW, ctypes.byref(packed))
    _checked(done, "seccomp")


def _mount(source: str, place: str, kind: str | None, flags: int, options: str = "") -> None:
    done = _LIBC.mount(
        source.encode(),
        place.encode(),
        kind.encode() if kind else None,
        ctypes.c_ulong(flags),
        options.encode(),
    )
    _checked(done, f"mount {place}")


def _checked(result: int, what: str) -> None:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")

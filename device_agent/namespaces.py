"""A world of a program's own: its processes, no network, a file system of what it is shown.

Nothing here knows programs. What is shown is read-only, but for a scratch folder of memory.
"""

from __future__ import annotations

import os
import select
import signal
import struct
from collections.abc import Sequence
from pathlib import Path

from device_agent import linux

SCRATCH = "/scratch"
SCRATCH_BYTES = 64 << 20
ROOT_BYTES = 1 << 20
SCRATCH_FILES = 4096
# What a process of root becomes: one id for each run. systemd keeps nothing above its containers.
FIRST_USER = 1_900_000_000
_MOUNT_POINT = "/tmp"
_STATUS = struct.Struct("=i")


def enter() -> None:
    """Go on as a child in new namespaces, which ends with its parent, all its children too.

    The parent waits here and ends as the child does. Raises OSError where there are none.
    """
    own, group = os.geteuid(), os.getegid()
    spaces = linux.NEW_MOUNTS | linux.NEW_NETWORK | linux.NEW_IPC | linux.NEW_PIDS | linux.NEW_NAMES
    linux.unshare(spaces if own == 0 else spaces | linux.NEW_USER)
    if own != 0:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{own} {own} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    linux.keep_mounts()
    reading, writing = os.pipe()
    if first := os.fork():
        os.close(writing)
        _end_as(_status(reading, first))
    os.close(reading)
    linux.die_with_parent()
    _orphaned_ends(writing)
    # The first process of a namespace cannot abort itself: the program is the second one.
    if second := os.fork():
        os.write(writing, _STATUS.pack(_wait(second)))
        os._exit(0)
    os.close(writing)


def show_only(shown: Sequence[Path]) -> None:
    """Make what is shown, at its own path, and the scratch folder the whole file system.

    Raises OSError where that fails, with everything where it was.
    """
    # Looked at before the mount: what lies below the mount point is out of sight after it.
    sources = [(path, path.is_dir(), os.open(path, os.O_PATH)) for path in shown]
    linux.mount_memory(_MOUNT_POINT, f"size={ROOT_BYTES},mode=755", linux.NO_SUID)
    try:
        for path, is_folder, source in sources:
            place = Path(_MOUNT_POINT, *path.parts[1:])
            _make_place(place, is_folder=is_folder)
            linux.bind(f"/proc/self/fd/{source}", str(place))
        scratch = Path(_MOUNT_POINT, SCRATCH[1:])
        scratch.mkdir()
        linux.make_read_only(_MOUNT_POINT)
        options = f"size={SCRATCH_BYTES},nr_inodes={SCRATCH_FILES},mode=1777"
        linux.mount_memory(str(scratch), options, linux.NO_SUID | linux.NO_DEVICES)
        linux.change_root(_MOUNT_POINT)
    except OSError:
        linux.unmount(_MOUNT_POINT)
        raise
    finally:
        for *_, source in sources:
            os.close(source)


def become_nobody(run: int) -> None:
    """Where this is root, become a user that no other run is; raises OSError where it may not."""
    if os.geteuid() != 0:
        return
    user = FIRST_USER + run
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


def _make_place(place: Path, *, is_folder: bool) -> None:
    folder = place if is_folder else place.parent
    folder.mkdir(parents=True, exist_ok=True)
    if not is_folder:
        place.touch()


def _orphaned_ends(pipe: int) -> None:
    """End where the parent was gone before it could take us along: nobody reads the pipe."""
    poll = select.poll()
    poll.register(pipe, 0)
    if poll.poll(0):
        os._exit(1)


def _wait(child: int) -> int:
    """Return how a child ended, and bury whatever else ends meanwhile."""
    while True:
        ended, status = os.wait()
        if ended == child:
            return status


def _status(pipe: int, child: int) -> int:
    """Return how the program ended, or how what watched it did, where that was first."""
    data = os.read(pipe, _STATUS.size)
    _, status = os.waitpid(child, 0)
    return _STATUS.unpack(data)[0] if len(data) == _STATUS.size else status


def _end_as(status: int) -> None:
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status))

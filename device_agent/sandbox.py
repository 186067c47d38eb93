"""What a worker does to itself before it loads a program; loads none, and never raises by surprise.

A program is code that somebody sent. It gets no network, no files but its own and a scratch folder,
no other processes, no privileges, and limits on memory, processor time, processes and files. What
the machine does not grant is said in a note; docs/security.md says what each part is worth.
"""

from __future__ import annotations

import os
import resource
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from device_agent import linux, namespaces
from device_agent.errors import Unsupported
from device_agent.seccomp import refuse_calls

PROCESSES = 64
OPEN_FILES = 256
FILE_BYTES = 64 << 20
# Beside what a program may hold: stacks and arenas that are reserved, never touched.
ADDRESS_MARGIN_BYTES = 2 << 30
CPU_S = 3600
SYSTEM_FOLDERS = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/sys/devices/system/cpu")


@dataclass(frozen=True, slots=True)
class Confinement:
    """How to confine a program: `files` are all that it is shown of its own.

    Under emulation a root of `own_files` is out of reach: the emulator has paths of its own.
    With `required`, a worker that cannot do all of it refuses to work.
    """

    memory_bytes: int
    files: tuple[Path, ...] = ()
    namespaces: bool = True
    own_files: bool = True
    required: bool = False


@dataclass(frozen=True, slots=True)
class Confined:
    """What was done: how many processes wait around the program, and what could not be done."""

    wrappers: int = 0
    notes: tuple[str, ...] = ()


def confine(wanted: Confinement) -> Confined:
    """Give up what a program must not have; call it with one thread, all that is trusted loaded.

    Raises Unsupported where confinement is required and incomplete.
    """
    notes: list[str] = []
    run = os.getpid()
    entered = _enter(wanted, notes)
    _attempt(notes, "limits", lambda: _limit(wanted.memory_bytes, alone=entered))
    if entered and _show(wanted, notes):
        _attempt(notes, "user", lambda: namespaces.become_nobody(run))
        _use_scratch()
    if os.geteuid() == 0:
        notes.append("sandbox: user: root may read its files and start any number of processes")
    _attempt(notes, "privileges", linux.gain_nothing)
    _attempt(notes, "system calls", refuse_calls)
    if notes and wanted.required:
        raise Unsupported(
            f"the agent runs confined programs only, and this machine refuses: {'; '.join(notes)}"
        )
    return Confined(2 if entered else 0, tuple(notes))


def main() -> int:
    """Confine this process and say what could not be done: `python -m device_agent.sandbox`."""
    notes = confine(Confinement(memory_bytes=1 << 30)).notes
    sys.stdout.write("".join(f"{note}\n" for note in notes))
    return 1 if notes else 0


def _enter(wanted: Confinement, notes: list[str]) -> bool:
    if not wanted.namespaces:
        notes.append("sandbox: namespaces: not asked for")
        return False
    return _attempt(notes, "namespaces", namespaces.enter)


def _show(wanted: Confinement, notes: list[str]) -> bool:
    if not wanted.own_files:
        notes.append("sandbox: file system: the program is emulated")
        return False
    return _attempt(notes, "file system", lambda: namespaces.show_only(_shown(wanted)))


def _attempt(notes: list[str], what: str, step: Callable[[], None]) -> bool:
    """Take a step; note where the machine does not grant it."""
    try:
        step()
    except (OSError, ValueError) as e:
        notes.append(f"sandbox: {what}: {getattr(e, 'strerror', None) or e}")
        return False
    return True


def _limit(memory_bytes: int, *, alone: bool) -> None:
    """Set the limits; processes are counted per user, with everybody else's where not `alone`."""
    address_bytes = _pages() * resource.getpagesize() + memory_bytes + ADDRESS_MARGIN_BYTES
    others = 0 if alone else _tasks_of(os.getuid())
    cores = os.cpu_count() or 1
    for kind, most in (
        (resource.RLIMIT_AS, address_bytes),
        (resource.RLIMIT_CPU, CPU_S * cores),
        (resource.RLIMIT_NPROC, PROCESSES + others),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_FSIZE, FILE_BYTES),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(kind)
        lower = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (lower, lower))


def _shown(wanted: Confinement) -> Sequence[Path]:
    """Return what the program may read: libraries, Python, what is imported, its own files."""
    candidates = [*map(Path, SYSTEM_FOLDERS), Path(sysconfig.get_path("stdlib")), *_imported()]
    shown: list[Path] = []
    for path in sorted(set(candidates), key=lambda p: len(p.parts)):
        if path.exists() and not any(path.is_relative_to(other) for other in shown):
            shown.append(path)
    return (*shown, *(file for file in wanted.files if file.exists()))


def _imported() -> Iterator[Path]:
    """Yield the folders and files of the packages that this process has imported."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if "." in name or not file:
            continue
        yield Path(file).parent if Path(file).name == "__init__.py" else Path(file)


def _use_scratch() -> None:
    os.environ["TMPDIR"] = tempfile.tempdir = namespaces.SCRATCH
    os.chdir(namespaces.SCRATCH)


def _pages() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0])


def _tasks_of(user: int) -> int:
    """Return how many threads a user has."""
    return sum(
        _threads(folder) for folder in Path("/proc").glob("[0-9]*") if _owner(folder) == user
    )


def _threads(process: Path) -> int:
    try:
        return len(os.listdir(process / "task"))
    except OSError:  # it has ended
        return 0


def _owner(process: Path) -> int | None:
    try:
        return process.stat().st_uid
    except OSError:  # it has ended
        return None


if __name__ == "__main__":
    sys.exit(main())

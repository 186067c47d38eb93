"""Shared libraries that do a deed when they are loaded, and say by their exit how it went."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from host.artifact import Artifact
from tests.contracts.support import plain_artifact

CC = shutil.which("cc") or shutil.which("gcc")
DONE, REFUSED = 77, 78
HEAD = """
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#define EAT { char *p = malloc(1 << 22); if (p) memset(p, 1, 1 << 22); }
static void end(int done) { _exit(done ? 77 : 78); }
"""
# Each sets `done` where it got what it wanted. PATH and PORT are filled in.
DEEDS = {
    "connect": """
        struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(PORT)};
        to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        int s = socket(AF_INET, SOCK_STREAM, 0);
        done = s >= 0 && connect(s, (struct sockaddr *)&to, sizeof to) == 0;""",
    "raw-socket-call": "done = syscall(SYS_socket, AF_UNIX, SOCK_STREAM, 0) >= 0;",
    "write-outside": 'done = open("PATH", O_CREAT | O_WRONLY, 0600) >= 0;',
    "write-libraries": 'done = open("/usr/lib/hil-was-here", O_CREAT | O_WRONLY, 0600) >= 0;',
    "read-secret": 'done = open("PATH", O_RDONLY) >= 0;',
    "read-users": 'done = open("/etc/passwd", O_RDONLY) >= 0;',
    "read-environment": 'done = open("/proc/1/environ", O_RDONLY) >= 0;',
    "list-processes": 'done = open("/proc", O_RDONLY) >= 0;',
    "allocate-10-gb": """
        size_t all = 10ul << 30;
        char *p = mmap(0, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        done = p != MAP_FAILED;""",
    "hidden-memory": 'done = memfd_create("m", 0) >= 0;',
    "run-a-shell": 'execl("/bin/true", "true", (char *)0);',  # where that works, the exit is 0
    "kill-everybody": "done = kill(-1, 0) == 0;",
    "kill-the-parent": "done = kill(getppid(), 0) == 0;",
    "become-root": "done = setuid(0) == 0;",
    "new-namespaces": "done = unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0;",
    "mount": 'done = mount("none", "/scratch", "tmpfs", 0, "") == 0;',
    "trace": "done = ptrace(PTRACE_ATTACH, getppid(), 0, 0) == 0;",
    "leave-the-group": """
        int status = 0;
        if (fork() == 0) _exit(setsid() > 0);
        wait(&status);
        done = WEXITSTATUS(status);""",
    "fill-scratch": """
        static char block[1 << 20];
        signal(SIGXFSZ, SIG_IGN);
        int f = open("/scratch/f", O_CREAT | O_WRONLY, 0600), i = 0;
        while (f >= 0 && i < 100 && write(f, block, sizeof block) == sizeof block) i++;
        done = i == 100;""",
    "many-files": "int i = 0; while (i < 1000 && dup(1) >= 0) i++; done = i == 1000;",
}
# These have no end of their own.
ENDLESS = {
    "fork-bomb": 'prctl(PR_SET_NAME, "hil-stray"); for (;;) fork();',
    "fork-and-eat": 'prctl(PR_SET_NAME, "hil-stray"); while (fork() >= 0); for (;;) EAT',
    "eat": "for (;;) EAT",
    "stray": """
        if (fork() == 0) { fork(); prctl(PR_SET_NAME, "hil-stray"); for (;;) pause(); }
        end(0);""",
    "flood-of-frames": """
        static char zeros[1 << 16];
        for (;;) for (int f = 3; f < 32; f++) if (write(f, zeros, sizeof zeros) < 0) continue;""",
    "huge-frame": """
        long all = -1;
        for (int f = 3; f < 32; f++) if (write(f, &all, 8)) continue;
        pause();""",
}


def compiled(folder: Path, deed: str, path: str = "", port: int = 0) -> bytes:
    """Return the library of a deed."""
    assert CC
    body = DEEDS.get(deed)
    body = f"int done = 0; {body} end(done);" if body else ENDLESS[deed]
    body = body.replace("PATH", path).replace("PORT", str(port))
    source, out = folder / "hostile.c", folder / "hostile.so"
    source.write_text(f"{HEAD}__attribute__((constructor)) static void f(void) {{ {body} }}\n")
    subprocess.run([CC, "-O0", "-shared", "-fPIC", source, "-o", out], check=True)
    return out.read_bytes()


def hostile_artifact(folder: Path, deed: str, path: str = "", port: int = 0) -> Artifact:
    """Return the artifact of a deed."""
    return plain_artifact(folder / deed, compiled(folder, deed, path, port))

"""Runs on the board as root, alone: a JSON request on stdin, a JSON answer; keeps a journal.

Standard library of Python 3.9 and later; nothing of ours is imported, since nothing of ours is
there yet. `root` is where the file system begins. Every change is preceded by a durable line in the
journal that says what was there before, which is what `undo` goes by.
"""

from __future__ import annotations

import base64
import grp
import hashlib
import json
import os
import pwd
import shutil
import stat
import subprocess
import sys
import tarfile
from typing import Any

HOME = "var/lib/hil-lab-provision"


class Board:
    """The board's file system and its journal."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.home = os.path.join(root, HOME)
        self.journal = os.path.join(self.home, "journal.jsonl")

    def path(self, path: str) -> str:
        return os.path.join(self.root, path.lstrip("/"))

    def state(self, paths: list[str]) -> dict[str, Any]:
        """Return what is at each path: null, or its digest, mode and owner."""
        return {path: self._one(path) for path in paths}

    def read(self, path: str) -> str | None:
        """Return the content of a file, null where there is none."""
        try:
            with open(self.path(path), "rb") as file:
                return base64.b64encode(file.read()).decode()
        except FileNotFoundError:
            return None

    def put(self, path: str, content: str, mode: str, owner: str) -> None:
        """Write a file atomically, remembering the first time what was there."""
        target = self.path(path)
        self._remember_file(path)
        self._parents(os.path.dirname(path))
        part = target + ".hil-lab-part"
        with open(part, "wb") as file:
            file.write(base64.b64decode(content))
            file.flush()
            os.fsync(file.fileno())
        os.chmod(part, int(mode, 8))
        self._own(part, owner)
        os.replace(part, target)
        self._sync(os.path.dirname(target))

    def folder(self, path: str, mode: str, owner: str) -> None:
        """Make a folder of ours."""
        self._parents(path)
        os.chmod(self.path(path), int(mode, 8))
        self._own(self.path(path), owner)

    def link(self, path: str, to: str) -> None:
        """Point a link at something, atomically."""
        target = self.path(path)
        if not os.path.lexists(target):
            self._note({"kind": "made", "path": path})
        part = target + ".hil-lab-part"
        if os.path.lexists(part):
            os.remove(part)
        os.symlink(to, part)
        os.replace(part, target)

    def user(self, name: str, home: str) -> None:
        """Make a system user without a shell."""
        try:
            pwd.getpwnam(name)
        except KeyError:
            self._note({"kind": "user", "name": name})
            shell = ["--shell", "/usr/sbin/nologin"]
            self.run(["useradd", "--system", "--home-dir", home, *shell, name])

    def groups(self, name: str, groups: list[str]) -> None:
        """Add a user to those groups that exist here."""
        known = {group.gr_name: group for group in grp.getgrall()}
        for group in groups:
            if group in known and name not in known[group].gr_mem:
                self._note({"kind": "member", "name": name, "group": group})
                self.run(["usermod", "--append", "--groups", group, name])

    def received(self, path: str) -> dict[str, Any]:
        """Return how many bytes of an upload are there, and their digest."""
        target = self.path(path)
        if not os.path.exists(target):
            return {"bytes": 0, "digest": hashlib.sha256().hexdigest()}
        return {"bytes": os.path.getsize(target), "digest": _digest(target)}

    def append(self, path: str, offset: int, content: str) -> None:
        """Add to an upload at an offset."""
        self._parents(os.path.dirname(path))
        with open(self.path(path), "r+b" if os.path.exists(self.path(path)) else "wb") as file:
            file.seek(offset)
            file.truncate()
            file.write(base64.b64decode(content))
            file.flush()
            os.fsync(file.fileno())

    def unpack(self, archive: str, digest: str, into: str) -> None:
        """Unpack a complete upload, all of it or nothing."""
        import compileall  # here: every order is a start of Python, and this import takes its time

        source, target = self.path(archive), self.path(into)
        if os.path.isdir(target):
            return
        if _digest(source) != digest:
            os.remove(source)
            raise SystemExit("the upload arrived damaged; provision again")
        self._parents(os.path.dirname(into))
        part = target + ".part"
        shutil.rmtree(part, ignore_errors=True)
        with tarfile.open(source) as tar:
            for member in tar.getmembers():
                if member.name.startswith("/") or ".." in member.name.split("/"):
                    raise SystemExit("the archive holds a path outside of itself")
            tar.extractall(part)
        # The agent may not write there: its programs would compile their imports at every start.
        compileall.compile_dir(part, quiet=2, stripdir=part, prependdir=target, workers=0)
        os.sync()
        os.rename(part, target)
        os.remove(source)

    def run(self, command: list[str]) -> str:
        """Run a command; its output is the answer."""
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        said: str = done.stdout.decode(errors="replace").strip()
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}: exit status {done.returncode}: {said}")
        return said

    def ask(self, command: list[str]) -> dict[str, Any]:
        """Run a command that may fail: its status and output."""
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        except FileNotFoundError:
            return {"status": 127, "said": command[0] + " is not there"}
        return {"status": done.returncode, "said": done.stdout.decode(errors="replace").strip()}

    def unit(self, name: str) -> None:
        """Enable a unit, remembering that it was not."""
        if self.ask(["systemctl", "is-enabled", name])["said"] != "enabled":
            self._note({"kind": "unit", "name": name})
            self.run(["systemctl", "enable", name])

    def undo(self) -> list[str]:
        """Restore everything that the journal names, the newest first; then forget the journal."""
        if not os.path.exists(self.journal):
            return []
        undone = []
        for entry in reversed(self._entries()):
            undone.append(getattr(self, "_undo_" + entry["kind"])(entry))
        shutil.rmtree(self.home)
        os.sync()
        return [line for line in undone if line]

    def _undo_file(self, entry: dict[str, Any]) -> str:
        target = self.path(entry["path"])
        if entry["was"] is None:
            if os.path.lexists(target):
                os.remove(target)
            return f"removed {entry['path']}"
        copy = os.path.join(self.home, entry["was"]["copy"])
        part = target + ".hil-lab-part"
        shutil.copyfile(copy, part)
        os.chmod(part, int(entry["was"]["mode"], 8))
        self._own(part, entry["was"]["owner"])
        os.replace(part, target)
        return f"restored {entry['path']}"

    def _undo_made(self, entry: dict[str, Any]) -> str:
        target = self.path(entry["path"])
        if os.path.islink(target) or os.path.isfile(target):
            os.remove(target)
        else:
            shutil.rmtree(target, ignore_errors=True)
        return f"removed {entry['path']}"

    def _undo_user(self, entry: dict[str, Any]) -> str:
        self.ask(["pkill", "-KILL", "-u", entry["name"]])
        self.ask(["userdel", entry["name"]])
        return f"removed user {entry['name']}"

    def _undo_member(self, entry: dict[str, Any]) -> str:
        self.ask(["gpasswd", "--delete", entry["name"], entry["group"]])
        return ""

    def _undo_unit(self, entry: dict[str, Any]) -> str:
        self.ask(["systemctl", "disable", "--now", entry["name"]])
        return f"disabled {entry['name']}"

    def _one(self, path: str) -> dict[str, Any] | None:
        target = self.path(path)
        if os.path.islink(target):
            return {"link": os.readlink(target)}
        try:
            found = os.stat(target)
        except FileNotFoundError:
            return None
        owner = _owner(found)
        mode = f"{stat.S_IMODE(found.st_mode):04o}"
        if os.path.isdir(target):
            return {"folder": True, "mode": mode, "owner": owner}
        return {"digest": _digest(target), "mode": mode, "owner": owner}

    def _remember_file(self, path: str) -> None:
        if path in self._remembered():
            return
        was = self._one(path)
        if was is not None:
            name = f"file-{len(self._remembered())}"
            os.makedirs(self.home, mode=0o700, exist_ok=True)
            shutil.copyfile(self.path(path), os.path.join(self.home, name))
            was = dict(was, copy=name)
        self._note({"kind": "file", "path": path, "was": was})

    def _remembered(self) -> list[str]:
        return [entry["path"] for entry in self._entries() if entry["kind"] == "file"]

    def _entries(self) -> list[dict[str, Any]]:
        """Return the journal; a line that was cut short was never acted upon."""
        if not os.path.exists(self.journal):
            return []
        entries = []
        with open(self.journal) as file:
            for line in file:
                try:
                    entries.append(json.loads(line))
                except ValueError:
                    continue
        return entries

    def _parents(self, path: str) -> None:
        """Make a folder and those above it, remembering the first one that was not there."""
        target = self.path(path)
        if os.path.isdir(target):
            return
        above = os.path.dirname(path)
        if above not in ("", "/"):
            self._parents(above)
        if os.path.isdir(self.path(above)) and not os.path.isdir(target):
            self._note({"kind": "made", "path": path})
            os.mkdir(target, 0o755)

    def _note(self, entry: dict[str, Any]) -> None:
        os.makedirs(self.home, mode=0o700, exist_ok=True)
        # A line that was cut short by a power cut is no entry: end it before the next.
        whole = True
        if os.path.exists(self.journal):
            with open(self.journal, "rb") as file:
                content = file.read()
            whole = not content or content.endswith(b"\n")
        with open(self.journal, "a") as file:
            file.write(("" if whole else "\n") + json.dumps(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._sync(self.home)

    def _own(self, path: str, owner: str) -> None:
        if os.geteuid() == 0:
            user, _, group = owner.partition(":")
            os.chown(path, pwd.getpwnam(user).pw_uid, grp.getgrnam(group).gr_gid)

    def _sync(self, folder: str) -> None:
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _owner(found: os.stat_result) -> str:
    try:
        return pwd.getpwuid(found.st_uid).pw_name + ":" + grp.getgrgid(found.st_gid).gr_name
    except KeyError:
        return f"{found.st_uid}:{found.st_gid}"


def _digest(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for chunk in iter(lambda: file.read(1 << 20), b""):
            digest.update(chunk)
    return digest.hexdigest()


def main() -> None:
    """Answer the requests of stdin: a JSON list of [operation, arguments]."""
    request = json.load(sys.stdin)
    board = Board(request["root"])
    answers = [getattr(board, name)(**arguments) for name, arguments in request["do"]]
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()

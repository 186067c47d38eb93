"""Run folders: what a search leaves behind and resumes from; the only writer of their files."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from hil_lab.recipe import Recipe, build
from host.errors import CallerError, StoreError

RECIPE, EVENTS, RESULT, RUN_FORMAT = "recipe.json", "events.jsonl", "result.json", 1
# A search for all targets together, beside those named after their target; in a search's folder.
FRONT, SURROGATE = "front", "surrogate.json"
# The noise that weights bear, and how many can go by it; and networks trained between stages, by
# what is left of them.
NOISE, LOOSE, STAGES = "noise.safetensors", "loose.json", "stages"
# Digests of the weights and images that all figures of a run are of.
ORIGIN = "origin.json"
# In the folder of a finished program.
NETWORK, POLICY, FINALIST = "network.safetensors", "policy.json", "finalist.json"


@dataclass(frozen=True, slots=True)
class Run:
    """One run folder."""

    folder: Path

    @property
    def name(self) -> str:
        """The folder's name, which is the run's."""
        return self.folder.name

    @property
    def recipe(self) -> Recipe:
        """The resolved recipe."""
        return build(Recipe, self.read(RECIPE)["recipe"])

    def path(self, *parts: str) -> Path:
        """Return a path inside the run."""
        return self.folder.joinpath(*parts)

    def read(self, name: str) -> dict[str, Any]:
        """Read a JSON file of the run; raises StoreError where it is missing or corrupt."""
        try:
            data: dict[str, Any] = json.loads(self.path(name).read_text())
        except (OSError, json.JSONDecodeError) as e:
            raise StoreError(f"{self.path(name)} cannot be read: {e}") from e
        return data

    def write(self, name: str, value: Mapping[str, Any]) -> None:
        """Write a JSON file atomically."""
        path = self.path(name)
        temporary = path.with_name(path.name + ".part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("w") as file:
                json.dump(value, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError as e:
            raise StoreError(
                f"cannot write {path}: {e.strerror}; free some space, then: hil-lab resume "
                f"{self.folder}"
            ) from e

    @property
    def origin(self) -> dict[str, str]:
        """What the run was tied to: digests by what they are of; none before its first work."""
        return self.read(ORIGIN) if self.path(ORIGIN).is_file() else {}

    def tie(self, what: str, identity: str) -> None:
        """Tie the run to what its figures are of; raises CallerError where it was another.

        A checkpoint or an image that changed between two sittings would mix figures of both.
        """
        kept = self.origin
        if what not in kept:
            self.write(ORIGIN, {**kept, what: identity})
        elif kept[what] != identity:
            raise CallerError(
                f"{self.folder} holds figures of other {what} than there are now; put those back, "
                "or begin in another folder"
            )

    def event(self, kind: str, **fields: Any) -> None:
        """Append a line to the run's log of events."""
        line = json.dumps({"at": _now().isoformat(timespec="seconds"), "event": kind, **fields})
        try:
            with self.path(EVENTS).open("a") as file:
                file.write(line + "\n")
        except OSError as e:
            raise StoreError(
                f"cannot write {self.path(EVENTS)}: {e.strerror}; free some space, then: hil-lab "
                f"resume {self.folder}"
            ) from e

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run against a second process."""
        try:
            with FileLock(self.path(".lock"), timeout=0):
                yield
        except Timeout as e:
            raise CallerError(f"{self.folder} is being worked on by another process") from e


def start_run(recipe: Recipe, versions: Mapping[str, str]) -> Run:
    """Make the folder of a new run."""
    model = recipe.model.replace(":", "-").replace("/", "-").replace(".", "-")
    name = f"{_now():%Y-%m-%d}-{model}-{secrets.token_hex(2)}"
    run = Run(Path(recipe.runs) / name)
    run.write(
        RECIPE, {"format": RUN_FORMAT, "recipe": recipe.to_dict(), "versions": dict(versions)}
    )
    return run


def open_run(folder: Path) -> Run:
    """Open an existing run; raises CallerError where the folder is not one."""
    if not (folder / RECIPE).is_file():
        raise CallerError(f"{folder} is not a run: it holds no {RECIPE}")
    return Run(folder)


def _now() -> datetime:
    return datetime.now(UTC)

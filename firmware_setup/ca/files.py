"""Files of the authority: whole or absent, private where they are keys, never half written."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from host.errors import StoreError

PRIVATE, PUBLIC, PRIVATE_FOLDER = 0o600, 0o644, 0o700


def private_folder(path: Path) -> Path:
    """Make a folder that its owner alone may read, and return it; one that is there stays."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=PRIVATE_FOLDER)
    except OSError as e:
        raise StoreError(f"{path}: {e.strerror}") from e
    return path


def write(path: Path, data: bytes, mode: int = PUBLIC) -> None:
    """Replace a file by a whole new one; raises StoreError where the disk refuses."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        # Made with its mode: a key is at no time readable by others.
        file = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
        try:
            with os.fdopen(file, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.rename(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as e:
        raise StoreError(f"{path}: {e.strerror}") from e

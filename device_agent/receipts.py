"""Signs receipts with the board's own Ed25519 key, by the `openssl` program; keeps no receipt.

The key is made on the first use, lies in the agent's state folder with mode 0600, and never leaves
it. Without the program a receipt is not signed, and says so: the agent needs no package for it.
"""

from __future__ import annotations

import base64
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from device_agent.durable import write_durably
from protos.values import Receipt

KEY_FILE = "receipt.key"
PROGRAM = "openssl"
TIMEOUT_S = 20.0


class Signer:
    """The board's key; `program` is what knows Ed25519."""

    def __init__(self, state_dir: Path, program: str = PROGRAM) -> None:
        self._key_file = state_dir / KEY_FILE
        self._program = program
        self._lock = threading.Lock()
        self._public = ""

    def sign(self, statement: str) -> Receipt:
        """Return the receipt of a statement; unsigned, with the reason, where signing fails."""
        try:
            with self._lock:
                key = self._key()
            signature = self._signature(statement)
        except (OSError, subprocess.SubprocessError) as e:
            return Receipt(statement, unsigned=f"not signed: {_why(e)}")
        return Receipt(statement, base64.b64encode(signature).decode(), key)

    def _key(self) -> str:
        """Return the public key, DER in base64; the private one is made where it is missing.

        Older agents did not sync it, and a power cut left it empty.
        """
        if not self._public:
            if not (self._key_file.exists() and self._key_file.stat().st_size):
                private = self._run("genpkey", "-algorithm", "ed25519")
                write_durably(self._key_file, private, mode=0o600)
            der = self._run("pkey", "-in", str(self._key_file), "-pubout", "-outform", "DER")
            self._public = base64.b64encode(der).decode()
        return self._public

    def _signature(self, statement: str) -> bytes:
        # pkeyutl must know the length of what it signs, so it wants a file.
        with tempfile.NamedTemporaryFile() as file:
            file.write(statement.encode())
            file.flush()
            key = ("-inkey", str(self._key_file))
            return self._run("pkeyutl", "-sign", "-rawin", *key, "-in", file.name)

    def _run(self, *arguments: str) -> bytes:
        command: Sequence[str] = (self._program, *arguments)
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=True)
        return done.stdout


def _why(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return f"the board has no {PROGRAM}"
    if isinstance(error, subprocess.CalledProcessError):
        said = error.stderr.decode(errors="replace").strip().splitlines()
        return f"{PROGRAM} failed" + (f" ({said[-1]})" if said else "")
    return f"{type(error).__name__}: {error}"

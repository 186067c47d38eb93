"""The agent's domain errors, each with its status code and reason; never gRPC itself.

AgentError
├── Busy              somebody else holds the board, or something is running
├── Quarantined       the board is unfit: the message says why
├── NotYourLease      the token expired or was fenced off
├── NotAllowed        the caller's role does not cover the call
├── RevokedCertificate  the caller's certificate is on the list of revoked ones
├── Rejected          the artifact or the request is malformed
├── Missing           the artifact, or a blob that it needs, is not here
├── CorruptBlob       the bytes are not those of the digest
├── DiskFull          no room, and nothing may be evicted
├── WrongVersion      another runtime ABI or machine
├── Unsupported       this board cannot do that
└── RunFailed         the program failed while running
    ├── Crashed       it died of a signal or an error
    ├── Hung          it passed its deadline
    ├── OutOfMemory   it took more than it may
    └── Cancelled     somebody ended it
"""

from __future__ import annotations

import errno

# The last one is a limit on the size of files, the process's or the file system's.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class AgentError(Exception):
    """Root: `code` is the name of the gRPC status, `reason` the word for the trailing metadata."""

    code = "INTERNAL"
    reason = "internal"

    @property
    def details(self) -> tuple[tuple[str, str], ...]:
        """Further trailing metadata, where there is more to tell than a sentence."""
        return ()


class Busy(AgentError):
    """Somebody else holds the board, or something is running on it.

    One that waits has a `place` in the queue, from 1, and perhaps an estimate in seconds.
    """

    code, reason = "RESOURCE_EXHAUSTED", "busy"

    def __init__(self, message: str, place: int = 0, wait_s: float | None = None) -> None:
        super().__init__(message)
        self.place = place
        self.wait_s = wait_s

    @property
    def details(self) -> tuple[tuple[str, str], ...]:
        """The place and the estimate."""
        if not self.place:
            return ()
        about = () if self.wait_s is None else (("hil-wait-s", f"{self.wait_s:.0f}"),)
        return (("hil-place", str(self.place)), *about)


class Quarantined(AgentError):
    """The board is not fit to measure."""

    code, reason = "FAILED_PRECONDITION", "quarantined"


class NotYourLease(AgentError):
    """The token is unknown, expired or fenced off."""

    code, reason = "PERMISSION_DENIED", "lease"


class NotAllowed(AgentError):
    """The caller is known, and may not do this."""

    code, reason = "PERMISSION_DENIED", "role"


class RevokedCertificate(AgentError):
    """The caller's certificate was taken back."""

    code, reason = "UNAUTHENTICATED", "revoked"


class Rejected(AgentError):
    """The artifact or the request is malformed."""

    code, reason = "INVALID_ARGUMENT", "rejected"


class Missing(AgentError):
    """Something that the request names was never uploaded, or was evicted."""

    code, reason = "NOT_FOUND", "missing"


class CorruptBlob(AgentError):
    """The uploaded bytes do not have the digest that they were announced with."""

    code, reason = "DATA_LOSS", "corrupt"


class DiskFull(AgentError):
    """There is no room and nothing that may be evicted."""

    code, reason = "RESOURCE_EXHAUSTED", "disk-full"

    @classmethod
    def of(cls, error: OSError, doing: str = "") -> DiskFull:
        """Return what the system said as this error; raises it again where it is another."""
        if error.errno not in NO_ROOM:
            raise error
        during = f" while {doing}" if doing else ""
        return cls(
            f"the board's disk is full{during}: free some space there (df -h shows where), then go "
            "on"
        )


class WrongVersion(AgentError):
    """The artifact was built for another runtime ABI or another machine."""

    code, reason = "FAILED_PRECONDITION", "version"


class Unsupported(AgentError):
    """This board cannot do what was asked."""

    code, reason = "FAILED_PRECONDITION", "unsupported"


class RunFailed(AgentError):
    """The program failed while it ran."""

    code, reason = "ABORTED", "crash"


class Crashed(RunFailed):
    """The program died of a signal or raised an error."""


class Hung(RunFailed):
    """The program passed its deadline."""

    reason = "hang"


class OutOfMemory(RunFailed):
    """The program took more memory than it may."""

    reason = "memory"


class Cancelled(RunFailed):
    """Somebody ended the run."""

    code, reason = "CANCELLED", "cancelled"


RUN_FAILURES: dict[str, type[AgentError]] = {
    error.reason: error
    for error in (Crashed, Hung, OutOfMemory, Cancelled, Rejected, Missing, Unsupported)
}

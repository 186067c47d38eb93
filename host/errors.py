"""The exceptions of the host, drawn as a tree; never raised for control flow.

HilError
├── CallerError (also ValueError)  fix the recipe, the file or the call; exit status 2
│   ├── RecipeError                a recipe or an inventory says something impossible
│   ├── CheckpointError            a checkpoint is missing, unsafe or does not fit the network
│   ├── DataError                  a data set is missing or malformed
│   ├── PolicyError                a policy that the network or the target cannot take
│   └── UnsupportedLayer           the network holds an operation that cannot be lowered
└── WorldError                     the world failed, the call was right; exit status 1
    ├── BuildError                 a compiler or a linker failed
    ├── StoreError                 the database or the disk failed
    └── BoardError                 a board or the wire to it failed
        ├── BoardUnreachable       a retry may help
        ├── AccessRefused          the board does not let us in, or is not the one we trust
        ├── BoardBusy              somebody else holds the lease
        │   └── BoardQuarantined   the board is unfit; waiting does not help
        ├── LeaseLost              ours expired or was taken over
        ├── ArtifactRejected       a retry cannot help
        ├── BoardFull              its disk is full
        ├── BoardDrifted           its anchor is off; what it measured since is invalid
        ├── MeasurementFailed      the program crashed, hung or ran out of memory on the board
        ├── SupplyError            a board's power could not be switched
        └── VersionMismatch        host and agent speak different protocol or runtime versions
"""

import errno

# What the system says of a full disk: of the disk, of a quota, of a limit on files.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class HilError(Exception):
    """Root of every error that this package raises on purpose."""


class CallerError(HilError, ValueError):
    """The caller is wrong: one sentence that says what to do."""


class RecipeError(CallerError):
    """A recipe or inventory file is wrong; the message starts with the path of the key."""


class CheckpointError(CallerError):
    """A checkpoint is missing, is not weights only, or does not fit the network."""


class DataError(CallerError):
    """A data set is missing or malformed."""


class PolicyError(CallerError):
    """A policy asks for something that the network or the target cannot do."""


class UnsupportedLayer(CallerError):
    """The network holds an operation that cannot be lowered."""


class WorldError(HilError):
    """The call was right and the world failed."""


class BuildError(WorldError):
    """A compiler or a linker failed."""


class StoreError(WorldError):
    """The database or the disk failed."""


class BoardError(WorldError):
    """A board, or the wire to it, failed."""


class BoardUnreachable(BoardError):
    """No answer; a retry may help."""


class AccessRefused(BoardError):
    """Certificates do not agree, or our role does not cover the call; a retry cannot help."""


class BoardBusy(BoardError):
    """Another holder has the lease, or a measurement is running.

    `place` is ours in the queue, from 1; 0 where we do not wait. `wait_s` is about how long.
    """

    def __init__(self, message: str, place: int = 0, wait_s: float | None = None) -> None:
        super().__init__(message)
        self.place = place
        self.wait_s = wait_s


class BoardQuarantined(BoardBusy):
    """The board is unfit, and the message says why."""


class LeaseLost(BoardError):
    """The lease expired or was fenced off by a newer one."""


class ArtifactRejected(BoardError):
    """The board refuses the artifact; a retry cannot help."""


class MeasurementFailed(BoardError):
    """The program failed while running; `reason` is crash, hang, memory or cancelled."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class SupplyError(BoardError):
    """The power of a board could not be switched."""


class BoardFull(BoardError):
    """The board's disk is full; a retry helps once somebody has freed some space."""


class BoardDrifted(BoardError):
    """The board's anchor is off its baseline; `invalidated` measurements no longer count."""

    def __init__(self, message: str, invalidated: int) -> None:
        super().__init__(message)
        self.invalidated = invalidated


class VersionMismatch(BoardError):
    """Host and agent do not speak the same version."""

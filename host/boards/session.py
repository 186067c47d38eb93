"""What a leased board does for us: upload, verify, measure, profile, infer; part of the client."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from host.artifact import Artifact, BlobRef
from host.boards.care import silent
from host.boards.heard import Heard
from host.boards.heart import Again, Heart, Hold, gone
from host.boards.messages import CHUNK_BYTES, blob_chunks, infer_requests
from host.boards.protocol import MeasureProtocol
from host.boards.types import (
    Measurement,
    Profile,
    Progress,
    VerifyReport,
)
from host.boards.wire import CorruptUpload, mapped, retried
from host.canonical import canonical_json
from host.errors import (
    AccessRefused,
    BoardBusy,
    BoardError,
    BoardUnreachable,
    LeaseLost,
)
from protos import board_pb2 as pb
from protos.convert import from_message, to_message

UPLOAD_ATTEMPTS = 3
# Of a short call, retries included: a board that froze must be missed within 10 s, with all that
# the host does before it asks.
CALL_DEADLINE_S = 6.0
UPLOAD_DEADLINE_S = 20.0
RELEASE_DEADLINE_S = 3.0
LOAD_MARGIN_S = 60.0
PROFILE_REPEATS = 20
SETTLE_POLL_S, SETTLE_POLLS = 0.2, 50


@dataclass(frozen=True, slots=True)
class RunLimits:
    """When a program on the board counts as hung (seconds in one phase) or as out of memory."""

    deadline_s: float = 120.0
    memory_bytes: int = 2 << 30


class BoardSession:
    """A live lease with its heartbeat; one call at a time.

    `again` waits for a board that went away and takes a new lease.
    """

    def __init__(
        self,
        stub: Any,
        hold: Hold,
        limits: RunLimits,
        again: Again = gone,
        say: Callable[[str], None] = silent,
    ) -> None:
        self._limits = limits
        self._stub = stub
        self._again = again
        self._say = say
        self._reviving = threading.Lock()
        self._take(hold)

    @property
    def lost(self) -> LeaseLost | None:
        """Why the lease is over, None while it lives."""
        return self._heart.lost

    @property
    def fence(self) -> int:
        """The number of the lease, which grows with every one of the board."""
        return int(self._token.fence)

    def revive(self, why: BoardError) -> None:
        """Go on after the board went away: with its lease where that lives, else with a new one.

        Raises BoardError where the board stays away.
        """
        with self._reviving:
            # Before it is asked again: a frozen board takes seconds to be silent once more.
            self._say(f"lost     {why}")
            if self._lives():
                return
            self._heart.stop(RELEASE_DEADLINE_S)
            self._take(self._again(self.info, why))

    def upload(self, artifact: Artifact, *, weights: bool = True) -> None:
        """Send what the board lacks, resuming interrupted blobs, and register the artifact."""
        blobs = list(artifact.blobs(weights=weights))
        for attempt in range(1, UPLOAD_ATTEMPTS + 1):
            # Asked outside: it has retries of its own, and a dead board must not be asked thrice.
            missing = self._missing(blobs)
            try:
                for ref, offset in missing:
                    self._put_blob(artifact, ref, offset)
                break
            except (BoardUnreachable, CorruptUpload) as e:
                if attempt == UPLOAD_ATTEMPTS:
                    raise
                # Before it is asked again: a board that is away takes seconds to be silent.
                self._say(f"again    {e}")
        manifest = canonical_json(artifact.manifest).encode()
        self._call("PutArtifact", manifest_json=manifest)

    def verify(self, artifact: Artifact) -> VerifyReport:
        """Run the artifact's golden input on the board and return exact differences."""
        self.upload(artifact)
        request = pb.VerifyRequest(**self._run_fields(artifact))
        with self._running("Verify"):
            reply = self._stub.Verify(request, timeout=self._run_timeout_s)
        return from_message(VerifyReport, reply)

    def measure(
        self,
        artifact: Artifact,
        protocol: MeasureProtocol,
        *,
        synthetic_weights: bool = False,
        on_progress: Callable[[Progress], None] | None = None,
        anchor: Artifact | None = None,
    ) -> Measurement:
        """Measure an artifact; synthetic weights never travel, and latency does not need them.

        An anchor runs before every block and after the last: its medians tell of the board alone.
        """
        for program in filter(None, (anchor, artifact)):
            self.upload(program, weights=not synthetic_weights)
        request = pb.MeasureRequest(
            plan=to_message(pb.TimingPlan, protocol),
            synthetic_weights=synthetic_weights,
            anchor=anchor.digest if anchor else "",
            **self._run_fields(artifact),
        )
        heard = Heard(on_progress)
        with self._running("Measure"):
            timeout_s = self._measure_timeout_s(protocol, anchored=anchor is not None)
            for event in self._stub.Measure(request, timeout=timeout_s):
                heard.event(event)
        return heard.measurement(self.info, artifact, protocol, anchor)

    def profile(
        self, artifact: Artifact, repeats: int = PROFILE_REPEATS, *, synthetic_weights: bool = False
    ) -> Profile:
        """Time and count every kernel call of an artifact, and the whole of it beside them."""
        self.upload(artifact, weights=not synthetic_weights)
        request = pb.ProfileRequest(
            repeats=repeats, synthetic_weights=synthetic_weights, **self._run_fields(artifact)
        )
        with self._running("Profile"):
            reply = self._stub.Profile(request, timeout=self._run_timeout_s)
        return from_message(Profile, reply)

    def infer(self, artifact: Artifact, samples: np.ndarray) -> np.ndarray:
        """Run the compiled program on samples (n, ...) and return its outputs (n, classes)."""
        self.upload(artifact)
        requests = infer_requests(artifact, samples, self._run_fields(artifact))
        outputs = []
        with self._running("Infer"):
            for reply in self._stub.Infer(requests, timeout=self._infer_timeout_s(samples)):
                tensor = reply.outputs
                outputs.append(np.frombuffer(tensor.data, tensor.dtype).reshape(tensor.shape))
        return np.concatenate(outputs)

    def cancel(self) -> bool:
        """End what runs on the board, from another thread; return whether anything did."""
        return bool(self._call("Cancel").cancelled)

    def quarantine(self, reason: str) -> None:
        """Put the board out of use for everybody until an administrator resets it."""
        self._call("Quarantine", reason=reason)

    def close(self) -> None:
        """Stop the heartbeat and give the board back; a board that is gone frees itself."""
        self._heart.stop(RELEASE_DEADLINE_S)
        request = pb.ReleaseRequest(token=self._token)
        try:
            with mapped(self.info.name, "Release"):
                self._stub.Release(request, timeout=RELEASE_DEADLINE_S)
        except (AccessRefused, LeaseLost, BoardUnreachable):
            return

    def _missing(self, blobs: list[BlobRef]) -> list[tuple[BlobRef, int]]:
        wanted = [pb.Blob(digest=ref.digest, size_bytes=ref.size_bytes) for ref in blobs]
        reply = self._call("MissingBlobs", blobs=wanted)
        have = {m.digest: m.have_bytes for m in reply.missing}
        return [(ref, have[ref.digest]) for ref in blobs if ref.digest in have]

    def _put_blob(self, artifact: Artifact, ref: BlobRef, offset: int) -> None:
        data = artifact.read_blob(ref.digest)
        with self._running("PutBlob"):
            self._stub.PutBlob(
                blob_chunks(self._token, ref, data, offset),
                timeout=UPLOAD_DEADLINE_S + len(data) / CHUNK_BYTES,
            )

    @property
    def _run_timeout_s(self) -> float:
        return self._limits.deadline_s + LOAD_MARGIN_S

    def _measure_timeout_s(self, plan: MeasureProtocol, *, anchored: bool) -> float:
        """Longer than the board needs for its own deadlines: it knows better what went wrong."""
        phases_s = plan.warmup_cap_s + plan.cap_s + self._run_timeout_s
        programs = plan.blocks * (2 if anchored else 1) + anchored
        return 2 * plan.idle_s + plan.blocks * plan.gate_wait_s + programs * phases_s

    def _infer_timeout_s(self, samples: np.ndarray) -> float:
        """As long as the board may take, which has a deadline for every message of samples."""
        return self._run_timeout_s + self._limits.deadline_s * len(samples)

    def _run_fields(self, artifact: Artifact) -> dict[str, Any]:
        return {
            "token": self._token,
            "artifact": artifact.digest,
            "deadline_s": self._limits.deadline_s,
            "memory_limit_bytes": self._limits.memory_bytes,
        }

    def _take(self, hold: Hold) -> None:
        info, lease = hold
        token = pb.LeaseToken(fence=lease.fence, secret=lease.secret)
        self.info, self._token = info, token
        self._heart = Heart(lease, lambda: self._call("Renew"))

    def _lives(self) -> bool:
        """Whether only the wire failed; what ran is ended, so that the next job finds no other."""
        try:
            self._call("Renew")
            for _ in range(SETTLE_POLLS):
                if not self.cancel():
                    return True
                time.sleep(SETTLE_POLL_S)
        except (LeaseLost, BoardUnreachable):
            return False
        raise BoardBusy(f"{self.info.name}: what ran before the wire failed does not end")

    def _running(self, what: str) -> Any:
        if self.lost:
            raise self.lost
        return mapped(self.info.name, what)

    def _call(self, name: str, **fields: Any) -> Any:
        """Make a short idempotent call with our token."""
        if self.lost:
            raise self.lost
        request = getattr(pb, f"{name}Request")(token=self._token, **fields)
        method = getattr(self._stub, name)
        return retried(
            lambda left_s: method(request, timeout=left_s), self.info.name, CALL_DEADLINE_S, name
        )

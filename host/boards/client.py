"""The only gRPC client of a board: plain dataclasses in and out; never keeps a result.

`BoardClient` needs no lease; everything that runs goes through the `BoardSession` of `lease()`.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from host.artifact import RUNTIME_ABI
from host.boards.care import Care, Waits, awaited, check_same
from host.boards.heart import Hold, gone
from host.boards.recorder import recorded
from host.boards.session import CALL_DEADLINE_S, BoardSession, RunLimits
from host.boards.tape import Tape
from host.boards.tls import TlsFiles, disagreement
from host.boards.types import BoardInfo, Conditions, Lease
from host.boards.wire import mapped, open_channel, retried
from host.errors import (
    AccessRefused,
    BoardBusy,
    BoardError,
    BoardQuarantined,
    BoardUnreachable,
    VersionMismatch,
)
from protos import board_pb2 as pb
from protos import board_pb2_grpc
from protos.convert import from_message
from protos.version import SERVICE_VERSION

BUSY_POLL_S = 0.5
HUNG_UP = "Socket closed"  # what gRPC says where the board took plain text for a bad handshake
# Telemetry without end is asked for in calls that have one.
TELEMETRY_S = 600.0
SHORTEST_PERIOD_S = 0.05


class BoardClient:
    """One board by its address; `deadline_s` bounds every short call, retries included.

    Without `tls` the wire is plain text, for loopback and networks that are to be trusted. A `tape`
    keeps what the board answers.
    """

    def __init__(
        self,
        address: str,
        *,
        deadline_s: float = CALL_DEADLINE_S,
        tls: TlsFiles | None = None,
        server_name: str = "",
        tape: Tape | None = None,
    ) -> None:
        self.address = address
        self._deadline_s = deadline_s
        self._tls = tls
        self._server_name = server_name
        self._channel = recorded(open_channel(address, tls, server_name), tape)
        self._stub = board_pb2_grpc.BoardStub(self._channel)

    def __enter__(self) -> BoardClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def describe(self) -> BoardInfo:
        """Return what the board is; raises VersionMismatch for an agent of another service."""
        reply = self._call("Describe", pb.DescribeRequest())
        info = _info(reply)
        if info.service_version != SERVICE_VERSION:
            raise VersionMismatch(
                f"{info.name} speaks board service {info.service_version}, this host "
                f"{SERVICE_VERSION}: update the older one (hil-lab provision --update)"
            )
        return info

    @contextmanager
    def lease(
        self,
        holder: str,
        ttl_s: float = 60.0,
        wait_s: float = 0.0,
        *,
        limits: RunLimits | None = None,
        care: Care | None = None,
    ) -> Iterator[BoardSession]:
        """Hold the board exclusively, with a heartbeat; raises BoardBusy after `wait_s`.

        With `care` the session can bring back a board that went away.
        """
        info, kind = self.describe(), care or Care()
        if info.runtime_abi != RUNTIME_ABI:
            raise VersionMismatch(
                f"{info.name} has runtime ABI {info.runtime_abi}, this host builds for "
                f"{RUNTIME_ABI}: update the agent (hil-lab provision --update)"
            )

        def again(was: BoardInfo, why: BoardError) -> Hold:
            now = awaited(self.describe, why, kind)
            check_same(was, now)
            lease = self._acquire(holder, ttl_s, kind.wait_s, kind)
            kind.say(f"back     {now.name} answers again, under lease {lease.fence}")
            return now, lease

        hold = info, self._acquire(holder, ttl_s, wait_s, kind)
        revive = again if care else gone
        session = BoardSession(self._stub, hold, limits or RunLimits(), revive, kind.say)
        try:
            yield session
        finally:
            session.close()

    def telemetry(self, period_s: float = 1.0, count: int = 0) -> Iterator[Conditions]:
        """Yield the board's conditions every period; for ever with count 0."""
        if count:
            yield from self._telemetry(period_s, count)
            return
        per_call = max(1, int(TELEMETRY_S / max(period_s, SHORTEST_PERIOD_S)))
        while True:
            yield from self._telemetry(period_s, per_call)

    def _telemetry(self, period_s: float, count: int) -> Iterator[Conditions]:
        request = pb.TelemetryRequest(period_s=period_s, count=count)
        timeout_s = count * max(period_s, SHORTEST_PERIOD_S) * 2 + self._deadline_s
        with mapped(self.address, "Telemetry"):
            stream = self._stub.Telemetry(request, timeout=timeout_s)
            try:
                for message in stream:
                    yield from_message(Conditions, message)
            finally:
                stream.cancel()

    def end_lease(self) -> tuple[str, float]:
        """End whoever's lease there is; return whose it was and for how many seconds.

        Both are empty where there was none. For administrators.
        """
        reply = self._call("EndLease", pb.EndLeaseRequest())
        return reply.holder, reply.held_s

    def reset(self) -> str:
        """End a quarantine and return its reason; for administrators.

        Raises BoardQuarantined where the board itself finds that it is unfit.
        """
        return str(self._call("Reset", pb.ResetRequest()).was)

    def put_revoked(self, fingerprints: Sequence[str]) -> int:
        """Have certificates refused (sha256, hex); return how many are by now.

        For administrators; what was refused before stays so.
        """
        reply = self._call("PutRevoked", pb.PutRevokedRequest(fingerprints=fingerprints))
        return int(reply.refused)

    def _acquire(self, holder: str, ttl_s: float, wait_s: float, care: Care) -> Lease:
        """Stand in the queue for `wait_s`; the last try gives the place up."""
        until, waits = time.monotonic() + wait_s, Waits(care)
        request = pb.AcquireRequest(holder=holder, ttl_s=ttl_s, nonce=uuid.uuid4().hex)
        while True:
            left = until - time.monotonic()
            request.wait = left > 0
            try:
                reply = self._call("Acquire", request)
                return Lease(reply.token.fence, reply.token.secret, reply.ttl_s)
            except BoardQuarantined:
                raise
            except BoardBusy as e:
                if left <= 0:
                    raise
                waits.refused(e)
                time.sleep(min(BUSY_POLL_S, left))

    def _call(self, name: str, request: Any) -> Any:
        method = getattr(self._stub, name)
        try:
            return retried(
                lambda left_s: method(request, timeout=left_s),
                self.address,
                self._deadline_s,
                name,
            )
        except BoardUnreachable as e:
            if self._tls and (why := disagreement(self.address, self._tls, self._server_name)):
                raise AccessRefused(f"{self.address}: {why}") from e
            if self._tls is None and HUNG_UP in str(e):
                raise BoardUnreachable(f"{e}; if it expects TLS, see ca, cert and key") from e
            raise


def _info(reply: Any) -> BoardInfo:
    state = pb.State.Name(reply.state).removeprefix("STATE_").lower()
    return BoardInfo(
        name=reply.name,
        kind=reply.kind,
        arch=reply.arch,
        agent_version=reply.agent_version,
        service_version=reply.service_version,
        runtime_abi=reply.runtime_abi,
        fingerprint=dict(reply.fingerprint),
        capabilities=tuple(reply.capabilities),
        state=state,
        holder=reply.holder,
        lease_remaining_s=math.ceil(reply.lease_remaining_s),
        reason=reply.reason,
        queue_length=reply.queue_length,
        held_s=reply.held_s,
        wait_s=reply.wait_s if reply.HasField("wait_s") else None,
    )

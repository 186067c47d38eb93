"""The only gRPC client of a board: plain dataclasses in and out; never keeps a result.

`BoardClient` needs no lease; everything that runs goes through the `BoardSession` of `lease()`.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import grpc

from host.artifact import RUNTIME_ABI
from host.boards.session import CALL_DEADLINE_S, BoardSession, RunLimits
from host.boards.types import BoardInfo, Conditions, Lease
from host.boards.wire import mapped, open_channel, retried
from host.errors import BoardBusy, VersionMismatch
from protos import board_pb2 as pb
from protos import board_pb2_grpc
from protos.convert import from_message
from protos.version import SERVICE_VERSION

BUSY_POLL_S = 0.5


class BoardClient:
    """One board by its address; `deadline_s` bounds every short call, retries included."""

    def __init__(
        self,
        address: str,
        *,
        deadline_s: float = CALL_DEADLINE_S,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        self.address = address
        self._deadline_s = deadline_s
        self._channel = open_channel(address, credentials)
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
        reply = self._call(self._stub.Describe, pb.DescribeRequest())
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
    ) -> Iterator[BoardSession]:
        """Hold the board exclusively, with a heartbeat; raises BoardBusy after `wait_s`."""
        info = self.describe()
        if info.runtime_abi != RUNTIME_ABI:
            raise VersionMismatch(
                f"{info.name} has runtime ABI {info.runtime_abi}, this host builds for "
                f"{RUNTIME_ABI}: update the agent (hil-lab provision --update)"
            )
        lease = self._acquire(holder, ttl_s, time.monotonic() + wait_s)
        session = BoardSession(self._stub, info, lease, limits or RunLimits())
        try:
            yield session
        finally:
            session.close()

    def telemetry(self, period_s: float = 1.0, count: int = 0) -> Iterator[Conditions]:
        """Yield the board's conditions every period; for ever with count 0."""
        with mapped(self.address):
            stream = self._stub.Telemetry(pb.TelemetryRequest(period_s=period_s, count=count))
            try:
                for message in stream:
                    yield from_message(Conditions, message)
            finally:
                stream.cancel()

    def _acquire(self, holder: str, ttl_s: float, until: float) -> Lease:
        nonce = uuid.uuid4().hex
        request = pb.AcquireRequest(holder=holder, ttl_s=ttl_s, nonce=nonce)
        while True:
            try:
                reply = self._call(self._stub.Acquire, request)
                return Lease(reply.token.fence, reply.token.secret, reply.ttl_s)
            except BoardBusy:
                left = until - time.monotonic()
                if left <= 0:
                    raise
                time.sleep(min(BUSY_POLL_S, left))

    def _call(self, method: Callable[..., Any], request: Any) -> Any:
        return retried(
            lambda left_s: method(request, timeout=left_s), self.address, self._deadline_s
        )


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
    )

"""The wire to a board: channel, retries, and gRPC errors mapped once to the host's; knows no call.

Keepalive: a frozen board is noticed after 3 to 5 s, in the middle of a call or before its first
byte; without ping_timeout_ms it goes unnoticed for a minute.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from host.boards.tls import TlsFiles
from host.errors import (
    AccessRefused,
    ArtifactRejected,
    BoardBusy,
    BoardError,
    BoardFull,
    BoardQuarantined,
    BoardUnreachable,
    LeaseLost,
    MeasurementFailed,
    VersionMismatch,
)

KEEPALIVE_OPTIONS = (
    # Agents take up to one ping a second for no abuse.
    ("grpc.keepalive_time_ms", 2_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.http2.ping_timeout_ms", 3_000),
    # How long a connection may take to be made: 20 s by default.
    ("grpc.min_reconnect_backoff_ms", 3_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.max_send_message_length", 64 << 20),
    # A board that restarts is looked for often; gRPC's own pause grows to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)
REASON_KEY = "hil-reason"
ATTEMPTS = 4
BACKOFF_S = 0.1
_UNREACHABLE = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})
_RUN_REASONS = frozenset({"crash", "hang", "memory", "cancelled"})


class CorruptUpload(ArtifactRejected):
    """The board received other bytes than were sent; sending them again may help."""


class MissingOnBoard(ArtifactRejected):
    """The board lacks something that the call names; uploading it again may help."""


_BY_REASON: dict[str, type[BoardError]] = {
    "quarantined": BoardQuarantined,
    "lease": LeaseLost,
    "role": AccessRefused,
    "revoked": AccessRefused,
    "version": VersionMismatch,
    "disk-full": BoardFull,
    "corrupt": CorruptUpload,
    "missing": MissingOnBoard,
}


def open_channel(address: str, tls: TlsFiles | None, server_name: str = "") -> grpc.Channel:
    """Return a channel that notices a dead or frozen board.

    `server_name` is whom the board's certificate must name, where that is not its address.
    """
    if tls is None:
        return grpc.insecure_channel(address, options=KEEPALIVE_OPTIONS)
    named = (("grpc.ssl_target_name_override", server_name),) if server_name else ()
    return grpc.secure_channel(address, tls.credentials(), options=(*KEEPALIVE_OPTIONS, *named))


@contextmanager
def mapped(where: str, what: str = "a call", since_s: float | None = None) -> Iterator[None]:
    """Raise gRPC errors as the host's own: which board, what waited for it, and how long.

    `since_s` is when the waiting began by the monotonic clock, where that was before.
    """
    start_s = time.monotonic() if since_s is None else since_s
    try:
        yield
    except grpc.RpcError as e:
        raise _error(where, e, f"{what} after {time.monotonic() - start_s:.1f} s") from e


def retried(
    call: Callable[[float], Any], where: str, deadline_s: float, what: str = "a call"
) -> Any:
    """Call something idempotent until it answers, an attempt's worth at a time, or time is up.

    `call` gets the seconds that it may take.
    """
    start = time.monotonic()
    end = start + deadline_s
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with mapped(where, what, start):
                return call(max(0.001, end - time.monotonic()))
        except BoardUnreachable:
            pause = BACKOFF_S * 2**attempt
            if attempt == ATTEMPTS or time.monotonic() + pause >= end:
                raise
            time.sleep(pause)
    raise AssertionError("the last attempt returns or raises")


def _error(where: str, error: Any, waited: str) -> BoardError:
    code, details = error.code(), error.details()
    trailing = dict(error.trailing_metadata() or ())
    reason = str(trailing.get(REASON_KEY, ""))
    message = f"{where}: {details}"
    if reason in _RUN_REASONS:
        return MeasurementFailed(message, reason)
    if reason == "busy":
        about = trailing.get("hil-wait-s")
        return BoardBusy(
            message, int(trailing.get("hil-place", 0)), None if about is None else float(about)
        )
    if reason:
        return _BY_REASON.get(reason, ArtifactRejected)(message)
    if code in _UNREACHABLE:
        return BoardUnreachable(f"{where}: no answer to {waited} ({code.name}: {details})")
    if code is grpc.StatusCode.CANCELLED:
        return MeasurementFailed(message, "cancelled")
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return VersionMismatch(f"{message}: update the agent (hil-lab provision --update)")
    return BoardError(f"{message} ({code.name})")

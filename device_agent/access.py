"""Who may call what: a role for every call, read off the caller's certificate; never serves one.

Certificates come from the lab's CA (hil-lab ca), so TLS has refused strangers and what has expired.
What is left to decide, for every call: is this one revoked, and is its role enough? A call that
the table does not name is refused to everybody.
"""

from __future__ import annotations

import hashlib
import logging
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import grpc

from device_agent.durable import write_durably
from device_agent.edge import abort
from device_agent.errors import (
    AgentError,
    NotAllowed,
    Rejected,
    RevokedCertificate,
    Unsupported,
)

Role = Literal["measure", "administer"]
ROLE_PREFIX = "hil-lab:role:"
# Who may administer may measure.
GRANTS: Mapping[str, frozenset[str]] = {
    "measure": frozenset({"measure"}),
    "administer": frozenset({"measure", "administer"}),
}
_LOOPBACK = ("ipv4:127.", "ipv6:[::1]", "ipv6:%5B::1%5D", "unix:")
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Call:
    """The role that a call needs, and the seconds after which it is ended, whatever it waits for.

    Our client sets deadlines of its own; `longest_s` is for callers that set none.
    """

    role: Role = "measure"
    longest_s: float = 60.0


_BOARD = "/hil.v1.Board/"
_RUN_S = 6 * 3600.0
CALLS: Mapping[str, Call] = {
    f"{_BOARD}Describe": Call(),
    f"{_BOARD}Acquire": Call(),
    f"{_BOARD}Renew": Call(),
    f"{_BOARD}Release": Call(),
    f"{_BOARD}MissingBlobs": Call(),
    f"{_BOARD}PutBlob": Call(longest_s=600.0),
    f"{_BOARD}PutArtifact": Call(),
    f"{_BOARD}Verify": Call(longest_s=_RUN_S),
    f"{_BOARD}Measure": Call(longest_s=_RUN_S),
    f"{_BOARD}Infer": Call(longest_s=_RUN_S),
    f"{_BOARD}Profile": Call(longest_s=_RUN_S),
    f"{_BOARD}Telemetry": Call(longest_s=_RUN_S),
    f"{_BOARD}Cancel": Call(),
    f"{_BOARD}Quarantine": Call(),
    f"{_BOARD}Reset": Call("administer"),
    f"{_BOARD}EndLease": Call("administer"),
    f"{_BOARD}PutRevoked": Call("administer"),
    "/grpc.health.v1.Health/Check": Call(),
    "/grpc.health.v1.Health/Watch": Call(longest_s=_RUN_S),
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": Call(),
}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls; `fingerprint` is of the certificate, '' where there is none."""

    name: str
    role: str
    fingerprint: str = ""


def caller_of(context: Any) -> Caller:
    """Return who calls; raises NotAllowed for a certificate without exactly one role.

    Plain text has no certificate: it administers from this very machine, and else measures
    (the agent listens so only where --insecure said it).
    """
    known: Mapping[str, list[bytes]] = context.auth_context()
    certificates = known.get("x509_pem_cert")
    if not certificates:
        near = str(context.peer()).startswith(_LOOPBACK)
        return Caller(str(context.peer()), "administer" if near else "measure")
    name = b"".join(known.get("x509_common_name", [])).decode(errors="replace")
    names = [n.decode(errors="replace") for n in known.get("x509_subject_alternative_name", [])]
    roles = {n.removeprefix(ROLE_PREFIX) for n in names if n.startswith(ROLE_PREFIX)}
    if len(roles) != 1 or not roles <= set(GRANTS):
        raise NotAllowed(f'the certificate of "{name}" has no role: have one issued with --role')
    der = ssl.PEM_cert_to_DER_cert(certificates[0].decode())
    return Caller(name, roles.pop(), hashlib.sha256(der).hexdigest())


class Revoked:
    """Fingerprints of revoked certificates: of a file that was given, and those that were sent.

    The files are read again when they change. What was sent is kept over restarts and only grows:
    an older list gives no certificate back.
    """

    def __init__(self, given: Path | None = None, kept: Path | None = None) -> None:
        self._given = _ListFile(given) if given else None
        self._kept = _ListFile(kept, optional=True) if kept else None
        self._lock = threading.Lock()

    def check(self, caller: Caller) -> None:
        """Raise RevokedCertificate for a revoked caller, or where a list cannot be read."""
        try:
            with self._lock:
                revoked = self._current()
        except (OSError, ValueError) as e:
            raise RevokedCertificate(
                f"the board cannot read its list of revoked certificates ({e}) and serves nobody"
            ) from e
        if caller.fingerprint in revoked:
            raise RevokedCertificate(f'the certificate of "{caller.name}" was revoked')

    def add(self, fingerprints: Sequence[str]) -> int:
        """Refuse further certificates for good; return how many are refused by now.

        Raises Rejected for what is no fingerprint, Unsupported where nothing can be kept.
        """
        if self._kept is None:
            raise Unsupported("this agent has nowhere to keep a list of revoked certificates")
        try:
            sent = frozenset(map(_fingerprint, fingerprints))
        except ValueError as e:
            raise Rejected(f"the list of revoked certificates is malformed: {e}") from e
        with self._lock:
            both = sorted(sent | self._kept.current())
            write_durably(self._kept.path, "".join(f"{each}\n" for each in both).encode())
            return len(self._current())

    def _current(self) -> frozenset[str]:
        files = (self._given, self._kept)
        return frozenset().union(*(file.current() for file in files if file))


class _ListFile:
    """A list, a fingerprint a line; one that is optional may be missing."""

    def __init__(self, path: Path, *, optional: bool = False) -> None:
        self.path = path
        self._optional = optional
        self._seen: tuple[int, int, int] | None = None
        self._fingerprints: frozenset[str] = frozenset()

    def current(self) -> frozenset[str]:
        """Return what it holds now; raises OSError or ValueError where it cannot be read."""
        if self._optional and not self.path.exists():
            return frozenset()
        status = self.path.stat()
        seen = (status.st_mtime_ns, status.st_size, status.st_ino)
        if seen != self._seen:
            self._fingerprints = _fingerprints(self.path.read_text())
            self._seen = seen
        return self._fingerprints


def _fingerprints(text: str) -> frozenset[str]:
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return frozenset(_fingerprint(line) for line in lines if line)


def _fingerprint(text: str) -> str:
    if len(text) != 64 or set(text) - set("0123456789abcdef"):
        raise ValueError(f"{text[:80]!r} is no sha256 fingerprint")
    return text


class Gate(grpc.ServerInterceptor):  # type: ignore[misc]
    """Lets a call through where its caller may make it, and ends it when it takes too long."""

    def __init__(self, revoked: Revoked | None = None, calls: Mapping[str, Call] = CALLS) -> None:
        self._revoked = revoked
        self._calls = calls

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        """Put the check before the handler of a call."""
        handler = continuation(details)
        if handler is None:
            return None
        method, call = details.method, self._calls.get(details.method)

        def admit(context: Any) -> None:
            try:
                self._admit(context, method, call)
            except AgentError as e:
                _LOG.warning("refused %s to %s: %s", method, context.peer(), e)
                abort(context, e)

        return _guarded(handler, admit)

    def _admit(self, context: Any, method: str, call: Call | None) -> None:
        caller = caller_of(context)
        if self._revoked:
            self._revoked.check(caller)
        if call is None:
            raise NotAllowed(f"{method} is in no role's list: nobody may call it")
        if call.role not in GRANTS[caller.role]:
            raise NotAllowed(
                f'{method.rpartition("/")[2]} needs the role "{call.role}", and "{caller.name}" '
                f'has "{caller.role}"'
            )
        _bounded(context, call.longest_s)


def _bounded(context: Any, longest_s: float) -> None:
    """End a call after so many seconds where its caller did not ask for less."""
    left_s = context.time_remaining()
    if left_s is not None and left_s <= longest_s:
        return
    timer = threading.Timer(longest_s, context.cancel)
    timer.daemon = True
    timer.start()
    context.add_callback(timer.cancel)


def _guarded(handler: Any, admit: Callable[[Any], None]) -> Any:
    """Return a handler of the same kind that admits a call first."""
    kind = "_".join(
        "stream" if streams else "unary"
        for streams in (handler.request_streaming, handler.response_streaming)
    )
    behaviour = getattr(handler, kind)

    def call(request: Any, context: Any) -> Any:
        admit(context)
        return behaviour(request, context)

    make = getattr(grpc, f"{kind}_rpc_method_handler")
    return make(call, handler.request_deserializer, handler.response_serializer)

"""Makes the agent's gRPC server over a machine; never starts it, never reads a command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from device_agent.access import CALLS, Call, Gate, Revoked
from device_agent.artifacts import DEFAULT_BUDGET_BYTES, ArtifactStore, BlobStore
from device_agent.leases import Leases
from device_agent.measure import Machine
from device_agent.quarantine import Quarantine
from device_agent.receipts import Signer
from device_agent.service import BoardService
from device_agent.waiting import History
from protos import board_pb2, board_pb2_grpc

LOOPBACK = "127.0.0.1:0"
THREADS = 16
OPTIONS = (
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.max_send_message_length", 64 << 20),
    # Hosts ping while they wait for a long measurement; do not take that for abuse.
    ("grpc.http2.min_ping_interval_without_data_ms", 1000),
    ("grpc.keepalive_permit_without_calls", 1),
    # A host that froze in the middle of an upload must not hold the store for ever.
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.http2.ping_timeout_ms", 3_000),
)


@dataclass(frozen=True)
class ServerOptions:
    """Where and how to listen; credentials None means plain text.

    `revoked` is a file of fingerprints of certificates that are refused, `calls` who may call what.
    """

    bind: str = LOOPBACK
    credentials: grpc.ServerCredentials | None = None
    budget_bytes: int = DEFAULT_BUDGET_BYTES
    interceptors: Sequence[grpc.ServerInterceptor] = ()
    revoked: Path | None = None
    calls: Mapping[str, Call] = field(default_factory=lambda: CALLS)


def make_server(
    machine: Machine, state_dir: Path, options: ServerOptions | None = None
) -> tuple[grpc.Server, int]:
    """Return an unstarted server and its port; its state lives under `state_dir`."""
    options = options or ServerOptions()
    state_dir.mkdir(parents=True, exist_ok=True)
    artifacts = ArtifactStore(state_dir, BlobStore(state_dir, options.budget_bytes))
    leases = Leases(state_dir / "fence", history=History(state_dir / "lasted"))
    quarantine, signer = Quarantine(state_dir / "quarantine"), Signer(state_dir)
    revoked = None
    if options.credentials or options.revoked:
        revoked = Revoked(options.revoked, state_dir / "revoked")
    service = BoardService(machine, leases, artifacts, signer, quarantine, revoked)
    gate = Gate(revoked, options.calls)
    server = grpc.server(
        futures.ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="board"),
        interceptors=(gate, *options.interceptors),
        options=OPTIONS,
    )
    board_pb2_grpc.add_BoardServicer_to_server(service, server)
    _add_standard_services(server)
    if options.credentials:
        port = server.add_secure_port(options.bind, options.credentials)
    else:
        port = server.add_insecure_port(options.bind)
    return server, port


def _add_standard_services(server: grpc.Server) -> None:
    name = board_pb2.DESCRIPTOR.services_by_name["Board"].full_name
    checks = health.HealthServicer()
    for service in ("", name):
        checks.set(service, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    names = (name, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)

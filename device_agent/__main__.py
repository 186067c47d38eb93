"""The agent's command line: `python -m device_agent --bind 127.0.0.1:0 --state DIR --name N`."""

from __future__ import annotations

import argparse
import platform
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import grpc

from device_agent.local import local_machine
from device_agent.server import LOOPBACK, ServerOptions, make_server

STOP_GRACE_S = 2.0
LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "[::1]")


def run_agent(argv: Sequence[str] | None = None) -> int:
    """Serve this machine until SIGTERM or ctrl-c; the first line of stdout says where."""
    args = _parser().parse_args(argv)
    credentials = _credentials(args)
    loopback = args.bind.rpartition(":")[0] in LOOPBACK_HOSTS
    if credentials is None and not loopback and not args.insecure:
        sys.stderr.write(
            f"error: {args.bind} is reachable by others: give --tls-cert, --tls-key and "
            "--tls-client-ca, or --insecure on a network that you trust\n"
        )
        return 2
    machine = local_machine(args.name, args.kind)
    server, port = make_server(machine, args.state, ServerOptions(args.bind, credentials))
    server.start()
    sys.stdout.write(f"{args.name} listens on {args.bind.rpartition(':')[0]}:{port}\n")
    sys.stdout.flush()
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    ended.wait()
    server.stop(STOP_GRACE_S).wait()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hil-lab agent", description="Serve this machine.")
    parser.add_argument("--bind", default=LOOPBACK, help="address:port, port 0 for a free one")
    parser.add_argument("--state", type=Path, required=True, help="folder for blobs and leases")
    parser.add_argument("--name", default=platform.node())
    parser.add_argument("--kind", default="local")
    parser.add_argument("--tls-cert", type=Path)
    parser.add_argument("--tls-key", type=Path)
    parser.add_argument("--tls-client-ca", type=Path, help="callers must have a certificate of it")
    parser.add_argument("--insecure", action="store_true", help="no TLS on a public address")
    return parser


def _credentials(args: argparse.Namespace) -> grpc.ServerCredentials | None:
    if not (args.tls_cert and args.tls_key and args.tls_client_ca):
        return None
    return grpc.ssl_server_credentials(
        [(args.tls_key.read_bytes(), args.tls_cert.read_bytes())],
        root_certificates=args.tls_client_ca.read_bytes(),
        require_client_auth=True,
    )


if __name__ == "__main__":
    sys.exit(run_agent())

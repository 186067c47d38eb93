"""The agent's command line: `python -m device_agent --bind 127.0.0.1:0 --state DIR --name N`."""

from __future__ import annotations

import argparse
import platform
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import grpc

from device_agent.artifacts import DEFAULT_BUDGET_BYTES
from device_agent.child import sandbox_lacks
from device_agent.cores import Cores
from device_agent.errors import NO_ROOM, AgentError
from device_agent.local import local_machine
from device_agent.measure import Machine
from device_agent.notify import answers, notified
from device_agent.preparation import Preparation
from device_agent.server import LOOPBACK, ServerOptions, make_server

STOP_GRACE_S = 2.0
LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "[::1]")


def run_agent(argv: Sequence[str] | None = None) -> int:
    """Serve this machine until SIGTERM or ctrl-c; the first line of stdout says where."""
    args = _parser().parse_args(argv)
    if args.require_sandbox and (lacks := sandbox_lacks()):
        sys.stderr.write(f"error: programs cannot be confined here: {lacks}\n")
        return 1

    def machine() -> Machine:
        prepared = Preparation(Cores.of_machine() if args.pin else None, aslr=args.aslr)
        prepared.settle_daemon()
        return local_machine(
            args.name,
            args.kind,
            meter_name=args.meter,
            meter_line=args.meter_line,
            require_sandbox=args.require_sandbox,
            preparation=prepared,
        )

    return serve(args, machine)


def serve(
    args: argparse.Namespace,
    make: Callable[[], Machine],
    interceptors: Sequence[grpc.ServerInterceptor] = (),
) -> int:
    """Serve a machine as the arguments of `serving_parser` say; return the exit status."""
    try:
        options, machine = replace(_options(args), interceptors=interceptors), make()
    except (ValueError, OSError, AgentError) as e:
        sys.stderr.write(f"error: {e}\n")
        return 2
    try:
        server, port = make_server(machine, args.state, options)
    except OSError as e:
        room = "; free some space there" if e.errno in NO_ROOM else ""
        sys.stderr.write(f"error: {args.state}: {e.strerror}{room}\n")
        return 1
    server.start()
    host = args.bind.rpartition(":")[0]
    sys.stdout.write(f"{args.name} listens on {host}:{port}\n")
    sys.stdout.flush()
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with notified(lambda: answers(host, port)):
        ended.wait()
    server.stop(STOP_GRACE_S).wait()
    return 0


def _options(args: argparse.Namespace) -> ServerOptions:
    """Return where and how to listen; raises ValueError for what would be open to strangers."""
    files = (args.tls_cert, args.tls_key, args.tls_client_ca)
    if any(files) and not all(files):
        raise ValueError("give all of --tls-cert, --tls-key and --tls-client-ca, or none")
    loopback = args.bind.rpartition(":")[0] in LOOPBACK_HOSTS
    if not all(files) and not loopback and not args.insecure:
        raise ValueError(
            f"{args.bind} is reachable by others: give --tls-cert, --tls-key and "
            "--tls-client-ca, or --insecure on a network that you trust"
        )
    if args.revoked and not all(files):
        raise ValueError("--revoked is a list of certificates, and without TLS there are none")
    if args.revoked:
        args.revoked.read_bytes()
    credentials = _credentials(args) if all(files) else None
    return ServerOptions(args.bind, credentials, args.keep_mb << 20, revoked=args.revoked)


def _parser() -> argparse.ArgumentParser:
    parser = serving_parser("hil-lab agent", "Serve this machine.")
    parser.add_argument("--kind", default="local")
    parser.add_argument("--meter", default="", help="a power meter: NAME[:OPTION], or none")
    parser.add_argument(
        "--meter-line",
        default="",
        metavar="[CHIP:]LINE",
        help="a pin of this board that is wired to the meter, whose edges align the clocks",
    )
    parser.add_argument(
        "--require-sandbox", action="store_true", help="run no program that cannot be confined"
    )
    parser.add_argument(
        "--pin", action="store_true", help="programs on the last cores, the daemon on the first"
    )
    parser.add_argument(
        "--no-aslr", dest="aslr", action="store_false", help="the same addresses in every run"
    )
    return parser


def serving_parser(prog: str, description: str) -> argparse.ArgumentParser:
    """Return a parser of where and how to listen, and of what the board is called."""
    parser = argparse.ArgumentParser(prog=prog, description=description)
    parser.add_argument("--bind", default=LOOPBACK, help="address:port, port 0 for a free one")
    parser.add_argument("--state", type=Path, required=True, help="folder for blobs and leases")
    parser.add_argument("--name", default=platform.node())
    parser.add_argument(
        "--keep-mb",
        type=int,
        default=DEFAULT_BUDGET_BYTES >> 20,
        help="MiB of uploads to keep; the least recently used go first (default: %(default)s)",
    )
    parser.add_argument("--tls-cert", type=Path)
    parser.add_argument("--tls-key", type=Path)
    parser.add_argument("--tls-client-ca", type=Path, help="callers must have a certificate of it")
    parser.add_argument("--revoked", type=Path, help="fingerprints of revoked certificates")
    parser.add_argument("--insecure", action="store_true", help="no TLS on a public address")
    return parser


def _credentials(args: argparse.Namespace) -> grpc.ServerCredentials:
    return grpc.ssl_server_credentials(
        [(args.tls_key.read_bytes(), args.tls_cert.read_bytes())],
        root_certificates=args.tls_client_ca.read_bytes(),
        require_client_auth=True,
    )


if __name__ == "__main__":
    sys.exit(run_agent())

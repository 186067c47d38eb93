"""Our side of TLS: the files of a person, and one sentence for why a board and we do not agree.

gRPC says "Socket closed" to most of what can be wrong with certificates, so the handshake is made
again by Python's own TLS, which says more. Never makes a certificate: that is `hil-lab ca`.
"""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import grpc

from host.errors import CallerError

DIAGNOSIS_S = 3.0
HOW_TO_GET = "hil-lab ca issue NAME --out ~/.config/hil-lab makes what TLS needs"


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The lab's CA certificate, and our certificate and key."""

    ca: Path
    cert: Path
    key: Path

    def credentials(self) -> grpc.ChannelCredentials:
        """Return gRPC's credentials; raises CallerError for a file that cannot be read."""
        try:
            ca, key, cert = (path.read_bytes() for path in (self.ca, self.key, self.cert))
        except OSError as e:
            raise CallerError(f"{e.filename}: {e.strerror}; {HOW_TO_GET}") from e
        return grpc.ssl_channel_credentials(ca, key, cert)

    def fault(self) -> str:
        """Return what is wrong with our certificate by itself, or ''."""
        # Here, so that clients of boards without TLS need no such package.
        from cryptography import exceptions, x509

        try:
            own = x509.load_pem_x509_certificate(self.cert.read_bytes())
            own.verify_directly_issued_by(x509.load_pem_x509_certificate(self.ca.read_bytes()))
        except (ValueError, TypeError, exceptions.InvalidSignature):
            return f"our certificate {self.cert} is not of our authority {self.ca}"
        until = own.not_valid_after_utc
        if until > datetime.now(UTC):
            return ""
        return f"our certificate {self.cert} expired on {until:%Y-%m-%d}: have a new one issued"


def disagreement(address: str, files: TlsFiles, server_name: str) -> str:
    """Return why TLS with a board fails, as one sentence without its subject; '' if it does not."""
    if fault := files.fault():
        return fault
    host, _, port = address.rpartition(":")
    try:
        context = _context(files)
        with (
            socket.create_connection((host.strip("[]"), int(port)), DIAGNOSIS_S) as plain,
            context.wrap_socket(plain, server_hostname=server_name or host) as wrapped,
        ):
            return "" if _speaks(wrapped) else _refused(files)
    except ssl.SSLCertVerificationError as e:
        return _about_board(e, files, server_name or host)
    except ssl.SSLEOFError:
        return ""  # hung up in the handshake: a board that restarts, or what stands before it
    except ssl.SSLError as e:
        return _about_us(e, files)
    except (OSError, ValueError):
        return ""


def _speaks(board: ssl.SSLSocket) -> bool:
    """Whether a board says anything after the handshake; raises TimeoutError for a silent one.

    With TLS 1.3 what it thinks of our certificate comes only then. gRPC hangs up without a word; a
    board that lets us in speaks first.
    """
    try:
        return bool(board.recv(1))
    except ConnectionResetError:
        return False


def _refused(files: TlsFiles) -> str:
    return (
        f"the board refused our certificate {files.cert}: is it a person's, and is the board of "
        f"the same authority {files.ca}?"
    )


def _context(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(files.ca))
    context.load_cert_chain(files.cert, files.key)
    context.set_alpn_protocols(["h2"])
    return context


def _about_board(error: ssl.SSLCertVerificationError, files: TlsFiles, name: str) -> str:
    why = error.verify_message
    if "expired" in why:
        return "the board's certificate expired: give the board a new one"
    if "ostname mismatch" in why or "IP address mismatch" in why:
        return f'the board\'s certificate is not that of "{name}": check name and address'
    return f"the board's certificate is not of our authority {files.ca} ({why})"


def _about_us(error: ssl.SSLError, files: TlsFiles) -> str:
    why = (error.reason or str(error)).lower().replace("_", " ")
    if "wrong version number" in why or "http request" in why:
        return "the board does not speak TLS: say insecure = true if the network is to be trusted"
    return f"{_refused(files)} ({why})"

"""An authority that signs certificates for a test, and an HTTP server that shows one."""

from __future__ import annotations

import ipaddress
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.contract.sockets import END_SEEN_S


class Authority:
    """ca: the file that says whom to trust."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        made = self._signed(self._name, self._key, x509.BasicConstraints(ca=True, path_length=None))
        self.ca = folder / f"{name}.pem"
        self.ca.write_bytes(made)

    def certificate(self, name: str, *hosts: str, days: int = 1) -> tuple[str, str]:
        """The files of a certificate for these hosts, else for this machine, and of its key. days: until it ends; it
        has for a negative one."""
        key = ec.generate_private_key(ec.SECP256R1())
        known = [_general(host) for host in hosts or ("127.0.0.1",)]
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        made = self._signed(subject, key, x509.SubjectAlternativeName(known), days)
        files = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        files[0].write_bytes(made)
        files[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return str(files[0]), str(files[1])

    def _signed(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        about: x509.BasicConstraints | x509.SubjectAlternativeName,
        days: int = 1,
    ) -> bytes:
        now = datetime.now(UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=9))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(about, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return made.public_bytes(Encoding.PEM)


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


class _Quiet(ThreadingHTTPServer):
    """A client that is refused is no trouble of the test's."""

    def handle_error(self, request: Any, client_address: Any) -> None: ...


@contextmanager
def secured(
    handler: type[BaseHTTPRequestHandler], files: tuple[str, str], clients: Path | None = None
) -> Iterator[int]:
    """The port of a server that shows this certificate. clients: whose clients alone it takes."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients)
    with _Quiet(("127.0.0.1", 0), handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=server.serve_forever, args=(END_SEEN_S,), daemon=True).start()
        yield server.server_address[1]
        server.shutdown()

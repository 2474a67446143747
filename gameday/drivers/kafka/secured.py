"""Secures wire.py's connections by TLS and SASL, from librdkafka's settings under librdkafka's names. So one table
`client` in gameday.toml is for both.

SASL: PLAIN, and SCRAM (RFC 5802).
"""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import secrets
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gameday.errors import ConfigError

__all__ = ["MECHANISMS", "Security", "security"]

PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
HASHES = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-512": "sha512"}
MECHANISMS = ("PLAIN", *HASHES)
FILES = ("ssl.ca.location", "ssl.certificate.location", "ssl.key.location")
NONCE_BYTES = 18


class Refused(Exception):
    """The broker could not authenticate itself, or does not follow SCRAM."""


@dataclass(frozen=True)
class Security:
    """How a connection is secured. tls: None: without TLS. mechanism: "": without SASL."""

    tls: ssl.SSLContext | None = None
    mechanism: str = ""
    user: str = ""
    password: str = ""

    def wrapped(self, connection: socket.socket, host: str) -> socket.socket:
        """Return the connection with TLS, if any. Raises OSError if the handshake fails."""
        return connection if self.tls is None else self.tls.wrap_socket(connection, server_hostname=host)

    def log_in(self, say: Callable[[bytes], bytes]) -> None:
        """Log in. say: sends one message of the mechanism, returns the broker's. Raises Refused if that is invalid."""
        if self.mechanism == "PLAIN":
            say(b"\0" + self.user.encode() + b"\0" + self.password.encode())
        elif self.mechanism:
            _scram(HASHES[self.mechanism], self.user, self.password, say)


def security(client: Mapping[str, str], where: str = "client") -> Security:
    """Read librdkafka's settings. Raises ConfigError with key, value and remedy."""
    protocol = client.get("security.protocol", "PLAINTEXT").upper()
    if protocol not in PROTOCOLS:
        raise ConfigError(f"{where}.'security.protocol' is {protocol!r}. Remedy: one of {', '.join(PROTOCOLS)}")
    tls = _context(tuple(sorted(client.items())), where) if protocol.endswith("SSL") else None
    if not protocol.startswith("SASL"):
        return Security(tls)
    mechanism = client.get("sasl.mechanism") or client.get("sasl.mechanisms") or ""
    if mechanism not in MECHANISMS:
        raise ConfigError(f"{where}.'sasl.mechanism' is {mechanism!r}. Remedy: one of {', '.join(MECHANISMS)}")
    if missing := [key for key in ("sasl.username", "sasl.password") if not client.get(key)]:
        raise ConfigError(f"{where} lacks {', '.join(missing)}. Remedy: who gameday is to the brokers")
    return Security(tls, mechanism, client["sasl.username"], client["sasl.password"])


@functools.cache
def _context(settings: tuple[tuple[str, str], ...], where: str) -> ssl.SSLContext:
    """Make the TLS context once: reading this machine's CAs takes 30 ms."""
    client = dict(settings)
    ca, certificate, key = (client.get(name) for name in FILES)
    try:
        made = ssl.create_default_context(cafile=ca)
        if certificate:
            made.load_cert_chain(certificate, key, password=client.get("ssl.key.password", ""))
    except OSError as e:
        named = ", ".join(f"{name} {client[name]!r}" for name in FILES if name in client)
        raise ConfigError(f"{where}: {named}: {e}. Remedy: the paths of PEM files that gameday may read") from e
    made.check_hostname = client.get("ssl.endpoint.identification.algorithm", "https") != "none"
    if client.get("enable.ssl.certificate.verification", "true").lower() == "false":
        made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    return made


def _scram(kind: str, user: str, password: str, say: Callable[[bytes], bytes]) -> None:
    nonce = base64.b64encode(secrets.token_bytes(NONCE_BYTES)).decode()
    bare = f"n={user.replace('=', '=3D').replace(',', '=2C')},r={nonce}"
    first = say(f"n,,{bare}".encode()).decode()
    told = _attributes(first)
    if not told.get("r", "").startswith(nonce) or not told.get("i", "").isdigit() or "s" not in told:
        raise Refused("its answer is no message of SCRAM")
    salted = _salted(kind, password, base64.b64decode(told["s"]), int(told["i"]))
    last = f"c=biws,r={told['r']}"
    signed = f"{bare},{first},{last}".encode()
    key = hmac.digest(salted, b"Client Key", kind)
    proof = bytes(a ^ b for a, b in zip(key, hmac.digest(hashlib.new(kind, key).digest(), signed, kind), strict=True))
    final = _attributes(say(f"{last},p={base64.b64encode(proof).decode()}".encode()).decode())
    expected = hmac.digest(hmac.digest(salted, b"Server Key", kind), signed, kind)
    if not hmac.compare_digest(base64.b64decode(final.get("v", "")), expected):
        raise Refused("it does not know the password either")


@functools.lru_cache(maxsize=64)
def _salted(kind: str, password: str, salt: bytes, rounds: int) -> bytes:
    """Hash the password, cached: the hash is slow by design, and a probe asks twenty times a second."""
    return hashlib.pbkdf2_hmac(kind, password.encode(), salt, rounds)


def _attributes(text: str) -> dict[str, str]:
    return {part[:1]: part[2:] for part in text.split(",")}

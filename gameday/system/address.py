"""Checks the addresses of gameday.toml, takes them apart, and writes passwords into them.

config.py checks each address when it reads the file, so that a driver never gets a malformed one.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

from gameday.errors import HIDDEN, masked

__all__ = ["Address", "brokers", "encoded", "hidden", "http", "looks_like_one", "nats", "of", "postgres", "redis"]

PORT_MAX = 65_535

SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")

LOGIN = r"(?:[A-Za-z0-9._~!$&'()*+,;=:-]|%[0-9A-Fa-f]{2})*"
HOST = r"(?:\[[0-9A-Fa-f:.%]+\]|[^\s/?#@:,\[\]]*)"
ADDRESS = re.compile(
    rf"[A-Za-z][A-Za-z0-9+.-]*://(?:{LOGIN}@)?{HOST}(?::[0-9]{{0,5}})?(?:,{HOST}(?::[0-9]{{0,5}})?)*([/?#].*)?"
)
"""RFC 3986; several hosts, as Postgres and Hive take them."""

BROKERS = re.compile(r"(?:\[[0-9A-Fa-f:.%]+\]|[^\s/?#@:,\[\]]+):[0-9]{1,5}")


@dataclass(frozen=True)
class Address:
    """The parts of an address, decoded (no %40). port: None where the address names no port, or several hosts."""

    scheme: str
    host: str
    port: int | None
    user: str | None
    password: str | None

    @property
    def login(self) -> Mapping[str, str]:
        """The HTTP header with user and password; {} for an address without a user."""
        if self.user is None:
            return {}
        credentials = b64encode(f"{self.user}:{self.password or ''}".encode()).decode()
        return {"Authorization": f"Basic {credentials}"}


def of(text: str) -> Address:
    """Return an address's parts. Raises ValueError when the text is no address; its message doesn't quote the text."""
    whole = ADDRESS.fullmatch(text)
    if whole is None:
        raise ValueError("it is not scheme://host:port/path")
    authority, rest = text.partition("://")[2], whole[1] or ""
    authority = authority[: len(authority) - len(rest)]
    login, at, hosts = authority.rpartition("@")
    if not at and ":" in authority and "@" in rest:  # what stands for the port may be the beginning of a password
        raise ValueError("it has an @ behind its first /, ? or #")
    if any(int(port) > PORT_MAX for port in re.findall(r":([0-9]+)(?=,|$)", hosts)):
        raise ValueError(f"its port is above {PORT_MAX}")
    user, colon, password = login.partition(":")
    single = urlsplit(f"//{hosts}") if "," not in hosts else None
    return Address(
        scheme=text.partition("://")[0].lower(),
        host=(single.hostname or "") if single else hosts,
        port=single.port if single else None,
        user=unquote(user) if at else None,
        password=unquote(password) if colon else None,
    )


def looks_like_one(text: str) -> bool:
    """Say whether the text begins with a scheme."""
    return SCHEME.match(text) is not None


def encoded(text: str) -> str:
    """Encode a user or a password for an address."""
    return quote(text, safe="")


def hidden(text: str) -> str:
    """Hide the password in a text that is no address but was meant for one: all before its last @ may be a password."""
    before, at, host = text.rpartition("@")
    scheme = match[0] if (match := SCHEME.match(before)) else ""
    return masked(f"{scheme}{HIDDEN}@{host}" if at else text)


def http(text: str) -> str:
    """Check the address of an HTTP server; "" passes too, where there may be no such server. Raises ValueError."""
    if text:
        _of_kind(text, ("http", "https"), "http://host:port")
    return text


def postgres(text: str) -> str:
    """Check the address of a Postgres database. Raises ValueError when the text is none."""
    _of_kind(text, ("postgresql", "postgres"), "postgresql://host:port/database", hosted=False)
    return text


def nats(text: str) -> str:
    """Check the address of a NATS server, or of several in a cluster. Raises ValueError when the text is none."""
    _of_kind(text, ("nats", "tls"), "nats://host:port", several=True)
    return text


def redis(text: str) -> str:
    """Check the address of a Redis or a Valkey. Raises ValueError when the text is none."""
    _of_kind(text, ("redis", "rediss"), "redis://host:port")
    return text


def brokers(text: str) -> str:
    """Check a list of host:port. Raises ValueError when the text is none."""
    servers = [server.strip() for server in text.split(",")]
    if not all(BROKERS.fullmatch(server) and int(server.rpartition(":")[2]) <= PORT_MAX for server in servers):
        raise ValueError("must be host:port, several separated by commas")
    return text


def _of_kind(text: str, schemes: tuple[str, ...], example: str, hosted: bool = True, several: bool = False) -> None:
    try:
        address = of(text)
    except ValueError as e:
        raise ValueError(f"must be an address such as {example}: {e}") from None
    if address.scheme not in schemes or (hosted and (not address.host or ("," in address.host and not several))):
        raise ValueError(f"must be an address such as {example}")

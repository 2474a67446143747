"""Addresses as gameday.toml has them: what is one, its parts, and how a password is written into it.

config.py checks each when it is read, so a driver meets none that is malformed.
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
    """The parts of an address, its percent-encoding undone. port: None where it names none, or several hosts."""

    scheme: str
    host: str
    port: int | None
    user: str | None
    password: str | None

    @property
    def login(self) -> Mapping[str, str]:
        """The header that tells an HTTP server user and password; {} for an address without."""
        if self.user is None:
            return {}
        told = b64encode(f"{self.user}:{self.password or ''}".encode()).decode()
        return {"Authorization": f"Basic {told}"}


def of(text: str) -> Address:
    """An address's parts. Raises ValueError, without quoting it, when it is none."""
    whole = ADDRESS.fullmatch(text)
    if whole is None:
        raise ValueError("it is not scheme://host:port/path")
    authority, rest = text.partition("://")[2], whole[1] or ""
    authority = authority[: len(authority) - len(rest)]
    login, at, hosts = authority.rpartition("@")
    if not at and ":" in authority and "@" in rest:  # the port would be the beginning of a password
        raise ValueError("it has an @ behind its first /, ? or #")
    if any(int(port) > PORT_MAX for port in re.findall(r":([0-9]+)(?=,|$)", hosts)):
        raise ValueError(f"its port is above {PORT_MAX}")
    user, colon, password = login.partition(":")
    one = urlsplit(f"//{hosts}") if "," not in hosts else None
    return Address(
        scheme=text.partition("://")[0].lower(),
        host=(one.hostname or "") if one else hosts,
        port=one.port if one else None,
        user=unquote(user) if at else None,
        password=unquote(password) if colon else None,
    )


def looks_like_one(text: str) -> bool:
    """Whether it begins with a scheme."""
    return SCHEME.match(text) is not None


def encoded(text: str) -> str:
    """A user or a password as it stands in an address."""
    return quote(text, safe="")


def hidden(text: str) -> str:
    """What was meant for an address and is none, as it may be shown: all before its last @ may be a password."""
    before, at, host = text.rpartition("@")
    scheme = found[0] if (found := SCHEME.match(before)) else ""
    return masked(f"{scheme}{HIDDEN}@{host}" if at else text)


def http(text: str) -> str:
    """The address of an HTTP server; "" too, where that server may be absent. Raises ValueError for another text."""
    if text:
        _of_kind(text, ("http", "https"), "http://host:port")
    return text


def postgres(text: str) -> str:
    """The address of a Postgres database. Raises ValueError for another text."""
    _of_kind(text, ("postgresql", "postgres"), "postgresql://host:port/database", hosted=False)
    return text


def nats(text: str) -> str:
    """The address of a NATS server, or of several that form a cluster. Raises ValueError for another text."""
    _of_kind(text, ("nats", "tls"), "nats://host:port", several=True)
    return text


def redis(text: str) -> str:
    """The address of a Redis or a Valkey. Raises ValueError for another text."""
    _of_kind(text, ("redis", "rediss"), "redis://host:port")
    return text


def brokers(text: str) -> str:
    """A list of host:port. Raises ValueError for another text."""
    each = [one.strip() for one in text.split(",")]
    if not all(BROKERS.fullmatch(one) and int(one.rpartition(":")[2]) <= PORT_MAX for one in each):
        raise ValueError("must be host:port, several separated by commas")
    return text


def _of_kind(text: str, schemes: tuple[str, ...], example: str, hosted: bool = True, several: bool = False) -> None:
    try:
        address = of(text)
    except ValueError as e:
        raise ValueError(f"must be an address such as {example}: {e}") from None
    if address.scheme not in schemes or (hosted and (not address.host or ("," in address.host and not several))):
        raise ValueError(f"must be an address such as {example}")

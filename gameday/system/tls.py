"""Sets up TLS for gameday's clients from the files that gameday.toml names, and explains a failed handshake.

A table with an address takes `ca`; for a server that asks for client certificates also `certificate` and `key`.
"""

from __future__ import annotations

import functools
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["KEYS", "PLAIN", "Tls", "context", "mistakes", "refused", "said"]

KEYS = ("ca", "certificate", "key")
"""The keys of a table that belong to a Tls."""

OTHER_NAME = (62, 64)
"""OpenSSL's codes for a certificate that is for another host name, or for another IP address."""

OUT_OF_TIME = (9, 10)
"""OpenSSL's codes for a certificate that is not valid yet, or no longer."""

HANGS_UP = (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError)
WORDLESS = "disconnected without sending a response"
"""What httpx says of a server that hangs up."""

ALERT = ("\x15\x03", r"\x15\x03")
"""How a TLS server's answer to plain HTTP may begin, as http.client and h11 quote it. Other servers hang up."""


@dataclass(frozen=True)
class Tls:
    """Paths of PEM files. ca: the authorities that sign the server's certificate; "": those that this machine trusts.
    certificate, key: the client's; key "": it is in the certificate's file."""

    ca: str = ""
    certificate: str = ""
    key: str = ""


PLAIN = Tls()
"""The TLS of a table without any of the keys."""


@functools.cache
def context(tls: Tls) -> ssl.SSLContext:
    """Return the SSL context for connections. Made once, because reading this machine's authorities takes 30 ms.

    Raises OSError for a file that can't be read or is no PEM.
    """
    secure = ssl.create_default_context(cafile=tls.ca or None)
    if tls.certificate:
        secure.load_cert_chain(tls.certificate, tls.key or None, password="")  # else OpenSSL asks on the terminal
    return secure


def mistakes(where: str, table: Mapping[str, Any]) -> Iterator[str]:
    """Yield one sentence for each file of a table that is missing or no PEM. where: the table's name."""
    names = KEYS if "certificate" in table else ("ca",)  # without one, a `key` is something else: a store's, a column
    paths = {name: table[name] for name in names if name in table}
    wrong = {name: why for name, path in paths.items() if (why := _unreadable(path))}
    if not wrong and paths:
        try:
            context(Tls(**paths))
        except OSError as e:
            wrong = {" and ".join(paths): f"no PEM that OpenSSL takes ({getattr(e, 'reason', None) or e})"}
    for name, why in wrong.items():
        shown = ", ".join(repr(paths[part]) for part in name.split(" and "))
        yield f"{where}.{name} is {shown}: {why}. Remedy: the absolute path of a PEM file that gameday may read"


def _unreadable(path: Any) -> str:
    if not isinstance(path, str) or not path.startswith("/"):
        return "not an absolute path, and a worker runs in a folder of its own"
    try:
        Path(path).read_bytes()
    except OSError as e:
        return str(e.strerror).lower()
    return ""


def said(error: BaseException, tls: Tls | None) -> str:
    """Say why a server gave no answer. tls: None for an address of plain HTTP."""
    if known := refused(error):
        return known
    text = str(error).rstrip(".") or type(error).__name__
    if not any(isinstance(cause, HANGS_UP) or WORDLESS in str(cause) for cause in _causes(error)):
        return text
    if tls is None:
        return f"{text} (as one does that speaks TLS alone: then https:// in its address)"
    if not tls.certificate:
        return f"{text} (as one does that wants to know its clients: then certificate and key beside its address)"
    return text


def refused(error: BaseException) -> str | None:
    """Say what went wrong with TLS, and what to do. None: nothing did. The text quotes nothing that was sent."""
    return next(filter(None, (_of_handshake(cause) for cause in _causes(error))), None)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _of_handshake(error: BaseException) -> str | None:
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in OTHER_NAME:
            return f"{error.verify_message} Remedy: the address by a name that the certificate has"
        if error.verify_code in OUT_OF_TIME:
            return f"its {error.verify_message}. Remedy: a new certificate at the server; or this machine's clock"
        return (
            f"its certificate is not trusted ({error.verify_message}). Remedy: ca = the PEM file of who signed it, "
            f"beside the address in gameday.toml"
        )
    if isinstance(error, ssl.SSLError):
        reason = error.reason or ""
        if reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"):
            return "it does not speak TLS. Remedy: http:// in its address"
        if reason.endswith(("CERTIFICATE_REQUIRED", "HANDSHAKE_FAILURE", "UNKNOWN_CA")) and "ALERT" in reason:
            return (
                f"it refuses the client ({reason.lower().replace('_', ' ')}). Remedy: certificate = a PEM file that it "
                f"trusts, and key, beside the address in gameday.toml"
            )
    if any(alert in str(error) for alert in ALERT):
        return "it speaks TLS. Remedy: https:// in its address"
    return None

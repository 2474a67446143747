"""What drivers that speak HTTP share: for channels one POST, and what its answer says about trying again; kept
connections for what is asked many times a second and doesn't prove that one can connect.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import math
import select
import urllib.error
import urllib.request
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from time import monotonic, time
from typing import Any
from urllib.parse import urlsplit

from gameday import address
from gameday.asking import give_up
from gameday.errors import ConfigError, Undelivered
from gameday.model import Json

__all__ = ["Kept", "again_s", "post", "web_address"]

SHORTEST_S = 0.001
"""Of a socket's patience: none at all would mean that it never waits."""

REFUSED = (400, 413, 415, 422)
"""This body will never be taken. Others of 4xx are about who asks, or where: a person can mend that."""


def post(what: str, url: str, body: Json, headers: Mapping[str, str], within_s: float) -> None:
    """POST JSON; Undelivered unless the answer is 2xx. A redirect is none: following it would drop the body.

    what: the name in errors, which never tell the address: it may hold a secret.
    """
    parts = urlsplit(url)
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    sent = {**address.of(url).login, **headers, "Content-Type": "application/json", "User-Agent": "gameday"}
    request = urllib.request.Request(bare, json.dumps(body).encode(), sent, method="POST")
    try:
        with _OPENER.open(request, timeout=within_s):
            return
    except urllib.error.HTTPError as e:
        with e:
            raise Undelivered(
                f"{what} answered {e.code}", again_s=again_s(e.headers.get("Retry-After")), refused=e.code in REFUSED
            ) from None
    except (OSError, http.client.HTTPException, ValueError) as e:  # ValueError: a header that can't be one
        reason = getattr(e, "reason", e)
        raise Undelivered(f"{what} does not answer: {_said(reason)}") from None


def again_s(retry_after: str | None) -> float | None:
    """Retry-After, seconds or an HTTP date, in seconds from now; None: absent, or nonsense."""
    if not retry_after:
        return None
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(retry_after).timestamp() - time()
        except ValueError:
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def web_address(url: str, key: str) -> None:
    """ConfigError unless it is an http(s) address. It is not shown: it may hold a secret."""
    try:
        at = address.of(url)
    except ValueError:
        at = None
    if at is None or at.scheme not in ("http", "https") or not at.host:
        raise ConfigError(f"{key} is no HTTP address. Remedy: https://host/path")


def _said(reason: object) -> str:
    """Why there was no answer. Of what is not the operating system's word only the kind: it may quote the address."""
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror.lower()
    return "timed out" if isinstance(reason, TimeoutError) else type(reason).__name__


class _Staying(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_Staying)


class Kept:
    """The connections to one server, one for each request at the same time. A new one is made where none is idle."""

    def __init__(
        self, host: str, port: int | None, secure: bool = False, connect_within_s: float | None = None
    ) -> None:
        """connect_within_s: how long connecting may take, where an answer may take longer."""
        self._host, self._port, self._connect_within_s = host, port, connect_within_s
        self._kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        self._idle: list[http.client.HTTPConnection] = []

    def ask(
        self, method: str, target: str, within_s: float, body: bytes | None = None, headers: Mapping[str, str] = {}
    ) -> tuple[int, bytes]:
        """One request's status and body. Raises OSError or HTTPException; then its connection is not used again. The
        request may be sent twice, and so has to be one that only asks.

        within_s: for the connecting, unless that has a bound of its own, and what that leaves for each piece of the
        answer.
        """
        deadline = monotonic() + within_s
        if (idle := self._taken()) is not None:
            with contextlib.suppress(ConnectionError):  # the server closed it just now, and will take another
                return self._asked(idle, deadline, method, target, body, headers)
        connection = self._kind(self._host, self._port, timeout=min(within_s, self._connect_within_s or within_s))
        connection.connect()
        return self._asked(connection, deadline, method, target, body, headers)

    def _asked(
        self,
        connection: http.client.HTTPConnection,
        deadline: float,
        method: str,
        target: str,
        body: bytes | None,
        headers: Mapping[str, str],
    ) -> tuple[int, bytes]:
        try:
            connection.sock.settimeout(max(SHORTEST_S, deadline - monotonic()))
            connection.request(method, target, body, headers)
            response = connection.getresponse()
            answer = response.status, response.read()
        except BaseException:
            if connection.sock is not None:
                give_up(connection.sock.fileno())
            connection.close()
            raise
        if connection.sock is not None:  # the server did not ask for its end
            self._idle.append(connection)
        return answer

    def _taken(self) -> http.client.HTTPConnection | None:
        """An idle connection that the server has not closed. Safe in threads, as list.pop is."""
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:  # another thread was quicker
                break
            if connection.sock is not None and not select.select([connection.sock], [], [], 0)[0]:
                return connection
            connection.close()
        return None

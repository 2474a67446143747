"""Sends queries to one ClickHouse server over HTTP."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from gameday.errors import DriverError, masked
from gameday.system import address
from gameday.system.http import Kept, Unanswered
from gameday.system.tls import PLAIN, Tls

__all__ = ["PORTS", "Refused", "Server"]

CONNECT_WITHIN_S = 0.9

QUERY_BYTES_MAX = 1 << 26
"""A window of ten thousand groups takes a megabyte."""

ANSWER_MAX_BYTES = 1 << 30
"""The rows of a window, some ten million: they are held in memory."""

PORTS = {"http": 8123, "https": 8443}
"""The ports of a URL that names none."""


class Refused(DriverError):
    """The server answered with an error."""


class Server:
    """One server. Its connections are kept, because heads are asked for twenty times a second.

    This uses no client library: that one asks three questions of its own before the first query, and takes as long to
    import as a whole `gameday status` may last.
    """

    def __init__(self, url: str, settings: Mapping[str, int | str] = {}, tls: Tls = PLAIN) -> None:
        """settings: ClickHouse's settings for every query."""
        self._settings = settings
        at = address.of(url)
        port = at.port or PORTS[at.scheme]
        self._where = f"{at.host}:{port}"
        known = replace(at, port=port, user=at.user or "default")
        self._kept = Kept(known, tls, connect_within_s=CONNECT_WITHIN_S, most_bytes=ANSWER_MAX_BYTES)

    def rows(self, sql: str, within_s: float) -> Sequence[Sequence[Any]]:
        """Return a query's rows. Integers of any width are exact. Raises DriverError, which is definite: a query
        changes nothing."""
        try:
            rows: Sequence[Sequence[Any]] = json.loads(self._answer(sql, within_s, "JSONCompact"))["data"]
            return rows
        except (ValueError, KeyError, TypeError) as e:
            raise self._error(f"its answer is not ClickHouse's ({type(e).__name__}: {e})") from e

    def binary(self, sql: str, within_s: float) -> bytes:
        """Return a query's rows in the format RowBinary."""
        return self._answer(sql, within_s, "RowBinary")

    def _answer(self, sql: str, within_s: float, form: str) -> bytes:
        settings = {
            **self._settings,
            "default_format": form,
            "output_format_json_quote_64bit_integers": 0,
            "wait_end_of_query": 1,  # a query that fails halfway has a status that says so
            "max_query_size": QUERY_BYTES_MAX,
            "max_execution_time": max(1, int(within_s)),  # a query that is given up must not go on at a busy server
        }
        try:
            answer = self._kept.ask("POST", f"/?{urlencode(settings)}", within_s, sql.encode())
        except Unanswered as e:
            raise self._error(str(e) or type(e).__name__) from e
        if answer.status != HTTPStatus.OK:
            raise self._error(answer.body.decode(errors="replace") or f"status {answer.status}", Refused)
        return answer.body

    def _error(self, reason: str, kind: type[DriverError] = DriverError) -> DriverError:
        return kind(f"ClickHouse at {self._where}: {masked(' '.join(reason.split()))[:300]}", definite=True)

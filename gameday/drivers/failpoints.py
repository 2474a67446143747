"""Arms failpoints of a running process over its unix socket, and reads what fired from its file of evidence.

The other end is failpoints/server.py, in the platform's own process.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import quote, urlencode

from gameday.drivers import _evidence
from gameday.errors import ConfigError, DriverError, TooLate
from gameday.model import Json
from gameday.system import address
from gameday.system.http import Kept, Unanswered

__all__ = ["Points"]

ASK_WITHIN_S = 5.0
REFUSED = (400, 404)
"""The term makes no sense, or no such point is declared: nothing was armed."""

NOT_IN_TIME = (408, 409)


@dataclass(frozen=True)
class Points:
    """socket: the process's FAILPOINTS_SOCKET. evidence: its FAILPOINTS_EVIDENCE, which outlives it."""

    socket: str
    evidence: str

    def listed(self) -> Mapping[str, Json]:
        try:
            return dict(self._ask("GET", "/points")["points"])
        except _NobodyListens:
            return {}

    def arm(self, point: str, term: str, ttl_s: float, run: str) -> None:
        self._ask("PUT", f"{_path(point)}?{urlencode({'ttl_s': ttl_s, 'run': run})}", term)

    def disarm(self, point: str) -> None:
        self._ask("DELETE", _path(point))

    def wait(self, point: str, times: int, within_s: float) -> None:
        query = urlencode({"fired": times, "within_s": within_s})
        known = len(self.firings(point))
        try:
            self._ask("GET", f"{_path(point)}/wait?{query}", within_s=within_s + ASK_WITHIN_S)
        except DriverError:
            if len(self.firings(point)) == known:
                raise
            # the point ended the process, and with it the request

    def firings(self, point: str) -> Sequence[Json]:
        return _evidence.firings(self.evidence, point)

    def _ask(self, method: str, target: str, body: str | None = None, within_s: float = ASK_WITHIN_S) -> Any:
        """Send one request. Raises DriverError; ConfigError when the process refuses it, TooLate from wait."""
        content = None if body is None else body.encode()
        try:
            answer = self._process.ask(method, target, within_s, content, {"Connection": "close"})
            told = json.loads(answer.body)
        except Unanswered as e:
            if isinstance(e.__cause__, FileNotFoundError | ConnectionRefusedError):
                raise _NobodyListens(
                    f"no process listens for failpoints at {self.socket}. Remedy: start it with FAILPOINTS_ENABLE=1 "
                    f"and this FAILPOINTS_SOCKET, and let its main call failpoints.listen()",
                    definite=True,
                ) from e
            definite = method == "GET" or not e.sent
            raise DriverError(f"{method} {target} at {self.socket}: {e}", definite=definite) from e
        except ValueError as e:
            raise DriverError(f"{method} {target} at {self.socket}: {e!r}", definite=method == "GET") from e
        if answer.status in REFUSED:
            raise ConfigError(str(told["error"]))
        if answer.status in NOT_IN_TIME:
            raise TooLate(str(told["error"]))
        if answer.status != 200:
            raise DriverError(f"{method} {target} at {self.socket} answered {answer.status}: {told}", definite=True)
        return told

    @cached_property
    def _process(self) -> Kept:
        """The client for the process. It keeps no connection: that would hold a thread of the process under test."""
        return Kept(address.of("http://localhost"), unix=self.socket)


class _NobodyListens(DriverError):
    """No process listens, so nothing is armed there."""


def _path(point: str) -> str:
    return f"/points/{quote(point, safe=':')}"

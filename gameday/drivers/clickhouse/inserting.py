"""Writes the canary's records by an INSERT."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from urllib.parse import urlencode

from gameday.drivers.clickhouse.queries import PORTS
from gameday.model import Outcome, Sent
from gameday.records.attempts import filled
from gameday.stack.config import Http
from gameday.system import address
from gameday.system.http import Unanswered, ask
from gameday.system.tls import PLAIN, Tls

__all__ = ["Canary"]

REFUSED = frozenset((60, 62, 81, 164, 192, 193, 194, 497, 516))
"""ClickHouse's errors from before it writes anything: no such table or database, syntax, rights, login. Any other error
may come from a view, when the table itself has the row already."""

EXCEPTION = re.compile(r"Code: ([0-9]+)\.")


@dataclass(frozen=True)
class Canary:
    """Executes `text`, such as INSERT INTO orders VALUES ({n}, '{key}', '{now}'). settings: ClickHouse's own."""

    url: Http
    text: str
    timeout_s: float
    settings: Mapping[str, int | str] = field(default_factory=dict)
    tls: Tls = PLAIN

    def send(self, known: Mapping[str, str]) -> Sent:
        """Send one record. DONE: the server has executed it. REFUSED: it refused before it wrote, or could not be
        reached. UNKNOWN: anything else."""
        at = address.of(self.url)
        host = f"[{at.host}]" if ":" in at.host else at.host
        settings = {"wait_end_of_query": 1, "wait_for_async_insert": 1, **self.settings}
        where = f"{at.scheme}://{host}:{at.port or PORTS[at.scheme]}"
        body = filled(self.text, known).encode()
        try:
            answer = ask(
                "POST",
                f"{where}/?{urlencode(settings)}",
                self.timeout_s,
                body=body,
                headers=replace(at, user=at.user or "default").login,
                tls=self.tls,
            )
        except Unanswered as e:
            return Sent(Outcome.UNKNOWN if e.sent else Outcome.REFUSED, f"ClickHouse at {where}: {e}")
        if answer.status == HTTPStatus.OK:
            return Sent(Outcome.DONE)
        why = " ".join(answer.body.decode(errors="replace").split())[:300] or f"status {answer.status}"
        code = EXCEPTION.match(why)
        definite = code is not None and int(code[1]) in REFUSED
        return Sent(Outcome.REFUSED if definite else Outcome.UNKNOWN, f"ClickHouse at {where}: {why}")

"""The account for the check dead_lettered: which requests had to become dead letters (by the caller's tape), and which
did (by the store).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import psycopg

from gameday.errors import DriverError, TooLate
from gameday.model import Json
from gameday.stack.config import Http, Postgres
from gameday.system.http import Unanswered, ask
from gameday.system.polling import until
from pipelines.router import tape as tapes

__all__ = ["Letters"]

ASK_WITHIN_S = 10.0
CONNECT_WITHIN_S = 5
LOOK_EVERY_S = 0.5

UNANSWERED = ("crashes", "slow")
"""The kinds of request that no router answers in time."""

BEFORE_US = 120_000_000
"""So much time before a run is judged too: one in a thousand requests can't be handled, so a short run may have
none."""

BEGUN = """
SELECT tenant, min(n) FROM outcomes WHERE at >= to_timestamp(%(since_us)s / 1e6) AND kind = 'done' GROUP BY tenant
"""
ENDED = "SELECT count(*) FROM outcomes WHERE id = ANY(%s::uuid[])"
DEAD = """
SELECT id::text, tenant, n, reason, attempt, (extract(epoch FROM at) * 1e6)::bigint FROM outcomes
WHERE kind = 'dead' AND (at >= to_timestamp(%(since_us)s / 1e6) OR id = ANY(%(expected)s::uuid[]))
"""


@dataclass(frozen=True)
class Letters:
    """dsn: the store's. caller: its address. most: how often a request is handed out at most. counted: whether the
    broker's count outlives its end. buried_by: who makes a letter of what was never answered: "broker", or "consumer",
    which is handed it once more for that. ends_within_s: how long a request may take to end: one that is slow takes
    longer than the broker waits, at each delivery."""

    dsn: Postgres
    caller: Http
    most: int
    counted: bool
    broker: str = "broker"
    buried_by: str = "broker"
    ends_within_s: float = 90.0

    def told(self, since_us: int) -> Json:
        """Of what has ended since shortly before. A tenant's requests have ended up to its head. Those that were asked
        for besides since then, and are published, have to end too: no stream has them, so nobody else has waited for
        them. What was asked for earlier was an earlier run's, and the store keeps it for a day."""
        tape = self._tape()
        since = {"since_us": since_us - BEFORE_US}
        try:
            with psycopg.connect(self.dsn, autocommit=True, connect_timeout=CONNECT_WITHIN_S) as store:
                heads: dict[str, int] = dict(store.execute("SELECT tenant, n FROM heads").fetchall())
                begun = store.execute(BEGUN, since).fetchall()
                expected = {
                    id_: kind
                    for tenant, n in begun
                    if tenant != tapes.POISON
                    for _, id_, kind in tapes.poison(tape, (tenant,), n - 1, heads[tenant] if tenant in heads else n)  # noqa: SIM401 - a type checker knows no more of a row than that
                }
                asked = [one["id"] for one in tape["poison"] if one["done"] and one.get("at_us", 0) >= since_us]
                with suppress(TooLate):  # then what has not ended is no dead letter
                    until(lambda: self._ended(store, asked), self.ends_within_s, LOOK_EVERY_S, "the requests to end")
                dead = store.execute(DEAD, {**since, "expected": [*expected, *asked]}).fetchall()
        except psycopg.Error as e:
            raise DriverError(f"the store: {e}", definite=True) from e
        seed, ever = tape["seed"], {one["id"]: one["kind"] for one in tape["poison"]}
        letters = [
            {
                "id": id_,
                "reason": reason,
                "attempts": attempt,
                "at_us": at_us,
                "unanswered": ever.get(id_) in UNANSWERED,
                "rejected": False,  # the routers hand back what they can't handle, to its last delivery
                "expected": id_ in ever or (tapes.is_poison(tenant, n) and tapes.request(seed, tenant, n)["id"] == id_),
            }
            for id_, tenant, n, reason, attempt, at_us in dead
        ]
        known = {"most": self.most, "counted": self.counted, "broker": self.broker, "buried_by": self.buried_by}
        return {"expected": [*expected, *asked], "letters": letters, **known}

    @staticmethod
    def _ended(store: psycopg.Connection[Any], ids: list[str]) -> bool:
        """Whether each of these requests has an outcome."""
        found = store.execute(ENDED, [ids]).fetchone()
        return found is not None and found[0] >= len(ids)

    def _tape(self) -> Mapping[str, Any]:
        url = f"{self.caller}/tape"
        try:
            answer = ask("GET", url, ASK_WITHIN_S)
        except Unanswered as e:
            raise DriverError(f"GET {url}: {e}", definite=True) from e
        if answer.status != HTTPStatus.OK:
            raise DriverError(f"GET {url} answered {answer.status}", definite=True)
        told: dict[str, Any] = json.loads(answer.body)
        return told

"""The worker of the router: python -m pipelines.router.worker --backend jetstream --port P, and the environment's
BROKER_URL and STORE_URL; ROUTER_DEFECT is one of defects.py. With --tables it makes the store's tables, and ends.

It carries decisions out, and stores dead letters, in one table. A batch is one transaction, and is acknowledged after
it. A request keeps its first outcome: so a decision has one effect however often it is delivered.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson
import psycopg
import structlog
from psycopg.sql import SQL

from failpoints import point
from pipelines.router.backends import ATTEMPTS, REASON, Delivery
from pipelines.router.deciding import Unhandled, read
from pipelines.router.metrics import Metrics
from pipelines.router.serving import Program, run
from pipelines.router.settings import ADDRESS, DECISIONS, LETTERS, backend, common, defect
from pipelines.router.wire import Wire
from pipelines.trades.addresses import DSN, given

__all__ = ["CONNECT_WITHIN_S", "EXAMPLE", "STORE", "Worker", "main", "tables"]

STORE = "STORE_URL"
EXAMPLE = "postgresql://USER:PASSWORD@HOST:PORT/DATABASE"

BATCH = 100
FETCH_WITHIN_S = 0.5
BACKOFF_S = (0.05, 2.0)
"""The first and the longest wait when the store doesn't answer."""

CONNECT_WITHIN_S = 3
ANSWER_WITHIN_S = 10.0
"""For a batch. A link that swallows packets gives no answer, and no error either."""

KAFKAS_REASON = "__dlq.errors.message"
KAFKAS_COUNT = "__dlq.errors.delivery.count"
"""Headers of the dead letters that Kafka's broker writes."""

PURGE_EVERY_S = 60.0
KEPT = "1 day"

BEFORE_EFFECT = point("worker::before_effect", "decisions were handed out, and nothing of them is done")
BETWEEN = point("worker::between_effect_and_ack", "effects are committed, and no decision is acknowledged")

NOTE = """
INSERT INTO outcomes (id, tenant, n, kind, lane, amount, deadline_ms, body_md5, router, attempt, reason)
VALUES (%(id)s, %(tenant)s, %(n)s, %(kind)s, %(lane)s, %(amount)s, %(deadline_ms)s, md5(%(body)s), %(router)s,
        %(attempt)s, %(reason)s)
"""
ONCE = "ON CONFLICT (id) DO NOTHING"

ADVANCE = """
UPDATE heads SET n = last.n
FROM (SELECT o.n FROM outcomes o, heads h
      WHERE h.tenant = %(tenant)s AND o.tenant = h.tenant AND o.n > h.n
        AND NOT EXISTS (SELECT FROM outcomes x WHERE x.tenant = o.tenant AND x.n = o.n + 1)
      ORDER BY o.n LIMIT 1) last
WHERE heads.tenant = %(tenant)s
  AND EXISTS (SELECT FROM outcomes x WHERE x.tenant = %(tenant)s AND x.n = heads.n + 1)
"""
"""The head moves to the end of the outcomes without a gap after it. This is a statement of its own, after the heads are
locked, so that it sees what another thread has committed before."""

log = structlog.get_logger()

Row = dict[str, Any]


class Worker:
    """Stores one group's messages. row: makes a row of a message; raises Unhandled, or JSON's errors."""

    def __init__(
        self, wire: Wire, row: Callable[[Delivery], Row], dsn: str, program: Program, defect: str = ""
    ) -> None:
        self._wire, self._row, self._dsn, self._program, self._defect = wire, row, dsn, program, defect
        self._connection: psycopg.Connection[Any] | None = None
        self._purged_s = 0.0

    def work(self) -> None:
        """Work until the program has ended."""
        self._wire.connect(self._program.ended)
        while not self._program.ended.is_set():
            found = self._wire.fetch(BATCH, FETCH_WITHIN_S)
            if found:
                self._carry_out(found)

    def _carry_out(self, found: Sequence[Delivery]) -> None:
        if BEFORE_EFFECT.on is not None:
            BEFORE_EFFECT()
        rows = []
        for delivery in found:
            try:
                rows.append(self._row(delivery))
            except (Unhandled, KeyError, orjson.JSONDecodeError) as e:
                self._wire.dead(delivery, f"it can't be read: {e}")
        wait_s = BACKOFF_S[0]
        while rows and not self._noted(rows):
            if self._program.ended.wait(wait_s):
                return
            wait_s = min(2 * wait_s, BACKOFF_S[1])
        if BETWEEN.on is not None:
            BETWEEN()
        for delivery in found:
            self._wire.ack(delivery)

    def _noted(self, rows: Sequence[Row]) -> bool:
        """Whether the store has them. If not, they are tried again: rows that it has already count once."""
        try:
            if self._connection is None or self._connection.closed:
                self._connection = psycopg.connect(
                    self._dsn,
                    connect_timeout=CONNECT_WITHIN_S,
                    tcp_user_timeout=int(ANSWER_WITHIN_S * 1000),
                    options=f"-c statement_timeout={int(ANSWER_WITHIN_S * 1000)}",
                    application_name="worker",
                )
            with self._connection.transaction(), self._connection.cursor() as cursor:
                self._write(cursor, rows)
        except (psycopg.Error, OSError) as e:
            self._program.trouble["store"] = f"{type(e).__name__}: {e}".strip()
            if self._connection is not None:
                self._connection.close()
            return False
        self._program.trouble.pop("store", None)
        return True

    def _write(self, cursor: psycopg.Cursor[Any], rows: Sequence[Row]) -> None:
        """Write the rows. The heads are locked first: other writers of these tenants' outcomes wait."""
        tenants = sorted({row["tenant"] for row in rows})
        cursor.executemany("INSERT INTO heads VALUES (%s, 0) ON CONFLICT DO NOTHING", [(one,) for one in tenants])
        cursor.execute("SELECT FROM heads WHERE tenant = ANY(%s) ORDER BY tenant FOR UPDATE", (tenants,))
        cursor.executemany(SQL(NOTE) + SQL("" if self._defect == "not_idempotent" else ONCE), rows)
        cursor.executemany(ADVANCE, [{"tenant": one} for one in tenants])
        if time.monotonic() - self._purged_s > PURGE_EVERY_S:
            self._purged_s = time.monotonic()
            cursor.execute(f"DELETE FROM outcomes WHERE at < now() - interval '{KEPT}'")


def effect(delivery: Delivery) -> Row:
    """Make a row of a decision. attempt: how often the request had been delivered when it was decided."""
    told = orjson.loads(delivery.payload)
    request = told["request"]
    return {**request, "kind": "done", "reason": None, **{name: told[name] for name in ("lane", "router", "attempt")}}


def letter(delivery: Delivery) -> Row:
    """Make a row of a dead letter."""
    about = delivery.about
    reason = about.get(REASON) or about.get(KAFKAS_REASON)
    attempt = int(about.get(ATTEMPTS) or about.get(KAFKAS_COUNT) or 0)
    return {
        **read(delivery.payload),
        "kind": "dead",
        "lane": None,
        "router": None,
        "attempt": attempt,
        "reason": reason,
    }


def tables(dsn: str, repeats: bool = False) -> None:
    """Make the store's tables that are missing. repeats: an outcome may be there twice."""
    with psycopg.connect(dsn, connect_timeout=CONNECT_WITHIN_S) as connection:
        connection.execute(SQL("SELECT pg_advisory_xact_lock(719_005)"))
        connection.execute(Path(__file__).with_name("store.sql").read_bytes())
        if repeats:
            connection.execute("ALTER TABLE outcomes DROP CONSTRAINT IF EXISTS outcomes_pkey")


def main() -> int:
    """Run until SIGTERM. Exit 1: an unexpected error; 2: the port can't be used."""
    parser = common("Carries decisions out, each once.")
    parser.add_argument("--tables", action="store_true", help="make the store's tables, and end")
    options = parser.parse_args()
    dsn, planted = given(parser, STORE, DSN, EXAMPLE), defect(parser)
    if options.tables or planted == "not_idempotent":
        tables(dsn, repeats=planted == "not_idempotent")
    if options.tables:
        return 0
    program, metrics = Program(), Metrics(options.backend, planted)
    work: dict[str, Callable[[], None]] = {}
    for names, row in ((DECISIONS, effect), (LETTERS, letter)):
        wire = Wire(backend(options.backend, os.environ[ADDRESS], names, options.ack_wait), names, metrics, planted)
        work[names.group] = Worker(wire, row, dsn, program, planted).work
    return run("worker", program, work, metrics.text, options.host, options.port)


if __name__ == "__main__":
    sys.exit(main())

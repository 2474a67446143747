"""Observes the router from outside: python -m pipelines.router.observer --backend jetstream --port P --caller URL, and
the environment's BROKER_URL and STORE_URL. It is not in the requests' path.

GET /deliveries has each request that was delivered more than once. JetStream reports with each acknowledgement how many
deliveries came before it. For Kafka and Valkey the observer reads the broker's count where a router has copied it: in
the decision, and in the dead letter. GET /account has only the numbers; the alerts are judged by /metrics.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from pipelines.exporting import ANSWER_WAIT_S, Lag, Line, Looks
from pipelines.router.accounts import Account, Away, Ended, account
from pipelines.router.serving import Program, run
from pipelines.router.settings import ADDRESS, common
from pipelines.router.tape import POISON
from pipelines.router.worker import EXAMPLE, STORE
from pipelines.trades.addresses import DSN, given

__all__ = ["Tally", "main"]

READ_EVERY_S = 0.25
LISTED_MAX = 10_000
"""How many requests that came more than once are listed, the newest."""

log = structlog.get_logger()


class Tally:
    """Sums up an account since the program began."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._again: dict[str, tuple[int, int]] = {}
        self._numbers = {"deliveries": 0, "acked": 0, "redeliveries": 0}

    def add(self, ended: Iterable[Ended], now_us: int) -> None:
        """Add requests that have ended. The highest count of an id counts; an id that is reported again came again."""
        with self._lock:
            for one in ended:
                before = self._again.pop(one.id, (1, 0))[0] if one.id else 1
                more = max(0, one.deliveries - before)
                self._numbers["acked"] += 1
                self._numbers["redeliveries"] += more
                self._numbers["deliveries"] += 1 + more
                if one.id and (one.deliveries > 1 or before > 1):
                    self._again[one.id] = (max(before, one.deliveries), now_us)
            while len(self._again) > LISTED_MAX:
                del self._again[next(iter(self._again))]

    def numbers(self) -> dict[str, int]:
        """Return the totals, which never fall."""
        with self._lock:
            return dict(self._numbers)

    def again(self, since_us: int) -> list[dict[str, Any]]:
        """Return the requests that were delivered more than once and have ended since then."""
        with self._lock:
            return [
                {"id": id_, "deliveries": count, "at_us": at_us}
                for id_, (count, at_us) in self._again.items()
                if at_us >= since_us
            ]


class Outcomes:
    """Looks at the store: does it answer, how far is it behind the caller, does a request hold its tenant up."""

    def __init__(self, dsn: str, caller: str) -> None:
        self._dsn, self._caller = dsn, caller
        self._lags: dict[str, Lag] = {}
        self._moved: dict[str, tuple[int, float]] = {}

    def look(self) -> Iterator[Line]:
        """Yield metrics. Raises psycopg.Error when the store doesn't answer. Without the caller the lag is left out."""
        wait = f"-c statement_timeout={int(ANSWER_WAIT_S * 1000)}"
        with psycopg.connect(self._dsn, autocommit=True, connect_timeout=2, options=wait) as connection:
            heads = connection.execute(
                "SELECT tenant, n, (SELECT max(n) FROM outcomes o WHERE o.tenant = h.tenant) FROM heads h "
                "WHERE tenant <> %s",
                [POISON],
            ).fetchall()
            recent: dict[str, int] = dict(
                connection.execute(
                    "SELECT kind, count(*) FROM outcomes WHERE at > now() - interval '1 minute' GROUP BY kind"
                ).fetchall()
            )
        yield "store_up", {}, 1.0
        yield "store_minute_outcomes", {}, float(sum(recent.values()))
        yield "store_minute_dead_letters", {}, float(recent.get("dead", 0))
        now = time.monotonic()
        for tenant, head, newest in heads:
            if self._moved.get(tenant, (None, now))[0] != head or newest <= head:
                self._moved[tenant] = (head, now)
            yield "store_stuck_seconds", {"tenant": tenant}, now - self._moved[tenant][1]
        for tenant, published in self._published().items():
            lag = self._lags.setdefault(tenant, Lag())
            lag.seen(now, published)
            done = next((head for one, head, _ in heads if one == tenant), 0)
            yield "store_behind_requests", {"tenant": tenant}, float(max(0, published - done))
            yield "store_behind_seconds", {"tenant": tenant}, lag.behind_s(now, done)

    def _published(self) -> dict[str, int]:
        try:
            with urllib.request.urlopen(f"{self._caller}/tape", timeout=ANSWER_WAIT_S) as answer:
                done: dict[str, int] = json.loads(answer.read())["done"]
        except OSError:
            return {}
        return {tenant: n for tenant, n in done.items() if tenant != POISON}


def keep(account: Account, tally: Tally, program: Program) -> Callable[[], None]:
    """Return the work of a thread: read on in the account, as long as the broker answers."""

    def read() -> None:
        while not program.ended.wait(READ_EVERY_S):
            try:
                tally.add(account.read(), time.time_ns() // 1000)
                program.trouble.pop("account", None)
            except Away as e:
                program.trouble["account"] = str(e)

    return read


def main() -> int:
    """Run until SIGTERM. Exit 1: an unexpected error; 2: the port can't be used."""
    parser = common("Tells of the router from outside of it.")
    parser.add_argument("--caller", required=True, help="http://HOST:PORT of the caller")
    parser.add_argument("--textfiles", type=Path, help="a folder of *.prom files to be told too")
    options = parser.parse_args()
    outcomes = Outcomes(given(parser, STORE, DSN, EXAMPLE), options.caller)
    program, tally, found = Program(), Tally(), account(options.backend, os.environ[ADDRESS])
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Looks({"store": (outcomes.look, psycopg.Error), "broker": (found.look, Away)}))

    def metrics() -> bytes:
        files = sorted(options.textfiles.glob("*.prom")) if options.textfiles is not None else []
        return generate_latest(registry) + b"".join(path.read_bytes().rstrip(b"\n") + b"\n" for path in files)

    async def deliveries(request: web.Request) -> web.Response:
        try:
            since_us = int(request.query.get("since_us", "0"))
        except ValueError:
            return web.json_response({"error": "since_us is no number. Remedy: microseconds since 1970"}, status=400)
        told = {"backend": options.backend, "account": found.kind, "since_us": since_us}
        return web.json_response({**told, **tally.numbers(), "redelivered": tally.again(since_us)})

    async def numbers(_: web.Request) -> web.Response:
        return web.json_response(tally.numbers())

    routes = {("GET", "/deliveries"): deliveries, ("GET", "/account"): numbers}
    work = {"account": keep(found, tally, program)}
    return run("observer", program, work, metrics, options.host, options.port, routes)


if __name__ == "__main__":
    sys.exit(main())

"""The outside world of the router: python -m pipelines.router.caller --backend jetstream --port P --state DIR
[--rate 25] [--seed 1], and the environment's BROKER_URL and STORE_URL; ROUTER_DEFECT is one of defects.py.

It publishes each tenant's requests one after the other, over a connection of its own, each until the broker has it: so
a request that has begun will exist. What got no answer, or a refusal, is published again under the same id. When it
starts, what has not ended is published again: it may have waited in the broker when the platform was stopped, and the
broker drops it after ten minutes, whether somebody took it or not.

GET /tape is all that a ledger needs. POST /poison {"kind"} publishes a request that can't be handled; with a "key" only
once, and GET /asked/KEY says whether it is published. POST /burst {"requests"} publishes so many of each tenant without
a pause; /hold {"s"} begins no request for so long, at most HOLD_MAX_S. /poison takes a "count" too, and answers with
the last of them.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import psycopg
import structlog
from aiohttp import web

from pipelines import asked
from pipelines.kept import TapeError
from pipelines.router import tape as tapes
from pipelines.router.backends import Unpublished
from pipelines.router.kept import Kept
from pipelines.router.metrics import Metrics
from pipelines.router.serving import Handler, Program, run
from pipelines.router.settings import ADDRESS, REQUESTS, backend, common, defect
from pipelines.router.tape import KINDS, POISON, TENANTS
from pipelines.router.wire import Wire
from pipelines.router.worker import CONNECT_WITHIN_S, EXAMPLE, STORE
from pipelines.trades.addresses import DSN, given
from pipelines.trades.lines import log_json

__all__ = ["Caller", "main"]

LATE_MAX_S = 1.0
"""A tenant that is later than this goes on from now: requests that could not be published meanwhile never existed."""

SAVE_EVERY_S = 1.0
LOOK_EVERY_S = 0.02
BACKOFF_S = (0.05, 1.0)
"""The first and the longest wait before a request is published again."""

BURST_MAX = 10_000
POISON_MAX = 200
HOLD_MAX_S = 60.0

log = structlog.get_logger()


class Caller:
    """The tape, and what carries it out. ended: tenant -> its last request that has ended with all before it; what
    comes behind is published again. rate: requests a second of each tenant."""

    def __init__(
        self,
        kept: Kept,
        ended: Mapping[str, int],
        connected: Callable[[], Wire],
        rate: float,
        program: Program,
        defect: str = "",
    ) -> None:
        self._kept, self._ended, self._connected, self._rate = kept, ended, connected, rate
        self._program, self._defect = program, defect
        self._writing = kept.writing
        self._asking = threading.Lock()  # one request to add to the tape at a time
        self._durable = len(kept.tape["poison"])
        """How many of the extra requests are on the disk, and may be published."""
        self._begun = dict(kept.tape["done"])
        self._hold_until_s = 0.0
        self._unpaced = dict.fromkeys(TENANTS, 0)

    def work(self) -> dict[str, Callable[[], None]]:
        """Return the work of each thread."""
        tenants: dict[str, Callable[[], None]] = {tenant: self._tenant(tenant) for tenant in TENANTS}
        return {**tenants, POISON: self._asked_for, "tape": self._save}

    def routes(self) -> dict[tuple[str, str], Handler]:
        """Return the routes besides health and metrics."""
        return {
            ("GET", "/tape"): self._tape_json,
            ("GET", "/asked/{key}"): self._asked,
            ("POST", "/poison"): asked.handler(_in_thread(self._poison)),
            ("POST", "/burst"): asked.handler(_in_thread(self._burst)),
            ("POST", "/hold"): asked.handler(_in_thread(self._hold)),
        }

    # ---- publishing ----------------------------------------------------------------------------------------

    def _tenant(self, tenant: str) -> Callable[[], None]:
        seed = self._kept.tape["seed"]

        def publish() -> None:
            wire = self._joined(tenant)
            for n in self._unended(tenant):
                self._carry_out(wire, tenant, tapes.request(seed, tenant, n))
            due_s = time.monotonic()
            while not self._program.ended.is_set():
                n = self._kept.tape["done"][tenant] + 1
                due_s = self._due(tenant, due_s)
                if self._program.ended.is_set():
                    return
                self._begun[tenant] = n
                self._carry_out(wire, tenant, tapes.request(seed, tenant, n))

        return publish

    def _asked_for(self) -> None:
        """Publish the extra requests, as they are asked for."""
        tape, wire = self._kept.tape, self._joined(POISON)
        for n in self._unended(POISON):
            self._carry_out(wire, POISON, tapes.asked(tape["seed"], n, tape["poison"][n - 1]["kind"]))
        while not self._program.ended.wait(LOOK_EVERY_S):
            n = tape["done"][POISON] + 1
            if n <= self._durable:
                self._begun[POISON] = n
                self._carry_out(wire, POISON, tapes.asked(tape["seed"], n, tape["poison"][n - 1]["kind"]))

    def _unended(self, tenant: str) -> Iterator[int]:
        """What was published before this program started, and had not ended by then."""
        done = self._kept.tape["done"][tenant]
        for n in range(self._ended.get(tenant, done) + 1, done + 1):
            if not self._program.ended.is_set():
                yield n

    def _joined(self, tenant: str) -> Wire:
        wire = self._connected()
        self._program.trouble[tenant] = "not connected yet"
        wire.connect(self._program.ended)
        self._program.trouble.pop(tenant, None)
        return wire

    def _due(self, tenant: str, due_s: float) -> float:
        """Wait until the next request is due. Return when the one after it is due."""
        now_s = time.monotonic()
        if due_s < now_s - LATE_MAX_S:
            due_s = now_s
        while not self._program.ended.is_set():
            now_s = time.monotonic()
            wait_s = due_s - now_s
            if self._hold_until_s > now_s:
                due_s = now_s
            elif self._unpaced[tenant]:
                self._unpaced[tenant] -= 1
                return due_s
            elif wait_s <= 0:
                break
            self._program.ended.wait(min(max(wait_s, 0.001), LOOK_EVERY_S))
        return due_s + 1 / self._rate

    def _carry_out(self, wire: Wire, tenant: str, request: tapes.Request) -> None:
        """Publish until the broker has it."""
        id_, wait_s = request["id"], BACKOFF_S[0]
        while True:
            outcome = "done"
            try:
                wire.publish(REQUESTS.requests, id_, tapes.message({**request, "id": id_}))
            except Unpublished as e:
                outcome = "refused" if e.definite else "unknown"
                self._program.trouble[tenant] = f"request {request['n']} is not published: {e}"
                log.warning("not_published", tenant=tenant, n=request["n"], outcome=outcome, why=str(e))
            with self._writing:
                self._kept.tape["outcomes"][outcome] += 1
                if outcome == "done":
                    self._kept.tape["done"][tenant] = max(self._kept.tape["done"][tenant], request["n"])
                    self._program.trouble.pop(tenant, None)
            if outcome == "done" or self._program.ended.wait(wait_s):
                return
            wait_s = min(2 * wait_s, BACKOFF_S[1])
            if self._defect == "new_id":
                id_ = str(uuid4())

    def _save(self) -> None:
        """Save what is done."""
        while True:
            over = self._program.ended.wait(SAVE_EVERY_S)
            try:
                self._kept.save()
                self._program.trouble.pop("tape", None)
            except OSError as e:
                self._program.trouble["tape"] = f"it can't be made durable: {e}"
            if over:
                return

    # ---- being asked ---------------------------------------------------------------------------------------

    def _poison(self, given: dict[str, Any]) -> dict[str, Any]:
        kind, count, tape = asked.kind(given, KINDS), int(asked.number(given, "count", 1, POISON_MAX)), self._kept.tape
        with self._asking:
            key, known = ({"key": str(given["key"])} if "key" in given else {}), len(tape["poison"])
            if not key or (found := self._last(key["key"])) is None:
                more = {"kind": kind, "at_us": time.time_ns() // 1000, **key}
                with self._writing:
                    tape["poison"] += [{"n": n, **more} for n in range(known + 1, known + count + 1)]
                found = tape["poison"][-1]
                try:
                    self._kept.save()
                except OSError:
                    with self._writing:
                        del tape["poison"][known:]
                    raise
                self._durable = len(tape["poison"])
        return self._whole(found)

    def _last(self, key: str) -> dict[str, Any] | None:
        """Return the last request that was asked for under this key."""
        return next((one for one in reversed(self._kept.tape["poison"]) if one.get("key") == key), None)

    def _burst(self, given: dict[str, Any]) -> dict[str, Any]:
        requests = int(asked.number(given, "requests", 1, BURST_MAX))
        with self._writing:
            self._unpaced = dict.fromkeys(TENANTS, requests)
        return {"requests": requests}

    def _hold(self, given: dict[str, Any]) -> dict[str, Any]:
        seconds = asked.number(given, "s", 0, HOLD_MAX_S)
        self._hold_until_s = time.monotonic() + seconds
        return {"held_s": seconds}

    def _whole(self, one: dict[str, Any]) -> dict[str, Any]:
        """Return an extra request with its id, and whether it is published."""
        made = tapes.asked(self._kept.tape["seed"], one["n"], one["kind"])
        return {**one, "id": made["id"], "done": self._kept.tape["done"][POISON] >= one["n"]}

    async def _asked(self, request: web.Request) -> web.Response:
        found = self._last(request.match_info["key"])
        if found is None:
            return web.json_response({"error": "nothing was asked for under this key"}, status=404)
        return web.json_response(self._whole(found))

    async def _tape_json(self, _: web.Request) -> web.Response:
        """Return the tape; heads: tenant -> the request that is being published, or was last."""
        with self._writing:
            tape = self._kept.tape
            body = {
                **tape,
                "heads": {tenant: self._begun[tenant] for tenant in TENANTS},
                "poison": [self._whole(one) for one in tape["poison"]],
            }
            told = orjson.dumps(body)
        return web.Response(body=told, content_type="application/json")


def _in_thread(add: Callable[[dict[str, Any]], dict[str, Any]]) -> asked.Add:
    async def added(given: dict[str, Any]) -> dict[str, Any]:
        return await asyncio.to_thread(add, given)

    return added


def _ended(store: str) -> dict[str, int]:
    """Tenant -> its last request that has ended with all before it. Raises psycopg.Error."""
    with psycopg.connect(store, autocommit=True, connect_timeout=CONNECT_WITHIN_S) as connection:
        return dict(connection.execute("SELECT tenant, n FROM heads").fetchall())


def main() -> int:
    """Run until SIGTERM. Exit 1: the store does not answer; 2: the port or the state folder can't be used."""
    parser = common("Publishes requests, and knows what should exist.")
    parser.add_argument("--state", type=Path, required=True, help="folder that keeps the tape")
    parser.add_argument("--rate", type=float, default=25.0, help="requests a second of each tenant (default 25)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.rate <= 0:
        parser.error(f"--rate is {options.rate:g}, but must be above 0")
    planted, address = defect(parser), os.environ[ADDRESS]
    store = given(parser, STORE, DSN, EXAMPLE)
    log_json()
    try:
        kept = Kept(options.state, options.seed)
        ended = _ended(store)
    except (TapeError, psycopg.Error) as e:
        log.error("caller_cannot_start", error=str(e))
        return 2 if isinstance(e, TapeError) else 1
    program, metrics = Program(), Metrics(options.backend, planted)

    def connected() -> Wire:
        return Wire(backend(options.backend, address, REQUESTS, options.ack_wait), REQUESTS, metrics, planted)

    caller = Caller(kept, ended, connected, options.rate, program, planted)
    return run("caller", program, caller.work(), metrics.text, options.host, options.port, caller.routes())


if __name__ == "__main__":
    sys.exit(main())

"""The outside world of the CDC platform: python -m pipelines.cdc.workload --port P --state DIR [--rate 10] [--seed 1],
and the environment's SOURCE_URL.

It carries out the tape (tape.py) on the source: each shard's transactions one after the other, on a connection per
shard. A transaction is in the tape before it begins, and is tried until it is done, so it will exist. If its COMMIT got
no answer, the row that it wrote itself shows whether it is done; so it is never done twice.

GET /tape is all that a ledger needs. POST /burst {"shard", "rows", "age_s"}, /schema {"kind"}, /poison {"kind"} write a
segment of the tape and answer with it; with a "key" only once, and GET /asked/KEY says whether it is carried out.
POST /hold {"s"} begins no transaction for so long, at most HOLD_MAX_S.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any

import orjson
import psycopg
import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from psycopg import sql

import failpoints
from failpoints import point
from pipelines import asked
from pipelines.cdc import tape as tapes
from pipelines.cdc.kept import Kept
from pipelines.cdc.schema import EXAMPLE, SOURCE
from pipelines.cdc.tape import KINDS, POISON_SHARD, SCALE, SHAPES, SHARDS, Change, Row, ddl, poison, transaction
from pipelines.kept import TapeError
from pipelines.trades.addresses import DSN, given
from pipelines.trades.lines import log_json

__all__ = ["Workload", "main"]

POISON = str(POISON_SHARD)
"""The shard whose transactions are the poison rows."""

LATE_MAX_S = 1.0
"""When a shard is later than this, its time goes on from now: what could not be written meanwhile never existed."""

SEGMENTS_MAX = 1_000
"""How many segments of a shard are kept. Each has at least one transaction, so they cover HORIZON."""

SAVE_EVERY_S = 1.0
LOOK_EVERY_S = 0.02
BACKOFF_S = (0.05, 1.0)
"""The first and the longest wait when the source doesn't answer."""

CONNECT_WITHIN_S = 3
CARRY_OUT_WITHIN_S = 20.0
ROWS_A_SECOND = 500
"""The slowest rate of a burst, on a busy machine."""

BURST_ROWS_MAX = 50_000
HOLD_MAX_S = 60.0

SKIP = point(
    "workload::change",
    "a change of the tape is about to be written; return: it is left out, and the table lacks its number",
    returns=str,
)
BEFORE_COMMIT = point("workload::before_commit", "a transaction is written and not committed: none of it may be seen")
AFTER_COMMIT = point(
    "workload::after_commit",
    "the source has committed, and the workload doesn't know it yet; raise(OSError): the answer is lost on its way",
)

log = structlog.get_logger()


class LostTransactionsError(Exception):
    """The source has less than it had committed, or transactions that this tape never had."""


class Workload:
    """Carries out the tape, as an aiohttp application."""

    def __init__(self, kept: Kept, dsn: str, rate: float) -> None:
        self._kept, self._dsn, self._rate = kept, dsn, rate
        self._writing = asyncio.Lock()  # held to add to the tape, or to begin what is in it
        self._trouble: dict[str, str] = {}
        self._known: set[str] = set()
        self._hold_until_s = 0.0
        self._existing: tuple[tuple[int, ...], dict[str, Any]] = ((), {})
        self._registry = CollectorRegistry(auto_describe=False)
        self._done = Counter("workload_transactions", "Committed on the source.", ["shard"], registry=self._registry)
        self._unknown = Counter(
            "workload_unknown", "Transactions that were looked up.", ["shard"], registry=self._registry
        )
        self._last = Gauge("workload_done", "The last transaction.", ["shard"], registry=self._registry)
        self._at = Gauge("workload_done_seconds", "When that was.", ["shard"], registry=self._registry)

    def app(self) -> web.Application:
        """Routes, and the loops that live as long as the application."""
        app = web.Application()
        app.add_routes([web.get("/healthz", self._healthz), web.get("/tape", self._tape_json)])
        app.add_routes([web.get("/metrics", self._metrics), web.post("/hold", asked.handler(self._hold))])
        for path, add in (("/burst", self._burst), ("/schema", self._schema), ("/poison", self._poison)):
            app.add_routes([web.post(path, asked.handler(self._once(add)))])
        app.add_routes([web.get("/asked/{key}", self._asked)])
        app.cleanup_ctx.append(self._loops)
        return app

    @property
    def _tape(self) -> dict[str, Any]:
        return self._kept.tape

    async def _loops(self, _: web.Application) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self._shard(shard)) for shard in (*SHARDS, POISON)]
        tasks.append(asyncio.create_task(self._save()))
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(OSError):
            self._kept.save()
        self._kept.close()

    # ---- carrying out --------------------------------------------------------------------------------------

    async def _shard(self, shard: str) -> None:
        """Carry out a shard's transactions, as long as the source has what was done."""
        wait_s = BACKOFF_S[0]
        while True:
            try:
                async with self._connected() as connection:
                    await self._found(connection, shard)
                    wait_s = BACKOFF_S[0]
                    while True:
                        await self._next(connection, shard)
            except LostTransactionsError as e:
                self._told_trouble(shard, str(e))
                log.error("source_lost_transactions", shard=shard, error=str(e))
                return
            except (psycopg.Error, OSError, TimeoutError) as e:
                self._told_trouble(shard, f"{type(e).__name__}: {e}".strip())
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, BACKOFF_S[1])

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        connection = await psycopg.AsyncConnection.connect(
            self._dsn,
            connect_timeout=CONNECT_WITHIN_S,
            prepare_threshold=None,  # a change of shape would make a prepared statement's plan an error
            tcp_user_timeout=int(CARRY_OUT_WITHIN_S * 1000),
            application_name="workload",
        )
        try:
            yield connection
        finally:
            await connection.close()

    async def _found(self, connection: psycopg.AsyncConnection[Any], shard: str) -> None:
        """Look up the shard's last transaction: the one that is known as done, or the next, whose answer did not
        come."""
        await connection.execute("INSERT INTO workload VALUES (%s, 0) ON CONFLICT DO NOTHING", [shard])
        await connection.commit()
        row = await (await connection.execute("SELECT j FROM workload WHERE shard = %s", [shard])).fetchone()
        await connection.rollback()
        last, done, begun = (row or (0,))[0], self._tape["done"][shard], self._begun(shard)
        if shard not in self._known:  # the file may be some transactions behind
            if last < done or (last and not self._had(shard)):
                raise LostTransactionsError(
                    f"the source has shard {shard} up to transaction {last}, the tape says {done} were committed. "
                    "Remedy: an empty source for an empty --state folder, or the source that this tape belongs to"
                )
            self._known.add(shard)
            if shard in SHARDS:
                self._tape["shards"][shard]["begun"] = max(last, begun)
        elif last not in (done, begun):
            raise LostTransactionsError(
                f"the source has shard {shard} up to transaction {last}, and had committed {done}. Remedy: none; the "
                "source has lost what it had"
            )
        elif begun > done:
            self._unknown.labels(shard).inc()
            log.info("looked_up", shard=shard, transaction=begun, committed=last == begun)
        if last > self._tape["done"][shard]:
            self._is_done(shard, last)
        self._trouble.pop(shard, None)

    def _had(self, shard: str) -> bool:
        """Whether the tape has any transaction of this shard."""
        return bool(self._tape["poison"] if shard == POISON else self._tape["shards"][shard]["segments"])

    def _begun(self, shard: str) -> int:
        """Return the transaction that is carried out, or was last."""
        of = self._tape["shards"].get(shard)
        return int(of["begun"]) if of else min(len(self._tape["poison"]), self._tape["done"][shard] + 1)

    def _is_done(self, shard: str, j: int) -> None:
        self._tape["done"][shard] = j
        self._done.labels(shard).inc()
        self._last.labels(shard).set(j)
        self._at.labels(shard).set_to_current_time()

    async def _next(self, connection: psycopg.AsyncConnection[Any], shard: str) -> None:
        """Carry out the transaction that has begun and is not done, or the next one when it is due."""
        done = self._tape["done"][shard]
        if shard == POISON:
            while len(self._tape["poison"]) <= done:
                await asyncio.sleep(LOOK_EVERY_S)
            rows = [Change("orders", done + 1, "c", poison(self._tape, done))]
            await self._carry_out(connection, shard, done + 1, rows)
            return
        if self._begun(shard) == done:
            await self._due(shard, done + 1)
        j = self._begun(shard)
        await self._carry_out(connection, shard, j, transaction(self._tape, shard, j))

    async def _due(self, shard: str, j: int) -> None:
        """Wait for a transaction's time, and for the other shard at a change of shape; then note it as begun."""
        of = self._tape["shards"][shard]
        if not of["segments"] or tapes.due_us(self._tape, shard, j) < _now_us() - LATE_MAX_S * 1e6:
            await self._new_segment(shard, j)
        while True:
            wait_s = tapes.due_us(self._tape, shard, j) / 1e6 - time.time()
            held_s = self._hold_until_s - time.monotonic()
            if wait_s > 0 and held_s <= 0:
                await asyncio.sleep(min(wait_s, SAVE_EVERY_S))
            elif held_s > 0 or not self._turn(shard, j):
                await asyncio.sleep(LOOK_EVERY_S)
            else:
                async with self._writing:  # additions to the tape come after what has begun
                    if self._turn(shard, j):
                        of["begun"] = j
                        return

    def _turn(self, shard: str, j: int) -> bool:
        """Whether the other shard is where it must be. The first shard changes the shape when the other has done all of
        the old shape; the other waits for that."""
        other = SHARDS[1 - SHARDS.index(shard)]
        done = self._tape["done"][other]
        return all(
            done >= one["j"][other] - (shard == SHARDS[0]) for one in self._tape["versions"] if one["j"][shard] == j
        )

    async def _new_segment(self, shard: str, j: int) -> None:
        """Let transaction j, which has not begun, happen now; times never go back."""
        async with self._writing:
            of = self._tape["shards"][shard]
            last_us = tapes.due_us(self._tape, shard, j - 1) if of["segments"] and j > 1 else 0
            segment = [j, max(_now_us(), last_us + 1), int(1e6 / self._rate)]
            kept = [one for one in of["segments"] if one[0] < j][1 - SEGMENTS_MAX :]
            of["segments"] = [*kept, segment]
            await asyncio.to_thread(self._kept.save)

    async def _carry_out(
        self, connection: psycopg.AsyncConnection[Any], shard: str, j: int, made: list[Change]
    ) -> None:
        """Carry out one transaction. It writes its own number first: a second attempt waits for the first one's end."""
        async with asyncio.timeout(CARRY_OUT_WITHIN_S + len(made) / ROWS_A_SECOND), connection.cursor() as cursor:
            await cursor.execute("UPDATE workload SET j = %s WHERE shard = %s AND j = %s", [j, shard, j - 1])
            if cursor.rowcount != 1:
                raise psycopg.OperationalError(f"transaction {j} of shard {shard} is not the next one")
            before, behind = (None, None) if shard == POISON else ddl(self._tape, shard, j)
            if before:
                await cursor.execute(before.encode())
            first = next((place for place, change in enumerate(made) if change.table == "orders"), 0) + 1
            await _write(cursor, made[:first] if behind else made)
            if behind:
                await cursor.execute(behind.encode())
                await _write(cursor, made[first:])
            if BEFORE_COMMIT.on is not None:
                await BEFORE_COMMIT.hit_async()
            await connection.commit()
            if AFTER_COMMIT.on is not None:
                await AFTER_COMMIT.hit_async()
        self._is_done(shard, j)

    async def _save(self) -> None:
        """Save what is done, so that a source that has less is found."""
        while True:
            await asyncio.sleep(SAVE_EVERY_S)
            async with self._writing:
                try:
                    await asyncio.to_thread(self._kept.save)
                    self._trouble.pop("tape", None)
                except OSError as e:
                    self._told_trouble("tape", f"the tape can't be made durable: {e}")

    def _told_trouble(self, what: str, why: str) -> None:
        if self._trouble.get(what) != why:
            log.warning("trouble", of=what, why=why)
        self._trouble[what] = why

    # ---- adding to the tape --------------------------------------------------------------------------------

    async def _hold(self, given: dict[str, Any]) -> dict[str, Any]:
        seconds = asked.number(given, "s", 0, HOLD_MAX_S)
        self._hold_until_s = time.monotonic() + seconds
        return {"held_s": seconds}

    def _once(self, add: asked.Add) -> asked.Add:
        """Wrap `add`, so that a key adds only once."""

        async def answer(given: dict[str, Any]) -> dict[str, Any]:
            key = given.get("key")
            return (None if key is None else self._under(key)[0]) or await add(given)

        return answer

    def _under(self, key: str) -> tuple[dict[str, Any] | None, bool]:
        """Return the segment that was asked for under this key, and whether it is carried out."""
        done = self._tape["done"]
        for place, one in enumerate(self._tape["poison"], 1):
            if one.get("key") == key:
                return one, done[POISON] >= place
        for one in self._tape["bursts"]:
            if one.get("key") == key:
                return one, done[one["shard"]] >= one["j"]
        for one in self._tape["versions"]:
            if one.get("key") == key:
                return one, all(done[shard] >= j for shard, j in one["j"].items())
        return None, False

    async def _asked(self, request: web.Request) -> web.Response:
        segment, done = self._under(request.match_info["key"])
        if segment is None:
            return web.json_response({"error": "nothing was asked for under this key"}, status=404)
        return web.json_response({**segment, "done": done})

    async def _burst(self, given: dict[str, Any]) -> dict[str, Any]:
        shard, rows = str(given.get("shard", SHARDS[0])), int(asked.number(given, "rows", 1, BURST_ROWS_MAX))
        if shard not in SHARDS:
            raise ValueError(f"shard is {shard!r}. Remedy: one of {', '.join(SHARDS)}")
        age_us = int(asked.number(given, "age_s", 0, 10 * 365 * 86_400) * 1e6)
        return await self._add(
            *("bursts", given),
            lambda: {"shard": shard, "j": self._begun(shard) + 1, "rows": rows, "age_us": age_us},
        )

    async def _schema(self, given: dict[str, Any]) -> dict[str, Any]:
        kind, versions = asked.kind(given, SHAPES), self._tape["versions"]
        now = SHAPES[versions[-1]["kind"]][0] if versions else None
        needs = {"rename": ("tier",), "drop": ("tier", "grade")}.get(kind, (None,))
        if now not in needs:
            raise ValueError(
                f"kind is {kind!r}, but orders have {f'a column {now}' if now else 'no column besides'}. Remedy: "
                f"{'drop first' if now else 'add first'}"
            )
        return await self._add(
            *("versions", given),
            lambda: {"kind": kind, "j": {shard: self._begun(shard) + 1 for shard in SHARDS}},
        )

    async def _poison(self, given: dict[str, Any]) -> dict[str, Any]:
        kind = asked.kind(given, KINDS)
        added = await self._add("poison", given, lambda: {"kind": kind, "at_us": _now_us()})
        return {**added, "id": tapes.POISON_ID + self._tape["poison"].index(added)}

    async def _add(self, name: str, given: dict[str, Any], made: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Add a segment. It is on the disk before anything of it begins."""
        async with self._writing:
            known = self._tape[name]
            segment = made() | ({"key": str(given["key"])} if "key" in given else {})
            self._tape[name] = [*known, segment]
            try:
                await asyncio.to_thread(self._kept.save)
            except OSError:
                self._tape[name] = known
                raise
        return segment

    # ---- answers -------------------------------------------------------------------------------------------

    async def _healthz(self, _: web.Request) -> web.Response:
        trouble = "; ".join(f"{what}: {why}" for what, why in self._trouble.items())
        body = {"ok": not trouble, "done": self._tape["done"], "held_s": self._held_s(), "error": trouble}
        return web.json_response(body, status=503 if trouble else 200)

    def _held_s(self) -> float:
        return max(0.0, self._hold_until_s - time.monotonic())

    async def _tape_json(self, _: web.Request) -> web.Response:
        """Return the tape; heads: table -> shard -> its newest change; rows: the newest that leaves a row; outcomes:
        the newest of all that must have an outcome in the target, with poison. 503 until the source has said how far it
        is.
        """
        if not set(SHARDS) <= self._known:
            return web.json_response({"error": f"the source has not answered yet: {self._trouble}"}, status=503)
        place = tuple(of["begun"] for of in self._tape["shards"].values())
        if self._existing[0] != place:
            self._existing = (place, tapes.existing(self._tape))
        told = {"heads": tapes.heads(self._tape), "rows": self._existing[1], "outcomes": tapes.outcomes(self._tape)}
        body = {**self._tape, **told}
        return web.Response(body=orjson.dumps(body), content_type="application/json")

    async def _metrics(self, _: web.Request) -> web.Response:
        text = generate_latest(self._registry) + "".join(f"{line}\n" for line in failpoints.metrics()).encode()
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})


async def _write(cursor: psycopg.AsyncCursor[Any], made: list[Change]) -> None:
    """Write changes in their order, neighbours of one kind at once, without waiting for answers between them: the end
    of a burst is an UPDATE and a DELETE of each of its rows."""
    if SKIP.on is not None:
        made = [change for change in made if SKIP() is None]
    async with cursor.connection.pipeline():
        for (table, op, names), same in groupby(made, key=lambda c: (c.table, c.op, tuple(c.row))):
            await cursor.executemany(_statement(table, op, names), [_written(change.row) for change in same])


@lru_cache(maxsize=64)
def _statement(table: str, op: str, names: tuple[str, ...]) -> bytes:
    """Return the statement that writes a change of these columns."""
    if op == "c":
        columns = [*names, "note_md5"]
        listed = sql.SQL(", ").join(map(sql.Identifier, columns))
        marks = sql.SQL(", ").join(map(sql.Placeholder, columns))
        text = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(sql.Identifier(table), listed, marks)
    elif op == "u":  # a note stays as it is, so it is not written again
        columns = [name for name in names if name not in ("id", "shard", "note")]
        pairs = [sql.SQL("{} = {}").format(sql.Identifier(c), sql.Placeholder(c)) for c in columns]
        text = sql.SQL("UPDATE {} SET {} WHERE id = {}").format(
            sql.Identifier(table), sql.SQL(", ").join(pairs), sql.Placeholder("id")
        )
    else:
        text = sql.SQL("DELETE FROM {} WHERE id = {}").format(sql.Identifier(table), sql.Placeholder("id"))
    return text.as_bytes(None)


def _written(row: Row) -> dict[str, Any]:
    """Return the values as the driver takes them."""
    made = dict(row)
    if "at" in row:
        made["amount"] = None if row["amount"] is None else Decimal(row["amount"]) / SCALE
        made["at"] = tapes.moment(row["at"])
        made["facts"] = tapes.text(row["facts"])
        made["note_md5"] = tapes.md5(row["note"])
    return made


def _now_us() -> int:
    return time.time_ns() // 1000


async def _serve(workload: Workload, host: str, port: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    runner = web.AppRunner(workload.app(), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        log.info("workload_up", port=port)
        await stop.wait()
    finally:
        await runner.cleanup()
    log.info("workload_down")


def main() -> int:
    """Run until SIGTERM. Exit 2: the port or the state folder can't be used."""
    parser = argparse.ArgumentParser(description="Writes transactions to the source, and knows what should exist.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--state", type=Path, required=True, help="folder that keeps the tape")
    parser.add_argument("--rate", type=float, default=10.0, help="transactions a second of each shard (default 10)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    log_json()
    if options.rate <= 0:
        parser.error(f"--rate is {options.rate:g}, but must be above 0")
    dsn = given(parser, SOURCE, DSN, EXAMPLE)
    failpoints.listen()
    try:
        asyncio.run(_serve(Workload(Kept(options.state, options.seed), dsn, options.rate), options.host, options.port))
    except TapeError as e:
        log.error("workload_cannot_start", error=str(e))
        return 2
    except OSError as e:
        log.error("workload_cannot_start", error=str(e), remedy=f"a free --port instead of {options.port}")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

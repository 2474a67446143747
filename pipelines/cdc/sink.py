"""The sink of the CDC platform: python -m pipelines.cdc.sink --brokers HOST:PORT --port P, and the environment's
TARGET_URL; SINK_DEFECT is one of defects.py, to show that it is found.

It reads Debezium's topics from the place in the target, and applies a batch in one transaction: rows, history, dead
letters, heads, and last the place itself, only if no other sink has moved it. So each change is applied once, wherever
the sink dies. It retries after a temporary error; after a commit without an answer it looks at the place first. A row
that is refused for good becomes a dead letter, which GET /dead-letters shows. All else stops the sink: another error, a
place that another sink has moved, a log that was cut. Then /healthz says why (503), until POST /restart ends the
process.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
import structlog
from aiohttp import web
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

import failpoints
from failpoints import point
from pipelines.cdc.applying import REPEATING, Applied, Applier, Group, Head, permanent
from pipelines.cdc.defects import DEFECTS
from pipelines.cdc.messages import Event, decode, scanned, unread
from pipelines.cdc.schema import EXAMPLE, TARGET
from pipelines.cdc.tape import TABLES
from pipelines.trades.addresses import DSN, given
from pipelines.trades.lines import log_json

__all__ = ["Sink", "main"]

BATCH_MAX = 500
BATCH_WAIT_S = 0.1
BACKOFF_S = (0.05, 5.0)
"""The first and the longest wait between two attempts at a batch."""

ANSWER_WITHIN_S = 15.0
"""For all questions of a batch to the target. A link that drops packets gives neither an answer nor an error."""

CONNECT_WITHIN_S = 3
TOPICS_EVERY_S = 1.0
HEARD_EVERY_S = 2.0
"""After so long without a message the broker is asked whether it is there."""

LETTERS_SHOWN = 100
ANSWERED_S = 0.1
"""How long a process that is told to restart waits before it ends, so that its answer is sent."""

PURGE_EVERY_S = 60.0
KEPT = "1 day"
"""How long the history keeps a change."""

PAUSED_S = 2.0
"""For a defect: so long without a look at the log counts as a pause; after it, nothing is applied for so long."""

RETRIED = ("08", "40001", "40P01", "53300", "55P03", "57014", "57P01", "57P02", "57P03")
"""SQLSTATEs, or classes, of temporary errors: connections, serialization, deadlocks, locks, a server that ends or
starts.
"""

BEFORE_APPLY = point("sink::before_apply", "a batch was read, and nothing of it is written")
BEFORE_POSITION = point("sink::before_position", "all rows of a batch are written, and its place in the log is not")
BEFORE_COMMIT = point("sink::before_commit", "rows and place are written, and not committed: none of it may be seen")
AFTER_COMMIT = point(
    "sink::after_commit", "the target has committed, and the sink doesn't know it; raise(OSError): the answer is lost"
)
TRANSFORM = point(
    "sink::transform", "a message is about to be read; raise: it can't be, and its neighbours are applied all the same"
)

log = structlog.get_logger()

Slot = tuple[str, int]


class Stop(Exception):
    """The sink must not go on; the message says why, and what to do."""


class Fenced(Stop):
    """Another sink has moved the place in the log."""


@dataclass(frozen=True)
class Batch:
    """Messages read together. ends: the place after them in each partition."""

    events: Sequence[Event]
    ends: Mapping[Slot, int]


class Sink:
    """Applies batches. `run` works until it is stopped, or must stop by itself."""

    def __init__(self, dsn: str, brokers: str, prefix: str, defect: str = "", group: str = "sink") -> None:
        self._dsn, self._defect = dsn, defect
        self._topics = [*(f"{prefix}.public.{table}" for table in TABLES), f"{prefix}-notes"]
        self._applier = Applier(TABLES, defect)
        self._places: dict[Slot, int] = {}
        self._heads: dict[Group, Head] = {}
        self._connection: psycopg.Connection[Any] | None = None
        self._ended = threading.Event()
        self._state, self._why = "starting", ""
        self._lsn_read = 0
        self._looked_s = self._purged_s = self._listed_s = 0.0
        self._paused_s = -PAUSED_S
        self._heard_s = time.monotonic()
        reset = {"reset_earliest": "earliest", "reset_latest": "latest"}.get(defect, "error")
        self._consumer = Consumer(
            {
                "bootstrap.servers": brokers,
                "group.id": group,
                "enable.auto.commit": False,
                "auto.offset.reset": reset,
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 50,
                "reconnect.backoff.ms": 20,
                "reconnect.backoff.max.ms": 500,
                "broker.address.family": "v4",
                "enable.sparse.connections": False,
                "log_level": 0,
            }
        )
        self.registry = CollectorRegistry(auto_describe=False)
        self._metrics(self.registry)

    def _metrics(self, registry: CollectorRegistry) -> None:
        self._events = Counter("sink_events", "Applied.", ["table", "op"], registry=registry)
        self._repeats = Counter("sink_repeats", "Changes that came again.", registry=registry)
        self._gaps = Counter("sink_gaps", "Changes before which numbers are missing.", registry=registry)
        self._retries = Counter("sink_retries", "Batches tried again.", ["sqlstate"], registry=registry)
        self._letters = Counter("sink_dead_letters", "Rows refused for good.", ["kind"], registry=registry)
        self._behind = Gauge("sink_behind_seconds", "Age of the newest change, 0 at the log's end.", registry=registry)
        self._running = Gauge("sink_running", "1, or 0 once it has stopped by itself.", ["why"], registry=registry)
        self._running.labels("").set(1)

    # ---- the loop ------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Work until `end`, or until it must stop."""
        try:
            self._again(self._look)
            while not self._ended.is_set():
                self._assign()
                batch = self._read()
                if batch is not None:
                    self._carry_out(batch)
        except Stop as e:
            self._state, self._why = ("fenced" if isinstance(e, Fenced) else "stopped"), str(e)
            self._running.labels("").set(0)
            self._running.labels(self._state).set(0)
            self._behind.set(float("nan"))
            log.error(self._state, why=self._why)
        finally:
            with contextlib.suppress(psycopg.Error, AttributeError):
                self._connection.close()  # type: ignore[union-attr]
            self._consumer.close()

    def end(self) -> None:
        """Stop at the next batch."""
        self._ended.set()

    def health(self) -> dict[str, Any]:
        """Return the health. state: starting, running, retrying, stopped or fenced."""
        places = {f"{topic}/{partition}": next_ for (topic, partition), next_ in self._places.items()}
        return {
            "ok": self._state in ("starting", "running"),
            "state": self._state,
            "why": self._why,
            "position": places,
            "defect": self._defect,
        }

    def letters(self) -> list[dict[str, Any]]:
        """Return the newest dead letters from the target. Raises psycopg.Error if it doesn't answer."""
        with psycopg.connect(
            self._dsn, connect_timeout=CONNECT_WITHIN_S, application_name="sink-letters"
        ) as connection:
            sql = "SELECT to_jsonb(d) FROM dead_letters AS d ORDER BY at DESC LIMIT %s"
            return [row for (row,) in connection.execute(sql, [LETTERS_SHOWN]).fetchall()]

    def _assign(self) -> None:
        """Read also topics that were made since the last look."""
        missing = [topic for topic in self._topics if (topic, 0) not in self._places]
        if not missing or time.monotonic() - self._listed_s < TOPICS_EVERY_S:
            return
        self._listed_s = time.monotonic()
        try:
            known = self._consumer.list_topics(timeout=CONNECT_WITHIN_S).topics
        except KafkaException as e:
            self._trouble(f"the broker does not answer: {e}")
            return
        new = [topic for topic in missing if topic in known]
        for topic in new:
            if len(known[topic].partitions) != 1:
                raise Stop(f"topic {topic} has {len(known[topic].partitions)} partitions. Remedy: one, for its order")
        if new:
            self._again(lambda connection: self._begin(connection, new))
            self._consumer.assign([TopicPartition(topic, p, at) for (topic, p), at in self._places.items()])

    def _begin(self, connection: psycopg.Connection[Any], topics: Sequence[str]) -> None:
        for topic in topics:
            connection.execute("INSERT INTO cdc_position VALUES (%s, 0, 0) ON CONFLICT DO NOTHING", [topic])
        connection.commit()
        self._look(connection)
        rows = connection.execute(
            "SELECT topic, partition, next FROM cdc_position WHERE topic = ANY (%s)", [list(topics)]
        ).fetchall()
        connection.rollback()
        self._places |= {(topic, partition): place for topic, partition, place in rows}

    def _look(self, connection: psycopg.Connection[Any]) -> None:
        """Read how far the target is."""
        heads = connection.execute("SELECT tbl, shard, change, left_row FROM heads").fetchall()
        connection.rollback()
        self._heads = {(table, shard): (change, left) for table, shard, change, left in heads}

    def _read(self) -> Batch | None:
        """Return the messages that came within BATCH_WAIT_S; None: there were none."""
        messages = self._consumer.consume(BATCH_MAX, BATCH_WAIT_S) if self._places else []
        now_s = time.monotonic()
        if self._looked_s and now_s - self._looked_s > PAUSED_S:
            self._paused_s = now_s
        self._looked_s = now_s
        if not self._places:
            self._ended.wait(BATCH_WAIT_S)
        events: list[Event] = []
        ends: dict[Slot, int] = {}
        for message in messages:
            topic, partition, offset = str(message.topic()), int(message.partition() or 0), int(message.offset() or 0)
            if (error := message.error()) is not None:
                if error.code() == KafkaError._PARTITION_EOF:
                    ends[topic, partition] = max(offset, ends.get((topic, partition), 0))
                elif error.code() == KafkaError._AUTO_OFFSET_RESET:
                    raise Stop(
                        f"the log was cut: {error.str()}, and the next message to apply is not there any more. Remedy: "
                        "take a new snapshot, then set cdc_position to the log's start (runbooks/cdc)"
                    )
                else:
                    self._trouble(f"the broker: {error.str()}")
                continue
            ends[topic, partition] = offset + 1
            self._decoded(message, (topic, partition, offset), events)
        if self._defect == "drop_after_pause" and now_s - self._paused_s < PAUSED_S:
            events.clear()
        self._is_behind(len(messages), bool(ends), max((event.at_ms for event in events), default=0))
        moved = {slot: end for slot, end in ends.items() if end > self._places.get(slot, 0)}
        return Batch(events, moved) if moved else None

    def _is_behind(self, messages: int, heard: bool, at_ms: int) -> None:
        """Set how old the newest change is: 0 if the log's end was reached, and the broker still answers so."""
        if not heard and time.monotonic() - self._heard_s > HEARD_EVERY_S and self._places:
            try:
                self._consumer.get_watermark_offsets(TopicPartition(*next(iter(self._places))), CONNECT_WITHIN_S)
                heard = True
            except KafkaException as e:
                self._trouble(f"the broker does not answer: {e}")
        if heard:
            self._heard_s = time.monotonic()
            self._behind.set(max(0.0, time.time() - at_ms / 1000) if messages == BATCH_MAX and at_ms else 0)
            self._state, self._why = "running", ""
        elif self._places:
            self._behind.set(time.monotonic() - self._heard_s)

    def _decoded(self, message: Message, place: tuple[str, int, int], events: list[Event]) -> None:
        topic = place[0]
        if topic == self._topics[-1]:
            table = scanned(message.value())
            if table in TABLES:
                events.append(Event(table, "s", *place, lsn=self._lsn_read, sweeps=True))
            return
        value, headers = message.value(), [str(name) for name, *_ in list(message.headers() or ())]
        event = decode(place, message.key(), value, headers)
        if TRANSFORM.on is not None and event is not None:
            try:
                TRANSFORM()
            except Exception as e:  # noqa: BLE001 - whatever the failpoint raises stands for a message that can't be read
                event = unread(event, value, f"failpoint: {e}")
        if event is not None:
            self._lsn_read = event.lsn if event.op == "r" else self._lsn_read
            events.append(event)

    # ---- a batch -------------------------------------------------------------------------------------------

    def _carry_out(self, batch: Batch) -> None:
        doubtful = False

        def attempt(connection: psycopg.Connection[Any]) -> None:
            nonlocal doubtful
            if doubtful and self._defect != "retry_blind":
                self._look(connection)
                if self._is_there(connection, batch):
                    self._places |= batch.ends
                    return
            doubtful = False
            if BEFORE_APPLY.on is not None:
                BEFORE_APPLY()
            if self._defect == "position_first":
                self._move(connection, batch)
                connection.commit()
            with connection.cursor() as cursor:
                done = self._applier.apply(cursor, batch.events, self._heads)
                if self._defect != "dead_letter_apart":
                    self._applier.letters(cursor, done)
                self._applier.heads(cursor, done, self._heads)
            if self._defect == "position_apart":
                connection.commit()
            if BEFORE_POSITION.on is not None:
                BEFORE_POSITION()
            if self._defect != "position_first":
                self._move(connection, batch)
            if BEFORE_COMMIT.on is not None:
                BEFORE_COMMIT()
            doubtful = True
            connection.commit()
            if AFTER_COMMIT.on is not None:
                AFTER_COMMIT()
            doubtful = False
            if self._defect == "dead_letter_apart":
                with connection.cursor() as cursor:
                    self._applier.letters(cursor, done)
                connection.commit()
            self._count(batch, done)

        self._again(attempt)
        self._purge()

    def _is_there(self, connection: psycopg.Connection[Any], batch: Batch) -> bool:
        """Whether a commit without an answer has happened: then its place is there. Between two attempts at the same
        batch only a second sink can have moved the place, which the next attempt finds."""
        rows = connection.execute("SELECT topic, partition, next FROM cdc_position").fetchall()
        connection.rollback()
        known = {(topic, partition): place for topic, partition, place in rows}
        return all(known.get(slot) == end for slot, end in batch.ends.items())

    def _move(self, connection: psycopg.Connection[Any], batch: Batch) -> None:
        """Move the place in the log by compare-and-set. Raises Fenced."""
        for (topic, partition), end in sorted(batch.ends.items()):
            where, known = "topic = %s AND partition = %s", [topic, partition]
            if self._defect not in ("no_fence", "retry_blind"):
                where, known = where + " AND next = %s", [*known, self._places[topic, partition]]
            done = connection.execute(f"UPDATE cdc_position SET next = %s WHERE {where}".encode(), [end, *known])
            if done.rowcount != 1:
                connection.rollback()
                raise Fenced(
                    f"somebody else has moved {topic}/{partition} from {self._places[topic, partition]}: another sink "
                    "runs on this target. Remedy: one of them; this one applies nothing any more"
                )

    def _count(self, batch: Batch, done: Applied) -> None:
        """What is committed."""
        self._places |= batch.ends
        self._heads = done.heads
        for (table, op), number in done.events.items():
            self._events.labels(table, op).inc(number)
        for kind, number in done.dead.items():
            self._letters.labels(kind).inc(number)
        self._repeats.inc(done.repeats)
        self._gaps.inc(done.gaps)
        with contextlib.suppress(KafkaException):  # for people who look at the group; nobody begins there
            self._consumer.commit(
                offsets=[TopicPartition(*slot, end) for slot, end in batch.ends.items()], asynchronous=True
            )

    def _purge(self) -> None:
        """Delete old changes from the history."""
        if time.monotonic() - self._purged_s < PURGE_EVERY_S:
            return
        self._purged_s = time.monotonic()

        def purge(connection: psycopg.Connection[Any]) -> None:
            connection.execute(f"DELETE FROM history WHERE applied_at < now() - interval '{KEPT}'".encode())
            connection.commit()

        self._again(purge)

    # ---- the target ----------------------------------------------------------------------------------------

    def _again(self, attempt: Any) -> None:
        """Repeat until it succeeds, and wait after temporary errors. Raises Stop if no retry can help."""
        wait_s = BACKOFF_S[0]
        while not self._ended.is_set():
            try:
                with self._bounded() as connection:
                    attempt(connection)
                return
            except (psycopg.Error, OSError, failpoints.Failure) as e:
                state = e.sqlstate if isinstance(e, psycopg.Error) else None
                if isinstance(e, psycopg.Error) and not _passes(e):
                    kind = "a row is refused outside of its own place" if permanent(e) else "it is no error that passes"
                    raise Stop(
                        f"the target: {e} (SQLSTATE {state}): {kind}. Remedy: mend it, and start the sink"
                    ) from e
                self._retries.labels(state or "").inc()
                self._trouble(f"{type(e).__name__}: {e}".strip())
                self._applier.forget()
                self._dropped()
            self._ended.wait(wait_s)
            wait_s = min(2 * wait_s, BACKOFF_S[1])

    @contextlib.contextmanager
    def _bounded(self) -> Iterator[psycopg.Connection[Any]]:
        """Yield a connection that is closed if the target gives no answer in time."""
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(self._dsn, connect_timeout=CONNECT_WITHIN_S, application_name="sink")
            if self._defect in REPEATING:
                self._connection.execute("ALTER TABLE history DROP CONSTRAINT IF EXISTS history_key")
                self._connection.commit()
        with socket.socket(fileno=os.dup(self._connection.fileno())) as wire:
            timer = threading.Timer(ANSWER_WITHIN_S, _shut, [wire])
            timer.daemon = True
            timer.start()
            try:
                yield self._connection
            finally:
                timer.cancel()

    def _dropped(self) -> None:
        """Begin a new session after an error: what the old one had begun is rolled back."""
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):
                self._connection.close()
        self._connection = None

    def _trouble(self, why: str) -> None:
        if why != self._why:
            log.warning("retrying", why=why)
        self._state, self._why = "retrying", why


def _passes(error: psycopg.Error) -> bool:
    state = error.sqlstate
    if state is None:
        return isinstance(error, psycopg.OperationalError)
    return state.startswith(RETRIED)


def _shut(wire: socket.socket) -> None:
    with contextlib.suppress(OSError):
        wire.shutdown(socket.SHUT_RDWR)


def _app(sink: Sink, restart: Callable[[], None]) -> web.Application:
    """Return the HTTP application. restart: ends the process, which its supervisor starts again."""

    async def healthz(_: web.Request) -> web.Response:
        told = sink.health()
        return web.json_response(told, status=200 if told["ok"] else 503)

    async def letters(_: web.Request) -> web.Response:
        try:
            return web.json_response(await asyncio.to_thread(sink.letters))
        except psycopg.Error as e:
            return web.json_response({"error": f"the target: {e}"}, status=503)

    async def metrics(_: web.Request) -> web.Response:
        text = generate_latest(sink.registry) + "".join(f"{line}\n" for line in failpoints.metrics()).encode()
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    app = web.Application()

    async def again(_: web.Request) -> web.Response:
        asyncio.get_running_loop().call_later(ANSWERED_S, restart)
        return web.json_response({"restarts": True})

    app.add_routes([web.get("/healthz", healthz), web.get("/metrics", metrics), web.get("/dead-letters", letters)])
    app.add_routes([web.post("/restart", again)])
    return app


async def _serve(sink: Sink, host: str, port: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    runner = web.AppRunner(_app(sink, stop.set), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        working = asyncio.create_task(asyncio.to_thread(sink.run))
        working.add_done_callback(lambda done: stop.set() if done.exception() else None)  # what nobody foresaw
        await stop.wait()
        sink.end()
        await working
    finally:
        await runner.cleanup()


def main() -> int:
    """Run until SIGTERM. Exit 2: the port can't be used."""
    parser = argparse.ArgumentParser(description="Applies Debezium's changes to the target, each once.")
    parser.add_argument("--brokers", required=True, help="HOST:PORT,...")
    parser.add_argument("--port", type=int, required=True, help="for /healthz and /metrics")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--prefix", default="cdc", help="the connector's topic.prefix (default cdc)")
    options = parser.parse_args()
    log_json()
    dsn, defect = given(parser, TARGET, DSN, EXAMPLE), os.environ.get("SINK_DEFECT", "")
    if defect and defect not in DEFECTS:
        parser.error(f"SINK_DEFECT is {defect!r}. Remedy: one of {', '.join(DEFECTS)}, or none")
    failpoints.listen()
    sink = Sink(dsn, options.brokers, options.prefix, defect)
    try:
        asyncio.run(_serve(sink, options.host, options.port))
    except OSError as e:
        log.error("sink_cannot_start", error=str(e), remedy=f"a free --port instead of {options.port}")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The pipeline on a real broker and a real ClickHouse: what each hop promises, and that it holds when processes are
killed.

The servers are compose/servers'; here they run bare, without links, and are killed by hand.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from compose.ports import free_ports
from compose.servers import clickhouse, kafka
from compose.service import Service, answers
from gameday.system.address import encoded
from gameday.system.polling import until
from pipelines.trades import consumer_watch, schema
from pipelines.trades.tape import SYMBOLS, trades
from tests.suites import only_in

ROOT = Path(__file__).resolve().parents[2]
VENUES = tuple(SYMBOLS)
TOPIC = "market.crypto.trades."
PASSWORD = "only here: p@ss'w/rd?#[%41]"
"""Whatever is special in an address is in it."""
RATE = 150.0
WAIT_S = 120.0
COLUMNS = ("id", "price", "quantity", "side", "time_us")
READ = f"SELECT sum(num_messages_read) {consumer_watch.CONSUMERS}"


@dataclass
class Rig:
    """Every process of the pipeline, to be started and killed one by one."""

    folder: Path
    ports: Mapping[str, int]
    specs: dict[str, Service] = field(default_factory=dict)
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def broker(self) -> str:
        return f"127.0.0.1:{self.ports['kafka']}"

    @property
    def url(self) -> str:
        return clickhouse.url(self.ports["clickhouse"], PASSWORD)

    def start(self, name: str) -> None:
        spec = self.specs[name]
        with spec.log.open("ab") as out:
            self.running[name] = subprocess.Popen(
                spec.argv, cwd=spec.cwd or spec.folder, env={**os.environ, **spec.env}, stdout=out, stderr=out
            )
        until(lambda: answers(spec.ready, 1.0), WAIT_S, what=f"{name} to answer (log: {spec.log})")

    def kill(self, name: str) -> None:
        self.running[name].kill()
        self.running.pop(name).wait()

    def sql(self, text: str) -> str:
        return schema.query(self.url, text)

    def rows(self, text: str) -> list[list[str]]:
        return [line.split("\t") for line in self.sql(text).splitlines()]

    def get(self, name: str, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[name]}{path}", timeout=5) as answer:
            return json.loads(answer.read())

    def tape(self) -> Any:
        return self.get("exchange", "/tape")

    def heads(self) -> dict[tuple[str, str], int]:
        """Silver's, from the small table."""
        found = self.rows("SELECT venue, symbol, max(trade_id) FROM trades.silver_heads GROUP BY venue, symbol")
        return {(venue, symbol): int(head) for venue, symbol, head in found}

    def settled(self) -> Any:
        """The tape as it is now, once silver holds all of it."""
        tape = self.tape()

        def passed() -> bool:
            heads = self.heads()
            return all(heads.get((v, s), 0) >= n for v in VENUES for s, n in tape["heads"][v].items())

        until(ignoring_outages(passed), WAIT_S, what="silver to pass the ledger's heads")
        return tape

    def log(self, topic: str) -> list[tuple[int, int, bytes]]:
        """All (partition, offset, value) of a topic."""
        consumer = Consumer({"bootstrap.servers": self.broker, "group.id": "reader", "enable.auto.commit": False})
        try:
            ends = until(lambda: watermarks(consumer, topic), WAIT_S, what=f"{topic} to say where it ends")
            consumer.assign([TopicPartition(topic, p, 0) for p in ends])
            found: list[tuple[int, int, bytes]] = []
            deadline = time.monotonic() + WAIT_S
            while len(found) < sum(ends.values()):
                assert time.monotonic() < deadline, f"{topic}: {len(found)} of {sum(ends.values())} read"
                for m in consumer.consume(5000, timeout=0.2):
                    partition, offset = m.partition(), m.offset()
                    assert m.error() is None
                    assert partition is not None
                    assert offset is not None
                    if offset < ends[partition]:
                        found.append((partition, offset, m.value() or b""))
            return found
        finally:
            consumer.close()

    def send(self, venue: str, *values: bytes) -> None:
        """Put records on a topic, in order, all on one partition."""
        problems: list[Any] = []
        producer = Producer({"bootstrap.servers": self.broker, "enable.sparse.connections": False})
        for value in values:
            producer.produce(
                TOPIC + venue, value, partition=0, on_delivery=lambda e, _: problems.extend([e] if e else [])
            )
        assert producer.flush(WAIT_S) == 0
        assert not problems


def watermarks(consumer: Consumer, topic: str) -> dict[int, int] | None:
    """Where each partition ends; None while a broker that has just come back doesn't know its partitions."""
    with contextlib.suppress(KafkaException):
        return {p: consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=10)[1] for p in range(4)}
    return None


def ignoring_outages(condition: Callable[[], bool]) -> Callable[[], bool]:
    """The condition, not yet true while a server is away."""

    def ask() -> bool:
        with contextlib.suppress(schema.SchemaError, OSError, urllib.error.URLError):
            return condition()
        return False

    return ask


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A broker, a ClickHouse with the schema, the exchange and three handlers."""
    folder = tmp_path_factory.mktemp("pipeline")
    names = ("kafka", "controller", "clickhouse", "exchange", *VENUES)
    rig = Rig(folder, dict(zip(names, free_ports(len(names)), strict=True)))
    p = rig.ports
    kafka.get(lambda _: None)
    listener = kafka.Listener("DIRECT", p["kafka"], p["kafka"])
    rig.specs["kafka"] = kafka.process(folder / "kafka", (listener,), p["controller"], cluster=str(folder))
    rig.specs["clickhouse"] = clickhouse.process(folder / "clickhouse", p["clickhouse"], PASSWORD)
    exchange = f"127.0.0.1:{p['exchange']}"
    arguments: dict[str, tuple[str, ...]] = {
        "exchange": ("exchange", "--port", str(p["exchange"]), "--state", str(folder), "--rate", str(RATE))
    }
    for v in VENUES:
        urls = ("--ws", f"ws://{exchange}/{v}", "--rest", f"http://{exchange}/{v}")
        arguments[v] = ("handler", "--venue", v, *urls, "--brokers", rig.broker, "--port", str(p[v]))
    for name, (module, *rest) in arguments.items():
        argv = (sys.executable, "-m", f"pipelines.trades.{module}", *rest)
        ready = f"http://127.0.0.1:{p[name]}/healthz"
        env = {"PYTHONPATH": str(ROOT)}
        rig.specs[name] = Service(name, argv, str(folder), ready=ready, env=env, cwd=str(ROOT))
    try:
        rig.start("kafka")
        kafka.create_topics(rig.broker, {TOPIC + v: 4 for v in VENUES})
        rig.start("clickhouse")
        assert schema.apply(rig.url, rig.broker) is True
        for name in ("exchange", *VENUES):
            rig.start(name)
        yield rig
    finally:
        for process in rig.running.values():
            process.kill()
        for process in rig.running.values():
            process.wait()


def differing(rig: Rig, tape: Any) -> list[tuple[str, str]]:
    """The groups in which silver is not, row by row, the ledger."""
    found = []
    for venue in VENUES:
        for symbol, hi in tape["heads"][venue].items():
            ledger = trades(tape, venue, symbol, 0, hi)
            rows = rig.rows(
                "SELECT trade_id, toInt64(price * 100000000), toInt64(quantity * 100000000), side, exchange_us "
                f"FROM trades.silver WHERE venue = '{venue}' AND symbol = '{symbol}' AND trade_id <= {hi} "
                "ORDER BY trade_id"
            )
            wanted = np.stack([ledger[c] for c in COLUMNS], axis=1).tolist()
            if [[int(cell) for cell in row] for row in rows] != wanted:
                found.append((venue, symbol))
    return found


def out_of_order(rig: Rig, venue: str) -> dict[str, list[int]]:
    """Symbols whose first occurrences in the log are not 1, 2, 3, …"""
    seen: dict[str, list[int]] = {}
    for _, _, value in sorted(rig.log(TOPIC + venue)):
        with contextlib.suppress(ValueError, KeyError, TypeError):
            trade = json.loads(value)
            ids = seen.setdefault(trade["symbol"], [])
            if trade["symbol"] in SYMBOLS[venue] and trade["trade_id"] > (ids[-1] if ids else 0):
                ids.append(trade["trade_id"])
    return {s: ids for s, ids in seen.items() if ids != list(range(1, len(ids) + 1))}


def intact(rig: Rig) -> None:
    """Every hop's promise, now: nothing lost, doubled, changed or out of order; bronze has the log's offsets."""
    tape = rig.settled()
    assert differing(rig, tape) == []
    doubled = "SELECT count() - uniqExact(venue, symbol, trade_id) FROM trades.silver"
    assert rig.sql(doubled) == "0"
    for venue in VENUES:
        assert out_of_order(rig, venue) == {}
        log = {(partition, offset) for partition, offset, _ in rig.log(TOPIC + venue)}
        offsets = f"SELECT DISTINCT partition, offset FROM trades.bronze WHERE topic = '{TOPIC}{venue}'"
        until(
            lambda log=log, offsets=offsets: log <= {(int(p), int(o)) for p, o in rig.rows(offsets)},  # type: ignore[misc]
            WAIT_S,
            what=f"bronze to hold the offsets of {venue}",
        )


def grows(rig: Rig, *venues: str) -> None:
    """Wait until silver has new trades of every symbol of these venues."""
    before = rig.heads()
    groups = [(venue, symbol) for venue in venues for symbol in SYMBOLS[venue]]
    until(
        ignoring_outages(lambda: all(rig.heads().get(g, 0) > before.get(g, 0) for g in groups)),
        WAIT_S,
        what=f"silver to grow for {venues}",
    )


def test_every_trade_reaches_silver_as_the_ledger_has_it(rig: Rig) -> None:
    """From the first id on, digit by digit, through WebSocket, REST, broker and SQL."""
    intact(rig)
    grows(rig, *VENUES)


@pytest.mark.parametrize("venue", [VENUES[0], *only_in("trades", *VENUES[1:])])
def test_a_killed_handler_leaves_no_gap(rig: Rig, venue: str) -> None:
    """It resumes from the log's tail; the other venues go on meanwhile."""
    rig.kill(venue)
    grows(rig, *(v for v in VENUES if v != venue))
    rig.start(venue)
    intact(rig)
    assert rig.get(venue, "/healthz")["connected"] is True


def test_a_stopped_handler_delivers_what_it_holds(rig: Rig) -> None:
    """SIGTERM ends it with exit code 0, and nothing is missing afterwards."""
    handler = rig.running.pop("kraken")
    handler.terminate()
    assert handler.wait(WAIT_S) == 0
    rig.start("kraken")
    intact(rig)


def test_a_killed_exchange_leaves_no_gap_and_changes_nothing(rig: Rig) -> None:
    """The tape goes on where it was promised; handlers come back by themselves and fill what was not sent live."""
    before = {v: rig.get(v, "/healthz")["connects"] for v in VENUES}
    old = rig.tape()
    rig.kill("exchange")
    rig.start("exchange")
    until(
        lambda: all(rig.get(v, "/healthz")["connects"] > before[v] for v in VENUES),
        WAIT_S,
        what="handlers to reconnect",
    )
    new = rig.settled()
    assert len(new["segments"]) == len(old["segments"]) + 1
    for venue in VENUES:
        for symbol, head in old["heads"][venue].items():
            was, now = (trades(tape, venue, symbol, 0, head) for tape in (old, new))
            assert all((was[c] == now[c]).all() for c in COLUMNS)
    intact(rig)


def test_a_killed_clickhouse_resumes_from_its_offsets(rig: Rig) -> None:
    """What the broker took meanwhile is there afterwards, each trade once."""
    rig.kill("clickhouse")
    held = rig.tape()
    rig.start("clickhouse")
    grows(rig, *VENUES)
    assert all(rig.heads()[v, s] >= n for v in VENUES for s, n in held["heads"][v].items())
    intact(rig)


def test_a_killed_broker_loses_nothing(rig: Rig) -> None:
    """Handlers hold on to what is not acknowledged and go on by themselves, in the same process."""
    rig.kill("kafka")
    rig.start("kafka")
    grows(rig, *VENUES)
    intact(rig)


def test_a_producer_that_fails_begins_again_without_loss(rig: Rig) -> None:
    """A refused delivery (here: messages too large for the topic) ends in a new producer and no gap."""
    admin = AdminClient({"bootstrap.servers": rig.broker})

    def limit(size: str) -> None:
        entry = ConfigEntry("max.message.bytes", size, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, TOPIC + "kraken", incremental_configs=[entry])
        for future in admin.incremental_alter_configs([resource]).values():
            future.result(WAIT_S)

    def restarts() -> int:
        with urllib.request.urlopen(f"http://127.0.0.1:{rig.ports['kraken']}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        return int(float(next(x for x in lines if x.startswith("feed_handler_restarts_total")).split()[-1]))

    before = restarts()
    limit("100")
    try:
        until(lambda: restarts() > before, WAIT_S, what="the handler to replace its producer")
    finally:
        limit("1048588")
    intact(rig)


GOOD = {
    "venue": "binance",
    "symbol": "TESTUSDT",
    "trade_id": 1,
    "side": "buy",
    "price": "1.5",
    "quantity": "2",
    "exchange_us": 1_790_000_000_000_000,
    "received_us": 1_790_000_000_000_000,
}


def message(**changes: object) -> bytes:
    """GOOD with some fields changed; ... leaves one out."""
    return json.dumps({k: v for k, v in {**GOOD, **changes}.items() if v is not ...}).encode()


MALFORMED: Mapping[str, tuple[bytes, str]] = {
    "text": (b"not json", "not JSON"),
    "truncated": (message()[:-5], "not JSON"),
    "trailing": (message() + b" x", "not JSON"),
    "two": (message() + message(), "not JSON"),
    "bytes": (b"\xff\xfe\x00", "not JSON"),
    "list": (b"[1, 2]", "not a JSON object"),
    "number": (b"7", "not a JSON object"),
    "empty object": (b"{}", "venue is missing or not a string"),
    "venue": (message(venue=3), "venue is missing or not a string"),
    "foreign venue": (message(venue="kraken"), "venue is not the topic's"),
    "symbol": (message(symbol=...), "symbol is missing or not a string"),
    "empty symbol": (message(symbol=""), "symbol is missing or not a string"),
    "id missing": (message(trade_id=...), "trade_id is missing or not an integer"),
    "id text": (message(trade_id="12"), "trade_id is missing or not an integer"),
    "id fraction": (message(trade_id=1.5), "trade_id is missing or not an integer"),
    "id null": (message(trade_id=None), "trade_id is missing or not an integer"),
    "id too large": (message(trade_id=10**25), "trade_id is missing or not an integer"),
    "id of 64 bits": (message(trade_id=2**63), "trade_id is too large"),
    "id negative": (message(trade_id=-1), "trade_id is not positive"),
    "id zero": (message(trade_id=0), "trade_id is not positive"),
    "side": (message(side="hold"), "side is neither buy nor sell"),
    "side number": (message(side=0), "side is missing or not a string"),
    "price number": (message(price=1.5), "price is missing or not a string"),
    "price word": (message(price="cheap"), "price is not a decimal of scale 8"),
    "price nine digits": (message(price="1.123456789"), "price is not a decimal of scale 8"),
    "price exponent": (message(price="1e2"), "price is not a decimal of scale 8"),
    "price negative": (message(price="-1.5"), "price is not a decimal of scale 8"),
    "price empty": (message(price=""), "price is not a decimal of scale 8"),
    "price point": (message(price="1."), "price is not a decimal of scale 8"),
    "price infinite": (message(price="inf"), "price is not a decimal of scale 8"),
    "price line end": (message(price="1.5\n"), "price is not a decimal of scale 8"),
    "price too large": (message(price="92233720368.54775808"), "price is too large"),
    "price far too large": (message(price="9" * 60), "price is too large"),
    "quantity nine digits": (message(quantity="0.000000001"), "quantity is not a decimal of scale 8"),
    "quantity missing": (message(quantity=...), "quantity is missing or not a string"),
    "time text": (message(exchange_us="now"), "exchange_us is missing or not an integer"),
    "time fraction": (message(exchange_us=1.5), "exchange_us is missing or not an integer"),
    "time negative": (message(exchange_us=-1), "exchange_us is not between 1970 and 2100"),
    "time in nanoseconds": (message(exchange_us=1_790_000_000_000_000_000), "exchange_us is not between 1970 and 2100"),
}


def test_malformed_messages_become_dead_letters_and_stop_nobody(rig: Rig) -> None:
    """Each with its reason and its bytes; the good one after them arrives, silver gets none of them."""
    before = {(int(p), int(o)) for p, o in rig.rows("SELECT partition, offset FROM trades.dead_letters")}
    rig.send("binance", *(raw for raw, _ in MALFORMED.values()), message(symbol="AFTERUSDT"))
    until(
        lambda: rig.sql("SELECT count() FROM trades.silver WHERE symbol = 'AFTERUSDT'") == "1",
        WAIT_S,
        what="the good message after the malformed ones",
    )
    found = rig.rows("SELECT partition, offset, hex(raw), reason FROM trades.dead_letters FINAL ORDER BY offset")
    new = [(bytes.fromhex(raw), reason) for p, o, raw, reason in found if (int(p), int(o)) not in before]
    assert [(raw, reason.replace("\\'", "'")) for raw, reason in new] == list(MALFORMED.values())
    assert rig.sql("SELECT count() FROM trades.silver WHERE symbol = 'TESTUSDT'") == "0"
    assert rig.sql("SELECT count() FROM trades.bronze WHERE reason != '' AND (symbol != '' OR trade_id != 0)") == "0"
    grows(rig, "binance")


def test_decimals_arrive_exactly(rig: Rig) -> None:
    """The smallest, the largest, and zeros beyond the eighth place, which mean nothing."""
    values = ("0.00000001", "92233720368.54775807", "1.12345678000", "40", "0")
    rig.send("binance", *(message(symbol="EXACTUSDT", trade_id=i + 1, price=v) for i, v in enumerate(values)))
    query = "SELECT toString(price) FROM trades.silver WHERE symbol = 'EXACTUSDT' ORDER BY trade_id"
    until(lambda: len(rig.rows(query)) == len(values), WAIT_S, what="five trades")
    assert rig.sql(query).split() == ["0.00000001", "92233720368.54775807", "1.12345678", "40", "0"]


def test_of_a_trade_that_was_sent_again_the_lowest_offset_is_kept(rig: Rig) -> None:
    """However often and in whatever parts it arrives, before and after merges."""
    for _ in range(3):
        rig.send("binance", *(message(symbol="TWICEUSDT", trade_id=i) for i in (1, 2, 3)))
    raw = "SELECT count() FROM trades.bronze WHERE symbol = 'TWICEUSDT'"
    until(lambda: int(rig.sql(raw)) >= 9, WAIT_S, what="nine records")
    lowest = "SELECT trade_id, min(offset) FROM trades.bronze WHERE symbol = 'TWICEUSDT' GROUP BY trade_id ORDER BY 1"
    kept = "SELECT trade_id, offset FROM trades.silver WHERE symbol = 'TWICEUSDT' ORDER BY trade_id"
    assert rig.rows(kept) == rig.rows(lowest)
    rig.sql("OPTIMIZE TABLE trades.silver_raw FINAL")
    assert rig.rows(kept) == rig.rows(lowest)


BARS = """
SELECT g.venue, g.symbol, g.interval, g.bucket FROM trades.gold AS g
INNER JOIN trades.silver AS s ON s.venue = g.venue AND s.symbol = g.symbol
WHERE s.trade_id BETWEEN g.first_id AND g.last_id
GROUP BY g.venue, g.symbol, g.interval, g.bucket, g.n, g.open, g.high, g.low, g.close, g.volume
HAVING g.n != count() OR g.open != argMin(s.price, s.trade_id) OR g.close != argMax(s.price, s.trade_id)
    OR g.high != max(s.price) OR g.low != min(s.price) OR g.volume != sum(s.quantity)
"""


def test_gold_is_silver_in_bars(rig: Rig) -> None:
    """Each bar once, and equal to the one computed from silver over exactly its ids, in all four intervals."""
    lo = rig.heads()
    reached = (
        "SELECT count() FROM (SELECT venue, symbol, interval, max(last_id) AS head FROM trades.gold "
        "GROUP BY venue, symbol, interval) WHERE (venue, symbol) IN ('binance', 'BTCUSDT') AND head >= "
    )
    until(lambda: rig.sql(f"{reached}{lo['binance', 'BTCUSDT']}") == "4", WAIT_S, what="gold to reach silver's head")
    assert rig.sql("SELECT count() - uniqExact(venue, symbol, interval, bucket) FROM trades.gold") == "0"
    assert rig.rows(BARS) == []
    whole = rig.rows("SELECT venue, symbol, sum(n), min(first_id) FROM trades.gold WHERE interval = '1d' GROUP BY 1, 2")
    assert all(int(n) >= lo[venue, symbol] and first == "1" for venue, symbol, n, first in whole if venue != "binance")


def test_a_refresh_that_was_missed_is_made_up(rig: Rig) -> None:
    """Bars of minutes that came and went while the refresh was stopped are there after the next one, late trades
    too.
    """
    minute = 60_000_000
    start = 1_600_000_000_000_000 // minute * minute
    bars = "SELECT bucket, n FROM trades.gold WHERE symbol = 'LATEUSDT' AND interval = '1m' ORDER BY bucket"
    rig.sql("SYSTEM STOP VIEW trades.silver_to_gold")
    try:
        batch = [message(symbol="LATEUSDT", trade_id=i + 1, exchange_us=start + i * minute // 2) for i in range(40)]
        rig.send("binance", *batch)
        until(lambda: rig.heads().get(("binance", "LATEUSDT")) == 40, WAIT_S, what="forty trades in silver")
        assert rig.rows(bars) == []
    finally:
        rig.sql("SYSTEM START VIEW trades.silver_to_gold")
    until(lambda: [n for _, n in rig.rows(bars)] == ["2"] * 20, WAIT_S, what="twenty bars of two trades")
    rig.send("binance", message(symbol="LATEUSDT", trade_id=41, exchange_us=start + 1, price="9"))
    until(lambda: rig.rows(bars)[0][1] == "3", WAIT_S, what="the first bar to take in a late trade")
    assert [n for _, n in rig.rows(bars)] == ["3"] + ["2"] * 19


def test_the_schema_can_be_applied_again_at_any_time(rig: Rig) -> None:
    """Unchanged it does nothing; with other brokers or SQL the readers are rebuilt, and no message is missed."""
    assert schema.apply(rig.url, rig.broker) is False
    try:
        assert schema.apply(rig.url, f"localhost:{rig.ports['kafka']}") is True
        grows(rig, *VENUES)
    finally:
        assert schema.apply(rig.url, rig.broker) is True
    intact(rig)


@pytest.mark.suite("trades")
def test_a_consumer_that_lost_its_broker_for_good_is_renewed(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """One without partitions is taken away and put back; a table that was left detached is put back; a well one is
    left alone.
    """
    watch = consumer_watch.Watch(rig.url, rig.broker)
    assigned = f"{consumer_watch.STATE.splitlines()[-1].strip()}"
    until(lambda: rig.sql(f"SELECT {assigned}") == "1", WAIT_S, what="the consumer to have partitions")
    monkeypatch.setattr(consumer_watch, "IDLE_MAX_S", 0.0)
    assert watch.look() is False
    rig.sql("DETACH TABLE trades.feed SYNC")
    assert watch.look() is True
    grows(rig, *VENUES)
    monkeypatch.setattr(consumer_watch, "STATE", "SELECT 1, 1, 0, 0")
    assert watch.look() is True
    grows(rig, *VENUES)
    intact(rig)


def test_a_consumer_whose_commit_never_returns_ends_its_server(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the broker is paused the consumer may wait for it; a broker that answers while the consumer stands still is
    a commit that never returns. The server, started again, goes on without a record lost or doubled.
    """
    watch = consumer_watch.Watch(rig.url, rig.broker)
    monkeypatch.setattr(consumer_watch, "STUCK_MAX_S", 2.5)
    monkeypatch.setattr(consumer_watch, "IDLE_MAX_S", WAIT_S)
    polled = consumer_watch.STATE.splitlines()[-2].strip().rstrip(",")
    broker = rig.running["kafka"]

    def caught() -> bool:
        """Paused while the consumer had read what it had not committed."""
        broker.send_signal(signal.SIGCONT)
        grows(rig, "binance")
        read = rig.sql(READ)
        until(lambda: rig.sql(READ) != read, WAIT_S, what="the consumer to read on")
        broker.send_signal(signal.SIGSTOP)
        return stands_still(rig, f"SELECT {polled}")

    try:
        until(caught, WAIT_S, what="the consumer to stand still")
        for _ in range(3):
            assert watch.look() is False, "a broker that doesn't answer was held against its consumer"
        monkeypatch.setattr(watch, "_broker_answers", lambda: True)
        until(watch.look, 10.0, what="the stuck consumer to be seen")
        assert rig.running["clickhouse"].wait(timeout=10) == 128 + signal.SIGKILL
    finally:
        broker.send_signal(signal.SIGCONT)
        rig.running["clickhouse"].kill()
        rig.running.pop("clickhouse").wait()
        rig.start("clickhouse")
    grows(rig, *VENUES)
    intact(rig)


def stands_still(rig: Rig, sql: str) -> bool:
    """Whether an answer is the same after the two seconds in which a time of whole seconds must change."""
    first, until_s = rig.sql(sql), time.monotonic() + 2.0
    while time.monotonic() < until_s:
        if rig.sql(sql) != first:
            return False
    return True


def test_the_schema_says_what_is_wrong(rig: Rig) -> None:
    """No server, a wrong password, nonsense for brokers: the thing and the remedy."""
    (nobody,) = free_ports(1)
    with pytest.raises(schema.SchemaError, match=rf"no ClickHouse at 127\.0\.0\.1:{nobody}.*Remedy"):
        schema.apply(f"http://127.0.0.1:{nobody}", rig.broker)
    with pytest.raises(schema.SchemaError, match=r"(?s)refused.*password"):
        schema.apply(rig.url.replace(encoded(PASSWORD), "wrong"), rig.broker)
    with pytest.raises(schema.SchemaError, match=r"--brokers is 'nonsense'"):
        schema.apply(rig.url, "nonsense")

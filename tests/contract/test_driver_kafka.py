"""The log as a hop, a group's place in it and its leaders, against a real broker."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from compose.ports import free_ports
from compose.servers import kafka as server
from gameday.drivers import _log, kafka
from gameday.drivers.kafka.wire import LATEST, Cluster, Slot
from gameday.errors import DriverError, GamedayError
from gameday.model import Group, Kept, Shards, Tally, Window
from gameday.records.heads import Places, totals
from gameday.records.types import parse
from gameday.system.polling import until
from tests.contract.conftest import serving
from tests.trades import FIELDS, TRADES

BTC: Group = ("binance", "BTCUSDT")
ETH: Group = ("binance", "ETHUSDT")
START_US = 1_795_000_000_000_000
SPACING_US = 50_000
BACK_WITHIN_S = 3.0
"""After the broker answers again; a client library with its own settings would need up to 12 s."""

Send = Callable[[Iterable[Mapping[str, Any]]], None]


def trade(key: int, group: Group = BTC, **changes: Any) -> dict[str, Any]:
    """Message number `key` of a group as a handler sends it; `changes` for what is wrong with it."""
    return {
        "venue": group[0],
        "symbol": group[1],
        "trade_id": key,
        "side": "sell" if key % 3 else "buy",
        "price": f"{60_000 + key}.25",
        "quantity": "0.00012345",
        "exchange_us": START_US + key * SPACING_US,
        "received_us": 0,
        **changes,
    }


def hashes(ids: Iterable[int]) -> int:
    """The sum of the row hashes of these trades, computed from the numbers themselves."""
    rows = [
        (i, (60_000 + i) * 10**8 + 25_000_000, 12_345, "sell" if i % 3 else "buy", START_US + i * SPACING_US)
        for i in ids
    ]
    columns = dict(zip(FIELDS, map(np.array, zip(*rows, strict=True)), strict=True))
    return int(np.sum(TRADES.row_hashes(columns), dtype=np.uint64))


def log_of(broker: str, topic: str) -> kafka.Hop:
    """The platform's own messages, on a topic of the test's."""
    return kafka.Hop(broker, TRADES, [topic], fields={"exchange_time": "exchange_us"})


def test_a_platform_s_own_messages_are_the_same_records(broker: str) -> None:
    """Other keys, milliseconds, the venue known from the topic: the same heads and hashes."""
    name = f"theirs-{uuid4()}"
    server.create_topics(broker, {name: 1})
    producer = Producer({"bootstrap.servers": broker})
    for key in range(1, 51):
        ours = trade(key)
        theirs = {"s": ours["symbol"], "t": str(key), "p": ours["price"], "q": ours["quantity"]}
        theirs |= {"S": ours["side"], "T": ours["exchange_us"] // 1000}
        producer.produce(name, json.dumps(theirs), partition=0)
    producer.flush(10)
    fields = {"symbol": "s", "trade_id": "t", "price": "p", "quantity": "q", "side": "S", "venue": "'binance'"}
    part = {"topics": [name], "fields": {**fields, "exchange_time": "T as time(ms)"}}
    hop = kafka.Hop(broker, TRADES, part=[part])
    assert hop.heads() == {BTC: 50}
    held = hop.digest(Window({BTC: 10}, {BTC: 50}))[0].groups[BTC]
    assert (held.keys, held.sum) == (40, hashes(range(11, 51)))


@pytest.fixture
def topic(broker: str) -> str:
    """A new topic with two partitions."""
    name = f"trades-{uuid4()}"
    server.create_topics(broker, {name: 2})

    def led() -> bool:
        """A broker knows a new topic a little after its controller has made it, and names a partition's leader before
        that leader knows that it is one."""
        with Cluster(broker, 5.0) as cluster:
            try:
                return len(cluster.offsets(cluster.leaders([name]), LATEST)) == 2
            except DriverError:
                return False

    until(led, within_s=10, what="the new topic's leaders")
    return name


def test_a_topic_is_known_to_every_client_once_it_is_made(broker: str) -> None:
    """Nobody is told that there is none: not in the moment after its controller has made it either."""
    for _ in range(20):
        name = f"new-{uuid4()}"
        server.create_topics(broker, {name: 8})
        with Cluster(broker, 5.0) as cluster:
            assert len(cluster.leaders([name])) == 8


def test_a_topic_with_fewer_partitions_than_are_needed_is_told(broker: str, topic: str) -> None:
    """Where it exists, nothing is created, and a writer to its third partition would wait in vain."""
    server.create_topics(broker, {topic: 1})
    with pytest.raises(GamedayError, match=rf"{topic} .* has 2 partitions, and 3 are needed"):
        server.create_topics(broker, {topic: 3})


@pytest.fixture
def send(broker: str, topic: str) -> Send:
    """Put messages into the topic, in order, acknowledged. A message may name its `_stamp_us` and `_raw` bytes."""
    producer = Producer({"bootstrap.servers": broker, "acks": "all", "linger.ms": 5, "log_level": 0})

    def put(messages: Iterable[Mapping[str, Any]]) -> None:
        for message in messages:
            body = {k: v for k, v in message.items() if not k.startswith("_")}
            raw = message.get("_raw") or json.dumps(body).encode()
            stamp_us = message["_stamp_us"] if "_stamp_us" in message else message["exchange_us"] + 20_000
            producer.produce(topic, raw, key=message["symbol"], timestamp=stamp_us // 1000)
            producer.poll(0)
        assert producer.flush(30) == 0

    return put


def digests(hop: kafka.Hop, lo: Mapping[Group, int], hi: Mapping[Group, int]) -> tuple[Mapping[Group, Tally], ...]:
    trades, offsets = hop.digest(Window(lo, hi))
    assert (trades.stream, trades.hop, trades.view) == ("trades", "broker", "log")
    assert (offsets.stream, offsets.hop, offsets.view) == ("offsets", "broker", "log")
    return trades.groups, offsets.groups


def test_heads_are_the_highest_ids_and_follow_the_log(broker: str, topic: str, send: Send) -> None:
    """The first call reads the tail, later ones only what came since; a re-sent low id changes nothing."""
    hop = log_of(broker, topic)
    assert hop.heads() == {}
    send([trade(k) for k in range(1, 101)] + [trade(k, ETH) for k in range(1, 51)])
    assert hop.heads() == {BTC: 100, ETH: 50}
    send([trade(101), trade(3)])
    assert hop.heads() == {BTC: 101, ETH: 50}


def test_the_heads_of_many_groups_are_added_up(broker: str, topic: str, send: Send) -> None:
    """By shard, as they would be one by one; later ones are added to what was there."""
    hop, shards = log_of(broker, topic), Shards((0,), 21)
    assert hop.totals(shards) == {}
    many: list[Group] = [("binance", f"S{n}") for n in range(1_000)]
    send([trade(1 + n % 3, group) for n, group in enumerate(many)])
    first = hop.totals(shards)
    assert first == totals({group: 1 + n % 3 for n, group in enumerate(many)}, Places(shards))
    send([trade(9, many[7]), trade(1, many[7]), trade(4, ("binance", "new"))])
    expected = {**{group: 1 + n % 3 for n, group in enumerate(many)}, many[7]: 9, ("binance", "new"): 4}
    assert hop.totals(shards) == totals(expected, Places(shards)) != first
    assert hop.heads() == expected


def test_an_open_transaction_is_no_end_that_is_waited_for(broker: str, topic: str) -> None:
    """heads() and digest() give what consumers may read, and return, while other partitions go on; once it is
    committed it counts, and what was aborted never does."""
    plain = Producer({"bootstrap.servers": broker, "log_level": 0})
    for key in range(1, 11):
        plain.produce(topic, json.dumps(trade(key)).encode(), partition=0)
        plain.produce(topic, json.dumps(trade(key, ETH)).encode(), partition=1)
    assert plain.flush(30) == 0
    open_ = Producer({"bootstrap.servers": broker, "transactional.id": f"open-{uuid4()}", "log_level": 0})
    open_.init_transactions(30)
    open_.begin_transaction()
    for key in range(11, 16):
        open_.produce(topic, json.dumps(trade(key)).encode(), partition=0)
    assert open_.flush(30) == 0
    hop = log_of(broker, topic)
    began = time.monotonic()
    assert hop.heads() == {BTC: 10, ETH: 10}
    assert hop.digest(Window({BTC: 0, ETH: 0}, {BTC: 10, ETH: 10}))[0].groups[BTC].keys == 10
    assert time.monotonic() - began < 2 * _log.READ_WITHIN_S
    open_.commit_transaction(30)  # the broker writes its marks after it has answered
    until(lambda: hop.heads()[BTC] == 15, within_s=10, what="what was committed")
    open_.begin_transaction()
    open_.produce(topic, json.dumps(trade(16)).encode(), partition=0)
    assert open_.flush(30) == 0
    open_.abort_transaction(30)
    assert hop.heads()[BTC] == 15


def test_an_intact_window_is_tallied_exactly(broker: str, topic: str, send: Send) -> None:
    """Rows, distinct ids, bounds, hash sum and order of (lo, hi], and the places of the same records."""
    send([trade(k) for k in range(1, 201)] + [trade(k, ETH) for k in range(1, 101)])
    trades, offsets = digests(log_of(broker, topic), {BTC: 50, ETH: 20}, {BTC: 180, ETH: 90})
    assert trades[BTC] == Tally(130, 130, 51, 180, hashes(range(51, 181)), 0, 0)
    assert trades[ETH] == Tally(70, 70, 21, 90, hashes(range(21, 91)), 0, 0)
    assert sum(t.keys for t in offsets.values()) == 200
    assert all(t.rows == t.keys == t.hi - t.lo + 1 for t in offsets.values())


def test_a_log_keeps_its_order_inside_each_partition_alone(broker: str, topic: str) -> None:
    """Records of one group that go to both partitions in turn ascend in each of them: that is order. One that is first
    seen after a higher one of its own partition is not; one that was sent again to the other is a repeat."""
    producer = Producer({"bootstrap.servers": broker, "log_level": 0})

    def put(keys: Iterable[int], partition: int) -> None:
        for key in keys:
            stamp_ms = (START_US + key * SPACING_US) // 1000 + 20
            producer.produce(topic, json.dumps(trade(key)).encode(), partition=partition, timestamp=stamp_ms)
        assert producer.flush(30) == 0

    put(range(1, 100, 2), 0)
    put([*range(2, 101, 2), 51], 1)
    trades, _ = digests(log_of(broker, topic), {}, {BTC: 100})
    assert (trades[BTC].rows, trades[BTC].keys, trades[BTC].back) == (101, 100, 0)
    put([104, 102], 1)
    trades, _ = digests(log_of(broker, topic), {}, {BTC: 104})
    assert trades[BTC].back == 1


def test_where_groups_begin_that_came_since_is_told(broker: str, topic: str, send: Send) -> None:
    """The lowest id of each among what was produced since then, however high it is."""
    since_us = START_US + 1_000_000 * SPACING_US
    send([trade(k) for k in range(1, 11)])
    send([trade(k) for k in range(1_000_005, 1_000_010)] + [trade(k, ETH) for k in range(1_000_001, 1_000_004)])
    assert log_of(broker, topic).firsts(since_us) == {BTC: 1_000_005, ETH: 1_000_001}


def test_lost_repeated_changed_and_late_first_sightings_show(broker: str, topic: str, send: Send) -> None:
    """One id missing, one sent twice alike, one sent twice with another price, one after a higher id."""
    ids = [i for i in range(1, 101) if i not in (40, 70)]
    ids.insert(ids.index(71) + 1, 70)
    send([trade(k) for k in ids] + [trade(10), trade(20, price="1.00")])
    trades, offsets = digests(log_of(broker, topic), {}, {BTC: 100})
    changed = (20, 10**8, 12_345, "sell", START_US + 20 * SPACING_US)
    columns = {name: np.array([value]) for name, value in zip(FIELDS, changed, strict=True)}
    extra = int(TRADES.row_hashes(columns)[0])
    total = (hashes(i for i in range(1, 101) if i != 40) + extra) % 2**64
    assert trades[BTC] == Tally(rows=101, keys=99, lo=1, hi=100, sum=total, conflicts=1, back=1)
    assert sum(t.keys for t in offsets.values()) == 101


def test_a_group_that_never_came_has_no_tally(broker: str, topic: str, send: Send) -> None:
    """A whole group gone is seen as absence, not as an error."""
    send([trade(k) for k in range(1, 11)])
    trades, _ = digests(log_of(broker, topic), {BTC: 0, ETH: 0}, {BTC: 10, ETH: 10})
    assert set(trades) == {BTC}


def test_a_log_without_records_gives_empty_digests(broker: str, topic: str) -> None:
    """Nothing there is an answer."""
    assert digests(log_of(broker, topic), {BTC: 0}, {BTC: 10}) == ({}, {})


def test_the_window_is_found_far_back_though_old_records_were_sent_again(
    broker: str, topic: str, send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading backwards must not stop at a re-sent old record; nor need it read a long history."""
    monkeypatch.setattr(_log, "TAIL_RECORDS", 50)
    send([trade(k) for k in range(1, 3001)])
    now_us = START_US + 3001 * SPACING_US
    send([trade(k, _stamp_us=now_us) for k in range(1900, 2050)])  # a handler that goes back before the window
    send([trade(k) for k in range(3001, 3021)])
    hop = log_of(broker, topic)
    trades, _ = digests(hop, {BTC: 2000}, {BTC: 3020})
    assert trades[BTC] == Tally(1020 + 49, 1020, 2001, 3020, hashes(range(2001, 3021)), 0, 0)


def test_not_more_of_the_log_is_read_than_the_window_needs(
    broker: str, topic: str, send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A short window at the end of a long log: the beginning stays unread."""
    monkeypatch.setattr(_log, "TAIL_RECORDS", 100)
    send([trade(k) for k in range(1, 5001)])
    hop = log_of(broker, topic)
    read: list[int] = []
    reading = hop._read

    def counted(spans: Mapping[Slot, _log.Span]) -> Any:
        read.extend(stop - start for start, stop in spans.values())
        return reading(spans)

    monkeypatch.setattr(hop, "_read", counted)
    digests(hop, {BTC: 4950}, {BTC: 5000})
    assert sum(read) <= 700  # 50 in the window, 200 within ten seconds before it, and what doubling overshoots


@pytest.mark.parametrize(
    "broken",
    [
        {"_raw": b"not json"},
        {"_raw": b"[1, 2]"},
        {"_raw": b"\xff\xfe"},
        {"trade_id": "7a"},
        {"trade_id": True},
        {"price": "1.123456789"},
        {"price": 60000.25},
        {"price": "1e3"},
        {"price": "1_000"},
        {"price": ""},
        {"price": "."},
        {"quantity": "99999999999999"},
        {"side": 1},
        {"exchange_us": None, "_stamp_us": START_US},
    ],
    ids=str,
)
def test_what_is_no_record_is_counted_and_never_rounded(
    broker: str, topic: str, send: Send, broken: Mapping[str, Any]
) -> None:
    """It is left out of the digest, so its id shows as missing, and named in the symptoms."""
    send([trade(1), {**trade(2), **broken}, trade(3)])
    hop = log_of(broker, topic)
    trades, _ = digests(hop, {}, {BTC: 3})
    assert (trades[BTC].keys, trades[BTC].sum) == (2, hashes([1, 3]))
    assert hop.symptoms(Window({BTC: 0}, {BTC: 3}), START_US - 1_000_000, {})["malformed"] == 1


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.00000001", 1),
        ("1", 10**8),
        ("-0.5", -50_000_000),
        ("60000.250000000000", 6_000_025_000_000),
        ("007.10", 710_000_000),
        (".5", 50_000_000),
        ("92233720368.54775807", 2**63 - 1),
    ],
)
def test_decimals_become_integers_exactly(text: str, value: int) -> None:
    """Zeros beyond the eighth place are no digits."""
    assert parse("decimal(8)").canonical(text) == value


def test_late_rows_are_those_produced_since_then_with_ids_from_before(broker: str, topic: str, send: Send) -> None:
    """They are handed on with their hashes, for the ledger to judge."""
    send([trade(k) for k in range(1, 101)])
    since_us = START_US + 100 * SPACING_US + 1_000_000
    send([trade(k, _stamp_us=since_us + 5_000) for k in (7, 8, 101)])
    found = log_of(broker, topic).symptoms(Window({BTC: 100}, {BTC: 101}), since_us, {})
    assert found["late"]["rows"] == 2
    assert found["late"]["sample"] == [[*BTC, 7, hashes([7])], [*BTC, 8, hashes([8])]]
    assert json.dumps(found)


def test_rows_are_the_distinct_records_in_their_order(broker: str, topic: str, send: Send) -> None:
    """A repeat shows once, a changed repeat shows both."""
    send([trade(k) for k in range(1, 21)] + [trade(12), trade(13, quantity="9")])
    columns = log_of(broker, topic).rows(BTC, 10, 14)
    assert columns["trade_id"].tolist() == [11, 12, 13, 14, 13]
    assert columns["quantity"].tolist() == [12_345] * 4 + [9 * 10**8]
    assert set(columns["venue"]) == {"binance"}
    assert all(len(columns[name]) == 5 for name in FIELDS)
    assert len(log_of(broker, topic).rows(ETH, 0, 10)["trade_id"]) == 0


def test_a_cursor_knows_the_ends_and_what_a_group_has_committed(broker: str, topic: str, send: Send) -> None:
    """Slots are topic/partition; before the first commit there is no position."""
    group = f"g-{uuid4()}"
    cursor = kafka.Cursor(broker, group, [topic])
    send([trade(k) for k in range(1, 31)])
    assert sum(cursor.end().values()) == 30
    assert set(cursor.end()) == {f"{topic}/0", f"{topic}/1"}
    assert cursor.position() == {}
    consumer = Consumer(
        {"bootstrap.servers": broker, "group.id": group, "auto.offset.reset": "earliest", "log_level": 0}
    )
    consumer.subscribe([topic])
    last = until(lambda: consumer.poll(0.1), within_s=20, what="a record")
    consumer.commit(message=last, asynchronous=False)
    consumer.close()
    assert cursor.position() == {f"{topic}/{last.partition()}": (last.offset() or 0) + 1}


def test_a_cursor_knows_what_its_log_keeps_for_it(broker: str) -> None:
    """How old the first unread record is, which of them the retention ends, and how many are gone that nobody read."""
    topic, group = f"kept-{uuid4()}", f"g-{uuid4()}"
    admin = AdminClient({"bootstrap.servers": broker})
    admin.create_topics([NewTopic(topic, 1, 1, config={"retention.ms": "30000"})])[topic].result(20)
    producer = Producer({"bootstrap.servers": broker, "acks": "all"})
    sent_ms = time.time_ns() // 1_000_000
    for age_ms in (40_000, 10_000):  # a batch each
        for _ in range(5):
            producer.produce(topic, b"x", timestamp=sent_ms - age_ms)
        assert producer.flush(20) == 0
    cursor, hop = kafka.Cursor(broker, group, [topic]), log_of(broker, topic)
    assert cursor.kept() == {}
    consumer = Consumer({"bootstrap.servers": broker, "group.id": group, "log_level": 0})

    def seen(committed: int, deleted: int) -> Kept:
        consumer.commit(offsets=[TopicPartition(topic, 0, committed)], asynchronous=False)
        if deleted:
            place = TopicPartition(topic, 0, deleted)
            admin.delete_records([place])[place].result(20)
        assert hop.starts() == {f"{topic}/0": deleted}
        (found,) = cursor.kept().values()
        return found

    told = seen(committed=2, deleted=0)
    passed_s = (time.time_ns() // 1_000_000 - sent_ms) / 1000
    assert (told.position, told.start, told.end, told.expired, told.retention_s) == (2, 0, 10, 5, 30.0)
    assert told.unread_s is not None
    assert 40.0 <= told.unread_s <= 40.0 + passed_s
    assert (told.dropped, seen(committed=2, deleted=4).dropped) == (0, 2)
    young = seen(committed=2, deleted=6)
    assert young.unread_s is not None
    assert (young.dropped, 10.0 <= young.unread_s < 40.0) == (4, True)
    done = seen(committed=10, deleted=6)
    assert (done.dropped, done.expired, done.unread_s, done.share) == (0, 10, None, None)
    consumer.close()


def test_of_several_brokers_one_that_hangs_keeps_no_other_from_being_asked(broker: str, topic: str) -> None:
    """It takes connections, as a frozen process does, and answers nothing."""
    with socket.socket() as hung:
        hung.bind(("127.0.0.1", 0))
        hung.listen(16)
        brokers = f"127.0.0.1:{hung.getsockname()[1]},{broker}"
        assert kafka.Serving(brokers, [topic], timeout_s=5.0).read() == {f"{topic}/0": 1.0, f"{topic}/1": 1.0}
        assert set(kafka.Cursor(brokers, "g", [topic]).end()) == {f"{topic}/0", f"{topic}/1"}


def test_an_unknown_topic_is_named(broker: str) -> None:
    """A misspelt topic is an error, not an empty log."""
    for ask in (log_of(broker, "nosuch").heads, kafka.Cursor(broker, "g", ["nosuch"]).end):
        with pytest.raises(DriverError, match="nosuch"):
            ask()


def test_serving_fetches_from_every_partition_empty_ones_too(broker: str, topic: str, send: Send) -> None:
    """The value is the leader's id."""
    send([trade(1)])
    probe = kafka.Serving(broker, [topic], timeout_s=5.0)
    assert probe.read() == {f"{topic}/0": 1.0, f"{topic}/1": 1.0}


def test_everything_answers_again_after_the_broker_was_killed(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Those that lived through the outage answer soon after the broker does, and see what came."""
    direct, controller = free_ports(2)
    folder = tmp_path_factory.mktemp("killed")
    service = server.process(folder, (server.Listener("DIRECT", direct, direct),), controller, cluster="killed")
    address = f"127.0.0.1:{direct}"
    probe, serving_probe = kafka.Probe(address, 1.0), kafka.Serving(address, ["t"], 1.0)
    hop, cursor = log_of(address, "t"), kafka.Cursor(address, "g", ["t"])
    with serving(service) as process:
        server.create_topics(address, {"t": 1})
        _produce(address, [trade(1)])
        assert hop.heads() == {BTC: 1}
        assert cursor.end() == {"t/0": 1}
        assert serving_probe.read() == {"t/0": 1.0}
        process.send_signal(signal.SIGKILL)
        process.wait()
        for ask in (probe.read, serving_probe.read, cursor.end):
            with pytest.raises(DriverError):
                ask()
    with serving(service):
        _produce(address, [trade(2)])
        until(lambda: _answer(serving_probe.read), within_s=BACK_WITHIN_S, what="a served record")
        until(lambda: _answer(cursor.end) == {"t/0": 2}, within_s=BACK_WITHIN_S, what="the end")
        until(lambda: _answer(hop.heads) == {BTC: 2}, within_s=BACK_WITHIN_S, what="the head")
        trades, _ = digests(hop, {}, {BTC: 2})
        assert trades[BTC].keys == 2


def _produce(address: str, messages: Iterable[Mapping[str, Any]]) -> None:
    producer = Producer({"bootstrap.servers": address, "log_level": 0})
    for message in messages:
        producer.produce("t", json.dumps(message).encode(), key=message["symbol"])
    assert producer.flush(30) == 0


def _answer(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except DriverError:
        return None

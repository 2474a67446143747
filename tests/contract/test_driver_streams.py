"""JetStream and the streams of Valkey: a log as a hop, a consumer's place in it and whether they serve, against real
servers. The same suite for both."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gameday.drivers import _log
from gameday.drivers._log import LogHop
from gameday.drivers.nats import consumers as nats_probes
from gameday.drivers.nats import server as nats_session
from gameday.drivers.redis_streams import talk as redis_session
from gameday.errors import DriverError
from gameday.model import Group, Outcome, Tally, Window
from gameday.ports import Arrivals, Cursor, Forgets, Log, Newest, Probe, States, Symptoms
from gameday.records.attempts import Attempt, values
from gameday.records.declaration import Stream, stream
from gameday.stack.live import open_stack
from gameday.state import State
from gameday.system.polling import until
from tests.contract.conftest import freeze, new_nats, new_valkey, serving
from tests.contract.streamrigs import JetStream, RedisStream
from tests.suites import only_in
from tests.trades import FIELDS, TRADES

BTC: Group = ("binance", "BTCUSDT")
ETH: Group = ("binance", "ETHUSDT")
ALL = Window({BTC: 0, ETH: 0}, {BTC: 10_000, ETH: 10_000})
START_US = 1_795_000_000_000_000
BACK_WITHIN_S = 3.0
TIMEOUT_S = 1.0
HEAD_BYTES = 20
"""Before the subject of a message, in JetStream's file: how long it is, its number, its time."""
SLACK_S = 0.7

Rig = JetStream | RedisStream


@pytest.fixture(params=["jetstream", "valkey"])
def rig(request: pytest.FixtureRequest) -> Rig:
    """A new topic on the server that all tests share."""
    if request.param == "jetstream":
        return JetStream(request.getfixturevalue("jetstream"))
    return RedisStream(request.getfixturevalue("redis_url"))


def trade(key: int, group: Group = BTC, **changes: Any) -> dict[str, Any]:
    return {
        "venue": group[0],
        "symbol": group[1],
        "trade_id": key,
        "side": "sell" if key % 3 else "buy",
        "price": f"{60_000 + key}.25",
        "quantity": "0.00012345",
        "exchange_time": START_US + key,
        **changes,
    }


def hashes(ids: Iterable[int]) -> int:
    """The sum of the row hashes of these trades, computed from the numbers themselves."""
    rows = [(i, (60_000 + i) * 10**8 + 25_000_000, 12_345, "sell" if i % 3 else "buy", START_US + i) for i in ids]
    columns = dict(zip(FIELDS, map(np.array, zip(*rows, strict=True)), strict=True))
    return int(np.sum(TRADES.row_hashes(columns), dtype=np.uint64))


def held(hop: LogHop, window: Window = ALL) -> Mapping[Group, Tally]:
    records, places = hop.digest(window)
    assert (records.stream, records.view, places.stream) == ("trades", "log", "offsets")
    assert sum(tally.rows for tally in places.groups.values()) == sum(tally.rows for tally in records.groups.values())
    return records.groups


def test_they_offer_what_a_log_offers(rig: Rig) -> None:
    """All that Kafka's does: windows, newest records, states, arrivals, what is deleted."""
    hop = rig.hop(TRADES)
    for kind in (Log, Newest, States, Arrivals, Forgets, Symptoms):
        assert isinstance(hop, kind)
    assert isinstance(rig.cursor(rig.url, **rig.place()), Cursor)
    assert isinstance(rig.probe(rig.url, TIMEOUT_S), Probe)


def test_heads_are_the_highest_ids_and_follow_the_log(rig: Rig) -> None:
    """An empty log has none; a re-sent low id changes nothing."""
    hop = rig.hop(TRADES)
    assert hop.heads() == {}
    rig.put([trade(k) for k in range(1, 101)] + [trade(k, ETH) for k in range(1, 51)])
    assert hop.heads() == {BTC: 100, ETH: 50}
    rig.put([trade(101), trade(3)])
    assert hop.heads() == {BTC: 101, ETH: 50}
    assert rig.hop(TRADES).heads() == {BTC: 101, ETH: 50}


def test_an_intact_window_is_tallied_exactly(rig: Rig) -> None:
    """Rows, distinct ids, bounds, hash sum and order of (lo, hi]."""
    rig.put([trade(k) for k in range(1, 201)] + [trade(k, ETH) for k in range(1, 101)])
    trades = held(rig.hop(TRADES), Window({BTC: 50, ETH: 20}, {BTC: 180, ETH: 90}))
    assert trades[BTC] == Tally(130, 130, 51, 180, hashes(range(51, 181)), 0, 0)
    assert trades[ETH] == Tally(70, 70, 21, 90, hashes(range(21, 91)), 0, 0)


def test_a_long_log_is_read_in_pieces(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Back from its end until nothing earlier can be in the window, each message once."""
    monkeypatch.setattr(_log, "TAIL_RECORDS", 50)
    rig.put([trade(k) for k in range(1, 3001)])
    hop = rig.hop(TRADES)
    assert hop.heads() == {BTC: 3000}
    assert held(hop, Window({BTC: 100}, {BTC: 2900}))[BTC] == Tally(
        2800, 2800, 101, 2900, hashes(range(101, 2901)), 0, 0
    )


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (lambda k: [] if k == 40 else [trade(k)], (99, 99, 0)),
        (lambda k: [trade(k)] * (2 if k == 40 else 1), (101, 100, 0)),
        (lambda k: [trade(k, price="1.00")] if k == 40 else [trade(k)], (100, 100, 0)),
        *only_in(
            "brokers",
            (lambda k: [trade(k), trade(k, price="1.00")] if k == 40 else [trade(k)], (101, 100, 1)),
            (lambda k: [b"not json"] if k == 40 else [trade(k)], (99, 99, 0)),
            (lambda k: [b"\xff\xfe"] if k == 40 else [trade(k)], (99, 99, 0)),
            (lambda k: [trade(k, price="1.123456789")] if k == 40 else [trade(k)], (99, 99, 0)),
            (lambda k: [b""] if k == 40 else [trade(k)], (99, 99, 0)),
        ),
    ],
    ids=["lost", "doubled", "changed", "doubled and changed", "no JSON", "no text", "too many digits", "empty"],
)
def test_each_defect_shows(rig: Rig, made: Callable[[int], list[Any]], expected: tuple[int, int, int]) -> None:
    """In the figures of the digest; one that is no record is counted as malformed besides, with its place."""
    messages = [message for key in range(1, 101) for message in made(key)]
    before_us = time.time_ns() // 1000 - 1_000_000
    rig.put(messages)
    hop = rig.hop(TRADES)
    found = held(hop)[BTC]
    assert (found.rows, found.keys, found.conflicts) == expected
    assert (found.rows, found.sum) != (100, hashes(range(1, 101)))
    wrong = sum(1 for m in messages if isinstance(m, bytes) or m["price"] == "1.123456789")
    told = hop.symptoms(ALL, before_us, {})
    assert told["malformed"] == wrong
    assert len(told.get("malformed_first", [])) == wrong


def test_a_message_that_is_deleted_from_the_log_is_missing(rig: Rig) -> None:
    """Out of its middle, and its beginning, of which it is told that it is gone."""
    rig.put([trade(k) for k in range(1, 101)])
    hop = rig.hop(TRADES)
    whole = hop.starts()
    rig.delete(50)
    assert (held(hop)[BTC].keys, hop.starts()) == (99, whole)
    rig.trim(60)
    assert (held(hop)[BTC].keys, held(hop)[BTC].lo) == (60, 40)
    assert hop.starts() != whole


def test_rows_are_the_distinct_records_in_their_order(rig: Rig) -> None:
    """A repeat shows once, a changed repeat shows both."""
    rig.put([trade(k) for k in range(1, 21)] + [trade(12), trade(13, quantity="9")])
    columns = rig.hop(TRADES).rows(BTC, 10, 14)
    assert columns["trade_id"].tolist() == [11, 12, 13, 14, 13]
    assert columns["quantity"].tolist() == [12_345] * 4 + [9 * 10**8]


def test_what_came_since_a_time_is_told(rig: Rig) -> None:
    """By the server's own clock: late ones, and where groups begin."""
    rig.put([trade(k) for k in range(1, 101)])
    since_us = (now_ms() + 1) * 1000
    until(lambda: now_ms() * 1000 >= since_us, within_s=1, every_s=0.001, what="another millisecond")
    rig.put([trade(7), trade(8), trade(101), trade(500, ETH)])
    hop = rig.hop(TRADES)
    told = hop.symptoms(Window({BTC: 100}, {BTC: 101}), since_us, {})
    assert told["late"]["rows"] == 2
    assert told["late"]["sample"] == [[*BTC, 7, hashes([7])], [*BTC, 8, hashes([8])]]
    assert isinstance(hop, Log)
    assert hop.firsts(since_us) == {BTC: 7, ETH: 500}
    assert hop.firsts(since_us + 60_000_000) == {}


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def test_newest_records_are_shown_however_many_there_are(rig: Rig) -> None:
    """A bounded part of the end."""
    rig.put([trade(k) for k in range(1, 301)])
    seen = rig.hop(TRADES).newest(50)
    assert seen.heads == {BTC: 300}
    assert 50 <= len(seen.groups[BTC]["trade_id"]) <= 100


def test_the_heads_before_a_place_are_known(rig: Rig) -> None:
    """A consumer's place leads to what it has had."""
    rig.put([trade(k) for k in range(1, 11)])
    place = rig.cursor(rig.url, **rig.place())
    rig.consume(4)
    hop = rig.hop(TRADES)
    assert isinstance(hop, Log)
    assert hop.heads_before(place.position()) == {BTC: 4}
    assert hop.heads_before(place.end()) == {BTC: 10}


def keyed(**more: Any) -> Stream:
    given = {
        "key": ["id"],
        "fields": {"id": "int", "note": "text"},
        "hops": ["log", "b"],
        "visible": "b",
        "path": ["w"],
    }
    mistakes: list[str] = []
    made = stream("requests", {**given, **more}, ["log", "b"], mistakes)
    assert made is not None, mistakes
    return made


def test_records_with_a_key_alone_go_by_when_they_came(rig: Rig) -> None:
    """The first sighting counts; the log has its beginning until something is gone."""
    rig.put([{"id": k, "note": "n"} for k in (1, 2, 3, 2)])
    hop = rig.hop(keyed())
    came = hop.arrived()
    assert (len(came.times), came.whole) == (3, True)
    rig.trim(2)
    assert not rig.hop(keyed()).arrived().whole


def test_versions_are_folded_and_a_deleted_key_is_gone(rig: Rig) -> None:
    """The highest version of each key; of a log that an entry was taken out of, what moved is not sure."""
    rows = keyed(version="v", time="at", fields={"id": "int", "note": "text", "at": "time(us)"})
    versions: list[dict[str, Any]] = [
        {"id": 1, "note": "a", "v": 1},
        {"id": 2, "note": "b", "v": 1},
        {"id": 1, "note": "c", "v": 2},
    ]
    rig.put({**one, "at": START_US} for one in [*versions, {"id": 2, "gone": True, "v": 2}])
    hop = rig.hop(rows, deleted="gone")
    state = hop.state()
    assert (len(state), int((~state.gone).sum()), state.whole) == (2, 1, True)
    assert hop.records(state.rows[~state.gone])["note"].tolist() == ["c"]
    early = hop.state({slot: end - 1 for slot, end in state.position.items()})
    assert (int((~early.gone).sum()), len(early.unsure)) == (2, 0)
    rig.delete(2)
    before = {slot: end - 1 for slot, end in state.position.items()}
    assert len(rig.hop(rows, deleted="gone").state(before).unsure) == 1


def test_headers_key_topic_and_time_are_paths(rig: Rig) -> None:
    """Of JetStream the key is the subject; of a stream of Redis the fields beside the message are headers."""
    rig.put([{"id": 1}])
    paths = {"id": "id", "note": "$topic", "at": "$time"}
    more: dict[str, Any] = {"fields": {"id": "int", "note": "text", "at": "time"}}
    before_us = (now_ms() - 60_000) * 1000
    hop = rig.hop(keyed(**more, time="at"), fields=paths)
    rows = hop.rows((), before_us, before_us + 120_000_000)
    assert rows["note"].tolist() == [rig.topic]
    if isinstance(rig, JetStream):
        by_subject = rig.hop(
            keyed(time="at", **more), fields={**paths, "note": "$key"}, where={"$key": f"{rig.topic}.*"}
        )
        assert by_subject.rows((), before_us, before_us + 120_000_000)["note"].tolist() == [f"{rig.topic}.x"]
        return
    with rig.client() as client:
        client.xadd(rig.topic, {"data": b'{"id": 2}', "kind": "order"})
    of_orders = rig.hop(
        keyed(time="at", **more), fields={**paths, "note": "$headers.kind"}, where={"$headers.kind": "order"}
    )
    assert of_orders.rows((), before_us, before_us + 120_000_000)["note"].tolist() == ["order"]
    whole = rig.hop(keyed(time="at", **more), field="", fields={"id": "data.id", "note": "kind", "at": "$time"})
    assert whole.rows((), before_us, before_us + 120_000_000)["note"].tolist() == [None, "order"]


# ---- a consumer's place ----------------------------------------------------------------------------------------------


def test_a_cursor_is_where_all_before_is_acknowledged(rig: Rig) -> None:
    """Not what was delivered: one that is not acknowledged holds the place back, whatever came after it."""
    rig.put([trade(k) for k in range(1, 11)])
    place = rig.cursor(rig.url, **rig.place())
    lag = rig.lag(rig.url, **rig.place(), timeout_s=TIMEOUT_S)
    rig.consume(2)
    assert lag.read() == {"": 8.0, ".unacked": 0.0, ".redelivered": 0.0}
    rig.consume(4, acknowledge=lambda at: at != 0)
    hop = rig.hop(TRADES)
    assert isinstance(hop, Log)
    assert hop.heads_before(place.position()) == {BTC: 2}
    assert lag.read() == {"": 5.0, ".unacked": 1.0, ".redelivered": 0.0}

    def again() -> float:
        rig.consume(1, acknowledge=lambda _: False)
        return float(lag.read()[".redelivered"])

    until(again, within_s=10, what="a second delivery")
    until(lambda: rig.consume(10) < 0 or place.position() == place.end(), within_s=10, what="the end")
    assert lag.read() == {"": 0.0, ".unacked": 0.0, ".redelivered": 0.0}


def test_a_place_that_somebody_moves_back_is_seen(rig: Rig) -> None:
    """It is as far as it says."""
    rig.put([trade(k) for k in range(1, 11)])
    place = rig.cursor(rig.url, **rig.place())
    rig.consume(10)
    (done,) = place.position().values()
    assert place.position() == place.end()
    rig.rewind()
    (moved,) = place.position().values()
    assert moved < done
    assert rig.hop(TRADES).heads_before(place.position()) == {}


def test_what_does_not_exist_is_named(rig: Rig) -> None:
    """A misspelt topic or consumer is an error, not an empty log."""
    elsewhere = {**rig.place(), "topic": "nosuch"}
    nobody = {key: "nobody" if key != "topic" else value for key, value in rig.place().items()}
    asks: list[Callable[[], Any]] = [
        rig.cursor(rig.url, **elsewhere).end,
        rig.cursor(rig.url, **elsewhere).position,
        rig.serving(rig.url, ["nosuch"], TIMEOUT_S).read,
    ]
    for ask in asks:
        with pytest.raises(DriverError, match="nosuch"):
            ask()
    with pytest.raises(DriverError, match="nobody"):
        rig.cursor(rig.url, **nobody).position()
    hop = rig.hop(TRADES)
    hop.topics = ("nosuch",)
    with pytest.raises(DriverError, match="nosuch"):
        hop.heads()


# ---- who answers -----------------------------------------------------------------------------------------------------


def test_who_has_another_password_is_refused_and_it_is_not_told(rig: Rig) -> None:
    """By every question."""
    wrong = rig.url.replace("@127", "-wrong-secret@127")
    for ask in (
        rig.probe(wrong, TIMEOUT_S).read,
        rig.cursor(wrong, **rig.place()).position,
        rig.serving(wrong, [rig.topic], TIMEOUT_S).read,
        rig.lag(wrong, **rig.place(), timeout_s=TIMEOUT_S).read,
    ):
        with pytest.raises(DriverError, match=r"(?i)authorization violation|WRONGPASS|invalid username") as raised:
            ask()
        assert "secret" not in str(raised.value)
        assert raised.value.definite


def test_a_stream_serves_by_its_last_message(rig: Rig) -> None:
    """An empty one by saying that it is."""
    serves = rig.serving(rig.url, [rig.topic], TIMEOUT_S)
    (empty,) = serves.read().items()
    rig.put([trade(1)])
    assert serves.read() == dict([empty])


@pytest.mark.parametrize("kind", ["jetstream", "valkey"])
def test_a_frozen_server_is_told_in_time_and_a_killed_one_comes_back(kind: str, tmp_path: Path) -> None:
    """Nothing hangs; those that lived through the outage answer soon after the server does, and see what came."""
    service, url = new_nats(tmp_path) if kind == "jetstream" else new_valkey(tmp_path)
    with serving(service) as process:
        rig: Rig = JetStream(url, topic="t") if kind == "jetstream" else RedisStream(url, topic="t")
        rig.put([trade(1)])
        rig.consume(1)
        hop, place = rig.hop(TRADES), rig.cursor(url, **rig.place())
        probe, serves = rig.probe(url, TIMEOUT_S), rig.serving(url, ["t"], TIMEOUT_S)
        asks: list[Callable[[], Any]] = [probe.read, serves.read, place.position, place.end]
        assert hop.heads() == {BTC: 1}
        assert [ask() for ask in asks]
        freeze(process.pid)
        for ask in asks:
            began = time.monotonic()
            with pytest.raises(DriverError, match=r"no answer within [0-9.]+ s"):
                ask()
            assert time.monotonic() - began < TIMEOUT_S + SLACK_S
        process.send_signal(signal.SIGCONT)
        assert probe.read() == {"": 1.0}
        process.send_signal(signal.SIGKILL)
        process.wait()
        for ask in asks:
            with pytest.raises(DriverError, match=r"(?i)refused"):
                ask()
    with serving(service):
        rig.put([trade(2)])
        until(lambda: serves.read(), within_s=BACK_WITHIN_S, what="a served record")
        assert hop.heads() == {BTC: 2}
        assert held(hop)[BTC].keys == 2
        assert rig.hop(TRADES).heads_before(place.position()) == {BTC: 1}


def test_a_hop_gives_up_on_a_frozen_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within its bound."""
    from gameday.drivers.nats import jetstream as nats_log
    from gameday.drivers.redis_streams import entries as redis_log

    for module in (nats_log, redis_log):
        monkeypatch.setattr(module, "READ_WITHIN_S", TIMEOUT_S)
    for number, (service, url) in enumerate((new_nats(tmp_path / "n"), new_valkey(tmp_path / "v"))):
        with serving(service) as process:
            rig: Rig = RedisStream(url, topic="t") if number else JetStream(url, topic="t")
            rig.put([trade(1)])
            hop = rig.hop(TRADES)
            freeze(process.pid)
            began = time.monotonic()
            with pytest.raises(DriverError, match="no answer within"):
                hop.heads()
            assert time.monotonic() - began < TIMEOUT_S + SLACK_S
            process.send_signal(signal.SIGCONT)
            assert hop.heads() == {BTC: 1}


def test_json_messages_as_they_are(rig: Rig) -> None:
    """What is told is plain JSON, for the report."""
    rig.put([trade(1), b"nope"])
    assert json.dumps(rig.hop(TRADES).symptoms(ALL, 0, {}))


# ---- JetStream's own -------------------------------------------------------------------------------------------------


def test_a_stream_tells_what_it_keeps_for_a_consumer(jetstream: str) -> None:
    """What it has not read, how old that is, and what is gone."""
    rig = JetStream(jetstream, config={"max_age": 3600, "max_msgs": 10})
    rig.put([trade(k) for k in range(1, 11)])
    rig.consume(4)
    place = rig.cursor(rig.url, **rig.place())
    (kept,) = place.kept().values()
    assert (kept.position, kept.start, kept.end, kept.expired, kept.dropped) == (5, 1, 11, 5, 0)
    assert kept.retention_s == 3600
    assert 0 <= (kept.unread_s or 0) < 60
    rig.put([trade(k) for k in range(11, 19)])
    (kept,) = place.kept().values()
    assert (kept.start, kept.dropped) == (9, 4)


def test_what_a_retention_by_time_ends_is_told(jetstream: str) -> None:
    """Before the server has deleted it."""
    rig = JetStream(jetstream, config={"max_age": 3600})
    rig.put([trade(k) for k in range(1, 6)])
    rig.consume(1)
    place = rig.cursor(rig.url, **rig.place())
    since_s = time.time() + 0.001
    until(lambda: time.time() >= since_s, within_s=1, every_s=0.001, what="another millisecond")
    rig.put([trade(k) for k in range(6, 9)])

    async def first(session: nats_session.Session) -> int:
        return await nats_probes.first_since(session, rig.topic, since_s)

    assert nats_session.Server(rig.url).ask(first, TIMEOUT_S, "it") == 6
    (kept,) = place.kept().values()
    assert (kept.position, kept.expired) == (2, 2)


def test_a_consumer_of_other_subjects_is_at_the_end_when_it_has_all_of_its_own(jetstream: str) -> None:
    """Though its floor stays at its own last message."""
    rig = JetStream(jetstream)
    own, other = f"{rig.topic}.x", f"{rig.topic}.y"
    rig.publish(own, b"1")
    rig.consume(1, subject=own)
    rig.publish(other, b"2")
    place = rig.cursor(rig.url, **rig.place())
    until(lambda: place.position() == place.end(), within_s=5, what="the end")
    rig.publish(own, b"3")
    (at,) = place.position().values()
    (end,) = place.end().values()
    assert at < end


def test_a_hop_takes_nothing_from_a_work_queue(jetstream: str) -> None:
    """It makes no consumer there, which a work queue would refuse beside another."""
    rig = JetStream(jetstream, config={"retention": "workqueue"})
    rig.put([trade(k) for k in range(1, 11)])
    rig.consume(4)
    hop = rig.hop(TRADES)
    assert held(hop)[BTC].keys == 6
    assert rig.lag(rig.url, **rig.place(), timeout_s=TIMEOUT_S).read()[""] == 6
    assert rig.consume(10) == 6


def test_a_place_beyond_the_end_of_a_damaged_stream_stays_there(tmp_path: Path) -> None:
    """One bit flips in its file, in the head of a message: the server starts, the newest messages are gone, their
    numbers are given again, and the consumer lacks nothing, it says. The place shows it, and the digest."""
    service, url = new_nats(tmp_path)
    rows = [trade(k) for k in range(1, 201)]
    with serving(service):
        rig = JetStream(url, topic="t")
        rig.put(rows)
        rig.consume(200)
        place = rig.cursor(url, **rig.place())
        until(lambda: place.position() == place.end(), within_s=5, what="the end")
        before = place.end()
    (block,) = tmp_path.rglob("*.blk")
    data = bytearray(block.read_bytes())
    data[data.index(b"t.x", len(data) // 2) - HEAD_BYTES] ^= 1
    block.write_bytes(data)
    with serving(service):
        (end,), (was,) = place.end().values(), before.values()
        assert end < was
        assert place.position() == before
        assert held(rig.hop(TRADES))[BTC].keys < 200


def test_what_a_key_value_store_deletes_is_no_record(jetstream: str) -> None:
    """Its message has no value, and says so in a header."""
    rig = JetStream(jetstream)
    rig.put([trade(1), trade(2)])
    rig.publish(f"{rig.topic}.x", b"", {"KV-Operation": "DEL"})
    hop = rig.hop(TRADES)
    assert held(hop)[BTC].keys == 2
    assert hop.symptoms(ALL, 0, {})["malformed"] == 0


def test_ids_that_are_no_times_are_a_log_too(redis_url: str) -> None:
    """Whoever counts by himself: each is read, and none is dated."""
    rig = RedisStream(redis_url)
    with rig.client() as client:
        for k in range(1, 31):
            client.xadd(rig.topic, {"data": json.dumps(trade(k))}, id=f"{k}-{k}")
    hop = rig.hop(TRADES)
    assert held(hop)[BTC].keys == 30
    assert hop.symptoms(ALL, START_US - 10**12, {})["late"]["rows"] == 0
    own = keyed(time="at", fields={"id": "int", "note": "text", "at": "time"})
    timed = rig.hop(own, fields={"id": "trade_id", "note": "side", "at": "$time"}).newest(10)
    assert timed.malformed == timed.read > 0
    assert "at: is missing" in timed.reasons[0]
    with rig.client() as client:
        client.xadd(rig.topic, {"data": "{}"}, id=f"{2**50}-0")
    with pytest.raises(DriverError, match=r"id 1125899906842624-0\. Remedy"):
        hop.heads()


def test_a_place_is_an_id_and_keeps_its_order() -> None:
    """Also of many entries in one millisecond."""
    ids = [b"0-1", b"1-0", b"1-7", b"1795000000000-0", b"1795000000000-1048575", b"1795000000001-0"]
    places = [redis_session.place_of(entry) for entry in ids]
    assert places == sorted(places)
    assert [redis_session.id_of(place).encode() for place in places] == ids
    with pytest.raises(ValueError, match="Remedy"):
        redis_session.place_of(b"1-1048576")


STACK = """
name = "orders"
history = "postgresql://127.0.0.1/gameday"
[prefect]
api_url = "http://127.0.0.1:1/api"
[canary]
driver = "nats"
url = "{nats}"
subject = "{topic}.canary"
text = '{{"n": {{n}}, "id": "{{key}}"}}'
fields = {{ id = "{{key}}" }}
[streams.canary]
key = ["n"]
sequence = "n"
fields = {{ id = "text" }}
hops = ["canary", "orders", "jobs"]
visible = "jobs"
path = ["nats"]
[hosts.local]
socket = "{socket}"
[components.nats.probes]
ping = {{ driver = "nats", url = "{nats}", server = "tests" }}
[components.redis.probes]
ping = {{ driver = "redis_streams", url = "{redis}" }}
[hops.orders]
driver = "nats"
url = "{nats}"
topics = ["{topic}"]
[hops.jobs]
driver = "redis_streams"
url = "{redis}"
topics = ["{key}"]
field = "data"
[cursors.mover]
driver = "nats"
url = "{nats}"
topic = "{topic}"
consumer = "c"
[cursors.worker]
driver = "redis_streams"
url = "{redis}"
topic = "{key}"
group = "c"
[watches.serving]
driver = "nats.Serving"
url = "{nats}"
topics = ["{topic}"]
[stops.behind]
driver = "redis_streams.Lag"
url = "{redis}"
topic = "{key}"
group = "c"
field = "unacked"
max = 100
"""


def test_a_stack_of_both_is_made_and_answers(tmp_path: Path, jetstream: str, redis_url: str) -> None:
    """By names in a gameday.toml: the canary's record is in both logs, and their sums are the same."""
    there, here = JetStream(jetstream), RedisStream(redis_url)
    path = tmp_path / "gameday.toml"
    names = {"nats": jetstream, "redis": redis_url, "topic": there.topic, "key": here.topic}
    path.write_text(STACK.format(socket=tmp_path / "socket", **names))
    stack = open_stack(path, State(tmp_path))
    assert stack.mistakes() == []
    assert stack.canary is not None
    for number in (1, 2, 3):
        known = values(Attempt(number, "", "", START_US), "gameday-")
        assert stack.canary.send(known).outcome is Outcome.DONE
    here.put(json.loads(message) for message in there.held())
    there.consume(3)
    window = Window({(): 0}, {(): 10})
    sums = [stack.hop(name).digest(window)[0].groups[()] for name in ("orders", "jobs")]
    assert sums[0] == sums[1]
    assert sums[0].keys == 3
    for role in ("nats", "redis"):
        assert [probe.read() for probe in stack.own_probes(role).values()] == [{"": 1.0}]
    places = {name: (cursor.position(), cursor.end()) for name, cursor in stack.cursors.items()}
    assert places["mover"] == ({f"{there.topic}/0": 4}, {f"{there.topic}/0": 4})
    assert places["worker"][0] != places["worker"][1]
    assert stack.stop("behind").crossed() is None
    path.write_text(path.read_text().replace("redis://", "http://").replace("nats://", "redis://"))
    found = "; ".join(open_stack(path, State(tmp_path)).mistakes())
    assert "must be an address such as nats://host:port" in found
    assert "must be an address such as redis://host:port" in found

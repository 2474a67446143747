"""A wrong guess in the declaration of a stream is told before any failure test: the same orders in a real Kafka and a
real ClickHouse, declared right and in each wrong way."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import Producer

from compose.servers import kafka as server
from gameday.drivers import _log
from gameday.drivers.clickhouse import literal
from gameday.drivers.kafka.wire import LATEST, Cluster
from gameday.errors import DriverError
from gameday.records import excerpts
from gameday.stack.live import Stack, open_stack
from gameday.state import State
from gameday.system.polling import until
from pipelines.trades.schema import query
from tasks.look import look
from tasks.survey import requirements

START_US = 1_795_000_000_000_000
SHOPS = ("north", "south", "west")
DECLARED = """
name = "shops"
history = "postgresql://nobody@127.0.0.1:1/none"
[prefect]
api_url = "http://127.0.0.1:1/api"
[hosts.local]
socket = "{folder}/nobody.sock"
[components.web]
probes.disk = {{ driver = "disk", path = "/" }}
[streams.orders]
key = ["shop", "id"]
group = ["shop"]
sequence = "id"
gapless = true
time = "at"
fields = {{ total = "decimal(8)", state = "text", at = "time(us)" }}
hops = ["log", "sink"]
visible = "sink"
path = ["web"]
[hops.log]
driver = "kafka"
brokers = "{broker}"
topics = ["{topic}"]
fields = {{ total = "sum.net" }}
[hops.sink]
driver = "clickhouse"
url = {url}
table = "{table}"
kind = "once"
fields = {{ at = "placed" }}
"""

Rows = Mapping[str, Mapping[str, Any]]


def order(number: int, shop: str, **changes: Any) -> dict[str, Any]:
    return {
        "shop": shop,
        "id": number,
        "sum": {"net": f"{number}.12345678", "gross": f"{number + 1}.5"},
        "state": "paid" if number % 3 else "open",
        "at": START_US + number * 20_000,
        **changes,
    }


class Platform:
    """A topic of two partitions and a table, both of the test's own."""

    def __init__(self, broker: str, warehouse: str, folder: Path) -> None:
        self.name = f"o{uuid4().hex}"
        self._broker, self._warehouse, self._folder = broker, warehouse, folder
        server.create_topics(broker, {self.name: 2})
        query(
            warehouse,
            f"CREATE TABLE {self.name} (shop String, id Int64, total Decimal(18, 8), gross Decimal(18, 8), state "
            "String, placed DateTime64(6, 'UTC')) ENGINE = MergeTree ORDER BY (shop, id)",
        )

        def led() -> bool:
            """A leader is named before it knows that it is one."""
            with Cluster(broker, 5.0) as cluster:
                try:
                    return len(cluster.offsets(cluster.leaders([self.name]), LATEST)) == 2
                except DriverError:
                    return False

        until(led, within_s=10, what="the new topic's leaders")
        self._producer = Producer({"bootstrap.servers": broker, "acks": "all", "log_level": 0})

    def send(self, orders: Iterable[Mapping[str, Any]]) -> None:
        for one in orders:
            self.raw(json.dumps(one).encode(), one["shop"])
        assert self._producer.flush(30) == 0

    def raw(self, body: bytes, shop: str) -> None:
        self._producer.produce(self.name, body, key=shop, partition=SHOPS.index(shop) % 2)
        self._producer.poll(0)

    def insert(self, orders: Iterable[Mapping[str, Any]]) -> None:
        rows = ", ".join(
            f"({literal(o['shop'])}, {o['id']}, '{o['sum']['net']}', '{o['sum']['gross']}', {literal(o['state'])}, "
            f"fromUnixTimestamp64Micro({o['at']}, 'UTC'))"
            for o in orders
        )
        query(self._warehouse, f"INSERT INTO {self.name} VALUES {rows}")

    def stack(self, *changes: tuple[str, str]) -> Stack:
        """As it is declared right, but for these texts."""
        text = DECLARED.format(
            broker=self._broker, topic=self.name, table=self.name, url=json.dumps(self._warehouse), folder=self._folder
        )
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path = self._folder / "gameday.toml"
        path.write_text(text)
        return open_stack(path, State(self._folder))

    def look(self, *changes: tuple[str, str]) -> Rows:
        return {row["what"]: row for row in look(self.stack(*changes))}


@pytest.fixture
def empty(broker: str, warehouse: str, tmp_path: Path) -> Platform:
    return Platform(broker, warehouse, tmp_path)


@pytest.fixture(scope="module")
def filled(broker: str, warehouse: str, tmp_path_factory: pytest.TempPathFactory) -> Platform:
    """400 orders a shop, in both places. Nobody adds any."""
    made = Platform(broker, warehouse, tmp_path_factory.mktemp("filled"))
    orders = [order(number, shop) for number in range(1, 401) for shop in SHOPS]
    made.send(orders)
    made.insert(orders)
    return made


LOG, SINK, BOTH = "look at log", "look at sink", "look from log to sink"


def ok(rows: Rows) -> dict[str, bool]:
    return {what: row["ok"] for what, row in rows.items()}


def test_a_right_declaration_is_well_everywhere(filled: Platform) -> None:
    """With what was read and compared; no id is left out."""
    rows = filled.look()
    assert ok(rows) == {LOG: True, SINK: True, BOTH: True}, rows
    assert rows[LOG]["note"] == "1,200 records of 3 groups; no id is left out"
    assert rows[SINK]["note"] == "999 records of 3 groups; no id is left out"
    assert rows[BOTH]["note"] == "999 records are the same"


def test_a_scale_that_is_too_small_is_malformed_in_log_and_table(filled: Platform) -> None:
    """decimal(2) of what has eight digits: no record can be read, and each hop says why; so does a plain check."""
    change = ('"decimal(8)"', '"decimal(2)"')
    rows = filled.look(change)
    assert ok(rows) == {LOG: False, SINK: False}, rows
    assert rows[LOG]["note"].startswith("0 records, 1,200 malformed: ")
    assert "offset 0: total: '1.12345678' has more than 2 places (decimal(2)); " in rows[LOG]["note"]
    assert rows[SINK]["note"].startswith(
        "0 records, 999 malformed: id 68: total: 68.12345678 does not fit decimal(2); "
    )
    assert len(rows[SINK]["look"]["reasons"]) == len(rows[LOG]["look"]["reasons"]) == 3
    plain = {row["what"]: row for row in requirements(filled.stack(change), {})}
    for hop in ("log", "sink"):
        assert not plain[f"hop {hop}"]["ok"]
        assert plain[f"hop {hop}"]["note"].startswith("0 records, ")


def test_a_key_at_a_wrong_path_is_malformed_though_the_hop_shows_no_head(filled: Platform) -> None:
    """A plain check says so too, and not "yes"."""
    change = ('fields = { total = "sum.net" }', 'fields = { total = "sum.net", id = "order_id" }')
    rows = filled.look(change)
    assert (rows[LOG]["ok"], rows[SINK]["ok"]) == (False, True)
    assert rows[LOG]["note"].startswith("0 records, 1,200 malformed: ")
    assert "id: is missing" in rows[LOG]["note"]
    (plain,) = [row for row in requirements(filled.stack(change), {}) if row["what"] == "hop log"]
    assert (plain["ok"], plain["note"][:31]) == (False, "0 records, 1,200 malformed: " + plain["note"][28:31])


def test_a_key_that_a_table_can_t_show_is_told_with_the_rows(filled: Platform) -> None:
    """Where no row has a group, any rows are looked at."""
    rows = filled.look(('fields = { at = "placed" }', 'fields = { at = "placed", shop = "nullIf(state, state)" }'))
    assert rows[SINK]["note"].startswith("0 records, 1,000 malformed: shop: is missing")


def test_values_that_lie_elsewhere_differ_between_the_hops(filled: Platform) -> None:
    """A wrong path that gives another value, a path where nothing lies, a unit of time that is a thousand times too
    long: each with key, field and both values."""
    gross = filled.look(('"sum.net"', '"sum.gross"'))
    assert ok(gross) == {LOG: True, SINK: True, BOTH: False}, gross
    told = gross[BOTH]["note"]
    assert told.startswith("total differs in 999 of 999: north/68 has 69.50000000 in log and 68.12345678 in sink, ")
    nothing = filled.look(('"sum.net"', '"sum.neto"'))
    assert "total is always NULL" in nothing[LOG]["note"]
    assert "north/68 has NULL in log and 68.12345678 in sink" in nothing[BOTH]["note"]
    unit = filled.look(('fields = { total = "sum.net" }', 'fields = { total = "sum.net", at = "at as time(ms)" }'))
    assert unit[BOTH]["ok"] is False
    long = (START_US + 68 * 20_000) * 1000
    assert f"at differs in 999 of 999: north/68 has {long} in log and 2026-11-18T" in unit[BOTH]["note"]


def test_a_condition_that_is_too_strict_is_told_in_either_hop(filled: Platform) -> None:
    """Records are missing from the next hop, or only there; a whole group that is left out; and none belongs at all."""
    strict = filled.look(('kind = "once"', 'kind = "once"\nwhere = "state = \'paid\'"'))
    assert ok(strict) == {LOG: True, SINK: True, BOTH: False}, strict
    assert strict[BOTH]["look"]["difference"]["missing_keys"] == ("north/69", "north/72", "north/75")
    assert "records are not in sink: north/69, north/72, north/75, …" in strict[BOTH]["note"]
    source = filled.look(("[hops.sink]", 'where = { state = "paid" }\n[hops.sink]'))
    assert ok(source) == {LOG: False, SINK: True, BOTH: False}, source
    assert "though streams.orders is gapless" in source[LOG]["note"]
    assert "records are only in sink: north/69, " in source[BOTH]["note"]
    group = filled.look(('kind = "once"', 'kind = "once"\nwhere = "shop != \'west\'"'))
    assert ok(group) == {LOG: True, SINK: True, BOTH: False}, group
    assert group[BOTH]["note"] == "1 group is not in sink: west"
    topic = filled.look(("[hops.sink]", 'where = { shop = ["north", "south"] }\n[hops.sink]'))
    assert ok(topic) == {LOG: True, SINK: True, BOTH: False}, topic
    assert topic[BOTH]["note"] == "1 group is in sink and not in log: west"
    none = filled.look(("[hops.sink]", 'where = { state = "gone" }\n[hops.sink]'))
    assert none[LOG]["note"].startswith("0 records: none of the newest 1,200 belongs to the stream")
    none = filled.look(('kind = "once"', 'kind = "once"\nwhere = "state = \'gone\'"'))
    assert none[SINK]["note"].startswith("0 records: none of the newest 1,000 belongs to the stream")


def test_groups_of_other_names_can_t_be_compared(filled: Platform) -> None:
    """And that is no "yes"."""
    rows = filled.look(('fields = { at = "placed" }', 'fields = { at = "placed", shop = "upper(shop)" }'))
    assert ok(rows) == {LOG: True, SINK: True, BOTH: False}, rows
    assert rows[BOTH]["note"].startswith("no group of log is in sink, so nothing can be compared")


def test_what_is_only_told_is_no_no(empty: Platform) -> None:
    """A constant column, ids with gaps where none are promised to be without, repeats where they may be."""
    orders = [order(number, "south", state="paid") for number in range(2, 41, 2)]
    orders += [order(number, "north", state="paid") for number in range(2, 401, 2)]
    empty.send([*orders, *orders[-5:]])
    empty.insert([*orders, *orders[-5:]])
    changes = ("gapless = true", "gapless = false"), ('kind = "once"', 'kind = "append"')
    rows = empty.look(*changes)
    assert ok(rows) == {LOG: True, SINK: True, BOTH: True}, rows
    for what in (LOG, SINK):
        assert rows[what]["note"] == (
            "225 records of 2 groups; 5 repeat a key; 220 of 438 ids are there, the fewest in north (200 of 399); "
            "state is always paid"
        )
    once = empty.look(changes[0])
    assert ok(once) == {LOG: True, SINK: False, BOTH: True}, once
    assert "5 repeat a key, though kind is once" in once[SINK]["note"]


def test_a_stream_that_goes_by_its_time_is_looked_at_too(filled: Platform) -> None:
    """Nothing is said of ids; a value that differs is told by the key."""
    timed = ('sequence = "id"\ngapless = true\n', ""), ('state = "text"', 'state = "text", id = "int"')
    rows = filled.look(*timed)
    assert ok(rows) == {LOG: True, SINK: True, BOTH: True}, rows
    assert rows[LOG]["note"] == "1,200 records of 3 groups"
    assert rows[BOTH]["look"]["difference"]["compared"] >= 250
    rows = filled.look(*timed, ('"sum.net"', '"sum.gross"'))
    assert ok(rows) == {LOG: True, SINK: True, BOTH: False}, rows
    assert rows[BOTH]["note"].startswith("total differs in ")


def test_what_the_next_hop_has_not_come_to_is_not_missing(empty: Platform) -> None:
    """A sink that is 5,000 records behind: what both have passed is compared, the rest is told as behind; and a
    difference there is found all the same."""
    orders = [order(number, "north") for number in range(1, 6_001)]
    empty.send(orders)
    empty.insert(orders[:1_000])
    rows = empty.look()
    assert ok(rows) == {LOG: True, SINK: True, BOTH: True}, rows
    assert rows[BOTH]["note"] == "1,000 records are the same; sink is 5,000 ids behind, which were not compared"
    rows = empty.look(('"sum.net"', '"sum.gross"'))
    assert "total differs in 1,000 of 1,000" in rows[BOTH]["note"]


def test_a_hop_that_is_too_far_behind_is_no_yes(empty: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log is not read without end; what could not be compared is said."""
    monkeypatch.setattr(_log, "BEHIND_RECORDS_MAX", 2_000)
    orders = [order(number, "north") for number in range(1, 6_001)]
    empty.send(orders)
    empty.insert(orders[:100])
    rows = empty.look()
    assert ok(rows) == {LOG: True, SINK: True, BOTH: False}, rows
    assert rows[BOTH]["note"].startswith("nothing to compare: ")
    assert rows[BOTH]["note"].endswith("sink is 5,900 ids behind, which were not compared")


def test_one_message_that_can_t_be_read_is_counted_and_shown(empty: Platform) -> None:
    """A plain check tells it beside its yes."""
    orders = [order(number, "north") for number in range(1, 101)]
    empty.send(orders)
    empty.raw(b"\x1b[31m[red]broken", "north")
    empty.send([order(101, "north")])
    empty.insert([*orders, order(101, "north")])
    rows = empty.look()
    assert (rows[LOG]["ok"], rows[SINK]["ok"], rows[BOTH]["ok"]) == (False, True, True)
    assert "101 records of 1 group; 1 malformed: " in rows[LOG]["note"]
    assert "offset 100: " in rows[LOG]["note"]
    (plain,) = [row for row in requirements(empty.stack(), {}) if row["what"] == "hop log"]
    assert plain["ok"]
    assert "of the newest 102, 1 malformed: " in plain["note"]


def test_records_that_arrive_while_it_looks_are_not_missing(empty: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the sink lacks is looked for again once it has passed where the log was; a record that stays away is
    missing."""
    orders = [order(number, "north") for number in range(1, 201)]
    empty.send(orders)
    empty.insert([o for o in orders if o["id"] not in (50, 60)])
    late: list[Callable[[], None]] = [lambda: empty.insert([orders[49]])]
    asking = excerpts.differences

    def differences(*given: Any) -> Any:
        found = asking(*given)
        if late:
            late.pop()()
        return found

    monkeypatch.setattr("tasks.look.differences", differences)
    rows = empty.look()
    assert rows[BOTH]["look"]["difference"]["missing_keys"] == ("north/60",)

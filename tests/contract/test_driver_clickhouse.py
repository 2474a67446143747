"""Tables as hops: a real ClickHouse with the reference platform's own tables computes what numpy computes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from clickhouse_connect.driver.client import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compose.trades import bars
from compose.trades.bars import Bars
from gameday.drivers.clickhouse import Hop
from gameday.drivers.clickhouse import hop as driver
from gameday.drivers.tape import Hop as Tape
from gameday.errors import DriverError
from gameday.model import Act, Columns, Digest, Evidence, Group, Sample, Shards, Tally, Verdict, Window
from gameday.records.declaration import Stream, stream
from gameday.records.hashing import row_hash
from gameday.records.heads import Places, totals
from gameday.records.tallies import proved, tally
from gameday.verdict import checks
from pipelines.trades.schema import statements
from tasks.closing import close_night
from tests.contract.conftest import connect
from tests.contract.sockets import saying
from tests.trades import FIELDS, TRADE_SQL, TRADES, live, stack_of

INT64 = 2**63
INSERTED = ("venue", "symbol", "trade_id", "price", "quantity", "side", "exchange_us", "topic", "partition", "offset")
LOG = {"topic": "topic", "partition": "partition", "offset": "offset", "ingested": "ingested_at"}
TOPIC = "market.crypto.trades.binance"
RATE = 30.0
TAPE = {"seed": 7, "rate": RATE, "segments": [[0, 1_795_000_030_000_000]]}

Row = tuple[int, int, int, int, int]
"""id, price and quantity x 10^8, side by its number, time in microseconds."""


@pytest.fixture(scope="module")
def client(warehouse: str) -> Iterator[Client]:
    """The platform's tables and the way through them, without the feed and without gold's refreshing."""
    made = connect(warehouse)
    made.command("CREATE DATABASE trades")
    for statement in statements("127.0.0.1:1"):
        if "trades.feed" not in statement and "REFRESH" not in statement:
            made.command(statement)
    yield made
    made.close()


@pytest.fixture
def group() -> Group:
    """A group of its own for each test: one server serves all."""
    return ("binance", f"T'{uuid4()}\\")


def bronze(url: str) -> Hop:
    return Hop(url, "append", "trades.bronze", TRADES, fields=TRADE_SQL, log=LOG, name="bronze")


def silver(url: str) -> Hop:
    first = {"table": "trades.bronze", "offset": "offset"}
    return Hop(
        url,
        "once",
        "trades.silver",
        TRADES,
        fields=TRADE_SQL,
        raw="trades.silver_raw",
        heads_table="trades.silver_heads",
        first=first,
        name="silver",
    )


def put(client: Client, group: Group, rows: Sequence[Row], first_offset: int = 0, topic: str = TOPIC) -> None:
    """Into bronze, as the feed would; offsets ascend in the order given."""
    unscaled = [
        (
            *group,
            key,
            Decimal(price).scaleb(-8),
            Decimal(quantity).scaleb(-8),
            side,
            time_us,
            topic,
            0,
            first_offset + i,
        )
        for i, (key, price, quantity, side, time_us) in enumerate(rows)
    ]
    client.insert("trades.bronze", unscaled, column_names=INSERTED)


def trades(ids: Iterable[int]) -> list[Row]:
    return [(i, (60_000 + i) * 10**8, 12_345, i % 2, 1_795_000_000_000_000 + i * 1000) for i in ids]


def expected(rows: Sequence[Row]) -> Tally:
    """Computed in numpy."""
    columns = {name: np.array([row[i] for row in rows], dtype=np.int64) for i, name in enumerate(FIELDS)}
    sides = np.array(["buy", "sell"])[columns["side"]]
    return TRADES.tally({**columns, "side": sides})


def by_view(digests: Sequence[Digest], stream: str = "trades") -> dict[str, Mapping[Group, Tally]]:
    return {d.view: d.groups for d in digests if d.stream == stream}


int64s = st.integers(-INT64, INT64 - 1) | st.sampled_from([-INT64, -1, 0, 1, INT64 - 1])
random_rows = st.lists(
    st.tuples(st.integers(1, INT64 - 1) | st.integers(1, 6), int64s, int64s, st.integers(0, 1), int64s),
    min_size=1,
    max_size=40,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(random_rows)
def test_row_hash_and_tally_are_the_same_in_numpy_and_in_the_server(
    client: Client, warehouse: str, rows: list[Row]
) -> None:
    """For any integers, negative and extreme ones too, repeated and conflicting ids included."""
    group = ("binance", str(uuid4()))
    put(client, group, rows)
    found = by_view(bronze(warehouse).digest(Window({group: 0}, {group: INT64 - 1})))
    assert found["raw"] == {group: expected(rows)}


def test_an_intact_window_is_the_same_in_bronze_silver_and_its_raw_table(
    client: Client, warehouse: str, group: Group
) -> None:
    """Only what lies in (lo, hi] counts; names are taken literally, quotes and backslashes too."""
    put(client, group, trades(range(1, 101)))
    window = Window({group: 20}, {group: 90})
    want = {group: expected(trades(range(21, 91)))}
    assert by_view(bronze(warehouse).digest(window))["raw"] == want
    assert by_view(silver(warehouse).digest(window)) == {"raw": want, "final": want}
    assert [d.hop for d in silver(warehouse).digest(window)] == ["silver", "silver"]


def test_repeats_show_in_the_log_and_not_in_what_users_query(client: Client, warehouse: str, group: Group) -> None:
    """Raw views count each copy; a changed copy is a conflict there, and one of the two in the final view."""
    put(client, group, [*trades(range(1, 11)), *trades([3]), (5, 1, 1, 0, 1)])
    window = Window({}, {group: 10})
    raw = by_view(bronze(warehouse).digest(window))["raw"][group]
    assert (raw.rows, raw.keys, raw.conflicts) == (12, 10, 1)
    assert by_view(silver(warehouse).digest(window))["final"][group] == expected(trades(range(1, 11)))


def test_offsets_are_told_of_the_windows_records_alone(client: Client, warehouse: str, group: Group) -> None:
    """Stream "offsets": groups (topic, partition), ids the offsets, whatever else lies in the log between them."""
    topic = f"market.{uuid4()}"
    put(client, group, trades(range(1, 11)), first_offset=100, topic=topic)
    put(client, group, trades([4]), first_offset=103, topic=topic)
    offsets = np.arange(102, 108)
    twice = np.append(offsets, 103)
    found = by_view(bronze(warehouse).digest(Window({group: 2}, {group: 8})), "offsets")["raw"]
    assert found == {(topic, "0"): tally(twice, row_hash([twice]))}


def test_sums_prove_what_an_exact_digest_finds_and_nothing_else(client: Client, warehouse: str, group: Group) -> None:
    """One scan is enough while all is right; with a repeat or a change, the sums are others."""
    other = (group[0], f"{group[1]}other")
    window = Window({group: 2, other: 0}, {group: 8, other: 5})
    put(client, group, trades(range(1, 11)))
    put(client, other, trades(range(1, 11)), first_offset=50)
    exact = [d for d in bronze(warehouse).digest(window) if d.stream == "trades"]
    found = proved([d for d in bronze(warehouse).sums(window) if d.stream == "trades"], exact)
    assert found is not None
    assert (
        found[0].groups
        == exact[0].groups
        == {
            group: expected(trades(range(3, 9))),
            other: expected(trades(range(1, 6))),
        }
    )
    assert found[0].groups[group].key_sum == exact[0].groups[group].key_sum == expected(trades(range(3, 9))).key_sum
    put(client, other, trades([3]), first_offset=99)
    assert proved([d for d in bronze(warehouse).sums(window) if d.stream == "trades"], exact) is None


@pytest.mark.parametrize("held", [2, 7, 1_000])
def test_keys_that_repeat_are_told_apart_whatever_is_held_at_once(
    client: Client, warehouse: str, group: Group, monkeypatch: pytest.MonkeyPatch, held: int
) -> None:
    """In one hash bucket or in many: rows that came again, one that came changed, one in three forms."""
    monkeypatch.setattr(driver, "BUCKET_KEYS", held)
    other = (group[0], f"{group[1]}other")
    rows = [*trades(range(1, 21)), *trades([3, 3, 4]), (5, 1, 1, 0, 1), (6, 1, 1, 0, 1), (6, 2, 1, 0, 1)]
    put(client, group, rows)
    put(client, other, trades(range(1, 11)), first_offset=100)
    found = by_view(bronze(warehouse).digest(Window({}, {group: 20, other: 10})))["raw"]
    assert found == {group: expected(rows), other: expected(trades(range(1, 11)))}
    assert (found[group].rows, found[group].keys, found[group].conflicts) == (26, 20, 2)


def test_a_record_that_comes_again_while_its_table_is_counted_is_counted_once(
    client: Client, warehouse: str, group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one question saw and the other did not is asked anew; a table that never rests is an error."""
    rows = [*trades(range(1, 11)), *trades([3])]
    put(client, group, rows)
    asked, surplus = 0, Hop._surplus

    def late(self: Hop, *args: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked == 1 or asked > 2:
            put(client, group, trades([4]), first_offset=100 + asked)
        return surplus(self, *args)

    monkeypatch.setattr(Hop, "_surplus", late)
    window = Window({}, {group: 10})
    assert by_view(bronze(warehouse).digest(window))["raw"] == {group: expected([*rows, *trades([4])])}
    assert asked == 2
    with pytest.raises(DriverError, match=r"hops\.bronze: records were repeated in trades\.bronze while"):
        bronze(warehouse).digest(window)


@pytest.mark.parametrize("column", ["Enum8('a' = 1, 'b' = 2)", "FixedString(1)", "LowCardinality(String)"])
@pytest.mark.parametrize("first", [0, 150_000], ids=["all", "far inside"])
def test_groups_are_told_by_their_texts_whatever_holds_them(
    client: Client, warehouse: str, column: str, first: int
) -> None:
    """A window of several groups finds the rows of each, with the index's hint and without."""
    table = f"trades.held{column[:4]}{first}"
    client.command(f"CREATE TABLE {table} (g {column}, n Int64) ENGINE = MergeTree ORDER BY (g, n)")
    client.command(f"INSERT INTO {table} SELECT if(number % 2, 'b', 'a'), intDiv(number, 2) + 1 FROM numbers(400000)")
    mistakes: list[str] = []
    places = {"hops": ["a", "b"], "visible": "b", "path": ["x"]}
    of = stream("held", {"key": ["g", "n"], "group": ["g"], "sequence": "n", **places}, ["a", "b"], mistakes)
    assert of is not None, mistakes
    window = Window({("a",): first, ("b",): first + 10}, {("a",): first + 100, ("b",): first + 30})
    (held,) = Hop(warehouse, "once", table, of).digest(window)
    assert {group: (t.rows, t.lo) for group, t in held.groups.items()} == {
        ("a",): (100, first + 1),
        ("b",): (20, first + 11),
    }


def held_as(**given: Any) -> Stream:
    """A stream of records (g, n, and these fields)."""
    mistakes: list[str] = []
    places = {"hops": ["a", "b"], "visible": "b", "path": ["x"]}
    of = stream("held", {"key": ["g", "n"], "group": ["g"], "sequence": "n", **places, **given}, ["a", "b"], mistakes)
    assert of is not None, mistakes
    return of


def test_a_fixed_string_ends_before_its_padding(client: Client, warehouse: str) -> None:
    """As group, in heads, digests and repeats, and as field: the table is the same as one of String. A zero byte
    inside of it is its own."""
    made = (
        "SELECT ['BTC', 'ETHUSDT8', 'a\\0b'][1 + number % 3], 1 + intDiv(number, 3), "
        "['x', 'x\\0y', ''][1 + number % 3], toString(number) FROM numbers(300)"
    )
    of = held_as(fields={"t": "text", "i": "int"})
    groups: list[Group] = [("BTC",), ("ETHUSDT8",), ("a\0b",)]
    window = Window(dict.fromkeys(groups, 0), dict.fromkeys(groups, 90))
    found: list[Any] = []
    for kind in ("String", "FixedString(8)", "LowCardinality(FixedString(8))"):
        table = f"trades.padded{len(found)}"
        client.command(
            f"CREATE TABLE {table} (g {kind}, n Int64, t {kind}, i {kind}) ENGINE = MergeTree ORDER BY (g, n)",
            settings={"allow_suspicious_low_cardinality_types": 1},
        )
        client.command(f"INSERT INTO {table} {made}")
        hop = Hop(warehouse, "once", table, of)
        assert hop.heads() == Hop(warehouse, "once", table, of, recent="n > 50").heads() == dict.fromkeys(groups, 100)
        plain, exact = hop.sums(window)[0].groups, hop.digest(window)[0].groups
        narrow = hop.digest(Window(dict.fromkeys(groups, 70), dict.fromkeys(groups, 80)))[0].groups
        assert {group: hop.rows(group, 0, 3)["t"].tolist() for group in groups} == {
            group: [text] * 3 for group, text in zip(groups, ("x", "x\0y", ""), strict=True)
        }
        newest = hop.newest(30).groups
        client.command(f"INSERT INTO {table} SELECT * FROM {table} WHERE n = 7")
        again = Hop(warehouse, "append", table, of).digest(window)[0].groups
        found.append((plain, exact, narrow, again, newest.keys(), hop.symptoms(window, 0, {})))
    assert found[0][1].keys() == set(groups)
    assert {t.rows for t in found[0][3].values()} == {91}
    assert found[1] == found[0]
    assert found[2] == found[0]


CASTS = {"p": "toDecimal128(p, 2)"}
"""Fails where the text is no number; and whether the number fits has to be asked."""


@pytest.mark.parametrize("lo", [1_000, 150_000], ids=["wide", "narrow"])
@pytest.mark.parametrize("several", [True, False])
def test_a_cast_that_fails_concerns_only_rows_of_the_window(
    client: Client, warehouse: str, lo: int, several: bool
) -> None:
    """Of another group, beyond its own bounds, or that doesn't belong to the stream, each between the lowest and the
    highest id. One that is in the window is an error that says so."""
    table = f"trades.casts{lo}{several}"
    client.command(f"CREATE TABLE {table} (g String, n Int64, p String) ENGINE = MergeTree ORDER BY (g, n)")
    client.command(
        f"INSERT INTO {table} SELECT if(number % 2, 'BTC', 'ETH'), intDiv(number, 2) + 1, "
        "multiIf(number % 2 AND number < 2000, 'bad', number = 399000, 'ours not', '1.5') FROM numbers(400000)"
    )
    client.command(f"INSERT INTO {table} SELECT * FROM {table} WHERE n = 190000")
    of = held_as(fields={"p": "decimal(2)"})
    his: dict[Group, int] = {("BTC",): 200_000, **({("ETH",): 199_000} if several else {})}
    los: dict[Group, int] = {("BTC",): lo, **({("ETH",): 0} if several else {})}
    window = Window(los, his)
    hop = Hop(warehouse, "append", table, of, fields=CASTS, where="p != 'ours not'")
    right = {("BTC",): 200_000 - lo, **({("ETH",): 199_000} if several else {})}
    assert {g: (t.rows, t.keys) for g, t in hop.sums(window)[0].groups.items()} == {
        g: (rows + 1, rows + 1) for g, rows in right.items()
    }
    assert {g: (t.rows, t.keys) for g, t in hop.digest(window)[0].groups.items()} == {
        g: (rows + 1, rows) for g, rows in right.items()
    }
    assert len(hop.rows(("BTC",), 199_000, 200_000)["n"]) == 1_000
    assert hop.symptoms(window, 0, {}) == {}
    assert sum(len(rows["n"]) for rows in hop.newest(20, his).groups.values()) >= 10
    wrong = Window({**los, ("BTC",): 990}, his)
    for asked in (hop.sums, hop.digest):
        with pytest.raises(DriverError, match="Cannot parse string 'bad'"):
            asked(wrong)


def test_columns_may_have_any_name(client: Client, warehouse: str) -> None:
    """A name in a query of ours never stands for a column in its conditions, in a digest of repeats neither."""
    names = ["g", "k", "r", "i", "m", "t0", "copies"]
    columns = ", ".join(f"{name} {'String' if name == 'g' else 'Int64'}" for name in names)
    client.command(f"CREATE TABLE trades.named ({columns}) ENGINE = MergeTree ORDER BY (g, k)")
    values = [f"'{g}', {k}, {k % 3}, 2, 3, 4, 5" for g in "ab" for k in (1, 2, 3, 3, 4)]
    client.command(
        f"INSERT INTO trades.named VALUES {', '.join(f'({one})' for one in values)}, ('a', 5, 0, 9, 9, 9, 9)"
    )
    mistakes: list[str] = []
    places = {"hops": ["a", "b"], "visible": "b", "path": ["x"]}
    fields = dict.fromkeys(names[2:], "int")
    told = {"key": ["g", "k"], "group": ["g"], "sequence": "k", "fields": fields, **places}
    of = stream("named", told, ["a", "b"], mistakes)
    assert of is not None, mistakes
    where = "k < 100 AND r < 100 AND g < 'z' AND i = 2 AND m = 3 AND t0 = 4 AND copies = 5"
    hop = Hop(warehouse, "append", "trades.named", of, where=where)
    found = hop.digest(Window({}, {("a",): 5, ("b",): 5}))[0].groups
    keys = np.array([1, 2, 3, 3, 4])
    rest = {name: np.full(5, n) for n, name in enumerate(names[3:], 2)}
    want = of.tally({"k": keys, "r": keys % 3, **rest})
    assert found == {("a",): want, ("b",): want}


def test_ten_thousand_groups_are_one_question(client: Client, warehouse: str) -> None:
    """The window is a table of bounds by group, not a condition a group."""
    groups: list[Group] = [("many", f"S{n}") for n in range(10_000)]
    made = "SELECT 'many', concat('S', toString(number % 10000)), intDiv(number, 10000) + 1, 1, 1, 0, number"
    client.command(f"INSERT INTO trades.bronze ({', '.join(INSERTED)}) {made}, 't', 0, number FROM numbers(30000)")
    window = Window(dict.fromkeys(groups, 1), {group: 2 + n % 2 for n, group in enumerate(groups)})
    (sums, exact) = (by_view(ask(window))["raw"] for ask in (bronze(warehouse).sums, bronze(warehouse).digest))
    assert sums == exact
    assert [sums[group].rows for group in groups] == [1 + n % 2 for n in range(10_000)]


TOTALLED: Mapping[str, Mapping[str, Any]] = {
    "a table of heads": {"table": "trades.none", "heads_table": "trades.tops"},
    "the table": {"table": "trades.tops"},
    "its recent rows": {"table": "trades.tops", "recent": "trade_id > 100"},
    "a table that is overwritten": {"table": "trades.tops", "kind": "state"},
}


@pytest.mark.parametrize("given", TOTALLED.values(), ids=list(TOTALLED))
@pytest.mark.parametrize("shards", [Shards((0,), 21), Shards((), 64), Shards((0, 1), 1)], ids=str)
def test_the_heads_of_many_groups_are_added_up(
    client: Client, warehouse: str, given: Mapping[str, Any], shards: Shards
) -> None:
    """By shard, as they would be one by one, and with the same marks; whatever the groups are called, however often
    they are there and however high their heads are."""
    client.command(
        "CREATE TABLE IF NOT EXISTS trades.tops (venue LowCardinality(String), symbol Nullable(String), "
        "trade_id Int64) ENGINE = MergeTree ORDER BY ()"
    )
    client.command("TRUNCATE TABLE trades.tops")
    names = ["a/b", "it's", "back\\slash", "ü", "", "%", "#1", None]
    rows = [(venue, name, n) for venue in ("west", "east", "") for n, name in enumerate(names)]
    rows += [("west", f"S{n % 1_000}", (1 << 60) + n) for n in range(3_000)]
    client.insert("trades.tops", rows, column_names=("venue", "symbol", "trade_id"))
    hop = Hop(warehouse, stream=TRADES, **{"kind": "once", **given})
    heads = hop.heads()
    assert len(heads) >= 1_000
    assert hop.totals(shards) == totals(heads, Places(shards))
    client.insert("trades.tops", [("west", "S7", (1 << 61)), ("west", "new", 101)], column_names=INSERTED[:3])
    again = hop.totals(shards)
    assert again == totals(hop.heads(), Places(shards)) != totals(heads, Places(shards))


def test_the_heads_of_delivered_messages_are_added_up(client: Client, warehouse: str, group: Group) -> None:
    """Those that came since are noted."""
    hop, shards, topic = bronze(warehouse), Shards((), 64), f"market.{uuid4()}"
    put(client, group, trades([1, 2]), first_offset=20_000_000, topic=topic)
    assert hop.totals(shards) == totals(hop.heads(), Places(shards))
    before = hop.totals(shards)[shards.of(group)]
    put(client, group, trades([7]), first_offset=20_000_010, topic=topic)
    assert hop.totals(shards)[shards.of(group)] == (before[0], before[1] + 5)


@pytest.mark.parametrize(("lo", "wide"), [(3, True), (15, False)], ids=["most rows", "few rows"])
def test_sums_count_what_is_in_each_group_s_own_bounds_and_fits(
    client: Client, warehouse: str, lo: int, wide: bool
) -> None:
    """Whichever way the server leaves the others out, and whatever the groups are called; a group that the window
    doesn't name has no tally."""
    client.command(
        f"CREATE TABLE trades.bounds{lo} (side String, n Nullable(Int64), cost Nullable(String)) ENGINE = Memory"
    )
    names = ["a'b", "c\\d", "e\nf\tg", "ü", "[x,y]", "other"]
    rows = [(side, n, "1.50" if n % 5 else "free") for side in names for n in range(1, 31)]
    client.insert(f"trades.bounds{lo}", [*rows, ("ü", None, "1.50")], column_names=["side", "n", "cost"])
    mistakes: list[str] = []
    given = {"key": ["side", "n"], "group": ["side"], "sequence": "n", "fields": {"cost": "decimal(2)"}}
    of = stream("costs", {**given, "hops": ["a", "b"], "visible": "b", "path": ["x"]}, ["a", "b"], mistakes)
    assert of is not None, mistakes
    hop = Hop(warehouse, "append", f"trades.bounds{lo}", of, name="costs")
    named: list[Group] = [(side,) for side in names[:-1]]
    window = Window({g: lo + at for at, g in enumerate(named)}, {g: 30 - at for at, g in enumerate(named)})
    assert hop._bounds(window, hop.table).wide is wide
    (sums,), (exact,) = hop.sums(window), hop.digest(window)
    assert sums.groups == exact.groups
    assert [t.key_sum for t in sums.groups.values()] == [exact.groups[g].key_sum for g in sums.groups]
    right = {g: [n for n in range(window.lo[g] + 1, window.hi[g] + 1) if n % 5] for g in named}
    assert {g: (t.rows, t.lo, t.hi) for g, t in sums.groups.items()} == {
        g: (len(ids), ids[0], ids[-1]) for g, ids in right.items()
    }


def test_a_window_far_inside_reads_little_of_the_table(client: Client, warehouse: str) -> None:
    """The table's index finds the ranges of ids."""
    client.command("CREATE TABLE trades.large AS trades.bronze ENGINE = MergeTree ORDER BY (venue, symbol, trade_id)")
    made = "SELECT 'v', concat('S', toString(number % 2)), intDiv(number, 2) + 1, 1, 1, 0, number, 't', 0, number"
    client.command(f"INSERT INTO trades.large ({', '.join(INSERTED)}) {made} FROM numbers(400000)")
    hop = Hop(warehouse, "append", "trades.large", TRADES, fields=TRADE_SQL)
    window = Window({("v", "S0"): 1_000, ("v", "S1"): 190_000}, {("v", "S0"): 1_500, ("v", "S1"): 190_500})
    done = client.query(f"SELECT sum(trade_id) FROM trades.large WHERE {hop._inside(window, hop.table)}")
    assert 1_000 <= int(done.summary["read_rows"]) <= 40_000
    assert {g: t.rows for g, t in hop.digest(window)[0].groups.items()} == dict.fromkeys(window.hi, 500)


def test_several_tables_are_one_hop_as_a_query_in_brackets(client: Client, warehouse: str) -> None:
    """Each with its own names; heads, digests, rows and what is malformed."""
    client.command("CREATE TABLE trades.west (id Int64, p String) ENGINE = Memory")
    client.command("CREATE TABLE trades.east (n Int64, cost Decimal(20, 2)) ENGINE = Memory")
    client.command("INSERT INTO trades.west SELECT number + 1, toString(number + 1) FROM numbers(10)")
    client.command("INSERT INTO trades.east SELECT number + 1, number + 1 FROM numbers(7)")
    mistakes: list[str] = []
    given = {"key": ["side", "n"], "group": ["side"], "sequence": "n", "fields": {"cost": "decimal(2)"}}
    of = stream("costs", {**given, "hops": ["a", "b"], "visible": "b", "path": ["x"]}, ["a", "b"], mistakes)
    assert of is not None, mistakes
    both = "(SELECT 'west' AS side, id AS n, p AS cost FROM trades.west UNION ALL "
    both += "SELECT 'east' AS side, n, toString(cost) AS cost FROM trades.east)"
    hop = Hop(warehouse, "once", both, of, name="costs")
    assert hop.heads() == {("west",): 10, ("east",): 7}
    window = Window({("west",): 2, ("east",): 2}, {("west",): 7, ("east",): 7})
    sums = {g: (t.rows, t.sum, t.key_sum) for g, t in hop.sums(window)[0].groups.items()}
    assert sums["west",] == sums["east",]
    assert {g: (t.rows, t.sum, t.key_sum) for g, t in hop.digest(window)[0].groups.items()} == sums
    assert hop.rows(("east",), 2, 4)["cost"].tolist() == [300, 400]
    client.command("INSERT INTO trades.west VALUES (5, 'x')")
    assert hop.symptoms(window, 0, {})["malformed"]["rows"] == 1


def test_what_does_not_fit_its_type_is_left_out_counted_and_shown(client: Client, warehouse: str) -> None:
    """A text that is no number, in a column of texts; a missing key."""
    client.command("CREATE TABLE trades.texts (id Nullable(Int64), price Nullable(String)) ENGINE = Memory")
    client.command("INSERT INTO trades.texts VALUES (1, '1.50'), (2, 'free'), (3, NULL), (NULL, '4'), (4, '1.555')")
    mistakes: list[str] = []
    places = {"hops": ["a", "b"], "visible": "b", "path": ["web"]}
    told = {"key": ["id"], "sequence": "id", "fields": {"price": "decimal(2)"}, **places}
    priced = stream("prices", told, ["a", "b"], mistakes)
    assert priced is not None
    hop = Hop(warehouse, "append", "trades.texts", priced, name="texts")
    window = Window({(): 0}, {(): 9})
    columns = {"id": np.array([1, 3]), "price": np.array([150, None], dtype=object)}
    assert hop.digest(window)[0].groups == {(): priced.tally(columns)}
    assert hop.heads() == {(): 4}
    assert hop.rows((), 0, 9)["price"].tolist() == [150, None]
    malformed = hop.symptoms(window, 0, {})["malformed"]
    assert (malformed["rows"], sorted(malformed["first"])) == (2, ["id 2, price free", "id 4, price 1.555"])


def test_a_column_that_would_have_to_be_rounded_is_an_error_with_a_remedy(client: Client, warehouse: str) -> None:
    """No digest is made of it."""
    hop = Hop(warehouse, "append", "trades.bronze", TRADES, fields={**TRADE_SQL, "price": "toFloat64(price)"}, name="b")
    with pytest.raises(DriverError, match=r"hops\.b\.fields: toFloat64\(price\) is Float64.*Remedy: float\(15\)"):
        hop.digest(Window({}, {("a", "b"): 1}))


def test_a_group_without_rows_has_no_tally(client: Client, warehouse: str, group: Group) -> None:
    """And an empty window is no error."""
    assert by_view(silver(warehouse).digest(Window({group: 0}, {group: 10})))["final"] == {}
    assert by_view(silver(warehouse).digest(Window({}, {})))["final"] == {}


def test_heads_come_from_the_small_table_and_from_the_end_of_the_log(
    client: Client, warehouse: str, group: Group
) -> None:
    """Both follow what comes, in partitions known and new; a re-sent low id changes nothing."""
    hops = bronze(warehouse), silver(warehouse)
    put(client, group, trades(range(1, 11)))
    assert [hop.heads()[group] for hop in hops] == [10, 10]
    put(client, group, trades([11, 3]), first_offset=10_000_000)
    assert [hop.heads()[group] for hop in hops] == [11, 11]
    put(client, group, trades([12]), topic=f"market.{uuid4()}")
    assert [hop.heads()[group] for hop in hops] == [12, 12]


def test_rows_are_distinct_and_in_the_order_of_ids(client: Client, warehouse: str, group: Group) -> None:
    """As model.Columns, integers scaled."""
    put(client, group, [*trades([3, 1, 2]), *trades([2])])
    columns = bronze(warehouse).rows(group, 1, 3)
    assert columns["trade_id"].tolist() == [2, 3]
    assert columns["price"].tolist() == [60_002 * 10**8, 60_003 * 10**8]
    assert columns["symbol"].tolist() == [group[1]] * 2
    assert columns["side"].tolist() == ["buy", "sell"]
    assert len(silver(warehouse).rows(group, 50, 60)["trade_id"]) == 0


def test_the_row_with_the_lowest_offset_is_the_first(client: Client, warehouse: str, group: Group) -> None:
    """not_first counts the ids of which another is kept."""
    put(client, group, trades(range(1, 6)), first_offset=50)
    window = Window({}, {group: 5})
    assert silver(warehouse).symptoms(window, 0, {}) == {"not_first": 0}
    wrong = [(*group, 2, Decimal(1), Decimal(1), 0, 1, TOPIC, 0, 40)]
    client.insert("trades.bronze", wrong, column_names=INSERTED)
    assert silver(warehouse).symptoms(window, 0, {}) == {"not_first": 0}
    client.command(
        "ALTER TABLE trades.silver_raw DELETE WHERE offset = 40 AND trade_id = 2", settings={"mutations_sync": 2}
    )
    assert silver(warehouse).symptoms(window, 0, {}) == {"not_first": 1}


def test_the_longest_time_without_an_insert_is_told_by_topic(client: Client, warehouse: str, group: Group) -> None:
    """From the baseline to the first, between neighbours, and from the last until now; of records that are old."""
    topic = f"market.{uuid4()}"
    now_us = int(client.query("SELECT toUnixTimestamp64Micro(now64(6))").result_rows[0][0])
    for seconds_ago in (50, 40, 12, 2):
        row = [(*group, 1, Decimal(1), Decimal(1), 0, 1, topic, 0, 60 - seconds_ago, now_us - seconds_ago * 10**6)]
        columns = ", ".join((*INSERTED, "ingested_at"))
        values = f"({', '.join(_literal(v) for v in row[0][:-1])}, fromUnixTimestamp64Micro({row[0][-1]}))"
        client.command(f"INSERT INTO trades.bronze ({columns}) VALUES {values}")
    found = bronze(warehouse).symptoms(Window({}, {}), now_us - 45 * 10**6, {"clickhouse": now_us - 30 * 10**6})
    assert found["ingest_gap_s"][topic] == pytest.approx(28.0)
    assert found["first_after_start"][f"{topic}/0"] == 48
    assert found["last_before_start"][f"{topic}/0"] == 20
    assert bronze(warehouse).delivered()[f"{topic}/0"] == 59
    assert silver(warehouse).delivered() == {}
    assert found["ingest_idle_s"][topic] == pytest.approx(2.0, abs=60)
    silent = bronze(warehouse).symptoms(Window({}, {}), now_us - 10**6, {})
    assert silent["ingest_gap_s"][topic] == pytest.approx(1.0, abs=60)
    assert "first_after_start" not in silent
    assert json.dumps(found)


@pytest.mark.parametrize(("records", "verdict"), [(True, Verdict.FAIL), (False, Verdict.PASS)], ids=["lost", "none"])
def test_offsets_moved_while_nobody_consumed_are_told_from_messages_that_are_no_records(
    client: Client, warehouse: str, group: Group, records: bool, verdict: Verdict
) -> None:
    """The consumer had taken in 100 messages, and went on at 163, as is committed: what lay between decides."""
    topic = f"market.{uuid4()}"
    put(client, group, trades(range(1, 101)), topic=topic)
    started_us = int(client.query("SELECT toUnixTimestamp64Micro(now64(6))").result_rows[0][0])
    put(client, group, trades(range(164, 201)), first_offset=163, topic=topic)
    window = Window({group: 0}, {group: 200})
    told = bronze(warehouse).symptoms(window, started_us - 10**6, {"clickhouse": started_us})
    log = np.arange(200) if records else np.r_[0:100, 163:200]
    digests = [d for d in bronze(warehouse).digest(window) if d.stream == "offsets"]
    second = 10**9
    samples = [Sample(n * second, 1, None if n in (4, 5) else 1.0) for n in range(9)]
    position = [Sample(n * second, 1, 100.0 if n < 5 else 163.0) for n in range(9)]
    evidence = Evidence(
        "t",
        {},
        "s",
        component="ch",
        acts=(Act("a", "r", 3 * second, 0, "inject", "kill", {}, {}, "r"),),
        inject_ns=3 * second,
        samples={"component/ch/ping": samples, f"position/group/{topic}/0": position},
        digests=(Digest("offsets", "broker", "log", {(topic, "0"): tally(log, row_hash([log]))}), *digests),
        symptoms={f"bronze.{name}": value for name, value in told.items() if name.endswith("_start")},
    )
    mine = {name: {f"{topic}/0": slots[f"{topic}/0"]} for name, slots in evidence.symptoms.items()}
    found = checks.resumed(replace(evidence, symptoms=mine))
    assert found.verdict is verdict, found.why
    assert verdict is Verdict.PASS or "skipped 63 records (delivered 100, went on at 163" in found.why


def test_a_topic_without_records_waits_for_none(client: Client, warehouse: str, group: Group) -> None:
    """Forty seconds without an insert, and then a record that was a second old: it has waited a second."""
    topic = f"market.{uuid4()}"
    now_us = int(client.query("SELECT toUnixTimestamp64Micro(now64(6))").result_rows[0][0])
    for key, seconds_ago in enumerate((50, 10), start=1):
        at_us = now_us - seconds_ago * 10**6
        row = (*group, key, Decimal(1), Decimal(1), 0, at_us - 10**6, topic, 0, key)
        columns = ", ".join((*INSERTED, "ingested_at"))
        values = f"({', '.join(_literal(v) for v in row)}, fromUnixTimestamp64Micro({at_us}))"
        client.command(f"INSERT INTO trades.bronze ({columns}) VALUES {values}")
    found = bronze(warehouse).symptoms(Window({}, {}), now_us - 60 * 10**6, {})
    assert found["ingest_gap_s"][topic] == pytest.approx(1.0)
    assert 10 <= found["ingest_idle_s"][topic] < 70


def _literal(value: Any) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'" if isinstance(value, str) else str(value)


def test_a_table_that_is_not_there_is_an_error_that_names_it(client: Client, warehouse: str) -> None:
    """Not an empty table."""
    with pytest.raises(DriverError, match="nosuch"):
        Hop(warehouse, "append", "trades.nosuch", TRADES).heads()


# ---- bars: the tape, silver and gold must mean the same --------------------------------------------------------------


@pytest.fixture
def ledger() -> Iterator[Tape]:
    """The real tape function behind a server that tells a short tape."""
    body = json.dumps({**TAPE, "heads": {"binance": {"BTCUSDT": 3000}}}).encode()
    with saying(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)) as port:
        yield Tape(f"http://127.0.0.1:{port}", "pipelines.trades.tape:records", TRADES)


BTC: Group = ("binance", "BTCUSDT")
LO, HI = 500, 2400


@pytest.fixture
def made(client: Client, warehouse: str, ledger: Tape) -> Iterator[Bars]:
    """Silver with 3000 trades of the tape, gold with the bars of the first 2500."""
    client.command("TRUNCATE TABLE trades.silver_heads")  # whatever other tests have left
    rows = ledger.rows(BTC, 0, 3000)
    sides = (rows["side"] == "sell").astype(int)
    put(client, BTC, list(zip(*({**rows, "side": sides}[name].tolist() for name in FIELDS), strict=True)))
    upto = {name: column[:2500] for name, column in rows.items()}
    for interval, length_us in bars.INTERVALS_US.items():
        put_bars(client, interval, bars.from_trades(upto, length_us))
    yield Bars(warehouse, "trades.gold", "trades.silver")
    for table in ("gold_raw", "silver_raw", "silver_heads", "bronze"):
        client.command(f"TRUNCATE TABLE trades.{table}")


def put_bars(client: Client, interval: str, made: Columns) -> None:
    for row in zip(*(made[name].tolist() for name in bars.BAR_FIELDS), strict=True):
        bucket_us, *ids = row[:4]
        decimals = [f"toDecimal128('{Decimal(v).scaleb(-8):f}', 8)" for v in row[4:]]
        values = ", ".join(
            [f"'{v}'" for v in (*BTC, interval)] + [str(v) for v in (bucket_us // 10**6, *ids)] + decimals
        )
        names = "venue, symbol, interval, bucket, n, first_id, last_id, open, high, low, close, volume, computed_at"
        client.command(f"INSERT INTO trades.gold_raw ({names}) SELECT {values}, now64(6)")


def compare(gold: Bars, ledger: Tape) -> dict[str, Mapping[Group, Tally]]:
    window = Window({BTC: LO}, {BTC: HI})
    digests = gold.derived(window, ledger)
    assert all((d.stream, d.view) == ("bars", "final") for d in digests)
    return {d.hop: d.groups for d in digests}


def test_intact_bars_are_the_same_in_ledger_source_and_table(made: Bars, ledger: Tape) -> None:
    """Over exactly the ids that the table's bars name, while the last bar still grows."""
    found = compare(made, ledger)
    assert list(found) == ["exchange", "silver", "gold"]
    assert found["exchange"] == found["silver"] == found["gold"]
    assert set(found["gold"]) == {(*BTC, interval) for interval in bars.INTERVALS_US}
    assert found["gold"][*BTC, "1m"].keys > 2
    assert made.heads() == {BTC: 2500}


def test_a_missing_bar_shows_at_the_table_alone(client: Client, made: Bars, ledger: Tape) -> None:
    """The ledger and the source have a bar where the table has none."""
    buckets = made.held(Window({BTC: LO}, {BTC: HI}))
    minutes = sorted(buckets["bucket_us"][buckets["interval"] == "1m"].tolist())
    _delete(client, "1m", minutes[1])
    found = compare(made, ledger)
    assert found["exchange"] == found["silver"]
    assert found["gold"][*BTC, "1m"].keys == found["silver"][*BTC, "1m"].keys - 1


@pytest.mark.parametrize("interval", ["1m", "1d"])
def test_all_bars_of_an_interval_missing_show(client: Client, made: Bars, ledger: Tape, interval: str) -> None:
    """Even when none is left that names any ids."""
    client.command(f"ALTER TABLE trades.gold_raw DELETE WHERE interval = '{interval}'", settings={"mutations_sync": 2})
    found = compare(made, ledger)
    assert (*BTC, interval) not in found["gold"]
    assert (*BTC, interval) in found["silver"]
    assert found["exchange"] == found["silver"]


def test_a_changed_bar_shows_at_the_table_alone(client: Client, made: Bars, ledger: Tape) -> None:
    """By one unit of the last place."""
    client.command(
        "ALTER TABLE trades.gold_raw UPDATE volume = volume + toDecimal128('0.00000001', 8) WHERE interval = '1h'",
        settings={"mutations_sync": 2},
    )
    found = compare(made, ledger)
    assert found["exchange"] == found["silver"]
    differing = {g for g in found["gold"] if found["gold"][g] != found["silver"][g]}
    assert differing == {(*BTC, "1h")}


@pytest.mark.parametrize("change", ["first_id = 0", "last_id = 1000000000000000", "first_id = 1000000000000000"])
def test_a_bar_of_ids_that_never_were_shows_at_the_table_alone(
    client: Client, made: Bars, ledger: Tape, change: str
) -> None:
    """Nothing is made of them: neither a trade 0, nor one that silver could not have yet, nor bars of other ids."""
    buckets = made.held(Window({BTC: LO}, {BTC: HI}))
    minutes = sorted(buckets["bucket_us"][buckets["interval"] == "1m"].tolist())
    client.command(
        f"ALTER TABLE trades.gold_raw UPDATE {change} WHERE interval = '1m'"
        f" AND toUnixTimestamp(bucket) = {minutes[1] // 10**6}",
        settings={"mutations_sync": 2},
    )
    found = compare(made, ledger)
    assert found["exchange"] == found["silver"]
    assert {g for g in found["exchange"] if found["gold"].get(g) != found["silver"][g]} == {(*BTC, "1m")}
    assert abs(found["gold"][*BTC, "1m"].keys - found["silver"][*BTC, "1m"].keys) <= 1


# ---- the end of a night: all that is kept ----------------------------------------------------------------------------


def history(warehouse: str, made: Bars, ledger: Tape) -> tuple[Verdict, str]:
    """What a night's end says of silver and gold."""
    hops = {"exchange": ledger, "silver": silver(warehouse), "gold": made}
    here: Any = SimpleNamespace(findings=[])
    close_night.fn(here, stack_of(live(hops, visible="silver")))
    (found,) = here.findings
    return found.verdict, found.why


CLOSED = "interval = '1m' AND first_id = (SELECT min(first_id) FROM trades.gold_raw WHERE interval = '1m')"


def test_the_whole_history_of_bars_is_right(warehouse: str, made: Bars, ledger: Tape) -> None:
    """As far as gold shows it."""
    found = history(warehouse, made, ledger)
    assert found == (Verdict.PASS, "all 3,000 records are right, from the first on")


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (f"UPDATE high = high + toDecimal128('0.00000001', 8) WHERE {CLOSED}", "gold has at least 1 bar unlike"),
        (f"DELETE WHERE {CLOSED}", "gold has 1 bar fewer than exchange"),
        (f"UPDATE first_id = 0 WHERE {CLOSED}", "gold has at least 1 bar unlike"),
    ],
)
def test_a_bar_closed_long_ago_is_judged_by_the_nights_history(
    client: Client, warehouse: str, made: Bars, ledger: Tape, command: str, why: str
) -> None:
    """No run's window reaches back to it. The hop that differs is the guilty one."""
    client.command(f"ALTER TABLE trades.gold_raw {command}", settings={"mutations_sync": 2})
    verdict, told = history(warehouse, made, ledger)
    assert (verdict, told.startswith(why)) == (Verdict.FAIL, True), told


def test_a_trade_0_that_never_was_is_found_in_silver(client: Client, warehouse: str, made: Bars, ledger: Tape) -> None:
    """It lies below every window."""
    put(client, BTC, trades([0]))
    verdict, told = history(warehouse, made, ledger)
    assert (verdict, "silver (raw) has 1 trade too many: binance/BTCUSDT (1)" in told) == (Verdict.FAIL, True), told


def test_a_trade_lost_before_silver_shows_at_the_source(client: Client, made: Bars, ledger: Tape) -> None:
    """The source's bars lack it; the report can name the hop."""
    client.command("ALTER TABLE trades.silver_raw DELETE WHERE trade_id = 1000", settings={"mutations_sync": 2})
    found = compare(made, ledger)
    assert found["silver"] != found["exchange"]
    assert found["gold"] == found["exchange"]


def test_a_bar_told_twice_counts_twice_in_the_table_and_once_in_the_source(made: Bars, ledger: Tape) -> None:
    """A view that repeats a bar is seen."""
    window = Window({BTC: LO}, {BTC: HI})
    twice = Bars(
        made.url, "(SELECT * FROM trades.gold UNION ALL SELECT * FROM trades.gold WHERE interval = '5m')", made.source
    )
    held = twice.held(window)
    source, table = (d.groups[*BTC, "5m"] for d in twice.digests(held))
    assert table.rows == 2 * source.rows == 2 * table.keys
    assert bars.ledgers(ledger, held, window).groups[*BTC, "5m"] == source


def _delete(client: Client, interval: str, bucket_us: int) -> None:
    client.command(
        f"ALTER TABLE trades.gold_raw DELETE WHERE interval = '{interval}'"
        f" AND toUnixTimestamp(bucket) = {bucket_us // 10**6}",
        settings={"mutations_sync": 2},
    )

"""Tables as hops and replication slots as cursors: a real Postgres, read by COPY, holds what numpy computes."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg.sql import SQL
from psycopg.types.json import Json, Jsonb

from compose.servers import postgres as server
from gameday.drivers.postgres import Cursor, Hop, Lag, table
from gameday.errors import DriverError
from gameday.model import Columns, Digest, Evidence, Group, Shards, Verdict, Window
from gameday.records import gathered
from gameday.records.declaration import Stream, stream
from gameday.records.heads import Places, totals
from gameday.records.types import INT64_MAX, INT64_MIN, parse
from gameday.system.polling import until
from gameday.verdict import checks
from gameday.verdict.ahead import told
from tests.trades import live, stack_of

NUMBERS = count()
PLACES = {"hops": ["a", "b"], "visible": "b", "path": ["web"]}
BERLIN: Group = ("berlin",)
PARIS: Group = ("paris",)
WINDOW = Window({BERLIN: 0, PARIS: 0}, {BERLIN: 100, PARIS: 100})


def declared(name: str = "orders", **given: Any) -> Stream:
    mistakes: list[str] = []
    made = stream(name, {**PLACES, **given}, ["a", "b"], mistakes)
    assert made is not None, mistakes
    return made


ORDERS = declared(
    key=["shop", "n"], group=["shop"], sequence="n", fields={"total": "decimal(2)", "note": "text"}, gapless=True
)
RECORDS = [
    (shop, n, f"{n}.50", None if n % 7 == 0 else f"note {n}") for shop in ("berlin", "paris") for n in range(1, 101)
]


@pytest.fixture(scope="module")
def here(database: str) -> Iterator[psycopg.Connection]:
    """A connection to a database of this module's, each statement on its own."""
    server.create_database(database, "hops")
    with psycopg.connect(f"{database.rpartition('/')[0]}/hops", autocommit=True) as connection:
        connection.execute("CREATE TYPE side AS ENUM ('sell', 'buy')")
        connection.execute("CREATE DOMAIN money2 AS numeric")
        yield connection


@pytest.fixture
def at(database: str) -> str:
    return f"{database.rpartition('/')[0]}/hops"


@pytest.fixture
def orders(here: psycopg.Connection) -> str:
    """A table of its own for each test, with all records."""
    name = f"orders{next(NUMBERS)}"
    here.execute(SQL(f"CREATE TABLE {name} (shop text, n int8, total numeric, note text)"))
    put(here, name, RECORDS)
    return name


def put(here: psycopg.Connection, name: str, rows: Sequence[tuple[Any, ...]]) -> None:
    with here.cursor() as cursor, cursor.copy(SQL(f"COPY {name} FROM STDIN")) as copy:
        for row in rows:
            copy.write_row(row)


def do(here: psycopg.Connection, sql: str) -> None:
    here.execute(SQL(sql))


def columns(of: Stream, rows: Sequence[Sequence[Any]]) -> Columns:
    """Rows in the order of the stream's fields, values as JSON has them."""
    found: dict[str, np.ndarray] = {}
    for (name, kind), values in zip(of.types.items(), zip(*rows, strict=True), strict=True):
        held = [kind.canonical(value) for value in values]
        found[name] = np.array(held, dtype=object if None in held or not kind.whole else np.int64)
    return found


def right(rows: Sequence[Sequence[Any]] = RECORDS, of: Stream = ORDERS) -> Digest:
    """What numpy computes, by the first field."""
    groups = dict.fromkeys((str(row[0]),) for row in rows)
    return Digest(
        of.name, "a", "final", {g: of.tally(columns(of, [row for row in rows if str(row[0]) == g[0]])) for g in groups}
    )


def verdicts(hop: Hop, rows: Sequence[Sequence[Any]] = RECORDS, window: Window = WINDOW) -> dict[str, Verdict]:
    """What the checks say of the hop beside the right records."""
    evidence = Evidence(
        "t", {}, "s", window=window, digests=(right(rows), *hop.digest(window)), ledger="a", visible="b"
    )
    return {
        check.__name__: check(evidence).verdict for check in (checks.no_loss, checks.no_duplicates, checks.unchanged)
    }


ALL_WELL = dict.fromkeys(("no_loss", "no_duplicates", "unchanged"), Verdict.PASS)


# ---- types -----------------------------------------------------------------------------------------------------------

TIMES = ["2026-11-29T22:00:00.123456Z", "1970-01-01T00:00:00Z", "1901-01-01T00:00:00.000001Z", "2261-12-31T23:59:59Z"]
UUIDS = ["00000000-0000-0000-0000-000000000000", "FFFFFFFF-ffff-FFFF-ffff-ffffffffffff", str(uuid.UUID(int=7))]
DECIMALS = ["92233720368.54775807", "-92233720368.54775808", "0.00000001", "1.100000000000", "-0"]

TYPED: Sequence[tuple[str, str, Sequence[Any]]] = [
    ("int", "int8", [INT64_MIN, -1, 0, INT64_MAX]),
    ("int", "int2", [-32768, 32767, 0]),
    ("int", "int4", [-(2**31), 2**31 - 1]),
    ("int", "numeric", [INT64_MIN, INT64_MAX, 12]),
    ("int", "text", ["-007", "12", "-0"]),
    ("decimal(8)", "numeric", DECIMALS),
    ("decimal(8)", "numeric(30, 10)", DECIMALS),
    ("decimal(8)", "text", DECIMALS),
    ("decimal(2)", "money2", ["19.99", "-0.01", "100"]),
    ("decimal(3)", "int8", [INT64_MAX // 1000, -5]),
    ("decimal(18)", "numeric", ["9.223372036854775807", "-9.223372036854775808", "0.000000000000000001"]),
    ("float(15)", "float8", [0.1, -0.0, 5e-324, 1.7976931348623157e308, "nan", "-inf"]),
    ("float(6)", "float4", [0.5, 3.4028235e38, "inf"]),
    ("float(3)", "numeric", ["12345", "-0.00012345"]),
    ("text", "text", ["", " ", "é€😀", "'\\\"{},", "NULL"]),
    ("text", "varchar(40)", ["x", "tab\tand\nline"]),
    ("text", "side", ["buy", "sell"]),
    ("bytes", "bytea", [b"", b"\x00\xff'\\", b"plain"]),
    ("json", "jsonb", [{"b": [1, 2.5, None], "a": {"é": "x"}}, [], {"n": 100.0}]),
    ("json", "json", [{"b": 1, "a": 2}, ["x" * 300]]),
    ("uuid", "uuid", UUIDS),
    ("uuid", "text", UUIDS),
    ("bool", "bool", [True, False]),
    ("bool", "int4", [0, 1]),
    ("bool", "text", ["TRUE", "f", "1"]),
    ("time", "timestamptz", TIMES),
    ("time", "timestamp", TIMES),
    ("time", "date", ["2026-11-29T00:00:00Z", "1969-12-31T00:00:00Z"]),
    ("time(us)", "timestamptz", [1_764_457_200_123_456, -1]),
    ("time(ms)", "int8", [1_764_457_200_123, -1]),
    ("time(s)", "text", ["1764457200.123456", "0"]),
    ("time(s)", "numeric", ["1764457200.5", "1764457200"]),
]
"""A field's type, its column's, and values as JSON has them."""


def written(kind: str, column: str, value: Any) -> Any:
    """A value as its column takes it."""
    if value is None or isinstance(value, bytes | str):
        return value
    if column == "timestamptz":
        return parse("time").shown(value)
    if kind == "json":
        return Jsonb(value) if column == "jsonb" else Json(value)
    return value


def test_a_table_of_every_type_holds_what_numpy_computes(here: psycopg.Connection, at: str) -> None:
    """Digest and rows, with every type's extremes and NULL; values of one row are independent of each other."""
    names = [f"f{n}" for n in range(len(TYPED))]
    typed = declared(
        key=["shop", "n"], group=["shop"], sequence="n", fields={f: t[0] for f, t in zip(names, TYPED, strict=True)}
    )
    listed = ", ".join(f"{name} {column}" for name, (_, column, _) in zip(names, TYPED, strict=True))
    do(here, f"CREATE TABLE typed (shop text, n int8, {listed})")
    rows = []
    for n in range(1, 8):
        values = [[*told, None][n % (len(told) + 1)] for _, _, told in TYPED]
        rows.append(("berlin", n, *values))
        stored = [written(kind, column, v) for (kind, column, _), v in zip(TYPED, values, strict=True)]
        here.execute(SQL(f"INSERT INTO typed VALUES ({', '.join(['%s'] * (2 + len(names)))})"), ("berlin", n, *stored))
    hop = Hop(at, "once", typed, "typed", name="b")
    window = Window({BERLIN: 0}, {BERLIN: 100})
    (digest,) = hop.digest(window)
    held = hop.rows(BERLIN, 0, 100)
    expected = columns(typed, rows)
    for name, (kind, column, _) in zip(names, TYPED, strict=True):
        assert held[name].tolist() == expected[name].tolist(), (kind, column)
    assert (digest.hop, digest.view, digest.groups) == ("b", "final", {BERLIN: typed.tally(expected)})
    assert digest.groups[BERLIN].key_sum == typed.tally(expected).key_sum
    assert hop.symptoms(window, 0, {}) == {}


def test_a_database_of_another_encoding_has_the_same_hashes(here: psycopg.Connection, at: str) -> None:
    """A text's hash is of its UTF-8, wherever it lies."""
    do(here, "CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    place = f"{at.rpartition('/')[0]}/latin"
    rows = [("münchen", 1, "1.00", "prêt"), ("münchen", 2, "2.00", None)]
    with psycopg.connect(place, autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (shop text, n int8, total numeric, note text)")
        put(connection, "orders", rows)
    hop = Hop(place, "once", ORDERS, "orders")
    assert hop.digest(Window({}, {("münchen",): 9}))[0].groups == right(rows).groups
    assert hop.heads() == {("münchen",): 2}


def test_what_does_not_fit_its_type_is_left_out_counted_and_shown(here: psycopg.Connection, at: str) -> None:
    """With the record, the field and the reason; a needed field that is NULL too."""
    do(here, "CREATE TABLE texts (shop text, n int8, total text, note text, at timestamptz)")
    rows = [
        ("berlin", 1, "1.50", "x", "2026-01-01Z"),
        ("berlin", 2, "free", "x", "2026-01-01Z"),
        ("berlin", 3, None, "x", "2026-01-01Z"),
        ("berlin", 4, "1.555", "x", "2026-01-01Z"),
        ("berlin", 5, "5", "x", None),
        ("berlin", 6, "6", "x", "infinity"),
    ]
    put(here, "texts", rows)
    timed = declared(
        key=["shop", "n"],
        group=["shop"],
        sequence="n",
        time="at",
        fields={"total": "decimal(2)", "note": "text", "at": "time"},
    )
    hop = Hop(at, "append", timed, "texts", name="b")
    window = Window({}, {BERLIN: 9})
    when = "2026-01-01T00:00:00Z"
    good = columns(timed, [("berlin", 1, "1.50", "x", when), ("berlin", 3, None, "x", when)])
    assert hop.digest(window)[0].groups == {BERLIN: timed.tally(good)}
    assert hop.rows(BERLIN, 0, 9)["total"].tolist() == [150, None]
    told = hop.symptoms(window, 0, {})["malformed"]
    assert told["rows"] == 4
    assert told["first"] == [
        "texts: shop berlin, n 2: total 'free' is no plain decimal (decimal(2))",
        "texts: shop berlin, n 4: total '1.555' has more than 2 places (decimal(2))",
        "texts: shop berlin, n 5: at is NULL",
    ]


def test_a_column_that_would_have_to_be_rounded_is_an_error_with_a_remedy(at: str, orders: str) -> None:
    """No digest is made of it."""
    hop = Hop(at, "append", ORDERS, orders, fields={"total": "total::float8"}, name="b")
    with pytest.raises(DriverError, match=r'hops\.b\.fields: "total" is float8.*Remedy: float\(15\) as its type'):
        hop.digest(WINDOW)


# ---- damage ----------------------------------------------------------------------------------------------------------


def test_what_is_right_is_found_to_be(at: str, orders: str) -> None:
    """By every check, and only what lies in (lo, hi] counts."""
    hop = Hop(at, "once", ORDERS, orders, name="b")
    assert verdicts(hop) == ALL_WELL
    some = Window({BERLIN: 20, PARIS: 99}, {BERLIN: 90, PARIS: 100})
    inside = [row for row in RECORDS if some.lo[row[0],] < row[1] <= some.hi[row[0],]]
    assert verdicts(hop, inside, some) == ALL_WELL
    assert hop.digest(Window({}, {})) == (Digest("orders", "b", "final", {}),)
    assert hop.digest(Window({}, {("nosuch",): 5}))[0].groups == {}


DAMAGE = {
    "lost": ("DELETE FROM {} WHERE shop = 'paris' AND n = 50", "no_loss"),
    "doubled": ("INSERT INTO {} SELECT * FROM {} WHERE shop = 'paris' AND n = 50", "no_duplicates"),
    "changed by one unit": ("UPDATE {} SET total = total + 0.01 WHERE n = 50", "unchanged"),
    "NULL that became ''": ("UPDATE {} SET note = '' WHERE n = 7", "unchanged"),
    "'' that became NULL": ("UPDATE {} SET note = NULL WHERE n = 50", "unchanged"),
    "with a blank more": ("UPDATE {} SET note = note || ' ' WHERE n = 50", "unchanged"),
    "one lost and a foreign one in its place": (
        "UPDATE {} SET shop = 'berlin' WHERE shop = 'paris' AND n = 1",
        "no_loss",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_found(here: psycopg.Connection, at: str, orders: str, kind: str) -> None:
    """One record of two hundred, by the check whose promise it breaks."""
    sql, check = DAMAGE[kind]
    do(here, sql.replace("{}", orders))
    assert verdicts(Hop(at, "once", ORDERS, orders, name="b"))[check] is Verdict.FAIL


def test_where_records_may_be_there_again_a_changed_repeat_is_a_conflict(
    here: psycopg.Connection, at: str, orders: str
) -> None:
    """An equal one is not; rows are told once, and all where each was promised once."""
    do(here, f"INSERT INTO {orders} SELECT * FROM {orders} WHERE n <= 3")
    do(here, f"INSERT INTO {orders} VALUES ('paris', 5, 999, NULL)")
    hop = Hop(at, "append", ORDERS, orders, name="b")
    (digest,) = hop.digest(WINDOW)
    assert digest.view == "raw"
    figures = {g: (t.rows, t.keys, t.conflicts) for g, t in digest.groups.items()}
    assert figures == {BERLIN: (103, 100, 0), PARIS: (104, 100, 1)}
    assert hop.rows(PARIS, 1, 5)["n"].tolist() == [2, 3, 4, 5, 5]
    assert Hop(at, "once", ORDERS, orders).rows(BERLIN, 1, 4)["n"].tolist() == [2, 2, 3, 3, 4]


def test_a_foreign_group_and_a_record_beyond_the_head_are_seen_in_the_heads(
    here: psycopg.Connection, at: str, orders: str
) -> None:
    """The digest of a window has neither."""
    put(here, orders, [("atlantis", 3, "1.00", None), ("paris", 4_000, "1.00", None)])
    hop = Hop(at, "once", ORDERS, orders, name="b")
    assert hop.heads() == {("atlantis",): 3, BERLIN: 100, PARIS: 4_000}
    stack = stack_of(live({"a": None, "b": hop}, ORDERS))
    assert "b shows id 3 of atlantis, a has had no such group" in told(stack, {"b": {("atlantis",): (3, None)}})[0]
    assert verdicts(hop) == ALL_WELL


def test_keys_that_are_not_the_sequence_are_told_apart(here: psycopg.Connection, at: str) -> None:
    """A key of its own, of two fields, repeated under another number."""
    made = declared("events", key=["id", "line"], sequence="n", fields={"id": "uuid", "line": "int"})
    do(here, "CREATE TABLE events (id uuid, line int4, n int8)")
    ids = [str(uuid.UUID(int=n)) for n in (1, 1, 2, 2)]
    rows = [(id_, line, n) for n, (id_, line) in enumerate(zip(ids, (1, 2, 1, 1), strict=True), start=1)]
    put(here, "events", rows)
    (digest,) = Hop(at, "append", made, "events").digest(Window({(): 0}, {(): 9}))
    expected = made.tally(columns(made, rows))
    assert (digest.groups, expected.keys, expected.conflicts) == ({(): expected}, 3, 1)
    assert digest.groups[()].key_sum == expected.key_sum


def test_beyond_what_memory_holds_a_digest_is_the_same(
    here: psycopg.Connection, at: str, orders: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows lie in files by their key, so that a repeat is found however far it is from the first."""
    do(here, f"INSERT INTO {orders} SELECT * FROM {orders} WHERE n <= 30")
    hop = Hop(at, "append", ORDERS, orders)
    whole = hop.digest(WINDOW)
    monkeypatch.setattr(gathered, "ROWS_HELD_MAX", 50)
    monkeypatch.setattr(table, "DIGEST_WITHIN_S", 60.0)
    monkeypatch.setattr("gameday.drivers.postgres.session.PIECE_BYTES", 2_000)
    assert hop.digest(WINDOW) == whole
    assert whole[0].groups[PARIS].keys == 100


def test_ten_thousand_groups_are_one_question(here: psycopg.Connection, at: str) -> None:
    """The window is a table of bounds by group, not a condition a group; whatever is in a group's name."""
    do(here, "CREATE TABLE many (shop text, n int8, total numeric, note text)")
    do(
        here,
        "INSERT INTO many SELECT format('S''\\\"{,}%s', i % 10000), i / 10000 + 1, 1, NULL "
        "FROM generate_series(0, 29999) i",
    )
    groups: list[Group] = [(f"S'\\\"{{,}}{n}",) for n in range(10_000)]
    window = Window(dict.fromkeys(groups, 1), {group: 2 + n % 2 for n, group in enumerate(groups)})
    (digest,) = Hop(at, "once", ORDERS, "many").digest(window)
    assert [digest.groups[group].rows for group in groups] == [1 + n % 2 for n in range(10_000)]


TWO = declared("desks", key=["venue", "desk", "n"], group=["venue", "desk"], sequence="n", fields={"desk": "int"})
TOTALLED: Mapping[str, Mapping[str, Any]] = {
    "a table of heads": {"table": "none_such", "heads_table": "tops_of_many"},
    "a small table": {"table": "tops_of_many"},
    "its recent rows": {"table": "tops_of_many", "recent": "n > 2"},
    "parts, which have some groups in common": {"part": [{"table": "tops_of_many"}, {"table": "more_of_many"}]},
}


@pytest.mark.parametrize("given", TOTALLED.values(), ids=list(TOTALLED))
@pytest.mark.parametrize("shards", [Shards((0,), 21), Shards((), 64), Shards((1, 0), 1)], ids=str)
def test_the_heads_of_many_groups_are_added_up(
    here: psycopg.Connection, at: str, given: Mapping[str, Any], shards: Shards
) -> None:
    """By shard, as they would be one by one, and with the same marks; whatever the groups are called, however often
    they are there and however high their heads are."""
    if "heads_table" in given:
        do(here, "CREATE TABLE IF NOT EXISTS none_such (venue text, desk int4, n int8)")
    for name in ("tops_of_many", "more_of_many"):
        do(here, f"DROP TABLE IF EXISTS {name}; CREATE TABLE {name} (venue text, desk int4, n int8)")
    names = ["a/b", "it's", "back\\slash", "ü", "", "%", "#1", None]
    put(here, "tops_of_many", [(name, n or None, n) for n, name in enumerate(names)])
    put(here, "tops_of_many", [("west", n % 1_000, (1 << 60) + n) for n in range(2_000)])
    put(here, "more_of_many", [("west", n, 3 * (1 << 60) + n) for n in range(900, 1_100)])
    hop = Hop(at, "once", TWO, **given)
    heads = hop.heads()
    assert len(heads) >= 1_000
    assert hop.totals(shards) == totals(heads, Places(shards))
    put(here, "tops_of_many", [("west", 7, 1 << 61), ("new", 1, 5)])
    again = hop.totals(shards)
    assert again == totals(hop.heads(), Places(shards)) != totals(heads, Places(shards))


def test_heads_that_an_index_finds_are_added_up(here: psycopg.Connection, at: str, large: str) -> None:
    """Without a look at all rows."""
    do(here, f"CREATE INDEX large_totals ON {large} (shop, n)")
    try:
        hop, shards = Hop(at, "once", ORDERS, large), Shards((), 3)
        assert hop.totals(shards) == totals(SHOPS, Places(shards))
    finally:
        do(here, "DROP INDEX large_totals")


# ---- where records lie -----------------------------------------------------------------------------------------------


def test_quoted_and_qualified_names_views_partitions_and_queries_are_read(
    here: psycopg.Connection, at: str, orders: str
) -> None:
    """The same records, wherever they lie; a column whose name is a word of SQL needs no more than its name."""
    do(here, 'CREATE SCHEMA shop; CREATE TABLE shop."Order ""Items" (LIKE ' + orders + ")")
    do(here, f'INSERT INTO shop."Order ""Items" SELECT * FROM {orders}')
    do(here, f'CREATE TABLE "Orders" AS SELECT shop, n AS "order", total * 100 AS cents, note FROM {orders}')
    do(here, f"CREATE VIEW seen AS SELECT * FROM {orders}")
    do(here, "CREATE TABLE parted (shop text, n int8, total numeric, note text) PARTITION BY LIST (shop)")
    do(here, "CREATE TABLE parted_b PARTITION OF parted FOR VALUES IN ('berlin')")
    do(here, f"CREATE TABLE parted_rest PARTITION OF parted DEFAULT; INSERT INTO parted SELECT * FROM {orders}")
    elsewhere = {"n": '"order"', "total": "cents / 100"}
    hops = [
        Hop(at, "once", ORDERS, 'shop."Order ""Items"', name="b"),
        Hop(at, "once", ORDERS, '"Orders"', fields=elsewhere, name="b"),
        Hop(at, "once", ORDERS, "seen", name="b"),
        Hop(at, "once", ORDERS, "public.parted", name="b"),
        Hop(at, "once", ORDERS, query=f"WITH x AS (SELECT * FROM {orders}) SELECT * FROM x -- all\n;", name="b"),
    ]
    for hop in hops:
        assert verdicts(hop) == ALL_WELL
        assert hop.heads() == {BERLIN: 100, PARIS: 100}
    named = declared(key=["shop", "order"], group=["shop"], sequence="order", fields={"note": "text"})
    (digest,) = Hop(at, "once", named, '"Orders"').digest(WINDOW)
    assert digest.groups[PARIS].rows == 100


def test_only_what_belongs_to_the_stream_is_read(here: psycopg.Connection, at: str, orders: str) -> None:
    """`where` is of the table's own columns."""
    do(here, f"ALTER TABLE {orders} ADD deleted bool NOT NULL DEFAULT false")
    do(here, f"INSERT INTO {orders} SELECT shop, n, 0, NULL, true FROM {orders}")
    hop = Hop(at, "once", ORDERS, orders, where="NOT deleted", name="b")
    assert verdicts(hop) == ALL_WELL
    assert len(hop.rows(PARIS, 0, 100)["n"]) == 100


@pytest.mark.parametrize(
    ("kind", "column", "values"),
    [
        ("int", "int4", ["7", "-1"]),
        ("int", "text", ["7", "-1"]),
        ("int", "numeric", ["7", "-1"]),
        ("uuid", "uuid", UUIDS[:2]),
        ("uuid", "text", UUIDS[:2]),
        ("text", "side", ["buy", "sell"]),
        ("text", "char(9)", ["a b", "c"]),
        ("text", "varchar", ["", "NULL"]),
    ],
    ids=str,
)
def test_groups_of_any_type_are_told_by_their_texts(
    here: psycopg.Connection, at: str, kind: str, column: str, values: list[str]
) -> None:
    """In window, heads and digest; a text that can't be one of the type is a group without rows."""
    name = f"grouped{next(NUMBERS)}"
    do(here, f"CREATE TABLE {name} (g {column}, n int8); CREATE INDEX ON {name} (g, n)")
    put(here, name, [(value, n) for value in values for n in range(1, 4)])
    made = declared("grouped", key=["g", "n"], group=["g"], sequence="n", fields={"g": kind})
    hop = Hop(at, "once", made, name)
    groups = [(value.lower() if kind == "uuid" else value,) for value in values]
    assert hop.heads() == dict.fromkeys(groups, 3)
    (digest,) = hop.digest(Window({}, {**dict.fromkeys(groups, 2), ("no such",): 9}))
    assert {group: tally.rows for group, tally in digest.groups.items()} == dict.fromkeys(groups, 2)
    assert hop.rows(groups[0], 0, 9)["g"].tolist() == [made.types["g"].canonical(groups[0][0])] * 3


@pytest.mark.parametrize(
    ("kind", "column"),
    [
        ("time", "timestamptz"),
        ("time", "timestamp"),
        ("time(ms)", "int8"),
        ("time(s)", "text"),
        ("time(us)", "timestamptz"),
    ],
    ids=str,
)
def test_what_no_number_counts_goes_by_its_time(here: psycopg.Connection, at: str, kind: str, column: str) -> None:
    """Windows and heads are of microseconds, and keys tell records of one time apart; a time without an end is none."""
    made = declared("events", key=["id"], group=["site"], time="happened", fields={"id": "uuid", "happened": kind})
    name = f"events{next(NUMBERS)}"
    do(here, f"CREATE TABLE {name} (site text, id uuid, happened {column}); CREATE INDEX ON {name} (site, happened)")
    start_ms = 1_764_457_200_123
    rows = [("web", str(uuid.UUID(int=n)), start_ms + n // 2) for n in range(1, 21)]
    as_iso = {n: parse("time").shown(n * 1000) for _, _, n in rows}
    forms: dict[str, Callable[[int], Any]] = {
        "time(ms)": lambda ms: ms,
        "time(s)": lambda ms: f"{ms / 1000:.3f}",
        "time(us)": lambda ms: ms * 1000,
    }
    told = [(site, id_, forms.get(kind, as_iso.get)(ms)) for site, id_, ms in rows]
    stored = [
        (site, id_, as_iso[ms] if column in ("timestamptz", "timestamp") else forms[kind](ms)) for site, id_, ms in rows
    ]
    put(here, name, stored)
    if column in ("timestamptz", "timestamp"):
        put(here, name, [("web", str(uuid.UUID(int=99)), "infinity")])
    hop = Hop(at, "append", made, name)
    start_us = start_ms * 1000
    assert hop.heads() == {("web",): start_us + 10_000}
    for lo, hi, first, last in ((start_us + 2_000, start_us + 9_999, 6, 19), (-(1 << 62), start_us + 500, 1, 1)):
        window = Window({("web",): lo}, {("web",): hi})
        inside = [row for row, (_, id_, _) in zip(told, rows, strict=True) if first <= uuid.UUID(id_).int <= last]
        (digest,) = hop.digest(window)
        assert digest.groups == {("web",): made.tally(columns(made, inside))}
        assert len(hop.rows(("web",), lo, hi)["id"]) == len(inside)


def test_parts_of_several_tables_are_one_stream_as_of_one_moment(
    here: psycopg.Connection, at: str, orders: str
) -> None:
    """Somebody moves all records from one table to the other and back, and writes new ones: no digest has them twice,
    or not at all."""
    other = f"other{next(NUMBERS)}"
    do(here, f"CREATE TABLE {other} (store text, number int8, cents numeric, note text)")
    parts: list[dict[str, Any]] = [
        {"table": orders},
        {"table": other, "fields": {"shop": "store", "n": "number", "total": "cents / 100"}},
    ]
    hop = Hop(at, "once", ORDERS, part=parts, name="b")
    ended = threading.Event()

    def move() -> None:
        with psycopg.connect(at, autocommit=True) as connection:
            for n in count(101):
                if ended.is_set():
                    return
                for source, to, values in (
                    (orders, other, "shop, n, total * 100, note"),
                    (other, orders, "store, number, cents / 100, note"),
                ):
                    gone = f"WITH gone AS (DELETE FROM {source} RETURNING *)"
                    connection.execute(SQL(f"{gone} INSERT INTO {to} SELECT {values} FROM gone"))
                put(connection, orders, [("paris", n, "1.00", None)])

    mover = threading.Thread(target=move, daemon=True)
    mover.start()
    try:
        for _ in range(15):
            assert verdicts(hop) == ALL_WELL
            rows = hop.rows(PARIS, 0, 100)
            assert rows["n"].tolist() == list(range(1, 101))
    finally:
        ended.set()
        mover.join(30)
    assert hop.heads()[PARIS] > 100


# ---- heads -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large(here: psycopg.Connection) -> str:
    """A table that nobody would read whole twenty times a second; in it what can't be a group or an id."""
    do(here, "CREATE TABLE large (shop text, n numeric, total numeric, note text)")
    do(here, "INSERT INTO large SELECT 's' || i % 5, i / 5 + 1, 1, NULL FROM generate_series(0, 59999) i")
    do(here, "INSERT INTO large VALUES (NULL, 7), ('s1', NULL), ('s2', 'NaN'), ('s3', 1e30)")
    do(here, "ANALYZE large")
    return "large"


SHOPS: Mapping[Group, int] = {(f"s{n}",): 12_000 for n in range(5)}


def test_the_heads_of_a_large_table_are_found_by_its_index_or_not_at_all(
    here: psycopg.Connection, at: str, large: str
) -> None:
    """Without an index the error says what would help, also when a view hides the table; with one, it is used."""
    hop = Hop(at, "once", ORDERS, large, name="b")
    remedy = (
        r'hops\.b: finding the newest records would read all of large again and again\. Remedy: an index on \("shop", '
    )
    with pytest.raises(DriverError, match=remedy):
        hop.heads()
    do(here, f"CREATE INDEX large_heads ON {large} (shop, n); CREATE VIEW behind AS SELECT * FROM {large}")
    try:
        assert hop.heads() == SHOPS
        view = Hop(at, "once", ORDERS, "behind")
        assert view.heads() == SHOPS
        for searched in (hop._search, view._search):
            plan = " ".join(str(line) for (line,) in here.execute(SQL(f"EXPLAIN {searched}".replace("%", "%%"))))
            assert "Seq Scan" not in plan
    finally:
        do(here, "DROP INDEX large_heads; DROP VIEW behind")


def test_heads_come_from_a_small_table_or_from_the_recent_rows(here: psycopg.Connection, at: str, large: str) -> None:
    """What had a head keeps it when nothing of it is recent any more."""
    do(here, "CREATE TABLE tops AS SELECT shop, max(n) AS n FROM large WHERE n < 1e20 GROUP BY shop")
    assert Hop(at, "once", ORDERS, large, heads_table="tops").heads() == SHOPS
    hop = Hop(at, "once", ORDERS, large, recent="n > 11999 AND n < 1e20")
    assert hop.heads() == SHOPS
    do(here, "DELETE FROM large WHERE shop = 's4' AND n > 11999")
    assert hop.heads() == SHOPS
    do(here, "INSERT INTO large VALUES ('s4', 12000, 1, NULL)")


def test_heads_follow_what_comes_and_a_server_that_was_restarted(
    here: psycopg.Connection, at: str, orders: str
) -> None:
    """A connection that the server has ended is no trouble of its own."""
    hop = Hop(at, "once", ORDERS, orders)
    assert hop.heads()[PARIS] == 100
    put(here, orders, [("paris", 101, "1.00", None)])
    assert hop.heads()[PARIS] == 101
    (idle,) = hop._kept._idle
    ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'gameday'"
    do(here, ended)
    until(idle.ended, within_s=10, what="the end of the connection")
    assert hop.heads()[PARIS] == 101


# ---- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"table": "nosuch"}, r'hops\.b: Postgres at .*relation "nosuch" does not exist\. Remedy: the table\'s name'),
        ({"fields": {"total": "prize"}}, r'column "prize" does not exist.*Remedy: `fields` says where'),
        ({"where": "n >"}, r"syntax error.*Remedy: `fields`, `where` and `query` are SQL"),
        ({"fields": {"total": "note::numeric"}}, r"invalid input syntax for type numeric.*Remedy: leave the cast out"),
        (
            {"query": "SELECT pg_sleep(9)::text AS shop, 1 AS n, 1 AS total, '' AS note", "table": None},
            "no answer within 1 s|canceling statement due to statement timeout",
        ),
    ],
    ids=["table", "column", "syntax", "cast", "slow"],
)
def test_what_the_server_refuses_is_told_with_the_hop_and_a_remedy(
    at: str, orders: str, change: dict[str, Any], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And never with the password."""
    monkeypatch.setattr(table, "DIGEST_WITHIN_S", 1.0 if "query" in change else 60.0)
    hop = Hop(**{"dsn": at, "kind": "once", "stream": ORDERS, "table": orders, "name": "b", **change})
    with pytest.raises(DriverError, match=told) as caught:
        hop.digest(WINDOW)
    assert caught.value.definite
    assert "for tests" not in str(caught.value)


def test_a_right_that_lacks_is_told(here: psycopg.Connection, at: str, orders: str) -> None:
    """With what to grant; the driver changes nothing, whatever the right to do so."""
    do(here, "CREATE ROLE orders_reader LOGIN PASSWORD 'only-for-looks'")
    hop = Hop(f"postgresql://orders_reader:only-for-looks@{at.rpartition('@')[2]}", "once", ORDERS, orders, name="b")
    with pytest.raises(
        DriverError, match=f"permission denied for table {orders}. Remedy: grant its user SELECT"
    ) as caught:
        hop.digest(WINDOW)
    assert "only-for-looks" not in str(caught.value)
    writing = Hop(at, "once", ORDERS, orders, fields={"n": "nextval('counted')"}, name="b")
    do(here, "CREATE SEQUENCE counted")
    with pytest.raises(DriverError, match="read-only transaction"):
        writing.digest(WINDOW)


# ---- slots -----------------------------------------------------------------------------------------------------------


@contextmanager
def slot(here: psycopg.Connection, name: str, made: str) -> Iterator[str]:
    here.execute(SQL(f"SELECT {made}"))
    try:
        yield name
    finally:
        here.execute("SELECT pg_drop_replication_slot(%s)", (name,))


def write(here: psycopg.Connection, size: int = 1_000) -> None:
    here.execute("SELECT pg_logical_emit_message(true, 'gameday', repeat('x', %s))", (size,))


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("logical", "pg_create_logical_replication_slot('logical', 'pgoutput')"),
        ("physical", "pg_create_physical_replication_slot('physical', true)"),
    ],
)
def test_a_slot_is_a_cursor_whose_lag_grows_until_its_consumer_confirms(
    here: psycopg.Connection, at: str, name: str, made: str
) -> None:
    """Positions are LSNs as numbers, so the lag is in bytes."""
    with slot(here, name, made):
        cursor, lag = Cursor(at, name), Lag(at, name, 5.0)
        before = cursor.position()[name]
        write(here, 50_000)
        end = cursor.end()[name]
        assert cursor.position()[name] == before
        assert end - before >= 50_000
        assert lag.read()[name] >= end - before
        (told,) = here.execute("SELECT pg_current_wal_lsn() - '0/0'").fetchone() or (0,)
        assert end <= int(told) < end + 1_000_000
        here.execute("SELECT pg_replication_slot_advance(%s, pg_current_wal_lsn())", (name,))
        until(lambda: cursor.position()[name] >= end, within_s=10, what="the slot's new place")
        assert lag.read()[name] < end - before


def test_a_slot_that_is_not_there_or_has_no_place_is_an_error(here: psycopg.Connection, at: str) -> None:
    """Whatever is in its name."""
    with pytest.raises(DriverError, match=r'there is no replication slot "no\'such".*Remedy: the name of one'):
        Cursor(at, "no'such").position()
    with (
        slot(here, "unused", "pg_create_physical_replication_slot('unused')"),
        pytest.raises(DriverError, match="replication slot 'unused' has no place yet"),
    ):
        Cursor(at, "unused").position()


def test_a_slot_whose_log_is_lost_or_soon_will_be_says_so(here: psycopg.Connection, at: str) -> None:
    """It has a position, or had one; but its consumer can't go on from there."""
    with slot(here, "slow", "pg_create_logical_replication_slot('slow', 'pgoutput')"):
        cursor = Cursor(at, "slow")
        cursor.position()
        here.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'")
        here.execute("SELECT pg_reload_conf()")
        try:
            for _ in range(4):
                write(here)
                here.execute("SELECT pg_switch_wal()")
            told: list[str] = []

            def refused(state: str) -> bool:
                try:
                    cursor.position()
                except DriverError as e:
                    told.append(str(e))
                return bool(told) and f"replication slot 'slow' is {state}" in told[-1]

            until(lambda: refused("unreserved"), within_s=10, what="a slot that is unreserved")
            here.execute("CHECKPOINT")
            until(lambda: refused("lost"), within_s=10, what="a slot that is lost")
            assert "Remedy: make it anew" in told[-1]
        finally:
            here.execute("ALTER SYSTEM RESET max_slot_wal_keep_size")
            here.execute("SELECT pg_reload_conf()")

"""Two tables in Postgres compared by sums on their servers: what their digests tell apart, the sums do too; where they
might not, there is no answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg.sql import SQL

from compose.servers import postgres as server
from gameday.drivers.postgres import Hop, table
from gameday.drivers.postgres.session import Session
from gameday.model import Digest, Evidence, Group, Tally, Verdict, Window
from gameday.ports import Paired
from gameday.records.in_postgres import form, mixed
from gameday.records.types import parse
from gameday.verdict import checks
from tests.contract.test_driver_postgres import (
    ALL_WELL,
    BERLIN,
    DAMAGE,
    ORDERS,
    PARIS,
    RECORDS,
    TYPED,
    WINDOW,
    declared,
    do,
    put,
    written,
)

COLUMNS = "shop text, n int8, total numeric, note text"


@pytest.fixture(scope="module")
def at(database: str) -> str:
    server.create_database(database, "pairs")
    return f"{database.rpartition('/')[0]}/pairs"


@pytest.fixture
def here(at: str) -> Iterator[psycopg.Connection]:
    """A connection to a database that has no table yet."""
    with psycopg.connect(at, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public; CREATE TYPE side AS ENUM ('sell', 'buy')")
        connection.execute("CREATE DOMAIN money2 AS numeric")
        yield connection


@pytest.fixture
def tables(here: psycopg.Connection) -> psycopg.Connection:
    """The same with two tables of all records, `source` and `sink`."""
    for name in ("source", "sink"):
        do(here, f"CREATE TABLE {name} ({COLUMNS}, PRIMARY KEY (n, shop))")
        put(here, name, RECORDS)
    return here


def both(at: str, window: Window = WINDOW, **sink: Any) -> tuple[Digest, Digest] | None:
    one, other = Hop(at, "once", ORDERS, "source", name="a"), Hop(at, "once", ORDERS, "sink", name="b", **sink)
    assert isinstance(one, Paired)
    return one.both(other, window)


def verdicts(found: tuple[Digest, Digest] | None) -> dict[str, Verdict]:
    assert found is not None
    evidence = Evidence("t", {}, "s", window=WINDOW, digests=found, ledger="a", visible="b")
    return {
        check.__name__: check(evidence).verdict for check in (checks.no_loss, checks.no_duplicates, checks.unchanged)
    }


def figures(groups: dict[Group, Tally]) -> dict[Group, tuple[int, ...]]:
    return {group: (t.rows, t.keys, t.lo, t.hi) for group, t in groups.items()}


def test_equal_tables_are_equal_without_a_row_read(
    tables: psycopg.Connection, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the figures that a digest has; only what lies in (lo, hi] counts."""
    exact = Hop(at, "once", ORDERS, "source").digest(WINDOW)[0]
    monkeypatch.setattr(table._Side, "tallies", None)
    found = both(at)
    assert verdicts(found) == ALL_WELL
    assert found is not None
    assert [(d.stream, d.hop, d.view) for d in found] == [("orders", "a", "final"), ("orders", "b", "final")]
    assert figures(dict(found[0].groups)) == figures(dict(exact.groups)) == figures(dict(found[1].groups))
    do(tables, "UPDATE sink SET note = 'x' WHERE n = 20 OR n = 91")
    some = both(at, Window({BERLIN: 20, PARIS: 99}, {BERLIN: 90, PARIS: 100}))
    assert some is not None
    assert some[0].groups == some[1].groups
    assert both(at, Window({}, {})) == (Digest("orders", "a", "final", {}), Digest("orders", "b", "final", {}))


SWAPPED = "UPDATE sink SET note = CASE n WHEN 3 THEN 'note 5' ELSE 'note 3' END WHERE shop = 'paris' AND n IN (3, 5)"
MORE = {
    "two rows that have swapped a value": (SWAPPED, "unchanged"),
    "two rows that have swapped all but their key": (
        "UPDATE sink SET note = o.note, total = o.total FROM source AS o "
        "WHERE sink.shop = o.shop AND sink.n + o.n = 8 AND sink.n IN (3, 5)",
        "unchanged",
    ),
    "a group that is missing": ("DELETE FROM sink WHERE shop = 'berlin'", "no_loss"),
    "all": ("DELETE FROM sink", "no_loss"),
}
APART = {
    kind: (sql.replace("INTO {} SELECT * FROM {}", "INTO sink SELECT * FROM source").replace("{}", "sink"), check)
    for kind, (sql, check) in {**DAMAGE, **MORE}.items()
    if kind not in ("doubled", "one lost and a foreign one in its place")  # its index refuses these
}


@pytest.mark.parametrize("kind", APART)
def test_damage_is_found(tables: psycopg.Connection, at: str, kind: str) -> None:
    """By the check whose promise it breaks, and with the figures of the exact digests."""
    sql, check = APART[kind]
    do(tables, sql)
    found = both(at)
    assert verdicts(found)[check] is Verdict.FAIL
    assert found is not None
    for name, digest in zip(("source", "sink"), found, strict=True):
        assert figures(dict(digest.groups)) == figures(dict(Hop(at, "once", ORDERS, name).digest(WINDOW)[0].groups))


def test_a_record_of_another_group_in_its_place_is_loss_and_surplus(tables: psycopg.Connection, at: str) -> None:
    """As many rows as before, others."""
    do(tables, "UPDATE sink SET n = n + 1000 WHERE shop = 'paris' AND n = 1")
    do(tables, "UPDATE sink SET shop = 'paris', n = 1 WHERE shop = 'berlin' AND n = 9")
    assert verdicts(both(at)) == {**dict.fromkeys(ALL_WELL, Verdict.FAIL), "no_duplicates": Verdict.PASS}


def test_all_of_a_side_is_of_one_moment(tables: psycopg.Connection, at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is deleted and written between its sums and the rows that are read was not yet so."""
    do(tables, "UPDATE sink SET note = 'x' WHERE shop = 'paris' AND n = 50")
    asked = table._Side.tallies

    def later(side: Any, window: Window) -> Any:
        do(tables, "DELETE FROM source WHERE n > 10")
        do(tables, "DELETE FROM sink WHERE n > 10")
        return asked(side, window)

    monkeypatch.setattr(table._Side, "tallies", later)
    found = both(at)
    assert found is not None
    assert [figures(dict(digest.groups)) for digest in found] == [
        {BERLIN: (100, 100, 1, 100), PARIS: (100, 100, 1, 100)}
    ] * 2
    assert verdicts(found)["unchanged"] is Verdict.FAIL


def test_what_does_not_fit_its_type_is_no_record(tables: psycopg.Connection, at: str) -> None:
    """Though both have it: a ledger that lacks a record must not look whole."""
    for name in ("source", "sink"):
        do(tables, f"UPDATE {name} SET total = 'NaN' WHERE n = 5")
        do(tables, f"UPDATE {name} SET total = 1.005 WHERE n = 6")
    found = both(at)
    assert found is not None
    assert figures(dict(found[1].groups)) == {group: (98, 98, 1, 100) for group in (BERLIN, PARIS)}


REFUSED: dict[str, str] = {
    "a column of another type": "ALTER TABLE sink ALTER total TYPE text",
    "with blanks at its end": "ALTER TABLE sink ALTER note TYPE char(20)",
    "a number of another width": "ALTER TABLE source ALTER n TYPE int4",
    "no index": "ALTER TABLE sink DROP CONSTRAINT sink_pkey",
    "an index of no key": "ALTER TABLE sink DROP CONSTRAINT sink_pkey; CREATE INDEX ON sink (shop, n)",
    "an index of some rows": "ALTER TABLE sink DROP CONSTRAINT sink_pkey; "
    "CREATE UNIQUE INDEX ON sink (shop, n) WHERE n < 50",
    "an index of an expression": "ALTER TABLE sink DROP CONSTRAINT sink_pkey; "
    "CREATE UNIQUE INDEX ON sink (shop, (n + 0))",
    "an index of more than the key": "ALTER TABLE sink DROP CONSTRAINT sink_pkey; "
    "CREATE UNIQUE INDEX ON sink (shop, n, total)",
    "a column beside the index's": "ALTER TABLE sink DROP CONSTRAINT sink_pkey; "
    "UPDATE sink SET total = n * 2 + (shop = 'paris')::int; CREATE UNIQUE INDEX ON sink (total) INCLUDE (shop, n)",
    "rows of a table that inherits": "CREATE TABLE more () INHERITS (sink)",
    "a view": "ALTER TABLE sink RENAME TO held; CREATE VIEW sink AS SELECT * FROM held",
}


@pytest.mark.parametrize("why", REFUSED)
def test_where_equal_sums_might_not_mean_equal_rows_there_is_no_answer(
    tables: psycopg.Connection, at: str, why: str
) -> None:
    """The digests are asked for then, as ever."""
    do(tables, REFUSED[why])
    assert both(at) is None


@pytest.mark.parametrize(
    "sink",
    [
        {"fields": {"n": "n::int4"}},
        {"fields": {"n": "n + 0"}},
        {"fields": {"shop": "upper(shop)"}},
        {"part": [{"table": "source"}]},
        {"query": "SELECT * FROM sink", "table": None},
    ],
    ids=str,
)
def test_what_is_not_one_table_s_own_key_has_no_answer(
    tables: psycopg.Connection, at: str, sink: dict[str, Any]
) -> None:
    """Its index says nothing of it."""
    one = Hop(at, "once", ORDERS, "source", name="a")
    assert one.both(Hop(at, "once", ORDERS, **{"table": "sink", "name": "b", **sink}), WINDOW) is None
    assert one.both(object(), WINDOW) is None


def test_a_partitioned_table_and_part_of_a_key_have_an_answer(tables: psycopg.Connection, at: str) -> None:
    """Its index is of all partitions; a number that is unique is so beside any other field."""
    do(
        tables,
        "ALTER TABLE sink RENAME TO old; CREATE TABLE sink (LIKE old, UNIQUE (n, shop)) PARTITION BY LIST (shop)",
    )
    do(tables, "CREATE TABLE b PARTITION OF sink FOR VALUES IN ('berlin')")
    do(tables, "CREATE TABLE rest PARTITION OF sink DEFAULT; INSERT INTO sink SELECT * FROM old")
    assert verdicts(both(at)) == ALL_WELL
    do(tables, "DELETE FROM source WHERE shop = 'paris'; DELETE FROM sink WHERE shop = 'paris'")
    do(tables, "ALTER TABLE source DROP CONSTRAINT source_pkey; CREATE UNIQUE INDEX ON source (n)")
    found = both(at)
    assert found is not None
    assert found[0].groups == found[1].groups


def test_a_database_of_another_encoding_has_no_answer(tables: psycopg.Connection, at: str) -> None:
    """The same bytes are another text there."""
    do(tables, "CREATE DATABASE latin2 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    place = f"{at.rpartition('/')[0]}/latin2"
    with psycopg.connect(place, autocommit=True) as connection:
        do(connection, f"CREATE TABLE sink ({COLUMNS}, PRIMARY KEY (shop, n))")
        put(connection, "sink", RECORDS)
    one, other = Hop(at, "once", ORDERS, "source", name="a"), Hop(place, "once", ORDERS, "sink", name="b")
    assert one.both(other, WINDOW) is None
    assert {g: t.sum for g, t in one.digest(WINDOW)[0].groups.items()} == {
        g: t.sum for g, t in other.digest(WINDOW)[0].groups.items()
    }


def test_values_of_every_type_that_are_other_records_have_other_hashes(here: psycopg.Connection) -> None:
    """Every type's extremes, NULL, and what is nearly the same; the hash is asked of the same column that has them."""
    nearly: dict[str, list[Any]] = {
        "int8": [4294967296, 1, 4294967297, -4294967297, -1],
        "text": ["a", "A", "a ", "null", "NULL"],
        "jsonb": [{"n": 1}, {"n": 1.0}, {"n": "1"}],
        "timestamptz": ["2000-01-01T00:00:00Z", "2000-01-01T01:11:34.967297Z", "9999-12-31T23:59:59.999999Z"],
        "timestamp": ["2000-01-01T00:00:00Z", "2000-01-01T01:11:34.967297Z", "9999-12-31T23:59:59.999999Z"],
        "float8": [1.0, 1.0000000000001, "inf", "-inf"],
        "numeric": ["0.00000001", "1", "10", "1.0"],
    }
    for kind, column, values in TYPED:
        of = parse(kind)
        do(here, f"DROP TABLE IF EXISTS one; CREATE TABLE one (x {column})")
        for value in [
            *values,
            *(nearly.get(column, []) if of.name in ("int", "text", "json", "time", "float") else []),
        ]:
            try:
                stored = written(kind, column, value)
                here.execute("INSERT INTO one VALUES (%s)", (stored,))
            except psycopg.Error:
                raise AssertionError(f"{column} does not take {value!r}") from None
        do(here, "INSERT INTO one VALUES (NULL)")
        name = {"side": "enum", "money2": "numeric"}.get(column, column.partition("(")[0])
        made = form(of, "x", name)
        hashed = mixed([(of, "x", name)])
        assert hashed is not None
        fits = made.fits or "true"
        rows = here.execute(
            SQL(f"SELECT ({made.part.value})::text, {hashed}, x::text FROM one WHERE {fits}")
        ).fetchall()
        by_hash: dict[int, set[str | None]] = {}
        for canonical, value_hash, _ in rows:
            by_hash.setdefault(value_hash, set()).add(canonical)
        assert all(len(found) == 1 for found in by_hash.values()), (kind, column, rows)
        assert len(by_hash) > 1, (kind, column, rows)


def test_nothing_but_known_types_is_hashed_and_no_text_by_its_collation() -> None:
    """Of others no hash is known to tell all of their values apart; a column's own collation may take two texts for the
    same."""
    assert mixed([(parse("text"), "x", "text"), (parse("text"), "y", "interval")]) is None
    for column in ("text", "varchar", "bpchar", "enum", "jsonb", "bytea"):
        assert 'COLLATE "C"' in (mixed([(parse("text"), "x", column)]) or "")


def test_servers_that_hash_otherwise_have_no_answer(
    tables: psycopg.Connection, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as another version's, or another processor's: all would differ, and be read in vain."""
    told: Iterator[Any] = iter([[("UTF8", "1")], [("UTF8", "2")]])
    asked: Callable[..., Any] = Session.rows

    def rows(session: Any, sql: str) -> Any:
        return next(told) if "server_encoding" in sql else asked(session, sql)

    monkeypatch.setattr(Session, "rows", rows)
    assert both(at) is None


def test_a_stream_that_goes_by_its_time_is_compared_too(here: psycopg.Connection, at: str) -> None:
    """Its key is a UUID, its window a span of time."""
    timed = declared(
        "events", key=["id"], group=["shop"], time="at", fields={"id": "uuid", "at": "time", "note": "text"}
    )
    for name in ("source", "sink"):
        do(here, f"CREATE TABLE {name} (id uuid UNIQUE, shop text, at timestamptz, note text)")
        do(here, f"INSERT INTO {name} SELECT md5(n::text)::uuid, 'berlin', to_timestamp(n / 10.0), 'x' || n "
                 "FROM generate_series(1, 1000) AS n")  # fmt: skip
    one, other = (Hop(at, "once", timed, name, name=name) for name in ("source", "sink"))
    window = Window({BERLIN: 0}, {BERLIN: 99_000_000})
    found = one.both(other, window)
    assert found is not None
    assert found[0].groups == found[1].groups
    assert figures(dict(found[0].groups)) == figures(dict(one.digest(window)[0].groups))
    do(here, "UPDATE sink SET at = at + interval '1 microsecond' WHERE note = 'x500'")
    found = one.both(other, window)
    assert found is not None
    assert [figures(dict(d.groups)) for d in found] == [figures(dict(h.digest(window)[0].groups)) for h in (one, other)]
    assert found[0].groups != found[1].groups

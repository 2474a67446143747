"""Every type has one canonical form: numpy, a real ClickHouse and a real Postgres make the same words of the same
values, and call the same values malformed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gameday.drivers.clickhouse import Server, literal
from gameday.records import in_clickhouse, in_postgres
from gameday.records.hashing import words
from gameday.records.types import INT64_MAX, INT64_MIN, Malformed, parse

ROUNDS = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

NASTY = ["", " ", "x", "-", ".", "1.", ".5", "-.5", "007.10", "+1", "1e3", "1_0", "٣", "0x1", "NULL", "\n", "1\n", "é"]
"""Texts that a reader might take for a number, or not."""

ENDLESS = ["inf", "-inf", "nan", "Infinity", "-Infinity", "NaN", "INF", "infinity", "-nan", "Inf"]
"""The first six are what Python, Java and Postgres call them."""

ints = st.integers(INT64_MIN, INT64_MAX) | st.sampled_from([INT64_MIN, -1, 0, 1, INT64_MAX])
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=12)
doubles = st.floats() | st.floats(width=32) | st.sampled_from([0.0, -0.0, 5e-324, 1.7976931348623157e308, 0.1, 19.99])
plain_text = st.text(st.characters(min_codepoint=32, max_codepoint=91), max_size=12)
documents = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
).filter(lambda value: isinstance(value, dict | list))
plain = st.decimals(-(10**20), 10**20, allow_nan=False, allow_infinity=False, places=8).map(str) | st.sampled_from(
    [
        *NASTY,
        "92233720368.54775807",
        "92233720368.54775808",
        "-92233720368.54775808",
        "-92233720368.54775809",
        "0.000000001",
        "1.100000000000",
        "0" * 30 + "1.5",
    ]
)
whole = ints.map(str) | st.sampled_from(
    [*NASTY, str(INT64_MAX + 1), str(INT64_MIN - 1), "9" * 38, "9" * 39, "-0", "007"]
)
instants = st.integers(-2_177_452_800_000_000, 9_214_000_000_000_000) | st.integers(0, 2 * 10**15)


def as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


@dataclass(frozen=True)
class Case:
    """A field's type; the values as a message has them; the columns that may hold them; and how a value is written as a
    text that is cast to these."""

    kind: str
    values: st.SearchStrategy[Any]
    clickhouse: Sequence[str] = ()
    postgres: Sequence[str] = ()
    write: Callable[[Any], str] = as_text

    def __str__(self) -> str:
        return f"{self.kind} {', '.join([*self.clickhouse, *self.postgres])}"


def scaled(places: int) -> st.SearchStrategy[str]:
    """Decimals of 18 digits."""
    top = 10**18 - 1
    numbers = st.integers(-top, top) | st.sampled_from([-top, 0, top])
    return numbers.map(lambda n: f"{'-' if n < 0 else ''}{abs(n) // 10**places}.{abs(n) % 10**places:0{places}d}")


def hexed(value: Any) -> str:
    """A double that no reader rounds."""
    return repr(float(value))


def uuids() -> st.SearchStrategy[str]:
    return st.uuids().map(str) | st.sampled_from(
        ["0" * 8 + "-0000-0000-0000-" + "0" * 12, "F" * 8 + "-ffff-FFFF-ffff-" + "f" * 12]
    )


def iso(us: int) -> str:
    """An instant as most write it."""
    return str(parse("time").shown(us))


CASES = [
    Case("int", ints, ("Int64", "Int128", "Decimal(38, 0)"), ("int8", "numeric")),
    Case(
        "int", st.integers(0, 2**64 - 1) | st.just(2**64 - 1) | st.just(INT64_MAX), ("UInt64", "UInt128"), ("numeric",)
    ),
    Case("int", st.integers(-128, 127), ("Int8",), ("int2", "int4")),
    Case("int", whole, ("String", "LowCardinality(String)"), ("text", "varchar")),
    Case(
        "decimal(8)",
        scaled(8),
        ("Decimal(18, 8)", "Decimal(38, 8)", "Decimal(38, 12)", "Decimal(76, 20)"),
        ("numeric",),
    ),
    Case("decimal(2)", scaled(4), ("Decimal(18, 4)", "Decimal(38, 6)"), ("numeric",)),
    Case("decimal(18)", scaled(2), ("Decimal(18, 2)", "Decimal(38, 18)"), ("numeric",)),
    Case("decimal(3)", ints, ("Int64",), ("int8",)),
    Case("decimal(8)", plain, ("String",), ("text",)),
    Case("decimal(0)", plain, ("String",), ("text",)),
    Case("float(15)", doubles, ("Float64",), ("float8",), hexed),
    Case("float(17)", doubles, ("Float64",), ("float8",), hexed),
    Case("float(1)", doubles, ("Float64",), ("float8",), hexed),
    Case("float(6)", st.floats(width=32), ("Float32", "Float64"), ("float4", "float8"), hexed),
    Case(
        "float(15)",
        doubles.map(repr) | st.sampled_from([*NASTY, "1e999", "-1e999", "1e-999", *ENDLESS, "1E5", "12"]),
        ("String",),
    ),
    Case("text", texts, ("String", "LowCardinality(String)"), ("text", "varchar")),
    Case("text", st.sampled_from(["buy", "sell"]), ("Enum8('buy' = 0, 'sell' = 1)",)),
    Case("bytes", plain_text.map(str.encode), ("String",), ("bytea",), bytes.decode),
    Case("json", documents, (), ("json", "jsonb"), json.dumps),
    Case("uuid", uuids(), ("UUID",), ("uuid",)),
    Case("uuid", uuids() | st.sampled_from([*NASTY, "0" * 32, "0" * 31, "g" * 32]), ("String",), ("text",)),
    Case("bool", st.booleans(), ("Bool", "String"), ("bool", "text")),
    Case("bool", st.integers(0, 3), ("UInt8",), ("int4",)),
    Case("bool", st.sampled_from([*NASTY, "TRUE", "f", "0", "1", "yes"]), ("String",), ("text",)),
    Case("time", instants.map(iso), ("DateTime64(6, 'UTC')",), ("timestamptz",)),
    Case(
        "time",
        st.sampled_from(
            [
                "2026-11-29T22:00:00.123Z",
                "2026-11-29 22:00:00",
                "2026-11-29T22:00:00.1234560+02:00",
                "2026-11-29T22:00:00.1234567Z",
                "2026-02-30T00:00:00Z",
                "2024-02-29T00:00:00Z",
                "1899-12-31T00:00:00Z",
                "2026-11-29T24:00:00Z",
                "2026-11-29T23:59:60Z",
                "2026-11-29T22:00:00-0330",
                *NASTY,
            ]
        ),
        ("String",),
    ),
    Case("time(us)", ints, ("Int64",), ("int8",)),
    Case("time(ms)", ints, ("Int64",), ("int8",)),
    Case(
        "time(s)",
        st.sampled_from(["1764457200.123456", "1764457200", "1764457200.1234567", *NASTY]),
        ("String",),
        ("text",),
    ),
]


def canonical(kind: str, values: Sequence[Any]) -> tuple[list[tuple[int, ...]], list[bool]]:
    """Each value's words by numpy, and whether it fits; those of a malformed one are not looked at."""
    found, fits = [], []
    for value in values:
        try:
            one = parse(kind).canonical(value)
            fits.append(True)
        except Malformed:
            one = None
            fits.append(False)
        found.append(tuple(int(word[0]) for word in words(parse(kind), [one])))
    return found, fits


def same(kind: str, values: Sequence[Any], rows: Sequence[tuple[tuple[int, ...], bool]], where: str) -> None:
    right, fits = canonical(kind, values)
    for value, word, fit, (held, held_fits) in zip(values, right, fits, rows, strict=True):
        assert held_fits == fit, f"{where}: {value!r} {'fits' if fit else 'is malformed'} elsewhere"
        assert not fit or held == word, f"{where}: {value!r}"


@pytest.fixture(scope="module")
def clickhouse(warehouse: str) -> Server:
    return Server(warehouse)


@pytest.fixture(scope="module")
def postgres(database: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


def in_clickhouse_s(
    server: Server, kind: str, column: str, values: Sequence[str | None]
) -> list[tuple[tuple[int, ...], bool]]:
    """What the server makes of texts that it casts to a column's type."""
    column = f"LowCardinality(Nullable({column[15:-1]}))" if column.startswith("LowC") else f"Nullable({column})"
    form = in_clickhouse.form(parse(kind), "x", column)
    listed = ", ".join("NULL" if v is None else literal(v) for v in values)
    sql = (
        f"SELECT i, [{', '.join(form.words)}], {form.fits or 'true'} FROM (SELECT i, CAST(t AS {column}) AS x FROM "
        f"(SELECT arrayJoin(arrayZip(range({len(values)}), CAST([{listed}] AS Array(Nullable(String))))) AS p, "
        "p.1 AS i, p.2 AS t)) ORDER BY i"
    )
    return [(tuple(map(int, w)), bool(f)) for _, w, f in server.rows(sql, 60)]


def in_postgres_s(
    connection: psycopg.Connection, kind: str, column: str, values: Sequence[str | None]
) -> list[tuple[tuple[int, ...], bool]]:
    form = in_postgres.form(parse(kind), "x", column)
    parts = [in_postgres.Part(f"({form.fits or 'true'})::int::int8", "int"), form.part]
    connection.execute("CREATE TEMPORARY TABLE IF NOT EXISTS given (i int, t text)")
    connection.execute("TRUNCATE given")
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO given VALUES (%s, %s)", list(enumerate(values)))
        asked = f"SELECT {', '.join(p.sql for p in parts)} FROM (SELECT i, t::{column} AS x FROM given) AS s ORDER BY i"
        with cursor.copy(f"COPY ({asked}) TO STDOUT (FORMAT BINARY)") as copy:
            pieces = list(in_postgres.read(copy, parts))
    fits, *rest = [np.concatenate(arrays) for arrays in zip(*pieces, strict=True)]
    return [(tuple(int(w[row]) for w in rest), bool(fits[row])) for row in range(len(fits))]


@pytest.mark.parametrize("case", CASES, ids=str)
@ROUNDS
@given(data=st.data())
def test_the_words_are_the_same_in_numpy_clickhouse_and_postgres(
    clickhouse: Server, postgres: psycopg.Connection, case: Case, data: st.DataObject
) -> None:
    """Of every type, its extremes and NULL among them; and what is malformed in one is so in all."""
    values = data.draw(st.lists(st.none() | case.values, min_size=8, max_size=40))
    written = [None if value is None else case.write(value) for value in values]
    for column in case.clickhouse:
        same(case.kind, values, in_clickhouse_s(clickhouse, case.kind, column, written), column)
    for column in case.postgres:
        same(case.kind, values, in_postgres_s(postgres, case.kind, column, written), column)

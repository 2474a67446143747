"""An Iceberg table as a hop: a real table on this disk, read as its users would, holds what the same records hold in
memory."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog, load_catalog

from gameday.drivers.iceberg import Hop
from gameday.errors import ConfigError, DriverError
from gameday.model import Columns, Shards, Window
from gameday.records.arrivals import Came
from gameday.records.columns import canonical
from gameday.records.declaration import Stream, stream
from gameday.records.heads import Places, totals

A, B = ("a",), ("b",)
START_US = 1_795_000_000_000_000

Row = dict[str, Any]


def declared(**given: Any) -> Stream:
    mistakes: list[str] = []
    places = {"hops": ["log", "lake"], "visible": "lake", "path": ["web"]}
    made = stream("orders", {**places, **given}, ["log", "lake"], mistakes)
    assert made is not None, mistakes
    return made


ORDERS = declared(
    key=["shop", "n"],
    group=["shop"],
    sequence="n",
    fields={"total": "decimal(2)", "at": "time", "day": "time", "who": "uuid", "paid": "bool", "note": "text"},
)
SCHEMA = pa.schema(
    [
        pa.field("shop", pa.string()),
        pa.field("n", pa.int64()),
        pa.field("order", pa.struct([pa.field("total", pa.decimal128(20, 2)), pa.field("note", pa.string())])),
        pa.field("at", pa.timestamp("us", tz="UTC")),
        pa.field("day", pa.date32()),
        pa.field("who", pa.string()),
        pa.field("paid", pa.bool_()),
    ]
)
NOTE = pa.field("note", pa.string())
FIELDS = {"total": "order.total", "note": "order.note"}


def row(number: int, shop: str = "a", **changes: Any) -> Row:
    found = {
        "shop": shop,
        "n": number,
        "total": f"{number}.25",
        "at": datetime.fromtimestamp((START_US + number) / 1e6, UTC),
        "day": date(2026, 11, 1 + number % 28),
        "who": str(UUID(int=number)),
        "paid": number % 2 == 0,
        "note": f"note {number}" if number % 3 else None,
    }
    return {**found, **changes}


def stored(rows: Sequence[Row]) -> pa.Table:
    nested = [
        {
            **{name: one[name] for name in ("shop", "n", "at", "day", "who", "paid")},
            "order": {"total": Decimal(one["total"]), "note": one["note"]},
        }
        for one in rows
    ]
    return pa.Table.from_pylist(nested, schema=SCHEMA)


def columns(rows: Sequence[Row], of: Stream = ORDERS) -> Columns:
    """The same records as JSON would have them."""
    found: dict[str, Any] = {}
    for name, kind in of.types.items():
        values = [one[name] for one in rows]
        values = [f"{v.isoformat()}T00:00:00Z" if type(v) is date else v for v in values]
        found[name] = canonical(kind, [v.isoformat() if isinstance(v, datetime) else v for v in values])
    return found


@pytest.fixture
def catalog(tmp_path: Path) -> dict[str, str]:
    settings = {
        "name": "lake",
        "type": "sql",
        "uri": f"sqlite:///{tmp_path}/catalog.db",
        "warehouse": f"file://{tmp_path}",
    }
    opened(settings).create_namespace("shop")
    return settings


def opened(settings: dict[str, str]) -> Catalog:
    return load_catalog(**settings)


def lake(catalog: dict[str, str], kind: str = "once", of: Stream = ORDERS, **more: Any) -> Hop:
    return Hop(kind, catalog, "shop.orders", of, name="lake", **{"fields": FIELDS, **more})


def test_it_has_the_digest_of_the_same_records(catalog: dict[str, str]) -> None:
    """In several commits; decimals, times, days, UUIDs, NULLs, and what lies in a struct."""
    table = opened(catalog).create_table("shop.orders", schema=SCHEMA)
    rows = [row(n, "ab"[n % 2]) for n in range(1, 101)]
    table.append(stored(rows[:60]))
    table.append(stored(rows[60:]))
    hop = lake(catalog)
    assert hop.heads() == {A: 100, B: 99}
    (digest,) = hop.digest(Window({A: 10, B: 20}, {A: 90, B: 99}))
    for group, shop, lo, hi in ((A, "a", 10, 90), (B, "b", 20, 99)):
        mine = [one for one in rows if one["shop"] == shop and lo < one["n"] <= hi]
        assert digest.groups[group] == ORDERS.tally(columns(mine))
        held = hop.rows(group, lo, hi)
        assert all(np.array_equal(held[name], columns(mine)[name]) for name in ORDERS.types)
    assert hop.symptoms(Window({}, {A: 100}), 0, {}) == {}


def test_what_came_since_moves_the_heads(catalog: dict[str, str]) -> None:
    """Of new files alone; a group that is new too."""
    table = opened(catalog).create_table("shop.orders", schema=SCHEMA)
    hop = lake(catalog)
    assert hop.heads() == {}
    table.append(stored([row(1), row(2)]))
    assert hop.heads() == {A: 2}
    table.append(stored([row(3), row(1, "b")]))
    assert hop.heads() == {A: 3, B: 1}


def test_the_heads_are_added_up(catalog: dict[str, str]) -> None:
    """By shard, and later ones with them."""
    table = opened(catalog).create_table("shop.orders", schema=SCHEMA)
    hop, shards = lake(catalog), Shards((), 2)
    table.append(stored([row(n, f"shop {n % 20}") for n in range(1, 101)]))
    assert hop.totals(shards) == totals({(f"shop {n % 20}",): n for n in range(81, 101)}, Places(shards))
    table.append(stored([row(200, "shop 3"), row(1, "new")]))
    assert hop.totals(shards) == totals(hop.heads(), Places(shards))
    assert hop.heads()["shop 3",] == 200


@pytest.mark.parametrize(
    ("change", "figures"),
    [
        (lambda rows: rows[:4] + rows[5:], (9, 9)),
        (lambda rows: [*rows, rows[4]], (11, 10)),
        (lambda rows: [*rows[:4], row(5, total="5.26"), *rows[5:]], (10, 10)),
    ],
    ids=["lost", "doubled", "changed"],
)
def test_each_damage_shows(catalog: dict[str, str], change: Any, figures: tuple[int, int]) -> None:
    """Rows, keys and sums."""
    rows = [row(n) for n in range(1, 11)]
    opened(catalog).create_table("shop.orders", schema=SCHEMA).append(stored(change(rows)))
    held = lake(catalog).digest(Window({A: 0}, {A: 10}))[0].groups[A]
    right = ORDERS.tally(columns(rows))
    assert ((held.rows, held.keys), held.sum == right.sum) == (figures, figures == (11, 10))


def test_a_filtered_table_is_the_stream_s_part_of_it(catalog: dict[str, str]) -> None:
    """Other rows are none of its records."""
    rows = [row(n) for n in range(1, 11)]
    opened(catalog).create_table("shop.orders", schema=SCHEMA).append(stored(rows))
    held = lake(catalog, where="paid = true").digest(Window({A: 0}, {A: 10}))[0].groups[A]
    assert held == ORDERS.tally(columns([one for one in rows if one["paid"]]))


def test_what_does_not_fit_its_type_is_counted_and_shown(catalog: dict[str, str]) -> None:
    """A text that is no UUID; the rest is right."""
    rows = [row(n) for n in range(1, 11)]
    opened(catalog).create_table("shop.orders", schema=SCHEMA).append(stored([*rows[:9], row(10, who="nobody")]))
    hop, window = lake(catalog), Window({A: 0}, {A: 10})
    assert hop.digest(window)[0].groups[A] == ORDERS.tally(columns(rows[:9]))
    assert hop.symptoms(window, 0, {}) == {"malformed": {"rows": 1, "first": ["who: 'nobody' is no UUID (uuid)"]}}


def test_a_stream_that_goes_by_its_time(catalog: dict[str, str]) -> None:
    """Two records of the same moment are two."""
    timed = declared(key=["who"], group=["shop"], time="at", fields={"who": "uuid", "at": "time"})
    rows = [row(n, at=row(n // 2)["at"]) for n in range(2, 12)]
    opened(catalog).create_table("shop.orders", schema=SCHEMA).append(stored(rows))
    hop = lake(catalog, of=timed, fields={})
    assert hop.heads() == {A: START_US + 5}
    held = hop.digest(Window({A: START_US + 2}, {A: START_US + 4}))[0].groups[A]
    assert held == timed.tally(columns([one for one in rows if one["n"] // 2 in (3, 4)], timed))
    assert held.keys == 4


def test_an_append_table_s_repeats_are_listed_once(catalog: dict[str, str]) -> None:
    """And its digest counts them."""
    opened(catalog).create_table("shop.orders", schema=SCHEMA).append(stored([row(1), row(2), row(1)]))
    hop = lake(catalog, kind="append")
    (digest,) = hop.digest(Window({A: 0}, {A: 2}))
    assert (digest.view, digest.groups[A].rows, digest.groups[A].keys) == ("raw", 3, 2)
    assert hop.rows(A, 0, 2)["n"].tolist() == [1, 2]


def test_mistakes_name_key_value_and_remedy(catalog: dict[str, str]) -> None:
    """And what can't be read says what it is, without a secret."""
    with pytest.raises(ConfigError, match=r"hops\.lake\.kind is 'none'\. Remedy: one of append, once, state"):
        lake(catalog, kind="none")
    with pytest.raises(ConfigError, match=r"hops\.lake\.catalog lacks uri\. It has name"):
        lake({"name": "x"})
    with pytest.raises(DriverError, match=r"Iceberg table shop\.orders: .*does not exist"):
        lake(catalog).heads()
    gone = {**catalog, "uri": "sqlite:////nowhere/s3cret.db", "s3.secret-access-key": "s3cret"}
    with pytest.raises(DriverError) as told:
        lake(gone).heads()
    assert "s3cret" not in str(told.value)


# ---- rows that change and go -----------------------------------------------------------------------------------------

CHANGING = declared(
    key=["n"], group=["shop"], version="version", time="at", fields={"n": "int", "at": "time", "note": "text"}
)
VERSIONED = pa.schema(
    [
        *(SCHEMA.field(name) for name in ("shop", "n", "at")),
        pa.field("note", pa.string()),
        pa.field("version", pa.int64()),
        pa.field("meta", pa.struct([pa.field("gone", pa.bool_())])),
    ]
)


def versioned(number: int, version: int, gone: bool | None = None, **changes: Any) -> Row:
    made = {name: row(number)[name] for name in ("shop", "n", "at", "note")}
    return {**made, "version": version, "meta": {"gone": gone}, **changes}


def test_a_state_has_the_rows_that_count_and_the_place_of_its_commit(catalog: dict[str, str]) -> None:
    """A column says which rows are deleted; where it is NULL they are not. A commit that tells no place, as maintenance
    makes it, leaves the one before it."""
    table = opened(catalog).create_table("shop.orders", schema=VERSIONED)
    rows = [versioned(1, 3), versioned(2, 1, gone=False, shop="b"), versioned(3, 2, gone=True)]
    table.append(pa.Table.from_pylist(rows, schema=VERSIONED), snapshot_properties={"at": '{"orders/0": 7}'})
    hop = lake(catalog, "state", CHANGING, fields={}, deleted="meta.gone", position="at")
    held = hop.state()
    own = columns(rows[:2], CHANGING)
    keys, hashes = CHANGING.state_hashes(own)
    assert (held.position, held.exact, len(held.repeated)) == ({"orders/0": 7}, True, 0)
    assert held.keys.tolist() == sorted(keys.tolist())
    found = {
        int(key): (held.groups[at], version, hashed)
        for key, at, version, hashed in zip(
            held.keys, held.group.tolist(), held.versions.tolist(), held.rows.tolist(), strict=True
        )
    }
    assert found == {
        int(key): (group, version, int(hashed))
        for key, group, version, hashed in zip(keys, (A, B), (3, 1), hashes, strict=True)
    }
    assert hop.records(hashes[:1])["n"].tolist() == [1]
    table.append(pa.Table.from_pylist([versioned(1, 2)], schema=VERSIONED))
    again = hop.state()
    assert (again.position, again.repeated.tolist()) == ({"orders/0": 7}, [int(keys[0])])
    assert again.versions[again.keys == keys[0]].tolist() == [3]


def test_a_state_that_cant_be_told_says_what_to_do(catalog: dict[str, str]) -> None:
    """A key that no commit has, a place that is none, and what only a state may declare."""
    table = opened(catalog).create_table("shop.orders", schema=VERSIONED)
    of: dict[str, Any] = {"of": CHANGING, "fields": {}}
    assert lake(catalog, "state", **of, position="at").state().position == {}
    table.append(pa.Table.from_pylist([versioned(1, 1)], schema=VERSIONED), snapshot_properties={"at": "17"})
    with pytest.raises(DriverError, match=r"hops.lake.position is 'place', which no commit's summary has. It has .*at"):
        lake(catalog, "state", **of, position="place").state()
    with pytest.raises(DriverError, match=r"a commit's summary has '17' there. Remedy: JSON of topic/partition"):
        lake(catalog, "state", **of, position="at").state()
    with pytest.raises(ConfigError, match=r"hops.lake.deleted is 'meta.gone', but its kind is 'once'. Remedy: kind"):
        lake(catalog, "once", **of, deleted="meta.gone")


# ---- records that have only a key ------------------------------------------------------------------------------------

KEYED = declared(key=["n"], group=["shop"], fields={"n": "int", "note": "text"})


class Log:
    """Its records came one a second, each at its number; it had those up to 99."""

    def __init__(self, stands: int) -> None:
        self.stands = stands
        """Up to which number it was read."""

    def arrived(self, window: Window | None = None) -> Came:
        numbers = range(1, self.stands + 1)
        keys = KEYED.whole_key_hashes({"n": np.array(numbers)}).tolist()
        times = dict(zip(keys, numbers, strict=True))
        if window is None:
            return Came(times, times, True, {})
        inside = {key: at for key, at in times.items() if min(window.lo.values()) < at <= max(window.hi.values())}
        return Came(inside, times, True, window.hi)

    heads = digest = rows = None


def test_records_that_have_only_a_key_are_where_the_log_has_them(catalog: dict[str, str]) -> None:
    """The log is asked after the snapshot was taken. What the table has of a window is what came to the log in it; a
    record that the log never had is told at its end."""
    table = opened(catalog).create_table(
        "shop.orders", schema=pa.schema([SCHEMA.field("shop"), SCHEMA.field("n"), NOTE])
    )

    def append(*numbers: int) -> None:
        rows = [{"shop": "ab"[n % 2], "n": n, "note": f"note {n}"} for n in numbers]
        table.append(pa.Table.from_pylist(rows, schema=table.schema().as_arrow()))

    append(*range(1, 61))
    hop = lake(catalog, of=KEYED, fields={})
    hop.arrivals = Log(60)  # type: ignore[assignment]
    assert hop.heads() == {A: 60, B: 59}
    append(*range(61, 95), 777)
    hop.arrivals = Log(99)  # type: ignore[assignment]
    assert hop.heads() == {A: 94, B: 93}
    append(70)
    assert hop.heads() == {A: 94, B: 93}
    window = Window({A: 50, B: 50}, {A: 99, B: 99})
    (digest,) = hop.digest(window)
    assert {group: (tally.rows, tally.keys, tally.hi) for group, tally in digest.groups.items()} == {
        A: (23, 22, 94),
        B: (23, 23, 99),
    }
    assert hop.rows(B, 90, 99)["n"].tolist() == [91, 93, 777]
    assert hop.rows(A, 69, 72)["n"].tolist() == [70, 70, 72]
    assert hop.symptoms(window, 0, {}) == {}

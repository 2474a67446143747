"""Computes what the CDC platform's workload writes: transaction j of a shard is a pure function of the tape, so what
should exist is known without storage. workload.py carries it out, and keeps the tape.

A tape is the JSON of /tape:

    seed        of all values
    shards      shard -> {"begun": the transaction that is carried out, or was last, "segments": [[its first one, the
                time of that in microseconds, microseconds from one to the next], ...]}
    bursts      [{"shard", "j", "rows", "age_us"}]: transaction j also creates so many orders, whose time is so old
    versions    [{"kind", "j": {shard: transaction}}]: from that transaction on rows have another shape
    poison      [{"kind", "at_us"}]: rows that the source takes and the target can't

Transaction j creates order j with two items, pays order j - 3, ships order j - 9, and purges an order at the end of its
life; every tenth one creates a customer. The changes of a table's shard are numbered without a gap, and each row has
the number of its last one. A delete is an UPDATE that gives the row the number n, and a DELETE, which is number n + 1.
Lives are bounded, so what a table holds follows from the last HORIZON transactions.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

__all__ = [
    "EXTRA",
    "FOREIGN",
    "HORIZON",
    "KINDS",
    "POISON_ID",
    "POISON_SHARD",
    "SCALE",
    "SHAPES",
    "SHARDS",
    "TABLES",
    "Change",
    "Forgotten",
    "Row",
    "changes",
    "count",
    "ddl",
    "document",
    "due_us",
    "events",
    "existing",
    "extra",
    "heads",
    "md5",
    "moment",
    "outcomes",
    "poison",
    "records",
    "state",
    "text",
    "transaction",
]

SHARDS = ("0", "1")
TABLES = ("customers", "orders", "items")
FOREIGN: Mapping[str, str] = {"orders": "customer_id", "items": "order_id"}
"""Table -> its column with a foreign key."""

SCALE = 10_000
"""Amounts are integers in units of 1/SCALE."""

EXTRA = ("tier", "grade")
"""The columns that orders have in later shapes."""

SHAPES: Mapping[str, tuple[str | None, str]] = {
    "add": ("tier", "ALTER TABLE orders ADD COLUMN tier text"),
    "add_default": ("tier", "ALTER TABLE orders ADD COLUMN tier text DEFAULT 'basic'"),
    "mid_transaction": ("tier", "ALTER TABLE orders ADD COLUMN tier text"),
    "rename": ("grade", "ALTER TABLE orders RENAME COLUMN tier TO grade"),
    "drop": (None, "ALTER TABLE orders DROP COLUMN IF EXISTS tier, DROP COLUMN IF EXISTS grade"),
}
"""Kind of a change of shape -> the additional column that orders have from then on, and the SQL. mid_transaction runs
it after the transaction's first change of orders, the others before it."""

RULES: Mapping[str, str | None] = {
    "check": "orders_amount_check",
    "unique": "orders_serial_key",
    "fk": "orders_status_fk",
    "not_null": "amount",
    "type": "22003",
    "malformed": None,
}
"""Kind of a poison row -> the rule that it breaks in the target: the constraint, the column or the SQLSTATE. A message
that can't be read breaks none."""

KINDS = tuple(RULES)
"""The kinds of poison rows."""

APPLIED = "applied"
"""The outcome in the target of a change that isn't put aside."""

PAY, SHIP, CHECK = 3, 9, 5
"""How many transactions after its first one a row is changed again."""

LIFE, LONG_LIFE, CUSTOMER_LIFE, BURST_LIFE = 200, 400, 600, 600
"""For how many transactions a row lives: orders and items, those of every third order, customers, orders of a burst."""

HORIZON = 601
"""Each existing row was changed by the last transaction, or by one of so many before it."""

CUSTOMER_EVERY = 10
LARGE_EVERY, LARGE = 8, 10_000
"""One in LARGE_EVERY rows has a note of LARGE characters, which Postgres stores apart from its row (TOAST)."""

BURST_ID, POISON_ID = 10**12, 10**15
POISON_SHARD = 9
"""Poison rows are a group of their own, so that no stream of records has them."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Row = dict[str, Any]
Tape = Mapping[str, Any]
Group = tuple[str, str]
"""Table and shard."""


class Forgotten(LookupError):
    """The transaction is so old that the tape has no time for it any more."""


@dataclass(frozen=True)
class Change:
    """One change of one row. op: c, u or d. row: what it leaves, column -> value (amount: times SCALE; at:
    microseconds; facts: a document); of a deletion id, shard and the number that the row had."""

    table: str
    number: int
    op: str
    row: Row


# ---- how many there are ---------------------------------------------------------------------------------------------


def count(tape: Tape, table: str, shard: str, j: int) -> int:
    """Count the changes of a table by the transactions 1 ... j of a shard: the number of the last one."""
    if j <= 0:
        return 0
    if table == "customers":
        return _customers(j) + _customers(j - CHECK) + 2 * _customers(j - CUSTOMER_LIFE)
    short, long = max(0, j - LIFE), max(0, j - LONG_LIFE)
    purged = short - short // 3 + long // 3
    shipped = max(0, j - SHIP)
    if table == "items":
        return 2 * j + 2 * shipped + 4 * purged
    burst = sum(b["rows"] * ((b["j"] <= j) + 2 * (b["j"] + BURST_LIFE <= j)) for b in _bursts(tape, shard))
    return int(j + max(0, j - PAY) + shipped + 2 * purged + burst)


def heads(tape: Tape) -> dict[str, dict[str, int]]:
    """Return table -> shard -> the number of its newest change, with those of the transaction that is carried out."""
    return {
        table: {shard: count(tape, table, shard, int(of["begun"])) for shard, of in tape["shards"].items()}
        for table in TABLES
    }


def existing(tape: Tape) -> dict[str, dict[str, int]]:
    """Return the same for the newest change that leaves a row: a deletion leaves no record."""
    return {
        table: {shard: _newest(tape, table, shard, int(of["begun"])) for shard, of in tape["shards"].items()}
        for table in TABLES
    }


def outcomes(tape: Tape) -> dict[str, dict[str, int]]:
    """Return the same for every change that must have an outcome in the target, with those that it puts aside."""
    number = len(tape["poison"])
    told = heads(tape)
    return {**told, "orders": told["orders"] | ({f"{POISON_SHARD}": number} if number else {})}


def _newest(tape: Tape, table: str, shard: str, j: int) -> int:
    for at in range(j, 0, -1):
        number, left = count(tape, table, shard, at - 1), 0
        for name, op, *_ in _steps(tape, shard, at):
            number += name == table
            left = number if name == table and op != "d" else left
        if left:
            return left
    return 0


def _customers(j: int) -> int:
    """Count the customers that the transactions up to j create: the first creates one, and every tenth after it."""
    return max(0, j + CUSTOMER_EVERY - 1) // CUSTOMER_EVERY


def _bursts(tape: Tape, shard: str) -> list[Mapping[str, Any]]:
    return [burst for burst in tape["bursts"] if burst["shard"] == shard]


# ---- what they are --------------------------------------------------------------------------------------------------


def transaction(tape: Tape, shard: str, j: int, table: str | None = None) -> list[Change]:
    """Return the changes of transaction j of a shard, in its order. table: only those of this one."""
    numbers = {name: count(tape, name, shard, j - 1) for name in TABLES}
    made = []
    for name, op, key, stage in _steps(tape, shard, j):
        numbers[name] += 1
        if table in (None, name):
            first = name == "orders" and op == "c" and key == j
            made.append(_change(tape, shard, j, (name, op, key, stage), numbers[name], first))
    return made


def changes(tape: Tape, table: str, shard: str, lo: int, hi: int) -> Iterator[Change]:
    """Yield the changes of a table's shard whose numbers are in (lo, hi], in their order."""
    if shard == f"{POISON_SHARD}":
        yield from (Change(table, index + 1, "c", poison(tape, index)) for index in range(lo, hi))
        return
    j = _transaction_of(tape, table, shard, lo + 1)
    while lo < hi:
        for change in transaction(tape, shard, j, table):
            if lo < change.number <= hi:
                yield change
        lo, j = max(lo, count(tape, table, shard, j)), j + 1


def ddl(tape: Tape, shard: str, j: int) -> tuple[str | None, str | None]:
    """Return the SQL that transaction j runs before its changes, and after its first one of orders. The first shard
    runs it for both."""
    kind = next((one["kind"] for one in tape["versions"] if one["j"][shard] == j and shard == SHARDS[0]), None)
    sql = SHAPES[kind][1] if kind else None
    return (None, sql) if kind == "mid_transaction" else (sql, None)


def extra(tape: Tape, shard: str, j: int, first: bool = False) -> str | None:
    """Return the additional column of orders when transaction j changes them. first: in its first change of orders."""
    passed = [
        one["kind"]
        for one in tape["versions"]
        if one["j"][shard] < j or (one["j"][shard] == j and not (first and one["kind"] == "mid_transaction"))
    ]
    return SHAPES[passed[-1]][0] if passed else None


def due_us(tape: Tape, shard: str, j: int) -> int:
    """Return when transaction j is due. Raises Forgotten if the tape doesn't know it any more."""
    segments = tape["shards"][shard]["segments"]
    if not segments or j < segments[0][0]:
        raise Forgotten(f"the tape has forgotten when transaction {j} of shard {shard} was")
    first, at_us, period_us = segments[bisect_right(segments, j, key=itemgetter(0)) - 1]
    return int(at_us + (j - first) * period_us)


def poison(tape: Tape, index: int) -> Row:
    """Return a poison row, an order, by its place in the tape. Each kind breaks one rule that only the target has. The
    document of a malformed one has a number that JSON doesn't allow."""
    told = tape["poison"][index]
    key = POISON_ID + index
    row = _content(tape, "orders", key, POISON_SHARD, f"{POISON_SHARD}", "new") | {
        "id": key,
        "change": index + 1,
        "customer_id": None,
        "at": int(told["at_us"]),
        "note": f"poison: {told['kind']}",
    }
    wrong: Mapping[str, Row] = {
        "check": {"amount": -SCALE},
        "unique": {"facts": {"serial": "taken"}},
        "fk": {"status": "unheard of"},
        "not_null": {"amount": None},
        "type": {"amount": 2 * 10**14 * SCALE},
        "malformed": {"facts": '{"serial": 1e999}'},
    }
    return row | wrong[told["kind"]]


def _transaction_of(tape: Tape, table: str, shard: str, number: int) -> int:
    """Return the transaction that makes the change of this number."""
    upto = range(CUSTOMER_EVERY * max(0, number) + 1)
    return bisect_left(upto, number, key=lambda j: count(tape, table, shard, j))


def _steps(tape: Tape, shard: str, j: int) -> Iterator[tuple[str, str, int, str]]:
    """Yield (table, op, key, stage), in their order: rows are made after those to which they refer, and purged before
    them. Rows of a burst have keys above BURST_ID."""
    customer = (j - 1) // CUSTOMER_EVERY
    if (j - 1) % CUSTOMER_EVERY == 0:
        yield "customers", "c", customer, "new"
    yield "orders", "c", j, "new"
    yield "items", "c", 2 * j, "new"
    yield "items", "c", 2 * j + 1, "new"
    if j > CHECK and (j - 1 - CHECK) % CUSTOMER_EVERY == 0:
        yield "customers", "u", (j - 1 - CHECK) // CUSTOMER_EVERY, "checked"
    if j > PAY:
        yield "orders", "u", j - PAY, "paid"
    if j > SHIP:
        yield "orders", "u", j - SHIP, "shipped"
        yield "items", "u", 2 * (j - SHIP), "shipped"
        yield "items", "u", 2 * (j - SHIP) + 1, "shipped"
    for order in _ending(j):
        for item in (2 * order, 2 * order + 1):
            yield from _purge("items", item)
        yield from _purge("orders", order)
    for place, burst in enumerate(_bursts(tape, shard)):
        keys = range(BURST_ID * (place + 1), BURST_ID * (place + 1) + burst["rows"])
        if burst["j"] == j:
            yield from (("orders", "c", key, "new") for key in keys)
        if burst["j"] + BURST_LIFE == j:
            for key in keys:
                yield from _purge("orders", key)
    if j > CUSTOMER_LIFE and (j - 1 - CUSTOMER_LIFE) % CUSTOMER_EVERY == 0:
        yield from _purge("customers", (j - 1 - CUSTOMER_LIFE) // CUSTOMER_EVERY)


def _ending(j: int) -> list[int]:
    """Return the orders whose life ends in transaction j."""
    short, long = j - LIFE, j - LONG_LIFE
    return [o for o, own in ((short, short % 3 != 0), (long, long % 3 == 0)) if o >= 1 and own]


def _purge(table: str, key: int) -> Iterator[tuple[str, str, int, str]]:
    yield table, "u", key, "closed"
    yield table, "d", key, ""


def _change(tape: Tape, shard: str, j: int, step: tuple[str, str, int, str], number: int, first: bool) -> Change:
    table, op, key, stage = step
    id_ = key * len(SHARDS) + int(shard)
    if op == "d":
        return Change(table, number, op, {"id": id_, "shard": int(shard), "change": number - 1})
    row = _content(tape, table, key, int(shard), shard, stage) | {"id": id_, "change": number}
    row["at"] = due_us(tape, shard, j)
    if table == "orders":
        if key < BURST_ID:
            row["customer_id"] = (key - 1) // CUSTOMER_EVERY * len(SHARDS) + int(shard)
        else:
            burst = _bursts(tape, shard)[key // BURST_ID - 1]
            row["at"] = due_us(tape, shard, burst["j"]) - burst["age_us"] + (key % BURST_ID)
        if (column := extra(tape, shard, j, first)) is not None:
            row[column] = f"{column}-{(key + len(stage)) % 5}"
    if table == "items":
        row["order_id"] = key // 2 * len(SHARDS) + int(shard)
    return Change(table, number, op, row)


def _content(tape: Tape, table: str, key: int, shard: int, salt: str, stage: str) -> Row:
    """Return a row's values at this stage of its life. The note is the same at all stages."""
    name = f"{tape['seed']}/{table}/{salt}/{key}".encode()
    drawn = int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big")
    large = drawn % LARGE_EVERY == 0 and key < BURST_ID
    note = hashlib.shake_128(name).hexdigest(LARGE // 2) if large else f"note {key}"
    row: Row = {
        "shard": shard,
        "status": stage,
        "amount": (drawn >> 8) + len(stage),
        "note": None if drawn % 11 == 1 else "" if drawn % 11 == 2 else note,
        "facts": {"stage": stage, "lines": [drawn % 7, None], "ok": drawn % 2 == 0},
    }
    return row | ({FOREIGN[table]: None} if table in FOREIGN else {})


# ---- for a ledger ---------------------------------------------------------------------------------------------------


Columns = dict[str, npt.NDArray[Any]]


def records(tape: Tape, group: Group, lo: int, hi: int) -> Columns:
    """Return the changes of a group whose numbers are in (lo, hi] and that leave a row, as the platform's records."""
    return _columns(change for change in changes(tape, *group, lo, hi) if change.op != "d")


def state(tape: Tape, position: Mapping[Group, int]) -> Columns:
    """Return the rows that exist after each group's change of this number, each with the number of its own last change.
    A group that is left out has none."""
    return _columns(change for group, number in position.items() for change in _rows(tape, group, number))


def events(tape: Tape, group: Group, lo: int, hi: int) -> Columns:
    """Return all changes of a group whose numbers are in (lo, hi], each with its outcome in the target, and the rule.
    Deletions have only number, id and op."""
    listed = list(changes(tape, *group, lo, hi))
    ends = [
        tape["poison"][change.number - 1]["kind"] if change.row["shard"] == POISON_SHARD else APPLIED
        for change in listed
    ]
    told = [_unread(change) if end == "malformed" else change for change, end in zip(listed, ends, strict=True)]
    return _columns(told) | {
        "op": _array([change.op for change in listed]),
        "outcome": _array(ends),
        "rule": _array([RULES.get(end) for end in ends]),
    }


def _unread(change: Change) -> Change:
    """Return what is known of a change whose message can't be read."""
    return Change(change.table, change.number, change.op, {name: change.row[name] for name in ("id", "shard")})


def _rows(tape: Tape, group: Group, number: int) -> Iterable[Change]:
    """Return the last change of each row that exists after this one."""
    lo = count(tape, *group, _transaction_of(tape, *group, number) - HORIZON)
    last: dict[int, Change] = {}
    for change in changes(tape, *group, lo, number):
        last[change.row["id"]] = change
    return (change for change in last.values() if change.op != "d")


def _columns(found: Iterable[Change]) -> Columns:
    """Return canonical values by field. A note stands as its MD5: a log lacks a note that an update doesn't change."""
    listed = list(found)
    rows = [change.row for change in listed]
    made = {
        "table": _array([change.table for change in listed]),
        "shard": _array([row["shard"] for row in rows]),
        "id": _array([row["id"] for row in rows]),
        "change": _array([change.number for change in listed]),
        "parent": _array([row.get(FOREIGN.get(change.table, "")) for change, row in zip(listed, rows, strict=True)]),
        "status": _array([row.get("status") for row in rows]),
        "amount": _array([row.get("amount") for row in rows]),
        "note": _array([md5(row.get("note")) for row in rows]),
        "facts": _array([document(row["facts"]) if "facts" in row else None for row in rows]),
        "at": _array([row.get("at") for row in rows]),
    }
    return made | {column: _array([row.get(column) for row in rows]) for column in EXTRA}


def md5(text: str | None) -> str | None:
    """Return a note's MD5 as Postgres' md5() does."""
    return None if text is None else hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def moment(at_us: int) -> datetime:
    """Convert a time for a database's driver, to the microsecond."""
    return EPOCH + timedelta(microseconds=at_us)


def document(facts: Any) -> bytes:
    """Return JSON with sorted keys and without spaces."""
    return orjson.dumps(facts, option=orjson.OPT_SORT_KEYS)


def text(facts: Any) -> str:
    """Return a document as text for the database. A malformed one is a text already."""
    return facts if isinstance(facts, str) else orjson.dumps(facts).decode()


def _array(values: Sequence[Any]) -> npt.NDArray[Any]:
    """Return an array of integers if none is missing, else of objects."""
    if all(type(value) is int for value in values):
        return np.array(values, dtype=np.int64)
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column

"""What a verdict on data costs beside a peer in the same run: python -m benchmarks.verify [PART ...]

Parts: numpy, clickhouse, postgres, log; all of them unless said. Each line is the best of several rounds, in which ours
and what it is held against take turns: on a busy machine the ratio still holds, a rate says less than it could. Beside
a figure that has one stands its target, and whether it is met. Needs the embedded stack's packages, and no stack.

Exit code 3, when nothing was asked for. Not covered: a server on another machine, where the network is the bound.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import psycopg
import reladiff
from confluent_kafka import Producer
from psycopg.sql import SQL

from benchmarks._measured import ended, nothing
from benchmarks.rest import ADDITIONS, additions_s
from compose.ports import free_ports
from compose.servers import clickhouse, kafka, postgres
from gameday.drivers.clickhouse import Hop, Server
from gameday.drivers.kafka import Hop as Log
from gameday.drivers.postgres import Hop as Table
from gameday.errors import DriverError
from gameday.model import Group, Window
from gameday.records.declaration import Stream, stream
from gameday.records.hashing import row_hash
from gameday.records.paths import reader
from gameday.records.tallies import tally
from gameday.state import State
from pipelines.trades.schema import query
from tests.contract.conftest import serving

ROWS = 10_000_000
LARGE_ROWS = 100_000_000
POSTGRES_ROWS = 1_000_000
MESSAGES = 400_000
EVENT_SHARE = 8
"""A change event with its schema is as long as so many of the other messages and more."""

GROUPS, MANY_GROUPS = 9, 10_000
PIECE_ROWS = 5_000_000
"""A table is filled in pieces, for each has its time."""

ROUNDS = 5
"""The best of these counts: the others were disturbed."""

MEMORY_BYTES_MAX = 1 << 30
WITHIN_S = 120.0
TYPES = {"amount": "decimal(8)", "size": "decimal(8)", "side": "text", "at": "time(us)"}
COLUMNS = "shop LowCardinality(String), n UInt64, amount Decimal(38, 8), size Decimal(38, 8), side UInt8, at Int64"

Work = Callable[[], object]


def main() -> int:
    """Measure and print."""
    parts: Mapping[str, Callable[[argparse.Namespace], None]] = {
        "numpy": in_numpy,
        "clickhouse": in_clickhouse,
        "postgres": in_postgres,
        "log": in_log,
    }
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("part", nargs="*", choices=[*parts, []], help="all of them unless said")
    parser.add_argument("--rows", type=int, default=ROWS, help="of each table in ClickHouse; 0: none")
    parser.add_argument("--large", type=int, default=LARGE_ROWS, help="of the table a window lies in; 0: none")
    parser.add_argument("--postgres", type=int, default=POSTGRES_ROWS, help="rows of each table in Postgres; 0: none")
    parser.add_argument("--messages", type=int, default=MESSAGES, help="in the log; 0: none")
    options = parser.parse_args()
    chosen = options.part or list(parts)
    sizes = {"clickhouse": options.rows + options.large, "postgres": options.postgres, "log": options.messages}
    chosen = [part for part in chosen if sizes.get(part, 1)]
    if not chosen:
        return nothing("neither rows nor messages were asked for")
    print(f"{ADDITIONS:,} additions take {additions_s():.2f} s here")
    for part in chosen:
        parts[part](options)
    return 0


def best_s(*works: Work, clock: Callable[[], float] = time.perf_counter) -> list[float]:
    """The shortest time of each, which take turns."""
    found = [float("inf")] * len(works)
    for _ in range(ROUNDS):
        for place, work in enumerate(works):
            began = clock()
            work()
            found[place] = min(found[place], clock() - began)
    return found


def tell(name: str, figure: str, wanted: str = "", met: bool = True) -> None:
    """One line."""
    target = f"  wanted {wanted}: {'met' if met else 'MISSED'}" if wanted else ""
    print(f"{name:60} {figure}{target}", flush=True)


def beside(name: str, took_s: float, peer_s: float, peer: str, most: float | None = None) -> None:
    """A line of how many times as long as its peer something takes."""
    wanted = f"<= {most:g} x" if most else ""
    tell(name, f"{took_s:8.3f} s  {took_s / peer_s:6.2f} x {peer}", wanted, most is None or took_s / peer_s <= most)


def declared() -> Stream:
    """Orders of many shops, as wide as the reference platform's trades."""
    mistakes: list[str] = []
    places = {"hops": ["a", "b"], "visible": "b", "path": ["x"]}
    told = {"key": ["shop", "n"], "group": ["shop"], "sequence": "n", "fields": TYPES, **places}
    orders = stream("orders", told, ["a", "b"], mistakes)
    assert orders is not None, mistakes
    return orders


# ---- ClickHouse ------------------------------------------------------------------------------------------------------


def in_clickhouse(options: argparse.Namespace) -> None:
    """The two stages of a digest, over nine groups and over ten thousand; and a small window of a large table."""
    with tempfile.TemporaryDirectory() as folder:
        (port,) = free_ports(1)
        with serving(clickhouse.process(Path(folder), port, "benchmark")):
            url = clickhouse.url(port, "benchmark")
            if options.rows:
                _stages(url, options.rows)
            if options.large:
                _narrow(url, options.large)


def _stages(url: str, rows: int) -> None:
    few, many = (_orders(url, groups, rows) for groups in (GROUPS, MANY_GROUPS))
    plain = "SELECT sum(cityHash64(shop, n, amount, size, side, at)) FROM"
    server = Server(url)
    for name, most in (("sums", 3.0), ("digest", 12.0)):
        works: list[Work] = []
        for hop, window in (few, many):
            works += [lambda hop=hop: server.rows(f"{plain} {hop.table}", WITHIN_S)]  # type: ignore[misc]
            works += [lambda hop=hop, window=window, name=name: getattr(hop, name)(window)]  # type: ignore[misc]
        few_plain_s, few_s, many_plain_s, many_s = best_s(*works)
        shown = {"sums": "cheap stage", "digest": "exact"}[name]
        beside(f"ClickHouse, {rows:,} rows: {shown}, {GROUPS} groups", few_s, few_plain_s, "the plain scan", most)
        beside(f"  {shown}, {MANY_GROUPS:,} groups", many_s, many_plain_s, "the plain scan", most)
        beside(f"  {shown}, {MANY_GROUPS:,} groups", many_s, few_s, f"{GROUPS} groups", 1.5)
    for hop, window in (few, many):
        bounded = Hop(hop.url, hop.kind, hop.table, hop.stream, hop.fields, settings=_bounded())
        met = _fits(bounded, window)
        tell(f"  exact, {len(window.hi):,} groups, memory", "", f"<= {MEMORY_BYTES_MAX >> 20} MiB", met)
    hop, window = few
    query(url, f"INSERT INTO {hop.table} SELECT * FROM {hop.table} WHERE n % 100 = 0")
    plain_s, again_s = best_s(lambda: server.rows(f"{plain} {hop.table}", WITHIN_S), lambda: hop.digest(window))
    beside("  exact, 1 % of the rows twice", again_s, plain_s, "the plain scan")


def _bounded() -> dict[str, int]:
    return {"max_memory_usage": MEMORY_BYTES_MAX}


def _fits(hop: Hop, window: Window) -> bool:
    """Whether the server gives a digest in this memory."""
    try:
        hop.digest(window)
    except DriverError as e:
        if "memory limit" not in str(e).lower():
            raise
        return False
    return True


def _narrow(url: str, rows: int) -> None:
    hop, whole = _orders(url, GROUPS, rows, "large")
    lows = {group: hi // 2 for group, hi in whole.hi.items()}
    window = Window(lows, {group: lo + 1_000 for group, lo in lows.items()})
    for name in ("sums", "digest"):
        (took_s,) = best_s(lambda name=name: getattr(hop, name)(window))  # type: ignore[misc]
        shown = {"sums": "cheap stage", "digest": "exact"}[name]
        tell(f"  1,000 ids a group of {rows:,} rows: {shown}", f"{took_s:8.3f} s", "<= 0.3 s", took_s <= 0.3)


def _orders(url: str, groups: int, rows: int, table: str | None = None) -> tuple[Hop, Window]:
    """A table of so many rows, and a window that nearly all of them are in, with bounds of each group's own."""
    table = f"default.{table or f't{groups}'}"
    query(url, f"CREATE TABLE {table} ({COLUMNS}) ENGINE = MergeTree ORDER BY (shop, n)")
    made = f"concat('s', toString(number % {groups})), intDiv(number, {groups}) + 1"
    made += ", number % 99, number % 7, number % 2, number"
    for start in range(0, rows, PIECE_ROWS):
        query(url, f"INSERT INTO {table} SELECT {made} FROM numbers({start}, {min(PIECE_ROWS, rows - start)})")
    hop = Hop(url, "once", table, declared(), fields={"side": "CAST(side AS Enum8('buy' = 0, 'sell' = 1))"})
    names: list[Group] = [(f"s{n}",) for n in range(groups)]
    lo, hi = {g: n % 7 for n, g in enumerate(names)}, {g: rows // groups - n % 5 for n, g in enumerate(names)}
    return hop, Window(lo, hi)


# ---- Postgres --------------------------------------------------------------------------------------------------------


def in_postgres(options: argparse.Namespace) -> None:
    """A digest beside a COPY that nobody receives; and two equal tables, compared by us and by reladiff. Both ask both
    tables at a time."""
    with tempfile.TemporaryDirectory() as folder:
        state = State(Path(folder)).ensure()
        (port,) = free_ports(1)
        postgres.get(state, lambda _: None)
        try:
            with serving(postgres.process(state, "benchmark", port, "benchmark", "benchmark")):
                _compared(postgres.url(port, "benchmark", "benchmark", "postgres"), options.postgres)
        finally:
            postgres.remove(state)


def _compared(dsn: str, rows: int) -> None:
    columns = "shop text, n int8 PRIMARY KEY, amount numeric(38, 8), size numeric(38, 8), side text, at timestamptz"
    made = "'s' || i % 9, i + 1, i % 99 / 100.0, i % 7, CASE i % 2 WHEN 0 THEN 'buy' ELSE 'sell' END"
    made += f", to_timestamp(i) FROM generate_series(0, {rows - 1}) AS i"
    with psycopg.connect(dsn, autocommit=True) as connection:
        for name in ("source", "sink"):
            connection.execute(SQL(f"CREATE TABLE {name} ({columns})"))
            connection.execute(SQL(f"INSERT INTO {name} SELECT {made}"))
            connection.execute(SQL(f"CREATE INDEX ON {name} (shop, n)"))
            connection.execute(SQL(f"VACUUM ANALYZE {name}"))
        source, sink = (Table(dsn, "once", declared(), name) for name in ("source", "sink"))
        heads = source.heads()
        whole = Window(dict.fromkeys(heads, 0), heads)
        plain = "COPY source TO '/dev/null' (FORMAT BINARY)"
        plain_s, digest_s = best_s(lambda: connection.execute(plain), lambda: source.digest(whole))
        beside(f"Postgres, {rows:,} rows: digest", digest_s, plain_s, "COPY to nowhere")
        tell("  digest", f"{rows / digest_s:10,.0f} rows/s", ">= 300,000 rows/s", rows / digest_s >= 300_000)

        def ours() -> None:
            found = source.both(sink, whole)
            assert found is not None
            assert found[0].groups == found[1].groups

        def theirs() -> None:
            rest = ("shop", "amount", "size", "side", "at")
            tables = [reladiff.connect_to_table(dsn, name, "n", extra_columns=rest) for name in ("source", "sink")]
            try:
                assert list(reladiff.diff_tables(*tables, algorithm=reladiff.Algorithm.HASHDIFF)) == []
            finally:
                for table in tables:
                    table.database.close()

        ours_s, theirs_s = best_s(ours, theirs)
        figure = f"{ours_s:8.3f} s, reladiff {theirs_s:.3f} s: {theirs_s / ours_s:.2f} x as fast"
        tell("  two equal tables", figure, ">= 5 x", theirs_s / ours_s >= 5)


# ---- the log ---------------------------------------------------------------------------------------------------------


def in_log(options: argparse.Namespace) -> None:
    """JSON messages made into columns and hashed, beside parsing them one by one; and a digest of a real log."""
    raw = [
        orjson.dumps(
            {
                "shop": f"s{i % GROUPS}",
                "n": i // GROUPS + 1,
                "amount": f"{i % 99}.{i % 7}0",
                "size": f"{i % 7}.00000000",
                "side": ("buy", "sell")[i % 2],
                "at": 1_700_000_000_000_000 + i,
            }
        )
        for i in range(options.messages)
    ]
    read, orders = reader(declared(), {}, "hops.log", []), declared()
    pieces = [raw[start : start + 2_000] for start in range(0, len(raw), 2_000)]

    def hashed() -> None:
        for piece in pieces:
            table = read.columns([None] * len(piece), piece)
            assert table is not None
            orders.row_hashes(table[1])

    def parsed() -> None:
        for piece in pieces:
            [orjson.loads(value) for value in piece]

    parsed_s, hashed_s = best_s(parsed, hashed, clock=time.process_time)
    beside(f"{len(raw):,} JSON messages: columns and hashes", hashed_s, parsed_s, "orjson alone")
    rate = len(raw) / hashed_s
    tell("  columns and hashes", f"{rate:10,.0f} messages/s/core", ">= 500,000", rate >= 500_000)
    _events(options.messages // EVENT_SHARE)
    with _kept_log(raw) as broker:
        hop = Log(broker, orders, ["orders"])
        names: Sequence[Group] = [(f"s{n}",) for n in range(GROUPS)]
        window = Window(dict.fromkeys(names, 0), dict.fromkeys(names, len(raw)))
        rows: list[Any] = []
        (digest_s,) = best_s(
            lambda: rows.append(sum(t.rows for t in hop.digest(window)[0].groups.values())), clock=time.process_time
        )
        assert set(rows) == {len(raw)}
        tell("  digest of a log, from the broker on", f"{len(raw) / digest_s:10,.0f} messages/s/core")


def _events(messages: int) -> None:
    """Debezium's change events, each with its schema, beside parsing all of each."""
    raw = [_event(i) for i in range(messages)]
    read, orders = reader(declared(), {"format": "debezium"}, "hops.log", []), declared()

    def hashed() -> None:
        for start in range(0, len(raw), 2_000):
            piece = raw[start : start + 2_000]
            table = read.columns([None] * len(piece), piece)
            assert table is not None
            orders.row_hashes(table[1])

    def parsed() -> None:
        for value in raw:
            orjson.loads(value)

    parsed_s, hashed_s = best_s(parsed, hashed, clock=time.process_time)
    beside(f"{messages:,} change events with schema: columns and hashes", hashed_s, parsed_s, "orjson alone", 1.5)


def _event(i: int) -> bytes:
    """An order's, with what Debezium tells beside the row."""
    kinds = {"shop": "string", "n": "int64", "amount": "string", "size": "string", "side": "string", "at": "int64"}
    names = {"at": {"name": "io.debezium.time.MicroTimestamp", "version": 1}}
    row = [{"type": kind, "optional": True, "field": name, **names.get(name, {})} for name, kind in kinds.items()]
    source = [{"type": "string", "optional": True, "field": f"told_{n}"} for n in range(20)]
    structs = [("before", row), ("after", row), ("source", source), ("transaction", source[:3])]
    fields = [{"type": "struct", "optional": True, "field": name, "fields": fields} for name, fields in structs]
    schema = {"type": "struct", "name": "shop.public.orders.Envelope", "fields": fields, "optional": False}
    after = {"shop": f"s{i % GROUPS}", "n": i // GROUPS + 1, "amount": f"{i % 99}.{i % 7}0", "size": f"{i % 7}.0"}
    after |= {"side": ("buy", "sell")[i % 2], "at": 1_700_000_000_000_000 + i}
    about = {one["field"]: f"something {n}" for n, one in enumerate(source)}
    payload = {"before": None, "after": after, "source": about, "transaction": None, "op": "c", "ts_ms": i}
    return orjson.dumps({"schema": schema, "payload": payload})


@contextmanager
def _kept_log(raw: Sequence[bytes]) -> Iterator[str]:
    """A broker whose topic `orders` holds these messages."""
    kafka.get(lambda _: None)
    with tempfile.TemporaryDirectory() as folder:
        port, controller = free_ports(2)
        listener = kafka.Listener("DIRECT", port, port)
        with serving(kafka.process(Path(folder), (listener,), controller, cluster="benchmark")) as _:
            broker = f"127.0.0.1:{port}"
            kafka.create_topics(broker, {"orders": 1})
            producer = Producer({"bootstrap.servers": broker, "linger.ms": 20, "log_level": 0})
            for value in raw:
                while True:
                    try:
                        producer.produce("orders", value)
                        break
                    except BufferError:
                        producer.poll(0.1)
            if left := producer.flush(60):
                raise SystemExit(nothing(f"{left} messages did not reach the broker"))
            yield broker


# ---- in memory -------------------------------------------------------------------------------------------------------


def in_numpy(options: argparse.Namespace) -> None:
    """Hash and tally of columns in memory, beside a plain sum of the same columns."""
    rows = 2_000_000
    random = np.random.default_rng(1)
    ids = np.arange(1, rows + 1, dtype=np.int64)
    columns = [ids, *(random.integers(0, 10**12, rows) for _ in range(4))]
    hashes = row_hash(columns)
    again = np.sort(np.concatenate([ids, random.choice(ids, rows // 100)]))
    shuffled = random.permutation(ids)
    works: Mapping[str, Work] = {
        "sum": lambda: sum(int(c.sum()) for c in columns),
        f"row_hash of {len(columns)} columns": lambda: row_hash(columns),
        "tally, in order": lambda: tally(ids, hashes, ordered=True),
        "tally, 1 % sent again": lambda: tally(again, hashes[again - 1], ordered=True),
        "tally, in no order": lambda: tally(shuffled, hashes, ordered=True),
    }
    sum_s, *took_s = best_s(*works.values())
    for name, one_s in zip([*works][1:], took_s, strict=True):
        beside(f"numpy, {rows:,} rows: {name}", one_s, sum_s, "the plain sum")


if __name__ == "__main__":
    ended(main)

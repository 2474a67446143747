"""How fast rows are hashed and tallied, as ratios against a plain numpy sum of the same columns in the same run, and in
ClickHouse against a plain scan that hashes the same columns, in Postgres against a COPY of the table to nowhere:
figures of a busy machine compare that way.

Run: python -m benchmarks.digest [million rows in ClickHouse, 10 unless said; 0: none; a tenth of them in Postgres].
Needs the embedded stack's packages, no stack.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psycopg
from psycopg.sql import SQL

from compose.ports import free_ports
from compose.servers import clickhouse, postgres
from gameday.drivers.clickhouse import Hop, Server
from gameday.drivers.postgres import Hop as Table
from gameday.model import Group, Window
from gameday.records.declaration import Stream, stream
from gameday.records.hashing import row_hash
from gameday.records.tallies import tally
from gameday.state import State
from pipelines.trades.schema import query
from tests.contract.conftest import serving

ROWS = 2_000_000
ROUNDS = 5
"""The best of these counts: the others were disturbed."""


def best_s(work: Callable[[], object]) -> float:
    """The shortest of ROUNDS runs."""
    found = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return min(found)


def main() -> None:
    """Print one line a measurement."""
    in_numpy()
    millions = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    if millions:
        with tempfile.TemporaryDirectory() as folder:
            (port,) = free_ports(1)
            with serving(clickhouse.process(Path(folder), port, "benchmark")):
                in_clickhouse(clickhouse.url(port, "benchmark"), millions * 1_000_000)
            state = State(Path(folder) / "state").ensure()
            postgres.get(state, lambda _: None)
            try:
                with serving(postgres.process(state, "benchmark", port, "benchmark", "benchmark")):
                    in_postgres(postgres.url(port, "benchmark", "benchmark", "postgres"), millions * 100_000)
            finally:
                postgres.remove(state)


def declared() -> Stream:
    """Orders of many shops, as wide as the reference platform's trades."""
    mistakes: list[str] = []
    fields = {"amount": "decimal(8)", "size": "decimal(8)", "side": "text", "at": "time(us)"}
    places = {"hops": ["a", "b"], "visible": "b", "path": ["x"]}
    told = {"key": ["shop", "n"], "group": ["shop"], "sequence": "n", "fields": fields, **places}
    orders = stream("orders", told, ["a", "b"], mistakes)
    assert orders is not None, mistakes
    return orders


def in_clickhouse(url: str, rows: int) -> None:
    """The two stages of a digest, over nine groups and over ten thousand, in tables of as many rows."""
    server, orders = Server(url), declared()
    columns = "shop LowCardinality(String), n UInt64, amount Decimal(38, 8), size Decimal(38, 8), side UInt8, at Int64"
    plain = "SELECT sum(cityHash64(shop, n, amount, size, side, at)) FROM"
    for groups in (9, 10_000):
        table = f"default.t{groups}"
        query(url, f"CREATE TABLE {table} ({columns}) ENGINE = MergeTree ORDER BY (shop, n)")
        made = f"concat('s', toString(number % {groups})), intDiv(number, {groups}) + 1"
        made += ", number % 99, number % 7, number % 2, number"
        query(url, f"INSERT INTO {table} SELECT {made} FROM numbers({rows})")
        side = "CAST(side AS Enum8('buy' = 0, 'sell' = 1))"
        hop = Hop(url, "once", table, orders, fields={"side": side})
        names: list[Group] = [(f"s{n}",) for n in range(groups)]
        window = Window(dict.fromkeys(names, 0), dict.fromkeys(names, rows))
        narrow = Window(dict.fromkeys(names, 1_000), dict.fromkeys(names, 2_000))
        scan_s = best_s(lambda table=table: server.rows(f"{plain} {table}", 120.0))  # type: ignore[misc]
        work: dict[str, Callable[[], object]] = {
            f"plain scan, {groups} groups": lambda table=table: server.rows(f"{plain} {table}", 120.0),  # type: ignore[misc]
            "sums": lambda hop=hop, window=window: hop.sums(window),  # type: ignore[misc]
            "exact": lambda hop=hop, window=window: hop.digest(window),  # type: ignore[misc]
            "sums of 1,000 ids a group": lambda hop=hop, narrow=narrow: hop.sums(narrow),  # type: ignore[misc]
        }
        for name, one in work.items():
            took_s = best_s(one)
            print(
                f"{name:28} {rows / took_s / 1e6:8.1f} M rows/s   {took_s / scan_s:6.1f} x the plain scan", flush=True
            )


def in_postgres(dsn: str, rows: int) -> None:
    """A digest of nine groups beside a COPY of the same table that nobody receives."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        columns = "shop text, n int8, amount numeric(38, 8), size numeric(38, 8), side text, at timestamptz"
        connection.execute(SQL(f"CREATE TABLE orders ({columns})"))
        made = "'s' || i % 9, i / 9 + 1, i % 99 / 100.0, i % 7, CASE i % 2 WHEN 0 THEN 'buy' ELSE 'sell' END"
        made += f", to_timestamp(i) FROM generate_series(0, {rows - 1}) AS i"
        connection.execute(SQL(f"INSERT INTO orders SELECT {made}"))
        connection.execute("CREATE INDEX ON orders (shop, n)")
        connection.execute("VACUUM ANALYZE orders")
        hop = Table(dsn, "once", declared(), "orders")
        heads = hop.heads()
        whole = Window(dict.fromkeys(heads, 0), heads)
        narrow = Window(dict.fromkeys(heads, 1_000), dict.fromkeys(heads, 2_000))
        plain = "COPY orders TO '/dev/null' (FORMAT BINARY)"
        work: dict[str, Callable[[], object]] = {
            "plain COPY in Postgres": lambda: connection.execute(plain),
            "digest": lambda: hop.digest(whole),
            "digest of 1,000 ids a group": lambda: hop.digest(narrow),
            "heads": lambda: hop.heads(),
        }
        copy_s = best_s(next(iter(work.values())))
        for name, one in work.items():
            took_s = best_s(one)
            print(
                f"{name:28} {rows / took_s / 1e6:8.2f} M rows/s   {took_s / copy_s:6.2f} x the plain COPY", flush=True
            )


def in_numpy() -> None:
    """Hash and tally of columns in memory."""
    random = np.random.default_rng(1)
    ids = np.arange(1, ROWS + 1, dtype=np.int64)
    columns = [ids, *(random.integers(0, 10**12, ROWS) for _ in range(4))]
    hashes = row_hash(columns)
    again = np.sort(np.concatenate([ids, random.choice(ids, ROWS // 100)]))
    shuffled = random.permutation(ids)
    work: dict[str, Callable[[], object]] = {
        "plain sum of the columns": lambda: sum(int(c.sum()) for c in columns),
        f"row_hash of {len(columns)} columns": lambda: row_hash(columns),
        "tally, in order": lambda: tally(ids, hashes, ordered=True),
        "tally, 1 % sent again": lambda: tally(again, hashes[again - 1], ordered=True),
        "tally, in no order": lambda: tally(shuffled, hashes, ordered=True),
    }
    sum_s = best_s(next(iter(work.values())))
    for name, one in work.items():
        took_s = best_s(one)
        print(f"{name:28} {ROWS / took_s / 1e6:8.1f} M rows/s   {took_s / sum_s:6.1f} x the plain sum")


if __name__ == "__main__":
    main()

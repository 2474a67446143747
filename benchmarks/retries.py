"""What passing errors of its target cost the CDC sink: python -m benchmarks.retries [--transactions N] [--seconds S]

The sink runs as it does in the platform, between a real Kafka and a real Postgres of its own. A share of its batches
(0, 1, 5 and 20 %) fails with serialization_failure (40001, the failpoint `sink::execute`), and is tried again. For each
share: how many changes a second it applies of a log that is full, and how long a change takes at a steady rate from the
log to the target's heads. All in one run; each share takes turns with a sink without errors, and its ratios are to that
one: they hold on a busy machine, the figures say less than they could. The first line, which has no errors on either
side, says how far. The share that is printed was counted.

Exit code 3, without figures, when nothing was asked for, or when no batch failed where some had to. Not covered: errors
that last, which stop a batch until they are over (the failure tests), and Connect.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from benchmarks._measured import ended, nothing
from compose.ports import free_ports
from compose.servers import postgres
from gameday.errors import GamedayError, NotUp
from gameday.state import State
from gameday.system.polling import until
from pipelines.cdc import schema
from pipelines.cdc.tape import SHARDS, transaction
from tests.contract.cdc.debezium import Log
from tests.contract.cdc.rig import Process
from tests.contract.conftest import new_broker, serving

SHARES = (0.0, 0.01, 0.05, 0.20)
STATE = "40001"
TABLES_EACH = 3
"""How often a batch asks the point: once for each table that it has rows of."""

HITS = 400
"""So many batches fail at most. They are evenly spread, so that few batches are enough for a small share."""

RATE_HZ = 20.0
"""Transactions a second, of each shard, while the delay is measured: as the platform's workload has."""

START_US = 1_790_000_000_000_000
APPLIED_WITHIN_S = 300.0
LOOK_EVERY_S = 0.002


@dataclass(frozen=True)
class Figures:
    """Of one share. failed: of the attempts at a batch. delays_s: of each transaction, ascending."""

    changes_s: float
    failed: float
    delays_s: Sequence[float]

    def delay_s(self, share: float) -> float:
        return self.delays_s[min(len(self.delays_s) - 1, int(share * len(self.delays_s)))]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--transactions", type=int, default=2000, help="of each shard, in the full log")
    parser.add_argument("--seconds", type=float, default=30.0, help="for the delay, of each share")
    options = parser.parse_args()
    if options.transactions <= 0 or options.seconds <= 0:
        return nothing("--transactions and --seconds ask for no change")
    try:
        found = measured(options.transactions, options.seconds)
    except GamedayError as e:
        return nothing(e)
    print(f"{'failing':>8} {'counted':>8} {'changes/s':>10} {'ratio':>6} {'delay p50':>10} {'p99':>8} {'ratio':>6}")
    for share, (clean, one) in found.items():
        speed, slower = one.changes_s / clean.changes_s, one.delay_s(0.99) / clean.delay_s(0.99)
        delays = " ".join(f"{one.delay_s(at) * 1e3:{width}.0f} ms" for at, width in ((0.5, 7), (0.99, 5)))
        print(f"{share:8.0%} {one.failed:8.1%} {one.changes_s:10,.0f} {speed:6.2f} {delays} {slower:6.2f}")
    return 0


def measured(transactions: int, seconds: float) -> Mapping[float, tuple[Figures, Figures]]:
    """Share -> the figures without errors, measured just before, and its own. Raises NotUp when no batch failed where
    some had to."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        service = new_broker(folder / "kafka")
        broker = str(service.ready).removeprefix("kafka://")
        state = State(folder / "postgres").ensure()
        (port,) = free_ports(1)
        postgres.get(state, lambda _: None)
        try:
            with serving(service), serving(postgres.process(state, "postgres", port, "sink", "sink")):
                address = postgres.url(port, "sink", "sink", "postgres")
                return {
                    share: (
                        _of(0.0, f"clean{number}", address, broker, folder, transactions, seconds),
                        _of(share, f"failing{number}", address, broker, folder, transactions, seconds),
                    )
                    for number, share in enumerate(SHARES)
                }
        finally:
            postgres.remove(state)


def _of(share: float, name: str, address: str, broker: str, folder: Path, transactions: int, seconds: float) -> Figures:
    postgres.create_database(address, name)
    dsn = f"{address.rpartition('/')[0]}/{name}"
    schema.apply(dsn, "target")
    log = Log(broker)
    whole = transactions + int(seconds * RATE_HZ)
    shards = {shard: {"begun": whole, "segments": [[1, START_US, 100_000]]} for shard in SHARDS}
    tape = {"seed": 1, "shards": shards, "bursts": [], "versions": [], "poison": []}
    log.transactions(tape, 0, transactions)
    sink = Process("sink", folder / name, {"TARGET_URL": dsn}, "--brokers", broker, "--prefix", log.prefix)
    step = round(TABLES_EACH / share) if share else 0
    hits = ",".join(map(str, range(step // 4, HITS * step, step))) if share else ""
    armed = {"FAILPOINTS": f"sink::execute={hits}@return({STATE})"} if share else {}
    with psycopg.connect(dsn, autocommit=True) as look, sink.running(**armed):
        changes_s = _speed(look, log, transactions)
        delays = _delays(look, log, tape, transactions, seconds)
        failed, batches = _retries(sink.port), _number(look, "SELECT count(DISTINCT xmin::text) FROM history")
    if share and not failed:  # the line would be the clean one once more
        raise NotUp(f"at {share:.0%} none of {batches} batches failed. Remedy: more --transactions, or --seconds")
    return Figures(changes_s, failed / (failed + batches), delays)


def _speed(look: psycopg.Connection[Any], log: Log, transactions: int) -> float:
    """Changes a second, from the first batch that is there to the last."""
    count = "SELECT count(*) FROM history"
    until(lambda: _number(look, count) > 0, APPLIED_WITHIN_S, LOOK_EVERY_S, "the first batch")
    began_s, before = time.monotonic(), _number(look, count)
    until(lambda: _passed(look, log.ends), APPLIED_WITHIN_S, 0.02, "the log to be applied")
    took_s, applied = time.monotonic() - began_s, _number(look, count) - before
    if not applied:
        raise NotUp(f"{transactions} transactions were one batch. Remedy: more --transactions")
    return applied / took_s


def _delays(
    look: psycopg.Connection[Any], log: Log, tape: Mapping[str, Any], begun: int, seconds: float
) -> list[float]:
    """From when a transaction is handed to the log to its change in the target's heads; of each transaction."""
    sent: dict[int, float] = {}
    shown: dict[int, float] = {}
    last = begun + int(seconds * RATE_HZ)
    numbers = {j: transaction(tape, SHARDS[0], j, "orders")[-1].number for j in range(begun + 1, last + 1)}
    due = iter(sorted(numbers))

    def follow() -> bool:
        """Whether all is there."""
        head = _number(look, "SELECT max(change) FROM heads WHERE tbl = 'orders' AND shard = %s", int(SHARDS[0]))
        now_s = time.monotonic()
        for j in [j for j in sent if j not in shown and numbers[j] <= head]:
            shown[j] = now_s
        return len(shown) == len(numbers)

    over = threading.Event()

    def write() -> None:
        began_s = time.monotonic()
        for number, j in enumerate(due):
            over.wait(max(0.0, began_s + number / RATE_HZ - time.monotonic()))
            sent[j] = time.monotonic()
            log.transactions(tape, j - 1, j)

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    until(follow, seconds + APPLIED_WITHIN_S, LOOK_EVERY_S, "every change to be there")
    writer.join()
    return sorted(shown[j] - sent[j] for j in numbers)


def _passed(look: psycopg.Connection[Any], ends: Mapping[str, int]) -> bool:
    places: dict[str, int] = dict(look.execute("SELECT topic, next FROM cdc_position").fetchall())
    return all(places.get(topic, 0) >= end for topic, end in ends.items())


def _number(look: psycopg.Connection[Any], sql: str, *values: Any) -> int:
    (found,) = look.execute(sql.encode(), values).fetchone() or (0,)
    return int(found or 0)


def _retries(port: int) -> int:
    """As the sink counts them."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return int(sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("sink_retries_total")))


if __name__ == "__main__":
    ended(main)

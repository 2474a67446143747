"""What the sampler costs and keeps: python -m benchmarks.sampler [--seconds 30] [--many]

Of the running stack it prints the processor's share and how often a thread of it woke, and for each probe the share of
its readings that came, and how far apart they were; beside it how long ten million additions take here, so that figures
of two machines can be compared.

--many: of two small stacks of its own, whose stream has nine groups and ten thousand, in Postgres and ClickHouse. Two
samplers run side by side, and the ratio of their processor time is held against its target.

Exit code 3, without figures, when a probe never answered: then the stack is not up, or not well. Not covered: what the
probes cost those that are asked.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import psycopg
from psycopg.sql import SQL

from benchmarks._measured import ended, nothing
from benchmarks.rest import ADDITIONS, additions_s, cpu_s
from compose.ports import free_ports
from compose.servers import clickhouse, postgres
from gameday import codec
from gameday.errors import GamedayError, NotUp
from gameday.model import Sample, Samples
from gameday.sampling.sampler import Sampler, Tail
from gameday.stack.live import Stack, open_stack
from gameday.state import State
from gameday.system.polling import until
from pipelines.trades.schema import query
from tests.contract.conftest import serving

__all__ = ["answered", "main", "many"]

ON_TIME_MS = 75.0
"""Half a period late at 20 Hz."""

GROUPS, MANY_GROUPS = 9, 10_000
RATIO_MAX = 1.2
PASSWORD = "benchmark"

SMALL = """
name = "s{groups}"
history = "{dsn}"
prefect.api_url = "http://127.0.0.1:1/api"
hosts.local = {{}}
components.clickhouse.probes.ping = {{ driver = "http", url = "http://127.0.0.1:{port}/ping" }}
components.postgres.probes.select = {{ driver = "postgres", dsn = "{dsn}" }}
[streams.orders]
key = ["shop", "n"]
group = ["shop"]
sequence = "n"
hops = ["source", "sink"]
visible = "sink"
path = ["postgres", "clickhouse"]
[hops.source]
driver = "postgres"
dsn = "{dsn}"
kind = "once"
table = "heads{groups}"
heads_table = "heads{groups}"
[hops.sink]
driver = "clickhouse"
url = "{url}"
kind = "once"
table = "heads{groups}"
heads_table = "heads{groups}"
"""
"""A stack of two servers, each with a view of heads that rise a thousand times a second."""


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--many", action="store_true", help="two stacks of its own, of nine groups and of ten thousand")
    options = parser.parse_args()
    if options.seconds <= 0:
        return nothing("no time was asked for")
    try:
        if options.many:
            return many(options.seconds)
        stack = open_stack()
        series, used_s, wakings, took_s = _sampled(stack, options.seconds)
        rates_hz = {spec.series: spec.rate_hz for spec in stack.probes()}
        by_probe = answered(series, list(rates_hz))
        machine_s = additions_s()
    except GamedayError as e:
        return nothing(e)
    print(
        f"processor: {100 * used_s / took_s:.1f} % of one core, {len(series)} series, {wakings / took_s:.0f} wakings/s"
    )
    print(f"{ADDITIONS:,} additions take {machine_s:.2f} s here")
    for name, samples in by_probe.items():
        took_ns = [s.took_ns for s in samples if s.value is not None]
        _tell(name, rates_hz[name], [s.at_ns for s in samples], took_ns)
    return 0


def many(seconds: float) -> int:
    """Measure and print what ten thousand groups cost beside nine. Raises NotUp as `answered` does."""
    with tempfile.TemporaryDirectory() as folder, _servers(Path(folder)) as stacks:
        used_s, counts = _beside(stacks, seconds)
    machine_s = additions_s()
    few_s, many_s = used_s
    for groups, took_s, count in zip((GROUPS, MANY_GROUPS), used_s, counts, strict=True):
        print(f"{groups:6,} groups: {100 * took_s / seconds:5.2f} % of one core, {count} series")
    ratio = many_s / few_s
    print(f"ratio {ratio:.2f}  wanted <= {RATIO_MAX:g}: {'met' if ratio <= RATIO_MAX else 'MISSED'}")
    print(f"{ADDITIONS:,} additions take {machine_s:.2f} s here")
    return 0


@contextmanager
def _servers(folder: Path) -> Iterator[list[Stack]]:
    """The two stacks, while their servers run."""
    state = State(folder / "postgres").ensure()
    postgres.get(state, lambda _: None)
    port, own = free_ports(2)
    try:
        with (
            serving(postgres.process(state, "benchmark-postgres", own, "gameday", PASSWORD)),
            serving(clickhouse.process(folder / "clickhouse", port, PASSWORD)),
        ):
            dsn, url = postgres.url(own, "gameday", PASSWORD, "postgres"), clickhouse.url(port, PASSWORD)
            stacks = []
            for groups in (GROUPS, MANY_GROUPS):
                now = "toUnixTimestamp64Milli(now64(3))"
                made = f"SELECT concat('s', toString(number)) AS shop, {now} AS n FROM numbers({groups})"
                query(url, f"CREATE VIEW heads{groups} AS {made}")
                now = "(extract(epoch FROM clock_timestamp()) * 1000)::int8"
                made = f"SELECT 's' || i AS shop, {now} AS n FROM generate_series(0, {groups - 1}) AS i"
                with psycopg.connect(dsn, autocommit=True) as connection:
                    connection.execute(SQL(f"CREATE VIEW heads{groups} AS {made}"))
                config = folder / f"{groups}.toml"
                config.write_text(SMALL.format(groups=groups, dsn=dsn, url=url, port=port))
                stacks.append(open_stack(config, State(folder / f"state{groups}").ensure()))
            yield stacks
    finally:
        postgres.remove(state)


def _beside(stacks: Sequence[Stack], seconds: float) -> tuple[list[float], list[int]]:
    """Sample all stacks at the same time for so long: of each the processor's seconds, and how many series it has."""
    run = f"benchmark-{os.getpid()}"
    started: list[Sampler] = []
    try:
        for stack in stacks:
            started.append(Sampler.start(stack, run, shards=stack.shards()))
        began_s = [cpu_s((sampler.pid,)) for sampler in started]
        until_s = time.monotonic() + seconds
        until(
            lambda: time.monotonic() >= until_s, within_s=seconds + 30, every_s=0.5, what="the end of the measurement"
        )
        used_s = [cpu_s((sampler.pid,)) - began for sampler, began in zip(started, began_s, strict=True)]
    finally:
        for sampler in started:
            sampler.stop()
    counts = []
    for stack in stacks:
        series = codec.read_samples(stack.state.samples(run))
        answered(series, [spec.series for spec in stack.probes()])
        counts.append(len(series))
    return used_s, counts


def answered(series: Samples, probes: Sequence[str]) -> dict[str, Sequence[Sample]]:
    """Probe -> the samples of one of its series. Raises NotUp naming the probes that never answered: what they cost
    unanswered says nothing of what they cost."""
    found: dict[str, Sequence[Sample]] = {}
    for probe in probes:
        mine = [
            samples for name, samples in series.items() if name == probe or name.startswith((f"{probe}/", f"{probe}."))
        ]
        found[probe] = next((s for s in mine if any(sample.value is not None for sample in s)), ())
    if silent := [probe for probe, samples in found.items() if not samples]:
        raise NotUp(f"{', '.join(silent)} never answered. Remedy: gameday up, then gameday status")
    return found


def _sampled(stack: Stack, seconds: float) -> tuple[Samples, float, int, float]:
    """Sample for so long: the samples, the processor's seconds, the threads' wakings, and in how many seconds."""
    run = f"benchmark-{os.getpid()}"
    folder = stack.state.samples(run)
    try:
        sampler = Sampler.start(stack, run, shards=stack.shards())
        try:
            tail = Tail(folder)
            began_ns, began_s, began = _now(tail), cpu_s((sampler.pid,)), _wakings(sampler.pid)
            until(lambda: _now(tail) - began_ns > seconds * 1e9, within_s=seconds + 30, every_s=0.5)
            used_s, took_s = cpu_s((sampler.pid,)) - began_s, (_now(tail) - began_ns) / 1e9
            wakings = _wakings(sampler.pid) - began
        finally:
            sampler.stop()
        return codec.read_samples(folder), used_s, wakings, took_s
    finally:
        shutil.rmtree(stack.state.run(run), ignore_errors=True)


def _tell(name: str, rate_hz: float, at_ns: Sequence[int], took_ns: Sequence[int]) -> None:
    gaps_ms = [(b - a) / 1e6 for a, b in pairwise(at_ns)]
    expected = (at_ns[-1] - at_ns[0]) / 1e9 * rate_hz
    on_time = sum(gap <= ON_TIME_MS * 20 / rate_hz for gap in gaps_ms) / len(gaps_ms)
    took = sorted(took_ns)
    print(
        f"{name:32} {rate_hz:4.0f} Hz  came {100 * len(gaps_ms) / expected:6.2f} %  on time {100 * on_time:6.2f} %  "
        f"longest gap {max(gaps_ms):5.0f} ms  answered {len(took_ns)}/{len(at_ns)}, "
        f"p50 {took[len(took) // 2] / 1e6:.1f} ms p99 {took[len(took) * 99 // 100] / 1e6:.1f} ms"
    )


def _now(tail: Tail) -> int:
    """When the youngest sample was sent."""
    return max(samples[-1].at_ns for samples in tail.recent(60).values() if samples)


def _wakings(pid: int) -> int:
    """How often its threads have gone to sleep until now; those that have ended don't count."""
    lines = [line for status in Path(f"/proc/{pid}/task").glob("*/status") for line in status.read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches:"))


if __name__ == "__main__":
    ended(main)

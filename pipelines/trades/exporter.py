"""Exports the metrics for the platform's alerts that no other program has: python -m pipelines.trades.exporter
--port P --brokers HOST:PORT --group G --topics T,… --offload-interval-s N [--textfiles FOLDER], and the environment's
OFFLOAD_MIRROR_DSN.

GET /metrics has the broker's state, a consumer group's lag, and the offload's last success, rows and failures from its
watermark; after them every *.prom file of the folder, as with node_exporter's textfile collector. Each part is looked
at once a second, apart from the requests: one that hangs blocks none.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psycopg
from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaException, TopicPartition

from pipelines.exporting import ANSWER_WAIT_S, Lag, Line, Looks, server
from pipelines.trades.addresses import DSN, given
from pipelines.trades.lines import log_json

__all__ = ["main"]

MIRROR = "OFFLOAD_MIRROR_DSN"


class Broker:
    """Looks at the broker and the group, with a consumer that never joins and reads nothing."""

    def __init__(self, brokers: str, group: str, topics: Sequence[str]) -> None:
        self._group, self._topics = group, topics
        self._lags: dict[tuple[str, int], Lag] = {}
        self._consumer = Consumer(
            {
                "bootstrap.servers": brokers,
                "group.id": group,
                "enable.auto.commit": False,
                "broker.address.family": "v4",
                "enable.sparse.connections": False,
                "reconnect.backoff.ms": 20,
                "reconnect.backoff.max.ms": 500,
                "log_level": 0,
            }
        )

    def look(self) -> Iterator[Line]:
        """Yield metrics. Raises KafkaException when the broker doesn't answer."""
        topics = self._consumer.list_topics(timeout=ANSWER_WAIT_S).topics
        slots = [TopicPartition(t, p) for t in self._topics if t in topics for p in topics[t].partitions]
        committed = {(c.topic, c.partition): c.offset for c in self._consumer.committed(slots, timeout=ANSWER_WAIT_S)}
        firsts, ends = (self._offsets(slots, at) for at in (OFFSET_BEGINNING, OFFSET_END))
        yield "broker_up", {}, 1.0
        for key, end in ends.items():
            at, now = max(firsts[key], committed[key]), time.monotonic()
            lag = self._lags.setdefault(key, Lag())
            lag.seen(now, end)
            where = {"topic": key[0], "partition": str(key[1])}
            yield "broker_end_offset", where, float(end)
            where |= {"group": self._group}
            yield "broker_consumer_offset", where, float(at)
            yield "broker_consumer_lag_records", where, float(end - at)
            yield "broker_consumer_behind_seconds", where, lag.behind_s(now, at)

    def _offsets(self, slots: Sequence[TopicPartition], at: int) -> dict[tuple[str, int], int]:
        """Return (topic, partition) -> its begin or end, for all partitions with one request: the protocol takes these
        two in place of a time. One request per partition would be more than the whole platform makes."""
        asked = [TopicPartition(slot.topic, slot.partition, at) for slot in slots]
        found = {}
        for slot in self._consumer.offsets_for_times(asked, timeout=ANSWER_WAIT_S):
            if slot.error is not None:
                raise KafkaException(slot.error)
            found[slot.topic, slot.partition] = slot.offset
        return found


def offload(dsn: str, table: str, interval_s: float) -> Iterator[Line]:
    """Yield metrics of the watermark's row. Raises psycopg.Error when the database doesn't answer."""
    wait = {"connect_timeout": 2, "options": f"-c statement_timeout={int(ANSWER_WAIT_S * 1000)}"}
    with psycopg.connect(dsn, autocommit=True, **wait) as connection:  # type: ignore[arg-type]
        row = connection.execute(
            "SELECT extract(epoch FROM last_successful_run)::float8, failure_count, rows, duration_s, "
            "status = 'running' FROM offload_watermarks WHERE table_name = %s",
            (table,),
        ).fetchone()
    where = {"table": table}
    yield "offload_watermark_up", {}, 1.0
    yield "offload_interval_seconds", where, interval_s
    if row is None:
        return
    names = ("last_success_timestamp_seconds", "failures", "rows", "duration_seconds", "running")
    for name, value in zip(names, row, strict=True):
        if value is not None:
            yield f"offload_{name}", where, float(value)


def main() -> int:
    """Serve until SIGTERM ends the process."""
    parser = argparse.ArgumentParser(description="What the platform's alerts are judged by.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--brokers", required=True, help="HOST:PORT,…")
    parser.add_argument("--group", required=True, help="the consumer group whose lag is told")
    parser.add_argument("--topics", required=True, help="its topics, separated by commas")
    parser.add_argument("--offload-table", default="trades.silver")
    parser.add_argument("--offload-interval-s", type=float, required=True, help="between two of its scheduled runs")
    parser.add_argument("--textfiles", type=Path, help="a folder of *.prom files to be told too")
    options = parser.parse_args()
    log_json()
    broker = Broker(options.brokers, options.group, options.topics.split(","))
    dsn = given(parser, MIRROR, DSN, "postgresql://USER:PASSWORD@HOST:PORT/DATABASE of offload_watermarks")
    table = (dsn, options.offload_table, options.offload_interval_s)
    looks = Looks(
        {
            "broker": (broker.look, KafkaException),
            "offload_watermark": (lambda: offload(*table), psycopg.Error),
        }
    )
    with server(options.host, options.port, looks, options.textfiles) as serving:
        serving.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Exports the metrics for the platform's alerts that no other program has: python -m pipelines.cdc.exporter
--port P --connect URL --connector NAME --slot NAME --brokers HOST:PORT --topics T,… [--textfiles FOLDER], and the
environment's SOURCE_URL and TARGET_URL.

GET /metrics has: whether source, broker, connector and target answer; how long ago the source was written and the log
grew; the slot's state; how far the sink is behind the log, and how many rows it has put aside. After them come the
*.prom files of the folder. Each part is looked at once a second, apart from the requests: one that hangs blocks none.

Connect's RUNNING proves little, because a task retries inside while the database or the broker is away. The log shows
whether changes are captured.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
from confluent_kafka import OFFSET_END, Consumer, KafkaException, TopicPartition

from pipelines.cdc.schema import EXAMPLE, SOURCE, TARGET
from pipelines.exporting import ANSWER_WAIT_S, Lag, Line, Looks, server
from pipelines.trades.addresses import DSN, given
from pipelines.trades.lines import log_json

__all__ = ["main"]

WRITTEN = "SELECT sum(n_tup_ins + n_tup_upd + n_tup_del)::bigint FROM pg_stat_user_tables WHERE relname = ANY(%s)"
SLOT = """
    SELECT coalesce(wal_status, 'lost') = 'lost' OR restart_lsn IS NULL,
           pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::float8,
           (SELECT setting::float8 * 1048576 FROM pg_settings WHERE name = 'max_slot_wal_keep_size')
    FROM pg_replication_slots WHERE slot_name = %s
"""


class Silence:
    """Measures how long ago a number last grew."""

    def __init__(self) -> None:
        self._last: tuple[float, float] | None = None

    def seen(self, at_s: float, number: float) -> float:
        """Note the number. Return since when it has been the same."""
        if self._last is None or number != self._last[1]:
            self._last = at_s, number
        return at_s - self._last[0]


class Connector:
    """Looks at what Kafka Connect says of its connector."""

    def __init__(self, url: str, name: str) -> None:
        self._url = f"{url}/connectors/{name}/status"

    def look(self) -> Iterator[Line]:
        """Yield metrics. Raises OSError when Connect doesn't answer, or has no such connector."""
        with urllib.request.urlopen(self._url, timeout=ANSWER_WAIT_S) as answer:
            told: dict[str, Any] = json.loads(answer.read())
        states = [task["state"] for task in told["tasks"]]
        yield "connector_up", {}, 1.0
        yield "connector_tasks_running", {}, float(states.count("RUNNING"))
        yield "connector_tasks_failed", {}, float([told["connector"]["state"], *states].count("FAILED"))


class Source:
    """Looks at the source database: when it was last written, and its slot."""

    def __init__(self, dsn: str, slot: str, tables: Sequence[str]) -> None:
        self._dsn, self._slot, self._tables, self._written = dsn, slot, list(tables), Silence()

    def look(self) -> Iterator[Line]:
        """Raises psycopg.Error when it does not answer."""
        with _connected(self._dsn) as connection:
            (written,) = connection.execute(WRITTEN, [self._tables]).fetchone() or (0,)
            slot = connection.execute(SLOT, [self._slot]).fetchone()
        yield "source_up", {}, 1.0
        yield "source_silent_seconds", {}, self._written.seen(time.monotonic(), float(written or 0))
        lost, retained, kept = slot or (True, None, None)
        yield "source_slot_lost", {}, float(lost)
        if retained is not None:
            yield "source_slot_retained_bytes", {}, retained
        if kept is not None and kept >= 0:
            yield "source_slot_kept_bytes", {}, kept


class Broker:
    """Looks at the ends of the topics with the changes."""

    def __init__(self, brokers: str, topics: Sequence[str]) -> None:
        self.ends: dict[str, int] = {}
        self._topics, self._grown = topics, Silence()
        self._consumer = Consumer(
            {
                "bootstrap.servers": brokers,
                "group.id": "exporter",
                "enable.auto.commit": False,
                "broker.address.family": "v4",
                "reconnect.backoff.ms": 20,
                "reconnect.backoff.max.ms": 500,
                "log_level": 0,
            }
        )

    def look(self) -> Iterator[Line]:
        """Yield metrics. Raises KafkaException when it doesn't answer."""
        asked = [TopicPartition(topic, 0, OFFSET_END) for topic in self._topics]
        for slot in self._consumer.offsets_for_times(asked, timeout=ANSWER_WAIT_S):
            if slot.error is not None:
                raise KafkaException(slot.error)
            self.ends[slot.topic] = slot.offset
        yield "broker_up", {}, 1.0
        yield "broker_silent_seconds", {}, self._grown.seen(time.monotonic(), float(sum(self.ends.values())))
        for topic, end in self.ends.items():
            yield "broker_end_offset", {"topic": topic}, float(end)


class Target:
    """Looks at the copy: the sink's place in the log, written with the rows, and the rows that it has put aside."""

    def __init__(self, dsn: str, broker: Broker) -> None:
        self._dsn, self._broker = dsn, broker
        self._lags: dict[str, Lag] = {}

    def look(self) -> Iterator[Line]:
        """Raises psycopg.Error when it does not answer."""
        with _connected(self._dsn) as connection:
            places = dict(connection.execute("SELECT topic, next FROM cdc_position").fetchall())
            (dead,) = connection.execute("SELECT count(*) FROM dead_letters").fetchone() or (0,)
        yield "target_up", {}, 1.0
        yield "target_dead_letters", {}, float(dead)
        now = time.monotonic()
        for topic, end in self._broker.ends.items():
            lag = self._lags.setdefault(topic, Lag())
            lag.seen(now, end)
            place, where = places.get(topic, 0), {"topic": topic}
            yield "target_behind_records", where, float(end - place)
            yield "target_behind_seconds", where, lag.behind_s(now, place)


def _connected(dsn: str) -> psycopg.Connection[Any]:
    wait = f"-c statement_timeout={int(ANSWER_WAIT_S * 1000)}"
    return psycopg.connect(dsn, autocommit=True, connect_timeout=2, options=wait)


def main() -> int:
    """Serve until SIGTERM ends the process."""
    parser = argparse.ArgumentParser(description="What the platform's alerts are judged by.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--connect", required=True, help="http://HOST:PORT of Kafka Connect")
    parser.add_argument("--connector", required=True)
    parser.add_argument("--slot", required=True, help="the connector's replication slot")
    parser.add_argument("--brokers", required=True, help="HOST:PORT,…")
    parser.add_argument("--topics", required=True, help="those of the changes, separated by commas")
    parser.add_argument("--textfiles", type=Path, help="a folder of *.prom files to be told too")
    options = parser.parse_args()
    log_json()
    topics = options.topics.split(",")
    broker = Broker(options.brokers, topics)
    source = Source(given(parser, SOURCE, DSN, EXAMPLE), options.slot, [t.rpartition(".")[2] for t in topics])
    target = Target(given(parser, TARGET, DSN, EXAMPLE), broker)
    looks = Looks(
        {
            "connector": (Connector(options.connect, options.connector).look, OSError),
            "source": (source.look, psycopg.Error),
            "broker": (broker.look, KafkaException),
            "target": (target.look, psycopg.Error),
        }
    )
    with server(options.host, options.port, looks, options.textfiles) as serving:
        serving.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())

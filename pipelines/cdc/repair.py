"""Makes the copy anew after a gap in the log: python -m pipelines.cdc.repair --connect URL --connector NAME
--slot SLOT --brokers HOST:PORT --topics T,… --sink URL, and the environment's SOURCE_URL and TARGET_URL.

It is for a slot that is lost or gone, and for a log that was cut where the sink had to go on. The history stays without
the changes that are in no log. The rows are right again: a snapshot reads all of them anew, and rows that it doesn't
read are deleted.

It stops the connector, removes its offsets and its slot, and makes the log begin after all that it has: a reader of the
log then finds what the snapshot reads, and no row that was deleted during the gap. A sink that has stopped at a cut is
set to the log's new start. Each step looks first, so an interrupted repair can be repeated.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import psycopg
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from pipelines.cdc.schema import EXAMPLE, SOURCE, TARGET
from pipelines.trades.addresses import DSN, given

__all__ = ["Repair", "RepairError", "main"]

ANSWER_WITHIN_S = 10
STOPPED_WITHIN_S = 20.0
PASSED_WITHIN_S = 20.0
SLOT_WITHIN_S = 20.0
LOOK_EVERY_S = 0.1
STOPPED = "STOPPED"


class RepairError(Exception):
    """The repair can't go on; the message says how far it came, and what to do."""


@dataclass(frozen=True)
class Repair:
    """connect, sink: URLs. source, target: DSNs of the databases. topics: those of the tables, one partition each."""

    connect: str
    connector: str
    slot: str
    source: str
    target: str
    brokers: str
    topics: Sequence[str]
    sink: str

    def carry_out(self) -> None:
        """Carry out all steps. Raises RepairError; psycopg.Error, KafkaException or OSError if a server doesn't
        answer."""
        self.stop()
        self.forget()
        self.anew()
        self.resume()
        self.captured()

    def stop(self) -> None:
        """Stop the connector, and wait until no process reads the slot."""
        self._rest("PUT", "/stop")

        def stopped() -> bool:
            return self.state() == STOPPED and not self._sql(
                self.source, "SELECT 1 FROM pg_replication_slots WHERE slot_name = %s AND active", self.slot
            )

        _until(stopped, STOPPED_WITHIN_S, f"connector {self.connector} to stop")

    def state(self) -> str:
        """Return the connector's state from Connect."""
        return str(self._rest("GET", "/status")["connector"]["state"])

    def forget(self) -> None:
        """Remove the stopped connector's offsets and its slot, so that it begins with a snapshot."""
        self._rest("DELETE", "/offsets")
        sql = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s"
        self._sql(self.source, sql, self.slot)

    def anew(self) -> None:
        """Make the log begin at its end. Its readers must be there; a sink that has stopped at a cut is set there, and
        restarted."""
        ends = self._ends()
        seen: dict[str, Any] = {}

        def passed() -> bool:
            seen.update(self._asked("GET", f"{self.sink}/healthz"), places=self._places())
            return seen["state"] == "stopped" or all(seen["places"].get(t, 0) >= end for t, end in ends.items())

        _until(passed, PASSED_WITHIN_S, "the sink to come to the log's end. Remedy: start it")
        admin = AdminClient({"bootstrap.servers": self.brokers, "broker.address.family": "v4"})
        cut = [TopicPartition(topic, 0, end) for topic, end in ends.items()]
        for done in admin.delete_records(cut, request_timeout=ANSWER_WITHIN_S).values():
            done.result(ANSWER_WITHIN_S)
        behind = {topic: end for topic, end in ends.items() if seen["places"].get(topic, 0) < end}
        for topic, end in behind.items():
            self._sql(self.target, "UPDATE cdc_position SET next = %s WHERE topic = %s AND next < %s", end, topic, end)
        if seen["state"] == "stopped":
            self._asked("POST", f"{self.sink}/restart")

    def resume(self) -> None:
        """Resume the connector."""
        self._rest("PUT", "/resume")

    def captured(self) -> None:
        """Wait until the connector has made its slot: from then on nothing is lost."""
        sql = "SELECT 1 FROM pg_replication_slots WHERE slot_name = %s AND wal_status <> 'lost'"
        _until(lambda: bool(self._sql(self.source, sql, self.slot)), SLOT_WITHIN_S, f"slot {self.slot}")

    def _ends(self) -> dict[str, int]:
        consumer = Consumer({"bootstrap.servers": self.brokers, "group.id": "repair", "broker.address.family": "v4"})
        try:
            return {
                topic: int(consumer.get_watermark_offsets(TopicPartition(topic, 0), ANSWER_WITHIN_S)[1])
                for topic in self.topics
            }
        finally:
            consumer.close()

    def _places(self) -> dict[str, int]:
        return dict(self._sql(self.target, "SELECT topic, next FROM cdc_position"))

    def _rest(self, method: str, path: str) -> Any:
        return self._asked(method, f"{self.connect}/connectors/{quote(self.connector, safe='')}{path}")

    def _asked(self, method: str, url: str) -> Any:
        """Return the answer's JSON. A sink that has stopped answers 503."""
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=ANSWER_WITHIN_S) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as e:
            told = e.read()
            if e.code == 503 and url.startswith(self.sink):
                return json.loads(told)
            raise RepairError(f"{method} {url} answered {e.code}: {told[:300].decode(errors='replace')}") from e

    def _sql(self, dsn: str, text: str, *values: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(dsn, autocommit=True, connect_timeout=ANSWER_WITHIN_S) as connection:
            cursor = connection.execute(text.encode(), values)
            return cursor.fetchall() if cursor.description else []


def _until(condition: Callable[[], bool], within_s: float, what: str) -> None:
    end_s, wait = time.monotonic() + within_s, threading.Event()
    while not condition():
        if time.monotonic() > end_s:
            raise RepairError(f"waited {within_s:g} s in vain for {what}")
        wait.wait(LOOK_EVERY_S)


def main() -> int:
    """Carry it out. Exit 1: it is not done, and can be repeated."""
    parser = argparse.ArgumentParser(description="Begins the copy anew where the log has a gap.")
    for name in ("connect", "connector", "slot", "brokers", "topics", "sink"):
        parser.add_argument(f"--{name}", required=True)
    options = parser.parse_args()
    repair = Repair(
        options.connect,
        options.connector,
        options.slot,
        given(parser, SOURCE, DSN, EXAMPLE),
        given(parser, TARGET, DSN, EXAMPLE),
        options.brokers,
        options.topics.split(","),
        options.sink,
    )
    try:
        repair.carry_out()
    except (RepairError, psycopg.Error, KafkaException, OSError) as e:
        print(f"not repaired: {e}")  # noqa: T201 - what a person who repairs reads
        return 1
    print("repaired: the connector reads all rows anew")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())

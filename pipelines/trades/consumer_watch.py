"""Keeps ClickHouse's consumer alive: python -m pipelines.trades.consumer_watch --brokers HOST:PORT, and
the environment's CLICKHOUSE_URL.

Two defects of the client in ClickHouse 26.9 stop a consumer for good, and either can come with an ordinary restart of
the broker. A consumer whose client was told of no brokers forgets them and loses its partitions (librdkafka issue
5301); detaching and attaching the feed's table mends that. A consumer that was committing waits for the answer for
ever, and only the server's end stops it (ClickHouse issue 113920); so this ends the server, and its supervisor starts
it again. Neither loses or doubles anything: offsets are the group's, and bronze knows them.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time

import structlog

from pipelines.trades.addresses import CLICKHOUSE, HTTP, given
from pipelines.trades.schema import DATABASE, SchemaError, query

__all__ = ["Watch", "main"]

LOOK_EVERY_S = 1.0
IDLE_MAX_S = 10.0
"""How long the consumer may be without partitions: a group forms again within two seconds of its broker's return."""

STUCK_MAX_S = 15.0
"""How long the consumer may not poll while its broker answers: it polls several times a second, and a commit that
waited for a broker has returned within nine seconds of the broker's end in every restart that was measured.
"""

BROKER_WAIT_S = 1.0

CONSUMERS = f"FROM system.kafka_consumers WHERE database = '{DATABASE}'"
STATE = f"""
SELECT
    (SELECT count() FROM system.tables WHERE database = '{DATABASE}' AND name = 'feed'),
    (SELECT count() FROM system.tables WHERE database = '{DATABASE}' AND name = 'feed_to_bronze'),
    (SELECT toUnixTimestamp(minIf(last_poll_time, last_poll_time > 0)) {CONSUMERS}),
    (SELECT countIf(notEmpty(assignments.partition_id)) {CONSUMERS})"""

log = structlog.get_logger()


class Watch:
    """Mends the consumer when it has been idle for IDLE_MAX_S, or stuck for STUCK_MAX_S, since it was last well or
    mended.
    """

    def __init__(self, url: str, brokers: str) -> None:
        self._url, self._brokers = url, brokers
        self._polled = 0
        self._well_at = self._polled_at = time.monotonic()

    def look(self) -> bool:
        """Look once. Return whether something was mended. A server that doesn't answer has no idle consumer."""
        try:
            feed, reader, polled, assigned = map(int, query(self._url, STATE).split("\t"))
            if not feed and reader:  # the server ended between the two steps below, or between two of ours
                query(self._url, f"ATTACH TABLE {DATABASE}.feed")
            elif feed and reader and self._stuck(polled):
                return self._end()
            elif not feed or assigned:
                self._well_at = time.monotonic()
                return False
            elif time.monotonic() - self._well_at < IDLE_MAX_S:
                return False
            else:
                query(self._url, f"DETACH TABLE {DATABASE}.feed SYNC")
                query(self._url, f"ATTACH TABLE {DATABASE}.feed")
        except SchemaError as e:
            log.warning("clickhouse_unreachable", why=str(e))
            self._well_at = self._polled_at = time.monotonic()
            return False
        self._well_at = self._polled_at = time.monotonic()
        log.warning("consumer_renewed", why=f"without partitions for {IDLE_MAX_S:g} s")
        return True

    def _stuck(self, polled: int) -> bool:
        """Whether the consumer, last seen polling at `polled`, has stood still although the broker answers. If the
        broker doesn't answer, a poll or a commit may wait. A consumer that has never polled (0) isn't stuck, but
        starting.
        """
        stands_s = time.monotonic() - self._polled_at
        if not polled or polled != self._polled or (stands_s > LOOK_EVERY_S and not self._broker_answers()):
            self._polled, self._polled_at = polled, time.monotonic()
        return time.monotonic() - self._polled_at > STUCK_MAX_S

    def _broker_answers(self) -> bool:
        from confluent_kafka import KafkaException  # here, because a well consumer never needs it
        from confluent_kafka.admin import AdminClient

        admin = AdminClient({"bootstrap.servers": self._brokers, "broker.address.family": "v4", "log_level": 0})
        try:
            return bool(admin.list_topics(timeout=BROKER_WAIT_S).brokers)
        except KafkaException:
            return False

    def _end(self) -> bool:
        """End the server at once: a clean stop would wait for the consumer."""
        log.warning(
            "clickhouse_ended", why=f"its consumer has not polled for {STUCK_MAX_S:g} s while the broker answers"
        )
        try:
            query(self._url, "SYSTEM KILL")
        except SchemaError as e:
            log.info("clickhouse_gone", why=str(e))
        self._well_at = self._polled_at = time.monotonic()
        return True


def main() -> int:
    """Watch until SIGTERM."""
    parser = argparse.ArgumentParser(description="Renews ClickHouse's consumer when it has stopped for good.")
    parser.add_argument("--brokers", required=True, help="HOST:PORT,…: as ClickHouse reaches them")
    options = parser.parse_args()
    url = given(parser, CLICKHOUSE, HTTP, "http://USER:PASSWORD@HOST:PORT")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    watch = Watch(url, options.brokers)
    while not stop.wait(LOOK_EVERY_S):
        watch.look()
    return 0


if __name__ == "__main__":
    sys.exit(main())

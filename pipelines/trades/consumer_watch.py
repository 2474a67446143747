"""Keeps ClickHouse's consumer alive: python -m pipelines.trades.consumer_watch --url http://USER:PASSWORD@HOST:PORT.

A consumer that was told of no brokers (a fenced broker) forgets them for good and never reads again (librdkafka issue
5301, as in ClickHouse 26.9). Taking the feed's table away and putting it back mends that: offsets are the group's, so
nothing is lost. A server that is away is waited for: starting it is its supervisor's.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time

import structlog

from pipelines.trades.schema import DATABASE, SchemaError, query

__all__ = ["Watch", "main"]

LOOK_EVERY_S = 1.0
IDLE_MAX_S = 10.0
"""How long the consumer may be without partitions: a group forms again within two seconds of its broker's return."""

STATE = f"""
SELECT
    (SELECT count() FROM system.tables WHERE database = '{DATABASE}' AND name = 'feed'),
    (SELECT count() FROM system.tables WHERE database = '{DATABASE}' AND name = 'feed_to_bronze'),
    (SELECT countIf(notEmpty(assignments.partition_id)) FROM system.kafka_consumers WHERE database = '{DATABASE}')"""

log = structlog.get_logger()


class Watch:
    """Looks, and mends when the consumer has been idle for IDLE_MAX_S since it was last well or mended."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._well_at = time.monotonic()

    def look(self) -> bool:
        """Look once; whether something was mended. A server that doesn't answer has no idle consumer."""
        try:
            feed, reader, assigned = map(int, query(self._url, STATE).split("\t"))
            if not feed and reader:  # the server ended between the two steps below, or between two of ours
                query(self._url, f"ATTACH TABLE {DATABASE}.feed")
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
            self._well_at = time.monotonic()
            return False
        self._well_at = time.monotonic()
        log.warning("consumer_renewed", why=f"without partitions for {IDLE_MAX_S:g} s")
        return True


def main() -> int:
    """Watch until SIGTERM."""
    parser = argparse.ArgumentParser(description="Renews ClickHouse's consumer when it has stopped for good.")
    parser.add_argument("--url", required=True, help="http://USER:PASSWORD@HOST:PORT")
    options = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    watch = Watch(options.url)
    while not stop.wait(LOOK_EVERY_S):
        watch.look()
    return 0


if __name__ == "__main__":
    sys.exit(main())

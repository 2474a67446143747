"""Reads the trades: rows of silver in ClickHouse, and how far its consumer group has committed in Kafka.

ClickHouse writes to every table before it commits, so below the committed offset silver is complete.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

import clickhouse_connect
import pyarrow as pa
import urllib3.exceptions
from clickhouse_connect.driver.binding import format_str
from clickhouse_connect.driver.exceptions import ClickHouseError
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from pipelines.trades.offload.position import Position, window
from pipelines.trades.offload.settings import OffloadError, Settings

__all__ = ["Silver", "committed"]

ASK_EVERY_S = 0.2
MOVING = (KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaError.COORDINATOR_NOT_AVAILABLE)

KEPT, RAW = "trades.silver", "trades.silver_raw"
"""The view with each trade once, and the table with every copy that is still there."""

COLUMNS = """
    venue, symbol, toInt64(trade_id) AS trade_id, price, quantity, toInt32(side) AS side, exchange_time,
    exchange_us, received_us, topic, toInt32(partition) AS partition, toInt64(offset) AS offset, ingested_at"""
"""Iceberg has no unsigned integers."""

QUERY: dict[str, Any] = {
    # Skip indexes would drop granules before duplicates are seen: a row that was sent again could lose its first.
    "use_skip_indexes_if_final": 0,
    "output_format_arrow_string_as_string": 1,
    "output_format_arrow_low_cardinality_as_dictionary": 0,
    "max_block_size": 65_536,
}


def committed(settings: Settings) -> Position:
    """Return where the group goes on reading in each partition of the topics; without those that have no commit."""
    consumer = Consumer(
        {
            "bootstrap.servers": settings.brokers,
            "group.id": settings.group,  # only asked about, never joined
            "enable.auto.commit": False,
            "broker.address.family": "v4",
            "log_level": 0,
        }
    )
    try:
        wanted = []
        for topic in settings.topics.split(","):
            known = consumer.list_topics(topic, timeout=settings.request_s).topics[topic]
            if known.error is not None:
                raise KafkaException(known.error)
            wanted += [TopicPartition(topic, partition) for partition in known.partitions]
        places = _places(consumer, wanted, settings.request_s)
        return {f"{p.topic}/{p.partition}": p.offset for p in places if p.offset >= 0}
    except KafkaException as e:
        raise OffloadError(
            f"Kafka at {settings.brokers} does not tell the offsets of group {settings.group}: {e.args[0]}. "
            "Remedy: start it, or mend OFFLOAD_BROKERS, OFFLOAD_TOPICS and OFFLOAD_GROUP"
        ) from e
    finally:
        consumer.close()


def _places(consumer: Consumer, wanted: list[TopicPartition], within_s: float) -> list[TopicPartition]:
    """Return the committed offsets. Ask again for a while if the group is just moving to another coordinator."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            return consumer.committed(wanted, timeout=within_s)
        except KafkaException as e:
            if e.args[0].code() not in MOVING or time.monotonic() > deadline:
                raise
            consumer.poll(ASK_EVERY_S)


class Silver:
    """A connection to ClickHouse."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        parts = urlsplit(settings.clickhouse_url)
        with self._reached():
            self._client = clickhouse_connect.get_client(
                host=parts.hostname or "",
                port=parts.port or 8123,
                secure=parts.scheme == "https",
                username=unquote(parts.username or "default"),
                password=unquote(parts.password or ""),
                connect_timeout=settings.connect_s,
                send_receive_timeout=settings.answer_s,
                query_retries=0,
                compress=False,
                autogenerate_session_id=False,
            )

    def close(self) -> None:
        self._client.close()

    def rows(self, start: Position, end: Position) -> pa.Table | None:
        """Return the trades whose kept row is at start <= offset < end; None: there are none.

        Of a trade that was sent again the lowest offset is kept, so duplicates are removed before offsets are compared:
        a copy in the window whose first is before the window is no new trade. To avoid reading all history, the ids in
        the window are found first (by the index on offsets). Then only ranges of ids are deduplicated, by primary key.
        """
        inside = window(start, end)
        with self._reached():
            found = self._client.query(
                f"SELECT venue, symbol, min(trade_id), max(trade_id) FROM {RAW} WHERE {inside} GROUP BY venue, symbol"
            ).result_rows
            if not found:
                return None
            ids = " OR ".join(
                f"(venue = {format_str(venue)} AND symbol = {format_str(symbol)} AND trade_id BETWEEN {lo} AND {hi})"
                for venue, symbol, lo, hi in found
            )
            query = f"SELECT {COLUMNS} FROM {KEPT} WHERE ({ids}) AND {inside}"
            with self._client.query_arrow_stream(query, settings=QUERY) as stream:
                batches = list(stream)
        rows = pa.Table.from_batches(batches) if batches else None
        return rows if rows is not None and rows.num_rows else None

    @contextlib.contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except (ClickHouseError, urllib3.exceptions.HTTPError, OSError) as e:
            why = str(e).strip().splitlines()[0][:300] if str(e).strip() else type(e).__name__
            raise OffloadError(
                f"ClickHouse at {self._settings.clickhouse} does not give rows: {why}. "
                "Remedy: start it, or mend OFFLOAD_CLICKHOUSE_URL or the link to it"
            ) from e

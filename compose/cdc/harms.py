"""Jobs for the fault `Harm`: what failure tests break of the CDC platform besides its processes and links. Each job
knows what it has broken, and mends it as its runbook does (pipelines/cdc/repair.py).

A job writes what was asked for under a key into a row of a database before it touches anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import psycopg
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from psycopg.types.json import Jsonb

from compose.cdc.jobs import InDatabase
from gameday.errors import DriverError
from gameday.model import JobRun, Json
from gameday.stack.config import Http, Postgres
from pipelines.cdc.repair import STOPPED, Repair, RepairError

__all__ = ["LogCut", "SlotDropped"]

ASK_WITHIN_S = 10


@dataclass(frozen=True)
class _Mended(InDatabase):
    """Has Repair's settings, and remembers in the source what was asked for. topics: those of the tables."""

    url: Http
    connector: str
    slot: str
    target: Postgres
    brokers: str
    topics: tuple[str, ...]
    sink: Http
    whose: ClassVar[str] = "source"
    remembered: ClassVar[str] = "asked"

    def find(self, key: str) -> JobRun | None:
        """Return the run. It counts as done once something is broken."""
        rows = self._sql("SELECT (extract(epoch FROM at) * 1e6)::bigint FROM asked WHERE key = %s", key)
        return JobRun(key, "harm", "Completed", rows[0][0], rows[0][0]) if rows else None

    def withdraw(self, key: str) -> None:
        """Mend it, if it is broken."""
        if self.broken(key) is not None:
            self._told(self._repair.carry_out)

    def broken(self, key: str) -> str | None:
        """As gameday.ports.Harms."""
        raise NotImplementedError

    @property
    def _repair(self) -> Repair:
        return Repair(
            *(str(self.url), self.connector, self.slot, str(self.dsn), str(self.target), self.brokers),
            *(self.topics, str(self.sink)),
        )

    def _asked(self, key: str) -> bool:
        return bool(self._sql("SELECT 1 FROM asked WHERE key = %s", key))

    def _note(self, key: str, told: Mapping[str, Json]) -> None:
        """Write the row, before anything is touched."""
        text = "INSERT INTO asked VALUES (%s, %s) ON CONFLICT DO NOTHING"
        self._sql(text, key, Jsonb(dict(told)))

    def _told(self, do: Any) -> Any:
        """Return what `do` returns. Raises DriverError in place of its clients' errors."""
        try:
            return do()
        except (RepairError, psycopg.Error, KafkaException, OSError) as e:
            raise DriverError(f"{type(e).__name__}: {e}", definite=False) from e


@dataclass(frozen=True)
class SlotDropped(_Mended):
    """Drops the connector's slot while the connector is stopped."""

    def met(self) -> Json:
        """Return the slot as it is."""
        slot = self._slot()
        if slot is None or slot["wal_status"] == "lost":
            raise DriverError(f"slot {self.slot} is lost already. Remedy: the runbook slot_lost", definite=True)
        return slot

    def trigger(self, key: str, env: Mapping[str, str]) -> str:
        """Stop the connector, drop its slot, and resume it."""
        self._note(key, {"slot": self.slot})
        self._told(self._repair.stop)
        sql = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s"
        self._sql(sql, self.slot)
        self._told(self._repair.resume)
        return key

    def broken(self, key: str) -> str | None:
        """Say that the slot is gone or lost, or that the connector is still stopped."""
        if not self._asked(key):
            return None
        slot = self._slot()
        if slot is None:
            return f"slot {self.slot} is gone"
        if slot["wal_status"] == "lost":
            return f"slot {self.slot} is lost ({slot['invalidation_reason']})"
        return f"connector {self.connector} is stopped" if self._told(self._repair.state) == STOPPED else None

    def _slot(self) -> Json | None:
        rows = self._sql("SELECT to_jsonb(s) FROM pg_replication_slots AS s WHERE slot_name = %s", self.slot)
        return rows[0][0] if rows else None


@dataclass(frozen=True)
class LogCut(_Mended):
    """Cuts the log at its end, before the sink has read up to there."""

    def met(self) -> Json:
        """Return where the log begins and ends, and where the sink is. Raises if the sink has read all: nothing would
        be lost."""
        places, told = self._places(), {t: [*marks, self._places().get(t, 0)] for t, marks in self._marks().items()}
        if all(places.get(topic, 0) >= end for topic, (_, end, _) in told.items()):
            raise DriverError("the sink has all that the log has, so a cut would take nothing from it", definite=True)
        return told

    def trigger(self, key: str, env: Mapping[str, str]) -> str:
        """Cut each topic at its end."""
        ends = {topic: end for topic, (_, end) in self._marks().items()}
        self._note(key, ends)
        self._told(lambda: self._cut(ends))
        return key

    def broken(self, key: str) -> str | None:
        """Name the topics whose log begins after the sink's place."""
        if not self._asked(key):
            return None
        places = self._places()
        gone = {t: start - places.get(t, 0) for t, (start, _) in self._marks().items() if start > places.get(t, 0)}
        told = ", ".join(f"{number:,} of {topic}" for topic, number in gone.items())
        return f"the log begins behind the sink's place: it lacks {told}" if gone else None

    def _cut(self, ends: Mapping[str, int]) -> None:
        admin = AdminClient({"bootstrap.servers": self.brokers, "broker.address.family": "v4"})
        cut = [TopicPartition(topic, 0, end) for topic, end in ends.items()]
        for done in admin.delete_records(cut, request_timeout=ASK_WITHIN_S).values():
            done.result(ASK_WITHIN_S)

    def _marks(self) -> dict[str, tuple[int, int]]:
        """Return topic -> its first offset, and the one after its last."""

        def asked() -> dict[str, tuple[int, int]]:
            consumer = Consumer({"bootstrap.servers": self.brokers, "group.id": "harm", "broker.address.family": "v4"})
            try:
                return {t: consumer.get_watermark_offsets(TopicPartition(t, 0), ASK_WITHIN_S) for t in self.topics}
            finally:
                consumer.close()

        found: dict[str, tuple[int, int]] = self._told(asked)
        return found

    def _places(self) -> dict[str, int]:
        def asked() -> dict[str, int]:
            with psycopg.connect(str(self.target), connect_timeout=ASK_WITHIN_S) as connection:
                return dict(connection.execute("SELECT topic, next FROM cdc_position").fetchall())

        found: dict[str, int] = self._told(asked)
        return found

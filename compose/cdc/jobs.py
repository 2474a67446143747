"""Jobs for the fault `Ask`: actions of the CDC platform that are no harm. The fault asks for one run; its proof is what
the platform shows of it. No job is scheduled, and each begins as soon as it is asked for.

The platform remembers what was asked for under a key: on the workload's tape, or in a row of a database that is written
before anything else.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, ClassVar

import psycopg

from gameday.errors import DriverError
from gameday.model import Hindrance, JobRun
from gameday.stack.config import Http, Postgres
from gameday.system.http import Unanswered, ask

__all__ = ["InDatabase", "Order", "Snapshot", "TaskRestart", "Twin"]

ASK_WITHIN_S = 10.0
CONNECT_WITHIN_S = 5


class _Unscheduled:
    """A job without a schedule, which begins as soon as it is asked for."""

    def withdraw(self, key: str) -> None:
        """Do nothing: no run waits."""

    def runs(self, since_us: int) -> Sequence[JobRun]:
        """None is scheduled."""
        return ()

    def interval_s(self) -> float | None:
        """Return None: it has no schedule."""
        return None


@dataclass(frozen=True)
class Order(_Unscheduled):
    """Asks for a segment of the workload's tape. url: the workload's. path, body: what is asked for, such as /burst and
    { rows = 1000 }. undo: the body that takes back what would stay, such as a column."""

    url: Http
    path: str
    body: Mapping[str, Any] = field(default_factory=dict)
    undo: Mapping[str, Any] = field(default_factory=dict)

    def trigger(self, key: str, env: Mapping[str, str]) -> str:
        """Ask for it; the workload does it once for each key. env is not used: the run has no environment."""
        self._asked("POST", self.path, {**self.body, "key": key})
        return key

    def find(self, key: str) -> JobRun | None:
        """Return the run. It is done once the source has committed it."""
        told = self._asked("GET", f"/asked/{key}")
        if told is None:
            return None
        at_us = time.time_ns() // 1000 if told["done"] else None
        return JobRun(key, self.path.strip("/"), "Completed" if told["done"] else "Pending", at_us, at_us)

    def withdraw(self, key: str) -> None:
        """Take back what would stay, as another segment of the tape. The workload refuses if it is taken back
        already."""
        if self.undo and self._asked("GET", f"/asked/{key}") is not None:
            self._asked("POST", self.path, {**self.undo, "key": f"{key}-undone"}, fine=HTTPStatus.BAD_REQUEST)

    def hindrances(self, scheduled_within_s: float | None) -> Sequence[Hindrance]:
        """Return whether the workload doesn't answer, or has trouble with the source."""
        try:
            self._asked("GET", "/healthz")
        except DriverError as e:
            return (Hindrance(f"{e}. Remedy: gameday status", passes=True),)
        return ()

    def _asked(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, fine: HTTPStatus = HTTPStatus.OK
    ) -> dict[str, Any] | None:
        """Return the answer; None: there is no such thing. fine: a status that is right besides 200. Raises DriverError
        for any other."""
        data = b"" if body is None else json.dumps(body).encode()
        try:
            kind = {"Content-Type": "application/json"}
            answer = ask(method, f"{self.url}{path}", ASK_WITHIN_S, body=data, headers=kind)
        except Unanswered as e:
            raise DriverError(f"{method} {self.url}{path}: {e}", definite=not e.sent) from e
        if answer.status == HTTPStatus.NOT_FOUND and method == "GET":
            return None
        if answer.status not in (HTTPStatus.OK, fine):
            why = f"{method} {self.url}{path} answered {answer.status}: {answer.body[:200].decode()}"
            raise DriverError(why, definite=True)
        told: dict[str, Any] = json.loads(answer.body)
        return told


@dataclass(frozen=True)
class InDatabase(_Unscheduled):
    """dsn: the database that remembers what was asked for, with a user that may write there."""

    dsn: Postgres
    whose: ClassVar[str]
    remembered: ClassVar[str]
    """The table."""

    def hindrances(self, scheduled_within_s: float | None) -> Sequence[Hindrance]:
        """Return whether the database doesn't answer."""
        try:
            self._sql(f"SELECT 1 FROM {self.remembered} LIMIT 1")
        except DriverError as e:
            return (Hindrance(f"{e}. Remedy: gameday status", passes=True),)
        return ()

    def _sql(self, text: str, *values: object) -> list[tuple[Any, ...]]:
        """Return the rows. Raises DriverError when the database doesn't answer, or refuses."""
        try:
            with psycopg.connect(self.dsn, autocommit=True, connect_timeout=CONNECT_WITHIN_S) as connection:
                cursor = connection.execute(text.encode(), values)
                return cursor.fetchall() if cursor.description else []
        except psycopg.Error as e:
            raise DriverError(f"the {self.whose}: {e}", definite=False) from e


@dataclass(frozen=True)
class _BySignal(InDatabase):
    """Remembered in a row of Debezium's signal table, which is written before anything else."""

    whose: ClassVar[str] = "source"
    remembered: ClassVar[str] = "debezium_signal"

    def _signal(self, key: str, kind: str, data: Mapping[str, Any]) -> None:
        """Write the signal, unless one of this key exists."""
        text = "INSERT INTO debezium_signal VALUES (%s, %s, %s) ON CONFLICT DO NOTHING"
        self._sql(text, key, kind, json.dumps(data))


@dataclass(frozen=True)
class Snapshot(_BySignal):
    """An incremental snapshot: each row of the tables is sent again while changes go on. tables: schema.name of
    each."""

    tables: tuple[str, ...]

    def trigger(self, key: str, env: Mapping[str, str]) -> str:
        """Ask Debezium for it. env is not used: the run has no environment."""
        self._signal(key, "execute-snapshot", {"data-collections": list(self.tables), "type": "incremental"})
        return key

    def find(self, key: str) -> JobRun | None:
        """Return the run. It is done once Debezium has written a closed window per table into the signal table."""
        rows = self._sql(
            "SELECT (SELECT count(*) FROM debezium_signal w WHERE w.type = 'snapshot-window-close' AND "
            "w.xmin::text::bigint > s.xmin::text::bigint), (extract(epoch FROM now()) * 1e6)::bigint "
            "FROM debezium_signal s WHERE s.id = %s",
            key,
        )
        if not rows:
            return None
        closed, now_us = rows[0]
        done = closed >= len(self.tables)
        at_us = int(now_us) if done else None
        return JobRun(key, f"snapshot ({closed} windows)", "Completed" if done else "Pending", at_us, at_us)


@dataclass(frozen=True)
class TaskRestart(_BySignal):
    """Restarts a connector's tasks by Connect's REST API, which answers before anything has happened. slot: the
    connector's. If another process of the source reads it, the task is a new one."""

    url: Http
    connector: str
    slot: str

    def trigger(self, key: str, env: Mapping[str, str]) -> str:
        """Note which process reads the slot now, then ask Connect. env is not used: the run has no environment."""
        rows = self._sql("SELECT active_pid FROM pg_replication_slots WHERE slot_name = %s", self.slot)
        if not rows or rows[0][0] is None:
            raise DriverError(f"nobody reads slot {self.slot}, so no task can be restarted", definite=True)
        self._signal(key, "log", {"message": f"its task is restarted by hand; {rows[0][0]}"})
        where = f"{self.url}/connectors/{self.connector}/restart?includeTasks=true"
        try:
            answer = ask("POST", where, ASK_WITHIN_S, body=b"")
        except Unanswered as e:
            raise DriverError(f"POST {where}: {e}", definite=not e.sent) from e
        if answer.status not in (HTTPStatus.OK, HTTPStatus.ACCEPTED, HTTPStatus.NO_CONTENT):
            raise DriverError(f"POST {where} answered {answer.status}: {answer.body[:200]!r}", definite=True)
        return key

    def find(self, key: str) -> JobRun | None:
        """Return the run. It is done once another process reads the slot."""
        rows = self._sql(
            "SELECT split_part(data::json ->> 'message', '; ', 2), a.pid::text, "
            "(extract(epoch FROM a.backend_start) * 1e6)::bigint FROM debezium_signal "
            "LEFT JOIN pg_replication_slots ON slot_name = %s LEFT JOIN pg_stat_activity a ON a.pid = active_pid "
            "WHERE id = %s",
            *(self.slot, key),
        )
        if not rows:
            return None
        before, now, at_us = rows[0]
        if now is None or now == before:
            return JobRun(key, "restart", "Pending", None, None)
        return JobRun(key, f"restart ({before} gave way to {now})", "Completed", int(at_us), int(at_us))


@dataclass(frozen=True)
class Twin(InDatabase):
    """Deploys a second connector with the settings of another one, also its slot. Withdrawing removes it."""

    url: Http
    connector: str
    whose: ClassVar[str] = "source"
    remembered: ClassVar[str] = "asked"

    def trigger(self, key: str, env: Mapping[str, str]) -> str:
        """Deploy it. env is not used: the run has no environment."""
        text = "INSERT INTO asked VALUES (%s, to_jsonb(%s::text)) ON CONFLICT DO NOTHING"
        self._sql(text, key, self._twin)
        config = self._rest("GET", f"{self.connector}/config")
        self._rest("PUT", f"{self._twin}/config", {**config, "name": self._twin})
        return key

    def find(self, key: str) -> JobRun | None:
        """Return the run. It is done once its task exists."""
        rows = self._sql("SELECT (extract(epoch FROM at) * 1e6)::bigint FROM asked WHERE key = %s", key)
        if not rows:
            return None
        told = self._rest("GET", f"{self._twin}/status", fine=HTTPStatus.NOT_FOUND)
        states = [task["state"] for task in told.get("tasks", ())]
        at_us = int(rows[0][0]) if states else None
        name = f"{self._twin} ({', '.join(states) or 'no task yet'})"
        return JobRun(key, name, "Completed" if states else "Pending", at_us, at_us)

    def withdraw(self, key: str) -> None:
        """Remove it, if it was asked for."""
        if self._sql("SELECT 1 FROM asked WHERE key = %s", key):
            self._rest("DELETE", self._twin, fine=HTTPStatus.NOT_FOUND)

    @property
    def _twin(self) -> str:
        return f"{self.connector}-twin"

    def _rest(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, fine: HTTPStatus = HTTPStatus.OK
    ) -> dict[str, Any]:
        """Return Connect's answer, {} without one. fine: a status that is right besides 200, 201 and 204."""
        where = f"{self.url}/connectors/{path}"
        data = b"" if body is None else json.dumps(body).encode()
        try:
            answer = ask(method, where, ASK_WITHIN_S, body=data, headers={"Content-Type": "application/json"})
        except Unanswered as e:
            raise DriverError(f"{method} {where}: {e}", definite=not e.sent) from e
        if answer.status not in (HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.NO_CONTENT, fine):
            raise DriverError(f"{method} {where} answered {answer.status}: {answer.body[:200]!r}", definite=True)
        told: dict[str, Any] = json.loads(answer.body or b"{}")
        return told

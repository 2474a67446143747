"""A component that answers SQL as PostgreSQL does."""

from __future__ import annotations

import select
import time
from collections.abc import Mapping
from dataclasses import dataclass

import psycopg
from psycopg import pq

from gameday.errors import DriverError

__all__ = ["Probe"]


@dataclass(frozen=True)
class Probe:
    """`select 1` on a fresh connection. Through libpq's non-blocking calls: its own timeout counts whole seconds, two
    at least, and covers the connecting alone."""

    dsn: str
    timeout_s: float

    def read(self) -> Mapping[str, float]:
        """{"": 1.0}. Raises DriverError when the answer is not there within timeout_s, or is an error."""
        deadline = time.monotonic() + self.timeout_s
        connection = pq.PGconn.connect_start(self.dsn.encode())
        try:
            while (state := connection.connect_poll()) != pq.PollingStatus.OK:
                if state == pq.PollingStatus.FAILED:
                    raise self._error(connection.get_error_message())
                self._wait(connection, state == pq.PollingStatus.WRITING, deadline)
            connection.send_query(b"select 1")
            while connection.is_busy():
                self._wait(connection, False, deadline)
                connection.consume_input()
            result = connection.get_result()
            if result is None or result.status != pq.ExecStatus.TUPLES_OK:
                raise self._error(connection.get_error_message())
        except psycopg.Error as e:
            raise self._error(str(e)) from e
        finally:
            connection.finish()
        return {"": 1.0}

    def _wait(self, connection: pq.abc.PGconn, write: bool, deadline: float) -> None:
        left = deadline - time.monotonic()
        files = [connection.socket]
        if left <= 0 or not any(select.select([] if write else files, files if write else [], [], left)):
            raise self._error(f"no answer within {self.timeout_s:g} s")

    def _error(self, text: str) -> DriverError:
        where = psycopg.conninfo.conninfo_to_dict(self.dsn)
        name = f"Postgres at {where.get('host', 'localhost')}:{where.get('port', 5432)}"
        return DriverError(f"{name}: {' '.join(text.split())[:300]}", definite=True)

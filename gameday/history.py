"""What was, in gameday's Postgres: every run with its acts, found again by test, parameters and stack.

The run's folder stays the first record: while Postgres is away nothing is lost; `import_missing` copies it later.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import structlog
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL, Composed, Identifier, Literal, Placeholder
from psycopg.types.json import Jsonb

from gameday.codec import decode, encode, read_json
from gameday.errors import GamedayError, NotUp
from gameday.model import Json, RunResult
from gameday.state import State

__all__ = ["import_missing", "migrate", "record", "runs"]

MIGRATIONS = Path(__file__).with_name("migrations")
CONNECT_TIMEOUT_S = 5
STATEMENT_TIMEOUT_MS = 20_000  # a frozen server must not hold up a night
LOCK_KEY = 0x67616D65  # "game": one migrates at a time, whoever comes first
LIMIT_RUNS = 1_000

log = structlog.get_logger()


def migrate(dsn: str) -> None:
    """Bring the tables up to date; safe to call at any time, by several at once. record and runs call it themselves."""
    with _connected(dsn):
        pass


def record(dsn: str, result: RunResult) -> None:
    """Keep one run and its acts; recording it again replaces it.

    Raises NotUp when Postgres is away: the result stays in its run's folder.
    """
    with _connected(dsn) as connection:
        _insert(connection, result)


def runs(
    dsn: str,
    test: str | None = None,
    params: Mapping[str, Json] | None = None,
    stack: str | None = None,
    limit: int = 50,
) -> list[RunResult]:
    """The newest runs first, at most `limit` (and LIMIT_RUNS).

    A history is one (test, params, stack); leave out what should not select.
    """
    wanted = {"test": test, "params": None if params is None else Jsonb(_storable(params)), "stack": stack}
    given = {name: value for name, value in wanted.items() if value is not None}
    conditions = [SQL("{} = {}").format(Identifier(name), Placeholder(name)) for name in given] or [
        Composed([SQL("true")])
    ]
    query = SQL("SELECT result FROM runs WHERE {} ORDER BY started DESC, id DESC LIMIT {}").format(
        SQL(" AND ").join(conditions), Literal(min(limit, LIMIT_RUNS))
    )
    with _connected(dsn) as connection:
        rows = connection.execute(query, given).fetchall()
    return [decode(RunResult, result) for (result,) in rows]


def import_missing(dsn: str, state: State) -> list[str]:
    """Record the results in the run folders that the table lacks; the ids of those copied, oldest folder name first.

    A result that can't be read is logged and left alone.
    """
    copied: list[str] = []
    with _connected(dsn) as connection:
        known = {run_id for (run_id,) in connection.execute("SELECT id FROM runs")}
        for path in state.results():
            if path.parent.name in known:
                continue
            result = _read(path)
            if result is not None and result.id not in known:
                _insert(connection, result)
                copied.append(result.id)
    return copied


def _insert(connection: psycopg.Connection[Any], result: RunResult) -> None:
    """Upsert by id, all or nothing."""
    whole = _storable(encode(result))
    with connection.transaction():
        connection.execute(
            """
            INSERT INTO runs (id, night, test, params, stack, started, verdict, why, measures, result)
            VALUES (%(id)s, %(night)s, %(test)s, %(params)s, %(stack)s, %(started)s,
                    %(verdict)s, %(why)s, %(measures)s, %(result)s)
            ON CONFLICT (id) DO UPDATE SET
                (night, test, params, stack, started, verdict, why, measures, result) = ROW (
                    excluded.night, excluded.test, excluded.params, excluded.stack, excluded.started,
                    excluded.verdict, excluded.why, excluded.measures, excluded.result)
            """,
            {
                **{name: whole[name] for name in ("id", "night", "test", "stack", "started", "verdict", "why")},
                "params": Jsonb(whole["params"]),
                "measures": Jsonb(whole["measures"]),
                "result": Jsonb(whole),
            },
        )
        connection.execute("DELETE FROM acts WHERE run = %s", (whole["id"],))
        for act in whole["acts"]:
            connection.execute(
                "INSERT INTO acts (run, id, at, kind, act) VALUES (%s, %s, to_timestamp(%s / 1e6), %s, %s)",
                (whole["id"], act["id"], act["at_us"], act["kind"], Jsonb(act)),
            )


@contextmanager
def _connected(dsn: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection with its tables up to date, committed at the end.

    What Postgres refuses becomes a GamedayError that names the place without the password.
    """
    try:
        with psycopg.connect(dsn, connect_timeout=CONNECT_TIMEOUT_S) as connection:
            connection.execute(SQL("SET statement_timeout = {}").format(Literal(STATEMENT_TIMEOUT_MS)))
            _migrate(connection)
            yield connection
    except psycopg.OperationalError as e:
        raise NotUp(
            f"gameday's Postgres at {_place(dsn)} can't be used: {_first_line(e)}. "
            "Remedy: gameday up; results kept in their run folders are copied in by the next run"
        ) from e
    except psycopg.Error as e:
        raise GamedayError(
            f"gameday's Postgres at {_place(dsn)} refused: {_first_line(e)}. Remedy: check `history` in gameday.toml: "
            "the user needs the right to create tables in that database"
        ) from e


def _migrate(connection: psycopg.Connection[Any]) -> None:
    """Apply each numbered file once, in order, in a transaction of its own, under a lock that all take."""
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK_KEY,))
        connection.execute(
            "CREATE TABLE IF NOT EXISTS migrations "
            "(number int PRIMARY KEY, name text NOT NULL, applied timestamptz NOT NULL DEFAULT now())"
        )
        applied = {number for (number,) in connection.execute("SELECT number FROM migrations")}
        for number, path in _migrations():
            if number not in applied:
                connection.execute(path.read_bytes())
                connection.execute("INSERT INTO migrations (number, name) VALUES (%s, %s)", (number, path.stem))


def _migrations() -> list[tuple[int, Path]]:
    return sorted((int(path.stem.partition("_")[0]), path) for path in MIGRATIONS.glob("[0-9]*.sql"))


def _read(path: Path) -> RunResult | None:
    try:
        return decode(RunResult, read_json(path), str(path))
    except GamedayError as e:
        log.warning("a result can't be read, so history lacks it", path=str(path), error=str(e))
        return None


def _storable(value: Json) -> Json:
    """The value without NUL characters: Postgres keeps them neither in text nor in jsonb."""
    if isinstance(value, str):
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}")
    if isinstance(value, Mapping):
        return {_storable(key): _storable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(inner) for inner in value]
    return value


def _place(dsn: str) -> str:
    """host:port/database, never the password."""
    try:
        parts = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        return "an unreadable address"
    return f"{parts.get('host', 'localhost')}:{parts.get('port', 5432)}/{parts.get('dbname', '')}"


def _first_line(error: psycopg.Error) -> str:
    return re.sub(r"\s+", " ", str(error).strip().partition("\n")[0])

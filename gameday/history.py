"""What was, in gameday's Postgres: every run with its acts, found again by test, parameters and stack.

The run's folder stays the first record: while Postgres is away nothing is lost; `import_missing` copies it later.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg
import structlog
from psycopg.sql import SQL, Composed, Identifier, Literal, Placeholder
from psycopg.types.json import Jsonb

from gameday.codec import decode, encode, read_json
from gameday.database import connected
from gameday.errors import GamedayError
from gameday.model import Json, RunResult
from gameday.state import State

__all__ = ["import_missing", "migrate", "record", "runs"]

LIMIT_RUNS = 1_000

log = structlog.get_logger()


def migrate(dsn: str) -> None:
    """Bring the tables up to date; safe to call at any time, by several at once. record and runs call it themselves."""
    with connected(dsn):
        pass


def record(dsn: str, result: RunResult) -> None:
    """Keep one run and its acts; recording it again replaces it.

    Raises NotUp when Postgres is away: the result stays in its run's folder.
    """
    with connected(dsn) as connection:
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
    with connected(dsn) as connection:
        rows = connection.execute(query, given).fetchall()
    return [decode(RunResult, result) for (result,) in rows]


def import_missing(dsn: str, state: State) -> list[str]:
    """Record the results in the run folders that the table lacks; the ids of those copied, oldest folder name first.

    A result that can't be read is logged and left alone.
    """
    copied: list[str] = []
    with connected(dsn) as connection:
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

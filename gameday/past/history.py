"""Keeps every run with its acts in gameday's Postgres, and finds runs by test, parameters and stack.

A run is first recorded in its folder, so nothing is lost while Postgres is away: `import_missing` copies it later.
`forget` removes old runs from both.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from psycopg.sql import SQL, Composed, Identifier, Literal, Placeholder
from psycopg.types.json import Jsonb

from gameday.codec import decode, encode, read_json
from gameday.errors import GamedayError
from gameday.model import Json, Measure, RunResult, Trend, Verdict
from gameday.past.database import connected
from gameday.state import State

__all__ = [
    "Board",
    "Forgotten",
    "Standing",
    "board",
    "complete_night",
    "forget",
    "histories",
    "import_missing",
    "migrate",
    "passes_before",
    "record",
    "runs",
    "with_run",
]

LIMIT_RUNS = 1_000
LIMIT_HISTORIES = 200
"""How many pairs of test and parameters are read at most; the six tests here have 30."""

SHOWN_DAYS = 30
"""A test that has not run for so long is not shown: it may have been renamed, or a parameter was tried once."""

FORGET_MAX = 100
"""How many runs, and how many nights, one call removes at most: a night must not wait for the removal of a year."""

NAMED = re.compile(r"(\d{8}T\d{6})-[\w-]+", re.ASCII)
"""The id of a run or a night: its time in UTC, and a suffix. No folder of another name is ever removed."""

LIGHT = """result || '{"acts": [], "findings": []}'"""
"""A result without its long parts."""


def migrate(dsn: str) -> None:
    """Bring the tables up to date; safe to call at any time, by several at once. record and runs call it themselves."""
    with connected(dsn):
        pass


def record(dsn: str, result: RunResult) -> None:
    """Store one run and its acts; recording it again replaces it.

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
    """Return the newest runs first, at most `limit` (and LIMIT_RUNS).

    A history is one (test, params, stack). An argument that is left out doesn't restrict the runs.
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


def passes_before(dsn: str, result: RunResult, limit: int) -> list[RunResult]:
    """Return the passes of this test, parameters and stack before this run, newest first, without findings and acts.

    A run that failed only because of its trend has recovered as promised, so it counts. Otherwise a slow-down would
    never become part of the history that the next runs are compared with.
    """
    query = SQL(
        """
        SELECT {light} FROM runs
        WHERE test = %(test)s AND params = %(params)s AND stack = %(stack)s
            AND id <> %(id)s AND started <= %(started)s::timestamptz
            AND (verdict = 'pass' OR verdict = 'fail' AND result @? '$.trends[*] ? (@.worse == true)')
        ORDER BY started DESC, id DESC LIMIT {limit}
        """
    ).format(light=SQL(LIGHT), limit=Literal(min(limit, LIMIT_RUNS)))
    wanted = {name: _storable(getattr(result, name)) for name in ("test", "stack", "id", "started")}
    with connected(dsn) as connection:
        rows = connection.execute(query, {**wanted, "params": Jsonb(_storable(result.params))}).fetchall()
    return [decode(RunResult, found) for (found,) in rows]


def histories(dsn: str, limit: int, test: str | None = None, stack: str | None = None) -> list[list[RunResult]]:
    """Return the last `limit` runs of each test, parameters and stack, newest first, without findings and acts."""
    query = SQL(
        """
        SELECT test, params::text, stack, {light} FROM (
            SELECT *, row_number() OVER (PARTITION BY test, params, stack ORDER BY started DESC, id DESC) AS place
            FROM runs
            WHERE (%(test)s::text IS NULL OR test = %(test)s) AND (%(stack)s::text IS NULL OR stack = %(stack)s)
        ) AS placed
        WHERE place <= %(limit)s ORDER BY test, params, stack, place LIMIT {most}
        """
    ).format(light=SQL(LIGHT), most=Literal(limit * LIMIT_HISTORIES))
    with connected(dsn) as connection:
        rows = connection.execute(query, {"test": test, "stack": stack, "limit": limit}).fetchall()
    found: dict[tuple[str, str, str], list[RunResult]] = {}
    for *key, result in rows:
        found.setdefault((key[0], key[1], key[2]), []).append(decode(RunResult, result))
    return list(found.values())


def import_missing(dsn: str, state: State) -> list[str]:
    """Record the results in run folders that the table lacks. Return the ids of those copied, oldest folder name first.

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


# ---- how things stand --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Standing:
    """The last run of one test and its parameters. *_s: seconds since 1970. passed_s: the end of the last pass; None:
    there was none. nights_since_pass: the nights with this test since its last pass; all, if there was none."""

    run: str
    night: str
    test: str
    params: Mapping[str, Json]
    verdict: Verdict
    ended_s: float
    took_s: float
    mttr_max_s: float
    measures: Mapping[str, Measure]
    trends: tuple[Trend, ...]
    passed_s: float | None
    nights_since_pass: int


@dataclass(frozen=True)
class Board:
    """The standings of one stack. night_completed_s: when its last night was completed; None: none ever was."""

    standings: tuple[Standing, ...] = ()
    night_completed_s: float | None = None


def board(dsn: str, stack: str) -> Board:
    """Return the standing of every test and parameters that ran within SHOWN_DAYS, by name."""
    query = SQL(
        """
        WITH last AS (
            SELECT DISTINCT ON (test, params) test, params, started, {light} AS result FROM runs
            WHERE stack = %(stack)s ORDER BY test, params, started DESC, id DESC
        ), passed AS (
            SELECT DISTINCT ON (test, params) test, params, started, (result->>'took_s')::float AS took_s FROM runs
            WHERE stack = %(stack)s AND verdict = 'pass' ORDER BY test, params, started DESC, id DESC
        )
        SELECT last.result, extract(epoch FROM passed.started)::float + passed.took_s, (
            SELECT count(DISTINCT night) FROM runs AS later
            WHERE later.stack = %(stack)s AND later.test = last.test AND later.params = last.params
                AND later.started > coalesce(passed.started, '-infinity')
        )
        FROM last LEFT JOIN passed USING (test, params)
        WHERE last.started > now() - make_interval(days => {days}) ORDER BY test, params LIMIT {most}
        """
    ).format(light=SQL(LIGHT), days=Literal(SHOWN_DAYS), most=Literal(LIMIT_HISTORIES))
    with connected(dsn) as connection:
        rows = connection.execute(query, {"stack": stack}).fetchall()
        completed = connection.execute(
            "SELECT extract(epoch FROM max(ended))::float FROM nights WHERE stack = %s", (stack,)
        ).fetchone()
    standings = tuple(_standing(decode(RunResult, result), passed_s, nights) for result, passed_s, nights in rows)
    return Board(standings, completed[0] if completed else None)


def with_run(known: Board, result: RunResult) -> Board:
    """Return the board with one more run, as `board` would return it once the run is recorded."""
    before = next((s for s in known.standings if (s.test, s.params) == (result.test, result.params)), None)
    if before is not None and before.run == result.id:
        return known
    nights = 0 if before is None else before.nights_since_pass
    if result.verdict is Verdict.PASS:
        now = _standing(result, _ended_s(result), 0)
    else:
        again = before is not None and nights > 0 and before.night == result.night
        now = _standing(result, before.passed_s if before else None, nights if again else nights + 1)
    others = (s for s in known.standings if s is not before)
    return replace(known, standings=tuple(sorted((*others, now), key=lambda s: (s.test, str(s.params)))))


def complete_night(dsn: str, night: str, stack: str, ended: datetime) -> None:
    """Record that a night was completed: it ran every failure test to the end."""
    with connected(dsn) as connection:
        connection.execute(
            "INSERT INTO nights (id, stack, ended) VALUES (%s, %s, %s) "
            "ON CONFLICT (id) DO UPDATE SET ended = excluded.ended",
            (night, stack, ended),
        )


def _standing(result: RunResult, passed_s: float | None, nights: int) -> Standing:
    return Standing(
        run=result.id,
        night=result.night,
        test=result.test,
        params=result.params,
        verdict=result.verdict,
        ended_s=_ended_s(result),
        took_s=result.took_s,
        mttr_max_s=result.mttr_max_s,
        measures=result.measures,
        trends=result.trends,
        passed_s=passed_s,
        nights_since_pass=nights,
    )


def _ended_s(result: RunResult) -> float:
    return datetime.fromisoformat(result.started).timestamp() + result.took_s


# ---- what is old -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Forgotten:
    """How many runs and nights were removed."""

    runs: int
    nights: int


def forget(dsn: str, state: State, stack: str, keep_days: int, keep: Collection[str], now: datetime) -> Forgotten:
    """Remove this stack's runs and nights older than keep_days, the oldest first, at most FORGET_MAX of each.

    It never removes the newest pass of a test and its parameters, that pass's night, the newest night, or the runs
    named in `keep`. A run's folder goes before its row: else the next import would bring the row back. Raises
    GamedayError when a folder can't be removed, after all else was removed.
    """
    import_missing(dsn, state)
    oldest = now - timedelta(days=keep_days)
    with connected(dsn) as connection:
        passes = connection.execute(
            "SELECT DISTINCT ON (test, params) id, night FROM runs WHERE stack = %s AND verdict = 'pass' "
            "ORDER BY test, params, started DESC, id DESC",
            (stack,),
        ).fetchall()
        kept = {*keep, *(run for run, _ in passes)}
        rows = connection.execute(
            "SELECT id FROM runs WHERE stack = %s AND started < %s AND id <> ALL(%s) ORDER BY started LIMIT %s",
            (stack, oldest, list(kept), FORGET_MAX),
        ).fetchall()
        known = {run for (run,) in connection.execute("SELECT id FROM runs")}
        ids = [run for (run,) in rows]
        ids += [name for name in _older(state.runs, oldest) if name not in kept | known][: FORGET_MAX - len(ids)]
        told = {night for _, night in passes} | set(_named(state.nights)[-1:])
        nights = [night for night in _older(state.nights, oldest) if night not in told][:FORGET_MAX]
        removed, refused = _removed([*map(state.run, filter(NAMED.fullmatch, ids)), *map(state.night, nights)])
        gone = [run for run in ids if not NAMED.fullmatch(run) or state.run(run) in removed]
        connection.execute("DELETE FROM runs WHERE id = ANY(%s)", (gone,))
        connection.execute(
            "DELETE FROM nights WHERE stack = %(stack)s AND ended < %(oldest)s "
            "AND ended < (SELECT max(ended) FROM nights WHERE stack = %(stack)s)",
            {"stack": stack, "oldest": oldest},
        )
    if refused:
        raise GamedayError(f"{refused[0]}, so it stays. Remedy: check its owner and rights")
    return Forgotten(len(gone), sum(state.night(night) in removed for night in nights))


def _named(folder: Path) -> list[str]:
    """Return the ids that have a folder there, oldest first."""
    try:
        return sorted(p.name for p in folder.iterdir() if NAMED.fullmatch(p.name) and p.is_dir() and not p.is_symlink())
    except FileNotFoundError:
        return []


def _older(folder: Path, oldest: datetime) -> list[str]:
    """Return those ids that are older."""
    return [name for name in _named(folder) if name < f"{oldest.astimezone(UTC):%Y%m%dT%H%M%S}"]


def _removed(folders: list[Path]) -> tuple[set[Path], list[str]]:
    """Remove the folders. Return those that are gone now, and why the others are not."""
    gone: set[Path] = set()
    refused: list[str] = []
    for folder in folders:
        try:
            shutil.rmtree(folder)
            gone.add(folder)
        except FileNotFoundError:
            gone.add(folder)
        except OSError as e:
            refused.append(f"{folder} can't be removed: {e.strerror or e}")
    return gone, refused


# ---- rows --------------------------------------------------------------------------------------------------


def _insert(connection: psycopg.Connection[Any], result: RunResult) -> None:
    """Insert or replace by id, in one transaction."""
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
        import structlog  # only here: it takes longer to import than a history to be read

        structlog.get_logger().warning("a result can't be read, so history lacks it", path=str(path), error=str(e))
        return None


def _storable(value: Json) -> Json:
    """Replace NUL characters, which Postgres keeps neither in text nor in jsonb."""
    if isinstance(value, str):
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}")
    if isinstance(value, Mapping):
        return {_storable(key): _storable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(inner) for inner in value]
    return value

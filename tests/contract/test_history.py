"""History against a real Postgres."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from gameday import codec, database, history
from gameday.errors import GamedayError
from gameday.model import Finding, Verdict
from gameday.state import State
from tests.unit import evidence


def test_a_run_comes_back_as_it_was_recorded(dsn: str) -> None:
    """Measures, counts, findings with their figures and acts are all kept."""
    results = [result for result, _ in evidence.night()] + [evidence.aborted()]
    for result in results:
        history.record(dsn, result)
    assert {r.id: r for r in history.runs(dsn)} == {r.id: codec.decode(type(r), codec.encode(r)) for r in results}


def test_recording_again_replaces(dsn: str) -> None:
    """The same run recorded twice is one run with its last verdict, and its acts are there once."""
    result, _ = evidence.broker_restart()
    history.record(dsn, result)
    history.record(dsn, replace(result, verdict=Verdict.UNKNOWN, why="the selftest missed a fault"))
    (kept,) = history.runs(dsn)
    assert (kept.verdict, kept.why) == (Verdict.UNKNOWN, "the selftest missed a fault")
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT count(*) FROM acts").fetchall() == [(1,)]


def test_a_history_is_test_parameters_and_stack(dsn: str) -> None:
    """Each of the three selects, parameters whatever their order; newest first, up to the limit."""
    crash, _ = evidence.feed_handler_crash()
    nights = [
        replace(crash, id="a", started="2026-02-17T02:00:00+00:00"),
        replace(crash, id="b", started="2026-02-18T02:00:00+00:00"),
        replace(crash, id="c", params={"venue": "kraken", "how": "graceful"}),
        replace(crash, id="d", stack="ours"),
        replace(evidence.broker_restart()[0], id="e", params=dict(crash.params)),
    ]
    for result in nights:
        history.record(dsn, result)
    params = {"how": "graceful", "venue": "binance"}
    assert [r.id for r in history.runs(dsn, test="feed_handler_crash", params=params, stack="trades")] == ["b", "a"]
    assert [r.id for r in history.runs(dsn, stack="ours")] == ["d"]
    assert [r.id for r in history.runs(dsn, limit=2)] == ["e", "d"]
    assert history.runs(dsn, test="no_such_test") == []


def test_many_may_migrate_at_once(dsn: str) -> None:
    """Runs that start together on a new database all find its tables, and each migration was applied once."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: history.migrate(dsn), range(16)))
    with psycopg.connect(dsn) as connection:
        numbers = connection.execute("SELECT number FROM migrations ORDER BY number").fetchall()
    assert [n for (n,) in numbers] == [int(path.name[:4]) for path in sorted(database.MIGRATIONS.glob("*.sql"))]


def test_what_a_platform_says_can_be_stored(dsn: str) -> None:
    """Control characters, quotes and NUL in a reason or in figures do not keep a run out of history."""
    result, _ = evidence.broker_restart()
    finding = Finding("served", Verdict.FAIL, evidence.EVIL, {evidence.EVIL: [evidence.EVIL]})
    history.record(dsn, replace(result, why=evidence.EVIL, findings=(finding,)))
    (kept,) = history.runs(dsn)
    assert kept.why == evidence.EVIL.replace("\0", "\N{REPLACEMENT CHARACTER}")


def test_what_was_missed_is_copied_in_later(dsn: str, tmp_path: Path) -> None:
    """Results that only their run's folder has are recorded, once; broken and absent ones are left alone."""
    state = State(tmp_path)
    results = [result for result, _ in evidence.night()]
    for result in results:
        codec.write_json(state.run(result.id) / "result.json", result)
    (state.run("20260101T000000-broken") / "result.json").parent.mkdir(parents=True)
    (state.run("20260101T000000-broken") / "result.json").write_text(json.dumps({"id": "20260101T000000-broken"}))
    state.run("20260101T000000-going").mkdir()
    history.record(dsn, results[0])
    assert history.import_missing(dsn, state) == sorted(result.id for result in results[1:])
    assert history.import_missing(dsn, state) == []
    assert len(history.runs(dsn)) == len(results)


def test_a_refusal_names_the_place_without_the_password(dsn: str) -> None:
    """A wrong password, or a user without the right to create tables: the error says where, and keeps the secret."""
    wrong = dsn.replace(":for-tests@", ":not-the-password@")
    with pytest.raises(GamedayError, match=r"127\.0\.0\.1:\d+/own\d+.*Remedy") as refused:
        history.migrate(wrong)
    assert "not-the-password" not in str(refused.value)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE ROLE reader LOGIN PASSWORD 'for-tests'")
    with pytest.raises(GamedayError, match="permission denied") as denied:
        history.migrate(dsn.replace("//tester:", "//reader:"))
    assert "for-tests" not in str(denied.value)

"""History against a real Postgres."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from psycopg.pq import TransactionStatus
from psycopg.sql import SQL, Literal
from pydantic import SecretStr
from typer.testing import CliRunner

from gameday import codec
from gameday.cli import app
from gameday.errors import GamedayError, NotUp
from gameday.model import Act, Finding, Measure, RunResult, Trend, Verdict
from gameday.past import database, history
from gameday.stack.config import MetricsConfig, RetentionConfig, TrendConfig
from gameday.stack.variables import VARIABLE
from gameday.state import ROOT, State
from gameday.system.address import encoded
from gameday.system.process import Process
from gameday.undo.journal import Entry, Journal
from tasks.compare import compare
from tasks.night import Night
from tasks.publish import publish
from tests.contract.conftest import PASSWORD
from tests.unit import evidence

NOW = datetime.now(UTC).replace(microsecond=0)


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


def test_who_stands_still_keeps_nobody_out(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is frozen in the middle of its work: others connect at once, and what it has locked is free before
    they are given up."""
    monkeypatch.setattr(database, "STATEMENT_TIMEOUT_MS", 8000)
    monkeypatch.setattr(database, "IDLE_MAX_MS", 2000)
    result, _ = evidence.broker_restart()
    history.record(dsn, result)

    def stand_still() -> None:
        with database.connected(dsn) as frozen:
            frozen.execute("LOCK TABLE runs")
            with database.connected(dsn):
                assert frozen.info.transaction_status == TransactionStatus.INTRANS
            history.record(dsn, result)
            frozen.execute("SELECT 1")

    with pytest.raises(NotUp, match="idle"):
        stand_still()


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
    wrong = dsn.replace(f":{encoded(PASSWORD)}@", ":not-the-password@")
    with pytest.raises(GamedayError, match=r"127\.0\.0\.1:\d+/own\d+.*Remedy") as refused:
        history.migrate(wrong)
    assert "not-the-password" not in str(refused.value)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(SQL("CREATE ROLE history_reader LOGIN PASSWORD {}").format(Literal(PASSWORD)))
    with pytest.raises(GamedayError, match="permission denied") as denied:
        history.migrate(dsn.replace("//tester:", "//history_reader:"))
    assert PASSWORD not in str(denied.value)
    assert encoded(PASSWORD) not in str(denied.value)


# ---- a run beside its history ------------------------------------------------------------------------------


def passes(count: int, mttr_s: float = 8.0) -> list[RunResult]:
    """Passes of one test, a day apart, the last of them now."""
    base, _ = evidence.broker_restart()
    return [
        replace(
            base,
            id=f"{NOW - timedelta(days=count - 1 - at):%Y%m%dT%H%M%S}-broker_restart-0000",
            night=f"{NOW - timedelta(days=count - 1 - at):%Y%m%dT%H%M%S}-night-0000",
            started=(NOW - timedelta(days=count - 1 - at)).isoformat(timespec="milliseconds"),
            measures={"mttr": Measure(mttr_s, mttr_s + 0.05 * (at * 7 % 11))},
        )
        for at in range(count)
    ]


def stack_of(dsn: str, state: State, **given: Any) -> Any:
    """What compare and publish need of a stack."""
    config = SimpleNamespace(
        name="trades",
        history=SecretStr(dsn),
        trend=TrendConfig(),
        retention=RetentionConfig(**given),
        metrics=MetricsConfig(),
    )
    return SimpleNamespace(name="trades", config=config, state=state)


def compared(dsn: str, state: State, result: RunResult, said: list[str] | None = None) -> RunResult:
    told: list[str] = [] if said is None else said
    run: Any = SimpleNamespace(stack=stack_of(dsn, state), name=result.test, say=told.append, gathered=None)
    return compare.fn(run, result, 7)


def test_the_history_of_a_run_is_the_passes_before_it(dsn: str) -> None:
    """The newest first, of the same test, parameters and stack; not what failed, came later, or is the run itself. What
    failed for nothing but its trend counts."""
    first, second, third, now, later = passes(5)
    slow = replace(second, verdict=Verdict.FAIL, trends=(Trend("mttr", 10, 8.0, 8.5, 0.0001, True),))
    lost = replace(third, verdict=Verdict.FAIL, trends=(Trend("mttr", 10, 8.0, 8.5, None, False),))
    others = [
        replace(first, id="x", params={"how": "sigkill"}),
        replace(first, id="y", stack="ours"),
        replace(first, id="z", test="clickhouse_restart"),
        replace(first, id="u", verdict=Verdict.UNKNOWN, trends=slow.trends),
    ]
    for result in (first, slow, lost, now, later, *others):
        history.record(dsn, result)
    found = history.passes_before(dsn, now, 30)
    assert [r.id for r in found] == [slow.id, first.id]
    assert found[0] == replace(slow, findings=(), acts=())
    assert [r.id for r in history.passes_before(dsn, now, 1)] == [slow.id]


def test_a_slow_down_fails_a_run_and_not_for_ever(dsn: str, tmp_path: Path) -> None:
    """Night after night through Postgres: the fifth slow night says so, and weeks later it is the new normal."""
    state = State(tmp_path)
    verdicts = []
    for result in [*passes(45)[:20], *passes(45, 12.0)[20:]]:
        told = compared(dsn, state, result)
        history.record(dsn, told)
        verdicts.append(told.verdict)
    assert set(verdicts[:24]) == {Verdict.PASS}
    assert verdicts[24] is Verdict.FAIL
    assert set(verdicts[-5:]) == {Verdict.PASS}


def test_results_that_wait_in_their_folders_are_history_too(dsn: str, tmp_path: Path) -> None:
    """Those of the nights in which Postgres was away."""
    state = State(tmp_path)
    *before, now = passes(12)
    for result in before:
        codec.write_json(state.run(result.id) / "result.json", result)
    (mttr,) = compared(dsn, state, now).trends
    assert (mttr.runs, mttr.p is not None) == (11, True)


def test_without_postgres_a_run_stays_as_it_is(dsn: str, tmp_path: Path) -> None:
    """No trend, no finding, no other verdict; it is said."""
    said: list[str] = []
    result = passes(1)[0]
    away = dsn.replace(f":{encoded(PASSWORD)}@", ":not-the-password@")
    assert compared(away, State(tmp_path), result, said) == result
    assert len(said) == 1
    assert "not compared with its own history" in said[0]


def test_a_history_has_the_last_runs_of_each(dsn: str) -> None:
    """So many of each test, parameters and stack, newest first, whatever their verdict."""
    runs = passes(4)
    for result in [*runs, replace(runs[0], id="k", params={"how": "sigkill"}), replace(runs[0], id="o", stack="ours")]:
        history.record(dsn, result)
    found = history.histories(dsn, 3)
    assert sorted([r.id for r in one] for one in found) == sorted([[r.id for r in runs[:0:-1]], ["k"], ["o"]])
    assert [len(one) for one in history.histories(dsn, 3, test="broker_restart", stack="ours")] == [1]
    assert history.histories(dsn, 3, test="no_such_test") == []


@pytest.fixture
def command(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """`gameday history …` against this Postgres; its output."""
    text = (ROOT / "compose" / "trades" / "gameday.toml").read_text()
    path = tmp_path / "gameday.toml"
    path.write_text(re.sub(r"^history = .*$", f'history = "{dsn}"', text, count=1, flags=re.MULTILINE))
    (tmp_path / "stack.env").write_text("".join(f"{name}=4001\n" for name in set(VARIABLE.findall(text))))
    monkeypatch.setenv("GAMEDAY_CONFIG", str(path))
    monkeypatch.setenv("GAMEDAY_STATE", str(tmp_path))

    def run(*args: str) -> str:
        done = CliRunner().invoke(app, ["history", *args], catch_exceptions=False)
        assert done.exit_code == 0
        return done.output

    return run


def test_the_command_shows_each_test_and_with_a_name_its_runs(dsn: str, command: Callable[..., str]) -> None:
    """Bars, verdicts, median, p95; by name run by run; this stack's, or of all; a remedy where there is nothing."""
    assert "gameday run --all" in command()
    runs = passes(33)
    for result in [*runs, replace(runs[-1], id="o", stack="ours", test="network_partition")]:
        history.record(dsn, result)
    told = command()
    assert "." * 30 in told
    assert "." * 31 not in told
    assert "p95 8.5 s" in told
    assert "network_partition" not in told
    assert "network_partition" in command("--all")
    assert f"{NOW:%Y-%m-%d}" not in told
    assert f"{NOW:%Y-%m-%d}" in command("broker-restart")
    markdown = command("--markdown", "--limit", "2")
    assert markdown.startswith("| Test | Run Date | Result | MTTR | Notes |")
    assert markdown.count("| PASS |") == 2
    assert "| Test | MTTR | Verdicts | Median | p95 | Trend |" in markdown
    assert [r["id"] for r in json.loads(command("--json", "--limit", "1"))["results"]] == [runs[-1].id]


# ---- how things stand --------------------------------------------------------------------------------------


def test_the_board_is_the_same_from_postgres_and_run_by_run(dsn: str) -> None:
    """For any course of nights, also with two runs of a test in one: what is shown while Postgres is away is what
    Postgres would say."""
    rng, known = random.Random(3), history.Board()
    for at, result in enumerate(passes(28)):
        variant = {"how": rng.choice(["graceful", "sigkill"])}
        night = result.night if at % 5 else passes(28)[max(0, at - 1)].night
        now = replace(result, params=variant, night=night, verdict=rng.choice(list(Verdict)))
        history.record(dsn, now)
        known = history.with_run(known, now)
        assert history.board(dsn, "trades") == known, at


def test_what_has_not_run_for_long_has_no_standing(dsn: str) -> None:
    """A test that was renamed does not stay for ever as one that passed long ago."""
    old = replace(passes(1)[0], started=(NOW - timedelta(days=history.SHOWN_DAYS + 1)).isoformat())
    history.record(dsn, old)
    assert history.board(dsn, "trades") == history.Board()


def test_completed_nights_are_told_of_each_stack(dsn: str) -> None:
    """The last one of this stack; none when there was none."""
    history.complete_night(dsn, "n1", "trades", NOW)
    history.complete_night(dsn, "n2", "trades", NOW - timedelta(days=1))
    assert history.board(dsn, "trades").night_completed_s == pytest.approx(NOW.timestamp())
    assert history.board(dsn, "ours").night_completed_s is None


def test_after_a_night_everything_is_written(dsn: str, tmp_path: Path) -> None:
    """A completed night whose selftest missed a fault: its pass is unknown in history, in its folder and in the
    metrics, and the night counts as completed."""
    state, (result,) = State(tmp_path), passes(1)
    history.record(dsn, result)
    codec.write_json(state.run(result.id) / "result.json", result)
    said: list[str] = []
    here = Night(result.night, say=said.append, results=[result], completed=NOW)
    here.findings.append(Finding("selftest", Verdict.UNKNOWN, "no_loss missed a dropped row"))
    publish(here, stack_of(dsn, state))
    assert said == []
    assert [r.verdict for r in history.runs(dsn)] == [Verdict.UNKNOWN]
    assert json.loads((state.run(result.id) / "result.json").read_text())["verdict"] == "unknown"
    text = state.textfile.read_text()
    assert 'verdict="unknown"} 1.0' in text
    assert 'verdict="pass"} 0.0' in text
    assert "gameday_night_completed_timestamp_seconds{" in text


# ---- retention ---------------------------------------------------------------------------------------------


def kept(dsn: str, state: State, results: list[RunResult]) -> None:
    """Results in Postgres, in their folders, and in their nights'."""
    for result in results:
        history.record(dsn, result)
        codec.write_json(state.run(result.id) / "result.json", result)
        codec.write_json(state.night(result.night) / "results.json", {})


def forget(dsn: str, state: State, keep: tuple[str, ...] = ()) -> history.Forgotten:
    return history.forget(dsn, state, "trades", keep_days=10, keep=keep, now=NOW)


def test_what_is_old_goes_from_both_and_does_not_come_back(dsn: str, tmp_path: Path) -> None:
    """Rows and folders of runs, and nights; younger ones stay, and the next import brings nothing back."""
    state, runs = State(tmp_path), passes(15)
    kept(dsn, state, runs)
    assert forget(dsn, state) == history.Forgotten(4, 4)
    assert sorted(r.id for r in history.runs(dsn)) == [r.id for r in runs[4:]]
    assert sorted(p.name for p in state.runs.iterdir()) == [r.id for r in runs[4:]]
    assert sorted(p.name for p in state.nights.iterdir()) == [r.night for r in runs[4:]]
    assert history.import_missing(dsn, state) == []
    assert forget(dsn, state) == history.Forgotten(0, 0)
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT count(*) FROM acts").fetchall() == [(11,)]


def test_what_must_stay_stays_however_old(dsn: str, tmp_path: Path) -> None:
    """The newest pass of each test and parameters with its night, a run that is named, the newest night, another
    stack's runs, and what has no name of ours."""
    state, runs = State(tmp_path), passes(40)[:6]
    only = replace(runs[1], params={"how": "sigkill"})
    failed = [replace(r, verdict=Verdict.FAIL) for r in runs[3:]]
    theirs = replace(runs[0], id="theirs", stack="ours")
    kept(dsn, state, [runs[0], only, runs[2], *failed, theirs])
    (state.runs / "notes").mkdir()
    (state.runs / "20200101T000000-link").symlink_to(tmp_path / "runs" / "notes")
    assert forget(dsn, state, keep=(failed[0].id,)) == history.Forgotten(3, 3)
    stay = {only.id, runs[2].id, failed[0].id}
    assert {r.id for r in history.runs(dsn)} == stay | {"theirs"}
    assert {p.name for p in state.runs.iterdir()} == stay | {"theirs", "notes", "20200101T000000-link"}
    assert {p.name for p in state.nights.iterdir()} == {only.night, runs[2].night, failed[-1].night}


def test_a_run_that_left_no_result_goes_too(dsn: str, tmp_path: Path) -> None:
    """Its folder is all there is of it."""
    state = State(tmp_path)
    (state.run("20200101T020000-broker_restart-dead") / "samples").mkdir(parents=True)
    assert forget(dsn, state) == history.Forgotten(1, 0)
    assert list(state.runs.iterdir()) == []


def test_one_call_removes_so_many_at_most(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A night does not wait for the removal of a year; the next ones go on, the oldest first."""
    monkeypatch.setattr(history, "FORGET_MAX", 3)
    state, runs = State(tmp_path), passes(18)
    kept(dsn, state, runs)
    assert [forget(dsn, state) for _ in range(4)] == [history.Forgotten(n, n) for n in (3, 3, 1, 0)]
    assert sorted(r.id for r in history.runs(dsn)) == [r.id for r in runs[7:]]


def test_an_id_is_no_way_out_of_the_folder(dsn: str, tmp_path: Path) -> None:
    """A row whose id would lead elsewhere goes without touching anything there."""
    state, outside = State(tmp_path / "state"), tmp_path / "20200101T000000-precious"
    outside.mkdir()
    old = passes(30)[0]
    for bad in (f"../../{outside.name}", "..", "."):
        history.record(dsn, replace(old, id=bad, verdict=Verdict.FAIL))
    assert forget(dsn, state).runs == 3
    assert history.runs(dsn) == []
    assert outside.is_dir()


def test_a_folder_that_can_t_be_removed_keeps_its_row(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told, with its path; all others go."""
    state, runs = State(tmp_path), passes(13)
    kept(dsn, state, runs)
    stuck, remove = state.run(runs[0].id), shutil.rmtree

    def refuse(path: Path) -> None:
        if path == stuck:
            raise PermissionError(1, "Operation not permitted")
        remove(path)

    monkeypatch.setattr(shutil, "rmtree", refuse)
    with pytest.raises(GamedayError, match=rf"{stuck.name} can't be removed.*Remedy"):
        forget(dsn, state)
    assert [r.id for r in history.runs(dsn)][-1] == runs[0].id
    assert len(history.runs(dsn)) == 12


def test_a_run_with_an_open_act_stays(dsn: str, tmp_path: Path) -> None:
    """What is broken and not yet mended is not forgotten; nor is anything while the journal has a line that can't be
    read."""
    state, runs = State(tmp_path), passes(40)[:2]
    kept(dsn, state, [replace(r, verdict=Verdict.FAIL) for r in runs])
    me = Process.me()
    act = Act("a1", runs[0].id, 1, 1, "inject", "stop", {"component": "broker"}, None, runs[0].id)
    Journal(state.journal).begin(Entry(act, me, me, 0))
    whole = state.journal.read_bytes()
    state.journal.write_bytes(whole + b"what is this\n")
    publish(Night("n"), stack_of(dsn, state, keep_days=10))
    assert len(history.runs(dsn)) == 2
    state.journal.write_bytes(whole)
    said: list[str] = []
    publish(Night("n", say=said.append), stack_of(dsn, state, keep_days=10))
    assert [r.id for r in history.runs(dsn)] == [runs[0].id]
    assert said == ["retention: removed 1 runs and 1 nights older than 10 days"]

"""A platform of web events that is none of ours: UUIDs, nested fields, forty shops with one event a second, and a
consumer that writes Postgres in batches of five seconds. And the orders of such shops, which change and go. gameday is
only told of them, by a gameday.toml each.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from compose.servers import postgres
from gameday import codec
from gameday.state import State
from tests.e2e.command import gameday, results
from tests.e2e.events.processes import CONFIG, ORDERS, up
from tests.e2e.events.producer import CLOSED

pytestmark = [
    pytest.mark.suite("events"),
    pytest.mark.timeout(900),
]
"""A suite of its own, for two nights of batches take five minutes: what is normal is seen after some of them."""

WITHIN_S = 420
"""A night of two tests: a baseline of some batches before each, and as much after it until it is seen that all stays
drained."""

HERE = {"GAMEDAY_CONFIG": str(CONFIG)}


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[State]:
    """The platform's state folder, for both consumers."""
    made = State(tmp_path_factory.mktemp("events"))
    try:
        yield made
    finally:
        postgres.remove(made)


@pytest.fixture(scope="module")
def platform() -> Iterator[ExitStack]:
    """What holds the platform up until it is closed, or the tests are over."""
    with ExitStack() as held:
        yield held


@pytest.fixture(scope="module")
def night(state: State, platform: ExitStack, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The results of `run --all`."""
    file = tmp_path_factory.mktemp("night") / "results.json"
    platform.enter_context(up(state, {}))
    done = gameday(state, "--config", str(CONFIG), "run", "--all", "--json", str(file), within_s=WITHIN_S)
    assert done.returncode == 0, done.stdout + done.stderr
    return results(file)


def test_it_passes_while_it_is_healthy(night: list[dict[str, Any]]) -> None:
    """A consumer that dies with a batch in its hands, and a database that restarts: nothing is lost, doubled or
    changed. Nothing is unknown either: what can't be judged of such a stream is skipped, with the reason."""
    assert {result["test"]: result["verdict"] for result in night} == {
        "consumer_crash": "pass",
        "database_restart": "pass",
    }
    for result in night:
        skipped = {f["check"]: f["why"] for f in result["findings"] if f["verdict"] == "skipped"}
        assert "no hop is a log whose records a number counts in its order" in skipped["order"]
        damage = {kind: result["counts"][kind]["table"] for kind in ("lost", "doubled", "changed")}
        assert damage == {"lost": 0, "doubled": 0, "changed": 0}
        assert result["measures"]["drain"]["high_s"] is not None


def test_the_batches_are_learned(state: State, night: list[dict[str, Any]]) -> None:
    """What is normal is how long an event waits for its batch, and the report says what follows; the shop that is
    closed for good keeps nothing waiting, and is told."""
    for result in night:
        evidence = codec.load_evidence(state.run(result["id"]))
        assert evidence.baseline is not None
        assert evidence.baseline.delay_p99_s > 3
        assert evidence.baseline.moves[CLOSED,] == 0
    told = gameday(state, "report", "last", env=HERE)
    assert told.returncode == 0, told.stderr
    page = Path(told.stdout.strip()).read_text()
    assert "recovery is told no finer than that" in page
    assert "groups, of which nothing new came" in page


def test_a_look_finds_it_declared_right(state: State, night: list[dict[str, Any]]) -> None:
    """Each hop is read as declared, and the table has what the log has."""
    done = gameday(state, "check", "--look", "--json", env=HERE)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {row["what"]: row for row in json.loads(done.stdout)}
    assert {"hop log", "hop table", "look at log", "look at table", "look from log to table"} <= rows.keys()
    assert [what for what, row in rows.items() if not row["ok"]] == []


def test_status_tells_of_times(state: State, night: list[dict[str, Any]]) -> None:
    """Where no number counts events, where each shop stands is a time."""
    done = gameday(state, "status", "--json", env=HERE)
    assert done.returncode == 0, done.stdout + done.stderr
    seen = json.loads(done.stdout)
    closed = next(row for row in seen["streams"] if row["group"] == CLOSED)
    assert closed["ledger"] == closed["visible"]
    assert (closed["ledger"][4], closed["behind"]) == ("-", "0.0 s")


def test_a_consumer_that_commits_before_it_writes_is_found_out(
    state: State, platform: ExitStack, tmp_path: Path
) -> None:
    """What it had read when it was killed is lost: the table lacks it, and the events' keys are told.

    Its batches take 10 s, so that the kill comes before the batch is written on a slow machine too.
    """
    platform.close()
    platform.enter_context(up(state, {"ACK": "first", "BATCH_S": "10"}))
    file = tmp_path / "results.json"
    done = gameday(state, "run", "consumer_crash", "--json", str(file), env=HERE, within_s=WITHIN_S)
    assert done.returncode == 1, done.stdout + done.stderr
    (result,) = results(file)
    assert result["verdict"] == "fail"
    verdict, why = next((f["verdict"], f["why"]) for f in result["findings"] if f["check"] == "no_loss")
    assert (verdict, "table has" in why, "fewer than log" in why) == ("fail", True, True), why
    assert result["counts"]["lost"]["table"] > 0
    found = codec.load_evidence(state.run(result["id"])).symptoms["differences"]
    lost = [key for rows in found.values() for key in rows["missing"]["ids"]]
    assert 0 < len(lost) <= result["counts"]["lost"]["table"]
    assert {UUID(key).version for key in lost} == {4}
    named = re.findall(r"id ([0-9a-f-]{36})", why)  # of the first groups
    assert 0 < len(named) <= len(lost)
    assert set(named) <= set(lost)


# ---- orders that change and go ---------------------------------------------------------------------------------------


def crashed(state: State, folder: Path) -> tuple[int, dict[str, Any]]:
    """The exit code and the result of a run in which the applier is killed."""
    file = folder / "results.json"
    asked = ("run", "crash", "-p", "component=applier", "--json", str(file))
    done = gameday(state, *asked, env={"GAMEDAY_CONFIG": str(ORDERS)}, within_s=WITHIN_S)
    assert file.exists(), done.stdout + done.stderr
    (result,) = results(file)
    return done.returncode, result


def test_orders_that_change_and_go_pass(state: State, platform: ExitStack, tmp_path: Path) -> None:
    """As of the place in the log that the table tells, though changes come again, orders go, and the applier dies."""
    platform.close()
    platform.enter_context(up(state, {}, ORDERS))
    code, result = crashed(state, tmp_path)
    assert (code, result["verdict"]) == (0, "pass"), result
    damage = {kind: result["counts"][kind]["table"] for kind in ("lost", "doubled", "changed")}
    assert damage == {"lost": 0, "doubled": 0, "changed": 0}
    verdicts = {f["check"]: f["verdict"] for f in result["findings"]}
    assert {verdicts[name] for name in ("no_loss", "no_duplicates", "unchanged", "order")} == {"pass"}
    evidence = codec.load_evidence(state.run(result["id"]))
    (compared,) = evidence.states
    assert (compared.hop, compared.against, compared.late) == ("table", "log", False)
    assert compared.position.keys() == {f"orders/{partition}" for partition in range(3)}
    assert sum(delta.keys for delta in compared.groups.values()) > 0


def test_an_applier_that_applies_an_older_version_is_found_out(
    state: State, platform: ExitStack, tmp_path: Path
) -> None:
    """At the table, with the orders' keys, in the verdict and in the report; nothing is wrong with the log."""
    platform.close()
    platform.enter_context(up(state, {"APPLY": "any"}, ORDERS))
    code, result = crashed(state, tmp_path)
    assert (code, result["verdict"]) == (1, "fail"), result
    findings = {f["check"]: f for f in result["findings"]}
    failed = {name for name, finding in findings.items() if finding["verdict"] == "fail"}
    assert failed == {"unchanged"}, {name: findings[name]["why"] for name in failed}
    assert result["counts"]["changed"]["table"] > 0
    listed = codec.load_evidence(state.run(result["id"])).symptoms["differences"]
    rows = [row for kinds in listed.values() for row in kinds["changed"]["rows"]]
    assert rows
    assert all(row["version"][0] > row["version"][1] for row in rows)
    told = gameday(state, "report", "last", env={"GAMEDAY_CONFIG": str(ORDERS)})
    assert told.returncode == 0, told.stderr
    assert str(rows[0]["id"]) in Path(told.stdout.strip()).read_text()
    assert str(rows[0]["id"]) in findings["unchanged"]["why"]

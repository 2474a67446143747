"""Hostile surroundings: whatever gameday leans on fails, and there is no pass that isn't one, nor a fault left."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from gameday.stack.live import Stack, open_stack
from gameday.state import State
from tests.contract.sockets import silent
from tests.e2e.command import gameday, results, running, seen
from tests.e2e.test_bad_days import DOWN, HANDLER, HELD, intact, runs
from tests.fakes import fill, small_disk
from tests.suites import only_in

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a file system")


@pytest.fixture
def stack(stack_state: State) -> Stack:
    return open_stack(state=stack_state)


@pytest.mark.suite("trades")
@AS_ROOT
def test_a_disk_that_fills_up_in_the_middle_proves_nothing_and_leaves_nothing(
    stack_state: State, stack: Stack, tmp_path: Path
) -> None:
    """No room for another sample while a fault is held: it is mended, the run is unknown, and why is told."""
    with small_disk(stack_state.runs, "64m"):
        with running(stack_state, *HELD, "--json", str(tmp_path / "r.json")) as (run, output):
            seen(run, output, DOWN)
            fill(stack_state.runs / "filler")
            assert run.wait(90) == 3, output.read_text()
            assert "Traceback" not in output.read_text()
        (result,) = results(tmp_path / "r.json")
        assert result["verdict"] == "unknown"
        assert runs(stack, HANDLER)
        intact(stack)


@AS_ROOT
def test_where_nothing_can_be_kept_nothing_is_broken(stack_state: State, stack: Stack) -> None:
    """Runs' folders on a read-only file system: exit code 3 with the place, and not an act in the journal."""
    acts = len(stack_state.journal.read_bytes()) if stack_state.journal.exists() else 0
    with small_disk(stack_state.runs, "1m"):
        subprocess.run(["mount", "-o", "remount,ro", str(stack_state.runs)], check=True)
        done = gameday(stack_state, *HELD)
    assert (done.returncode, "can't be made: Read-only file system" in done.stderr) == (3, True), done.stderr
    assert "Traceback" not in done.stderr
    assert (len(stack_state.journal.read_bytes()) if stack_state.journal.exists() else 0) == acts


@pytest.mark.parametrize(
    ("port", "command", "message"),
    [
        ("PREFECT_PORT", HELD, "Prefect server at"),
        *only_in(
            "trades",
            ("GAMEDAY_PG_PORT", ("history",), "gameday's Postgres at"),
            ("GAMEDAY_PG_PORT", HELD, "gameday's Postgres at"),
            ("CLICKHOUSE_PORT", HELD, "not answer"),
            ("EXCHANGE_PORT", HELD, "not answer"),
        ),
    ],
)
def test_a_server_that_accepts_and_never_answers_is_named_in_time(
    stack_state: State, stack: Stack, port: str, command: tuple[str, ...], message: str
) -> None:
    """Whichever it is: exit code 3, and nothing is broken on the way."""
    with silent() as number:
        began = time.monotonic()
        done = gameday(stack_state, *command, env={port: str(number)}, within_s=150)
        took_s = time.monotonic() - began
    assert (done.returncode, message in done.stdout + done.stderr) == (3, True), done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert took_s < 120
    intact(stack)


@pytest.mark.suite("trades")
def test_history_away_keeps_the_result_for_later(stack_state: State, stack: Stack, tmp_path: Path) -> None:
    """gameday's Postgres refuses while the run is recorded: the result is in its folder, and in history with the next
    look."""
    broken = tmp_path / "gameday.toml"
    text = stack.path.read_text().replace("several_machines = true", "several_machines = false")
    broken.write_text(text.replace("${GAMEDAY_PG_PORT}", "1"))
    done = gameday(stack_state, "--config", str(broken), *HELD, "--json", str(tmp_path / "r.json"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "not yet in history" in done.stdout
    (result,) = results(tmp_path / "r.json")
    assert (stack_state.run(result["id"]) / "result.json").exists()
    later = gameday(stack_state, "history", "--json", "--limit", "200")
    assert result["id"] in later.stdout

"""Runbooks on the running platform: one that is wrong is found out, and a recovery by hand is a recovery."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gameday.stack.reading import default_path
from gameday.state import ROOT, RUNBOOKS, State
from tests.e2e.command import gameday, results

RUN_S = 400

pytestmark = [pytest.mark.suite("trades"), pytest.mark.timeout(RUN_S + 60)]


@pytest.fixture
def books(tmp_path: Path) -> Path:
    """The runbooks of the repository, to be spoilt; gameday.toml beside them names them."""
    shutil.copytree(ROOT / RUNBOOKS, tmp_path / "runbooks")
    text = default_path().read_text()
    assert "[runbook.env]" in text
    (tmp_path / "gameday.toml").write_text(
        text.replace("[runbook.env]", '[runbook]\nfolder = "runbooks"\n\n[runbook.env]', 1)
    )
    return tmp_path


def test_a_runbook_that_points_elsewhere_is_stale_and_changes_no_verdict(stack_state: State, books: Path) -> None:
    """The handler is down, and its runbook blames the broker, and starts nothing: the run says so, mends by itself, and
    passes, for the platform is well."""
    book = books / "runbooks" / "feed_handler_crash.md"
    text = book.read_text().replace('gameday start "handler-$VENUE"', 'echo "handler-$VENUE runs"')
    book.write_text(text.replace('status | grep "^handler-$VENUE "', "status | grep '^broker '"))
    found = books / "r.json"
    done = gameday(
        stack_state, "--config", str(books / "gameday.toml"), "run", "feed_handler_crash", "--json", str(found)
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (result,) = results(found)
    wrong = {s["title"]: s["why"] for s in result["steps"] if s["ok"] is False}
    assert set(wrong) == {"The venue's handler has no process", "Start the handler", "The handler answers"}
    assert "came: broker" in wrong["The venue's handler has no process"]
    assert "left stop of handler-binance" in wrong["Start the handler"]
    assert {a["healed_why"] for a in result["acts"]} == {"the plan's heal"}
    diff = (stack_state.night(result["night"]) / "runbooks.diff").read_text()
    assert "“The venue's handler has no process” came out otherwise" in diff


def test_a_right_that_was_withdrawn_is_given_back_by_the_runbook(stack_state: State, tmp_path: Path) -> None:
    """Nothing heals that by itself: the runbook's own request to the store does, and the run passes by it."""
    found = tmp_path / "r.json"
    done = gameday(
        *(stack_state, "run", "object_store_outage", "-p", "how=read_only", "--json", str(found)), within_s=RUN_S
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (result,) = results(found)
    assert [s for s in result["steps"] if s["ok"] is not True] == []
    assert "by the runbook: Give the right to write back" in {a["healed_why"] for a in result["acts"]}

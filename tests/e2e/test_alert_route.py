"""The platform's alerts on the whole stack: an outage that nobody provoked reaches the pager, one that a test provoked
is seen to fire and pages nobody.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from compose import supervisor
from flows.nightly import not_well
from gameday.stack.live import Stack, open_stack
from gameday.state import State
from gameday.system.polling import until
from tests.e2e.command import gameday, results

pytestmark = [pytest.mark.suite("stack"), pytest.mark.timeout(480), pytest.mark.usefixtures("paging")]

WITHIN_S = 120.0
"""The rule waits for 15 s; more on a machine that has other things to do."""


def pages(state: State, since_us: int) -> list[tuple[str, str, str]]:
    """(alert, component, status) of what has arrived at the pager since."""
    path = state.servers / "pager" / "alerts.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    told = [json.loads(line["alert"]) for line in lines if line["at_us"] > since_us and line["sender"] == "alerts"]
    return [(a["labels"]["alertname"], a["labels"]["component"], a["status"]) for t in told for a in t["alerts"]]


@contextmanager
def held_down(state: State, name: str) -> Iterator[None]:
    """As an accident would, without gameday."""
    supervisor.ask(state, op="stop", name=name, grace_s=5.0)
    try:
        yield
    finally:
        supervisor.ask(state, op="start", name=name)


@pytest.fixture
def stack(stack_state: State) -> Stack:
    """Nothing fires."""
    found = open_stack(state=stack_state)
    until(lambda: not found.firing(), WITHIN_S, every_s=0.5, what="silence")
    return found


@pytest.mark.parametrize(
    ("process", "alert", "component"),
    [
        ("handler-kraken", "FeedHandlerDown", "handler-kraken"),
        ("kafka", "BrokerDown", "broker"),
        ("clickhouse", "ClickHouseDown", "clickhouse"),
    ],
)
def test_an_outage_reaches_the_pager_and_so_does_its_end(
    stack_state: State, stack: Stack, process: str, alert: str, component: str
) -> None:
    """From the rule through Alertmanager to its receiver, with the component's name."""
    since_us = time.time_ns() // 1000
    with held_down(stack_state, process):
        page = (alert, component, "firing")
        until(lambda: page in pages(stack_state, since_us), WITHIN_S, every_s=0.2, what=f"the page {page}")
    end = (alert, component, "resolved")
    until(lambda: end in pages(stack_state, since_us), WITHIN_S, every_s=0.2, what="the page's end")


def test_a_test_measures_the_alert_and_pages_nobody(stack_state: State, stack: Stack, tmp_path: Path) -> None:
    """It fired, held by the very outage that it is about, and is over; the pager heard nothing of it."""
    since_us = time.time_ns() // 1000
    found = tmp_path / "r.json"
    done = gameday(stack_state, "run", "feed_handler_crash", "--json", str(found))
    assert done.returncode == 0, done.stdout + done.stderr
    (result,) = results(found)
    (finding,) = [f for f in result["findings"] if f["check"] == "alert"]
    assert finding["verdict"] == "pass", finding
    alert, resolve = (result["measures"][name] for name in ("alert", "resolve"))
    assert 15.0 < alert["low_s"] < alert["high_s"] < finding["evidence"]["alert_s"] + 0.001
    assert 0.0 <= resolve["low_s"] <= resolve["high_s"] < WITHIN_S
    assert [page for page in pages(stack_state, since_us) if page[0] == "FeedHandlerDown"] == []


def test_a_scheduled_night_waits_for_the_platform_to_be_well(stack_state: State, stack: Stack) -> None:
    """What fires is told by name, and by component."""
    with held_down(stack_state, "handler-kraken"):
        until(lambda: not_well(stack), WITHIN_S, every_s=0.5, what="the alert")
        assert "FeedHandlerDown of handler-kraken fires: skipped" in str(not_well(stack))

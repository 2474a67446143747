"""A small campaign of kills on the running stack; the large one is `python -m benchmarks.undo --kills 300`."""

from __future__ import annotations

import pytest

from benchmarks.undo import ENDS_WITHIN_S, STEP_WITHIN_S, VICTIMS, Campaign, Kill, plot, table
from flows import catalogue
from gameday.stack.live import open_stack
from gameday.state import State
from tasks.definition import definition
from tests.suites import only_in

pytestmark = pytest.mark.timeout(STEP_WITHIN_S + ENDS_WITHIN_S + 120)

TESTS = {
    "run": "network_partition",
    "guardian": "broker_restart",
    "sampler": "offload_failure",
    "run and guardian": "feed_handler_crash",
    "run, guardian and reconciler": "clickhouse_restart",
    "run, frozen": "broker_restart",
    "run, Ctrl-C": "feed_handler_crash",
    "run, SIGTERM": "clickhouse_restart",
    "run, cancelled in Prefect": "broker_restart",
    "Prefect's worker": "clickhouse_restart",
    "Prefect's server": "broker_restart",
    "gameday's Postgres": "clickhouse_restart",
}
"""The shorter ones, and one with an archive; the large campaign goes through all."""


SOONEST = ("run", "guardian")
"""What a change of the undo breaks first: they are met by every change, the others by the suite of kills."""


@pytest.fixture(scope="module")
def campaign(stack_state: State) -> Campaign:
    return Campaign(open_stack(state=stack_state))


@pytest.fixture(scope="module")
def kills() -> list[Kill]:
    """What the tests before have seen."""
    return []


@pytest.mark.parametrize("victim", [*SOONEST, *only_in("kills", *(v for v in VICTIMS if v not in SOONEST))])
def test_whatever_is_killed_nothing_stays_broken(campaign: Campaign, kills: list[Kill], victim: str) -> None:
    """At a random moment of a random step: mended in time, by whom it should be, and no pass that rests on nothing."""
    test = TESTS[victim]
    kill = campaign.kill(victim, test, dict(definition(catalogue()[test])().nightly[0]))
    kills.append(kill)
    assert not kill.wrong, kill


@pytest.mark.suite("kills")
def test_the_campaign_is_shown_as_a_table_and_a_picture(kills: list[Kill]) -> None:
    """A row for each victim; none was left out."""
    assert set(TESTS) == set(VICTIMS)
    shown = table(kills)
    assert all(f"| {kill.victim} |" in shown for kill in kills)
    assert plot(kills).count("<text") >= len(kills)

"""Every failure test with each parameter set that nights rotate through, but for the first: that is test_night.py's.
And the general ones, each on a component or link that it can harm most.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from flows import catalogue
from gameday.state import State
from tasks.definition import definition
from tests.e2e.command import gameday, results
from tests.suites import only_in

WITHIN_S = 600
"""One run; an offload waits for up to an interval of its schedule and its job's run."""

pytestmark = pytest.mark.timeout(WITHIN_S + 240)  # the first test brings the stack up

SETS = [
    (name, dict(params))
    for name, flow in catalogue().items()
    for params in definition(flow)().nightly[1:]  # the first one is the night's
]
OFFLOAD = "offload_failure"
HELD = {"component": "handler-kraken", "held_s": "5"}
LINK = {"component": "clickhouse", "link": "broker-clickhouse"}
GENERAL = [
    ("crash", {"component": "broker"}),
    ("restart", {"component": "handler-coinbase", "how": "sigkill"}),
    ("hang", {"component": "broker"}),
    ("hang", {"component": "clickhouse"}),
    ("partition", {**LINK, "how": "blackhole"}),
    ("slow_link", LINK),
]


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("hang", HELD),
        *only_in("variants", *(case for case in SETS if case[0] != OFFLOAD), *GENERAL),
        *only_in("offload", *(case for case in SETS if case[0] == OFFLOAD)),
    ],
    ids=lambda part: "-".join(part.values()) if isinstance(part, dict) else part,
)
def test_the_platform_recovers(stack_state: State, name: str, params: dict[str, str], tmp_path: Path) -> None:
    """A pass, with nothing lost, doubled or changed. What this stack can't carry out says what it lacks."""
    found = tmp_path / "r.json"
    chosen = [part for key, value in params.items() for part in ("-p", f"{key}={value}")]
    done = gameday(stack_state, "run", name, *chosen, "--json", str(found), within_s=WITHIN_S)
    (result,) = results(found)
    if result["verdict"] == "skipped":
        pytest.skip(result["why"])
    assert (done.returncode, result["verdict"]) == (0, "pass"), done.stdout + done.stderr
    assert {n for hops in result["counts"].values() for n in hops.values()} == {0}, result["counts"]

"""started_once on short histories: whom the run and the platform may start, and whom only someone else did."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gameday.model import Act, Evidence, Verdict
from gameday.verdict.checks import started_once

PASS, SKIPPED, UNKNOWN = Verdict.PASS, Verdict.SKIPPED, Verdict.UNKNOWN
S = 1_000_000
AT_US = 1_700_000_000 * S


def act(fault: str, done_s: float = 2.0, **args: str) -> Act:
    """At second 0, done after done_s."""
    at_ns = 5 * 10**9
    done_ns = at_ns + int(done_s * 10**9)
    return Act("a", "r", at_ns, AT_US, "fault", fault, {"component": "broker", **args}, {}, "r", "bit", done_ns)


def history(*acts: Act, began_s: tuple[float, ...] = ()) -> Evidence:
    """Processes 100, 101 \u2026 of the broker began so long after the act."""
    lives = [{"pid": 100 + number, "started_us": AT_US + int(s * S)} for number, s in enumerate(began_s)]
    return replace(Evidence("t", {}, "s"), acts=acts, symptoms={"lives": {"broker": lives}})


@pytest.mark.parametrize(
    ("evidence", "verdict", "why"),
    [
        (history(act("restart"), began_s=(1.9,)), PASS, "nobody else"),
        (history(act("restart"), began_s=(0.1, 1.9)), PASS, "nobody else"),  # revived before its stop was ordered
        (history(act("restart"), began_s=(1.9, 2.5)), UNKNOWN, "broker was started again by someone else, pid 101"),
        (history(act("restart"), began_s=(1.9, 2.5, 9)), UNKNOWN, "by someone else, pids 101, 102"),
        (history(act("kill"), began_s=(2.1,)), PASS, "nobody else"),
        (history(act("kill", done_s=0.01), began_s=(0.1, 4)), UNKNOWN, "pid 101"),
        (history(act("stop"), began_s=(30,)), PASS, "nobody else"),
        (history(act("stop"), began_s=(30, 30.4)), UNKNOWN, "pid 101"),
        (history(act("stop"), began_s=(-1, 30)), PASS, "nobody else"),  # before it was struck: the act met that one
        (history(act("restart"), act("failpoint"), began_s=(1.9, 5, 9)), SKIPPED, "no process was stopped"),
        (history(act("partition", link="l")), SKIPPED, "no process was stopped"),
        (replace(history(act("kill")), symptoms={"lives": {}}), UNKNOWN, "processes that broker has had are not known"),
        (replace(history(act("kill")), symptoms={}), UNKNOWN, "nothing to judge"),
    ],
)
def test_only_what_the_acts_explain_may_begin(evidence: Evidence, verdict: Verdict, why: str) -> None:
    """A restart's own process begins within it, a stop's with the heal, a kill's when it is revived: once."""
    found = started_once(evidence)
    assert (found.verdict, why in found.why) == (verdict, True), found.why

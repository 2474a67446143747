"""What people are told: every fact that the issue of a night needs, in each kind of message, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from gameday import codec
from gameday.model import Act, Finding, Measure, Message, RunResult, Step, Trend, Verdict
from gameday.telling import messages
from gameday.telling.messages import Ahead, Places

NOW = datetime(2026, 1, 1, 2, 0, tzinfo=UTC)
AT_US = int(NOW.timestamp() * 1e6)
PLACES = Places("https://reports.example/n/report.html", "runbooks/broker_restart.md", "http://prefect/runs/flow-run/7")
CULPRITS = ("silver kraken/ETH/USD: 2 missing (id 41, 42).", "Look between bronze and silver.")

ACT = Act(
    "a1", "run-1", 10**9, AT_US, "inject", "restart", {"component": "broker"}, {}, "run-1", "pid 1 is gone",
    2 * 10**9, 9 * 10**9, "run-1", "the end of the plan",
)  # fmt: skip

FAILED = RunResult(
    id="run-1", night="n", test="broker_restart", params={"how": "sigkill"}, stack="trades", verdict=Verdict.FAIL,
    why="silver lost 2 trades", started="2026-01-01T02:00:00.000+00:00", took_s=40.0,
    mttr_max_s=120.0, drain_max_s=120.0,
    measures={"mttr": Measure(8.26, 8.35)}, counts={"lost": {"bronze": 0, "silver": 2}, "doubled": {"silver": 0}},
    findings=(Finding("no_loss", Verdict.FAIL, "silver lost 2 trades"), Finding("order", Verdict.PASS, "in order")),
    acts=(ACT,), trends=(Trend("mttr", 30, 8.1, 9.0, 0.004, True),),
    steps=(
        Step("recovery", "restart the consumer", False, "printed nothing", 1.0), Step("verify", "lag", True, "", 1.0),
    ),
)  # fmt: skip
PASSED = replace(
    FAILED, id="run-2", verdict=Verdict.PASS, why="as promised", counts={}, findings=(), trends=(), steps=()
)


def facts(message: Message) -> dict[str, str]:
    return dict(message.facts)


def test_before_anything_is_broken_people_know_what_until_when_and_how_to_stop_it() -> None:
    """One message for the whole night, which is worth nothing once it is over."""
    ahead = [
        Ahead("broker_restart(how=graceful)", ("restart of broker",), 270.0),
        Ahead("stop", ("stop of s3",), 600.0),
    ]
    told = messages.announce("trades", "n", ahead, "runner-1", NOW)
    assert "trades will be broken on purpose" in told.title
    assert "broker_restart(how=graceful): restart of broker" in facts(told)["Will be broken"]
    assert facts(told)["Over at the latest"] == "01 January, 02:18 UTC"
    assert facts(told)["Each is mended"] == "at most 10 min after its test began"
    assert "gameday abort, on runner-1" in told.facts[-1]
    assert told.until_us == AT_US + int((270 + 600 + 2 * messages.BETWEEN_S) * 1e6)


def test_a_single_run_is_announced_with_its_own_end() -> None:
    """The end that its guardian keeps."""
    told = messages.announce("trades", "n", [Ahead("stop", ("stop of s3",), 600.0)], "runner-1", NOW)
    assert facts(told)["Over at the latest"] == "01 January, 02:10 UTC"
    assert told.text == "stop begins now."


def test_a_fail_says_all_that_whoever_is_woken_asks() -> None:
    """Verdict, MTTR against target and history, hop and ids, what was undone by whom and when, what is stale, links."""
    told = messages.fail(FAILED, CULPRITS, PLACES, NOW)
    assert told.title == "FAIL: broker_restart(how=sigkill) on trades"
    assert told.text == "silver lost 2 trades"
    found = facts(told)
    assert found["MTTR"] == "8.2–8.4 s of 120 s"
    assert found["Against its own history"] == "median 8.1 s, p95 9.0 s of 30 passes: worse (p = 0.004)"
    assert found["Lost"] == "silver 2"
    assert [value for name, value in told.facts if name == "Guilty"] == list(CULPRITS)
    assert found["Undone"] == (
        "restart of broker at 02:00:00.000: mended at 02:00:08.000 UTC by this run (the end of the plan)"
    )
    assert found["Runbook is stale"] == "recovery 'restart the consumer': printed nothing"
    assert dict(told.links) == {
        "Report": PLACES.report, "Runbook": PLACES.runbook, "Prefect run": PLACES.prefect,
    }  # fmt: skip
    assert (told.data["lost"], told.data["component"], told.data["mttr_high_s"]) == (2, "broker", 8.35)


@pytest.mark.parametrize(
    ("trends", "said"),
    [
        ((), "no passes to compare with"),
        ((Trend("mttr", 4, 8.0, 9.0, None, False),), "median 8.0 s, p95 9.0 s of 4 passes: too few to tell"),
        ((Trend("mttr", 30, 8.0, 9.0, 0.6, False),), "median 8.0 s, p95 9.0 s of 30 passes: as usual (p = 0.6)"),
        ((Trend("drain", 30, 8.0, 9.0, 0.001, True),), "no passes to compare with"),
    ],
)
def test_its_own_history_is_told_as_it_is(trends: tuple[Trend, ...], said: str) -> None:
    """Too few runs are no judgement."""
    assert facts(messages.fail(replace(FAILED, trends=trends), (), PLACES, NOW))["Against its own history"] == said


def test_what_was_not_mended_and_who_else_mended_is_told() -> None:
    """An open act is the first thing to do something about."""
    acts = (replace(ACT, healed_ns=None), replace(ACT, healed_by="gameday abort", healed_why=None))
    undone = facts(messages.fail(replace(FAILED, acts=acts), (), PLACES, NOW))["Undone"]
    assert "still open. Remedy: gameday heal" in undone
    assert "by gameday abort" in undone
    assert facts(messages.fail(replace(FAILED, acts=()), (), PLACES, NOW))["Undone"] == "nothing was done"


def test_pagers_hear_of_fails_and_of_passes_alone() -> None:
    """What proves nothing opens no incident, and closes none."""
    assert [m.kind for m in messages.pages(FAILED, (), PLACES, NOW)] == ["trigger"]
    assert [m.kind for m in messages.pages(PASSED, (), PLACES, NOW)] == ["resolve"]
    for verdict in (Verdict.UNKNOWN, Verdict.INVALID, Verdict.SKIPPED):
        assert messages.pages(replace(FAILED, verdict=verdict), (), PLACES, NOW) == []


def test_an_incident_is_one_test_with_its_parameters_on_one_stack() -> None:
    """A graceful restart that passes does not close what a kill opened."""
    (opened,), (closed,) = messages.pages(FAILED, (), PLACES, NOW), messages.pages(PASSED, (), PLACES, NOW)
    (other,) = messages.pages(replace(PASSED, params={"how": "graceful"}), (), PLACES, NOW)
    (elsewhere,) = messages.pages(replace(PASSED, stack="staging"), (), PLACES, NOW)
    assert opened.about == closed.about == "gameday/trades/broker_restart/how=sigkill"
    assert len({opened.about, other.about, elsewhere.about}) == 3


def test_a_fail_like_one_before_is_not_told_again() -> None:
    """The same test, checks and hops in the same night; another hop is another fail."""
    first = messages.fail(FAILED, (), PLACES, NOW)
    again = messages.fail(replace(FAILED, id="run-3", params={"how": "graceful"}), (), PLACES, NOW)
    other = messages.fail(replace(FAILED, id="run-4", counts={"lost": {"bronze": 2}}), (), PLACES, NOW)
    assert messages.flood(again, [first])
    assert not messages.flood(other, [first])


def test_a_night_of_nothing_but_fails_is_no_flood() -> None:
    """FAILS_MAX at once; the rest is in the night's message."""
    told: list[Message] = []
    for number in range(50):
        one = messages.fail(replace(FAILED, id=f"r{number}", test=f"test_{number}"), (), PLACES, NOW)
        told += [] if messages.flood(one, told) else [one]
    assert len(told) == messages.FAILS_MAX


def test_a_night_is_one_message_the_worst_first() -> None:
    """Counts, a line for each run, what the night itself found."""
    history = Finding("history", Verdict.FAIL, "silver lacks 3 records")
    told = messages.night("n", "trades", [PASSED, FAILED], [history], PLACES, NOW)
    assert told.title == "FAIL: a night of trades"
    assert told.text == "1 fail, 1 pass"
    lines = facts(told)["Runs"].strip().splitlines()
    assert lines[0] == (
        "• fail broker_restart(how=sigkill), MTTR 8.2–8.4 s, worse than its history: silver lost 2 trades"
    )
    assert lines[1] == "• pass broker_restart(how=sigkill), MTTR 8.2–8.4 s"
    assert facts(told)["history"] == "fail: silver lacks 3 records"
    assert "Runbook is stale" in facts(told)
    assert [r["verdict"] for r in told.data["results"]] == ["fail", "pass"]


def test_what_could_not_be_told_does_not_change_the_night_s_verdict() -> None:
    """Nor does a skipped check."""
    missed = Finding("channels", Verdict.SKIPPED, "ops: 1 message not delivered")
    assert messages.night("n", "trades", [PASSED], [missed], PLACES, NOW).verdict is Verdict.PASS


def test_the_thread_has_the_runs_and_an_end() -> None:
    """Below the night's message, DETAILS_MAX at most, the worst among them."""
    rows = [(replace(PASSED, id=f"r{n}"), (), PLACES) for n in range(99)] + [(FAILED, CULPRITS, PLACES)]
    summary = messages.night("n", "trades", [r for r, *_ in rows], (), PLACES, NOW)
    thread = messages.details(summary, rows, NOW)
    assert len(thread) == messages.DETAILS_MAX
    assert thread[0].verdict is Verdict.FAIL
    assert {m.below for m in thread} == {summary.id}
    assert len({m.id for m in thread}) == len(thread)


def test_no_password_and_no_control_character_comes_through() -> None:
    """Errors quote addresses, and platforms answer anything."""
    why = "GET http://gameday:hunter2@127.0.0.1:8123/ping: \x1b[31mrefused\u202e"
    evil = replace(FAILED, why=why, findings=(), steps=(Step("verify", why, False, why, 1.0),))
    for told in (
        messages.fail(evil, (why,), PLACES, NOW),
        messages.night("n", "trades", [evil], [Finding("history", Verdict.FAIL, why)], PLACES, NOW),
    ):
        text = codec.dumps(told)
        assert "hunter2" not in text
        assert "\\u001b" not in text
        assert "\u202e" not in text


def test_a_message_comes_back_from_the_outbox_as_it_was() -> None:
    """What is told later is what was to be told."""
    told = messages.fail(FAILED, CULPRITS, PLACES, NOW)
    assert codec.decode(Message, codec.encode(told)) == told

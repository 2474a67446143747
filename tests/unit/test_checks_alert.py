"""The check of the platform's alert, and its measures, over histories of a few samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from gameday.model import FIRING, INACTIVE, PENDING, Evidence, Marks, Measure, Sample, Verdict
from gameday.sampling import timings
from gameday.sampling.conditions import alert_state
from gameday.verdict import checks

S = 1_000_000_000
FAIL, PASS, SKIPPED, UNKNOWN = Verdict.FAIL, Verdict.PASS, Verdict.SKIPPED, Verdict.UNKNOWN
Q, P, F = INACTIVE, PENDING, FIRING
INJECT_S, HEAL_S = 4, 10


def seen(*states: float | None, within_s: float | None = 8.0, judged: bool = True, clock_s: float = HEAL_S) -> Evidence:
    """The alert as it was told once a second, answered 0.1 s later; struck at 4 s, healed at 10 s."""

    def samples(values: Sequence[float | None]) -> list[Sample]:
        return [Sample(n * S, S // 10, value) for n, value in enumerate(values)]

    times = [None if state is None else float(n if judged else 0) for n, state in enumerate(states)]
    known = Evidence(
        test="t",
        params={},
        stack="s",
        inject_ns=INJECT_S * S,
        clock_ns=round(clock_s * S),
        alert="Down",
        alert_within_s=within_s,
        samples={"alert/Down": samples(states), "alert/Down.evaluated": samples(times)},
    )
    return replace(known, measures=timings.measure(known))


def elsewhere(known: Evidence, at_s: float, value: float | None = P) -> Evidence:
    """The same, and an alert of that name under another component's label."""
    other = {"alert/Down.elsewhere component=redpanda": [Sample(int(at_s * S), S // 10, value)]}
    return replace(known, samples={**known.samples, **other})


QUIET = (Q, Q, Q, Q)
HISTORIES: list[tuple[str, Evidence, Verdict, str]] = [
    ("fires", seen(*QUIET, Q, P, F, F, F, F, F, Q), PASS, "fired 2.1 s after the impact, of 8 s; over 1.1 s after"),
    ("fires in time or not", seen(*QUIET, Q, P, F, within_s=2.0), FAIL, "2.1 s after the impact, of 2 s"),
    ("never over", seen(*QUIET, Q, F, F), PASS, "to the end of the samples"),
    ("silent", seen(*QUIET, Q, P, P, P, Q), FAIL, "would not have known"),
    ("silent where it was not seen", seen(*QUIET, Q, None, None, None, None, Q), UNKNOWN, "5.0 s there was no answer"),
    ("silent for nobody judges it", seen(*QUIET, Q, Q, Q, Q, judged=False), UNKNOWN, "not judged anew"),
    ("fired before", seen(Q, Q, F, F, F, F, F), UNKNOWN, "active before the act"),
    ("about to fire before", seen(Q, Q, Q, P, P, F, F), UNKNOWN, "active before the act"),
    ("not seen before", seen(None, None, None, None, Q, F, F), UNKNOWN, "was not seen"),
    ("not seen after", seen(*QUIET, None, None), UNKNOWN, "was not seen"),
    (
        "another's",
        elsewhere(seen(*QUIET, Q, P, P, Q, within_s=None), 6),
        UNKNOWN,
        "gameday.toml names: component=redpanda",
    ),
    ("another's long before", elsewhere(seen(*QUIET, Q, Q, within_s=None), 0), PASS, "stayed silent"),
    ("another's, over", elsewhere(seen(*QUIET, Q, Q, within_s=None), 6, None), PASS, "stayed silent"),
    ("another's beside its own", elsewhere(seen(*QUIET, Q, P, F, F, F, F, F, Q), 6, F), UNKNOWN, "other labels"),
    ("pages nobody", seen(*QUIET, Q, P, P, Q, within_s=None), PASS, "stayed silent"),
    ("pages", seen(*QUIET, Q, P, F, Q, within_s=None), FAIL, "fired 2.1 s after the act"),
    ("may have paged", seen(*QUIET, Q, None, None, None, None, Q, within_s=None), UNKNOWN, "no answer"),
    ("may have paged at the end", seen(*QUIET, Q, Q, *[None] * 5, within_s=None), UNKNOWN, "5.0 s there was no answer"),
    (
        "may have paged after the last look",
        replace(seen(*QUIET, Q, Q, within_s=None), ends=Marks(20 * S, 0)),
        UNKNOWN,
        "15.0 s there was no answer",
    ),
    ("can't page", seen(*QUIET, Q, Q, Q, within_s=None, judged=False), UNKNOWN, "not judged anew"),
    ("not watched", replace(seen(*QUIET, Q), samples={}), SKIPPED, "apt-get install prometheus"),
    ("nothing struck", replace(seen(*QUIET, Q), inject_ns=None), UNKNOWN, "nothing was injected"),
    ("no such rule", replace(seen(None, None), symptoms={"alert.trouble": "no rule"}), UNKNOWN, "no rule"),
]


@pytest.mark.parametrize(("evidence", "verdict", "text"), [h[1:] for h in HISTORIES], ids=[h[0] for h in HISTORIES])
def test_the_check_says_what_was_seen_of_the_alert(evidence: Evidence, verdict: Verdict, text: str) -> None:
    """Silent where it must fire is a fail; what was not seen is unknown; without alerts it is skipped."""
    found = checks.alert(evidence)
    assert (found.verdict, text in found.why) == (verdict, True), found


@pytest.mark.parametrize("evidence", [seen(*[Q] * 14, within_s=None), seen(*[Q] * 6, *[F] * 8)])
def test_the_check_says_for_how_long_the_silence_was_absent(evidence: Evidence) -> None:
    """The verdict is about the alert; whether people were paged by the test stands beside it."""
    without = checks.alert(evidence)
    absent = checks.alert(replace(evidence, symptoms={"silence.absent_s": 1.25}))
    assert absent.verdict is without.verdict
    assert absent.why == f"{without.why}; its silence was absent for up to 1.25 s, so it may have paged"


def test_the_measures_hold_the_true_times() -> None:
    """Alert runs from the first act, resolve from the end of the harm; each between the samples around it."""
    measures = seen(*QUIET, Q, P, F, F, F, F, F, Q).measures
    assert measures["alert"] == Measure(1.0, 2.1)
    assert measures["resolve"] == Measure(0.0, 1.1)


def test_an_alert_that_is_over_before_the_harm_ends_took_no_time_after_it() -> None:
    """A time can't be negative."""
    assert seen(*QUIET, Q, F, Q, Q).measures["resolve"] == Measure(0.0, 0.0)


def test_an_alert_that_must_stay_silent_is_not_measured() -> None:
    """There is nothing to measure, and no promise to compare it with."""
    assert not {"alert", "resolve"} & set(seen(*QUIET, Q, within_s=None).measures)


@pytest.mark.parametrize(("states", "state"), [((Q, F), F), ((F, None), F), ((None, None), None), ((), None)])
def test_a_condition_sees_the_last_answer(states: tuple[float | None, ...], state: float | None) -> None:
    """An alert that can't be asked is not taken for silent."""
    assert alert_state(seen(*states).samples, 2 * S) == state


def test_an_old_answer_says_nothing_of_now() -> None:
    """Prometheus may have died with the alert inactive."""
    assert alert_state(seen(Q, Q).samples, 60 * S) is None

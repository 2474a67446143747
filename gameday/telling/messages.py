"""Writes the messages that people get about a night. Pure functions: nothing is sent here.

tasks/announce.py and tasks/notify.py decide when, courier.py delivers, and each channel decides how a message looks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from gameday.codec import dumps
from gameday.errors import masked
from gameday.model import Act, Finding, Json, Measure, Message, RunResult, Step, Trend, Verdict, merge
from gameday.reports.words import against, clock, dispositions, interval, label, parameters, plain

__all__ = ["FAILS_MAX", "Ahead", "Places", "announce", "details", "fail", "flood", "night", "pages", "scrubbed"]

FAILS_MAX = 5
"""How many fails of one night have a message of their own. The night's message counts them all."""

DETAILS_MAX = 30
"""Messages in the thread of one night; the report has every run."""

LINES_MAX = 20
"""How many runs, or tests to come, one message lists."""

CULPRITS_MAX = 4
ACTS_MAX = 6

KEPT_S = 3 * 86_400.0
"""A message that could not be delivered for so long is given up."""

DETAIL_KEPT_S = 12 * 3_600.0

BETWEEN_S = 120.0
"""The longest time from one run's end until the next run takes the stack: recording, messages, Prefect."""


@dataclass(frozen=True)
class Ahead:
    """A test that is about to be run. label: its name with parameters. breaks: what it breaks, in words.

    ttl_s: after so many seconds everything is mended, at the latest.
    """

    label: str
    breaks: tuple[str, ...]
    ttl_s: float


@dataclass(frozen=True)
class Places:
    """Where people find more: addresses, or paths on the machine that ran the test."""

    report: str
    runbook: str | None = None
    prefect: str | None = None

    @property
    def links(self) -> tuple[tuple[str, str], ...]:
        places = (("Report", self.report), ("Runbook", self.runbook), ("Prefect run", self.prefect))
        return tuple((name, place) for name, place in places if place)


def announce(stack: str, night: str, ahead: Sequence[Ahead], machine: str, now: datetime) -> Message:
    """Announce, before anything is broken, what will be, until when at the latest, and how to stop it."""
    first, over = ahead[0], now + timedelta(seconds=sum(test.ttl_s + BETWEEN_S for test in ahead))
    mended = now + timedelta(seconds=first.ttl_s)
    tests = [f"{test.label}: {', '.join(test.breaks)}" for test in ahead]
    facts = [("Will be broken", _listed(tests))]
    if len(ahead) > 1:
        worst_s = max(test.ttl_s for test in ahead)
        facts.append(("Each is mended", f"at most {worst_s / 60:.0f} min after its test began"))
    facts.append(("Over at the latest", f"{over if len(ahead) > 1 else mended:%d %B, %H:%M} UTC"))
    facts.append(("To stop it, and undo it at once", f"gameday abort, on {machine}"))
    number = f"{len(ahead)} failure tests begin" if len(ahead) > 1 else f"{first.label} begins"
    return _message(
        f"{night}-announce", "announce", night, stack, stack, now,
        until_us=_us(over), verdict=None, title=f"{stack} will be broken on purpose", text=f"{number} now.",
        facts=facts, data={"tests": [test.label for test in ahead], "over_at": over.isoformat(timespec="seconds")},
    )  # fmt: skip


def fail(result: RunResult, culprits: Sequence[str], places: Places, now: datetime) -> Message:
    """Report one run that failed."""
    bad = sorted(f.check for f in result.findings if f.verdict is result.verdict)
    hops = {kind: [hop for hop, number in per_hop.items() if number] for kind, per_hop in result.counts.items()}
    same = sha256(dumps([result.stack, result.test, bad, hops]).encode()).hexdigest()
    return replace(_run("fail", result, culprits, places, now, KEPT_S), same=same)


def pages(result: RunResult, culprits: Sequence[str], places: Places, now: datetime) -> list[Message]:
    """Return the message for pagers: a fail opens an incident, a pass closes it, other verdicts do neither."""
    if result.verdict is Verdict.FAIL:
        return [_run("trigger", result, culprits, places, now, KEPT_S)]
    return [_run("resolve", result, (), places, now, KEPT_S)] if result.verdict is Verdict.PASS else []


def night(
    name: str, stack: str, results: Sequence[RunResult], findings: Sequence[Finding], places: Places, now: datetime
) -> Message:
    """Report the night in one message, the worst run first."""
    own = (f.verdict for f in findings if f.verdict is not Verdict.PASS)
    verdict = merge([*(r.verdict for r in results), *own])
    if results and all(r.verdict is Verdict.SKIPPED for r in results):
        verdict = Verdict.SKIPPED
    counted = {v: sum(r.verdict is v for r in results) for v in sorted(Verdict, reverse=True)}
    text = ", ".join(f"{number} {v}" for v, number in counted.items() if number) or "no test was run"
    ordered = sorted(results, key=lambda r: -r.verdict)
    facts = [("Runs", _listed([_line(r) for r in ordered]))] if results else []
    facts += [(f.check, f"{f.verdict}: {f.why}") for f in findings if f.verdict is not Verdict.PASS]
    facts += _stale([step for r in results for step in r.steps])
    return _message(
        f"{name}-night", "night", name, stack, stack, now,
        until_us=_us(now + timedelta(seconds=KEPT_S)), verdict=verdict,
        title=f"{str(verdict).upper()}: a night of {stack}" if len(results) > 1 else f"{str(verdict).upper()}: {stack}",
        text=text, facts=facts, links=places.links,
        data={"results": [_figures(r) for r in ordered]},
    )  # fmt: skip


def details(summary: Message, runs: Sequence[tuple[RunResult, Sequence[str], Places]], now: datetime) -> list[Message]:
    """Return the messages of the thread below a night's message: one a run, the worst first.

    runs: each run's result, its culprits in words, and where people find more.
    """
    ordered = sorted(runs, key=lambda run: -run[0].verdict)[:DETAILS_MAX]
    return [replace(_run("detail", *run, now, DETAIL_KEPT_S), below=summary.id) for run in ordered]


def flood(message: Message, before: Sequence[Message]) -> bool:
    """Say whether this fail's message is too much: an equal one was sent this night, or FAILS_MAX others."""
    fails = [m for m in before if m.kind == "fail"]
    return len(fails) >= FAILS_MAX or any(m.same == message.same for m in fails)


def scrubbed(text: str) -> str:
    """Return a text from the platform without control characters and without the passwords of addresses."""
    return masked(plain(text))


# ---- one run -----------------------------------------------------------------------------------------------


def _run(
    kind: str, result: RunResult, culprits: Sequence[str], places: Places, now: datetime, kept_s: float
) -> Message:
    facts = [("MTTR", against(_mttr(result), result.mttr_max_s)), ("Against its own history", _history(result.trends))]
    facts += [(name.capitalize(), counts) for name, counts in dispositions(result).items() if counts != "0"]
    facts += [("Guilty", line) for line in culprits[:CULPRITS_MAX]]
    facts.append(("Undone", _listed([_undone(act, result.id) for act in result.acts[:ACTS_MAX]]) or "nothing was done"))
    facts += _stale(result.steps)
    about = f"gameday/{result.stack}/{result.test}" + (f"/{parameters(result.params)}" if result.params else "")
    return _message(
        f"{result.id}-{kind}", kind, result.night, result.stack, about, now,
        until_us=_us(now + timedelta(seconds=kept_s)), verdict=result.verdict,
        title=f"{str(result.verdict).upper()}: {label(result)} on {result.stack}",
        text=result.why, facts=facts, links=places.links, data=_figures(result),
    )  # fmt: skip


def _mttr(result: RunResult) -> Measure:
    return result.measures.get("mttr", Measure(None, None))


def _history(trends: Sequence[Trend]) -> str:
    trend = next((t for t in trends if t.measure == "mttr"), None)
    if trend is None or trend.runs == 0:
        return "no passes to compare with"
    usual = f"median {trend.median_s:.1f} s, p95 {trend.p95_s:.1f} s of {trend.runs} passes"
    if trend.p is None:
        return f"{usual}: too few to tell"
    return f"{usual}: {'worse' if trend.worse else 'as usual'} (p = {trend.p:.2g})"


def _undone(act: Act, run: str) -> str:
    what = f"{act.fault} of {act.args.get('component', '?')} at {clock(act.at_us)}"
    if act.healed_ns is None and act.undone_ns is not None:
        when = clock(act.at_us + (act.undone_ns - act.at_ns) // 1_000)
        return f"{what}: undone at {when} UTC, and open until it serves. Remedy: gameday status, gameday heal"
    if act.healed_ns is None:
        return f"{what}: still open. Remedy: gameday heal"
    when = clock(act.at_us + (act.healed_ns - act.at_ns) // 1_000)
    by = "this run" if act.healed_by == run else act.healed_by or "?"
    return f"{what}: mended at {when} UTC by {by}" + (f" ({act.healed_why})" if act.healed_why else "")


def _stale(steps: Sequence[Step]) -> list[tuple[str, str]]:
    wrong = [f"{step.kind} {step.title!r}: {step.why}" for step in steps if step.ok is False]
    return [("Runbook is stale", _listed(wrong))] if wrong else []


def _line(result: RunResult) -> str:
    trend = next((t for t in result.trends if t.measure == "mttr"), None)
    worse = ", worse than its history" if trend and trend.worse else ""
    mttr = _mttr(result)
    took = f", MTTR {interval(mttr)}" if mttr.measured else ""
    why = "" if result.verdict is Verdict.PASS else f": {result.why}"
    return f"{result.verdict} {label(result)}{took}{worse}{why}"


def _figures(result: RunResult) -> Json:
    mttr = _mttr(result)
    worst = {kind: max(per_hop.values(), default=None) for kind, per_hop in result.counts.items()}
    return {
        "run": result.id,
        "test": result.test,
        "params": dict(result.params),
        "verdict": str(result.verdict),
        "why": scrubbed(result.why),
        "component": next((str(a.args["component"]) for a in result.acts if "component" in a.args), None),
        "mttr_low_s": mttr.low_s,
        "mttr_high_s": mttr.high_s,
        "mttr_max_s": result.mttr_max_s,
        **{kind: worst.get(kind) for kind in ("lost", "doubled", "changed")},
    }


# ---- text --------------------------------------------------------------------------------------------------


def _message(
    id_: str,
    kind: str,
    night_: str,
    stack: str,
    about: str,
    now: datetime,
    *,
    until_us: int,
    verdict: Verdict | None,
    title: str,
    text: str,
    facts: Sequence[tuple[str, str]] = (),
    links: Sequence[tuple[str, str]] = (),
    data: Mapping[str, Json],
) -> Message:
    """Make a message. Passes every text through `scrubbed`; no other function has to."""
    clean = tuple((scrubbed(name), scrubbed(value)) for name, value in facts if value)
    return Message(
        id_, kind, night_, stack, scrubbed(about), _us(now), until_us, verdict, scrubbed(title).replace("\n", " "),
        scrubbed(text), clean, tuple(links), dict(data),
    )  # fmt: skip


def _listed(lines: Sequence[str]) -> str:
    """Write several lines as a list, LINES_MAX at most; a single line as it is."""
    if len(lines) <= 1:
        return "".join(lines)
    more = [f"and {len(lines) - LINES_MAX} more"] if len(lines) > LINES_MAX else []
    return "".join(f"\n• {line}" for line in [*lines[:LINES_MAX], *more])


def _us(when: datetime) -> int:
    return int(when.astimezone(UTC).timestamp() * 1e6)

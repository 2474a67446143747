"""Did anyone but the run and the platform itself start the struck component again?"""

from __future__ import annotations

from gameday.model import Act, Evidence, Finding, Json, Verdict
from gameday.verdict.streams import whole

__all__ = ["EXPLAINED", "started_once"]

EXPLAINED = {"restart": 0, "stop": 1, "kill": 1}
"""Fault -> how many processes of its component may begin after the act was done. A restart has begun its own by then;
the heal of a stop begins one; after a kill the platform begins one. Other faults (a failpoint, a cut) are not judged:
nobody knows how often the platform restarts a component after them."""

SLACK_S = 0.05
"""The tolerance between a process's start, as its host notes it, and the act's end, as the run notes it."""


@whole
def started_once(evidence: Evidence) -> Finding:
    """Say unknown if more processes of a component began since it was struck than the acts explain.

    Then nobody can tell whose recovery was measured. The component's host knows every process, also one that came and
    went between two looks.
    """
    lives = evidence.symptoms.get("lives")
    if lives is None:
        return Finding("started_once", Verdict.UNKNOWN, "there is nothing to judge: the run did not reach its end")
    struck = {
        role: [act for act in evidence.acts if _component(act) == role] for role in map(_component, evidence.acts)
    }
    judged = {role: acts for role, acts in struck.items() if all(act.fault in EXPLAINED for act in acts)}
    if not judged:
        return Finding("started_once", Verdict.SKIPPED, "no process was stopped, killed or restarted")
    if silent := sorted(judged.keys() - lives.keys()):
        why = f"the processes that {', '.join(silent)} has had are not known"
        return Finding("started_once", Verdict.UNKNOWN, why)
    extra = {role: more for role, acts in judged.items() if (more := _unexplained(acts, lives[role]))}
    if extra:
        restarts = "; ".join(f"{role} was started again by someone else{_named(more)}" for role, more in extra.items())
        return Finding("started_once", Verdict.UNKNOWN, f"{restarts}: its recovery is not this run's", extra)
    return Finding("started_once", Verdict.PASS, "nobody else started again what was struck")


def _unexplained(acts: list[Act], lives: list[Json]) -> list[Json]:
    """Return the processes of one component that began after the first act on it and that no act explains."""
    explained = [life for act in acts for life in lives if act.at_us <= life["started_us"] <= _done_us(act)]
    later = [life for life in lives if life not in explained and life["started_us"] > min(act.at_us for act in acts)]
    return later[sum(EXPLAINED[act.fault] for act in acts) :]


def _done_us(act: Act) -> float:
    """Return when the act was done, wall clock. If it was never done: when it began."""
    return act.at_us + ((act.done_ns or act.at_ns) - act.at_ns) / 1000 + SLACK_S * 1e6


def _component(act: Act) -> str:
    return str(act.args.get("component"))


def _named(lives: list[Json]) -> str:
    pids = [str(life["pid"]) for life in lives if "pid" in life]
    return f", pid{'s' if len(pids) > 1 else ''} {', '.join(pids)}" if pids else f", {len(lives)} times"

"""Writes a night as one HTML page that needs no script and no request, opens from disk, and prints.

This module decides what the page says, templates/ how it looks. timeline.py and svg.py make the timeline, site.py the
other pages.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gameday.model import Act, Digest, Evidence, Finding, Group, Json, Measure, RunResult, Tally, Trend, Verdict
from gameday.reports import page, svg, words
from gameday.reports.results import complete
from gameday.reports.timeline import timeline
from gameday.sampling import timings
from gameday.state import RUNBOOKS

__all__ = ["render"]

ADVICE: Mapping[str, str] = {
    "no_loss": "Records are missing. The hop before the first that lacks them still has them: feed that range again "
    "from there, then find out why it was skipped.",
    "no_duplicates": "Users see records more than once. Look at how that hop drops what was sent to it again.",
    "unchanged": "A record is not what it was. Compare the rows listed below field by field; rounding, time zones and "
    "a re-sent record that won over the first are the usual causes.",
    "order": "Records came out of order. Look at the producer's retries, and at how gaps are filled after a reconnect.",
    "first_kept": "Of a re-sent record a later copy was kept. Look at what orders the copies in that table.",
    "reconnected": "Something did not come back by itself. Look at that component's log, and at how it reconnects.",
    "offsets_advance": "A consumer commits nothing new. Look at its group's members and its log.",
    "isolation": "Streams suffered that do not pass the struck component. Look for what they share with it.",
    "recovered": "It was not back in time. The timeline shows what stayed silent or behind for longest: start with "
    "that component's log.",
    "continuous": "Ingestion stood still for too long. Look at the consumer's reconnect and session time-outs.",
    "upstream_flows": "What lies before the struck component stood still too. Look for back-pressure.",
    "resumed": "A consumer did not go on from where it had committed. Look at its offset reset policy, and for who "
    "moved its offsets.",
    "served": "The topic was without a leader. Look at the broker's log around the fault.",
    "snapshots_whole": "A commit to the archive is not what it claims. Stop the job's schedule first, then compare "
    "that snapshot's files with its summary.",
    "watermark": "The position that the job tells is not its table's. Find out which of the two is written first.",
    "job_failed_cleanly": "A run is left without an end, or says nothing. Whoever looks at the orchestrator at night "
    "learns nothing from it.",
    "resumed_on_schedule": "The next scheduled run did not take up the work. Its own log says why.",
    "alert": "The platform's alert does not do what it must. Look at its rule, and at what the rule is judged by.",
}
"""What to look at first when a check fails, by the check's name."""

GENERAL: Mapping[Verdict, str] = {
    Verdict.FAIL: "Read the findings below, worst first.",
    Verdict.INVALID: "The fault did not take effect, so the platform was not put to the test. Mend what is named "
    "above, then run it again.",
    Verdict.UNKNOWN: "Nothing is shown, neither good nor bad. Mend what is named above, then run it again.",
}

GROUPS_MAX = 200  # rows of a table of groups; those that differ come first
EVIDENCE_CHARACTERS_MAX = 6_000  # of one finding's figures; all of them are in results.json

QUIET_NAMED = 6

WHY_CHARACTERS_MAX = 300  # a longer reason is shown as a list


def render(
    night: str,
    runs: Sequence[tuple[RunResult, Evidence | None]],
    out: Path,
    *,
    findings: Sequence[Finding] = (),
    prefect: str | None = None,
    links: Mapping[str, str] | None = None,
    diagnoses: Mapping[str, Sequence[str]] | None = None,
    runbooks: str = RUNBOOKS,
) -> Path:
    """Write the night's page to `out`, whole or not at all. Return `out`.

    runs: each with its evidence; None if a run ended before it had any: the page then says what is known. findings:
    the night's own. prefect: the address of Prefect's UI; links: run id -> the run's page there. diagnoses: run id ->
    sentences on what happened. runbooks: their folder.
    """
    shown = [_run(n, complete(r), e, links or {}, diagnoses or {}) for n, (r, e) in enumerate(runs, 1)]
    alike = Counter(run["label"] for run in shown)
    for run in shown:
        run["named"] = run["label"] if alike[run["label"]] == 1 else f"{run['label']}, {run['result'].id}"
    return page.write(
        out,
        "night.html.j2",
        night=night,
        title=page.title(night),
        lead=page.lead([result for result, _ in runs], findings),
        stacks=sorted({result.stack for result, _ in runs}),
        runs=shown,
        bad=sorted((run for run in shown if run["advice"]), key=lambda run: -run["verdict"]),
        findings=[_finding(finding) for finding in findings],
        prefect=page.web(prefect),
        runbooks=runbooks,
    )


# ---- one run ---------------------------------------------------------------------------------------------------------


def _run(
    number: int,
    result: RunResult,
    evidence: Evidence | None,
    links: Mapping[str, str],
    diagnoses: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    """Return what the template shows of a run."""
    if evidence is not None and not evidence.measures:
        evidence = replace(evidence, measures=result.measures)
    return {
        "anchor": f"run-{number}",
        "result": result,
        "verdict": result.verdict,
        "label": words.label(result),
        "why": _why(result.why),
        "component": evidence.component if evidence else None,
        "normal": _normal(evidence) if evidence else None,
        "quiet": _quiet(evidence) if evidence else None,
        "mttr": words.against(result.measures["mttr"], result.mttr_max_s).replace(" of ", "\nof ").splitlines(),
        "damage": {kind: words.damage(result, kind) for kind in result.counts},
        "dispositions": words.dispositions(result),
        "measures": _measures(result),
        "advice": _advice(result),
        "repeat": _repeat(result),
        "worst": [_finding(f) for f in result.findings if f.verdict not in (Verdict.PASS, Verdict.SKIPPED)],
        "findings": [_finding(f) for f in sorted(result.findings, key=lambda f: -f.verdict)],
        "timeline": _timeline(evidence, f"run-{number}") if evidence else None,
        "streams": _streams(evidence) if evidence else [],
        "differences": _differences(evidence) if evidence else None,
        "trouble": dict(evidence.symptoms.get("trouble") or {}) if evidence else {},
        "symptoms": _symptoms(evidence) if evidence else None,
        "acts": [_act(act, result, evidence) for act in result.acts],
        "diagnosis": list(diagnoses.get(result.id, ())),
        "link": page.web(links.get(result.id)),
        "has_evidence": evidence is not None,
        "steps": result.steps,
        "worse": [words.measure(name) for name in page.worse(result)],
        "stale": page.stale(result),
        "history": page.history(result, "../"),
    }


def _why(why: str) -> list[str]:
    """Return the reason; a long one in its parts."""
    return why.split("; ") if len(why) > WHY_CHARACTERS_MAX else [why]


def _normal(evidence: Evidence) -> str | None:
    """Say how soon records were seen before the fault, and what follows for the times of recovery."""
    if evidence.baseline is None:
        return None
    delay_s = evidence.baseline.delay_p99_s
    told = f"a record is seen within {words.seconds(delay_s)} (p99)"
    return f"{told}: recovery is told no finer than that" if delay_s > timings.GRAIN_TOLD_S else told


def _quiet(evidence: Evidence) -> str | None:
    """Name the groups that had nothing new during the whole run; None: there are none."""
    found = timings.quiet(evidence)
    if not found or found == ((),):
        return None
    named = ", ".join("/".join(group) for group in found[:QUIET_NAMED])
    more = f" and {len(found) - QUIET_NAMED} more" if len(found) > QUIET_NAMED else ""
    return f"{len(found)} of {len(timings.watched(evidence))} groups, of which nothing new came: {named}{more}"


def _timeline(evidence: Evidence, key: str) -> dict[str, Any] | None:
    """Return the picture, drawn once for wide and once for narrow pages: text that shrinks with them can't be read."""
    shown = timeline(evidence)
    if shown is None:
        return None
    return {
        "wide": svg.draw(shown, svg.WIDE, f"{key}-wide"),
        "narrow": svg.draw(shown, svg.NARROW, f"{key}-narrow"),
        "caption": shown.caption,
        "words": shown.words,
        "alerts": any(row.pending or row.firing for row in shown.bands),
    }


def _measures(result: RunResult) -> list[dict[str, Any]]:
    meaning = {
        "impact": "first bad sample after the fault",
        "restore": "serving again, for a full second",
        "drain": "caught up with the ledger, and staying so",
        "mttr": "restore, from the end of the harm",
        "alert": "the platform's alert fires",
        "resolve": "and is over, from the end of the harm",
    }
    targets = {"mttr": result.mttr_max_s, "drain": result.drain_max_s}
    trends = {trend.measure: trend for trend in result.trends}
    return [
        {
            "name": words.measure(name),
            "interval": words.interval(measure),
            "target": f"{targets[name]:g} s" if name in targets else None,
            "share": (share := _share(measure, targets.get(name))),
            "missed": share is not None and share > 1,
            "usual": _usual(trends.get(name)),
            "why": measure.why or meaning.get(name, ""),
        }
        for name, measure in result.measures.items()
    ]


def _usual(trend: Trend | None) -> dict[str, Any] | None:
    """Return what a measure's own history says: median and p95, and whether this run was worse."""
    if trend is None:
        return None
    return {
        "range": f"{words.seconds(trend.median_s)}, p95 {words.seconds(trend.p95_s)}",
        "runs": trend.runs,
        "worse": trend.worse,
        "p": None if trend.p is None else f"{trend.p:.2g}",
    }


def _share(measure: Measure, target_s: float | None) -> float | None:
    """Return which share of its target a measure used up; None: there is nothing to compare."""
    reached = measure.high_s if measure.high_s is not None else measure.low_s
    return None if reached is None or not target_s else reached / target_s


def _advice(result: RunResult) -> list[str]:
    """Say what to do; nothing for a pass or a skipped run."""
    if result.verdict in (Verdict.PASS, Verdict.SKIPPED):
        return []
    known = [ADVICE[f.check] for f in result.findings if f.verdict is result.verdict and f.check in ADVICE]
    return known if result.verdict is Verdict.FAIL and known else [GENERAL[result.verdict]]


def _repeat(result: RunResult) -> list[str]:
    """Return the command that repeats the run, in pieces that stay together on a line."""
    return [
        "gameday run",
        result.test,
        *(f"-p {shlex.quote(f'{k}={words.value(v)}')}" for k, v in result.params.items()),
    ]


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "check": finding.check,
        "verdict": finding.verdict,
        "why": finding.why,
        "evidence": _figures(finding.evidence),
    }


def _figures(evidence: Json) -> str | None:
    """Return a check's figures as text; None: it has none."""
    if evidence in (None, {}, [], ""):
        return None
    text = "\n".join(_lines(evidence))
    if len(text) <= EVIDENCE_CHARACTERS_MAX:
        return text
    left_out = len(text) - EVIDENCE_CHARACTERS_MAX
    return f"{text[:EVIDENCE_CHARACTERS_MAX]}\n… {words.count(left_out)} more characters: see the run's result.json"


def _lines(value: Json, indent: str = "") -> Iterator[str]:
    """Yield one line per figure, nested names indented, lists on one line."""
    if not isinstance(value, Mapping):
        items = (
            value
            if isinstance(value, list | tuple) and all(isinstance(v, Mapping | list | tuple) for v in value)
            else [value]
        )
        yield from (f"{indent}{words.value(item)}" for item in items)
        return
    for name, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            yield f"{indent}{name}:"
            yield from _lines(inner, f"{indent}  ")
        else:
            yield f"{indent}{name}: {words.value(inner)}"


def _differences(evidence: Evidence) -> str | None:
    """Return the rows that differ, per hop and group, without kinds of difference that don't occur."""
    listed = evidence.symptoms.get("differences") or {}
    return _figures({place: {k: v for k, v in rows.items() if not _empty(v)} for place, rows in listed.items()})


def _empty(kind: Json) -> bool:
    return isinstance(kind, Mapping) and kind.get("count") == 0


def _symptoms(evidence: Evidence) -> str | None:
    return _figures({k: v for k, v in evidence.symptoms.items() if k not in ("differences", "trouble")})


def _act(act: Act, result: RunResult, evidence: Evidence | None) -> dict[str, Any]:
    zero_ns = evidence.inject_ns if evidence and evidence.inject_ns is not None else result.acts[0].at_ns
    healed_by = "this run" if act.healed_by == act.run else act.healed_by
    return {
        "at": words.clock(act.at_us),
        "since_s": (act.at_ns - zero_ns) / 1e9,
        "fault": act.fault,
        "component": act.args.get("component", ""),
        "args": words.parameters({k: v for k, v in act.args.items() if k != "component"}),
        "took_s": None if act.done_ns is None else (act.done_ns - act.at_ns) / 1e9,
        "proof": act.proof,
        "healed_s": None if act.healed_ns is None else (act.healed_ns - zero_ns) / 1e9,
        "healed_by": healed_by,
        "healed_why": act.healed_why,
        "by": "this run" if act.by == act.run else act.by,
    }


# ---- digests ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Cell:
    """What one view holds of one group, or of all, compared with the stream's reference.

    differs: the view has as many records as the reference, but not the same.
    """

    rows: int
    keys: int
    lost: int
    extra: int
    again: int
    conflicts: int
    differs: bool

    @property
    def clean(self) -> bool:
        return not (self.lost or self.extra or self.conflicts or self.differs)


NOTHING = Tally(0, 0, 0, 0, 0)


def _streams(evidence: Evidence) -> list[dict[str, Any]]:
    """Return, per stream, each view's totals compared with the first view's, and the same group by group. If several
    streams have a derived stream of the same name, such as offsets, its name begins with the stream's."""
    found = []
    for one in (each := evidence.each()):
        by_stream: dict[str, list[Digest]] = {}
        for digest in one.digests:
            by_stream.setdefault(digest.stream, []).append(digest)
        for name, digests in by_stream.items():
            whose = f"{one.stream} " if len(each) > 1 and name != one.stream else ""
            found.append(_stream(f"{whose}{name}", digests))
    return found


def _stream(name: str, digests: Sequence[Digest]) -> dict[str, Any]:
    reference = digests[0]
    groups = list(dict.fromkeys(group for digest in digests for group in digest.groups))
    cells = {group: [_cell(d, reference, group) for d in digests] for group in groups}
    totals = [_total([cells[group][place] for group in groups]) for place in range(len(digests))]
    worst_first = sorted(groups, key=lambda group: all(cell.clean for cell in cells[group]))
    kept = set(worst_first[:GROUPS_MAX])
    return {
        "name": name,
        "reference": reference.hop,
        "views": [
            {"hop": d.hop, "view": d.view, "unique": d.unique, "total": total,
             "changed_groups": sum(cells[g][place].differs or cells[g][place].conflicts > 0 for g in groups)}
            for place, (d, total) in enumerate(zip(digests, totals, strict=True))
        ],
        "groups": [{"name": " ".join(group), "cells": cells[group]} for group in groups if group in kept],
        "left_out": len(groups) - len(kept),
        "count": len(groups),
        "clean": all(total.clean and not (d.unique and total.again) for d, total in zip(digests, totals, strict=True)),
    }  # fmt: skip


def _cell(digest: Digest, reference: Digest, group: Group) -> _Cell:
    should = reference.groups if digest.right is None else digest.right
    held, wanted = digest.groups.get(group, NOTHING), should.get(group, NOTHING)
    moved = int(held.keys == wanted.keys and (held.lo, held.hi) != (wanted.lo, wanted.hi))  # as many keys, but others
    return _Cell(
        rows=held.rows,
        keys=held.keys,
        lost=max(moved, wanted.keys - held.keys),
        extra=max(moved, held.keys - wanted.keys),
        again=held.rows - held.keys,
        conflicts=held.conflicts,
        differs=held.keys == wanted.keys and held.sum != wanted.sum,
    )


def _total(cells: Sequence[_Cell]) -> _Cell:
    return _Cell(
        rows=sum(cell.rows for cell in cells),
        keys=sum(cell.keys for cell in cells),
        lost=sum(cell.lost for cell in cells),
        extra=sum(cell.extra for cell in cells),
        again=sum(cell.again for cell in cells),
        conflicts=sum(cell.conflicts for cell in cells),
        differs=any(cell.differs for cell in cells),
    )

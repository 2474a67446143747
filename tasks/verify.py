"""Gather the evidence, then judge it: every hop's digests once all have passed the window, and the checks over them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

from prefect import task
from prefect.cache_policies import NO_CACHE

from gameday import diagnose
from gameday.digest import TRADE_FIELDS, row_hash
from gameday.errors import DriverError, TooLate
from gameday.model import Commit, Digest, Evidence, Finding, Group, Json, Window
from gameday.polling import until
from gameday.ports import BarsHop, Hop, Log, Symptoms
from gameday.run import Run, marks
from gameday.stack import ARCHIVE
from tasks.preflight import CLEAN_RUNS

PASSED_WITHIN_S = 30.0
"""How long a hop may take to pass the window's end after drain; gold is refreshed every few seconds."""


@task(name="gather evidence", cache_policy=NO_CACHE)
def gather(run: Run) -> None:
    """Window, digests, symptoms, marks: all that a verdict rests on. What does not answer is missing, and says so in
    symptoms. It stays with the run: Prefect would walk through every sample, twice."""
    trouble: dict[str, str] = {}
    try:
        run.window = _window(run)
    except DriverError as e:
        trouble["ledger"] = str(e)
    if run.window is not None:
        _await_passed(run, run.window, trouble)
        run.digests = _digests(run, run.window, trouble)
        run.symptoms |= _symptoms(run, run.window, trouble)
    if run.test.archive:
        _exported(run, trouble)
    run.ends = marks(run.stack)
    if trouble:
        run.symptoms["trouble"] = trouble
    run.gathered = run.evidence()


@task(name="judge", cache_policy=NO_CACHE)
def judge(run: Run) -> tuple[Finding, ...]:
    """The test's checks over what was gathered; where the hops differ, the differing rows are listed beside it."""
    assert run.gathered is not None
    evidence = run.gathered
    differences = diagnose.wanted(evidence)
    if differences:
        listed = {}
        for hop, group in differences:
            try:
                listed[f"{hop} {'/'.join(group)}"] = _difference(run, hop, group, evidence)
            except DriverError as e:
                listed[f"{hop} {'/'.join(group)}"] = {"trouble": str(e)}
        run.symptoms["differences"] = listed
        run.gathered = evidence = replace(evidence, symptoms=dict(run.symptoms))
    return tuple(check(evidence) for check in run.test.checks)


def _window(run: Run) -> Window:
    """(lowest head of any hop at baseline, the ledger's head now]."""
    assert run.baseline is not None
    at_baseline = run.baseline.marks.heads
    return Window(
        lo={g: min(heads.get(g, 0) for heads in at_baseline.values()) for g in run.groups},
        hi=dict(run.stack.ledger.heads()),
    )


def _await_passed(run: Run, window: Window, trouble: dict[str, str]) -> None:
    """Digests are taken when every hop has passed the window's end; one that does not get there is judged as it is."""
    behind: dict[str, list[str]] = {}

    def passed() -> bool:
        run.held()
        run.watching()
        behind.clear()
        for name, hop in run.stack.hops.items():
            try:
                heads = hop.heads()
            except DriverError as e:
                behind[name] = [str(e)]
                continue
            if late := ["/".join(g) for g, hi in window.hi.items() if heads.get(g, 0) < hi]:
                behind[name] = late
        return not behind

    try:
        until(passed, within_s=PASSED_WITHIN_S, every_s=0.2, what="every hop to pass the window")
    except TooLate:
        trouble |= {name: f"had not passed the window's end: {', '.join(late)}" for name, late in behind.items()}


def _digests(run: Run, window: Window, trouble: dict[str, str]) -> tuple[Digest, ...]:
    """Every hop's digests in the hops' order, so that the first of each stream is its reference."""
    found: list[Digest] = []
    for name, hop in run.stack.hops.items():
        try:
            if isinstance(hop, BarsHop):
                held = hop.held(window)
                found += [run.stack.ledger.bars(held, window), *hop.digests(held)]
            else:
                found += hop.digest(window)
        except DriverError as e:
            trouble[name] = str(e)
    return tuple(found)


def _exported(run: Run, trouble: dict[str, str]) -> None:
    """The archive's commits since the baseline, each beside what ledger and log say of it; the digests of their rows;
    and the job's runs."""
    assert run.baseline is not None
    archive, job = run.stack.export()
    try:
        found: list[Commit] = list(archive.commits(run.commit))
        for number, (before, commit) in enumerate(pairwise(found), start=1):
            right = run.stack.ledger.digest(Window(before.heads, commit.heads))[0].groups
            found[number] = replace(commit, right=right, logged=_logged(run, commit))
        run.commits = tuple(found)
        window = Window(found[0].heads, found[-1].heads)
        right = run.stack.ledger.digest(window)[0].groups
        run.digests += (Digest("archive", run.stack.config.stream.hops[0], "final", right), *archive.digest(window))
        interval_s = job.interval_s()
        since_us = run.baseline.marks.at_us - int(CLEAN_RUNS * (interval_s or 0) * 1e6)
        run.jobs = tuple(r for r in job.runs(since_us) if not r.waits)
        run.symptoms["job.interval_s"] = interval_s
    except DriverError as e:
        trouble["archive"] = str(e)


def _logged(run: Run, commit: Commit) -> Mapping[Group, int] | None:
    """What the broker has below a commit's position; None where no hop is a log."""
    log = next((hop for hop in run.stack.hops.values() if isinstance(hop, Log)), None)
    return None if log is None else log.heads_before(commit.position)


def _symptoms(run: Run, window: Window, trouble: dict[str, str]) -> dict[str, Json]:
    """What only one technology can tell; late rows are judged here, because only the ledger knows their hashes."""
    assert run.baseline is not None
    found: dict[str, Json] = {}
    started_us = {}
    for role in run.stack.config.components:
        identity = run.stack.host(role).identity(role)
        if identity is not None and identity != run.baseline.marks.identities.get(role):
            started_us[role] = identity["started_us"]
    for act in run.acts:
        if "link" in act.args and act.healed_ns is not None:  # its process stayed; it went on when the link was whole
            started_us.setdefault(act.args["component"], act.at_us + (act.healed_ns - act.at_ns) // 1000)
    for name, hop in run.stack.hops.items():
        if isinstance(hop, Symptoms):
            try:
                found |= hop.symptoms(window, run.baseline.marks.at_us, started_us)
            except DriverError as e:
                trouble[name] = str(e)
    late = found.get("broker.late")
    if late is not None:
        found["late"] = {"rows": late["rows"], "unknown": _unknown(run, late["sample"])}
    return found


def _unknown(run: Run, sample: list[Json]) -> int:
    """How many of the re-sent rows [*group, id, hash] the ledger does not know with that hash."""
    by_group: dict[Group, dict[int, int]] = {}
    for *group, key, value in sample:
        by_group.setdefault(tuple(group), {})[key] = value
    unknown = 0
    for group, rows in by_group.items():
        columns = run.stack.ledger.rows(group, min(rows) - 1, max(rows))
        known = dict(zip(columns["id"].tolist(), row_hash([columns[f] for f in TRADE_FIELDS]).tolist(), strict=True))
        unknown += sum(known.get(key) != value for key, value in rows.items())
    return unknown


def _difference(run: Run, hop: str, group: Group, evidence: Evidence) -> Json:
    """The rows in which a hop differs from the ledger, for one group."""
    held: Hop
    if hop == ARCHIVE:
        held, _ = run.stack.export()
        lo, hi = evidence.commits[0].heads.get(group, 0), evidence.commits[-1].heads[group]
    else:
        assert evidence.window is not None
        held, lo, hi = run.stack.hops[hop], evidence.window.lo[group], evidence.window.hi[group]
    return diagnose.difference(run.stack.ledger.rows(group, lo, hi), held.rows(group, lo, hi))

"""Gathers the evidence (every hop's digests, once all hops have passed the window), then runs the checks over it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import chain, pairwise
from math import ceil
from typing import TypeVar

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE

from gameday.errors import DriverError, RolledBack, TooLate
from gameday.model import Columns, Commit, Digest, Evidence, Finding, Group, Json, Tally, Verdict, Window
from gameday.plan import OfRole
from gameday.ports import Attempts, Hop, Ledger, Lives, Log, Paired, Symptoms
from gameday.run import HEADS_WITHIN_S, Run, marks, places
from gameday.stack.live import ARCHIVE, LiveStream
from gameday.system.asking import answer
from gameday.system.polling import until
from gameday.verdict import ahead, attempted, checks, diagnose, streams
from gameday.verdict.checks.metrics_true import SAMPLED_S
from gameday.verdict.checks.offsets_advance import late
from gameday.verdict.checks.served import BROKER
from tasks import states
from tasks.beside import beside
from tasks.digests import digest_of
from tasks.preflight import CLEAN_RUNS

__all__ = ["MARGIN_S", "archived", "digest_of", "gather", "judge", "touched", "window"]

MARGIN_S = 30.0
"""A run looks this far before its window. That is longer than a consumer, or a merge, holds what it has read."""

PASSED_WITHIN_S = 30.0
"""How long a hop may take to pass the window's end after drain. A table that is refreshed every few seconds needs
it."""

ANSWER_WITHIN_S = 180.0
"""How long one question to one server may take. A driver has bounds of its own, but a library or a server that answers
byte by byte can break those; this bound always holds."""

COMMITTED_WITHIN_S = 30.0
"""How long a consumer may take to commit what the log held at recovery. A broker keeps a record that was delivered and
not acknowledged for as long as it waits for the answer (the router's: 10 s), and the position stands there until it was
delivered again."""

COUNTED_SPARE_S = 2.0
"""How much longer than needed the platform's metrics are sampled: not every scrape is answered at once."""

LATE_NAMED = 3
"""How many records that the ledger doesn't know are named."""

LOOK_EVERY_S = 1.0
"""The time between two looks at digests that differ."""

T = TypeVar("T")


@task(name="gather evidence", cache_policy=NO_CACHE)
def gather(run: Run) -> None:
    """Gather all that a verdict rests on: windows, digests, symptoms, marks.

    A hop that does not answer is left out, and run.symptoms["trouble"] says why. The evidence stays in the run object:
    Prefect would walk through every sample twice if a task returned it.

    Hops and archive are asked at the same time, since each is a server of its own. Hops that are derived from others
    come last: they pass the window's end last.

    Raises:
        Halt(unknown): the sampler died before the evidence was complete.
    """
    trouble: dict[str, str] = {}
    every = run.stack.streams.values()
    for live in every:
        try:
            _surplus(run, live)
            run.followed[live.name] = replace(run.followed[live.name], window=window(run, live))
        except DriverError as e:
            trouble[live.stream.hops[0]] = str(e)
    derived = {live.name: [name for name, hop in live.hops.items() if not isinstance(hop, Hop)] for live in every}
    exported = beside(_exported, run) if run.test.archive else None
    for live in every:
        _note_hops(run, live, [name for name in live.hops if name not in derived[live.name]], trouble)
    if exported is not None:
        digests, unanswered = exported.result()
        run.digests += digests
        trouble |= unanswered
    for live in every:
        _note_hops(run, live, derived[live.name], trouble)
    _await_committed(run)
    _await_counted(run)
    run.symptoms |= _lives(run, trouble) | _accounts(run, trouble)
    run.ends = marks(run.stack)
    if trouble:
        run.symptoms["trouble"] = trouble
    run.gathered = run.evidence()
    run.watching()
    if run.alert is not None and f"alert/{run.alert[0]}" not in run.gathered.samples:
        run.symptoms.setdefault("alert.trouble", "it was not sampled")
        run.gathered = replace(run.gathered, symptoms=dict(run.symptoms))


@task(name="judge", cache_policy=NO_CACHE)
def judge(run: Run) -> tuple[Finding, ...]:
    """Run the test's checks, and the check of its alert, over the evidence of every stream.

    Where the hops differ, the differing rows are listed in run.symptoms["differences"].
    """
    assert run.gathered is not None
    evidence = run.gathered
    differences = diagnose.wanted(evidence)
    if differences:
        listed = dict(run.symptoms.get("differences") or {})
        for hop, group in differences:
            try:
                what = f"the rows of {hop}, {'/'.join(group)},"
                listed[f"{hop} {'/'.join(group)}"] = _asked(run, what, partial(_difference, run, hop, group, evidence))
            except DriverError as e:
                listed[f"{hop} {'/'.join(group)}"] = {"trouble": str(e)}
        run.symptoms["differences"] = listed
        run.gathered = evidence = replace(evidence, symptoms=dict(run.symptoms))
    to_judge = [*run.test.checks]
    if evidence.role == BROKER and run.spared and checks.served not in to_judge:
        to_judge.append(checks.served)
    alert = run.test.alert
    to_judge += [] if alert is None or isinstance(alert, OfRole) else [checks.alert]
    findings = tuple(streams.judged(check, evidence, run.stack.untold) for check in to_judge)
    if not isinstance(alert, OfRole):
        return findings
    why = f'no alert is named for it. Remedy: [alerts.roles.{evidence.role}] {alert.done} = "…" in gameday.toml'
    return (*findings, Finding("alert", Verdict.SKIPPED, why))


def window(run: Run, live: LiveStream) -> Window:
    """Return the ids that this run judges: (lowest head of any hop at the baseline, the ledger's head now].

    Where the ledger knows every record, the window also has MARGIN_S of records before that: a fault may harm older
    records too. A log may have forgotten them, or begin with the window.

    A hop that had no head of a group at the baseline (a log reads back only so far) doesn't count for that group. If no
    hop had one, the window begins with the first record that the first hop has had since. If only the visible hop had
    none, the window begins with what came MARGIN_S before the baseline.
    """
    assert run.baseline is not None
    at_baseline = [heads for hop, heads in run.baseline.marks.heads.items() if hop in live.stream.hops]
    hi = dict(answer(live.ledger.heads, HEADS_WITHIN_S, "the ledger's heads", run.lasts))
    groups = {**dict.fromkeys(run.followed[live.name].groups), **hi}
    stood = {g: [heads[g] for heads in at_baseline if g in heads] for g in groups}
    fresh = {g: hi[g] for g, heads in stood.items() if not heads and g in hi}
    known = _back(run, live, {g: min(heads) for g, heads in stood.items() if heads})
    known |= _unseen(run, live, known)
    if isinstance(live.ledger, Attempts):  # a hop that was behind may have stood at a record of an earlier run
        begun = _asked(run, "where the canary began", live.ledger.begun)
        known = {g: max(lo, begun.get(g, lo)) for g, lo in known.items()}
    return Window({**known, **(_firsts(run, live, fresh) if fresh else {})}, hi)


def _unseen(run: Run, live: LiveStream, known: Mapping[Group, int]) -> dict[Group, int]:
    """Return where groups begin that the log had at the baseline and the visible hop did not.

    They begin before the records of the last MARGIN_S: their first records may have been under way.
    """
    assert run.baseline is not None
    shown = run.baseline.marks.heads.get(live.stream.visible, {})
    unseen = {group: lo for group, lo in known.items() if group not in shown}
    if not unseen or not isinstance(live.ledger, Log):
        return {}
    since_us = run.baseline.marks.at_us - int(MARGIN_S * 1e6)
    firsts = _asked(run, "the log's records before the baseline", partial(live.ledger.firsts, since_us))
    return {group: min(lo, firsts[group] - 1) for group, lo in unseen.items() if group in firsts}


def _firsts(run: Run, live: LiveStream, fresh: Mapping[Group, int]) -> dict[Group, int]:
    """Return where groups begin that are new since the baseline: just before the first record that the first hop has
    had since, or at the head where it has none."""
    assert run.baseline is not None
    hop, since_us = live.ledger, run.baseline.marks.at_us
    if isinstance(hop, Log):
        firsts = _asked(run, "the log's records since the baseline", partial(hop.firsts, since_us))
    else:
        everything = Window(dict.fromkeys(fresh, 0), fresh)
        firsts = {g: t.lo for g, t in _asked(run, "new groups", partial(_right, hop, everything)).items() if t.rows}
    return {group: firsts.get(group, hi + 1) - 1 for group, hi in fresh.items()}


def archived(run: Run, commits: Sequence[Commit]) -> Window:
    """Return the ids that the commits of a run touched, and the same margin before them."""
    window = touched(commits)
    return Window(_back(run, run.stack.stream_of(ARCHIVE), window.lo), window.hi)


def _back(run: Run, live: LiveStream, lo: Mapping[Group, int]) -> dict[Group, int]:
    """Return the ids MARGIN_S of records earlier, where the ledger knows every record; else the ids themselves."""
    margin_s, rates = MARGIN_S if isinstance(live.ledger, Ledger) else 0.0, run.followed[live.name].rates
    return {g: max(0, at - ceil(margin_s * rates.get(g, 0.0))) for g, at in lo.items()}


def _surplus(run: Run, live: LiveStream) -> None:
    """Note what hops show beyond the ledger as symptom `surplus`: hop -> [[group, highest id, the ledger's highest]].

    The symptom is absent where there is no such record.
    """
    beyond = _asked(
        run,
        f"the heads of the hops of {live.name}",
        lambda: ahead.beyond(run.stack, ahead.heads_of(run.stack, run.test.archive, live)),
    )
    listed = {hop: [[list(group), *ids] for group, ids in groups.items()] for hop, groups in beyond.items()}
    if listed:
        run.symptoms["surplus"] = {**run.symptoms.get("surplus", {}), **listed}


def _note_hops(run: Run, live: LiveStream, names: Sequence[str], trouble: dict[str, str]) -> None:
    """Note the digests of these hops over the stream's window, and the symptoms that only they can tell.

    A hop of kind state has no window: it is compared as of a position.
    """
    window = run.followed[live.name].window
    if window is not None:
        windowed = [name for name in names if not states.is_state(live.hops[name])]
        _await_passed(run, window, windowed, trouble)
        run.digests += _agreed(run, live, window, windowed, trouble)
        hops = {name: hop for name, hop in live.hops.items() if name in names}
        if any(map(states.is_state, hops.values())):
            ask = partial(_asked, run)
            found, listed = states.compared(live.stream, hops, run.stack.cursors, ask, trouble)
            run.states += found
            if listed:
                run.symptoms["differences"] = {**run.symptoms.get("differences", {}), **listed}
        run.symptoms |= _symptoms(run, window, names, trouble)


def _await_passed(run: Run, window: Window, names: Sequence[str], trouble: dict[str, str]) -> None:
    """Wait until these hops have passed the window's end. A hop that is late is judged by what it holds then."""
    behind: dict[str, list[str]] = {}

    def passed() -> bool:
        who = f" ({', '.join(behind)} had not)" if behind else ""
        run.doing = f"waiting for every hop to pass the window's end{who}"
        run.lasts()
        behind.clear()
        for name in names:
            try:
                heads = answer(run.stack.hops[name].heads, HEADS_WITHIN_S, f"the heads of {name}", run.lasts)
            except DriverError as e:
                behind[name] = [str(e)]
                continue
            if late := ["/".join(g) for g, hi in window.hi.items() if heads.get(g, 0) < hi]:
                behind[name] = late
        return not behind

    began_s = time.monotonic()
    try:
        until(passed, within_s=PASSED_WITHIN_S, every_s=0.2, what=f"{', '.join(names)} to pass the window")
    except TooLate:
        trouble |= {name: f"had not passed the window's end: {', '.join(late)}" for name, late in behind.items()}
        run.symptoms["not_passed"] = sorted({*behind, *run.symptoms.get("not_passed", ())})
    run.log(f"{', '.join(names)} to pass the window: took {time.monotonic() - began_s:.2f} s")


def _await_committed(run: Run) -> None:
    """Wait until every consumer has committed what the log held at recovery. One that is late is judged by where it
    stands then."""
    if (healed := run.healed) is None:
        return

    def committed() -> bool:
        waiting = ", ".join(f"{cursor} in {slot}" for cursor, slot in late(healed, *places(run.stack)))
        if waiting:
            run.doing = f"waiting for a consumer to commit what the log held at recovery ({waiting})"
        run.lasts()
        return not waiting

    with suppress(TooLate):
        until(committed, within_s=COMMITTED_WITHIN_S, every_s=LOOK_EVERY_S, what="the consumers' commits")


def _await_counted(run: Run) -> None:
    """Wait until the platform's own metrics were sampled for as long as it takes to judge their rise: some runs are
    shorter."""
    contract = run.stack.contract
    if contract is None or not contract.rises:
        return
    within_s = SAMPLED_S + COUNTED_SPARE_S

    def sampled() -> bool:
        now = run.now(2 * within_s)
        told = [s for name, s in now.samples.items() if s and name.startswith("metrics/")]
        return bool(told) and now.at_ns - max(s[0].at_ns for s in told) >= within_s * 1e9

    run.doing = f"waiting until the platform's metrics were sampled for {within_s:g} s"
    with suppress(TooLate):
        until(sampled, within_s=2 * within_s, every_s=LOOK_EVERY_S, what="the samples of the platform's metrics")


def _agreed(
    run: Run, live: LiveStream, window: Window, names: Sequence[str], trouble: dict[str, str]
) -> tuple[Digest, ...]:
    """Return these hops' digests, asked again while they differ in a stream whose records come out of order.

    There (the window is one of times, or the canary's attempts may overtake each other) a hop's head doesn't show that
    every record below it has arrived. So digests that differ are taken again until they agree, for PASSED_WITHIN_S at
    most.
    """
    digests = _righted(run, live, window, _digests(run, window, names, trouble), trouble)
    if live.ordered:
        return digests
    unanswered: dict[str, str] = {}
    evidence = run.evidence().of(run.followed[live.name])  # once: with many groups it takes seconds to read all samples

    def agree() -> bool:
        nonlocal digests
        if not diagnose.wanted(replace(evidence, digests=digests)):
            return True
        unanswered.clear()
        digests = _righted(run, live, window, _digests(run, window, names, unanswered), unanswered)
        return False

    with suppress(TooLate):
        until(agree, within_s=PASSED_WITHIN_S, every_s=LOOK_EVERY_S, what="the digests to agree")
    trouble |= unanswered
    return digests


def _digests(run: Run, window: Window, names: Sequence[str], trouble: dict[str, str]) -> tuple[Digest, ...]:
    """Return these hops' digests, in the hops' order.

    The first hop is asked alone: its digests are the reference for the others. A pair of hops of one kind may be
    compared in one question.
    """
    if (pair := _paired(run, window, names)) is not None:
        return pair

    def ask(name: str, before: Sequence[Digest]) -> Callable[[], Sequence[Digest]]:
        hop, ledger = run.stack.hops[name], run.stack.stream_of(name).ledger
        return partial(_asked, run, f"the digest of {name}", partial(digest_of, ledger, hop, window, before))

    first = _side_by_side({name: ask(name, ()) for name in names[:1]}, trouble)
    before = tuple(chain.from_iterable(first.values()))
    others = _side_by_side({name: ask(name, before) for name in names[1:]}, trouble)
    return (*before, *chain.from_iterable(others.values()))


def _paired(run: Run, window: Window, names: Sequence[str]) -> tuple[Digest, ...] | None:
    """Return the digests of the ledger and the only other hop, where one question can compare them.

    None: each hop has to be asked on its own.
    """
    hops = [run.stack.hops[name] for name in names]
    if len(hops) != 2 or not isinstance(hops[0], Paired) or names[0] != run.stack.stream_of(names[0]).stream.hops[0]:
        return None
    ask = partial(hops[0].both, hops[1], window)
    with suppress(DriverError):  # each hop's own digest then shows which of them failed
        return _asked(run, f"the digests of {' and '.join(names)}", ask)
    return None


def _righted(
    run: Run, live: LiveStream, window: Window, digests: tuple[Digest, ...], trouble: dict[str, str]
) -> tuple[Digest, ...]:
    """Return the digests, each with what its hop should hold, where the ledger has attempts of unknown outcome.

    An attempt that some hop holds did arrive, so every later hop must hold it too. A hop whose rows can't be read is
    left out and noted in `trouble`.
    """
    ledger = live.ledger
    must = next((d.groups for d in digests if d.hop == live.stream.hops[0]), None)
    if not isinstance(ledger, Attempts) or must is None:
        return digests
    doubtful = _asked(run, "the canary's attempts of unknown outcome", partial(ledger.doubtful, window))
    arrived: Mapping[Group, Columns] = {}
    right: dict[str, Mapping[Group, Tally]] = {}
    for name in dict.fromkeys(d.hop for d in digests if d.hop != live.stream.hops[0]):
        hop = run.stack.hops[name]
        try:
            held = {
                group: _asked(run, f"the rows of {name}", partial(hop.rows, group, window.lo.get(group, 0), hi))
                for group, hi in window.hi.items()
                if group in doubtful
            }
        except DriverError as e:
            trouble[name] = str(e)
            continue
        arrived = run.arrived[name] = attempted.arrived(live.stream, doubtful, held, arrived)
        right[name] = attempted.right(live.stream, must, arrived)
    kept = [d for d in digests if d.hop in right or d.hop == live.stream.hops[0]]
    return tuple(replace(d, right=right.get(d.hop)) if d.stream == live.name else d for d in kept)


def _side_by_side(questions: Mapping[str, Callable[[], T]], trouble: dict[str, str]) -> dict[str, T]:
    """Ask all questions at the same time, and return the answers by name, in this order.

    A question without an answer is noted in `trouble`.
    """
    under_way = {name: beside(ask) for name, ask in questions.items()}
    answered: dict[str, T] = {}
    for name, answer_of in under_way.items():
        try:
            answered[name] = answer_of.result()
        except DriverError as e:
            trouble[name] = str(e)
    return answered


def _right(ledger: Hop, window: Window) -> Mapping[Group, Tally]:
    """Return what should be in a window."""
    return ledger.digest(window)[0].groups


def _exported(run: Run) -> tuple[tuple[Digest, ...], dict[str, str]]:
    """Note the archive's commits since the baseline, and the runs of its job, even if the archive can't be read.

    Returns: the digests of the commits' rows, and what didn't answer (name -> why).
    """
    assert run.baseline is not None
    _, job = run.stack.export()
    digests: tuple[Digest, ...] = ()
    trouble: dict[str, str] = {}
    try:
        digests = _committed(run)
        run.symptoms |= _asked(run, "the rows behind the archive's heads", lambda: _next(run, run.commits))
    except RolledBack as e:
        run.symptoms["archive.rolled_back"] = str(e)
        trouble["archive"] = str(e)
    except DriverError as e:
        trouble["archive"] = str(e)
    try:
        interval_s = _asked(run, "the schedule of the archive's job", job.interval_s)
        since_us = run.baseline.marks.at_us - int(CLEAN_RUNS * (interval_s or 0) * 1e6)
        runs = _asked(run, "the runs of the archive's job", lambda: job.runs(since_us))
        run.jobs = tuple(r for r in runs if not r.waits)
        run.symptoms["job.interval_s"] = interval_s
    except DriverError as e:
        trouble["the archive's job"] = str(e)
    return digests, trouble


def _committed(run: Run) -> tuple[Digest, ...]:
    archive, _ = run.stack.export()
    live = run.stack.stream_of(ARCHIVE)
    ledger, name = live.ledger, live.stream.hops[0]
    commits: list[Commit] = list(_asked(run, "the archive's commits", lambda: archive.commits(run.commit)))
    run.commits = tuple(commits)
    for number, (before, commit) in enumerate(pairwise(commits), start=1):
        added = Window(before.heads, commit.heads)
        right = _asked(run, f"{name}'s digest of a commit", partial(_right, ledger, added))
        logged = _asked(run, "the log's heads before a commit", partial(_logged, run, commit))
        commits[number] = replace(commit, right=right, logged=logged)
        run.commits = tuple(commits)
    window = archived(run, commits)
    right = _asked(run, f"{name}'s digest of the commits", partial(_right, ledger, window))
    held = _asked(run, "the archive's digest", lambda: archive.digest(window))
    return (Digest(ARCHIVE, name, "final", right), *held)


def touched(commits: Sequence[Commit]) -> Window:
    """Return the ids between the heads of the first and the last commit.

    The window reaches down to the lowest id that any commit added, so that a row that the archive already had can't be
    doubled unseen.
    """
    lo = dict(commits[0].heads)
    for commit in commits[1:]:
        for group, tally in commit.added.items():
            lo[group] = min(lo.get(group, 0), tally.lo - 1)
    return Window(lo, commits[-1].heads)


def _next(run: Run, commits: Sequence[Commit]) -> dict[str, Json]:
    """Return the symptom archive.next_us: commit -> when the earliest record happened that the ledger has beyond that
    commit's heads. Empty where the archive's mirror is no time."""
    live = run.stack.stream_of(ARCHIVE)
    stream = live.stream
    if stream.time is None or run.stack.mirror is None or "time_us" not in run.stack.mirror.position():
        return {}
    next_us: dict[str, int] = {}
    for group, end in live.ledger.heads().items():
        columns = live.ledger.rows(group, commits[0].heads.get(group, 0), end)
        order = np.argsort(columns[stream.sequence], kind="stable")
        ids, times_us = columns[stream.sequence][order], columns[stream.time][order]
        for commit in commits:
            place = int(np.searchsorted(ids, commit.heads.get(group, 0), side="right"))
            if place < len(ids):
                next_us[commit.id] = min(next_us.get(commit.id, int(times_us[place])), int(times_us[place]))
    return {"archive.next_us": next_us}


def _logged(run: Run, commit: Commit) -> Mapping[Group, int] | None:
    """Return what the broker has below a commit's position. None: no hop is a log, or the commit has no position."""
    hops = run.stack.stream_of(ARCHIVE).hops.values()
    log = next((hop for hop in hops if isinstance(hop, Log)), None)
    return None if log is None or not commit.position else log.heads_before(commit.position)


def _lives(run: Run, trouble: dict[str, str]) -> dict[str, Json]:
    """Return the symptom lives: each component that was acted on -> its processes that began since the baseline."""
    assert run.baseline is not None
    processes: dict[str, Json] = {}
    for role in dict.fromkeys(str(act.args["component"]) for act in run.acts):
        host = run.stack.host(role)
        if isinstance(host, Lives):
            try:
                processes[role] = list(host.lives(role, run.baseline.marks.at_us))
            except DriverError as e:
                trouble[f"the processes of {role}"] = str(e)
    return {"lives": processes}


def _accounts(run: Run, trouble: dict[str, str]) -> dict[str, Json]:
    """Return the symptom accounts (name -> what that account tells of the time since the baseline), and the symptom
    contract (what the contract of the platform's own metrics tells)."""
    assert run.baseline is not None
    since_us = run.baseline.marks.at_us
    asked = {
        f"the account {name}": partial(_asked, run, f"the account {name}", partial(one.told, since_us))
        for name, one in run.stack.accounts.items()
    }
    told = _side_by_side(asked, trouble)
    found = {"accounts": {name.removeprefix("the account "): one for name, one in told.items()}} if asked else {}
    contract = run.stack.contract
    return found if contract is None else {**found, "contract": contract.model_dump(mode="json", by_alias=True)}


def _symptoms(run: Run, window: Window, names: Sequence[str], trouble: dict[str, str]) -> dict[str, Json]:
    """Return what only one technology can tell of these hops, as `hop.symptom` -> value.

    Late rows are judged here, because only the ledger knows their hashes.
    """
    assert run.baseline is not None
    symptoms: dict[str, Json] = {}
    since_us = run.baseline.marks.at_us
    started_us = {}
    for role in run.stack.config.components:
        identity = run.stack.host(role).identity(role)
        if identity is not None and identity != run.baseline.marks.identities.get(role):
            started_us[role] = identity["started_us"]
    for act in run.acts:
        if act.severs and act.healed_ns is not None:  # its process stayed; it went on when its link was healed
            started_us.setdefault(act.args["component"], act.at_us + (act.healed_ns - act.at_ns) // 1000)
    telling = {name: hop for name in names if isinstance(hop := run.stack.hops[name], Symptoms)}
    unanswered: dict[str, str] = {}
    questions = {
        name: partial(_asked, run, f"the symptoms of {name}", partial(hop.symptoms, window, since_us, started_us))
        for name, hop in telling.items()
    }
    for name, answered in _side_by_side(questions, unanswered).items():
        try:
            late = {"late": _late(run, name, answered["late"])} if "late" in answered else {}
        except DriverError as e:
            unanswered[name] = str(e)
            continue
        symptoms |= {f"{name}.{symptom}": value for symptom, value in {**answered, **late}.items()}
    if unanswered:
        trouble |= unanswered
        symptoms["untold"] = [*run.symptoms.get("untold", []), *unanswered]
    return symptoms


def _late(run: Run, hop: str, late: Json) -> Json:
    """Return what was sent again from before the window, and which of it the ledger doesn't know."""
    sample, live = late["sample"], run.stack.stream_of(hop)
    unknown = _asked(run, "the ledger's rows of re-sent records", lambda: _unknown(live, sample))
    counted = {"rows": late["rows"], "looked_at": len(sample), "unknown": len(unknown)}
    return {**counted, "named": unknown[:LATE_NAMED]}


def _asked(run: Run, what: str, ask: Callable[[], T]) -> T:
    """Return the answer to a question.

    Raises:
        DriverError: there was none within ANSWER_WITHIN_S. What `run.lasts` raises ends the waiting sooner.
    """
    run.doing = f"asking for {what}"
    began_s = time.monotonic()
    try:
        return answer(ask, ANSWER_WITHIN_S, what, run.lasts)
    finally:
        run.log(f"{what}: took {time.monotonic() - began_s:.2f} s")


def _unknown(live: LiveStream, sample: list[Json]) -> list[str]:
    """Return group and id of each re-sent row [*group, id, hash] that the ledger does not have with that hash."""
    by_group: dict[Group, list[tuple[int, int]]] = {}
    for *group, key, value in sample:
        by_group.setdefault(tuple(group), []).append((key, value))
    unknown: list[str] = []
    for group, rows in by_group.items():
        lo, hi = min(rows)[0] - 1, max(rows)[0]
        columns = live.ledger.rows(group, lo, hi)
        if isinstance(live.ledger, Attempts):  # no records of earlier runs; some outcomes are unknown
            rows = [row for row in rows if row[0] > live.ledger.begun().get(group, hi)]
            columns = attempted.joined(columns, live.ledger.doubtful(Window({group: lo}, {group: hi})).get(group))
        ids, hashes = columns[live.stream.sequence], live.stream.row_hashes(columns)
        pairs = zip(ids[::-1].tolist(), hashes[::-1].tolist(), strict=True)
        right_hashes = dict(pairs)  # a log may repeat a record: the first copy counts
        unknown += [f"{'/'.join(group)} {key}" for key, value in rows if right_hashes.get(key) != value]
    return unknown


def _difference(run: Run, hop: str, group: Group, evidence: Evidence) -> Json:
    """Return the rows in which a hop differs from the ledger, for one group."""
    compared: Hop
    live = run.stack.stream_of(hop)
    if hop == ARCHIVE:
        compared, _ = run.stack.export()
        window = archived(run, evidence.commits)
        lo, hi = window.lo.get(group, 0), window.hi[group]
    else:
        stream_window = run.followed[live.name].window
        assert stream_window is not None
        compared, lo, hi = run.stack.hops[hop], stream_window.lo[group], stream_window.hi[group]
    right = attempted.joined(live.ledger.rows(group, lo, hi), run.arrived.get(hop, {}).get(group))
    return diagnose.difference(right, compared.rows(group, lo, hi), live.stream)

"""Tests the checks against planted faults: on a small history in which all is right, and on copies of it that each have
one fault. A check that misses its fault, or complains about the clean history, makes every verdict of that night
unknown (tasks/selftest.py).

The history is computed from a seed. No server is asked.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from gameday.model import (
    FIRING,
    INACTIVE,
    Act,
    Baseline,
    Check,
    Columns,
    Commit,
    Digest,
    Evidence,
    Finding,
    Group,
    JobRun,
    Json,
    Marks,
    Sample,
    Samples,
    Verdict,
    Window,
)
from gameday.records.declaration import Stream
from gameday.records.hashing import row_hash
from gameday.records.tallies import tally
from gameday.records.types import Type
from gameday.sampling import timings
from gameday.verdict import attempted, checks, counting, machine
from gameday.verdict.changing import LOG, PLANTED, Changing
from gameday.verdict.counting import Counting

__all__ = ["AFFECTED", "PLANTS", "TRUTH_S", "History", "Plant", "Timeline", "clean", "run"]

AFFECTED: tuple[Group, ...] = (("east", "one"), ("east", "two"))
OTHERS: tuple[Group, ...] = (("west", "one/1"), ("west", "two"))
GROUPS = AFFECTED + OTHERS
RECORDS = 240
FIRST_ID = 1_000
STREAM = "records"
FIELDS = ("id", "amount", "size", "flag", "at_us")
"""The fields of a simulated record, in the order in which the row hash takes them."""

SEED = 20_260_101
SUM_IDS = 60
"""How many ids one row of the simulated gold sums up."""

NS = timings.NS
START_NS = 5_000 * NS
INJECT_S = 5.0
END_S = 14.0
MTTR_MAX_S = 5.0
DRAIN_MAX_S = 7.0
RATE = 1_000.0
"""Records a second and group."""
DELAY_S = 0.3
TOOK_NS = 2_000_000
STARTED_US = 1_700_000_000_000_000
CATCH_UP = 4.0
"""How many times the usual rate the visible head rises while it catches up."""
EVERY_CHECK: tuple[Check, ...] = (
    *checks.INTACT,
    checks.offsets_advance,
    checks.recovered,
    checks.isolation,
    checks.continuous,
    checks.upstream_flows,
    checks.resumed,
    checks.retained,
    checks.served,
    checks.reconnected,
    checks.snapshots_whole,
    checks.watermark,
    checks.job_failed_cleanly,
    checks.resumed_on_schedule,
    checks.alert,
    checks.delivered_at_most,
    checks.redelivered,
    checks.dead_lettered,
    checks.metrics_true,
    checks.position_sane,
)

CUTS = (60, 140, RECORDS)
"""How many records of each group the archive has after each of its commits."""
COMMITS_S = (-3.0, 1.0, 9.0)
"""When each commit was made, in seconds from inject."""
KEPT = {"dropped": 0, "expired": 0, "waiting": 3_000, "unread_s": 3.0, "retention_s": 60.0}
"""What the log kept for the consumer when it was furthest behind."""
ALERT_WITHIN_S = 8.0
INTERVAL_S = 10.0
CLEAN_WORK_S = 2.0
STRUCK = JobRun("s", "struck", "Failed", STARTED_US, STARTED_US + 1, "S3 does not answer")

Rows = dict[Group, dict[str, np.ndarray]]

CANARY = Stream(
    name="canary",
    key=("id",),
    group=(),
    types={name: Type("int") for name in FIELDS},
    sequence="id",
    gapless=False,
    time=None,
    hops=("canary", "topic", "sink"),
    visible="sink",
    path=(),
)
"""The stream of gameday's own records. An attempt to write one is acknowledged, refused, or of unknown outcome."""
ATTEMPTED = 60
REFUSED, DOUBTFUL, ARRIVED = 5, (8, 13), 8
"""The indices of the refused attempt, of the two of unknown outcome, and of the one of these two that arrived."""


@dataclass(frozen=True)
class Timeline:
    """What happens when. Spans are (from, to) in seconds from inject.

    down: the component answers nothing. again: it answers nothing a second time.
    frozen: no new rows become visible in the affected groups. others_frozen: the same in the other groups.
    gap: no sample is taken at all.
    log_frozen: the log takes nothing. unserved: the log answers no fetch.
    connects_at_end: the other handler's connection counter at the end.
    catch_up: how many times the usual rate the visible head rises while it catches up.
    alert: the alert fires. judged: whether its rule is evaluated.
    mirror_late_s: how long after a commit the mirror shows it. archive_back: the archive shows an older commit.
    busy: the machine is busy.
    moved: by how much someone else moves the first slot's committed offset while the component is down.
    log_lost: how many of the log's newest records are lost.
    """

    down: tuple[float, float] = (0.02, 2.0)
    again: tuple[float, float] = (0.0, 0.0)
    frozen: tuple[float, float] = (0.0, 2.4)
    gap: tuple[float, float] = (0.0, 0.0)
    others_frozen: tuple[float, float] = (0.0, 0.0)
    log_frozen: tuple[float, float] = (0.0, 0.0)
    unserved: tuple[float, float] = (0.0, 0.0)
    connects_at_end: float = 1.0
    catch_up: float = CATCH_UP
    alert: tuple[float, float] = (3.0, 5.0)
    judged: bool = True
    mirror_late_s: float = 0.4
    busy: tuple[float, float] = (0.0, 0.0)
    archive_back: tuple[float, float] = (0.0, 0.0)
    moved: int = 0
    log_lost: int = 0


TRUTH_S: Mapping[str, float] = {"impact": 0.02, "restore": 2.4, "mttr": 2.4, "drain": 2.96}
"""The true values of the clean timeline's measures, in seconds; the measured intervals must contain them."""


@dataclass
class History:
    """One simulated run, into which a fault is planted: each hop's rows in the order in which the hop holds them, the
    timeline of the samples, symptoms."""

    log: Rows
    bronze: Rows
    silver_raw: Rows
    silver: Rows
    gold: Rows
    archive: Rows
    timeline: Timeline = field(default_factory=Timeline)
    symptoms: dict[str, Json] = field(default_factory=dict)
    offsets: Rows = field(default_factory=lambda: _offsets())
    """The offsets that bronze has."""
    topic: Rows = field(default_factory=lambda: _canaries(_taken()))
    sink: Rows = field(default_factory=lambda: _canaries(_taken()))
    """The canary's records that arrived at its two hops."""
    positions: dict[str, int] = field(default_factory=dict)
    delivered: dict[str, int] = field(default_factory=dict)
    identities: dict[str, Json] = field(default_factory=dict)
    stepped_s: int = 0
    last_commit: Callable[[Commit], Commit] = lambda commit: commit
    recovering: Callable[[JobRun], JobRun] = lambda run: run
    struck: JobRun = STRUCK
    alert_within_s: float | None = ALERT_WITHIN_S
    changing: Changing = field(default_factory=Changing)
    counting: Counting = field(default_factory=Counting)

    def evidence(self) -> Evidence:
        """Return the evidence that a run would have gathered."""
        ids = {group: (FIRST_ID, FIRST_ID + RECORDS) for group in GROUPS}
        truth = _records()
        slots = dict(zip(_SLOTS, (500, 700), strict=True))
        act = Act(
            "act-1",
            "selftest",
            START_NS + _ns(INJECT_S),
            STARTED_US,
            "inject",
            "kill",
            {"component": "writer-east"},
            {},
            "selftest",
            "pid 1 is gone",
            START_NS + _ns(INJECT_S + 0.01),
        )
        before = Marks(
            START_NS + _ns(INJECT_S - 0.1),
            STARTED_US,
            heads={hop: dict.fromkeys(GROUPS, FIRST_ID) for hop in ("exchange", "broker", "bronze", "silver")},
            identities={"writer-east": {"pid": 1}, "writer-west": {"pid": 2}, "broker": {"pid": 3}},
        )
        healed = Marks(
            START_NS + _ns(INJECT_S + 3),
            STARTED_US + 3_100_000,
            positions={"ch": slots},
            ends={"ch": {s: p + 20 for s, p in slots.items()}},
        )
        ends = Marks(
            START_NS + _ns(INJECT_S + 8),
            STARTED_US + 8_100_000 + self.stepped_s * 1_000_000,
            positions={"ch": {s: p + 90 for s, p in slots.items()} | self.positions},
            ends={"ch": {s: p + 100 for s, p in slots.items()}},
            identities={**before.identities, "writer-east": {"pid": 9}, **self.identities},
            delivered={"bronze": {s: p + 95 for s, p in slots.items()} | self.delivered},
        )
        evidence = Evidence(
            test="selftest",
            params={},
            stack="simulated",
            component="writer-east",
            affected=AFFECTED,
            mttr_max_s=MTTR_MAX_S,
            drain_max_s=DRAIN_MAX_S,
            acts=(act,),
            samples={**_samples(self.timeline), **_counted(self.counting)},
            baseline=Baseline(before, DELAY_S, timings.bound_s(DELAY_S), dict.fromkeys(GROUPS, RATE)),
            inject_ns=act.at_ns,
            clock_ns=act.at_ns,
            healed=healed,
            ends=ends,
            window=Window({g: lo for g, (lo, _) in ids.items()}, {g: hi for g, (_, hi) in ids.items()}),
            digests=(
                _digest(STREAM, "exchange", "final", truth),
                _digest(STREAM, "broker", "log", self.log),
                _digest(STREAM, "bronze", "raw", self.bronze),
                _digest(STREAM, "silver", "raw", self.silver_raw),
                _digest(STREAM, "silver", "final", self.silver),
                _digest("offsets", "broker", "raw", _offsets()),
                _digest("offsets", "bronze", "raw", self.offsets),
                _digest("sums", "exchange", "final", {g: _sums(rows) for g, rows in truth.items()}),
                _digest("sums", "gold", "final", self.gold),
                _digest("archive", "exchange", "final", _between(truth, CUTS[0], RECORDS)),
                _digest("archive", "archive", "final", _between(self.archive, CUTS[0], RECORDS)),
                *self._attempted(),
            ),
            states=self.changing.compared(),
            commits=self._commits(truth),
            jobs=(_job_run(-2 * INTERVAL_S), _job_run(-INTERVAL_S), self.recovering(_job_run(INTERVAL_S - 1))),
            struck=(self.struck,),
            alert="Down",
            alert_within_s=self.alert_within_s,
            symptoms={
                "job.interval_s": INTERVAL_S,
                "silver.not_first": 0,
                "bronze.ingest_gap_s": {"records.east": 2.5, "records.west": 0.4},
                "bronze.first_after_start": dict(slots),
                "bronze.last_before_start": {s: p - 1 for s, p in slots.items()},
                "broker.late": {"rows": 3, "unknown": 0},
                f"{LOG}.versions_back": self.changing.back(),
                "retention": {"ch": {_SLOTS[0]: dict(KEPT)}},
                "lives": {"writer-east": [{"pid": 9, "started_us": STARTED_US + 100_000}]},
                **self.counting.symptoms(),
                **self.symptoms,
            },
        )
        return replace(evidence, measures=timings.measure(evidence))

    def _attempted(self) -> tuple[Digest, ...]:
        """Return the canary's digests: of the acknowledged records, and of what its two hops hold."""
        certain = _canaries([p for p in range(ATTEMPTED) if p != REFUSED and p not in DOUBTFUL])
        must = {group: CANARY.tally(columns) for group, columns in certain.items()}
        came: Mapping[Group, Columns] = {}
        digests = [Digest(CANARY.name, "canary", "final", must)]
        for hop, rows in (("topic", self.topic), ("sink", self.sink)):
            came = attempted.arrived(CANARY, _canaries(DOUBTFUL), rows, came)
            held = {group: CANARY.tally(columns) for group, columns in rows.items()}
            digests.append(Digest(CANARY.name, hop, "final", held, attempted.right(CANARY, must, came)))
        return tuple(digests)

    def _commits(self, truth: Rows) -> tuple[Commit, ...]:
        """Return the archive's commits, one for each cut; each adds the rows since the cut before."""
        commits = []
        for number, cut in enumerate(CUTS):
            start = CUTS[number - 1] if number else 0
            heads = dict.fromkeys(GROUPS, FIRST_ID + cut)
            added, right = (_digest("", "", "final", _between(rows, start, cut)) for rows in (self.archive, truth))
            at_us = STARTED_US + round(COMMITS_S[number] * 1e6)
            commits.append(Commit(str(number), at_us, _position(number), heads, added.groups, right.groups, heads))
        return (*commits[:-1], self.last_commit(commits[-1]))


@dataclass(frozen=True)
class Plant:
    """One planted fault.

    caught: check -> the verdict that it must give. hop: the hop that the first of them must name, if the fault is in
    rows.
    """

    name: str
    spoil: Callable[[History], None]
    caught: Mapping[str, Verdict]
    hop: str | None = None


def clean() -> History:
    """Return a history in which all is right."""
    gold = {group: _sums(rows) for group, rows in _records().items()}
    return History(_records(), _records(), _records(), _records(), gold, _records())


def run() -> list[Finding]:
    """Return one finding for the clean history and one for each planted fault: PASS if the checks said what they
    must."""
    return [_judge_clean(), *(_judge(plant) for plant in PLANTS)]


def _judge_clean() -> Finding:
    evidence = clean().evidence()
    wrong = [found for check in EVERY_CHECK if (found := check(evidence)).verdict is not Verdict.PASS]
    for name, truth_s in TRUTH_S.items():
        measure = evidence.measures[name]
        if measure.low_s is None or measure.high_s is None or not measure.low_s <= truth_s <= measure.high_s:
            wrong.append(Finding(name, Verdict.FAIL, f"{measure} does not hold the true {truth_s} s"))
    if wrong:
        return Finding("clean", Verdict.FAIL, "; ".join(f"{f.check} says {f.verdict}: {f.why}" for f in wrong))
    return Finding("clean", Verdict.PASS, f"{len(EVERY_CHECK)} checks pass the clean history")


def _judge(plant: Plant) -> Finding:
    history = clean()
    plant.spoil(history)
    evidence = history.evidence()
    findings = {f.check: f for f in (machine.excused(check(evidence), evidence.samples) for check in EVERY_CHECK)}
    missed = [
        f"{name} says {findings[name].verdict}, not {expected}"
        for name, expected in plant.caught.items()
        if findings[name].verdict is not expected
    ]
    first = next(iter(plant.caught))
    if plant.hop and not missed and not findings[first].why.startswith(plant.hop):
        missed.append(f"{first} does not name {plant.hop}: {findings[first].why}")
    if missed:
        return Finding(plant.name, Verdict.FAIL, f"missed: {'; '.join(missed)}")
    return Finding(plant.name, Verdict.PASS, f"{first}: {findings[first].why}")


# ---- what can be wrong with rows ------------------------------------------------------------------------------------

SPOILED: Group = AFFECTED[0]
PLACE = 77
ACKNOWLEDGED = 20


def _keep(rows: Rows, places: Sequence[int]) -> None:
    rows[SPOILED] = {name: column[np.asarray(places)] for name, column in rows[SPOILED].items()}


def _all() -> list[int]:
    return list(range(RECORDS))


def _without(*places: int) -> list[int]:
    return [p for p in _all() if p not in places]


def _drop(rows: Rows) -> None:
    _keep(rows, _without(PLACE))


def _repeat(times: int) -> Callable[[Rows], None]:
    return lambda rows: _keep(rows, sorted(_all() + [PLACE] * (times - 1)))


def _swap_order(rows: Rows) -> None:
    places = _all()
    places[PLACE], places[PLACE + 1] = places[PLACE + 1], places[PLACE]
    _keep(rows, places)


def _swap_content(rows: Rows) -> None:
    amount = rows[SPOILED]["amount"]
    amount[[PLACE, PLACE + 1]] = amount[[PLACE + 1, PLACE]]


def _change(column: str) -> Callable[[Rows], None]:
    def spoil(rows: Rows) -> None:
        values = rows[SPOILED][column]
        values[PLACE] = 1 - values[PLACE] if column == "flag" else values[PLACE] + 1

    return spoil


def _drop_and_repeat(rows: Rows) -> None:
    _keep(rows, sorted([*_without(PLACE), PLACE + 5]))


def _replace_id(rows: Rows) -> None:
    """Replace one id by one that does not exist, so that the numbers of rows and ids stay."""
    rows[SPOILED]["id"][-1] += 7


def _two_contents(rows: Rows) -> None:
    _repeat(2)(rows)
    rows[SPOILED]["amount"][PLACE] += 1


def _gone(rows: Rows) -> None:
    del rows[SPOILED]


def _sum_off(rows: Rows) -> None:
    rows[SPOILED]["volume"][1] += 1


def _plants() -> tuple[Plant, ...]:
    fail, unknown = Verdict.FAIL, Verdict.UNKNOWN
    plants: list[Plant] = []
    hops: tuple[tuple[str, Callable[[History], Rows]], ...] = (
        ("broker", lambda h: h.log),
        ("bronze", lambda h: h.bronze),
        ("silver", lambda h: h.silver),
        ("archive", lambda h: h.archive),
    )

    def at(hop: str, what: str, spoil: Callable[[Rows], None], *caught: str) -> None:
        rows = dict(hops)[hop]
        plants.append(Plant(f"{what} at {hop}", lambda h: spoil(rows(h)), dict.fromkeys(caught, fail), hop))

    for hop, _ in hops:
        at(hop, "a record dropped", _drop, "no_loss")
        if hop != "archive":  # the archive is judged from the window on only
            at(hop, "the head gone", lambda rows: _keep(rows, _all()[10:]), "no_loss")
            at(hop, "an id replaced by a foreign one", _replace_id, "no_loss", "no_duplicates")
        at(hop, "the tail gone", lambda rows: _keep(rows, _all()[:-10]), "no_loss")
        at(hop, "a whole group gone", _gone, "no_loss")
        at(hop, "two records' amounts swapped", _swap_content, "unchanged")
        for column in FIELDS[1:]:
            at(hop, f"{column} changed by one unit", _change(column), "unchanged")
        at(hop, "an id with two contents", _two_contents, "unchanged")
    at("silver", "a record doubled", _repeat(2), "no_duplicates")
    at("silver", "a record tripled", _repeat(3), "no_duplicates")
    at("silver", "one dropped and another doubled", _drop_and_repeat, "no_loss", "no_duplicates")
    at("archive", "a record doubled", _repeat(2), "no_duplicates", "snapshots_whole")
    at("archive", "one dropped and another doubled", _drop_and_repeat, "no_loss", "no_duplicates", "snapshots_whole")
    at("broker", "two records swapped", _swap_order, "order")
    plants.append(Plant("a re-sent record in the log", lambda h: _repeat(2)(h.log), {"no_duplicates": Verdict.PASS}))
    plants.append(Plant("a sum off by one unit", lambda h: _sum_off(h.gold), {"unchanged": fail}, "gold"))
    plants.append(
        Plant(
            "an id with two contents in silver's raw table",
            lambda h: _two_contents(h.silver_raw),
            {"unchanged": fail},
            "silver",
        )
    )

    for name, places, caught in (
        ("none of unknown outcome arrived", _taken(without=(ARRIVED,)), {"no_loss": Verdict.PASS}),
        ("all of unknown outcome arrived", _taken(*DOUBTFUL), {"no_duplicates": Verdict.PASS}),
        ("an acknowledged one lost at the front door", _taken(without=(ACKNOWLEDGED,)), {"no_loss": fail}),
        ("one of unknown outcome in its place", _taken(13, without=(ACKNOWLEDGED,)), {"no_loss": fail}),
        ("a refused one that is there", _taken(REFUSED), {"no_duplicates": fail}),
    ):
        for hops_of in (("topic", "sink"), ("sink",)) if fail in caught.values() else (("topic", "sink"),):

            def put(history: History, places: Sequence[int] = places, hops_of: Sequence[str] = hops_of) -> None:
                for hop in hops_of:
                    setattr(history, hop, _canaries(places))

            plants.append(
                Plant(
                    f"canary: {name}, from {hops_of[0]} on",
                    put,
                    caught,
                    hops_of[0] if fail in caught.values() else None,
                )
            )

    def sunk(name: str, spoil: Callable[[Rows], None], check: str) -> None:
        plants.append(Plant(f"canary: {name} at sink", lambda h: spoil(h.sink), {check: fail}, "sink"))

    def forget(rows: Rows) -> None:
        rows[()] = _canaries(_taken(without=(ARRIVED,)))[()]

    def alter(place: int) -> Callable[[Rows], None]:
        def spoil(rows: Rows) -> None:
            rows[()]["amount"][place] += 1

        return spoil

    sunk("one of unknown outcome lost that had arrived", forget, "no_loss")
    sunk("one of unknown outcome changed", alter(_taken().index(ARRIVED)), "unchanged")
    sunk("an acknowledged one changed", alter(0), "unchanged")
    sunk("one of unknown outcome doubled", lambda rows: rows.update(_canaries([*_taken(), ARRIVED])), "no_duplicates")

    def told(name: str, symptoms: Mapping[str, Json], check: str) -> None:
        plants.append(Plant(name, lambda h: h.symptoms.update(symptoms), {check: fail}))

    told("a later offset kept", {"silver.not_first": 1}, "first_kept")
    told("the watermark ahead", {"bronze.first_after_start": {_SLOTS[0]: 503, _SLOTS[1]: 700}}, "resumed")
    told("the watermark back", {"bronze.first_after_start": {_SLOTS[0]: 0, _SLOTS[1]: 700}}, "resumed")
    told("an unknown late record", {"broker.late": {"rows": 3, "unknown": 1}}, "unchanged")
    told("ingestion paused", {"bronze.ingest_gap_s": {"records.east": 31.0}}, "continuous")

    def moved(name: str, by: int, spoil: Callable[[History], None]) -> None:
        def both(history: History) -> None:
            history.timeline = replace(history.timeline, moved=by)
            history.symptoms["bronze.first_after_start"] = {_SLOTS[0]: 500 + by, _SLOTS[1]: 700}
            spoil(history)

        plants.append(Plant(name, both, {"resumed": fail}))

    def skip(history: History) -> None:
        slot = ("records.east", "0")
        history.offsets[slot] = {"id": np.delete(history.offsets[slot]["id"], range(100, 163))}

    moved("offsets moved on while nobody consumed", 63, skip)
    moved("offsets moved back while nobody consumed", -63, lambda history: None)
    taken = {s: p + 20 for s, p in zip(_SLOTS, (500, 700), strict=True)}
    plants.append(
        Plant(
            "offsets moved in place of a consumer",
            lambda h: h.delivered.update(taken),
            {"offsets_advance": unknown},
        )
    )
    plants.append(
        Plant("the watermark stuck", lambda h: h.positions.update({_SLOTS[0]: 500}), {"offsets_advance": fail})
    )

    def committed(name: str, change: Callable[[Commit], Commit], check: str) -> None:
        plants.append(Plant(name, lambda h: setattr(h, "last_commit", change), {check: fail}))

    def ran(name: str, change: Callable[[JobRun], JobRun], check: str = "resumed_on_schedule") -> None:
        plants.append(Plant(name, lambda h: setattr(h, "recovering", change), {check: fail}))

    less = {_SLOTS[0]: 1, _SLOTS[1]: 1}
    committed("a commit that goes back", lambda c: replace(c, position=less), "snapshots_whole")
    committed(
        "a mirror of no commit", lambda c: replace(c, position={s: p + 3 for s, p in c.position.items()}), "watermark"
    )
    committed("a summary that claims more", lambda c: replace(c, logged=dict.fromkeys(GROUPS, 7)), "snapshots_whole")
    ran("the next scheduled run failed", lambda run: replace(run, state="Failed"))
    ran(
        "the next scheduled run took ten times as long",
        lambda run: replace(run, ended_us=(run.ended_us or 0) + 18_000_000),
    )
    ran("the schedule skipped a run", lambda run: replace(run, due_us=(run.due_us or 0) + 10_000_000))
    left = JobRun("s", "struck", "Running", STARTED_US, None)
    mute = JobRun("s", "struck", "Failed", STARTED_US, STARTED_US + 1)
    for name, struck in (("a struck run left running", left), ("a struck run that says nothing", mute)):
        plants.append(Plant(name, lambda h, run=struck: setattr(h, "struck", run), {"job_failed_cleanly": fail}))  # type: ignore[misc]

    def timed(name: str, caught: Mapping[str, Verdict], **changes: tuple[float, float] | float | bool) -> None:
        timeline = replace(Timeline(), **changes)  # type: ignore[arg-type]
        plants.append(Plant(name, lambda h: setattr(h, "timeline", timeline), caught))

    never = (0.02, END_S)
    timed("never answered again", {"recovered": fail}, down=never, frozen=never)
    timed("answering but serving nothing", {"recovered": fail}, frozen=never)
    timed("back too late", {"recovered": fail}, down=(0.02, 5.5), frozen=(0.02, 5.7))
    timed("never drained", {"recovered": fail}, catch_up=1.0)
    timed("back, and silent again", {"recovered": fail}, again=(8.0, 9.5))
    timed("too few samples around the edge", {"recovered": unknown}, gap=(1.0, 3.5))
    timed("the other streams stalled", {"isolation": fail}, others_frozen=(0.5, 2.0))
    timed("the other handler reconnected", {"isolation": fail}, connects_at_end=2.0)
    timed("the log took nothing", {"upstream_flows": fail}, log_frozen=(0.0, 2.5))
    timed("a log that gives places anew", {"position_sane": fail}, log_lost=2_000)
    timed("a consumer beyond the log's end", {"position_sane": fail}, moved=1_000_000)
    never_fires = (2 * END_S, 3 * END_S)
    timed("an outage that alerts nobody", {"alert": fail}, alert=never_fires)
    timed("an alert that comes too late", {"alert": fail}, alert=(9.0, 11.0))
    timed("an alert that fired before", {"alert": unknown}, alert=(-9.0, 5.0))
    timed("an alert that may have been missed", {"alert": unknown}, alert=never_fires, gap=(4.0, 8.0))

    def silent(name: str, verdict: Verdict, **changes: tuple[float, float] | bool) -> None:
        timeline = replace(Timeline(), **{"alert": never_fires, **changes})  # type: ignore[arg-type]

        def spoil(history: History) -> None:
            history.timeline, history.alert_within_s = timeline, None

        plants.append(Plant(name, spoil, {"alert": verdict}))

    silent("a page for what healed at once", fail, alert=(3.0, 3.2))
    silent("a page that may have been missed", unknown, gap=(4.0, 8.0))
    silent("a rule that nobody judges", unknown, judged=False)
    timed("the mirror ahead of the table", {"watermark": fail}, mirror_late_s=-1.0)
    timed("the mirror left behind", {"watermark": fail}, mirror_late_s=2 * END_S)
    timed("the archive went back", {"watermark": fail}, archive_back=(3.0, 5.0))
    timed("the topic served nothing", {"served": fail}, unserved=(0.0, 2.5))
    busy = (-INJECT_S, END_S)
    late = replace(Timeline(), down=(0.02, 5.5), frozen=(0.02, 5.7))
    timed("back too late on a busy machine", {"recovered": unknown}, down=late.down, frozen=late.frozen, busy=busy)
    timed("back too late, busy before", {"recovered": fail}, down=late.down, frozen=late.frozen, busy=(-INJECT_S, 0.0))
    timed("the other streams stalled on a busy machine", {"isolation": unknown}, others_frozen=(0.5, 2.0), busy=busy)
    silent("a page on a busy machine", unknown, alert=(3.0, 3.2), busy=busy)

    def crowded(name: str, check: str, verdict: Verdict, spoil: Callable[[History], object]) -> None:
        def both(history: History) -> None:
            history.timeline = replace(history.timeline, busy=busy)
            spoil(history)

        plants.append(Plant(f"{name} on a busy machine", both, {check: verdict}))

    def deleted(history: History) -> None:
        _drop(history.bronze)
        history.symptoms["retention"] = {"ch": {_SLOTS[0]: {**KEPT, "dropped": 1}}}

    plants.append(Plant("a record deleted before it was read", deleted, {"no_loss": fail, "retained": fail}, "bronze"))
    crowded("a record dropped", "no_loss", fail, lambda h: _drop(h.silver))
    crowded("a record doubled", "no_duplicates", fail, lambda h: _repeat(2)(h.silver))
    crowded("an amount changed", "unchanged", fail, lambda h: _change("amount")(h.silver))
    gap = {"bronze.ingest_gap_s": {"records.east": 31.0}}
    crowded("ingestion paused", "continuous", unknown, lambda h: h.symptoms.update(gap))
    for step_s in (-3600, 2):
        name = f"the wall clock stepped by {step_s} s"
        plants.append(Plant(name, lambda h, s=step_s: setattr(h, "stepped_s", s), {"steady_clock": unknown}))  # type: ignore[misc]
    for name, (spoil, failing, hop) in PLANTED.items():
        plants.append(Plant(name, lambda h, s=spoil: s(h.changing), dict.fromkeys(failing, fail), hop))  # type: ignore[misc]
    for name, (miscount, judging, word) in counting.PLANTED.items():
        says = dict.fromkeys(judging, Verdict[word.upper()])
        plants.append(Plant(name, lambda h, s=miscount: s(h.counting), says))  # type: ignore[misc]
    made = {"surplus": {"silver": [[["east", "none"], 7, None]]}}
    plants.append(
        Plant("a record that nobody made", lambda h: h.symptoms.update(made), {"no_duplicates": fail}, "silver")
    )
    twice = {"writer-east": [{"pid": pid, "started_us": STARTED_US + pid * 100_000} for pid in (9, 10)]}
    lives = {"lives": twice}
    plants.append(Plant("started again by someone else", lambda h: h.symptoms.update(lives), {"started_once": unknown}))
    other = {"writer-west": {"pid": 12}}
    started = {"isolation": fail, "reconnected": fail}
    plants.append(Plant("another process restarted", lambda h: h.identities.update(other), started))
    return tuple(plants)


# ---- the simulation -------------------------------------------------------------------------------------------------

_SLOTS = ("records.east/0", "records.west/0")


def _ns(seconds: float) -> int:
    return round(seconds * NS)


def _between(rows: Rows, start: int, stop: int) -> Rows:
    """Return the records from the one at index start up to, not including, the one at index stop."""
    return {
        group: {
            name: column[(columns["id"] > FIRST_ID + start) & (columns["id"] <= FIRST_ID + stop)]
            for name, column in columns.items()
        }
        for group, columns in rows.items()
    }


def _position(commits: int) -> dict[str, int]:
    return {slot: start + CUTS[commits] for slot, start in zip(_SLOTS, (500, 700), strict=True)}


def _job_run(due_s: float) -> JobRun:
    """Return a scheduled run that was due this long after the first act."""
    due_us = STARTED_US + round((due_s + 0.1) * 1e6)  # the baseline's marks are 0.1 s before the act
    ended_us = due_us + round(CLEAN_WORK_S * 1e6)
    return JobRun(f"due {due_s:g}", f"due {due_s:g}", "Completed", due_us, ended_us, "", due_us, scheduled=True)


def _records() -> Rows:
    """Return each group's records: always the same ones, in new arrays."""
    records: Rows = {}
    for number, group in enumerate(GROUPS):
        random = np.random.default_rng(SEED + number)
        records[group] = {
            "id": np.arange(FIRST_ID + 1, FIRST_ID + RECORDS + 1, dtype=np.int64),
            "amount": random.integers(1, 10**13, RECORDS),
            "size": random.integers(1, 10**11, RECORDS),
            "flag": random.integers(0, 2, RECORDS),
            "at_us": STARTED_US + np.cumsum(random.integers(1, 50_000, RECORDS)),
        }
    return records


def _taken(*more: int, without: Sequence[int] = ()) -> list[int]:
    """Return the indices of the canary's records that arrived: all acknowledged ones, and one of unknown outcome.

    more: indices that arrived too. without: indices that did not.
    """
    usual = [p for p in range(ATTEMPTED) if p != REFUSED and (p not in DOUBTFUL or p == ARRIVED)]
    return sorted({*usual, *more} - set(without))


def _canaries(places: Sequence[int]) -> Rows:
    """Return the canary's attempted records at these indices."""
    columns = _records()[SPOILED]
    return {(): {name: column[:ATTEMPTED][np.asarray(places)] for name, column in columns.items()}}


def _offsets() -> Rows:
    """Return each slot's offsets in the log; they begin below the committed ones."""
    slots = zip(_SLOTS, (400, 600), strict=True)
    return {tuple(slot.split("/")): {"id": np.arange(start, start + 2 * RECORDS)} for slot, start in slots}


def _sums(rows: Columns) -> dict[str, np.ndarray]:
    """Return rows that each sum up SUM_IDS records."""
    starts = np.arange(0, len(rows["id"]), SUM_IDS)
    return {
        "id": starts + 1,
        "high": np.maximum.reduceat(rows["amount"], starts),
        "low": np.minimum.reduceat(rows["amount"], starts),
        "volume": np.add.reduceat(rows["size"], starts),
    }


def _digest(stream: str, hop: str, view: str, rows: Mapping[Group, Columns]) -> Digest:
    held = {}
    for group, columns in rows.items():
        hashes = row_hash(list(columns.values()))
        held[group] = tally(columns["id"], hashes, ordered=view == "log")
    return Digest(stream, hop, view, held)


@functools.cache
def _samples(timeline: Timeline) -> Samples:
    """Return what the sampler would have written: 20 Hz for answers and heads, 10 Hz for the log, 2 Hz for fetches."""
    samples: dict[str, list[Sample]] = {}

    def sample(series: str, rate_hz: float, value: Callable[[float], float | None]) -> None:
        # the sampler doesn't start with the fault, so the first sample is a little off the full second
        times = np.arange(0.013, INJECT_S + END_S, 1 / rate_hz)
        samples[series] = [
            Sample(START_NS + _ns(t), TOOK_NS, value(float(t) + TOOK_NS / NS - INJECT_S))
            for t in times
            if not _within(t - INJECT_S, timeline.gap)
        ]

    def ledger(t: float) -> float:
        return float(int(FIRST_ID + RATE * (t + INJECT_S)))

    def visible(stall: tuple[float, float]) -> Callable[[float], float]:
        return lambda t: ledger(_shown(t, stall, timeline.catch_up))

    def constant(value: float) -> Callable[[float], float]:
        return lambda t: value

    def place(committed: float, by: int) -> Callable[[float], float]:
        return lambda t: committed + by * (t > sum(timeline.down) / 2)

    def log(start: int) -> Callable[[float], float]:
        def value(t: float) -> float:
            lost = timeline.log_lost if t > 1.0 else 0
            return float(int(start + RATE * (_frozen(t, timeline.log_frozen) + INJECT_S)) - lost)

        return value

    def told(slot: str, late_s: float) -> Callable[[float], float]:
        """Return the position of the newest commit that is known late_s after it was made."""

        def value(t: float) -> float:
            commits = sum(t >= made_s + late_s for made_s in COMMITS_S) - _within(t, timeline.archive_back)
            return float(_position(max(1, commits) - 1)[slot])

        return value

    for slot in _SLOTS:
        sample(f"archive/position/{slot}", 4, told(slot, 0.0))
        sample(f"mirror/{slot}", 4, told(slot, timeline.mirror_late_s))
    sample("alert/Down", 5, lambda t: FIRING if _within(t, timeline.alert) else INACTIVE)
    sample("alert/Down.evaluated", 5, lambda t: float(int(t)) if timeline.judged else 0.0)
    begin, end = timeline.busy
    sample("machine/cpu", 4, lambda t: 0.3 * t + 0.7 * max(0.0, min(t, end) - begin))
    sample("machine/late", 4, constant(0.001))
    silent = (timeline.down, timeline.again)
    sample("component/writer-east/health", 20, lambda t: None if any(_within(t, s) for s in silent) else 1.0)
    sample("component/writer-west/health", 20, constant(1))
    sample("component/writer-west/health.connects", 20, lambda t: timeline.connects_at_end if t > 1 else 1.0)
    for group in GROUPS:
        stall = timeline.frozen if group in AFFECTED else timeline.others_frozen
        sample(timings.series_of("head", "exchange", group), 20, ledger)
        sample(timings.series_of("head", "silver", group), 20, visible(stall))
    for slot, start, committed in zip(_SLOTS, (600, 800), (500, 700), strict=True):
        sample(f"end/ch/{slot}", 10, log(start))
        sample(f"position/ch/{slot}", 10, place(committed, timeline.moved if slot == _SLOTS[0] else 0))
        sample(f"serving/{slot}", 2, lambda t: None if _within(t, timeline.unserved) else 1.0)
    return samples


def _counted(counting: Counting) -> Samples:
    """What was sampled of the metrics, twice a second; a series begins with the first answer that has it."""
    times = np.arange(0.013, INJECT_S + END_S, 0.5)
    return {
        series: [
            Sample(START_NS + _ns(t), TOOK_NS, told) for t in times if (told := value(float(t) - INJECT_S)) is not None
        ]
        for series, value in counting.series().items()
    }


def _within(t: float, span: tuple[float, float]) -> bool:
    return span[0] <= t < span[1]


def _frozen(t: float, span: tuple[float, float]) -> float:
    """Return the time of a clock that stands still within the span and jumps at its end."""
    return span[0] if _within(t, span) else t


def _shown(t: float, stall: tuple[float, float], catch_up: float) -> float:
    """Return up to when records are visible at t: DELAY_S behind, standing still in the stall, catching up after it."""
    usual = t - DELAY_S
    if t < stall[0] or stall[0] == stall[1]:
        return usual
    stood = stall[0] - DELAY_S
    return min(usual, stood + max(0.0, t - stall[1]) * catch_up)


PLANTS = _plants()

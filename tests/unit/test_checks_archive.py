"""The checks of an archive and its job, on histories of a few lines: each shown to pass, to fail and to be unknown."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from gameday.errors import DriverError, RolledBack
from gameday.model import Baseline, Check, Commit, Digest, Evidence, Group, JobRun, Marks, Sample, Tally, Verdict
from gameday.sampling import timings
from gameday.verdict import checks
from tasks import verify
from tests.trades import live, stack_of

PASS, SKIPPED, UNKNOWN, FAIL = Verdict.PASS, Verdict.SKIPPED, Verdict.UNKNOWN, Verdict.FAIL
A: Group = ("binance", "BTCUSDT")
SLOT = "trades/0"
S = 1_000_000_000
TEN = Tally(rows=10, keys=10, lo=11, hi=20, sum=5)

TWENTY = Tally(rows=20, keys=20, lo=1, hi=20, sum=9)

FIRST = Commit("1", 0, {SLOT: 10}, {A: 10})
SECOND = Commit("2", 1, {SLOT: 20}, {A: 20}, added={A: TEN}, right={A: TEN}, logged={A: 20})
EMPTY = Evidence("t", {}, "s")


def samples(*values: float | None, hz: float = 1.0, first_s: float = 0.0) -> list[Sample]:
    """Answers that come at once."""
    return [Sample(int((first_s + n / hz) * S), 0, value) for n, value in enumerate(values)]


def exported(second: Commit = SECOND, table: Any = None, mirror: Any = None) -> Evidence:
    """Two commits; the table's position at 0 s, 1 s, 2 s, the mirror's half a second later."""
    return replace(
        EMPTY,
        commits=(FIRST, second),
        samples={
            f"archive/position/{SLOT}": table or samples(10, 20, 20),
            f"mirror/{SLOT}": samples(10, 20, first_s=0.5) if mirror is None else mirror,
        },
    )


def run(due_s: float, work_s: float = 2.0, **changes: Any) -> JobRun:
    """A scheduled run."""
    due_us = int(due_s * 1e6)
    made = JobRun("id", f"at {due_s:g}", "Completed", due_us, due_us + int(work_s * 1e6), "", due_us, scheduled=True)
    return replace(made, **changes)


def struck_at(second: float, *jobs: JobRun, interval_s: float | None = 30.0, **more: Any) -> Evidence:
    """Struck at that second of the wall clock, which began with the monotonic one."""
    at_ns = int(second * S)
    return replace(
        EMPTY,
        baseline=Baseline(Marks(0, 0), 0.1, 1.0, {}),
        inject_ns=at_ns,
        clock_ns=at_ns,
        jobs=jobs,
        symptoms={"job.interval_s": interval_s},
        **more,
    )


def told(**changes: Any) -> Evidence:
    return replace(EMPTY, struck=(replace(run(0), state="Failed", message="S3 is away", **changes),))


NORMAL = Baseline(Marks(0, 0), 0.1, 1.0, {})
TABLE_ONLY = {f"archive/position/{SLOT}": samples(10, 20)}


def unplaced(added: Tally = TEN, held: Tally | None = TEN) -> Evidence:
    """Two commits that don't say where they are; what the archive holds of all that they touched, beside the log."""
    second = Commit("2", 1, {}, {A: 20}, added={A: added}, right={A: TEN})
    right, mine = ({A: TWENTY if added.lo == 1 else TEN}, {A: held or TEN})
    digests = (Digest("archive", "broker", "final", right), Digest("archive", "archive", "final", mine))
    return replace(
        EMPTY, ledger="broker", commits=(Commit("1", 0, {}, {A: 10}), second), digests=digests if held else ()
    )


def timed(*mirror: float | None, table: Any = None, first_s: float = 0.5, due: Any = None) -> Evidence:
    """The watermark is a time. The table has the first commit at 0 s and 1 s, then the second; what it lacks after each
    happened at 1100 and 2100."""
    return replace(
        EMPTY,
        commits=(FIRST, SECOND),
        samples={
            "archive/head/binance/BTCUSDT": table or samples(10, 10, 20, 20),
            "mirror/time_us": samples(*mirror, first_s=first_s),
        },
        symptoms={"archive.next_us": {"1": 1100, "2": 2100} if due is None else due},
    )


HISTORIES: list[tuple[str, Check, Evidence, Verdict, str]] = [
    ("whole", checks.snapshots_whole, exported(), PASS, "1 commits added 10 rows"),
    (
        "a row twice",
        checks.snapshots_whole,
        exported(replace(SECOND, added={A: replace(TEN, rows=11)})),
        FAIL,
        "1 rows twice",
    ),
    (
        "a row less",
        checks.snapshots_whole,
        exported(replace(SECOND, added={A: replace(TEN, rows=9, keys=9)})),
        FAIL,
        "9 ids",
    ),
    (
        "another content",
        checks.snapshots_whole,
        exported(replace(SECOND, added={A: replace(TEN, sum=6)})),
        FAIL,
        "10 ids 11–20",
    ),
    (
        "a group that nobody claims",
        checks.snapshots_whole,
        exported(replace(SECOND, heads={}, added={A: TEN}, right={("x", "y"): TEN})),
        FAIL,
        "the ledger has 0",
    ),
    (
        "offsets of another id",
        checks.snapshots_whole,
        exported(replace(SECOND, logged={A: 25})),
        FAIL,
        "the broker has 25",
    ),
    ("back", checks.snapshots_whole, exported(replace(SECOND, position={SLOT: 5})), FAIL, "goes back"),
    ("nobody to ask", checks.snapshots_whole, exported(replace(SECOND, logged=None)), UNKNOWN, "could not be asked"),
    ("no commit since", checks.snapshots_whole, replace(EMPTY, commits=(FIRST,)), UNKNOWN, "no commit"),
    ("no position, whole", checks.snapshots_whole, unplaced(), PASS, "together exactly broker's"),
    (
        "no position, a late row",
        checks.snapshots_whole,
        unplaced(replace(TEN, lo=9, sum=6)),
        PASS,
        "together exactly broker's",
    ),
    (
        "no position, rows again",
        checks.snapshots_whole,
        unplaced(TWENTY, replace(TWENTY, rows=30)),
        FAIL,
        "commit 2, binance/BTCUSDT: 20 ids 1–20, the ledger has 10",
    ),
    (
        "no position, a row less",
        checks.snapshots_whole,
        unplaced(replace(TEN, rows=9, keys=9), replace(TEN, rows=9, keys=9)),
        FAIL,
        "9 ids",
    ),
    ("no position, a row twice", checks.snapshots_whole, unplaced(replace(TEN, rows=11)), FAIL, "1 rows twice"),
    ("no position, nothing to tell", checks.snapshots_whole, unplaced(held=None), UNKNOWN, "could not be asked"),
    ("a time", checks.watermark, timed(1000, 1000, 2000), PASS, "a time, 3 times: never back"),
    ("a time just past", checks.watermark, timed(1100, 1100), PASS, "of just that time, a time can't tell"),
    ("a time ahead", checks.watermark, timed(1500), FAIL, "0.000 s past a record that the table lacked (commit 1)"),
    ("a time far ahead", checks.watermark, timed(1000, 2_002_100, 1000), FAIL, "2.000 s past"),
    ("a time that fell", checks.watermark, timed(1000, 900), FAIL, "fell from 1000 to 900"),
    ("a silent time", checks.watermark, timed(None, None), UNKNOWN, "the mirror did not answer"),
    ("a time nobody can hold", checks.watermark, timed(1000, first_s=9), UNKNOWN, "is not known"),
    ("a time, nothing lacking", checks.watermark, timed(1000, due={}), UNKNOWN, "is not known"),
    ("a time beside a silent table", checks.watermark, timed(1000, table=samples(None)), UNKNOWN, "is not known"),
    ("true", checks.watermark, exported(), PASS, "never back"),
    ("fell", checks.watermark, exported(table=samples(20, None, 10)), FAIL, "fell from 20 to 10"),
    ("ahead", checks.watermark, exported(mirror=samples(20, first_s=-0.5)), FAIL, "while the table had 10"),
    ("late is fine", checks.watermark, exported(mirror=samples(10, 10, 20, first_s=0.5)), PASS, "newest 2"),
    ("of no commit", checks.watermark, exported(mirror=samples(10, 17, first_s=1.5)), FAIL, "no commit's position"),
    (
        "beyond what was read",
        checks.watermark,
        exported(table=samples(10, 20, 30), mirror=samples(10, 30, first_s=1.5)),
        PASS,
        "newest 2",
    ),
    (
        "left behind",
        checks.watermark,
        replace(exported(mirror=samples(*[10] * 20)), baseline=NORMAL),
        FAIL,
        "still says 10",
    ),
    (
        "a mirror silent at the end",
        checks.watermark,
        replace(exported(mirror=samples(10, 10)), ends=Marks(60 * S, 0)),
        UNKNOWN,
        "did not answer in the last",
    ),
    ("a silent mirror", checks.watermark, exported(mirror=samples(None, None)), UNKNOWN, "did not answer"),
    ("a silent table", checks.watermark, exported(table=samples(None, None)), UNKNOWN, "was not sampled"),
    ("no mirror", checks.watermark, replace(exported(), samples=TABLE_ONLY), PASS, "no mirror is kept"),
    (
        "on schedule",
        checks.resumed_on_schedule,
        struck_at(45, run(0), run(30), run(60, 5)),
        PASS,
        "wait 15.0 s of 30 s",
    ),
    ("too slow", checks.resumed_on_schedule, struck_at(45, run(0), run(60, 7)), FAIL, "work 7.0 s of 6.0 s"),
    ("too late", checks.resumed_on_schedule, struck_at(45, run(0), run(90)), FAIL, "wait 45.0 s"),
    (
        "failed",
        checks.resumed_on_schedule,
        struck_at(45, run(0), run(60, state="Failed", message="no"), run(90)),
        FAIL,
        "is Failed: no",
    ),
    (
        "still running",
        checks.resumed_on_schedule,
        struck_at(45, run(0), run(60, ended_us=None)),
        UNKNOWN,
        "is Completed",
    ),
    (
        "begun before the strike",
        checks.resumed_on_schedule,
        struck_at(45, run(0), run(45.2, started_us=44_900_000, state="Crashed"), run(75.2)),
        PASS,
        "wait 30.0 s of 30 s",
    ),
    (
        "begun before the strike, and none soon after",
        checks.resumed_on_schedule,
        struck_at(45, run(0), run(45.2, started_us=44_900_000, state="Crashed"), run(105.2)),
        FAIL,
        "wait 60.0 s of 30 s",
    ),
    ("nothing clean before", checks.resumed_on_schedule, struck_at(45, run(60)), UNKNOWN, "clean run"),
    ("nothing after", checks.resumed_on_schedule, struck_at(45, run(0)), UNKNOWN, "after the strike"),
    ("no schedule", checks.resumed_on_schedule, struck_at(45, run(0), interval_s=None), UNKNOWN, "no schedule"),
    (
        "a run by hand is not the schedule's",
        checks.resumed_on_schedule,
        struck_at(45, run(0), run(50, scheduled=False, state="Crashed"), run(60)),
        PASS,
        "at 60",
    ),
    ("failed cleanly", checks.job_failed_cleanly, told(), PASS, "S3 is away"),
    (
        "left running",
        checks.job_failed_cleanly,
        told().__class__("t", {}, "s", struck=(run(0, state="Running"),)),
        FAIL,
        "left Running",
    ),
    (
        "a traceback",
        checks.job_failed_cleanly,
        replace(told(), struck=(run(0, state="Failed", message="x" * 2000),)),
        FAIL,
        "2000",
    ),
    ("silent", checks.job_failed_cleanly, replace(told(), struck=(run(0, state="Crashed"),)), FAIL, "0 characters"),
    ("nothing struck", checks.job_failed_cleanly, EMPTY, UNKNOWN, "no run"),
]


@pytest.mark.parametrize(
    ("check", "evidence", "verdict", "text"), [h[1:] for h in HISTORIES], ids=[h[0] for h in HISTORIES]
)
def test_a_check_says_what_the_history_shows(check: Check, evidence: Evidence, verdict: Verdict, text: str) -> None:
    """The verdict, and the figure or the name that matters."""
    found = check(evidence)
    assert (found.verdict, text in found.why) == (verdict, True), found


BACK = "commit 1 of the baseline is no longer in the history of lake.trades: the table was rolled back to one before it"
UNREAD = replace(exported(), commits=(), symptoms={"trouble": {"archive": "S3 is away"}})


def test_a_rollback_behind_the_baseline_is_a_fail_that_says_so() -> None:
    """And the position that was seen to fall is another, though no commit can be read."""
    symptoms = {"archive.rolled_back": BACK, "trouble": {"archive": BACK}}
    rolled = replace(exported(table=samples(20, 10)), commits=(), symptoms=symptoms)
    found = checks.snapshots_whole(rolled)
    assert (found.verdict, found.why) == (FAIL, BACK)
    assert checks.watermark(rolled).why == f"{SLOT}: the position fell from 20 to 10"


def test_a_commit_that_was_taken_back_beside_the_run_is_a_fail() -> None:
    """Also where commits have no position: the archive's heads fell."""
    heads = {"archive/head/binance/BTCUSDT": samples(20, 30, 20)}
    found = checks.snapshots_whole(replace(unplaced(), samples=heads))
    assert (found.verdict, "up to id 30, and later to 20" in found.why) == (FAIL, True)


def test_two_looks_side_by_side_show_no_fall() -> None:
    """The one that was asked for later may have been read earlier."""
    slow, quick = Sample(0, 3 * S, 30.0), Sample(S, S, 20.0)
    assert timings.fall([slow, quick]) is None
    assert timings.fall([slow, quick, Sample(4 * S, 0, 20.0)]) == (30.0, 20.0)


def test_what_keeps_the_commits_from_being_read_is_the_reason() -> None:
    """Not that there are none, nor that nothing was sampled."""
    assert checks.snapshots_whole(UNREAD).why == (
        "there is nothing to judge: the commits could not be read: S3 is away"
    )
    assert checks.watermark(UNREAD).why == "the archive's commits could not be read: S3 is away"
    assert {checks.snapshots_whole(UNREAD).verdict, checks.watermark(UNREAD).verdict} == {UNKNOWN}


@pytest.mark.parametrize("error", [RolledBack(BACK, definite=True), DriverError("S3 is away", definite=True)])
def test_an_archive_that_cannot_be_read_hides_nothing_of_its_job(error: DriverError) -> None:
    """Its runs are read all the same, and the other way round."""
    done = JobRun("1", "otter", "Completed", 1, 2, due_us=1, scheduled=True)

    def commits(_: str | None) -> Any:
        raise error

    job = SimpleNamespace(interval_s=lambda: 30.0, runs=lambda since_us: [done])
    run: Any = SimpleNamespace(
        baseline=NORMAL,
        commit="1",
        commits=(),
        jobs=(),
        symptoms={},
        doing="",
        lasts=lambda: None,
        log=print,
        stack=stack_of(live({"exchange": None}), export=lambda: (SimpleNamespace(commits=commits), job)),
    )
    digests, trouble = verify._exported(run)
    assert digests == ()
    assert run.jobs == (done,)
    assert run.symptoms["job.interval_s"] == 30.0
    assert trouble == {"archive": str(error)}
    assert ("archive.rolled_back" in run.symptoms) is isinstance(error, RolledBack)


def exports(*archive: float | None, clock_s: float = 2.0) -> Evidence:
    """The ledger has a record a second; the archive's head once a second; struck at 1 s."""
    return replace(
        EMPTY,
        archive="archive",
        affected=(A,),
        inject_ns=1 * S,
        clock_ns=int(clock_s * S),
        samples={
            "head/exchange/binance/BTCUSDT": samples(*(float(n) for n in range(20))),
            "archive/head/binance/BTCUSDT": samples(*archive, first_s=0.5),
        },
    )


def test_an_archive_is_back_when_it_has_what_existed_at_the_clock_s_start() -> None:
    """Not at the first commit, but at the first that holds the head of the clock's start; from both starts."""
    found = timings.measure(exports(0, 0, 0, 1, 1, 5, 5, 5))
    assert (found["mttr"].low_s, found["mttr"].high_s) == (2.5, 3.5)
    assert (found["restore"].low_s, found["restore"].high_s) == (3.5, 4.5)
    assert found["drain"] == found["restore"]


def test_an_archive_that_never_has_it_is_not_back() -> None:
    """It is known to be behind up to the last sample."""
    found = timings.measure(exports(0, 0, 1, 1, 1))["mttr"]
    assert (found.high_s, "not exported" in found.why) == (None, True)


def test_an_archive_that_was_not_sampled_is_unmeasured() -> None:
    """Not 0."""
    found = timings.measure(exports())["mttr"]
    assert (found.low_s, found.high_s) == (None, None)
    assert "no samples" in found.why


def test_a_link_s_outage_lasts_from_the_act_to_the_heal() -> None:
    """A component that answers throughout was out as long as its link was cut."""
    from gameday.model import Act

    act = Act("a", "r", 5 * S, 0, "fault", "partition", {"component": "c", "link": "l"}, {}, "g", "cut", 6 * S, 9 * S)
    assert timings.outage(replace(EMPTY, component="c", acts=(act,))) == (6 * S, 9 * S)
    assert timings.outage(replace(EMPTY, component="c", acts=(replace(act, args={"component": "c"}),))) == (None, None)

"""The machine as a suspect: what it tells of itself, when it was short of time, and which fails it excuses."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from gameday import samplelog
from gameday.drivers.machine import TICKS_S, Probe
from gameday.errors import DriverError
from gameday.model import (
    Check,
    Digest,
    Evidence,
    Finding,
    Marks,
    Measure,
    RunResult,
    Sample,
    Samples,
    Tally,
    Timed,
    Trend,
    Verdict,
    Window,
)
from gameday.verdict import checks, machine, selftest
from tasks import compare

NS = 1_000_000_000
FAIL, UNKNOWN = Verdict.FAIL, Verdict.UNKNOWN


def kernel(folder: Path, pressure_us: dict[str, int], steal: int = 0) -> Path:
    (folder / "pressure").mkdir()
    for name, total_us in pressure_us.items():
        lines = f"some avg10=94.73 avg60=96.30 avg300=82.94 total={total_us}\nfull avg10=0.00 avg60=0 total=7\n"
        (folder / "pressure" / name).write_text(lines)
    (folder / "stat").write_text(f"cpu  10 20 30 40 50 60 70 {steal} 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0\n")
    return folder


def test_it_reads_what_the_kernel_tells(tmp_path: Path) -> None:
    """Seconds of waiting for each resource, and each processor's share of what went to other machines."""
    found = Probe(kernel(tmp_path, {"cpu": 7_500_000, "memory": 0, "io": 250_000}, steal=TICKS_S * 3)).read()
    assert found == {"cpu": 7.5, "memory": 0.0, "io": 0.25, "stolen": 3 / (os.cpu_count() or 1)}


def test_a_kernel_without_pressure_tells_only_what_was_stolen(tmp_path: Path) -> None:
    """Then the sampler's lateness is the other witness."""
    assert set(Probe(kernel(tmp_path, {}, steal=5)).read()) == {"stolen"}


def test_without_proc_there_is_no_answer(tmp_path: Path) -> None:
    """And no figure of zero."""
    with pytest.raises(DriverError, match="stat"):
        Probe(tmp_path).read()


def test_this_machine_tells_of_itself() -> None:
    """What is read here and now has grown since the start, and never falls."""
    first, second = Probe().read(), Probe().read()
    assert all(second[name] >= first[name] >= 0 for name in first)


def told(
    spans: Sequence[tuple[float, float]] = (), of: str = "cpu", late_s: float = 0.001, until_s: float = 100.0
) -> Samples:
    """Four looks a second at a machine whose figure `of` is at its worst in these spans, and small outside."""

    def waited(t: float) -> float:
        return 0.2 * t + 0.8 * sum(max(0.0, min(t, end) - begin) for begin, end in spans)

    times = [n / 4 for n in range(int(until_s * 4))]
    late = [late_s if any(begin <= t < end for begin, end in spans) else 0.001 for t in times]
    found = {"machine/late": [Sample(int(t * NS), 1, s) for t, s in zip(times, late, strict=True)]}
    if of != "late":
        found[f"machine/{of}"] = [Sample(int(t * NS), 1, waited(t)) for t in times]
    return found


def span(from_s: float, to_s: float, over_s: float | None = None) -> Timed:
    return Timed(int(from_s * NS), int(to_s * NS), over_s)


@pytest.mark.parametrize(
    ("samples", "timed", "excused"),
    [
        (told([(0, 100)]), span(10, 50), True),
        (told(), span(10, 50), False),
        (told([(0, 10)]), span(10, 50), False),
        (told([(51, 100)]), span(10, 50), False),
        (told([(10, 20)]), span(10, 50), False),
        (told([(10, 31)]), span(10, 50), True),
        (told([(10, 20)]), span(10, 50, 9.0), True),
        (told([(10, 20)]), span(10, 50, 12.0), False),
        (told([(0, 100)], of="memory"), span(10, 50), True),
        (told([(0, 100)], of="io"), span(10, 50), True),
        (told([(0, 100)], of="stolen"), span(10, 50), True),
        (told([(0, 100)], of="late", late_s=0.5), span(10, 50), True),
        (told([(0, 100)], of="late", late_s=0.02), span(10, 50), False),
        ({}, span(10, 50), False),
    ],
)
def test_an_excuse_is_earned(samples: Samples, timed: Timed, excused: bool) -> None:
    """Only by the moments that a finding is about, and by as much of them as it came too late by, or half of them."""
    failed = Finding("recovered", FAIL, "MTTR 130 s of 120 s", timed=timed)
    found = machine.excused(failed, samples)
    assert found.verdict is (UNKNOWN if excused else FAIL)
    assert found.why.startswith("the machine was busy (for ") is excused
    assert found.why.endswith("MTTR 130 s of 120 s")


@pytest.mark.parametrize(("share", "excused"), [(0.18, False), (0.31, True)])
def test_a_disk_that_is_kept_busy_is_an_excuse(share: float, excused: bool) -> None:
    """The most that a quiet night has had of it; and beside two processes that sync what they write, what made an alert
    fire that should stay silent."""
    quiet = told()
    samples = {**quiet, "machine/io": [Sample(int(n / 4 * NS), 1, share * n / 4) for n in range(400)]}
    assert (machine.busy(samples, span(10, 50)) is not None) is excused


def test_the_figures_are_in_the_reason() -> None:
    """For how long, by which figure, and how much of it."""
    samples = {**told([(0, 100)]), "machine/late": told([(0, 100)], of="late", late_s=0.31)["machine/late"]}
    found = machine.excused(Finding("c", FAIL, "too late", timed=span(10, 50)), samples)
    assert found.why == (
        "the machine was busy (for 40.0 of 40.0 s: tasks waited for a processor 100% of the time, the sampler was up "
        "to 0.31 s late): too late"
    )


def test_a_sampler_that_slept_is_a_machine_without_time() -> None:
    """A frozen or stolen machine writes nothing meanwhile; its first tick afterwards says how late it came."""
    at_s = [*range(20), 35, 36, 37, 38]
    late = [Sample(at * NS, 1, 15.0 if at == 35 else 0.001) for at in at_s]
    assert machine.busy({"machine/late": late}, span(18, 38, 14.0)) is not None
    assert machine.busy({"machine/late": late}, span(0, 18)) is None


def test_what_does_not_rest_on_time_stays_a_fail() -> None:
    """However busy the machine was."""
    assert machine.excused(Finding("no_loss", FAIL, "lost"), told([(0, 100)])).verdict is FAIL
    kept = machine.excused(Finding("no_loss", Verdict.PASS, "fine", timed=span(0, 1)), told([(0, 100)]))
    assert kept == Finding("no_loss", Verdict.PASS, "fine")


# ---- what the checks say of time ------------------------------------------------------------------------------------

RESTS_ON_TIME = {
    "never answered again": "recovered",
    "answering but serving nothing": "recovered",
    "back too late": "recovered",
    "never drained": "recovered",
    "back, and silent again": "recovered",
    "the other streams stalled": "isolation",
    "the other handler reconnected": "isolation",
    "another process restarted": "reconnected",
    "the log took nothing": "upstream_flows",
    "an outage that alerts nobody": "alert",
    "an alert that comes too late": "alert",
    "a page for what healed at once": "alert",
    "the mirror left behind": "watermark",
    "the topic served nothing": "served",
    "ingestion paused": "continuous",
    "the watermark stuck": "offsets_advance",
    "the next scheduled run took ten times as long": "resumed_on_schedule",
    "the schedule skipped a run": "resumed_on_schedule",
}
"""Plant of the selftest -> the check that finds it, and whose finding rests on time alone."""


def spoiled(name: str) -> tuple[Evidence, Check]:
    plant = next(p for p in selftest.PLANTS if p.name == name)
    history = selftest.clean()
    plant.spoil(history)
    first = RESTS_ON_TIME.get(name) or next(iter(plant.caught))
    return history.evidence(), getattr(checks, first)


def under_load(evidence: Evidence) -> Evidence:
    """The same samples on a machine that had no time left, second by second."""
    first = min(s[0].at_ns for s in evidence.samples.values() if s)
    shifted = {
        name: [replace(s, at_ns=s.at_ns + first - 20 * NS) for s in series] for name, series in told([(0, 100)]).items()
    }
    return replace(evidence, samples={**evidence.samples, **shifted})


@pytest.mark.parametrize("name", RESTS_ON_TIME)
def test_what_came_too_late_on_a_busy_machine_is_unknown(name: str) -> None:
    """The same is a fail on a machine that had time."""
    evidence, check = spoiled(name)
    assert machine.excused(check(evidence), evidence.samples).verdict is FAIL
    found = machine.excused(check(under_load(evidence)), under_load(evidence).samples)
    assert found.verdict is UNKNOWN
    assert found.why.startswith("the machine was busy (for ")


@pytest.mark.parametrize(
    "name",
    [
        plant.name
        for plant in selftest.PLANTS
        if FAIL in plant.caught.values() and plant.name not in RESTS_ON_TIME and "busy" not in plant.name
    ],
)
def test_all_else_is_a_fail_on_a_busy_machine_too(name: str) -> None:
    """Loss, doubling, change, position, a run that ended badly: for every check that the plant makes fail."""
    evidence, _ = spoiled(name)
    plant = next(p for p in selftest.PLANTS if p.name == name)
    for wanted in [check for check, verdict in plant.caught.items() if verdict is FAIL]:
        check: Check = getattr(checks, wanted)
        busy = under_load(evidence)
        assert machine.excused(check(busy), busy.samples).verdict is FAIL, wanted


def test_damage_beside_the_stall_is_no_excuse_for_it() -> None:
    """Of a finding that rests on both, what doesn't rest on time remains."""
    history = selftest.clean()
    history.timeline = replace(history.timeline, others_frozen=(0.5, 2.0))
    history.silver[selftest.OTHERS[0]] = {n: c[1:] for n, c in history.silver[selftest.OTHERS[0]].items()}
    evidence = under_load(history.evidence())
    assert machine.excused(checks.isolation(evidence), evidence.samples).verdict is FAIL


def test_a_restart_after_recovery_is_no_matter_of_time() -> None:
    """A component that was started once more is one that ended."""
    evidence = under_load(selftest.clean().evidence())
    assert evidence.healed is not None
    assert evidence.ends is not None
    began = {"writer-east": {"pid": 8}}
    again = replace(evidence, healed=replace(evidence.healed, identities=began))
    found = machine.excused(checks.recovered(again), again.samples)
    assert (found.verdict, "started once more" in found.why) == (FAIL, True)


GROUP = ("binance", "BTCUSDT")


def short(keys: int, hi: int, not_passed: tuple[str, ...]) -> Evidence:
    """A hop that has some of ten records."""
    right = Tally(10, 10, 1, 10, 77)
    held = Tally(keys, keys, 1, hi, 5)
    marks = [Marks(at * NS, 0) for at in (10, 50)]
    return Evidence(
        "t",
        {},
        "s",
        healed=marks[0],
        ends=marks[1],
        window=Window({GROUP: 0}, {GROUP: 10}),
        digests=(
            Digest("trades", "exchange", "final", {GROUP: right}),
            Digest("trades", "silver", "final", {GROUP: held}),
        ),
        symptoms={"not_passed": list(not_passed)},
        samples=told([(0, 100)]),
    )


@pytest.mark.parametrize(
    ("evidence", "verdict"),
    [
        (short(7, 7, ("silver",)), UNKNOWN),
        (short(7, 7, ()), FAIL),
        (short(7, 8, ("silver",)), FAIL),
        (replace(short(7, 7, ("silver",)), samples=told()), FAIL),
    ],
)
def test_a_hop_that_had_not_come_so_far_yet_has_lost_nothing_for_certain(evidence: Evidence, verdict: Verdict) -> None:
    """Only the newest records may still come, and only of a hop that was seen not to have passed the window's end."""
    assert machine.excused(checks.no_loss(evidence), evidence.samples).verdict is verdict


def slower(samples: Samples) -> RunResult:
    """A run that recovered as promised, in 20 s instead of 5."""
    evidence = replace(selftest.clean().evidence(), samples=samples, inject_ns=10 * NS)
    result = result_of(Finding("trend", FAIL, "recovered as promised, but slower"))
    return compare._excused(result, evidence)


def result_of(finding: Finding) -> RunResult:
    measures = {"mttr": Measure(19.0, 20.0)}
    trends = (Trend("mttr", 20, 5.0, 6.0, 0.001, worse=True),)
    return RunResult(
        "r", "n", "t", {}, "s", finding.verdict, finding.why, "", 1.0, 60, 60, measures, {}, (finding,), (), trends
    )


def test_slower_than_its_history_on_a_busy_machine_is_unknown() -> None:
    """And a fail on one that had time for all but a few seconds of it."""
    assert [slower(told(spans)).verdict for spans in ([(0, 100)], [(10, 15)], [])] == [UNKNOWN, FAIL, FAIL]
    assert slower(told([(0, 100)])).why.startswith("the machine was busy (")


def test_a_run_whose_time_is_over_says_what_took_it(tmp_path: Path) -> None:
    """What it was waiting for, since when, and how busy the machine was."""
    from gameday.run import Halt, Run
    from gameday.undo.guardian import OUT_OF_TIME

    folder = tmp_path / "samples"
    folder.mkdir()
    lines = [samplelog.opening("machine")]
    lines += [samplelog.reading(n * NS // 4, 1, {"cpu": n / 4, "late": 0.01}) for n in range(40_000)]
    (folder / "0.jsonl").write_bytes(b"".join(lines))
    run = object.__new__(Run)
    run.guardian = SimpleNamespace(alive=False, end=OUT_OF_TIME, why=f"aborted: {OUT_OF_TIME}")  # type: ignore[assignment]
    run.id, run.began_ns, run.doing = "r", 10 * NS, "waiting for 'job_idle' (run 7 of its job is Running)"
    run.stack = SimpleNamespace(state=SimpleNamespace(samples=lambda _: folder))  # type: ignore[assignment]
    with pytest.raises(Halt, match=r"aborted: its time to live ended after \d+ s, while it was waiting for 'job_idle'"):
        run.held()

"""Waiting for recovery: what may begin beside a run, and when."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest

from gameday.errors import ConfigError, DriverError
from gameday.model import JobRun, Look, Marks, Measure, Now, Shards, Verdict
from gameday.plan import Await
from gameday.run import Halt, Run
from gameday.sampling import conditions
from tasks.wait import wait, wait_recovered

SEEN = Measure(1.0, 1.1)
UNSEEN = Measure(1.0, None, "not yet")


class Waiting:
    """Stands in for a run that waits; it notes what it does. begin: what waits for the platform to be back."""

    def __init__(self, archive: bool, *measures: Measure) -> None:
        self.order: list[str] = []
        self.test = SimpleNamespace(archive=archive, mttr_max_s=60.0, drain_max_s=60.0)
        self.baseline = self.healed = self.recovered = None
        self.followed: dict[str, Any] = {"trades": SimpleNamespace(shards=None, bound_s=1.0)}
        self.looks: list[Look] = []
        self.stack = SimpleNamespace()
        self.job = JobRun("1", "otter", "Running", 1, None, due_us=1, scheduled=True)
        self.name, self.once_back = "t", lambda: self.order.append("prepare the next")
        self.said: list[str] = []
        self._measures = iter(measures)
        self._at_s = count(step=2)

    def now(self) -> Any:
        """Two seconds later at each look."""
        return SimpleNamespace(at_ns=next(self._at_s) * 1_000_000_000, struck=(), samples={})

    def seen_back(self) -> None:
        Run.seen_back(self)  # type: ignore[arg-type]

    def clock_us(self) -> int:
        return 0

    def evidence(self) -> Any:
        self.order.append("evidence")
        measure = next(self._measures)
        return SimpleNamespace(measures={"mttr": measure, "restore": measure, "drain": measure}, inject_ns=None)

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waits; the stack can be marked."""
    monkeypatch.setattr("tasks.wait.LOOK_EVERY_S", 0.001)
    monkeypatch.setattr("tasks.wait.marks", lambda stack: Marks(0, 0))


def test_the_next_run_is_prepared_once_all_is_good_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not while anything is behind: what a start costs would be measured as the platform's. And once."""
    run = Waiting(False, UNSEEN, SEEN)
    looks = iter([False, False, True, True])

    def drained(_: object) -> bool:
        good = next(looks)
        run.order.append("drained" if good else "behind")
        return good

    monkeypatch.setattr("gameday.sampling.conditions.restored", lambda now: True)
    monkeypatch.setattr("gameday.sampling.conditions.drained", drained)
    wait_recovered.fn(run)  # type: ignore[arg-type]
    assert run.order == ["behind", "behind", "drained", "prepare the next", "evidence", "drained", "evidence"]
    assert run.recovered


def test_what_cant_be_measured_any_more_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """All is good, and no later sample tells since when: the run goes on, and says why it is not known."""
    run = Waiting(False, UNSEEN, UNSEEN)
    looks = iter([False, True])
    monkeypatch.setattr("gameday.sampling.conditions.restored", lambda now: True)
    monkeypatch.setattr("gameday.sampling.conditions.drained", lambda now: True)
    monkeypatch.setattr("gameday.sampling.timings.settled", lambda seen: next(looks))
    wait_recovered.fn(run)  # type: ignore[arg-type]
    assert run.order == ["prepare the next", "evidence", "evidence"]
    assert run.said == ["t: all is good; since when can't be told: not yet"]


def test_where_shards_are_sampled_each_group_is_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples are read once a look has found none behind; every look is kept, for the measures rest on them. A server
    that doesn't answer is asked again."""
    run = Waiting(False, SEEN)
    run.followed["trades"] = SimpleNamespace(shards=Shards((), 64), bound_s=1.5)
    found: Iterator[Look | DriverError] = iter(
        [Look("trades", 1, 2, behind=1), DriverError("away", definite=True), Look("trades", 3, 4)]
    )

    def look(_: object, stream: str, bound_s: float) -> Look:
        told = next(found)
        run.order.append(f"look at {stream} for {bound_s} s")
        if isinstance(told, DriverError):
            raise told
        return told

    monkeypatch.setattr("gameday.sampling.conditions.restored", lambda now: True)
    monkeypatch.setattr("gameday.sampling.conditions.drained", lambda now: True)
    monkeypatch.setattr("tasks.apart.look", look)
    wait_recovered.fn(run)  # type: ignore[arg-type]
    assert run.order == [*["look at trades for 1.5 s"] * 3, "prepare the next", "evidence"]
    assert [look.behind for look in run.looks] == [1, 0]


def test_beside_a_job_that_has_to_run_nothing_is_prepared() -> None:
    """Its run is what is measured: the next one is prepared when it has ended, and samples are read from then on."""
    run = Waiting(True, SEEN)
    ended = JobRun("1", "otter", "Completed", 1, 2, due_us=1, scheduled=True)
    looks = iter([run.job, run.job, ended])

    def runs(since_us: int) -> list[JobRun]:
        run.order.append("look at the job")
        return [next(looks)]

    run.stack = SimpleNamespace(export=lambda: (None, SimpleNamespace(runs=runs)))
    wait_recovered.fn(run)  # type: ignore[arg-type]
    assert run.order == [*["look at the job"] * 3, "prepare the next", "evidence"]


@pytest.mark.parametrize(("busy", "verdict"), [("for 9 of 9 s", Verdict.UNKNOWN), (None, Verdict.FAIL)])
def test_a_promise_that_a_busy_machine_broke_is_no_fail(busy: str | None, verdict: Verdict) -> None:
    """What was waited for is in the reason, and how busy the machine was."""
    run: Any = SimpleNamespace(
        still_broken=lambda: None,
        now=lambda at_least_s: None,
        fired=dict,
        busy=lambda since_ns: busy,
        name="t",
        doing="",
    )
    with pytest.raises(Halt, match="'never', which did not come") as raised:
        wait.fn(run, Await(never, within_s=0.01, promise=True))
    assert raised.value.verdict is verdict
    assert ("the machine was busy (for 9 of 9 s)" in str(raised.value)) is (busy is not None)
    assert run.doing == "waiting for 'never'"


def never(now: Now) -> bool:
    """It never is."""
    return False


def test_a_plan_may_wait_for_a_lag_that_is_longer_than_what_is_read_anyway() -> None:
    """Else it waits in vain: a lag is seen no longer than the samples go back."""
    asked: list[float] = []

    def now(at_least_s: float) -> Any:
        asked.append(at_least_s)
        return SimpleNamespace(each=lambda: (), fired={})

    given: Any = {"still_broken": lambda: None, "now": now, "fired": dict, "busy": lambda since_ns: None, "doing": ""}
    run: Any = SimpleNamespace(name="t", **given)
    with pytest.raises(Halt):
        wait.fn(run, Await(conditions.any_of(conditions.behind(45), never), within_s=0.01))
    assert set(asked) == {50.0}
    with pytest.raises(ConfigError, match=r"behind\(300\): samples of 110 s are kept"):
        conditions.behind(300)
    assert conditions.looks_back_s(conditions.well(20)) == 20.0
    with pytest.raises(ConfigError, match=r"well\(120\)"):
        conditions.well(120)

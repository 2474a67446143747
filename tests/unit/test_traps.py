"""Faults that lie in wait: a plan waits for their firing, and a run in which one never fired is invalid."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from gameday.model import Act, Verdict
from gameday.plan import Await
from gameday.run import Halt
from gameday.sampling.conditions import fired
from tasks.heal import prove_nothing_left
from tasks.wait import wait

ARMED = Act("r1-1", "r1", 1, 1, "fault", "failpoint", {"component": "web", "point": "spot", "term": "kill"}, {}, "g")


class Script:
    """Stands in for a run with one armed failpoint that has fired so often."""

    def __init__(self, times: int) -> None:
        self.name, self.stack = "test", None
        self.acts = (ARMED,)
        self.times = times
        self.said: list[str] = []
        self.healed: list[str] = []

    def fired(self) -> dict[str, int]:
        return {"spot": self.times}

    def now(self, at_least_s: float = 0.0) -> Any:
        return SimpleNamespace(fired=self.fired())

    def still_broken(self) -> None:
        """Nobody has mended it."""

    def busy(self, since_ns: int) -> None:
        """The machine had time."""

    def held(self) -> Any:
        return self

    def prove(self, act_id: str, within_s: float) -> Any:
        return SimpleNamespace(proof=f"{act_id} fired {self.times} times")

    def heal(self, act_ids: Sequence[str] | None, why: str) -> None:
        self.healed.append(why)

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture(autouse=True)
def nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stack is clean."""
    monkeypatch.setattr("gameday.undo.mending.nothing_left", lambda stack: [])


@pytest.mark.parametrize(
    ("times", "promise", "verdict"),
    [(0, False, Verdict.INVALID), (0, True, Verdict.FAIL), (1, False, Verdict.UNKNOWN), (1, True, Verdict.FAIL)],
)
def test_a_state_that_does_not_come_while_the_fault_never_fired_is_invalid(
    times: int, promise: bool, verdict: Verdict
) -> None:
    """Unless it was the platform's promise; and once the fault fired, it is unknown as always."""
    step: Any = Await(fired("spot", 2), within_s=0.0, promise=promise)
    with pytest.raises(Halt, match="spot fired 2 times") as halted:
        wait.fn(Script(times), step)  # type: ignore[arg-type]
    assert halted.value.verdict is verdict


def test_a_plan_waits_for_a_firing() -> None:
    """It goes on as soon as the point has fired."""
    script: Any = Script(1)
    wait.fn(script, Await(fired("spot"), within_s=0.0))
    assert script.said == ["test: spot fired"]


def test_a_fault_that_never_fired_is_invalid_at_the_end_of_the_plan() -> None:
    """Also when the plan didn't wait for it: the platform had nothing to survive."""
    script: Any = Script(0)
    with pytest.raises(Halt, match="spot was armed and never fired") as halted:
        prove_nothing_left.fn(script)
    assert halted.value.verdict is Verdict.INVALID


def test_how_a_fault_struck_is_noted_before_it_is_healed() -> None:
    """The journal's proof is the firing then, not the arming."""
    script: Any = Script(2)
    prove_nothing_left.fn(script)
    assert script.said == ["test: r1-1 fired 2 times"]
    assert script.healed == ["the end of the plan"]

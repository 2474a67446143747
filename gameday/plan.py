"""A failure test as data: what is broken, what is waited for, what is healed, what is judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from gameday.model import Check, Condition, Json
from gameday.ports import Fault

__all__ = ["Await", "FailureTest", "FiresWithin", "Heal", "Inject", "OfRole", "StaysSilent"]


@dataclass(frozen=True)
class Inject:
    """Break something: journal, act, prove that it bit."""

    fault: Fault


@dataclass(frozen=True)
class Await:
    """Wait for a state. Too late is unknown, or fail where the bound is the platform's promise."""

    condition: Condition
    within_s: float
    promise: bool = False


@dataclass(frozen=True)
class Heal:
    """Mend: one fault (the same value that was injected), or all that are open (None)."""

    fault: Fault | None = None


@dataclass(frozen=True)
class FiresWithin:
    """The platform's own alert of this name is inactive at baseline, and firing so soon after its impact.

    component: whose alert; None: the struck component's.
    """

    alert: str
    within_s: float
    component: str | None = None


@dataclass(frozen=True)
class StaysSilent:
    """The platform's own alert of this name does not fire: what heals this soon pages nobody. component: as above."""

    alert: str
    component: str | None = None


@dataclass(frozen=True)
class OfRole:
    """The alert that [alerts.roles] names for what is done to a component of the struck one's role, FiresWithin
    FIRES_WITHIN_S; where it names none nothing is asked of alerts. done: the name of the general test."""

    done: str


FIRES_WITHIN_S = 300.0
"""For an alert of OfRole: rules wait, and are judged each minute."""


@dataclass(frozen=True, kw_only=True)
class FailureTest:
    """A failure test as data. name and question come from the function that returned it (see tasks.run.failure_test).

    nightly: the parameter sets worth running, the canonical one first. archive: the test is about the job that fills
    the stack's archive: recovered is when the archive has what existed at the clock's start. alert: a plan whose alert
    must fire ends with a Heal, which waits for it, or strikes only once. members: whether one member is struck, or all,
    where a fault names a role with several (Stack.resolved).
    """

    plan: tuple[Inject | Await | Heal, ...]
    mttr_max_s: float
    checks: tuple[Check, ...]
    drain_max_s: float = 120.0
    archive: bool = False
    alert: FiresWithin | StaysSilent | OfRole | None = None
    members: Literal["one", "all"] = "one"
    nightly: tuple[Mapping[str, Json], ...] = ({},)

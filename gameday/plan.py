"""A failure test as data: what it breaks, what it waits for, what it heals, and how it is judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from gameday.model import Check, Condition, Json
from gameday.ports import Fault

__all__ = ["Await", "FailureTest", "FiresWithin", "Heal", "Inject", "OfRole", "StaysSilent"]


@dataclass(frozen=True)
class Inject:
    """Break something: write it to the journal, carry it out, prove that it took effect."""

    fault: Fault


@dataclass(frozen=True)
class Await:
    """Wait for a state. If it comes too late the run is unknown, or a fail where the bound is the platform's
    promise."""

    condition: Condition
    within_s: float
    promise: bool = False


@dataclass(frozen=True)
class Heal:
    """Heal one fault (the same value that was injected), or with None all faults that are open.

    If the plan has injected this value several times, all of these acts are healed.
    """

    fault: Fault | None = None


@dataclass(frozen=True)
class FiresWithin:
    """Demand that the platform's own alert of this name is inactive at the baseline and fires within within_s of the
    fault.

    component: the component that the alert is about; None: the struck one.
    """

    alert: str
    within_s: float
    component: str | None = None


@dataclass(frozen=True)
class StaysSilent:
    """Demand that the platform's own alert of this name does not fire: what heals this soon should page nobody.

    component: as in FiresWithin.
    """

    alert: str
    component: str | None = None


@dataclass(frozen=True)
class OfRole:
    """Demand the alert that [alerts.roles] names for this fault and the struck component's role, FiresWithin
    FIRES_WITHIN_S.

    If [alerts.roles] names none, no alert is demanded. done: the name of the general test, which is the key there.
    """

    done: str


FIRES_WITHIN_S = 300.0
"""How soon an alert of OfRole must fire. Alert rules have a waiting time of their own, and are evaluated each
minute."""


@dataclass(frozen=True, kw_only=True)
class FailureTest:
    """A failure test as data. Its name and question come from the function that returns it (see tasks.failure_test).

    nightly: the parameter sets that a night runs, the most usual one first.
    archive: the test is about the job that fills the stack's archive. The platform is then back when the archive has
        what existed at the clock's start.
    alert: what is demanded of the platform's alerts. A plan whose alert must fire ends with a Heal, which waits for it,
        or strikes only once.
    members: whether one member or all are struck, where a fault names a role with several (Stack.resolved).
    """

    plan: tuple[Inject | Await | Heal, ...]
    mttr_max_s: float
    checks: tuple[Check, ...]
    drain_max_s: float = 120.0
    archive: bool = False
    alert: FiresWithin | StaysSilent | OfRole | None = None
    members: Literal["one", "all"] = "one"
    nightly: tuple[Mapping[str, Json], ...] = ({},)

"""The failure tests of the CDC platform as data: each set of parameters gives a plan that its gameday.toml can carry
out."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

import pipelines.cdc.sink  # noqa: F401 - declares the failpoints
from compose.cdc.processes import CONFIG
from failpoints.points import known
from flows import catalogue
from gameday.faults.failpoint import Failpoint
from gameday.plan import FiresWithin, Heal, Inject, StaysSilent
from gameday.ports import Asks
from gameday.runbooks import blocks
from gameday.state import ROOT
from pipelines.cdc.tape import KINDS
from tasks.definition import definition

TESTS = catalogue(CONFIG)
DECLARED = tomllib.loads(CONFIG.read_text())
EACH = [(name, params) for name, flow in TESTS.items() for params in definition(flow)().nightly]
LASTING = ("Stop", "Pause", "Harm", "Partition", "Blackhole")


def plan_of(name: str, params: Any) -> Any:
    return definition(TESTS[name])(**params)


@pytest.mark.parametrize(("name", "params"), EACH, ids=str)
def test_a_plan_names_only_what_the_platform_has(name: str, params: Any) -> None:
    """Components that opted in, jobs, links, and failpoints that somebody declares."""
    test = plan_of(name, params)
    for fault in (step.fault for step in test.plan if isinstance(step, Inject)):
        assert DECLARED["components"][fault.component]["opt_in"]
        if isinstance(fault, Asks):
            assert fault.job in DECLARED["jobs"]
        if hasattr(fault, "link"):
            assert fault.link in DECLARED["links"]
        if isinstance(fault, Failpoint):
            inside = DECLARED["components"][fault.component]["points"].get("declared") or known()
            assert fault.point in inside


@pytest.mark.parametrize(("name", "params"), EACH, ids=str)
def test_what_lasts_is_healed_by_the_plan(name: str, params: Any) -> None:
    """Whatever holds until it is healed has a Heal behind it; and a runbook of this name has a diagnosis for these
    parameters, and a verification."""
    steps = [step for step in plan_of(name, params).plan if isinstance(step, Inject | Heal)]
    lasting = [at for at, s in enumerate(steps) if isinstance(s, Inject) and type(s.fault).__name__ in LASTING]
    healed = [at for at, step in enumerate(steps) if isinstance(step, Heal)]
    assert not lasting or (healed and healed[-1] > lasting[-1])
    meant = [one.kind for one in blocks.read(ROOT / "runbooks" / "cdc" / f"{name}.md") if one.meant_for(params)]
    assert {blocks.DIAGNOSIS, blocks.VERIFY} <= set(meant)


def test_an_alert_of_each_test_is_one_of_the_platform_s() -> None:
    """By its name in alerts.yml."""
    rules = (CONFIG.parent / "alerts.yml").read_text()
    alerts = [plan_of(name, params).alert for name, params in EACH]
    assert all(isinstance(alert, FiresWithin | StaysSilent) for alert in alerts)
    assert [alert.alert for alert in alerts if f"alert: {alert.alert} " not in f"{rules} ".replace("\n", " ")] == []


def test_every_kind_of_poison_is_asked_for_by_a_test() -> None:
    """But for one that the target never sees: the sink can't read it."""
    faults = [step.fault for name, params in EACH for step in plan_of(name, params).plan if isinstance(step, Inject)]
    jobs = {fault.job for fault in faults if isinstance(fault, Asks)}
    assert {f"poison-{kind.replace('_', '-')}" for kind in KINDS if kind != "malformed"} <= jobs

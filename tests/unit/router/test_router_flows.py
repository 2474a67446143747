"""The router's failure tests ask for what there is: points of its programs, jobs and links of each of its platforms."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from flows import catalogue
from gameday.plan import FailureTest, Heal, Inject
from gameday.state import ROOT
from tasks.definition import definition, question

PLATFORMS = sorted(path.parent for path in ROOT.glob("compose/router*/gameday.toml"))
CODE = "".join(path.read_text() for path in sorted((ROOT / "pipelines" / "router").glob("*.py")))
CASES = [
    (name, params)
    for name, flow in catalogue(ROOT / "compose" / "router" / "gameday.toml").items()
    for params in definition(flow)().nightly
]


def _made(name: str, params: dict[str, Any]) -> FailureTest:
    flow = catalogue(ROOT / "compose" / "router" / "gameday.toml")[name]
    return definition(flow)(**params)


@pytest.mark.parametrize(("name", "params"), CASES, ids=str)
def test_a_plan_names_only_what_there_is(name: str, params: dict[str, Any]) -> None:
    """Each point in the code, each job and link in every platform's file; what is held is let go at its end."""
    test = _made(name, params)
    steps = [step for step in test.plan if isinstance(step, Inject | Heal)]
    faults: list[Any] = [step.fault for step in steps if isinstance(step, Inject)]
    assert faults
    for fault in faults:
        if hasattr(fault, "point"):
            kind, _, at = fault.point.partition("::")
            assert f'"{fault.point}"' in CODE or (kind == "broker" and re.fullmatch(r"(before|after)_\w+", at))
        for platform in PLATFORMS:
            told = (platform / "gameday.toml").read_text()
            assert f"[components.{fault.component}]" in told
            assert not hasattr(fault, "job") or f"[jobs.{fault.job}]" in told
            assert not hasattr(fault, "link") or f"\n{fault.link} = " in told
    if any(type(fault).__name__ in ("Stop", "Pause", "Reset", "Partition", "Blackhole", "Latency") for fault in faults):
        assert isinstance(steps[-1], Heal)


def test_every_test_asks_a_question_and_has_a_runbook() -> None:
    """And no runbook is without a test."""
    tests = catalogue(ROOT / "compose" / "router" / "gameday.toml")
    assert {name for name, flow in tests.items() if not question(definition(flow)).endswith("?")} == set()
    assert set(tests) == {path.stem for path in Path(ROOT / "runbooks" / "router").glob("*.md")}

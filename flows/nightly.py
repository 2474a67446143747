"""The night: selftest, then each failure test, then one digest of the whole history. One failing test does not stop
it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, cast

from prefect import State, flow, tags
from prefect.context import FlowRunContext
from prefect.flows import Flow
from prefect.states import Completed, Failed

from flows import catalogue, find
from gameday import lease
from gameday.config import PrefectConfig
from gameday.model import Json, Verdict
from gameday.run import new_id
from gameday.stack import Stack, open_stack
from tasks.closing import close_night
from tasks.run import Night, definition, night
from tasks.selftest import prove_checks

__all__ = ["Variants", "carry_out", "choose", "nightly"]

Variants = Literal["canonical", "rotating", "all"]
Chosen = Sequence[tuple[Flow[..., Any], dict[str, Json]]]


@flow(name="nightly", persist_result=False)
def nightly(tests: list[str] | None = None, variants: Variants = "rotating", stack: str = "") -> State[Any]:
    """Break the platform on purpose, test after test, and tell whether it recovers.

    Args:
        tests: names of failure tests; all when left out.
        variants: canonical runs each test's first parameter set, rotating adds another one that changes from day to
        day, all runs all.
        stack: path of a gameday.toml; the embedded stack's when left out.
    """
    opened = open_stack(Path(stack) if stack else None)
    if why := reason_to_skip(opened):
        return Completed(name="Skipped", message=why)
    here = carry_out(choose(tests, variants), opened, stack)
    verdict = here.verdict
    state = Completed if verdict in (Verdict.PASS, Verdict.SKIPPED) else Failed
    counted = ", ".join(f"{r.test} {r.verdict}" for r in here.results)
    return state(name=str(verdict).capitalize() if state is Failed else None, message=counted)


def choose(tests: Sequence[str] | None, variants: Variants) -> Chosen:
    """The flows and parameter sets of a night."""
    chosen: list[tuple[Flow[..., Any], dict[str, Json]]] = []
    for one in [find(name) for name in tests] if tests else catalogue().values():
        sets = list(definition(one)().nightly)
        others = sets[1:]
        if variants == "canonical":
            others = []
        elif variants == "rotating" and others:
            others = [others[datetime.now(UTC).timetuple().tm_yday % len(others)]]
        chosen += [(one, dict(params)) for params in (sets[0], *others)]
    return chosen


def reason_to_skip(stack: Stack) -> str | None:
    """Why a scheduled night must not start: nothing is injected at 9 in the morning because a worker came back."""
    context = FlowRunContext.get()
    run = context.flow_run if context is not None else None
    if run is None or not run.auto_scheduled:
        return None
    if held := lease.hold_reason(stack.state):
        return held
    return too_late(run.expected_start_time, datetime.now(UTC), stack.config.prefect)


def too_late(expected: datetime | None, now: datetime, config: PrefectConfig) -> str | None:
    """Why a night that was due at `expected` must not start any more; None while it may."""
    late_s = (now - expected).total_seconds() if expected is not None else 0.0
    if late_s <= config.late_max_s:
        return None
    return f"{late_s / 60:.0f} min late (at most {config.late_max_s / 60:.0f}): skipped, nothing was injected"


def carry_out(chosen: Chosen, opened: Stack, stack: str) -> Night:
    """Run the tests one after the other and write the night's files, also when it is interrupted."""
    here = night.get() or Night(new_id("night"))
    token = night.set(here)
    try:
        prove_checks(here)
        with tags("gameday", opened.name):  # deployments have them too: what watches our runs knows them by these
            for one, params in chosen:
                known = len(here.results)
                state = cast("State[Any]", one(**params, stack=stack, return_state=True))
                if len(here.results) == known:  # not even a verdict unknown: what it raised is told
                    state.result()
        if any(r.verdict is not Verdict.SKIPPED for r in here.results):
            close_night(here, opened)
    finally:
        here.write(opened)
        night.reset(token)
    return here

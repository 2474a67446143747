"""The night: selftest, then each failure test, then one digest of the whole history. One failing test does not stop
it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, cast
from uuid import UUID

from prefect import State, flow, tags
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.context import FlowRunContext
from prefect.flows import Flow
from prefect.states import Completed, Failed

from flows import catalogue, find, general
from gameday.errors import ConfigError, DriverError, GamedayError
from gameday.model import Json, Verdict
from gameday.plan import FailureTest, Inject
from gameday.reports.words import named
from gameday.run import new_id
from gameday.stack.config import PrefectConfig
from gameday.stack.live import Stack, open_stack
from gameday.stack.registry import near
from gameday.system import console, signals
from gameday.undo import lease
from tasks.closing import close_night
from tasks.definition import definition, parameter_sets, required
from tasks.night import Night, Planned, night
from tasks.publish import publish
from tasks.run import arguments
from tasks.selftest import prove_checks
from tasks.writeback import write_back

__all__ = ["Variants", "carry_out", "choose", "nightly"]

Variants = Literal["canonical", "rotating", "all"]
Chosen = Sequence[tuple[Flow[..., Any], dict[str, Json]]]


@flow(name="nightly", persist_result=False)
def nightly(
    tests: list[str] | None = None, variants: Variants = "rotating", stack: str = "", commit: bool = False
) -> State[Any]:
    """Break the platform on purpose, test after test, and tell whether it recovers.

    Args:
        tests: names of failure tests; all when left out.
        variants: canonical runs each test's first parameter set, rotating adds another one that changes from day to
        day, all runs all.
        stack: path of a gameday.toml; the embedded stack's when left out.
        commit: write the evidence into the runbooks on a branch of its own, not as a diff in the night's folder.
    """
    opened = open_stack(Path(stack) if stack else None)
    if why := reason_to_skip(opened):
        return Completed(name="Skipped", message=why)
    here = carry_out(choose(tests, variants, opened), opened, stack, commit)
    verdict = here.verdict
    state = Completed if verdict in (Verdict.PASS, Verdict.SKIPPED) else Failed
    counted = ", ".join(f"{r.test} {r.verdict}" for r in here.results)
    return state(name=str(verdict).capitalize() if state is Failed else None, message=counted)


def choose(tests: Sequence[str] | None, variants: Variants, stack: Stack | None = None) -> Chosen:
    """The flows and parameter sets of a night. Of those that the stack can't carry out only the first is in it, to say
    why, where no other can either; all are in all. What is in flows/any follows, unless tests are named, for each
    component for which the platform has no test of its own that does the same."""
    chosen: list[tuple[Flow[..., Any], dict[str, Json]]] = []
    path = None if stack is None else stack.path
    for one in [find(name, path) for name in tests] if tests else catalogue(path).values():
        if required(definition(one)):
            chosen += [(one, params) for params in parameter_sets(definition(one), stack.config if stack else None)]
            continue
        sets = list(definition(one)().nightly)
        if stack is not None and variants != "all":
            sets = [params for params in sets if _can_run(stack, definition(one)(**params))] or sets[:1]
        others = sets[1:]
        if variants == "canonical":
            others = []
        elif variants == "rotating" and others:
            others = [others[datetime.now(UTC).timetuple().tm_yday % len(others)]]
        chosen += [(one, dict(params)) for params in (sets[0], *others)]
    return chosen if tests or stack is None else [*chosen, *_general(stack)]


def _general(stack: Stack) -> Chosen:
    """The general tests that a night of this stack has. One that can't be carried out is left out: `gameday check`
    says why."""
    sets = {name: parameter_sets(definition(one), stack.config) for name, one in general().items()}
    asked = stack.config.tests.general
    wanted = [_wanted(entry, sets, f"{stack.path}: tests.general") for entry in (sets if asked is None else asked)]
    own = [definition(one) for one in catalogue(stack.path).values()]
    covered = {harm for test in own for params in test().nightly for harm in _harms(stack, test(**params))}
    return [
        (one, params)
        for name, one in general().items()
        for params in sets[name]
        if any(name == other and told.items() <= params.items() for other, told in wanted)
        if _can_run(stack, test := definition(one)(**params)) and not _harms(stack, test) <= covered
    ]


def _wanted(entry: str, sets: Mapping[str, Sequence[Mapping[str, Json]]], at: str) -> tuple[str, Mapping[str, Json]]:
    """The test that an entry of tests.general names, and the parameters that its runs must have: `crash`, or
    `crash component=web`. sets: of each general test the parameter sets that this stack has."""
    name, *told = entry.split()
    if name not in sets:
        raise ConfigError(f"{at} has {name!r}. {near(name, list(sets))}")
    params: dict[str, Json] = {key: value for key, _, value in (one.partition("=") for one in told)}
    if told and not any(params.items() <= one.items() for one in sets[name]):
        known = [" ".join([name, *(f"{key}={value}" for key, value in one.items())]) for one in sets[name]]
        raise ConfigError(f"{at} has {entry!r}. {near(entry, known)}")
    return name, params


def _harms(stack: Stack, test: FailureTest) -> set[tuple[type, str]]:
    """What a test does to whom."""
    plan = stack.resolved(test).plan
    return {(type(step.fault), step.fault.component) for step in plan if isinstance(step, Inject)}


def _can_run(stack: Stack, test: FailureTest) -> bool:
    try:
        return not stack.misses(test)
    except GamedayError:  # preflight tells what is wrong
        return True


def reason_to_skip(stack: Stack) -> str | None:
    """Why a scheduled night must not start: nothing is injected at 9 in the morning because a worker came back."""
    context = FlowRunContext.get()
    run = context.flow_run if context is not None else None
    if run is None or not run.auto_scheduled:
        return None
    if held := lease.hold_reason(stack.state):
        return held
    if trouble := not_well(stack):
        return trouble
    return too_late(run.expected_start_time, datetime.now(UTC), stack.config.prefect)


def not_well(stack: Stack) -> str | None:
    """Why a platform is left alone that has trouble of its own: one of its alerts fires, or can't be asked."""
    try:
        firing = stack.firing()
    except DriverError as e:
        return f"the platform's alerts can't be asked: {e}: skipped, nothing was injected"
    return f"the platform is not well, {', '.join(firing)} fires: skipped, nothing was injected" if firing else None


def too_late(expected: datetime | None, now: datetime, config: PrefectConfig) -> str | None:
    """Why a night that was due at `expected` must not start any more; None while it may."""
    late_s = (now - expected).total_seconds() if expected is not None else 0.0
    if late_s <= config.late_max_s:
        return None
    return f"{late_s / 60:.0f} min late (at most {config.late_max_s / 60:.0f}): skipped, nothing was injected"


def carry_out(chosen: Chosen, opened: Stack, stack: str, commit: bool = False) -> Night:
    """Run the tests one after the other and write the night's files, also when it is interrupted."""
    console.tolerate()
    signals.obey()
    here = night.get() or Night(new_id("night"))
    here.runs = len(chosen)
    token = night.set(here)
    try:
        ahead = [planned(definition(one), params) for one, params in chosen]
        for first in ahead[:1]:
            here.look_ahead(first, stack)
        prove_checks(here)
        progress = Progress(len(chosen))
        for number, (one, params) in enumerate(chosen):
            here.ahead = ahead[number:]
            progress.show(number, f"now {ahead[number].label}")
            known = len(here.results)
            # deployments have these too: what watches our runs knows them by the first
            with tags("gameday", opened.name, definition(one).__name__):
                state = cast("State[Any]", one(**params, stack=stack, return_state=True))
            if len(here.results) == known:  # not even a verdict unknown: what it raised is told
                state.result()
        progress.show(len(chosen), "every test has been run")
        if any(r.verdict is not Verdict.SKIPPED for r in here.results):
            _whole_history(here, opened)
            write_back(here, opened, commit)
            if {one.name for one, _ in chosen} >= {one.name for one in catalogue(opened.path).values()}:
                here.completed = datetime.now(UTC)
    finally:
        night.reset(token)
        here.drop_early()
        try:
            here.close(opened)
        finally:
            publish(here, opened)
    return here


def planned(test: Callable[..., FailureTest], params: dict[str, Json]) -> Planned:
    """A run of this test with these parameters."""
    name = test.__name__
    return Planned(name, arguments(test, params), test(**params), named(name, params))


def _whole_history(here: Night, opened: Stack) -> None:
    """The last step, also when Prefect doesn't see it."""
    try:
        close_night(here, opened)
    except Exception as e:
        if (interrupt := signals.hidden(e)) is not None:
            raise interrupt from e
        here.tell(f"{close_night.name}: not seen by Prefect: {e!r}")
        if all(f.check != "history" for f in here.findings):
            close_night.fn(here, opened)


class Progress:
    """How much of the night is done, as an artifact that grows in Prefect's UI; nowhere outside a flow run."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._artifact: UUID | None = None

    def show(self, done: int, what: str) -> None:
        """The share of the tests that are done. A Prefect that is away shows nothing, and stops nothing."""
        if FlowRunContext.get() is None or not self._total:
            return
        share, told = 100.0 * done / self._total, f"{done} of {self._total} tests done: {what}"
        with suppress(Exception):
            if self._artifact is None:
                self._artifact = cast("UUID", create_progress_artifact(share, key="night-progress", description=told))
            else:
                update_progress_artifact(self._artifact, share, description=told)

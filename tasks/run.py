"""Runs the steps of one failure test in order. Each step is a Prefect task in its own file; this file only decides
which step comes next and what happens when one fails.

`as_flow` makes a Prefect flow of a function that returns a FailureTest. The interpreter can also call the steps as
plain functions (`plain`), so its tests need no Prefect server.
"""

from __future__ import annotations

import functools
import inspect as reflection
import time
from collections.abc import Callable, Mapping
from concurrent import futures
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from typing import Any

from prefect import State, Task, flow
from prefect.flows import Flow
from prefect.states import Completed, Failed

from gameday import codec
from gameday.errors import DriverError, GamedayError
from gameday.model import Evidence, Finding, Json, RunResult, Verdict, merge
from gameday.plan import Await, FailureTest, FiresWithin, Heal, Inject
from gameday.reports.words import named
from gameday.run import Halt, Run, new_id, too_late
from gameday.stack.live import Stack
from gameday.system import console, signals
from gameday.verdict import checks
from tasks import runbook
from tasks.announce import announce
from tasks.baseline import baseline
from tasks.beside import beside
from tasks.compare import compare
from tasks.definition import STACK
from tasks.heal import heal, prove_nothing_left
from tasks.inject import inject
from tasks.night import Night, night
from tasks.notify import notify
from tasks.preflight import preflight
from tasks.publish import publish
from tasks.record import record, store
from tasks.verify import gather, judge
from tasks.wait import wait, wait_alert, wait_recovered

__all__ = [
    "arguments",
    "as_flow",
    "interpret",
    "plain",
    "tracked",
]

STACK_DOC = f"    stack: {STACK}"
"""The last line of the section Args in a failure test's docstring. Prefect takes the parameters' descriptions from that
section."""

Call = Callable[[Task[..., Any]], Callable[..., Any]]
"""How a step is called: `tracked` as a Prefect task, `plain` as the function it wraps."""


def tracked(step: Task[..., Any]) -> Callable[..., Any]:
    """Run the step as a Prefect task, so that Prefect's UI shows it."""
    return step


def plain(step: Task[..., Any]) -> Callable[..., Any]:
    """Run the step's function, without Prefect."""
    return step.fn


def as_flow(function: Callable[..., FailureTest]) -> Flow[..., State[Any]]:
    """Make the Prefect flow of a failure test.

    The flow has the function's name (with dashes) and parameters, and one more: `stack`, the path of a gameday.toml.
    Its state shows the verdict: pass is Completed, skipped is Completed with the name Skipped, every other verdict is
    Failed with the verdict's name.
    """
    name = function.__name__
    signature = reflection.signature(function)
    stack = reflection.Parameter("stack", reflection.Parameter.KEYWORD_ONLY, default="", annotation=str)

    @functools.wraps(function)
    def body(*args: Any, stack: str = "", **kwargs: Any) -> State[Any]:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return as_state(_run_test(name, function(**bound.arguments), bound.arguments, stack))

    body.__signature__ = signature.replace(parameters=[*signature.parameters.values(), stack])  # type: ignore[attr-defined]
    body.__doc__ = f"{reflection.getdoc(function)}\n{STACK_DOC}"
    body.__annotations__ = {**function.__annotations__, "stack": str, "return": State}
    prefect_flow = flow(
        name=name.replace("_", "-"), description=function.__doc__, validate_parameters=True, persist_result=False
    )(body)
    return prefect_flow


def arguments(function: Callable[..., FailureTest], given: Mapping[str, Json]) -> dict[str, Json]:
    """Return all arguments of a failure test: the given ones, and the defaults of the others."""
    bound_arguments = reflection.signature(function).bind(**given)
    bound_arguments.apply_defaults()
    return dict(bound_arguments.arguments)


def as_state(result: RunResult) -> State[Any]:
    """Return the Prefect state that shows this verdict."""
    if result.verdict is Verdict.PASS:
        return Completed(message=result.why)
    if result.verdict is Verdict.SKIPPED:
        return Completed(name="Skipped", message=result.why)
    return Failed(name=str(result.verdict).capitalize(), message=result.why)


def _run_test(name: str, test: FailureTest, params: Mapping[str, Json], stack: str) -> RunResult:
    """Run one test, as part of the present night if there is one, else as a night of its own."""
    console.tolerate()
    signals.obey()
    shared = night.get()
    current = shared or Night(new_id(name))
    run = current.begin(name, params, test, stack)
    ahead = tuple((one.label, one.test) for one in current.ahead) or ((named(name, params), test),)
    run.ahead = tuple((label, run.stack.resolved(following)) for label, following in ahead)
    run.trusted = current.trusted

    for following in current.ahead[1:2]:
        run.once_back = functools.partial(current.look_ahead, following, stack)
    try:
        return interpret(run, tracked, current.results.append, current.runs)
    finally:
        current.disturbed_ns = run.disturbs_ns
        if shared is None:
            _end(current, run.stack)


def _end(own_night: Night, opened: Stack) -> None:
    """Write and publish what a night leaves, for a run that was a night of its own."""
    if own_night.results:
        own_night.close(opened)
    publish(own_night, opened)


def interpret(
    run: Run,
    call: Call,
    keep: Callable[[RunResult], None],
    runs: int = 1,
) -> RunResult:
    """Run a test from preflight to its recorded result: preflight, baseline, the plan, heal, recovery, evidence,
    verdict, history.

    Whatever happens, faults are healed before anyone is told, and the result is kept. The runbook's verification and
    the gathering of evidence only read, so they run at the same time.

    Args:
        call: how a step is called, `tracked` or `plain`.
        keep: takes the result once there is a verdict.
        runs: how many runs the night has.

    Raises:
        Only interrupts (Ctrl-C, a signal, cancellation). An interrupt waits while faults are healed and the verdict is
        made. It then leaves a result, `unknown: aborted` unless the run was judged already, and is raised again.
        An error that gameday can explain becomes the verdict.
    """
    findings: tuple[Finding, ...] = ()
    halted: tuple[Verdict, str] | None = None
    interrupted: BaseException | None = None
    looking: list[Future[None]] = []

    def do(step: Task[..., Any], *what: Any) -> Any:
        run.enter(step.name)
        return call(step)(run, *what)

    def do_last(step: Task[..., Any], *what: Any) -> Any:
        """Return the step's answer, or None if the step failed: the user is told, and the verdict stays."""
        try:
            return do(step, *what)
        except Exception as e:
            if (interrupt := signals.hidden(e)) is not None:
                raise interrupt from e
            run.say(f"{run.name}: {step.name}: not seen by Prefect: {e!r}")
        try:
            return plain(step)(run, *what)
        except Exception as e:  # noqa: BLE001 - see above
            run.say(f"{run.name}: {step.name}: not done: {e!r}")
        return None

    with signals.Gate() as gate:
        try:
            with gate.opened():
                findings = _carry_out(run, do, looking)
        except Halt as e:
            halted = e.verdict, str(e)
        except GamedayError as e:
            halted = Verdict.UNKNOWN, str(e)
            if isinstance(e, DriverError) and not e.definite:  # a server did not answer
                halted = Verdict.UNKNOWN, str(too_late(run, *halted, run.entered_ns))
        except BaseException as e:  # noqa: BLE001 - it becomes a verdict unknown; interrupts go on upwards below
            interrupted = signals.hidden(e)
            halted = Verdict.UNKNOWN, f"aborted: {signals.name_of(interrupted or e)}"
        try:
            run.close()
        except Exception as e:  # noqa: BLE001 - whatever the error is, the user must first know what is still broken
            why = f"not everything could be mended: {e if isinstance(e, GamedayError) else repr(e)}"
            findings = (*findings, Finding("mended", Verdict.UNKNOWN, why)) if findings else ()
            halted = halted if findings else (Verdict.UNKNOWN, why)
        futures.wait(looking)  # the runbook's commands end once the run has given the stack back
        result = conclude(run, findings, halted)
        if interrupted is None:
            try:
                with gate.opened():
                    result = do_last(compare, result, runs) or result
            except BaseException as e:  # noqa: BLE001 - raised again below, once the verdict is kept
                interrupted = e
        keep(result)
        for last in (record, notify) if interrupted is None else ():
            try:
                with gate.opened():
                    do_last(last, result)
            except BaseException as e:  # noqa: BLE001 - raised again below, once the result is stored
                interrupted = e
                break
        if interrupted is not None:
            with suppress(Exception):  # the night's report has the result anyway
                store(run, result)
            raise interrupted
    return result


def _carry_out(run: Run, do: Callable[..., Any], looking: list[Future[None]]) -> tuple[Finding, ...]:
    """Run the steps up to the verdict.

    Args:
        looking: takes the steps that run in the background; they may last longer than this function.

    Returns: what the checks found.
    """
    do(preflight)
    do(baseline)
    do(announce)
    looked_at = runbook.moment(run.test.plan)
    for at, step in enumerate(run.test.plan):
        if at == looked_at:
            do(runbook.diagnose)
        match step:
            case Inject(fault):
                do(inject, fault)
            case Await():
                do(wait, step)
            case Heal(fault):
                if step is run.test.plan[-1] and isinstance(run.test.alert, FiresWithin):
                    do(wait_alert)
                if at != looked_at or not do(runbook.recover):
                    do(heal, fault)
    if looked_at == len(run.test.plan):
        do(runbook.diagnose)
    if isinstance(run.test.alert, FiresWithin) and not isinstance(run.test.plan[-1], Heal):
        do(wait_alert)
    do(prove_nothing_left)
    do(wait_recovered)
    began_ns = time.monotonic_ns()
    looking.append(beside(do, runbook.verify))
    do(gather)
    findings: tuple[Finding, ...] = do(judge)
    looking[-1].result()
    run.disturbs_ns = began_ns, time.monotonic_ns()
    run.land()
    run.held()
    return findings


def conclude(run: Run, findings: tuple[Finding, ...], halted: tuple[Verdict, str] | None) -> RunResult:
    """Make the run's result, and save the evidence that it rests on.

    Verdict and reason are those of the worst finding, unless the run was halted or someone else undid the fault. Never
    raises. If the evidence can't be saved, only a fail stays; any other verdict becomes unknown.
    """
    verdict = merge([f.verdict for f in findings])
    why = "; ".join(f.why for f in findings if f.verdict is verdict and verdict is not Verdict.PASS) or "as promised"
    try:
        evidence = replace(run.gathered or run.evidence(), acts=run.acts)
        counts = checks.counts(evidence)
        codec.save_evidence(run.folder, evidence)
    except Exception as e:  # noqa: BLE001 - whatever the error is, there is a result, and it is not a pass
        reason = e if isinstance(e, GamedayError) else repr(e)
        lacks = f"what it rests on can't be kept: {reason}"
        halted = halted or ((verdict, f"{why}; {lacks}") if verdict is Verdict.FAIL else (Verdict.UNKNOWN, lacks))
        evidence = run.gathered or Evidence(run.name, dict(run.params), run.stack.name)
        counts = {}
    strangers = sorted({a.healed_by for a in evidence.acts if a.healed_by and a.healed_by != run.id})
    if halted is not None:
        verdict, why = halted
    elif strangers:
        verdict, why = Verdict.UNKNOWN, f"the fault was undone by {', '.join(strangers)}, not by this run"
    return RunResult(
        id=run.id,
        night=run.night,
        test=run.name,
        params=dict(run.params),
        stack=run.stack.name,
        verdict=verdict,
        why=why,
        started=run.started.isoformat(timespec="milliseconds"),
        took_s=round((time.monotonic_ns() - run.began_ns) / 1e9, 3),
        mttr_max_s=run.test.mttr_max_s,
        drain_max_s=run.test.drain_max_s,
        measures=evidence.measures,
        counts=counts,
        findings=findings,
        acts=evidence.acts,
        steps=tuple(run.steps),
    )

"""Look at a stack without touching it: what `gameday status` and `gameday check` print."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

from gameday import courier, lease, mending
from gameday.checks.alert import NOT_WATCHED
from gameday.errors import GamedayError
from gameday.journal import Journal
from gameday.model import FailureTest, Inject, Json
from gameday.ports import Inside, Isolate, Links
from gameday.runbook import read
from gameday.stack import Stack

__all__ = ["fitting", "requirements", "survey"]


def survey(stack: Stack) -> dict[str, Json]:
    """{"well", "components": [...], "links": [...], "streams": [...], "notes": [...]}: one look, each probe asked
    once."""
    probes = [(spec.series, spec.probe) for spec in stack.probes() if spec.series.startswith("component/")]
    with ThreadPoolExecutor(len(probes)) as pool:
        answers = list(pool.map(lambda p: _answers(*p), probes))
    components = []
    for role, component in stack.config.components.items():
        mine = [(series, trouble) for series, trouble in answers if series.split("/")[1] == role]
        silent = [f"{series.split('/')[2]}: {trouble}" for series, trouble in mine if trouble]
        components.append(
            {
                "name": role,
                "runs": _runs(stack, role),
                "answers": "; ".join(silent) or "yes",
                "ok": not silent,
                "opt_in": component.opt_in,
            }
        )
    notes = [*_holders(stack), *mending.nothing_left(stack), *courier.undelivered(stack.state)]
    streams, trouble = _streams(stack)
    return {
        "stack": stack.name,
        "well": all(c["ok"] for c in components) and not trouble,
        "components": components,
        "links": _links(stack),
        "streams": streams,
        "notes": notes + trouble,
    }


def requirements(stack: Stack, tests: Mapping[str, Callable[..., FailureTest]]) -> list[dict[str, Json]]:
    """One row for everything that the configuration names and every test: found or not, and why."""
    seen = survey(stack)
    rows = [
        {
            "what": f"component {c['name']}",
            "ok": c["ok"],
            "note": f"{c['answers']}; {'may be broken' if c['opt_in'] else 'never touched'}",
        }
        for c in seen["components"]
    ]
    for name, hop in stack.hops.items():
        rows.append({"what": f"hop {name}", **_found(lambda hop=hop: f"{sum(hop.heads().values()):,} records")})
    for name, cursor in stack.cursors.items():
        rows.append({"what": f"cursor {name}", **_found(lambda cursor=cursor: f"{len(cursor.position())} slots")})
    for stop in stack.stops():
        rows.append({"what": f"stop {stop.name}", **_found(lambda stop=stop: stop.crossed() or "not crossed")})
    if (archive := stack.archive) is not None:
        rows.append({"what": "archive", **_found(lambda: f"{sum(archive.heads().values()):,} records")})
    rows.append(_alerts(stack))
    rows += list(_isolation(stack))
    for name in stack.config.channels:
        rows.append({"what": f"channel {name}", **_found(lambda name=name: _channel(stack, name))})
    rows += fitting(stack, tests)
    if stack.config.runbook is not None:
        rows += [
            {"what": f"runbook {name}", **_found(lambda name=name: f"{len(read(stack.runbook(name)))} blocks")}
            for name in tests
        ]
    return rows


def _isolation(stack: Stack) -> Iterator[dict[str, Json]]:
    """Components that are out of gameday's own reach too while they are cut off."""
    for role, component in stack.config.components.items():
        host = stack.host(role)
        if not component.opt_in or not isinstance(host, Isolate) or not isinstance(host, Inside):
            continue
        try:
            lost = host.attached(role)["published"]
        except GamedayError as e:
            yield {"what": f"isolation of {role}", "ok": False, "note": str(e)}
            continue
        if lost:
            asked = [name for name, probe in component.probes.items() if probe.inside]
            how = f"asked inside: {', '.join(asked)}" if asked else "nothing is asked inside: set probes.NAME.inside"
            note = f"cut off, it loses {', '.join(lost)} too, and its probes don't answer; {how}"
            yield {"what": f"isolation of {role}", "ok": True, "note": note}


def fitting(stack: Stack, tests: Mapping[str, Callable[..., FailureTest]]) -> Iterator[dict[str, Json]]:
    """A row for each parameter set of each test: it can run here, or what it lacks; and one for what it can't judge."""
    untold = stack.untold()
    for name, test in tests.items():
        for params in test().nightly:
            chosen = test(**params)
            lacks = stack.misses(chosen)
            for step in chosen.plan if not lacks else ():
                if isinstance(step, Inject):
                    try:
                        stack.permit(step.fault)
                    except GamedayError as e:
                        lacks.append(str(e))
            shown = ", ".join(f"{k}={v}" for k, v in params.items())
            yield {"what": f"test {name}", "ok": not lacks, "note": f"{shown}: {'; '.join(lacks) or 'can run'}"}
        if silent := [f"{c.__name__} ({untold[c.__name__]})" for c in test().checks if c.__name__ in untold]:
            yield {"what": f"test {name}", "ok": True, "note": f"can't be judged here: {'; '.join(silent)}"}


def _alerts(stack: Stack) -> dict[str, Json]:
    if stack.alerts is None:
        return {"what": "alerts", "ok": True, "note": NOT_WATCHED}
    return {"what": "alerts", **_found(lambda: f"firing: {', '.join(stack.firing()) or 'none'}")}


def _found(ask) -> dict[str, Json]:  # type: ignore[no-untyped-def]
    try:
        return {"ok": True, "note": ask()}
    except GamedayError as e:
        return {"ok": False, "note": str(e)}


def _channel(stack: Stack, name: str) -> str:
    from tasks.telling import secret  # imports Prefect, which `gameday status` does without

    stack.channel(name, secret)
    return f"{stack.config.channels[name].driver}: its settings are complete; nothing was sent"


def _answers(series: str, probe) -> tuple[str, str]:  # type: ignore[no-untyped-def]
    try:
        probe.read()
    except GamedayError as e:
        return series, str(e)
    return series, ""


def _runs(stack: Stack, role: str) -> str:
    try:
        identity = stack.host(role).identity(role)
    except GamedayError as e:
        return f"unknown: {e}"
    if identity is None:
        return "no"
    age_s = max(0.0, time.time() - identity["started_us"] / 1e6)
    return f"pid {identity['pid']} for {age_s:.0f} s" if "pid" in identity else f"for {age_s:.0f} s"


def _links(stack: Stack) -> list[Json]:
    found = []
    for name in stack.config.hosts:
        host = stack.named_host(name)
        if isinstance(host, Links):
            try:
                found += [{"name": link, **state} for link, state in host.links().items()]
            except GamedayError as e:
                found.append({"name": name, "trouble": str(e)})
    return found


def _streams(stack: Stack) -> tuple[list[Json], list[str]]:
    try:
        ledger, visible = stack.ledger.heads(), stack.visible.heads()
    except GamedayError as e:
        return [], [f"streams: {e}"]
    return [{"group": "/".join(g), "ledger": n, "visible": visible.get(g, 0)} for g, n in sorted(ledger.items())], []


def _holders(stack: Stack) -> list[str]:
    holder = lease.holder(stack.state)
    lines = [f"held by run {holder.run} ({holder.test}) since {holder.since}" if holder else "no run holds the stack"]
    if held := lease.hold_reason(stack.state):
        lines.append(held)
    lines += [
        f"open: {a.fault} of {a.args.get('component')} by run {a.run}" for a in Journal(stack.state.journal).open_acts()
    ]
    return lines

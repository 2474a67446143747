"""Look at a stack without touching it: what `gameday status` and `gameday check` print."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

from gameday import guardian, lease
from gameday.errors import GamedayError
from gameday.journal import Journal
from gameday.model import FailureTest, Inject, Json
from gameday.ports import Links
from gameday.stack import Stack

__all__ = ["requirements", "survey"]


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
    notes = [*_holders(stack), *guardian.nothing_left(stack)]
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
    rows += list(_tests(stack, tests))
    return rows


def _tests(stack: Stack, tests: Mapping[str, Callable[..., FailureTest]]) -> Iterator[dict[str, Json]]:
    for name, test in tests.items():
        for params in test().nightly:
            lacks: list[str] = []
            if test(**params).archive and stack.archive is None:
                lacks.append("the stack has no [archive]")
            for step in test(**params).plan:
                if isinstance(step, Inject):
                    try:
                        if not (missing := stack.lacks(step.fault)):
                            stack.permit(step.fault)
                        lacks += missing
                    except GamedayError as e:
                        lacks.append(str(e))
            shown = ", ".join(f"{k}={v}" for k, v in params.items())
            yield {"what": f"test {name}", "ok": not lacks, "note": f"{shown}: {'; '.join(lacks) or 'can run'}"}


def _found(ask) -> dict[str, Json]:  # type: ignore[no-untyped-def]
    try:
        return {"ok": True, "note": ask()}
    except GamedayError as e:
        return {"ok": False, "note": str(e)}


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
    return f"pid {identity['pid']}" if identity and "pid" in identity else "yes" if identity else "no"


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

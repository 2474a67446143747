"""Look at a stack without touching it: what `gameday status` and `gameday check` print.

Everything is asked once, and side by side: a look takes as long as the slowest answer, and its time-out bounds it. What
takes long to import (Prefect, numpy, clients of stores) is imported by who needs it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

from gameday.errors import ConfigError, GamedayError
from gameday.model import NOT_WATCHED, Group, Json
from gameday.plan import FailureTest, FiresWithin, Inject, StaysSilent
from gameday.ports import Host, Inside, Isolate, Limited, Links, Probe
from gameday.records.declaration import Stream
from gameday.stack.config import CANARY
from gameday.stack.live import LiveStream, Stack
from gameday.stack.probes import OfItsOwn, ProbeSpec
from gameday.stack.reading import all_of
from gameday.state import runbook_of
from gameday.system.asking import answer
from gameday.telling import courier
from gameday.undo import lease, mending
from gameday.undo.journal import Journal
from gameday.verdict import ahead
from gameday.verdict.causes import Cause, Clues, causes
from tasks.definition import parameter_sets, required

__all__ = ["answers", "diagnosis", "fitting", "requirements", "survey"]

ASKED_MAX = 64
"""How many are asked at once."""


ANSWER_WITHIN_S = 30.0
"""For whatever is asked here: beyond what any driver allows itself, and never for ever."""


def survey(stack: Stack) -> dict[str, Json]:
    """{"well", "components": [...], "links": [...], "streams": [...], "notes": [...], "diagnosis": [...]}: one look."""
    hosts, untold = _hosts(stack)
    with ThreadPoolExecutor(ASKED_MAX) as pool:
        runs = {role: pool.submit(_runs, stack, role) for role in stack.config.components}
        touched = {role: pool.submit(_touched, stack, role) for role in stack.config.components}
        links = [pool.submit(_links, stack, name, host) for name, host in hosts.items() if isinstance(host, Links)]
        left = pool.submit(_left, stack)
        heads = {
            name: [
                pool.submit(answer, partial(_heads, live, hop), ANSWER_WITHIN_S, f"the heads of {hop}")
                for hop in (live.stream.hops[0], live.stream.visible)
            ]
            for name, live in stack.streams.items()
        }
        probes, unmade = _probes(stack)  # last: meanwhile the others answer, for a client may take 0.1 s to import
        troubles = [(spec.series.split("/"), pool.submit(_trouble, spec.probe)) for spec in probes]
        notes = _holders(stack)
    streams: list[Json] = []
    trouble: list[str] = []
    for name, asked in heads.items():
        groups, wrong = _groups(stack, stack.streams[name], [told.result for told in asked])
        streams += groups
        trouble += wrong
    components = []
    for role in stack.config.components:
        mine = [(name, answer.result()) for (_, of, name), answer in troubles if of == role]
        silent = [*([unmade[role]] if role in unmade else []), *(f"{name}: {why}" for name, why in mine if why)]
        components.append(
            {
                "name": role,
                "runs": runs[role].result(),
                "answers": "; ".join(silent) or "yes",
                "ok": not silent,
                "opt_in": touched[role].result(),
            }
        )
    said = {str(c["name"]): str(c["answers"]) for c in components if not c["ok"]}
    said |= {f"a stream ({number})": line for number, line in enumerate(trouble, 1)}
    clues = Clues(said, frozenset(str(c["name"]) for c in components if c["ok"]))
    return {
        "stack": stack.name,
        "well": all(c["ok"] for c in components) and not trouble,
        "components": components,
        "links": [link for answer in links for link in answer.result()],
        "streams": streams,
        "notes": [*notes, *untold, *left.result(), *courier.undelivered(stack.state), *trouble],
        "diagnosis": [cause.told for cause in diagnosis(stack, clues)],
    }


def diagnosis(stack: Stack, clues: Clues) -> list[Cause]:
    """What is likely behind these clues, each with its heading in the stack's runbooks."""
    return causes(clues, partial(_heading, stack))


def _heading(stack: Stack, test: str, heading: str) -> str:
    """Where a runbook has this heading, as an engineer is sent there; "": it is not there."""
    try:
        text = stack.runbook(test).read_text(encoding="utf-8")
    except OSError:
        return ""
    return f"{runbook_of(stack.runbooks_shown, test)}#{heading.lower()}" if f"\n## {heading}\n" in text else ""


def answers(stack: Stack) -> dict[str, str]:
    """Component -> what is wrong with its answer; "": it answers."""
    probes, unmade = _probes(stack)
    found = {role: "" for role in stack.config.components} | unmade
    with ThreadPoolExecutor(ASKED_MAX) as pool:
        asked = [(spec.series.split("/"), pool.submit(_trouble, spec.probe)) for spec in probes]
        for (_, role, name), told in asked:
            if why := told.result():
                found[role] = "; ".join(filter(None, (found[role], f"{name}: {why}")))
    return found


def requirements(stack: Stack, tests: Mapping[str, Callable[..., FailureTest]]) -> list[dict[str, Json]]:
    """One row for everything that the configuration names and every test: found or not, and why. Raises ConfigError
    with all that is wrong with the tables of drivers and hosts; one whose package is missing is a row."""
    if mistakes := stack.mistakes():
        raise ConfigError(all_of(stack.path, mistakes))
    asks: dict[str, Callable[[], str]] = {}  # each makes what it asks: one that can't be made keeps no other from it
    for live in stack.streams.values():
        for name in live.stream.hops:
            asks[f"hop {name}"] = partial(_hop, live, name)
    if stack.config.canary is not None:
        asks["canary"] = lambda: _canary(stack)
    for name in stack.config.cursors:
        asks[f"cursor {name}"] = lambda name=name: f"{len(stack.cursor(name).position())} slots"  # type: ignore[misc]
    for name in stack.config.stops:
        asks[f"stop {name}"] = lambda name=name: stack.stop(name).crossed() or "not crossed"  # type: ignore[misc]
    if stack.config.archive is not None:
        asks["archive"] = lambda: _archive(stack)
    for alert, role in _watched(stack, tests):
        asks[f"alert {alert} of {role}"] = lambda alert=alert, role=role: _alert(stack, alert, role)  # type: ignore[misc]
    asks["alerts"] = lambda: NOT_WATCHED if stack.alerts is None else f"firing: {', '.join(stack.firing()) or 'none'}"
    with ThreadPoolExecutor(ASKED_MAX) as pool:
        looked = pool.submit(survey, stack)
        asked = [(what, pool.submit(_found, ask)) for what, ask in asks.items()]
        isolated = pool.submit(lambda: list(_isolation(stack)))
    rows = [
        {
            "what": f"component {c['name']}",
            "ok": c["ok"],
            "note": f"{c['answers']}; {'may be broken' if c['opt_in'] else 'never touched'}",
        }
        for c in looked.result()["components"]
    ]
    rows += [{"what": what, **answer.result()} for what, answer in asked]
    rows += isolated.result()
    rows += [{"what": f"host {name}", "ok": False, "note": why} for name, why in _unmade_hosts(stack).items()]
    if unknown := [spec.series.removeprefix("component/") for spec in _probes(stack)[0] if _anybody(spec)]:
        note = f"whoever answers is taken for the component, as who listens can't be told: {', '.join(unknown)}"
        rows.append({"what": "answers", "ok": True, "note": note})
    for name in stack.config.channels:
        rows.append({"what": f"channel {name}", **_found(lambda name=name: _channel(stack, name))})
    rows += fitting(stack, tests)
    if stack.config.runbook is not None:
        from gameday.runbooks.blocks import read

        rows += [
            {"what": f"runbook {name}", **_found(lambda name=name: f"{len(read(stack.runbook(name)))} blocks")}
            for name in tests
        ]
    return rows


def _probes(stack: Stack) -> tuple[list[ProbeSpec], dict[str, str]]:
    """The components' probes; and component -> why its own can't be made."""
    specs: list[ProbeSpec] = []
    unmade: dict[str, str] = {}
    for role in stack.config.components:
        try:
            specs += stack.component_probes(role)
        except GamedayError as e:
            unmade[role] = str(e)
    return specs, unmade


def _hosts(stack: Stack) -> tuple[dict[str, Host], list[str]]:
    """The hosts that can be made, and why others can't."""
    unmade = _unmade_hosts(stack)
    made = {name: stack.named_host(name) for name in stack.config.hosts if name not in unmade}
    return made, [f"hosts.{name}: {why}" for name, why in unmade.items()]


def _unmade_hosts(stack: Stack) -> dict[str, str]:
    """Host -> why it can't be made: a package is missing, or a setting is wrong."""
    found = {}
    for name in stack.config.hosts:
        try:
            stack.named_host(name)
        except GamedayError as e:
            found[name] = str(e)
    return found


def _left(stack: Stack) -> list[str]:
    try:
        return mending.nothing_left(stack)
    except GamedayError as e:
        return [f"whether something is broken is not known: {e}"]


def _heads(live: LiveStream, name: str) -> Mapping[Group, int]:
    return live.made(name).heads()


def _hop(live: LiveStream, name: str) -> str:
    from tasks.look import readable  # here, as with blocks: a status needs neither

    hop = live.made(name)
    return readable(hop, hop.heads(), live.stream.gapless, live.stream.hops[0] == CANARY)


def _archive(stack: Stack) -> str:
    assert stack.archive is not None
    return f"{sum(stack.archive.heads().values()):,} records"


def _anybody(spec: ProbeSpec) -> bool:
    """Whether a component's probe would take anybody's answer for the component's."""
    if not isinstance(spec.probe, OfItsOwn):
        return True
    with suppress(GamedayError):
        spec.probe.read()
    return spec.probe.known is False


def _watched(stack: Stack, tests: Mapping[str, Callable[..., FailureTest]]) -> Iterator[tuple[str, str]]:
    """Each (alert, component) that a test is about which can run here, once."""
    known: dict[tuple[str, str], None] = {}
    for test in tests.values() if stack.config.alerts is not None and stack.config.alerts.url else ():
        for params in parameter_sets(test, stack.config):
            chosen = stack.resolved(test(**params))
            roles = [step.fault.component for step in chosen.plan if isinstance(step, Inject)]
            if isinstance(chosen.alert, FiresWithin | StaysSilent) and roles and not _lacks(stack, chosen):
                known[chosen.alert.alert, chosen.alert.component or roles[-1]] = None
    yield from known


def _alert(stack: Stack, alert: str, role: str) -> str:
    """What its rule says; a ConfigError where no alert of that name can have the labels that gameday.toml names."""
    assert stack.alerts is not None
    name, labels = stack.alert_name(alert), stack.alert_labels(role)
    shown = ", ".join(f"{key}={value}" for key, value in labels.items())
    if why := stack.alerts.unlike(name, labels):
        remedy = f"alerts.labels.{role}, as the rule has them"
        raise ConfigError(f"no {name} has the labels {shown}: {why}. Remedy: {remedy}")
    return f"{name} with {shown}"


def _isolation(stack: Stack) -> Iterator[dict[str, Json]]:
    """Components that are out of gameday's own reach too while they are cut off."""
    unmade = _unmade_hosts(stack)
    for role, component in stack.config.components.items():
        if not component.opt_in or component.host in unmade:
            continue
        host = stack.host(role)
        if not isinstance(host, Isolate) or not isinstance(host, Inside):
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
    untold: Mapping[str, str] = {}
    with suppress(GamedayError):  # a hop or host that can't be made has a row of its own
        untold = stack.untold()
    for name, test in tests.items():
        for params in parameter_sets(test, stack.config):
            chosen = stack.resolved(test(**params))
            lacks = _lacks(stack, chosen)
            for step in chosen.plan if not lacks else ():
                if isinstance(step, Inject):
                    try:
                        stack.permit(step.fault)
                    except GamedayError as e:
                        lacks.append(str(e))
            shown = ", ".join(f"{k}={v}" for k, v in params.items())
            yield {"what": f"test {name}", "ok": not lacks, "note": f"{shown}: {'; '.join(lacks) or 'can run'}"}
        checks = test(**dict.fromkeys(required(test), "")).checks
        if silent := [f"{c.__name__} ({untold[c.__name__]})" for c in checks if c.__name__ in untold]:
            yield {"what": f"checks of {name}", "ok": True, "note": f"can't be judged here: {'; '.join(silent)}"}


def _lacks(stack: Stack, test: FailureTest) -> list[str]:
    """What it needs and isn't here; also that a host or a driver which it needs can't be made."""
    try:
        return stack.misses(test)
    except GamedayError as e:
        return [str(e)]


def _found(ask) -> dict[str, Json]:  # type: ignore[no-untyped-def]
    try:
        return {"ok": True, "note": answer(ask, ANSWER_WITHIN_S, "this question")}
    except GamedayError as e:
        return {"ok": False, "note": str(e)}


def _channel(stack: Stack, name: str) -> str:
    stack.channel(name, _secret)
    return f"{stack.config.channels[name].driver}: its settings are complete; nothing was sent"


def _canary(stack: Stack) -> str:
    """What it would write; a ConfigError where its settings, or its clean-up's, are wrong."""
    config = stack.config.canary
    assert config is not None
    _ = stack.canary, stack.canary_clean_up
    groups = f" in each of {len(config.groups)} groups" if config.groups else ""
    kept = "cleaned up after it" if config.clean_up else "which stay"
    pace = f"{config.rate_hz:g} records a second{groups}, at most {config.most:,} in a run, {kept}"
    return f"{config.driver}: {pace}; nothing was sent"


def _secret(block: str) -> str:
    """What Prefect keeps under that name. Only who refers to a block needs Prefect."""
    from tasks.telling import secret

    return secret(block)


def _trouble(probe: Probe) -> str:
    """Why a probe has no answer; "" when it has one."""
    try:
        probe.read()
    except GamedayError as e:
        return str(e)
    return ""


def _runs(stack: Stack, role: str) -> str:
    try:
        identity = stack.host(role).identity(role)
    except GamedayError as e:
        return f"unknown: {e}"
    if identity is None:
        return "no"
    age_s = max(0.0, time.time() - identity["started_us"] / 1e6)
    return f"pid {identity['pid']} for {age_s:.0f} s" if "pid" in identity else f"for {age_s:.0f} s"


def _touched(stack: Stack, role: str) -> bool:
    """Whether it may be broken: by gameday.toml, and by its host, which may have a say of its own."""
    if not stack.component(role).opt_in:
        return False
    with suppress(GamedayError):  # what keeps the host from answering is told beside it
        host = stack.host(role)
        return not isinstance(host, Limited) or host.cannot(role, Host) is None
    return True


def _links(stack: Stack, name: str, host: Links) -> list[Json]:
    """The links that gameday.toml puts on this host, as they are."""
    ours = {link for link, config in stack.config.links.items() if config.host == name}
    try:
        return [{"name": link, **state} for link, state in host.links().items() if link in ours]
    except GamedayError as e:
        return [{"name": name, "trouble": str(e)}]


def _groups(
    stack: Stack, live: LiveStream, heads: Sequence[Callable[[], Mapping[Group, int]]]
) -> tuple[list[Json], list[str]]:
    """The groups of a stream, and what is wrong with them: what users see beyond the ledger, which is asked once more
    for that."""
    stream = live.stream
    try:
        ledger, visible = (told() for told in heads)
        more = any(head > ledger.get(group, -1) for group, head in visible.items())
        beyond = partial(ahead.beyond, stack, {stream.visible: visible})
        trouble = ahead.told(stack, answer(beyond, ANSWER_WITHIN_S, "the ledger's heads")) if more else []
    except GamedayError as e:
        return [], [f"streams: {e}"]
    return [_standing(stream, group, head, visible.get(group, 0)) for group, head in sorted(ledger.items())], trouble


def _standing(stream: Stream, group: Group, ledger: int, visible: int) -> Json:
    """Where a group stands: ids, or times where none counts its records."""
    named, behind = {"stream": stream.name, "group": "/".join(group)}, ledger - visible
    if stream.counted:
        return {**named, "ledger": ledger, "visible": visible, "behind": behind}
    kind, now_us = stream.types[stream.sequence], time.time() * 1e6
    seen = kind.shown(visible) if visible else "nothing"
    # a group may have had nothing between the two times: what lacks is as old as the later one at least
    low_s, high_s = (max(0.0, now_us - at) / 1e6 for at in (ledger, visible))
    late = "0.0 s" if behind <= 0 else f"{low_s:.1f} to {high_s:.1f} s" if visible else f"{low_s:.1f} s at least"
    return {**named, "ledger": kind.shown(ledger), "visible": seen, "behind": late}


def _holders(stack: Stack) -> list[str]:
    holder = lease.holder(stack.state)
    lines = [f"held by run {holder.run} ({holder.test}) since {holder.since}" if holder else "no run holds the stack"]
    if held := lease.hold_reason(stack.state):
        lines.append(held)
    lines += [
        f"open: {a.fault} of {a.args.get('component')} by run {a.run}" for a in Journal(stack.state.journal).open_acts()
    ]
    return lines

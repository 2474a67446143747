"""Compares, at the end of a night, every hop that keeps its history with the ledger, from the first record to now."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

from prefect import task
from prefect.cache_policies import NO_CACHE

from gameday import codec
from gameday.errors import DriverError, GamedayError
from gameday.model import EMPTY, Digest, Evidence, Finding, Group, Verdict, Window, merge
from gameday.ports import Archive, Derived, Hop, Ledger, Log
from gameday.run import HEADS_WITHIN_S
from gameday.stack.live import ARCHIVE, LiveStream, Stack
from gameday.state import State
from gameday.system.asking import answer
from gameday.verdict import ahead, checks, streams
from tasks.digests import evidence_of, held
from tasks.night import Night

ANSWER_WITHIN_S = 600.0
"""How long one server's digest of everything it holds may take. An archive of a year takes minutes."""

WHOLE = (checks.no_loss, checks.no_duplicates, checks.unchanged)

BELOW = -(1 << 62)
"""An id below every other, so that records below the first id are found too: there should be none."""


@task(name="whole history", cache_policy=NO_CACHE)
def close_night(night: Night, stack: Stack) -> None:
    """Add the finding `history` to the night.

    What users query, what is derived from it, and the archive are compared with the ledger from the first id on. Every
    other table is compared from the place that the last night noted, because it may forget what is older. A log is
    judged in each run's window only: reading a day of it takes too long.
    """
    try:
        night.findings.append(_whole(stack))
    except Exception as e:  # noqa: BLE001 - whatever the error is, the night keeps its results
        reason = e if isinstance(e, GamedayError) else repr(e)
        night.findings.append(Finding("history", Verdict.UNKNOWN, f"the whole history could not be digested: {reason}"))


@dataclass(frozen=True)
class Noted:
    """What one night notes for the next. places: table -> group -> up to which id it was right."""

    places: Mapping[str, Mapping[Group, int]] = field(default_factory=dict)


def _whole(stack: Stack) -> Finding:
    """Judge every stream. A stream whose ledger gives no answer is unknown and keeps its places; the others are still
    judged."""
    places: dict[str, Mapping[Group, int]] = {}
    findings: dict[str, Finding] = {}
    for name, live in stack.streams.items():
        try:
            findings[name] = _stream(stack, live, places)
        except GamedayError as e:
            findings[name] = Finding("history", Verdict.UNKNOWN, f"the whole history could not be digested: {e}")
            places |= {hop: place for hop, place in _noted(stack.state).places.items() if hop in live.stream.hops}
    return replace(streams.merged("history", findings), evidence=codec.encode(Noted(places)) if places else None)


def _stream(stack: Stack, live: LiveStream, places: dict[str, Mapping[Group, int]]) -> Finding:
    """Judge one stream. places: gets what the stream notes for the next night."""
    ledger, visible = live.stream.hops[0], live.stream.visible
    if not isinstance(live.ledger, Ledger):
        return _made(stack, live, f"not judged here: {ledger} keeps only its newest records")
    if live.stream.version is not None:
        return _made(
            stack, live, "not judged here: rows that change and go are right as of a position, which each run judges"
        )
    kept = [name for name, hop in live.hops.items() if name == visible or not isinstance(hop, Hop)]
    heads = {name: _heads(name, live.hops[name]) for name in (ledger, visible)}
    seen = answer(lambda: ahead.heads_of(stack, archive=True, of=live), HEADS_WITHIN_S, "the heads of all hops")
    surplus = answer(partial(ahead.beyond, stack, seen), HEADS_WITHIN_S, "the ledger's heads")
    noted, findings, notes = _since_last_night(stack, live, [n for n in live.hops if n not in (ledger, *kept)], heads)
    places |= noted
    for name in kept:
        findings += _judged(name, partial(_from_the_first, stack, live, name, heads))
    if stack.archive is not None and stack.config.archived == live.name:
        findings += _judged("the archive", partial(_archived, stack, live, stack.archive))
    if surplus:
        findings.append(Finding("surplus", Verdict.FAIL, "; ".join(ahead.told(stack, surplus))))
    verdict = merge([f.verdict for f in findings])
    if verdict is Verdict.PASS:
        records = sum(min(head, heads[visible].get(g, head)) for g, head in heads[ledger].items())
        why = "; ".join([f"all {records:,} records are right, from the first on", *notes])
    else:
        why = "; ".join(f.why for f in findings if f.verdict is verdict)
    return Finding("history", verdict, why)


def _made(stack: Stack, live: LiveStream, others: str) -> Finding:
    """Judge a stream without a ledger of its whole history: only tables that are derived from another table can be
    compared, with that table.

    others: why the other hops are not judged.
    """
    visible = live.stream.visible
    tables = [name for name, hop in live.hops.items() if not isinstance(hop, Hop)]
    if not tables:
        return Finding("history", Verdict.SKIPPED, others)
    heads = {visible: _heads(visible, live.visible)}
    findings = [f for name in tables for f in _judged(name, partial(_from_the_first, stack, live, name, heads))]
    verdict = merge([f.verdict for f in findings])
    right = f"{', '.join(tables)}: all as its source gives it, from the first on; the others are {others}"
    return Finding(
        "history",
        verdict,
        right if verdict is Verdict.PASS else "; ".join(f.why for f in findings if f.verdict is verdict),
    )


def _heads(name: str, hop: Hop | Derived) -> Mapping[Group, int]:
    return answer(hop.heads, HEADS_WITHIN_S, f"the heads of {name}")


def _asked(name: str, digest: Callable[[], Sequence[Digest]]) -> Sequence[Digest]:
    return answer(digest, ANSWER_WITHIN_S, f"the digest of {name}")


def _judged(name: str, ask: Callable[[], Evidence]) -> list[Finding]:
    """Return what the checks say of one hop. A hop that gives no answer is unknown; the others are still judged."""
    try:
        evidence = ask()
    except DriverError as e:
        return [Finding(name, Verdict.UNKNOWN, f"{name} could not be judged: {e}")]
    return [check(evidence) for check in WHOLE]


# ---- from the first id on ----------------------------------------------------------------------------------


def _from_the_first(stack: Stack, live: LiveStream, name: str, heads: Mapping[str, Mapping[Group, int]]) -> Evidence:
    """Return one hop's evidence, up to the head that this hop and all of these (the ledger is the first) show."""
    known = [*heads.values(), _heads(name, live.hops[name])]
    truth = next(iter(heads.values()))
    hi = {g: min(h[g] for h in known if g in h) for g in truth}  # a group that a table doesn't know is missing there
    return _held(stack, live, name, Window(dict.fromkeys(hi, BELOW), hi))


def _held(stack: Stack, live: LiveStream, name: str, window: Window) -> Evidence:
    """Return one hop's evidence over a window: its digests, the ledger's first."""
    return held(stack.name, live, name, window, _asked)


def _archived(stack: Stack, live: LiveStream, archive: Archive) -> Evidence:
    """Return the archive's evidence over all that it has. The ledger has nothing of foreign groups."""
    ledger = live.stream.hops[0]
    heads = answer(archive.heads, HEADS_WITHIN_S, "the heads of the archive")
    window = Window(dict.fromkeys(heads, BELOW), heads)
    right = _asked(ledger, partial(live.ledger.digest, window))[0]
    shown = _asked("the archive", partial(archive.digest, window))
    return evidence_of(stack.name, live, window, [Digest(ARCHIVE, ledger, "final", right.groups), *shown])


# ---- since the last night ----------------------------------------------------------------------------------


def _since_last_night(
    stack: Stack, live: LiveStream, names: Sequence[str], heads: Mapping[str, Mapping[Group, int]]
) -> tuple[Mapping[str, Mapping[Group, int]], list[Finding], list[str]]:
    """Judge these tables from the place that the last night noted.

    A table that has forgotten that place keeps less than the time between two nights; only each run's window judges it.
    A table that is not right keeps its place, so that it is not right tomorrow either, unless it was repaired.

    Returns: the places that this night notes, the findings, and notes that are shown beside a pass.
    """
    order, visible = list(live.hops), live.stream.visible
    truth = heads[order[0]]
    tables = [name for name in names if not isinstance(live.hops[name], Log)]
    before = _noted(stack.state).places if tables else {}
    places: dict[str, Mapping[Group, int]] = {}
    findings: list[Finding] = []
    notes: list[str] = []
    for name in tables:
        past = before.get(name, {})
        try:
            before_it = order.index(name) < order.index(visible)  # what is visible came through it
            shown = heads[visible] if before_it else _heads(name, live.hops[name])
            hi = {g: min(head, shown.get(g, head)) for g, head in truth.items()}
            known = {g: place for g, place in past.items() if 0 < place <= hi.get(g, 0)}
            window = Window({g: place - 1 for g, place in known.items()}, {g: hi[g] for g in known})
            evidence = _held(stack, live, name, window)
        except DriverError as e:
            findings.append(Finding(name, Verdict.UNKNOWN, f"{name} could not be judged: {e}"))
            places[name] = past
            continue
        reach = {g for g, place in known.items() if evidence.digests[-1].groups.get(g, EMPTY).lo == place}
        table_findings = [check(_only(evidence, reach)) for check in WHOLE] if reach else []
        right = all(f.verdict is Verdict.PASS for f in table_findings)
        places[name] = hi if right else {**hi, **past}
        findings += table_findings
        notes.append(f"{name} {_reached(reach, known)}")
    return places, findings, notes


def _reached(reach: Collection[Group], known: Collection[Group]) -> str:
    if not known:
        return "is judged from the next night on"
    if not reach:
        return "has forgotten the last night's place, and is not judged"
    if len(reach) < len(known):
        return f"is right since the last night in {len(reach)} of {len(known)} streams; where the others were it forgot"
    return "is right since the last night"


def _only(evidence: Evidence, groups: Collection[Group]) -> Evidence:
    """Return the same evidence for these groups only."""
    assert evidence.window is not None
    lo, hi = ({g: at for g, at in side.items() if g in groups} for side in (evidence.window.lo, evidence.window.hi))
    digests = tuple(replace(d, groups={g: t for g, t in d.groups.items() if g in groups}) for d in evidence.digests)
    return replace(evidence, window=Window(lo, hi), digests=digests)


def _noted(state: State) -> Noted:
    """Return what the newest night noted that noted anything."""
    for path in reversed(state.published()):
        with suppress(GamedayError, KeyError, TypeError):
            for finding in codec.read_json(path)["findings"]:
                if finding["check"] == "history" and finding["evidence"]:
                    return codec.decode(Noted, finding["evidence"], str(path))
    return Noted()

"""Compares digests for the checks: which hop lacks, repeats or changed how many records of which group.

The first digest of a stream is the reference for the others. The reference of the stream under test is itself compared
with the window: its ids are contiguous, unless they are declared to have gaps or the ledger knows of holes.

Rows that change and are deleted were compared already, as of a position; what differs there is damage. diagnose.py
lists the rows that differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from gameday.model import EMPTY, Compared, Delta, Digest, Evidence, Finding, Group, Json, Tally, Timed, Verdict
from gameday.records.declaration import STATE

__all__ = [
    "ARCHIVE",
    "KINDS",
    "Damage",
    "compare",
    "counts",
    "finding",
    "forgetful",
    "guilty",
    "judged",
    "label",
    "missing_hops",
    "only_late",
    "resting_on_time",
]

KINDS = ("lost", "doubled", "changed")

ARCHIVE = "archive"
"""The stream of the archive's rows. Differing rows are listed for this stream and for the stream under test."""

LOG = "log"
"""The view of a log's own offsets."""

KEYED = ("offsets",)
"""The streams whose rows are nothing but ids: if the sums differ, the ids differ."""

GROUPS_NAMED = 3

BEYOND = "beyond the ledger"
"""Stands in place of a view for damage that a hop's heads showed, not its digest."""


@dataclass(frozen=True)
class Damage:
    """What is wrong with one group in one view of one hop.

    against: the hop (or "the window") that says what is right.
    lost, doubled: how many records are missing; how many are there that should not be.
    changed: how many records differ, at least: a sum shows that records differ, not how many.
    told: False if missing or foreign records hide whether the others were changed.
    replaced: True if nobody knows whether records were changed, or were lost with foreign ones in their place.
    """

    stream: str
    hop: str
    view: str
    against: str
    group: Group
    lost: int
    doubled: int
    changed: int
    told: bool
    replaced: bool = False


def judged(evidence: Evidence) -> Iterator[tuple[Digest, Digest]]:
    """Yield (reference, digest) for every digest that is compared with another one of its stream.

    Each log has offsets of its own. So a log is the reference for the offsets of the hops after it, and is compared
    with no log before it.
    """
    references: dict[str, Digest] = {}
    for digest in evidence.digests:
        if digest.stream in KEYED and digest.view == LOG:
            references[digest.stream] = digest
        reference = references.setdefault(digest.stream, digest)
        if reference is not digest:
            yield reference, digest


def compare(evidence: Evidence) -> list[Damage]:
    """Return every damage, in the order of the states and the digests: a stream's first one shows where it began."""
    damages = [
        Damage(
            stream=state.stream,
            hop=state.hop,
            view=STATE,
            against=state.against,
            group=group,
            lost=delta.lost,
            doubled=delta.ghosts + delta.repeated,
            changed=delta.changed,
            told=True,
        )
        for state, group, delta in _deltas(evidence)
    ]
    forgot = forgetful(evidence)
    for digest in evidence.digests:
        if digest.hop in forgot and _is_reference(evidence, digest):
            continue
        if digest.stream == evidence.stream and evidence.window and _is_reference(evidence, digest):
            if not evidence.gapless and not evidence.knows:
                continue
            for group, hi in evidence.window.hi.items():
                expected = hi - evidence.window.lo.get(group, 0)
                held = digest.groups.get(group, EMPTY)
                if evidence.knows and held.rows:  # below its newest id, what the ledger lacks never existed
                    expected = held.keys + max(0, hi - held.hi)
                damages.append(_against_window(digest, group, held, expected))
            continue
        for reference in [r for r, d in judged(evidence) if d is digest and r.hop not in forgot]:
            expected_groups = reference.groups if digest.right is None else digest.right
            for group in dict.fromkeys([*expected_groups, *digest.groups]):
                right, held = expected_groups.get(group, EMPTY), digest.groups.get(group, EMPTY)
                damage = _settled(evidence, _against(reference, digest, group, right, held))
                damages.append(
                    replace(damage, lost=0, changed=0, told=True) if damage.lost and digest.hop in forgot else damage
                )
    damages += _surplus(evidence)
    return [d for d in damages if d.lost or d.doubled or d.changed or not d.told]


def _surplus(evidence: Evidence) -> Iterator[Damage]:
    """Yield the damage of hops that showed ids beyond the ledger: each group has at least one record that nobody
    made."""
    for hop, groups in (evidence.symptoms.get("surplus") or {}).items():
        stream = ARCHIVE if hop == ARCHIVE else evidence.stream
        for group, *_ in groups:
            yield Damage(stream, hop, BEYOND, evidence.ledger, tuple(group), lost=0, doubled=1, changed=0, told=True)


def forgetful(evidence: Evidence) -> list[str]:
    """Return the logs whose retention has deleted records since the baseline.

    Everyone may have read what such a log lacks, so it is not lost there. The other hops show whether it is missing.
    """
    before, after = evidence.baseline, evidence.ends
    if before is None or after is None:
        return []
    known = before.marks.starts
    return [
        hop
        for hop, starts in after.starts.items()
        if any(start > known.get(hop, {}).get(slot, start) for slot, start in starts.items())
    ]


def only_late(evidence: Evidence, damage: Damage) -> bool:
    """Return whether everything that is lost may still come: only the newest records are missing, at a hop that had not
    come to the window's end."""
    if damage.view == STATE:
        return any(state.late for state in evidence.states if state.hop == damage.hop)
    if damage.hop not in (evidence.symptoms.get("not_passed") or ()) or evidence.window is None:
        return False
    place = (damage.stream, damage.hop, damage.view)
    held = next(d.groups.get(damage.group, EMPTY) for d in evidence.digests if (d.stream, d.hop, d.view) == place)
    if damage.stream != evidence.stream or not evidence.gapless:
        return held.rows > 0  # its ids can't be compared with the window; the hop that it was made from is judged
    lo, hi = evidence.window.lo.get(damage.group, 0), evidence.window.hi[damage.group]
    return damage.lost == hi - max(held.hi, lo)


def resting_on_time(evidence: Evidence, found: Finding, kind: str, damages: Iterable[Damage]) -> Finding:
    """Return the finding, resting on time if all damage of this kind is a hop's that had not come to the window's end.

    Rows that change are then older than they should be, or are still there, as well as missing. Of other records only
    missing ones may still come.
    """
    healed, ends = evidence.healed, evidence.ends
    mine = [damage for damage in damages if getattr(damage, kind)]
    late = all((kind == "lost" or damage.view == STATE) and only_late(evidence, damage) for damage in mine)
    return replace(found, timed=Timed(healed.at_ns, ends.at_ns)) if healed and ends and late else found


def counts(evidence: Evidence) -> dict[str, dict[str, int]]:
    """Return "lost", "doubled" or "changed" -> hop -> number of records, the highest of its streams and views.

    A hop that was not judged is left out. Where the differing rows were listed (symptom "differences"), their number
    replaces the digest's lower bound.
    """
    totals: dict[str, dict[str, int]] = {kind: {} for kind in KINDS}
    for one in evidence.each():
        for kind, by_hop in _counts(one).items():
            totals[kind] |= by_hop
    return totals


def _counts(evidence: Evidence) -> dict[str, dict[str, int]]:
    """Return the counts of one stream."""
    hops = [*(state.hop for state in evidence.states), *(digest.hop for _, digest in judged(evidence))]
    totals: dict[str, dict[str, int]] = {kind: dict.fromkeys(hops, 0) for kind in KINDS}
    by_view: dict[tuple[str, str, str, str], int] = {}
    for damage in compare(evidence):
        listed = _listed(evidence, damage)
        for kind in KINDS:
            place = (kind, damage.hop, damage.stream, damage.view)
            told = listed.get(kind, 0) if damage.stream in (evidence.stream, ARCHIVE) else 0
            number = max(getattr(damage, kind), told)
            by_view[place] = by_view.get(place, 0) + number
    for (kind, hop, _, _), number in by_view.items():
        totals[kind][hop] = max(totals[kind].get(hop, 0), number)
    return totals


def guilty(evidence: Evidence) -> dict[str, str]:
    """Return "lost", "doubled" or "changed" -> the first hop at which that damage of one stream appears. A kind without
    damage is left out."""
    first: dict[str, str] = {}
    for damage in compare(evidence):
        for kind in KINDS:
            if getattr(damage, kind):
                first.setdefault(kind, damage.hop)
    return first


def missing_hops(evidence: Evidence) -> list[str]:
    """Return the hops that the baseline knows and that gave no digest, so that nothing can be said about them.

    Trouble whose name begins with "the " is about something else than a hop.
    """
    known = evidence.baseline.marks.heads if evidence.baseline else {}
    given = {digest.hop for digest in evidence.digests}
    given |= {hop for state in evidence.states for hop in (state.hop, state.against)}
    trouble = evidence.symptoms.get("trouble") or {}
    hops = [*known, *(name for name in trouble if not name.startswith("the "))]
    return [hop for hop in dict.fromkeys(hops) if hop not in given]


def finding(check: str, evidence: Evidence, kind: str, damages: Iterable[Damage], held: str) -> Finding:
    """Make the finding of a check over one kind of damage.

    held: what the finding says where there is none, after the hops' names; "{records}" in it becomes their number.
    """
    pairs = list(judged(evidence))
    of_states = [sum(delta.keys for delta in state.groups.values()) for state in evidence.states]
    records = sum(tally.keys for reference, _ in pairs for tally in reference.groups.values()) + sum(of_states)
    hops = list(dict.fromkeys([*(state.hop for state in evidence.states), *(digest.hop for _, digest in pairs)]))
    damages = list(damages)
    if bad := [d for d in damages if getattr(d, kind)]:
        first = [d for d in bad if (d.hop, d.stream, d.view) == (bad[0].hop, bad[0].stream, bad[0].view)]
        later = list(dict.fromkeys(d.hop for d in bad if d.hop != bad[0].hop))
        why = _sentence(evidence, kind, first) + (f"; seen at {', '.join(later)} too" if later else "")
        return Finding(check, Verdict.FAIL, why, [_figures(d, kind) for d in bad])
    if not records:
        return Finding(check, Verdict.UNKNOWN, "there is nothing to compare: no digest has a record")
    if missing := missing_hops(evidence):
        return Finding(check, Verdict.UNKNOWN, f"no digest of {', '.join(missing)}: nothing can be said about it")
    gone = forgetful(evidence)
    if unreferenced := [
        reference.hop for reference, digest in pairs if reference.hop in gone and digest.stream != "offsets"
    ]:
        why = f"{unreferenced[0]} has deleted records since the baseline, and nothing else tells what there should be"
        return Finding(check, Verdict.UNKNOWN, f"{why}. Remedy: a retention that is longer than a test")
    if moving := [(state, group, delta) for state, group, delta in _deltas(evidence) if delta.moving]:
        where = ", ".join(f"{label(group)} at {state.hop} ({delta.moving})" for state, group, delta in moving[:3])
        why = f"keys that differed changed again before each further look, so nothing is known of them: {where}"
        return Finding(check, Verdict.UNKNOWN, why)
    if kind != "changed" and (undecided := [d for d in damages if d.replaced]):
        where = ", ".join(dict.fromkeys(f"{label(d.group)} at {d.hop}" for d in undecided[:GROUPS_NAMED]))
        why = f"whether records were changed, or lost with foreign ones in their place, is not known: {where}"
        return Finding(check, Verdict.UNKNOWN, why)
    of_windows = [sum(t.keys for t in reference.groups.values()) for reference, _ in pairs]
    most = max([*of_windows, *of_states])
    why = f"{', '.join(hops)}: {held.format(records=f'{most:,}')}"
    if untold := [f"{state.untold:,} keys of {state.hop}" for state in evidence.states if state.untold]:
        why += f"; not judged, for the log has forgotten them: {', '.join(untold)}"
    if forgot := [hop for hop in hops if hop in gone]:
        why += f"; what {', '.join(forgot)} lacks is not judged, for it has deleted records since the baseline"
    return Finding(check, Verdict.PASS, why, {"records": most})


def _deltas(evidence: Evidence) -> Iterator[tuple[Compared, Group, Delta]]:
    return ((state, group, delta) for state in evidence.states for group, delta in state.groups.items())


def label(group: Group) -> str:
    return "/".join(group)


def _is_reference(evidence: Evidence, digest: Digest) -> bool:
    return next(d for d in evidence.digests if d.stream == digest.stream) is digest


def _against_window(digest: Digest, group: Group, held: Tally, expected: int) -> Damage:
    return Damage(
        stream=digest.stream,
        hop=digest.hop,
        view=digest.view,
        against="the window",
        group=group,
        lost=max(0, expected - held.keys),
        doubled=max(0, held.keys - expected) + (held.rows - held.keys if digest.unique else 0),
        changed=held.conflicts,
        told=True,
    )


def _against(reference: Digest, digest: Digest, group: Group, right: Tally, held: Tally) -> Damage:
    lost, foreign = max(0, right.keys - held.keys), max(0, held.keys - right.keys)
    differ = right.keys == held.keys and right.sum != held.sum
    known = None not in (right.key_sum, held.key_sum)
    other_keys = right.key_sum != held.key_sum if known else differ and digest.stream in KEYED
    if right.keys == held.keys and ((right.lo, right.hi) != (held.lo, held.hi) or other_keys):
        lost, foreign = 1, 1  # as many ids, but not the same ones
    same_ids = not lost and not foreign
    gapless = right.keys == right.hi - right.lo + 1
    return Damage(
        stream=digest.stream,
        hop=digest.hop,
        view=digest.view,
        against=reference.hop,
        group=group,
        lost=lost,
        doubled=foreign + (held.rows - held.keys if digest.unique else 0),
        changed=held.conflicts or int(same_ids and held.sum != right.sum),
        told=same_ids,
        replaced=not known and same_ids and differ and not gapless,
    )


def _settled(evidence: Evidence, damage: Damage) -> Damage:
    """Return the damage as the listed rows show it, where the sums can't tell."""
    listed = _rows(evidence, damage) if damage.replaced and damage.stream in (evidence.stream, ARCHIVE) else {}
    missing, extra, changed = (int((listed.get(n) or {}).get("count", 0)) for n in ("missing", "extra", "changed"))
    if not missing + extra + changed:
        return damage
    same_ids = not missing and not extra
    return replace(damage, lost=missing, doubled=damage.doubled + extra, changed=changed, told=same_ids, replaced=False)


def _sentence(evidence: Evidence, kind: str, bad: list[Damage]) -> str:
    """Return one sentence about the damage in one view of one hop."""
    one, total = bad[0], sum(getattr(d, kind) for d in bad)
    noun = _noun(evidence, one.stream) + ("" if total == 1 else "s")
    where = ", ".join(
        f"{label(d.group)} ({getattr(d, kind)}{_named(evidence, d, kind)})".lstrip() for d in bad[:GROUPS_NAMED]
    )
    where += f" and {len(bad) - GROUPS_NAMED} more groups" if len(bad) > GROUPS_NAMED else ""
    view = (
        f"{one.hop} ({one.view})"
        if sum((d.hop, d.stream) == (one.hop, one.stream) for d in evidence.digests) > 1
        else one.hop
    )
    if kind == "lost":
        return f"{view} has {total} {noun} fewer than {one.against}: {where}"
    if kind == "doubled":
        return f"{view} has {total} {noun} too many: {where}"
    return f"{view} has at least {total} {noun} unlike {one.against}'s: {where}"


def _noun(evidence: Evidence, stream: str) -> str:
    """Return what one row is called, from the stream's name, which usually is a plural."""
    if stream == "offsets":
        return "log record"
    name = evidence.stream if stream == ARCHIVE else stream
    if name in ("", ARCHIVE):
        return "record"
    return name.removesuffix("s") if name.endswith("s") else f"{name} record"


def _named(evidence: Evidence, damage: Damage, kind: str) -> str:
    """Return the first differing ids, if they were listed. Of kind "doubled" these are the ids that are there twice and
    the ids that should not be there."""
    if damage.stream not in (evidence.stream, ARCHIVE):
        return ""
    rows = _rows(evidence, damage)
    listed = [rows.get(name) or {} for name in (_ROW_KINDS[kind], *(("extra",) if kind == "doubled" else ()))]
    ids = [one for rows in listed for one in rows.get("ids") or ()][:GROUPS_NAMED]
    return f": id {', '.join(str(i) for i in ids)}" if ids else ""


_ROW_KINDS: Mapping[str, str] = {"lost": "missing", "doubled": "doubled", "changed": "changed"}
"""The kinds of damage as diagnose.difference lists their rows."""


def _rows(evidence: Evidence, damage: Damage) -> dict[str, Json]:
    differences = evidence.symptoms.get("differences") or {}
    rows = differences.get(f"{damage.hop} {label(damage.group)}")
    return rows if isinstance(rows, dict) else {}


def _listed(evidence: Evidence, damage: Damage) -> dict[str, int]:
    rows = _rows(evidence, damage)
    return {kind: int((rows.get(name) or {}).get("count", 0)) for kind, name in _ROW_KINDS.items()}


def _figures(damage: Damage, kind: str) -> Json:
    return {
        "stream": damage.stream,
        "hop": damage.hop,
        "view": damage.view,
        "against": damage.against,
        "group": list(damage.group),
        kind: getattr(damage, kind),
    }

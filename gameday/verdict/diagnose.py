"""Explains a run to the engineer on call: what happened when, which hop is at fault, which records, where to look next.
It also lists the rows in which two hops differ.

All functions are pure. tasks/verify.py fetches the rows, checks/ judge.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gameday.model import Columns, Evidence, Finding, Group, Json, Measure, Verdict
from gameday.records.declaration import STATE, Stream
from gameday.verdict.causes import causes, clues_of
from gameday.verdict.checks import guilty
from gameday.verdict.checks._damage import ARCHIVE, compare, label

__all__ = ["IDS_NAMED", "culprits", "difference", "explain", "named", "wanted"]


IDS_NAMED = 20
"""How many ids of each kind are named; the count says how many there are."""
PAIRS_WANTED = 12
"""How many (hop, group) pairs of a stream are listed row by row. The first of them show where the damage began."""


def wanted(evidence: Evidence) -> list[tuple[str, Group]]:
    """Return the (hop, group) pairs whose rows should be fetched; of each stream the hop at fault comes first. There is
    none if every digest is right."""
    return [pair for one in evidence.each() for pair in _wanted(one)]


def _wanted(evidence: Evidence) -> list[tuple[str, Group]]:
    """Return these pairs for one stream."""
    first = next(iter(d.hop for d in evidence.digests if d.stream == evidence.stream), None)
    listed = (evidence.stream, ARCHIVE)
    pairs = {
        (d.hop, d.group): None
        for d in compare(evidence)
        if d.stream in listed and d.hop != first and d.view != STATE  # a state's rows were listed when it was compared
    }
    return list(pairs)[:PAIRS_WANTED]


def difference(reference: Columns, held: Columns, stream: Stream) -> Json:
    """Return the rows in which a hop differs from the reference. Both have the stream's fields, in any order.

    Returns: {"missing": {"count", "ids"}, "extra": …, "doubled": …, "changed": {"count", "ids", "rows": [{"id", field:
    [right, held]}]}}, with at most IDS_NAMED ids each, ascending, and "last", the highest id, if there are more.
    doubled: ids that the hop holds more than once. changed: ids of which some row differs. An id is the record's
    number, or its key as text if it has no number.
    """
    right_keys, held_keys = stream.told_apart(reference), stream.told_apart(held)
    _, first, counts = np.unique(held_keys, return_index=True, return_counts=True)
    return {
        "missing": named(reference, _once(right_keys, ~np.isin(right_keys, held_keys)), stream),
        "extra": named(held, _once(held_keys, ~np.isin(held_keys, right_keys)), stream),
        "doubled": named(held, first[counts > 1], stream),
        "changed": _changed(reference, held, stream),
    }


def explain(evidence: Evidence, findings: Sequence[Finding]) -> list[str]:
    """Return sentences about the acts, the measures, the findings that are not a pass, what is likely behind them, the
    hops and ids at fault, and where to look."""
    lines = [
        _act(act.at_ns, evidence, f"{act.fault} of {_component(act.args, evidence)}", act.proof)
        for act in evidence.acts
    ]
    lines += [
        _measure(name, evidence.measures[name]) for name in ("impact", "restore", "drain") if name in evidence.measures
    ]
    for one in findings:
        if one.verdict not in (Verdict.PASS, Verdict.SKIPPED):
            lines.append(f"{one.check}: {one.verdict}: {one.why}.")
    lines += [f"{hop}: {text}." for hop, text in (evidence.symptoms.get("trouble") or {}).items()]
    if any(one.verdict not in (Verdict.PASS, Verdict.SKIPPED) for one in findings):
        lines += [f"Likely: {cause.text}" for cause in causes(clues_of(evidence))]
    return [line for line in (*lines, *culprits(evidence)) if line]


def culprits(evidence: Evidence) -> list[str]:
    """Return sentences about the ids that differ, by hop and group, and the hops at which damage first appears."""
    lines = [_rows(place, rows) for place, rows in (evidence.symptoms.get("differences") or {}).items()]
    for one in evidence.each():
        places: dict[str, list[str]] = {}
        for kind, hop in guilty(one).items():
            places.setdefault(hop, []).append(kind)
        lines += [_look(one, hop, kinds) for hop, kinds in places.items()]
    return [line for line in lines if line]


def _once(keys: npt.NDArray[Any], mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """Return the rows under the mask, one for each key."""
    rows = np.flatnonzero(mask)
    return rows[np.unique(keys[rows], return_index=True)[1]]


def named(columns: Columns, rows: npt.NDArray[np.intp], stream: Stream) -> Json:
    """Return how many rows there are, and the ids of the first ones, in the order of the sequence; and the last id, if
    not all are named."""
    rows = rows[np.argsort(columns[stream.sequence][rows], kind="stable")]
    found: Json = {"count": len(rows), "ids": [_id(columns, row, stream) for row in rows[:IDS_NAMED]]}
    return {**found, "last": _id(columns, rows[-1], stream)} if len(rows) > IDS_NAMED else found


def _id(columns: Columns, row: int, stream: Stream) -> Json:
    """Return what names a record in its group: its number, or the other fields of its key."""
    if stream.counted:
        return int(columns[stream.sequence][row])
    return "/".join(str(stream.types[name].shown(_plain(columns[name][row]))) for name in stream.own)


def _changed(reference: Columns, held: Columns, stream: Stream) -> Json:
    """Return the records of which some held row has another hash than the reference's, with the fields that differ."""
    right_keys, held_keys = stream.told_apart(reference), stream.told_apart(held)
    if not len(right_keys) or not len(held_keys):
        return {"count": 0, "ids": [], "rows": []}
    order = np.argsort(right_keys, kind="stable")
    place = order[np.minimum(np.searchsorted(right_keys[order], held_keys), len(right_keys) - 1)]
    differs = (right_keys[place] == held_keys) & (stream.row_hashes(reference)[place] != stream.row_hashes(held))
    rows = np.flatnonzero(differs)
    rows = rows[np.argsort(held[stream.sequence][rows], kind="stable")]
    listed = []
    for row in rows[:IDS_NAMED]:
        pairs = {
            name: [kind.shown(_plain(reference[name][place[row]])), kind.shown(_plain(held[name][row]))]
            for name, kind in stream.types.items()
            if name not in stream.group and name in stream.fields
        }
        listed.append({"id": _id(held, row, stream), **{f: pair for f, pair in pairs.items() if pair[0] != pair[1]}})
    return {**named(held, _once(held_keys, differs), stream), "rows": listed}


def _plain(value: Any) -> Any:
    """Return an array's value as a Python value."""
    return value.item() if isinstance(value, np.generic) else value


def _act(at_ns: int, evidence: Evidence, what: str, proof: str | None) -> str:
    since_s = (at_ns - (evidence.inject_ns or at_ns)) / 1e9
    return f"At {since_s:.2f} s: {what}; {proof or 'it was not proved that it bit'}."


def _component(args: Json, evidence: Evidence) -> str:
    return str(args.get("component") or evidence.component or "the stack")


def _measure(name: str, measure: Measure) -> str:
    if measure.high_s is None:
        return f"{name.capitalize()} is not measured: {measure.why}."
    return f"{name.capitalize()} came between {measure.low_s:.2f} s and {measure.high_s:.2f} s."


def _rows(place: str, rows: Json) -> str:
    """Return one sentence about the differing rows of one hop and group ("silver west/one")."""
    if "trouble" in rows:
        return f"{place}: the differing rows can't be listed: {rows['trouble']}."
    parts = []
    for kind in ("missing", "extra", "doubled", "changed"):
        listed = rows.get(kind) or {}
        if listed.get("count"):
            more = ", …" if listed["count"] > len(listed["ids"]) else ""
            parts.append(f"{listed['count']} {kind} (id {', '.join(map(str, listed['ids']))}{more})")
    changes = (rows.get("changed") or {}).get("rows") or []
    if changes:
        first = {field: pair for field, pair in changes[0].items() if field != "id"}
        changes_of_first = ", ".join(f"{field} {right} became {held}" for field, (right, held) in first.items())
        parts.append(f"of id {changes[0]['id']}: {changes_of_first}")
    return f"{place}: {'; '.join(parts)}." if parts else ""


def _look(evidence: Evidence, hop: str, kinds: Sequence[str]) -> str:
    """Return where to look: the hop at which damage first appears, what feeds it, and whose logs."""
    groups = list(dict.fromkeys(label(d.group) for d in compare(evidence) if d.hop == hop))
    hops = list(dict.fromkeys(d.hop for d in evidence.digests if d.stream == evidence.stream))
    before = hops[hops.index(hop) - 1] if hop in hops[1:] else None
    way = f"between {before} and {hop}" if before else f"at {hop}"
    struck = f", and of {evidence.component}" if evidence.component else ""
    return (
        f"Look {way}: that is where records were first {' and '.join(kinds)} ({', '.join(groups[:4])}); "
        f"read the logs of what writes {hop}{struck} around the time of the act."
    )

"""Read the newest records of each hop as they are declared, and hold the hops against each other: what `gameday check
--look` prints. A wrong guess of a type, a path or a condition shows here, before any failure test.

Nothing is changed. Each question has a bound, and hops are asked side by side. What records look like is
records/excerpts.py's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

from gameday.errors import DriverError, GamedayError, TooLate
from gameday.model import Columns, Excerpt, Group, Json, Window
from gameday.ports import Attempts, Derived, Hop, Ledger, Log, Newest
from gameday.records.declaration import STATE, Stream
from gameday.records.excerpts import NAMED, Difference, Facts, back, busiest, covered, differences, facts, moving
from gameday.stack.config import CANARY
from gameday.stack.live import Stack
from gameday.system.asking import answer
from gameday.system.polling import until

__all__ = ["look", "readable"]

LOOKED_AT = 1_000
"""Records of each hop."""

END = 20 * LOOKED_AT
"""Records of a log's end in which a group is looked for that others have."""

GROUPS_MAX = 12
"""How many groups are held against each other: those with the most records."""

LOOK_WITHIN_S = 30.0
"""For one hop, or two held against each other."""

SETTLED_WITHIN_S = 10.0
"""What the next hop lacks may be on its way: so long is waited until it has passed where the first one was."""

ON_ITS_WAY_S = 3.0
"""An id that a reference without gaps leaves out may be on its way for so long."""

AGAIN_EVERY_S = 1.0

NOT_YET = "none of the canary's records is here yet: a run writes them"


@dataclass(frozen=True)
class Place:
    """A hop as the stream has it. kind: what it promises, as declared; "": it is a log. first: the stream's
    reference."""

    name: str
    hop: Hop
    stream: Stream
    kind: str
    first: bool

    @property
    def state(self) -> bool:
        """Whether its rows are overwritten."""
        return self.kind == STATE

    def newest(self, upto: Mapping[Group, int] | None = None, limit: int = LOOKED_AT) -> Excerpt:
        """Also of a hop that can only be asked by id; that one can't tell what is malformed."""
        if isinstance(self.hop, Newest):
            return self.hop.newest(limit, upto)
        heads = self.hop.heads() if upto is None else upto
        few = busiest((), heads, GROUPS_MAX) if len(heads) > GROUPS_MAX else heads

        def ask(window: Window) -> tuple[dict[Group, Columns], int]:
            held = {group: self.hop.rows(group, lo, window.hi[group]) for group, lo in window.lo.items()}
            return held, sum(map(_rows, held.values()))

        groups, window, read = back(ask, few, limit, self.stream)
        return Excerpt(groups, heads, window.lo, read)

    def settled(self) -> Excerpt:
        """Its newest records; of a reference without gaps once more, while an id may be on its way."""
        seen = self.newest()

        def whole() -> bool:
            nonlocal seen
            told = facts(self.stream, seen)
            if told.found == told.span:
                return True
            seen = self.newest()
            return False

        if self.first and self.stream.gapless and not seen.malformed:
            with suppress(TooLate):
                until(whole, ON_ITS_WAY_S, AGAIN_EVERY_S)
        return seen

    def lacks(self, other: Excerpt) -> tuple[set[Group], set[Group], Mapping[Group, int]]:
        """The groups of another hop's excerpt that this one lacks now; those of them that it should have, as they move;
        and its heads. Of a log only the end is looked at: it should have what moved since that begins."""
        since_us: int | None = None
        if isinstance(self.hop, Log):
            tail = self.newest(limit=END)
            since_us, heads = covered(self.stream, tail), tail.heads
        else:
            heads = self.hop.heads()
        lacking = other.groups.keys() - heads.keys()
        return lacking, lacking & moving(self.stream, other, since_us), heads


def look(stack: Stack) -> list[dict[str, Json]]:
    """One row for each hop, and one for each two that follow each other: {"what", "ok", "note", "look": the figures}.

    ok: False where the declaration is wrong, or nothing could be looked at.
    """
    places, unmade = [], []
    for live in stack.streams.values():
        for name in live.stream.hops:
            try:
                kind = str(stack.config.hops[name].settings.get("kind", ""))
                places.append(Place(name, live.made(name), live.stream, kind, name == live.stream.hops[0]))
            except GamedayError as e:
                unmade.append({"what": f"look at {name}", "ok": False, "note": str(e), "look": {}})
    notes = {
        place.name: "its rows are made of another hop's records: not looked at"
        if isinstance(place.hop, Derived)
        else "its records are written in a run, and only that run's are known: not looked at"
        for place in places
        if isinstance(place.hop, Derived | Attempts)
    }
    places = [place for place in places if place.name not in notes]
    with ThreadPoolExecutor(2 * len(places) or 1) as pool:
        asked = [(place, pool.submit(_asked, place.settled, f"a look at {place.name}")) for place in places]
        seen = [(place, told.result()) for place, told in asked]
        rows = [_hop_row(place, told) for place, told in seen]
        read = [(place, told) for place, told in seen if isinstance(told, Excerpt) and _records(told)]
        pairs = [
            (
                left.name,
                right.name,
                pool.submit(_asked, partial(_against, (left, was), (right, had)), f"{left.name} against {right.name}"),
            )
            for (left, was), (right, had) in pairwise(read)
            if left.stream is right.stream
        ]
        rows += [_pair_row(left, right, told.result()) for left, right, told in pairs]
    left_out = [{"what": f"look at {name}", "ok": True, "note": note, "look": {}} for name, note in notes.items()]
    return unmade + rows + left_out


def readable(hop: Hop, heads: Mapping[Group, int], gapless: bool, canary: bool = False) -> str:
    """What `gameday check` says of a hop that has these heads. Raises DriverError where none of its newest records can
    be read. gapless: whether heads tell how many records there were. canary: whether gameday writes them."""
    note = f"{sum(heads.values()):,} records" if gapless else f"{len(heads):,} group{'s' * (len(heads) != 1)}"
    if not isinstance(hop, Newest):
        return note
    seen = hop.newest(LOOKED_AT)
    if canary and not seen.malformed and not _records(seen):
        return NOT_YET
    if seen.read and not _records(seen):
        raise DriverError(_unreadable(seen, reasons=1), definite=True)
    return f"{note}; of the newest {seen.read:,}, {_malformed(seen, reasons=1)}" if seen.malformed else note


def _records(seen: Excerpt) -> int:
    return sum(map(_rows, seen.groups.values()))


def _rows(columns: Columns) -> int:
    return max(map(len, columns.values()), default=0)


# ---- asking ------------------------------------------------------------------------------------------------


def _asked(ask: Callable[[], Any], what: str) -> Any:
    """The answer, or the GamedayError."""
    try:
        return answer(ask, LOOK_WITHIN_S, what)
    except GamedayError as e:
        return e


@dataclass(frozen=True)
class Pair:
    """Two hops held against each other. behind: by how much the right one is. absent: groups that the right one lacks
    though they move, and it has passed where the left one was; late: that it lacks and may get. foreign: those that the
    left one lacks though it should have them. shared: how many groups both have."""

    difference: Difference
    behind: str
    shared: int
    absent: tuple[Group, ...] = ()
    late: tuple[Group, ...] = ()
    foreign: tuple[Group, ...] = ()


def _against(left: tuple[Place, Excerpt], right: tuple[Place, Excerpt]) -> Pair:
    """Compare what both have passed; what the next hop lacks is looked for again once it has passed the first one's
    heads."""
    (one, was), (other, had) = left, right
    stream = one.stream
    shared = {group: min(head, had.heads[group]) for group, head in was.heads.items() if group in had.heads}
    chosen = busiest((was, had), shared, GROUPS_MAX)
    there, here = (place.newest(chosen) for place in (other, one))  # in this order, what only the right has is foreign
    found = _differences(one, other, here, there)
    if found.extra and isinstance(one.hop, Log):  # it may be a little further back, where ids or times aren't in order
        here = one.newest(chosen, END)
        found = _differences(one, other, here, there)
    foreign: set[Group] = set()
    if had.heads.keys() - was.heads.keys():
        _, moves, known = one.lacks(had)
        foreign = had.heads.keys() - known.keys() if isinstance(one.hop, Ledger) else moves
    late, moves, passed = was.groups.keys() - had.heads.keys(), set(), False

    def settled() -> bool:
        nonlocal found, late, moves, passed
        late, moves, heads = other.lacks(was)
        passed = all(heads.get(group, 0) >= was.heads[group] for group in shared)
        there = other.newest(chosen, END if isinstance(other.hop, Log) else LOOKED_AT)
        found = _differences(one, other, here, there)
        done = passed and (stream.counted or not found.missing)  # times aren't in order: what is before may still come
        return done or not (found.missing or late)

    if shared and (found.missing or late):
        with suppress(TooLate):
            until(settled, SETTLED_WITHIN_S, AGAIN_EVERY_S)
    absent = moves if passed else set()
    late = (moving(stream, was) & late if isinstance(other.hop, Log) else late) - absent
    lags = [max(0, head - had.heads[group]) for group, head in was.heads.items() if group in had.heads]
    behind = f"{sum(lags):,} ids" if stream.counted else f"up to {max(lags, default=0) / 1e6:.1f} s"
    return Pair(
        found,
        behind if any(lags) else "",
        len(shared),
        tuple(sorted(absent)),
        tuple(sorted(late)),
        tuple(sorted(foreign)),
    )


def _differences(one: Place, other: Place, here: Excerpt, there: Excerpt) -> Difference:
    """Where rows are overwritten, by key: one that the log has may be deleted since, and one of the table before may
    have moved on."""
    if not (one.state or other.state):
        return differences(one.stream, here, there)
    found = differences(one.stream.of_keys, here, there)
    if other.state and not one.state:
        found = replace(found, missing=0, missing_keys=())
    return replace(found, extra=0, extra_keys=()) if one.state else found


# ---- telling -----------------------------------------------------------------------------------------------


def _hop_row(place: Place, seen: Excerpt | GamedayError) -> dict[str, Json]:
    what = f"look at {place.name}"
    if not isinstance(seen, Excerpt):
        return {"what": what, "ok": False, "note": str(seen), "look": {}}
    told = facts(place.stream.of_keys if place.state else place.stream, seen)
    figures = {**asdict(told), "read": seen.read, "malformed": seen.malformed, "reasons": list(seen.reasons)}
    if not told.records:
        yet = place.stream.hops[0] == CANARY and not seen.malformed
        return {"what": what, "ok": yet, "note": NOT_YET if yet else _unreadable(seen), "look": figures}
    gaps = place.first and place.stream.gapless and told.found < told.span
    repeats = place.kind in ("once", STATE) and told.repeated > 0
    notes = [f"{told.records:,} records of {_count(told.groups, 'group')}"]
    if seen.malformed:
        notes.append(_malformed(seen))
    if told.repeated:
        notes.append(f"{told.repeated:,} repeat a key" + (f", though kind is {place.kind}" if repeats else ""))
    if place.stream.counted and not place.state:
        notes.append(_ids(told) + (f", though streams.{place.stream.name} is gapless" if gaps else ""))
    notes += [f"{name} is always {_value(value)}" for name, value in told.constant.items()]
    return {"what": what, "ok": not (seen.malformed or repeats or gaps), "note": "; ".join(notes), "look": figures}


def _pair_row(left: str, right: str, pair: Pair | GamedayError) -> dict[str, Json]:
    what = f"look from {left} to {right}"
    if not isinstance(pair, Pair):
        return {"what": what, "ok": False, "note": str(pair), "look": {}}
    found = pair.difference
    compared = found.compared + found.missing + found.extra
    wrong = [
        _named(f"{found.missing:,} of {compared:,} records are not in {right}", found.missing, found.missing_keys),
        _named(f"{found.extra:,} of {compared:,} records are only in {right}", found.extra, found.extra_keys),
        _groups(f"not in {right}", pair.absent),
        _groups(f"in {right} and not in {left}", pair.foreign),
    ]
    for name, count in found.fields.items():
        examples = [change for change in found.changes if change[1] == name]
        shown = ", ".join(
            f"{key} has {_value(one)} in {left} and {_value(other)} in {right}" for key, _, one, other in examples
        )
        wrong.append(f"{name} differs in {count:,} of {found.compared:,}: {shown}")
    if not pair.shared:
        wrong = [f"no group of {left} is in {right}, so nothing can be compared", *wrong]
    elif not compared:
        wrong = [f"nothing to compare: of what both have passed, no record is among the newest of {left}", *wrong]
    wrong = list(filter(None, wrong))
    notes = [*wrong] if wrong else [f"{compared:,} records are the same"]
    notes += [f"{right} is {pair.behind} behind, which were not compared"] if pair.behind else []
    notes += filter(None, [_groups(f"not in {right} yet", pair.late)])
    return {"what": what, "ok": not wrong, "note": "; ".join(notes), "look": asdict(pair)}


def _unreadable(seen: Excerpt, reasons: int = NAMED) -> str:
    if seen.malformed:
        return f"0 records, {_malformed(seen, reasons)}"
    if seen.read:
        return f"0 records: none of the newest {seen.read:,} belongs to the stream. Remedy: look at `where` of this hop"
    return "0 records: it is empty, so nothing can be said about how it is declared"


def _malformed(seen: Excerpt, reasons: int = NAMED) -> str:
    return f"{seen.malformed:,} malformed: {'; '.join(seen.reasons[:reasons])}"


def _ids(told: Facts) -> str:
    if told.sparsest is None:
        return "no id is left out"
    group, found, span = told.sparsest
    most = f", the fewest in {'/'.join(group)} ({found:,} of {span:,})" if told.groups > 1 else ""
    return f"{told.found:,} of {told.span:,} ids are there{most}"


def _named(what: str, count: int, names: tuple[str, ...]) -> str:
    return f"{what}: {', '.join(names)}{', …' if count > len(names) else ''}" if count else ""


def _groups(where: str, groups: tuple[Group, ...]) -> str:
    names = tuple("/".join(group) for group in groups[:NAMED])
    return _named(f"{_count(len(groups), 'group')} {'is' if len(groups) == 1 else 'are'} {where}", len(groups), names)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _value(value: Any) -> str:
    return "NULL" if value is None else "''" if value == "" else str(value)

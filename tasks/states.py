"""Rows that change and go: what each hop makes of them, held against an earlier hop as of one position.

A hop of kind "state" is held against the log before it, a log against the table that it tells the changes of; both
against a ledger that tells which rows are there. Where one moment gives a table's rows and its place in the log, or in
the ledger, that up to this place says what it should have: exactly, whatever goes on meanwhile. Elsewhere both sides
move, and what differs is looked at again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from gameday.errors import DriverError, TooLate
from gameday.model import Compared, Group, Json, Position
from gameday.ports import Cursor, Delivers, Hop, Ledger, Log, States
from gameday.records.declaration import STATE, Stream
from gameday.records.hashing import U64
from gameday.records.states import NONE, Differences, State, compare, deltas, grouped, moved, went_on
from gameday.system.polling import until
from gameday.verdict import diagnose
from gameday.verdict.checks._damage import label

__all__ = ["compared", "is_state", "references"]

SETTLED_WITHIN_S = 60.0
"""How long a hop may take to come to where an earlier one was; and how long what differs may be on its way, where
nothing tells that it has come. A log that is long to read is looked at
twice within it: the second look reads what came since."""

LOOK_EVERY_S = 1.0

GROUPS_LISTED = 12
"""Of how many groups the differing rows are listed."""

ROWS_LISTED = 1_000
"""How many differing rows of a hop are fetched to be named."""

T = TypeVar("T")


class Ask(Protocol):
    """Asks a server with a bound, and says what for."""

    def __call__(self, what: str, ask: Callable[[], T], /) -> T: ...


@dataclass(frozen=True)
class _Found:
    """What was compared with what, and in what it differs. late: the hop had not come to the log's end."""

    right: State
    held: State
    differences: Differences
    late: bool = False


def is_state(hop: object) -> bool:
    """Whether a hop's rows are overwritten."""
    return getattr(hop, "kind", None) == STATE


def _tells(hop: object) -> bool:
    """Whether a hop can say what counts of each key: a table that keeps what it had can't."""
    return is_state(hop) or isinstance(hop, Log | Ledger)


def references(stream: Stream, hops: Mapping[str, Hop]) -> dict[str, str]:
    """Hop -> the earlier one that says what it should have: of each that has no window to be judged by, and of a log
    whose changes are a table's, or a ledger's that tells which rows are there."""
    first = next(iter(hops))
    tells = _folds(hops[first])
    found, log = {}, None
    for name, hop in hops.items() if stream.version is not None else ():
        changes = isinstance(hop, Log)
        if name != first and (is_state(hop) or (changes and (tells or is_state(hops[first])))):
            found[name] = log if log is not None and is_state(hop) and not tells else first
        log = name if changes else log
    return found


def _folds(hop: object) -> bool:
    """Whether it is a ledger that knows which rows are there, as of any number of changes."""
    return isinstance(hop, Ledger) and isinstance(hop, States)


def compared(
    stream: Stream, hops: Mapping[str, Hop], cursors: Mapping[str, Cursor], ask: Ask, trouble: dict[str, str]
) -> tuple[tuple[Compared, ...], dict[str, Json]]:
    """Every such hop beside its reference, and the rows in which they differ: "<hop> <group>" -> as
    diagnose.difference. What can't be compared is missing, and says why in trouble."""
    found: list[Compared] = []
    listed: dict[str, Json] = {}
    for name, against in references(stream, hops).items():
        right, held = hops[against], hops[name]
        try:
            if not isinstance(right, States) or not isinstance(held, States) or not _tells(right):
                why = f"{against} can't tell what {name} should have: it is neither a log nor of kind {STATE!r}"
                raise DriverError(why, definite=True)
            of = _compared(right, held, cursors, lambda hop, one: ask(f"the state of {hop}", one), (against, name))
        except DriverError as e:
            trouble[name] = str(e)
            continue
        listed |= _listed(stream, (right, held), name, of, ask)
        figures = deltas(of.right, of.held, of.differences)
        position = of.held.position if of.held.exact else {}
        found.append(Compared(stream.name, name, against, figures, position, of.late, of.differences.untold))
    return tuple(found), listed


def _compared(
    right: States,
    held: States,
    cursors: Mapping[str, Cursor],
    ask: Callable[[str, Callable[[], State]], State],
    names: tuple[str, str],
) -> _Found:
    against, name = names
    if (isinstance(right, Log) or _folds(right)) and not isinstance(held, Log):
        mine = ask(name, held.state)
        if mine.exact:
            return _as_of(lambda upto: ask(against, lambda: right.state(upto)), lambda: ask(name, held.state), mine)

    shown: dict[frozenset[tuple[str, int]], Mapping[Group, int]] = {}

    def passed(position: Position) -> bool | None:
        """Whether the hop has all that came before this position; None: nobody can tell."""
        if not position:
            return None
        if _folds(right) and isinstance(held, Log):  # the ledger's places are no places of a log: its heads are
            at = frozenset(position.items())
            upto = shown[at] = shown.get(at) or right.heads()
            heads = held.heads()
            return all(heads.get(group, 0) >= number for group, number in upto.items())
        places = [held.delivered()] if isinstance(held, Delivers) else []
        places += [cursor.position() for cursor in cursors.values()] if isinstance(held, Log) else []
        known = [place for place in places if place and place.keys() & position.keys()]
        if not known:
            return None
        return any(all(place.get(slot, 0) >= at for slot, at in position.items()) for place in known)

    return _looked(lambda: ask(against, right.state), lambda: ask(name, held.state), passed)


def _as_of(right: Callable[[Position | None], State], held: Callable[[], State], mine: State) -> _Found:
    """A table that tells its place in the log, or in the ledger; mine: as it is now. It is judged where it stands, once
    it has come to where that ended; one that doesn't come there is judged where it stands, and where that is right by
    what it lacks."""
    end = right(None)
    ends, reached = end.position, False
    if mine.position.keys() - ends.keys():
        right(mine.position)  # which is no place of the log, and raises
    open_: U64 | None = None
    coming: State | None = mine
    sure, last = NONE, _Found(end, mine, NONE)

    def settled() -> bool:
        """What is wrong at one position is wrong, whatever it is at the next one; what the log can't tell is looked at
        again."""
        nonlocal reached, open_, sure, last, coming
        now, coming = coming if coming is not None else held(), None
        reached = all(now.position.get(slot, 0) >= end for slot, end in ends.items())
        if not reached:
            last = _Found(last.right, now, NONE)
            return False
        what = right(now.position)
        found = compare(what, now)
        found = found if open_ is None else found.only(open_)
        open_, last = found.unsure, _Found(what, now, found)
        sure = sure.joined(found.only(found.keys[~np.isin(found.keys, open_)]))
        return not len(open_)

    with suppress(TooLate):
        until(settled, within_s=SETTLED_WITHIN_S, every_s=LOOK_EVERY_S, what="the table to come to the log's end")
    if reached:
        left = last.differences.only(open_ if open_ is not None else NONE.unsure)
        return _Found(last.right, last.held, sure.joined(left) if len(left.keys) else sure)
    what = right(last.held.position)
    found = compare(what, last.held)
    if len(found.keys):
        return _Found(what, last.held, found)
    what = right(ends)
    return _Found(what, last.held, compare(what, last.held), late=True)


def _looked(right: Callable[[], State], held: Callable[[], State], passed: Callable[[Position], bool | None]) -> _Found:
    """Two that both move. A key that differs after the hop has passed where the reference was, and has not moved there
    meanwhile, is damage. Where nobody can tell that it has passed, it is damage if it has not moved for
    SETTLED_WITHIN_S. One that moves is right once it is the same at a look, or a log's history shows that it has only
    gone on since; one that keeps moving otherwise is not known.

    That a key is absent twice doesn't tell that it has not moved: it may have come and gone. So a ghost must be the
    same row at two looks, with a look at the reference between them that hasn't the key.
    """
    first = was = right()
    first_held: State | None = None
    before: State | None = None
    last, sure, waited = _Found(was, was, NONE), NONE, 0
    open_: U64 | None = None
    told: bool | None = False

    def settled() -> bool:
        nonlocal was, last, open_, sure, waited, told, first_held, before
        there = passed(was.position)
        waited += 1
        if there is False and waited * LOOK_EVERY_S < SETTLED_WITHIN_S / 2:
            return False
        told, now = there, held()
        first_held = now if first_held is None else first_held
        found = compare(was, now)
        found = found if open_ is None else found.only(open_)
        open_, last = found.keys, _Found(was, now, found)
        if not len(open_):
            return True
        after = right()
        if told:
            still = open_[_unmoved(found, (was, after), (before, now))]
            sure = sure.joined(found.only(still))
            open_ = open_[~np.isin(open_, still)]
        open_ = open_[~went_on(was, after, now, open_)]
        was, before = after, now
        return not len(open_)

    with suppress(TooLate):
        until(settled, within_s=SETTLED_WITHIN_S, every_s=LOOK_EVERY_S, what="what differs to be the same")
    left = last.differences.only(open_ if open_ is not None else NONE.unsure)
    if len(left.keys):
        earlier = first_held if first_held is not last.held else None  # a hop that is slow to tell was looked at once
        still = left.keys[_unmoved(left, (first, was), (earlier, last.held))]
        sure = sure.joined(left.only(still)).joined(left.only(left.keys[~np.isin(left.keys, still)]).as_unsure())
    return _Found(last.right, last.held, sure, late=told is False)


def _unmoved(found: Differences, right: tuple[State, State], held: tuple[State | None, State]) -> npt.NDArray[np.bool_]:
    """Which of the keys that differ can't be on their way. held: None: there was no look before."""
    keys = found.keys
    still = ~moved(*right, keys)
    before, now = held
    absent = np.isin(keys, found.ghosts)
    return still & ~absent if before is None else still & (~absent | ~moved(before, now, keys))


def _listed(stream: Stream, hops: tuple[States, States], name: str, of: _Found, ask: Ask) -> dict[str, Json]:
    """The differing rows by group. They are fetched now, so a table may have moved on; the figures are those of the
    moment that was compared."""
    if not len(of.differences.keys):
        return {}
    groups = dict(list(grouped(of.right, of.held, of.differences).items())[:GROUPS_LISTED])
    keys = of.differences.keys[:ROWS_LISTED]
    try:
        columns = [
            ask(f"the differing rows of {name}", partial(hop.records, one.rows[one.at(keys[one.alive(keys)])[0]]))
            for hop, one in zip(hops, (of.right, of.held), strict=True)
        ]
    except DriverError as e:
        return {f"{name} {label(group)}": {"trouble": str(e)} for group in groups}
    own = [stream.state_hashes(held)[0] for held in columns]
    found: dict[str, Json] = {}
    for group, differences in groups.items():
        reference, mine = (
            {field: column[np.isin(hashes, differences.keys)] for field, column in held.items()}
            for held, hashes in zip(columns, own, strict=True)
        )
        found[f"{name} {label(group)}"] = _named(stream, reference, mine, differences)
    return found


def _named(
    stream: Stream, reference: Mapping[str, np.ndarray], held: Mapping[str, np.ndarray], of: Differences
) -> Json:
    told = diagnose.difference(reference, held, stream.of_keys)
    repeated = np.flatnonzero(np.isin(stream.state_hashes(held)[0], of.repeated))
    told["doubled"] = diagnose.named(held, repeated, stream.of_keys)
    counts = {"missing": of.lost, "extra": of.ghosts, "doubled": of.repeated, "changed": of.changed}
    return {kind: {**told[kind], "count": len(keys)} for kind, keys in counts.items()}

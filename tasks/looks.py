"""Compares each stream's hops again and again, for `gameday watch`. Breaks nothing.

A look judges what is new since the look before, and once more what came in the BACK_S before that. It uses the digests
of the night's end (tasks/digests.py). Rows that change are judged as of a position (tasks/states.py). The next look
judges the same differing records again, and reports those that still differ. Each stream has a thread of its own, so
that a server that hangs keeps nobody from judging the others. verdict/known.py makes events of the looks.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from statistics import median
from typing import Protocol, TypeVar

import numpy as np

from gameday.errors import DriverError, GamedayError
from gameday.model import Baseline, Delta, Evidence, Group, Json, Marks, Position, Window
from gameday.ports import Attempts, Cursor, Derived, Forgets, Hop, Log
from gameday.stack.live import LiveStream, Stack
from gameday.system.asking import answer
from gameday.verdict import ahead, diagnose
from gameday.verdict.checks._damage import Damage, compare, forgetful, label
from gameday.verdict.known import DAMAGE, IDS_KEPT, LAG, UNANSWERED, UNKNOWN, Trouble
from tasks import states
from tasks.digests import held
from tasks.look import Place

__all__ = ["EVERY_S", "Left", "Look", "Range", "Watched", "watched"]

EVERY_S = 5.0
"""Between two looks at a stream."""

BACK_S = 30.0
"""So far back a look judges again: a record may be written twice a little later, and what is late has come by then."""

STATES_REST = 2.0
"""A whole table was read for a look at rows that change: the next one comes after so many times as long."""

STATES_EVERY_S = 15.0

HEADS_WITHIN_S = 10.0
ASK_WITHIN_S = 30.0
"""For one question to one server."""

AGAIN_S = 15.0
"""A server that could not be asked is asked again after so long."""

LAG_AFTER_S = 30.0
"""A hop that is behind for longer is told as late; or for LAG_TIMES what is usual for it, if that is longer."""

LAG_TIMES = 3
USUAL_OF = 20
"""Of so many delays the median is the usual one: an outage changes it little."""

WINDOW_MAX = 200_000
"""Ids that are judged at one look at most; what is left comes at the next."""

WINDOW_MAX_US = 600_000_000
"""The same where a time tells the window."""

AGAIN_MAX = 8
"""How many ranges that differed are judged again at one look."""

RANGES_MAX = 5
"""Of one group of a hop; further ones are joined with the last."""

RANGE_REST = 20.0
"""A range that took long to judge is judged again after so many times as long."""

LISTED_MAX = 12
"""Of how many groups of a hop the differing rows are fetched."""

GROUPS_NAMED = 3

T = TypeVar("T")


@dataclass(frozen=True)
class Range:
    """Records in which a hop differed. groups: of whose damage it is. hits: what was found last. sure: whether it was
    found at a second look. starts: what the logs had deleted when it was found. due_s: when it is judged again."""

    hop: str
    window: Window
    groups: tuple[Group, ...]
    hits: tuple[Trouble, ...] = ()
    sure: bool = False
    starts: Mapping[str, Position] = field(default_factory=dict)
    due_s: float = 0.0


@dataclass(frozen=True)
class Left:
    """What one watch leaves to the next: hop -> group -> up to which id it was judged; and what differed."""

    places: Mapping[str, Mapping[Group, int]] = field(default_factory=dict)
    ranges: tuple[Range, ...] = ()


@dataclass(frozen=True)
class Look:
    """One look at a stream. scope: the hops that were looked at; judged: those of which it can say that nothing is
    wrong. open: whether something differed that a second look has still to judge. counts: hop -> group -> number. hops:
    hop -> figures. repeats: a hop that may hold a record again -> how often it did."""

    stream: str
    troubles: tuple[Trouble, ...]
    scope: tuple[str, ...]
    judged: tuple[str, ...]
    open: bool
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    hops: Mapping[str, Mapping[str, Json]] = field(default_factory=dict)
    repeats: Mapping[str, int] = field(default_factory=dict)
    left: Left = field(default_factory=Left)


class Watched(Protocol):
    """A stream, as it is looked at."""

    name: str

    def look(self) -> Look:
        """Look once. What can't be asked is a trouble, never an error."""
        ...

    def rest_s(self) -> float:
        """Until the next look."""
        ...


def watched(
    stack: Stack, left: Mapping[str, Left] = {}, known: Iterable[Trouble] = ()
) -> tuple[list[Watched], dict[str, str]]:
    """What can be looked at of each stream; and stream -> why it can't be. left: what an earlier watch has left, and
    known: what it knew."""
    found: list[Watched] = []
    without: dict[str, str] = {}
    for name, live in stack.streams.items():
        hops = live.hops
        if isinstance(live.ledger, Attempts):
            without[name] = "its records are written in a run, and only that run's are known"
            continue
        stated = states.references(live.stream, hops)
        rest = [hop for hop in live.stream.hops[1:] if hop not in stated and not states.is_state(hops[hop])]
        if stated:
            found.append(_States(stack, live, {(t.kind, t.hop, t.group) for t in known if t.stream == name}))
        if rest:
            found.append(_Windows(stack, live, rest, left.get(name, Left())))
        if not stated and not rest:
            without[name] = "it has one hop, and nothing to hold it against"
    return found, without


@dataclass(frozen=True)
class _Heads:
    """at_s: when the hops were asked. ends: of the cursors that tell where the log ended then."""

    at_s: float
    of: Mapping[str, Mapping[Group, int]]
    starts: Mapping[str, Position] = field(default_factory=dict)
    ends: Mapping[str, Position] = field(default_factory=dict)


class _Windows:
    """A stream whose hops are judged in windows, each from where it was judged last."""

    def __init__(self, stack: Stack, live: LiveStream, names: Sequence[str], left: Left) -> None:
        self.name = live.name
        self._stack, self._live, self._names = stack, live, list(names)
        self._first = live.stream.hops[0]
        self._places: dict[str, dict[Group, int]] = {hop: dict(at) for hop, at in left.places.items() if hop in names}
        self._ranges = [replace(one, due_s=0.0) for one in left.ranges if one.hop in names]
        self._compared = bool(left.places)
        self._back: dict[str, deque[tuple[float, dict[Group, int]]]] = {hop: deque() for hop in names}
        self._looks: deque[_Heads] = deque()
        self._silent: dict[str, tuple[float, str]] = {}
        self._behind: dict[str, dict[Group, tuple[int, float]]] = {hop: {} for hop in names}
        self._delays: dict[str, deque[float]] = {hop: deque(maxlen=USUAL_OF) for hop in names}
        self._surplus: set[tuple[str, Group]] = set()
        self._beyond_told: list[Trouble] = []
        self._repeats: dict[str, int] = {}
        self._rows: dict[str, dict[str, int]] = {}
        self._began_us = time.time_ns() // 1000

    def rest_s(self) -> float:
        return EVERY_S

    def look(self) -> Look:
        """Heads first; then what is new of each hop, and what differed before."""
        heads = self._heads()
        troubles = [self._untold(hop) for hop in self._silent]
        judged: list[str] = []
        open_ = False
        if self._first in heads.of:
            for hop in self._names:
                if hop not in heads.of:
                    continue
                late = self._late(hop, heads)
                troubles += late
                try:
                    troubles += self._judge(hop, heads)
                except DriverError as e:
                    self._silent[hop] = (time.monotonic(), str(e))
                    troubles.append(self._untold(hop))
                    continue
                judged.append(hop)
            more, again = self._beyond(heads)
            troubles += more
            open_ |= again
        if judged and not self._compared:
            why = "no record is there yet to be compared"
            troubles.append(Trouble(UNKNOWN, self.name, self._names[-1], detail=why))
        self._looks.append(heads)
        while len(self._looks) > 2 and self._looks[1].at_s < heads.at_s - 2 * BACK_S:
            self._looks.popleft()
        if judged:
            judged.append(self._first)
        troubles += self._damage()
        return Look(
            self.name,
            tuple(troubles),
            (self._first, *self._names),
            tuple(judged),
            open_ or any(not one.sure for one in self._ranges),
            self._counts(heads),
            {hop: self._figures(hop, heads) for hop in self._names},
            dict(self._repeats),
            Left({hop: dict(at) for hop, at in self._places.items()}, tuple(one for one in self._ranges if one.sure)),
        )

    # ---- where the hops stand ------------------------------------------------------------------------------

    def _ask(self, what: str, ask: Callable[[], T], within_s: float = ASK_WITHIN_S) -> T:
        return answer(ask, within_s, what)

    def _heads(self) -> _Heads:
        """Of each hop that answers. One that did not is asked again after AGAIN_S."""
        now_s = time.monotonic()
        found: dict[str, Mapping[Group, int]] = {}
        starts: dict[str, Position] = {}
        for name in (self._first, *self._names):
            if name in self._silent and now_s - self._silent[name][0] < AGAIN_S:
                continue
            try:
                hop = self._live.made(name)
                found[name] = dict(self._ask(f"the heads of {name}", hop.heads, HEADS_WITHIN_S))
                if isinstance(hop, Forgets):
                    starts[name] = self._ask(f"what {name} has deleted", hop.starts, HEADS_WITHIN_S)
                self._silent.pop(name, None)
            except GamedayError as e:
                found.pop(name, None)
                self._silent[name] = (time.monotonic(), str(e))
        ends = {name: end for name, (_, end) in self._cursors().items()}
        return _Heads(time.monotonic(), found, starts, ends)

    def _cursors(self) -> dict[str, tuple[Position, Position]]:
        """Position and end of each consumer of the stream's topics; {}: one of them does not answer, or there is
        none."""
        topics = set(self._live.topics)
        found: dict[str, tuple[Position, Position]] = {}
        cursors: Mapping[str, Cursor] = self._stack.cursors if topics else {}
        for name, cursor in cursors.items():
            try:
                end = self._ask(f"the end of {name}", cursor.end, HEADS_WITHIN_S)
                position = self._ask(f"the position of {name}", cursor.position, HEADS_WITHIN_S)
            except GamedayError:
                return {}
            mine = {slot for slot in end if slot.rpartition("/")[0] in topics}
            if mine:
                found[name] = (
                    {slot: position.get(slot, 0) for slot in mine},
                    {slot: end[slot] for slot in mine},
                )
        return found

    def _untold(self, hop: str) -> Trouble:
        return Trouble(UNANSWERED, self.name, hop, detail=self._silent[hop][1])

    def _late(self, hop: str, heads: _Heads) -> list[Trouble]:
        """That a hop is behind for longer than is usual for it."""
        ledger, own, known = heads.of[self._first], heads.of[hop], self._behind[hop]
        for group, head in ledger.items():
            at = own.get(group)
            if at is not None and at >= head:
                if group in known:
                    self._delays[hop].append(heads.at_s - known.pop(group)[1])
            elif group not in known or known[group][0] != at:
                passed = (one.at_s for one in self._looks if one.of.get(self._first, {}).get(group, -1) > (at or 0))
                known[group] = (at if at is not None else -1, next(passed, heads.at_s))
        if not known:
            return []
        delay_s = heads.at_s - min(since for _, since in known.values())
        usual_s = median(self._delays[hop]) if self._delays[hop] else 0.0
        if delay_s < max(LAG_AFTER_S, LAG_TIMES * usual_s):
            return []
        by = {group: ledger[group] - max(0, at) for group, (at, _) in known.items() if group in ledger}
        total = f"{sum(by.values()):,} ids" if self._live.stream.counted else f"up to {max(by.values()) / 1e6:.1f} s"
        some = ", ".join(map(label, sorted(filter(None, by))[:GROUPS_NAMED]))
        where = f" in {len(by):,} of {len(ledger):,} groups ({some}{', …' if len(by) > GROUPS_NAMED else ''})"
        told = f"{total} behind {self._first}{where if some else ''}, for {delay_s:.0f} s"
        return [Trouble(LAG, self.name, hop, detail=told)]

    def _beyond(self, heads: _Heads) -> tuple[list[Trouble], bool]:
        """What hops show that their ledger never had, at two looks. Where the ledger does not answer once more, it is
        what was known before."""
        ledger = heads.of[self._first]
        suspects = {
            hop: own
            for hop, own in heads.of.items()
            if hop != self._first and any(at > ledger.get(group, -1) for group, at in own.items())
        }
        found: ahead.Ahead = {}
        if suspects:
            try:
                found = self._ask("the ledger's heads", partial(ahead.beyond, self._stack, suspects), HEADS_WITHIN_S)
            except GamedayError:
                return self._beyond_told, False
        now = {(hop, group) for hop, groups in found.items() for group in groups}
        self._beyond_told = [
            Trouble(
                "doubled",
                self.name,
                hop,
                group,
                1,
                (str(found[hop][group][0]),),
                f"{self._first} has had only {found[hop][group][1]}",
                self._first,
            )
            for hop, group in sorted(now & self._surplus)
        ]
        again = bool(now - self._surplus)
        self._surplus = now
        return self._beyond_told, again

    # ---- what they hold ------------------------------------------------------------------------------------

    def _judge(self, hop: str, heads: _Heads) -> list[Trouble]:
        """Judge what is new of a hop, and what differed before; why something could not be judged. DriverError when it,
        or the ledger, does not answer."""
        troubles: list[Trouble] = []
        if hop not in self._places:
            self._places[hop] = self._begin(hop, heads)
        self._again(hop, heads)
        window = self._window(hop, heads)
        if window.hi:
            found, why = self._held(hop, window, self._baseline())
            if why:
                troubles.append(Trouble(UNKNOWN, self.name, hop, detail=why))
            self._add(hop, window, found, heads)
        place = self._places[hop]
        self._back[hop].append((heads.at_s, dict(place)))
        place.update(window.hi)
        while len(self._back[hop]) > 1 and self._back[hop][1][0] <= heads.at_s - BACK_S:
            self._back[hop].popleft()
        return troubles

    def _begin(self, hop: str, heads: _Heads) -> dict[Group, int]:
        """Where a watch begins that knows nothing: behind the newest records that both hops can show at once, none left
        out; else where the hop stands. A group that it hasn't begins where the others stand: nobody knows whether it
        should."""
        ledger, own = heads.of[self._first], heads.of[hop]
        stand = {group: own.get(group, head) for group, head in ledger.items()}
        if not isinstance(self._live.hops[hop], Hop):
            return stand
        try:
            shown = [self._ask(f"a look at {name}", self._place(name).newest) for name in (self._first, hop)]
        except GamedayError:
            return stand
        if any(one.malformed for one in shown):
            return stand
        above, mine = (one.above for one in shown)
        return {
            group: min(at, max(above[group], mine[group])) if group in above and group in mine else at
            for group, at in stand.items()
        }

    def _place(self, name: str) -> Place:
        kind = str(self._stack.config.hops[name].settings.get("kind", ""))
        return Place(name, self._live.made(name), self._live.stream, kind, name == self._first)

    def _window(self, hop: str, heads: _Heads) -> Window:
        """From BACK_S before the place up to what both have; where records come out of order, had at the look before.
        What went back is judged up to where it was."""
        ledger, own, place = heads.of[self._first], heads.of[hop], self._places[hop]
        before: Mapping[str, Mapping[Group, int]] = {}
        if self._looks and not self._live.ordered:
            before = self._looks[-1].of
        ledger_, own_ = (
            {group: min(at, before.get(name, {}).get(group, at)) for group, at in now.items()}
            for name, now in ((self._first, ledger), (hop, own))
        )
        back = self._back[hop][0][1] if self._back[hop] else {}
        owed = self._owed(hop, heads)
        most = WINDOW_MAX_US if not self._live.stream.counted else max(1_000, WINDOW_MAX // max(1, len(ledger)))
        busy: dict[Group, int] = {}
        for one in self._ranges:
            if one.hop == hop:
                for group, hi in one.window.hi.items():
                    busy[group] = max(busy.get(group, hi), hi)
        los: dict[Group, int] = {}
        his: dict[Group, int] = {}
        for group in ledger:
            if group not in place:
                place[group] = self._new(group)
            if ledger[group] < place[group]:  # the ledger began anew
                place[group] = ledger[group]
                continue
            at = own_.get(group, place[group])
            hi = min(ledger_[group], max(at, owed.get(group, at)))
            hi = min(max(hi, place[group]), place[group] + most)
            lo = max(min(back.get(group, place[group]), place[group]), busy.get(group, place[group] - (1 << 62)))
            if lo < hi:
                los[group], his[group] = lo, hi
        return Window(los, his)

    def _new(self, group: Group) -> int:
        """Where a group begins that nobody had when the watch began: before its first record."""
        ledger = self._live.ledger
        if isinstance(ledger, Log):
            since_us = max(self._began_us, time.time_ns() // 1000 - int(2 * BACK_S * 1e6))
            firsts = self._ask("the log's records of late", partial(ledger.firsts, since_us))
            return firsts.get(group, 1) - 1
        return 0

    def _owed(self, hop: str, heads: _Heads) -> dict[Group, int]:
        """Up to where a hop behind a log must have come: the log had it BACK_S ago, and all its consumers have passed
        where the log ended then. {}: that can't be told, so what it lacks there is late."""
        order = list(self._live.stream.hops)
        logs = [
            name for name in order if isinstance(self._live.hops[name], Log) and order.index(name) < order.index(hop)
        ]
        past = next((one for one in reversed(self._looks) if one.at_s <= heads.at_s - BACK_S), None)
        if not logs or past is None or not past.ends:
            return {}
        now = self._cursors()
        if now.keys() != past.ends.keys():
            return {}
        if any(now[name][0].get(slot, 0) < end for name, ends in past.ends.items() for slot, end in ends.items()):
            return {}
        return dict(past.of.get(logs[-1], {}))

    def _baseline(self) -> Mapping[str, Position]:
        """What the logs had deleted when the oldest record of a window was new."""
        return self._looks[0].starts if self._looks else {}

    def _held(self, hop: str, window: Window, starts: Mapping[str, Position]) -> tuple[list[Trouble], str]:
        """What is wrong with a hop in a window; and why that can't be told, where it can't."""
        evidence = held(
            self._stack.name, self._live, hop, window, lambda name, ask: self._ask(f"the digest of {name}", ask)
        )
        for digest in evidence.digests:
            self._compared |= digest.hop == hop and any(tally.rows for tally in digest.groups.values())
            if digest.stream == evidence.stream:
                self._rows[digest.hop] = {label(group): tally.rows for group, tally in digest.groups.items()}
                if not digest.unique and digest.hop == hop:
                    self._repeats[hop] = sum(tally.rows - tally.keys for tally in digest.groups.values())
        if not self._mine(hop, compare(evidence)):
            return [], ""
        evidence = self._forgetting(evidence, starts)
        damages = self._mine(hop, compare(evidence))
        if not damages:
            return (
                [],
                f"{', '.join(forgetful(evidence))} has deleted records since, and nothing else tells what there was",
            )
        differences = self._listed(hop, window, damages)
        evidence = replace(evidence, symptoms={"differences": differences})
        damages = self._mine(hop, compare(evidence))
        found: dict[tuple[str, str, Group], Trouble] = {}
        for damage in damages:
            for one in _troubles(self.name, damage, differences.get(f"{damage.hop} {label(damage.group)}") or {}):
                known = found.get(key := (one.kind, one.hop, one.group))
                if known is None or known.count < one.count:
                    found[key] = one
        open_ = [d for d in damages if not (d.lost or d.doubled or d.changed)]
        why = f"sums of {label(open_[0].group)} differ, and no record of it does" if open_ and not found else ""
        return list(found.values()), why

    def _mine(self, hop: str, damages: Iterable[Damage]) -> list[Damage]:
        """Of this hop; and of the first one, where this is the one that tells of it."""
        of = (hop, self._first) if hop == self._names[0] else (hop,)
        return [one for one in damages if one.hop in of]

    def _forgetting(self, evidence: Evidence, starts: Mapping[str, Position]) -> Evidence:
        """The same, with what the logs had deleted before and have now."""
        now: dict[str, Position] = {}
        for name in starts:
            hop = self._live.made(name)
            if isinstance(hop, Forgets):
                now[name] = self._ask(f"what {name} has deleted", hop.starts, HEADS_WITHIN_S)
        marks = Marks(0, 0, starts=starts)
        return replace(evidence, baseline=Baseline(marks, 0.0, 0.0, {}), ends=Marks(0, 0, starts=now))

    def _listed(self, hop: str, window: Window, damages: Sequence[Damage]) -> dict[str, Json]:
        """The rows in which the hop differs, as diagnose.difference has them; of the first hop the ids that it leaves
        out."""
        listed: dict[str, Json] = {}
        stream, ledger, held_ = self._live.stream, self._live.ledger, self._live.made(hop)
        pairs = dict.fromkeys((d.hop, d.group) for d in damages if d.stream == self.name and d.group in window.hi)
        for name, group in list(pairs)[:LISTED_MAX]:
            lo, hi = window.lo[group], window.hi[group]
            right = self._ask(f"the rows of {self._first}", partial(ledger.rows, group, lo, hi))
            if name == hop and isinstance(held_, Hop):
                mine = self._ask(f"the rows of {hop}", partial(held_.rows, group, lo, hi))
                listed[f"{name} {label(group)}"] = diagnose.difference(right, mine, stream)
            elif name == self._first and hi - lo <= WINDOW_MAX:
                missing = np.setdiff1d(np.arange(max(0, lo) + 1, hi + 1), right[stream.sequence]).tolist()
                listed[f"{name} {label(group)}"] = {"missing": {"count": len(missing), "ids": missing[:IDS_KEPT]}}
        return listed

    # ---- what differed -------------------------------------------------------------------------------------

    def _add(self, hop: str, window: Window, found: Sequence[Trouble], heads: _Heads) -> None:
        """Keep what differs, to be judged again: each group by itself; all of it where its groups are others."""
        by_group: dict[Group, list[Trouble]] = {}
        for one in found:
            by_group.setdefault(one.group, []).append(one)
        if not by_group.keys() <= window.hi.keys():
            self._ranges.append(Range(hop, window, tuple(by_group), tuple(found), starts=heads.starts))
            return
        for group, hits in by_group.items():
            own = Window({group: window.lo[group]}, {group: window.hi[group]})
            mine = [one for one in self._ranges if one.hop == hop and one.groups == (group,)]
            if len(mine) >= RANGES_MAX:
                last = mine[-1]
                joined = Window({group: last.window.lo[group]}, {group: window.hi[group]})
                self._ranges[self._ranges.index(last)] = replace(last, window=joined)
            else:
                self._ranges.append(Range(hop, own, (group,), tuple(hits), starts=heads.starts))

    def _again(self, hop: str, heads: _Heads) -> None:
        """Judge again what differed: what does so still is sure, and what does not was on its way, or is mended."""
        due = [one for one in self._ranges if one.hop == hop and one.due_s <= heads.at_s]
        due.sort(key=lambda one: (one.sure, one.due_s))
        for one in due[:AGAIN_MAX]:
            began_s = time.monotonic()
            found, why = self._held(hop, one.window, one.starts)
            hits = tuple(hit for hit in found if hit.group in one.groups)
            place = self._ranges.index(one)
            if not hits and not why:
                del self._ranges[place]
                continue
            due_s = time.monotonic() + max(EVERY_S, RANGE_REST * (time.monotonic() - began_s))
            self._ranges[place] = replace(one, hits=hits or one.hits, sure=one.sure or bool(hits), due_s=due_s)

    def _damage(self) -> list[Trouble]:
        """What is sure, by kind, hop and group; of what is seen at several hops the first is named."""
        found: dict[tuple[str, str, Group], Trouble] = {}
        for one in self._ranges:
            for hit in one.hits if one.sure else ():
                known = found.get(key := (hit.kind, hit.hop, hit.group))
                ids = (*known.ids, *hit.ids)[:IDS_KEPT] if known else hit.ids
                count = hit.count + (known.count if known else 0)
                found[key] = replace(hit, count=count, ids=ids, detail=known.detail if known else hit.detail)
        order = list(self._live.stream.hops)
        firsts: dict[tuple[str, Group], str] = {}
        for kind, hop, group in sorted(found, key=lambda key: order.index(key[1])):
            firsts.setdefault((kind, group), hop)
        return [
            replace(one, first="" if firsts[kind, group] == hop else firsts[kind, group])
            for (kind, hop, group), one in found.items()
        ]

    # ---- figures -------------------------------------------------------------------------------------------

    def _counts(self, heads: _Heads) -> dict[str, dict[str, int]]:
        """Where ids leave none out, how many records there were; else how many the last window had."""
        if self._live.stream.gapless:
            return {hop: {label(group): at for group, at in own.items()} for hop, own in heads.of.items()}
        return {hop: dict(rows) for hop, rows in self._rows.items()}

    def _figures(self, hop: str, heads: _Heads) -> dict[str, Json]:
        known = self._behind[hop]
        behind_s = heads.at_s - min(since for _, since in known.values()) if known else 0.0
        usual = self._delays[hop]
        return {
            "answers": hop in heads.of and self._first in heads.of,
            "behind_s": round(behind_s, 1),
            "usual_s": round(median(usual), 1) if usual else None,
            "records": sum(self._rows.get(hop, {}).values()),
        }


class _States:
    """A stream whose rows change and go: each such hop is right as of a position."""

    def __init__(self, stack: Stack, live: LiveStream, before: set[tuple[str, str, Group]]) -> None:
        """before: what differed at the look before."""
        self.name = live.name
        self._stack, self._live = stack, live
        self._before = before
        self._late_since: dict[str, float] = {}
        self._took_s = 0.0
        self._open = False

    def rest_s(self) -> float:
        return EVERY_S if self._open else max(STATES_EVERY_S, STATES_REST * self._took_s)

    def look(self) -> Look:
        began_s = time.monotonic()
        trouble: dict[str, str] = {}
        hops = {name: hop for name, hop in self._live.hops.items() if not isinstance(hop, Derived)}
        compared, listed = states.compared(
            self._live.stream, hops, self._stack.cursors, lambda what, ask: answer(ask, ASK_WITHIN_S, what), trouble
        )
        self._took_s = time.monotonic() - began_s
        found: list[Trouble] = [Trouble(UNANSWERED, self.name, hop, detail=why) for hop, why in trouble.items()]
        damage: dict[tuple[str, str, Group], Trouble] = {}
        counts: dict[str, dict[str, int]] = {}
        figures: dict[str, dict[str, Json]] = {}
        for one in compared:
            counts[one.hop] = {label(g): d.keys - d.lost + d.ghosts + d.repeated for g, d in one.groups.items()}
            counts.setdefault(one.against, {label(g): d.keys for g, d in one.groups.items()})
            owed = sum(delta.lost for delta in one.groups.values()) if one.late else 0
            figures[one.hop] = {"answers": True, "records": sum(counts[one.hop].values()), "behind_s": None}
            if one.late:
                since_s = self._late_since.setdefault(one.hop, began_s)
                figures[one.hop]["behind_s"] = round(time.monotonic() - since_s, 1)
                told = f"it has not come to where {one.against} ended {time.monotonic() - since_s:.0f} s ago"
                found.append(Trouble(LAG, self.name, one.hop, detail=f"{told}, and lacks {owed:,} keys of it"))
            else:
                self._late_since.pop(one.hop, None)
            if moving := sum(delta.moving for delta in one.groups.values()):
                why = f"{moving:,} keys that differ from {one.against} changed again before each further look"
                found.append(Trouble(UNKNOWN, self.name, one.hop, detail=why))
            for group, delta in one.groups.items():
                sure = Delta(0, repeated=delta.repeated) if one.late else delta  # all else may still come, or go
                own = Damage(
                    self.name, one.hop, "state", one.against, group, sure.lost, sure.ghosts + sure.repeated,
                    sure.changed, told=True,
                )  # fmt: skip
                for hit in _troubles(self.name, own, listed.get(f"{one.hop} {label(group)}") or {}, exact=True):
                    damage[hit.kind, hit.hop, hit.group] = hit
        again = [hit for key, hit in damage.items() if key in self._before]
        judged = tuple(
            one.hop for one in compared if not one.late and not any(delta.moving for delta in one.groups.values())
        )
        self._open = not damage.keys() <= self._before
        self._before = {*damage, *(key for key in self._before if key[1] not in judged)}
        return Look(
            self.name,
            (*found, *again),
            tuple(states.references(self._live.stream, hops)),
            judged,
            self._open,
            counts,
            figures,
        )


def _troubles(stream: str, damage: Damage, listed: Mapping[str, Json], exact: bool = False) -> list[Trouble]:
    """The kinds of one damage, with the ids of the records where they were listed. exact: its figures are no lower
    bound."""
    found = []
    for kind in DAMAGE:
        names = {"lost": ("missing",), "doubled": ("doubled", "extra"), "changed": ("changed",)}[kind]
        rows = [listed.get(name) or {} for name in names]
        count = getattr(damage, kind)
        if not exact:
            count = max(count, sum(int(row.get("count", 0)) for row in rows))
        if not count:
            continue
        ids = tuple(str(one) for row in rows for one in row.get("ids") or ())[:IDS_KEPT]
        told = _change(listed) if kind == "changed" else ""
        found.append(Trouble(kind, stream, damage.hop, damage.group, count, ids, told, damage.against))
    return found


def _change(listed: Mapping[str, Json]) -> str:
    """What the first changed record was, and became."""
    rows = (listed.get("changed") or {}).get("rows") or []
    pairs = {name: pair for name, pair in rows[0].items() if name != "id"} if rows else {}
    return ", ".join(f"{name} {right} became {mine}" for name, (right, mine) in list(pairs.items())[:3])

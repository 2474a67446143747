"""The heads of a stream of many groups as probes: of each shard, by how much its groups' heads have risen in all.

A hop is asked for the totals of its shards. What is taken off them is the same for both hops of a stream: each group's
base, the head that it had at the ledger when the sampler began. So a shard's two series are held against each other
like those of one group. By a total alone a group that came would be a rise, and one that went away a deficit for ever:
where a shard has other groups than before, which its marks tell, the hop is asked for each group's head.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from gameday import codec
from gameday.model import Group, Shards, Totals
from gameday.ports import Hop, Totalled
from gameday.records.heads import Places, totals

__all__ = ["SHARDS_MAX", "Bases", "Sharded", "sharding"]

SHARDS_MAX = 64
"""So many groups have a series each; those of a stream that has more have so many in all."""


def sharding(groups: Collection[Group], by: tuple[int, ...]) -> Shards | None:
    """How these groups are sampled together; None: each by itself. by: the places in a group of what tells its way. Of
    more ways than SHARDS_MAX each is a shard."""
    if len(groups) <= SHARDS_MAX:
        return None
    ways = {tuple(group[place] for place in by) for group in groups}
    return Shards(by, max(1, SHARDS_MAX // len(ways)))


class Bases:
    """From where a stream's heads are counted, at both of its hops.

    A group that was there at the beginning counts from the head that it had at the ledger, or where the ledger has none
    of it at the visible hop. One that the ledger shows first later counts from before its first record, which may be
    missing too. One that goes away from a hop counts there as it is at the other one then: whether that was right, who
    looks at each group can tell, and not a total.
    """

    def __init__(self, shards: Shards, ledger: Hop, visible: Hop) -> None:
        self.places = Places(shards)
        self.lock = threading.Lock()
        self._ledger, self._visible = ledger, visible
        self._of: dict[Group, int] | None = None
        self._gone: dict[Group, int] = {}

    def of(self, hop: Hop, heads: Mapping[Group, int]) -> Mapping[Group, int]:
        """The base of each group that was ever met, these of the hop's among them. Whoever asks holds the lock."""
        if self._of is None:
            self._of = dict(self._ledger.heads())
        fresh = int(hop is self._ledger)
        for group in heads.keys() - self._of.keys():
            self._of[group] = heads[group] - fresh
        return self._of

    def gone(self, hop: Hop, last: Mapping[Group, int]) -> dict[Group, int]:
        """What groups count as that went away from a hop. last: their heads as they were seen last, which may be long
        ago. Whoever asks holds the lock."""
        other = (self._visible if hop is self._ledger else self._ledger).heads() if last else {}
        found = {group: other.get(group, self._gone.get(group, head)) for group, head in last.items()}
        self._gone |= found
        return found


@dataclass
class Sharded:
    """One hop's heads by shard as a probe."""

    hop: Hop
    bases: Bases
    _marks: dict[Group, int] = field(default_factory=dict, init=False, repr=False)
    """Shard -> the sum of its groups' marks, as they were seen last."""
    _less: dict[Group, int] = field(default_factory=dict, init=False, repr=False)
    """Shard -> what is taken off its total."""
    _seen: dict[Group, int] = field(default_factory=dict, init=False, repr=False)
    """The groups' heads, as they were when it was asked for them last."""
    _gone: dict[Group, int] = field(default_factory=dict, init=False, repr=False)
    """What those count as that went away."""

    def read(self) -> Mapping[str, float]:
        found = self._totals()
        with self.bases.lock:
            if _marks(found) == self._marks:
                return self._told(found)
        heads = self.hop.heads()
        with self.bases.lock:
            return self._told(self._note(heads))

    def _totals(self) -> Totals:
        if isinstance(self.hop, Totalled):
            return self.hop.totals(self.bases.places.shards)
        return totals(self.hop.heads(), self.bases.places)

    def _told(self, found: Totals) -> Mapping[str, float]:
        """A shard whose groups all went away is told too."""
        return {codec.key_of(shard): float(found.get(shard, (0, 0))[1] - less) for shard, less in self._less.items()}

    def _note(self, heads: Mapping[Group, int]) -> Totals:
        """Take in which groups there are now; their totals."""
        bases = self.bases.of(self.hop, heads)
        left = {group: head for group, head in self._seen.items() if group not in heads}
        self._gone = {group: head for group, head in self._gone.items() if group not in heads}
        self._gone |= self.bases.gone(self.hop, left)
        self._seen = dict(heads)
        self._less = {}
        counted = {group: bases[group] for group in heads} | {g: bases[g] - head for g, head in self._gone.items()}
        for group, less in counted.items():
            shard = self.bases.places[group][0]
            self._less[shard] = self._less.get(shard, 0) + less
        found = totals(heads, self.bases.places)
        self._marks = _marks(found)
        return found


def _marks(found: Totals) -> dict[Group, int]:
    return {shard: marks for shard, (marks, _) in found.items()}

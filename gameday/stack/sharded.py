"""The heads of a stream with many groups as probes: for each shard, by how much its groups' heads have risen in all.

A hop is asked for the totals of its shards. From these the groups' bases are subtracted: the heads that they had at the
ledger when the sampler began. The bases are the same at both hops of a stream, so a shard's two series are compared
like those of one group.

A total alone would show a new group as a rise, and a group that went away as a deficit for ever. So where a shard's
marks show other groups than before, the hop is asked for each group's head.
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
"""Up to this many groups have a series each. A stream with more groups has this many series in all."""


def sharding(groups: Collection[Group], by: tuple[int, ...]) -> Shards | None:
    """Return how these groups are sampled together; None: each on its own.

    by: the indices, in a group, of the fields that tell its way. If there are more than SHARDS_MAX ways, each is a
    shard.
    """
    if len(groups) <= SHARDS_MAX:
        return None
    ways = {tuple(group[place] for place in by) for group in groups}
    return Shards(by, max(1, SHARDS_MAX // len(ways)))


class Bases:
    """The heads from which a stream's groups are counted, at both of its hops.

    A group that was there at the beginning counts from its head at the ledger, or, if the ledger doesn't have it, at
    the visible hop. A group that the ledger shows later counts from before its first record, because that may be
    missing too. A group that goes away from a hop counts there as it stands at the other hop: whether that is right, a
    total can't tell, only a look at each group.
    """

    def __init__(self, shards: Shards, ledger: Hop, visible: Hop) -> None:
        self.places = Places(shards)
        self.lock = threading.Lock()
        self._ledger, self._visible = ledger, visible
        self._of: dict[Group, int] | None = None
        self._gone: dict[Group, int] = {}

    def of(self, hop: Hop, heads: Mapping[Group, int]) -> Mapping[Group, int]:
        """Return the base of each group that was ever seen, including these of the hop. The caller holds the lock."""
        if self._of is None:
            self._of = dict(self._ledger.heads())
        fresh = int(hop is self._ledger)
        for group in heads.keys() - self._of.keys():
            self._of[group] = heads[group] - fresh
        return self._of

    def gone(self, hop: Hop, last: Mapping[Group, int]) -> dict[Group, int]:
        """Return what the groups count as that went away from a hop. The caller holds the lock.

        last: their heads when they were last seen, which may be long ago.
        """
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
    """Shard -> the sum of its groups' marks when it was last seen."""
    _less: dict[Group, int] = field(default_factory=dict, init=False, repr=False)
    """Shard -> what is subtracted from its total."""
    _seen: dict[Group, int] = field(default_factory=dict, init=False, repr=False)
    """The groups' heads when the hop was last asked for them."""
    _gone: dict[Group, int] = field(default_factory=dict, init=False, repr=False)
    """What the groups count as that went away."""

    def read(self) -> Mapping[str, float]:
        found = self._totals()
        with self.bases.lock:
            if _marks(found) == self._marks:
                return self._values(found)
        heads = self.hop.heads()
        with self.bases.lock:
            return self._values(self._note(heads))

    def _totals(self) -> Totals:
        if isinstance(self.hop, Totalled):
            return self.hop.totals(self.bases.places.shards)
        return totals(self.hop.heads(), self.bases.places)

    def _values(self, found: Totals) -> Mapping[str, float]:
        """Return the series' values, including the shards whose groups all went away."""
        return {codec.key_of(shard): float(found.get(shard, (0, 0))[1] - less) for shard, less in self._less.items()}

    def _note(self, heads: Mapping[Group, int]) -> Totals:
        """Note which groups there are now, and return their totals."""
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

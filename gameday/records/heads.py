"""The highest ids of many groups, and their totals by shard."""

from __future__ import annotations

from collections.abc import Mapping

from gameday.model import Group, Shards, Totals

__all__ = ["Heads", "Places", "totals"]


class Places(dict[Group, tuple[Group, int]]):
    """Group -> its shard, and its mark there; each is reckoned once."""

    def __init__(self, shards: Shards) -> None:
        self.shards = shards

    def __missing__(self, group: Group) -> tuple[Group, int]:
        found = self[group] = self.shards.of(group), Shards.mark(group)
        return found


class Heads:
    """Group -> highest id, as far as a hop has met it: a head never falls, and no group is forgotten. Its owner holds a
    lock.

    The totals are kept up while heads rise: ten thousand groups of which a few move cost what a few cost.
    """

    def __init__(self) -> None:
        self._of: dict[Group, int] = {}
        self._places: Places | None = None
        self._totals: dict[Group, tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self._of)

    def rise(self, group: Group, head: int) -> None:
        """Note that the group has this id."""
        known = self._of.get(group)
        if known is not None and head <= known:
            return
        self._of[group] = head
        if self._places is not None:
            shard, mark = self._places[group]
            marks, total = self._totals.get(shard, (0, 0))
            self._totals[shard] = (marks + mark, total + head) if known is None else (marks, total + head - known)

    def all(self) -> dict[Group, int]:
        """The heads."""
        return dict(self._of)

    def totals(self, shards: Shards) -> Totals:
        """See ports.Totalled."""
        if self._places is None or self._places.shards != shards:
            self._places = Places(shards)
            self._totals = dict(totals(self._of, self._places))
        return dict(self._totals)


def totals(heads: Mapping[Group, int], places: Places) -> Totals:
    """Heads added up by shard.

    >>> totals({("west", "a"): 7, ("west", "b"): 8}, Places(Shards((0,), 1)))
    {('west', '#0'): (1271034340, 15)}
    """
    found: dict[Group, tuple[int, int]] = {}
    for group, head in heads.items():
        shard, mark = places[group]
        marks, total = found.get(shard, (0, 0))
        found[shard] = marks + mark, total + head
    return found

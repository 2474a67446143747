"""What a hop must have where it is not known of every record whether the platform has taken it: acknowledged records,
and of the attempts without a known outcome those that were seen to have arrived. So acknowledged ⊆ held ⊆ attempted.

Pure: what is attempted the ledger tells (drivers/canary.py), and rows the hops.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from gameday.model import EMPTY, Columns, Group, Tally
from gameday.records.declaration import Stream
from gameday.records.tallies import add

__all__ = ["arrived", "joined", "right"]


def arrived(
    stream: Stream,
    doubtful: Mapping[Group, Columns],
    held: Mapping[Group, Columns],
    before: Mapping[Group, Columns],
) -> dict[Group, Columns]:
    """The doubtful records that a hop has, or a hop before it had; as they were attempted, whatever the hop made of
    them. Groups of which none has arrived are left out.

    held: the hop's rows. before: what this gave of the hop before it.
    """
    found: dict[Group, Columns] = {}
    for group, columns in doubtful.items():
        keys = stream.told_apart(columns)
        seen = np.zeros(len(keys), dtype=bool)
        for rows in (held.get(group), before.get(group)):
            if rows is not None and len(rows[stream.sequence]):
                seen |= np.isin(keys, stream.told_apart(rows))
        if seen.any():
            found[group] = {name: column[seen] for name, column in columns.items()}
    return found


def right(stream: Stream, must: Mapping[Group, Tally], came: Mapping[Group, Columns]) -> dict[Group, Tally]:
    """What a hop is held against. must: of the acknowledged records. came: what `arrived` gave."""
    groups = dict.fromkeys([*must, *came])
    return {
        group: add(must.get(group, EMPTY), stream.tally(came[group])) if group in came else must[group]
        for group in groups
    }


def joined(rows: Columns, more: Columns | None) -> Columns:
    """Both together."""
    if more is None:
        return rows
    return {name: np.concatenate([column, more[name]]) for name, column in rows.items()}

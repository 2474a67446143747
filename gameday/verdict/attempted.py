"""Computes what a hop must hold when the outcome of some attempts to write is unknown: every acknowledged record, and
those attempts of unknown outcome that were seen to have arrived. So acknowledged ⊆ held ⊆ attempted.

All functions are pure. The ledger (drivers/canary.py) tells the attempts, the hops tell their rows.
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
    """Return the doubtful records that a hop has, or that an earlier hop had, as they were attempted.

    Groups of which no record has arrived are left out.

    Args:
        held: the hop's rows.
        before: what this function returned for the hop before it.
    """
    arrived_records: dict[Group, Columns] = {}
    for group, columns in doubtful.items():
        keys = stream.told_apart(columns)
        seen = np.zeros(len(keys), dtype=bool)
        for rows in (held.get(group), before.get(group)):
            if rows is not None and len(rows[stream.sequence]):
                seen |= np.isin(keys, stream.told_apart(rows))
        if seen.any():
            arrived_records[group] = {name: column[seen] for name, column in columns.items()}
    return arrived_records


def right(stream: Stream, must: Mapping[Group, Tally], came: Mapping[Group, Columns]) -> dict[Group, Tally]:
    """Return what a hop must hold. must: the tallies of acknowledged records. came: what `arrived` returned."""
    groups = dict.fromkeys([*must, *came])
    return {
        group: add(must.get(group, EMPTY), stream.tally(came[group])) if group in came else must[group]
        for group in groups
    }


def joined(rows: Columns, more: Columns | None) -> Columns:
    """Return both sets of rows as one."""
    if more is None:
        return rows
    return {name: np.concatenate([column, more[name]]) for name, column in rows.items()}

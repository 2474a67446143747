"""Which hops show what their stream's ledger never had: records that nobody made, or a ledger that began anew.

Every comparison with the ledger has two sides: what is behind it may still come, what is ahead of it can't be right.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from gameday.errors import DriverError
from gameday.model import Group
from gameday.ports import Ledger
from gameday.records.declaration import STATE

if TYPE_CHECKING:
    from gameday.stack.live import LiveStream, Stack

__all__ = ["Ahead", "beyond", "heads_of", "told"]

Ahead = Mapping[str, Mapping[Group, tuple[int, int | None]]]
"""Hop -> group -> (the highest id that it shows, the ledger's; None: the ledger has no such group)."""

NAMED_MAX = 3


def beyond(stack: Stack, heads: Mapping[str, Mapping[Group, int]]) -> Ahead:
    """What these heads show beyond the ledger's.

    Args: heads: hop -> group -> highest id, all asked before now: the ledgers are asked here, so that what it has
    gained meanwhile is not taken for what it lacks. Raises DriverError when one does not answer. A first hop on the
    platform's side may have forgotten a group: one that it doesn't know is judged only by a Ledger.
    """
    found: dict[str, Mapping[Group, tuple[int, int | None]]] = {}
    for live in stack.streams.values():
        mine = [hop for hop in heads if hop != live.stream.hops[0] and stack.stream_of(hop) is live]
        if getattr(live.ledger, "kind", None) == STATE:
            continue  # its newest row may be deleted, and then its head goes back
        known, whole = live.ledger.heads() if mine else {}, isinstance(live.ledger, Ledger)
        for hop in mine:
            found[hop] = {
                group: (head, known.get(group))
                for group, head in heads[hop].items()
                if (head > known[group] if group in known else whole)
            }
    return {hop: groups for hop, groups in found.items() if groups}


def told(stack: Stack, ahead: Ahead) -> list[str]:
    """One sentence a hop: what it shows, and what its stream's ledger has had."""
    return [_sentence(hop, groups, stack.stream_of(hop).stream.hops[0]) for hop, groups in ahead.items()]


def _sentence(hop: str, groups: Mapping[Group, tuple[int, int | None]], ledger: str) -> str:
    shown = [
        f"id {head} of {'/'.join(group)}, {ledger} has had {'no such group' if known is None else f'only {known}'}"
        for group, (head, known) in sorted(groups.items())
    ]
    more = f"; and {len(shown) - NAMED_MAX} more groups" if len(shown) > NAMED_MAX else ""
    return f"{hop} shows {'; '.join(shown[:NAMED_MAX])}{more}: a foreign record, or the ledger began anew"


def heads_of(stack: Stack, archive: bool, of: LiveStream | None = None) -> dict[str, Mapping[Group, int]]:
    """The heads of every hop that answers, or of one stream's, and on demand of the archive, which is dear to read."""
    archives = {"archive": stack.archive} if archive and stack.archive is not None else {}
    hops = {hop: held for hop, held in {**stack.hops, **archives}.items() if of in (None, stack.stream_of(hop))}
    found: dict[str, Mapping[Group, int]] = {}
    for name, hop in hops.items():
        try:
            found[name] = hop.heads()
        except DriverError:
            continue
    return found

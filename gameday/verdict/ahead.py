"""Finds hops that show ids which their stream's ledger never had: records that nobody made, or a ledger that began
anew.

What a hop lacks may still come. What it shows beyond the ledger can't be right.
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
    """Return what these heads show beyond the ledgers' heads.

    The ledgers are asked here, after the hops: so a record that came in between is not taken for surplus. A first hop
    inside the platform may have forgotten a group, so a group that it doesn't know counts only if it is a Ledger.

    Args:
        heads: hop -> group -> highest id.

    Raises:
        DriverError: a ledger does not answer.
    """
    surplus: dict[str, Mapping[Group, tuple[int, int | None]]] = {}
    for live in stack.streams.values():
        own_hops = [hop for hop in heads if hop != live.stream.hops[0] and stack.stream_of(hop) is live]
        if getattr(live.ledger, "kind", None) == STATE:
            continue  # when its newest row is deleted, its head goes back
        known, whole = live.ledger.heads() if own_hops else {}, isinstance(live.ledger, Ledger)
        for hop in own_hops:
            surplus[hop] = {
                group: (head, known.get(group))
                for group, head in heads[hop].items()
                if (head > known[group] if group in known else whole)
            }
    return {hop: groups for hop, groups in surplus.items() if groups}


def told(stack: Stack, ahead: Ahead) -> list[str]:
    """Return one sentence for each hop: what it shows, and what its stream's ledger has had."""
    return [_sentence(hop, groups, stack.stream_of(hop).stream.hops[0]) for hop, groups in ahead.items()]


def _sentence(hop: str, groups: Mapping[Group, tuple[int, int | None]], ledger: str) -> str:
    shown = [
        f"id {head} of {'/'.join(group)}, {ledger} has had {'no such group' if known is None else f'only {known}'}"
        for group, (head, known) in sorted(groups.items())
    ]
    more = f"; and {len(shown) - NAMED_MAX} more groups" if len(shown) > NAMED_MAX else ""
    return f"{hop} shows {'; '.join(shown[:NAMED_MAX])}{more}: a foreign record, or the ledger began anew"


def heads_of(stack: Stack, archive: bool, of: LiveStream | None = None) -> dict[str, Mapping[Group, int]]:
    """Return the heads of every hop that answers.

    Args:
        archive: whether to ask the archive too, which takes long.
        of: only this stream's hops; None: all hops.
    """
    archives = {"archive": stack.archive} if archive and stack.archive is not None else {}
    hops = {hop: held for hop, held in {**stack.hops, **archives}.items() if of in (None, stack.stream_of(hop))}
    heads: dict[str, Mapping[Group, int]] = {}
    for name, hop in hops.items():
        try:
            heads[name] = hop.heads()
        except DriverError:
            continue
    return heads

"""Which hops show what the ledger never had: records that nobody made, or a ledger that began anew.

Every comparison with the ledger has two sides: what is behind it may still come, what is ahead of it can't be right.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from gameday.errors import DriverError
from gameday.model import Group
from gameday.ports import Ledger

if TYPE_CHECKING:
    from gameday.stack.live import Stack

__all__ = ["Ahead", "beyond", "heads_of", "told"]

Ahead = Mapping[str, Mapping[Group, tuple[int, int | None]]]
"""Hop -> group -> (the highest id that it shows, the ledger's; None: the ledger has no such group)."""

NAMED_MAX = 3


def beyond(stack: Stack, heads: Mapping[str, Mapping[Group, int]]) -> Ahead:
    """What these heads show beyond the ledger's.

    Args: heads: hop -> group -> highest id, all asked before now: the ledger is asked here, so that what it has
    gained meanwhile is not taken for what it lacks. Raises DriverError when it does not answer. A first hop on the
    platform's side may have forgotten a group: one that it doesn't know is judged only by a Ledger.
    """
    known, whole = stack.ledger.heads(), isinstance(stack.ledger, Ledger)
    found = {
        hop: {
            group: (head, known.get(group))
            for group, head in groups.items()
            if (head > known[group] if group in known else whole)
        }
        for hop, groups in heads.items()
        if hop != stack.config.stream.hops[0]
    }
    return {hop: groups for hop, groups in found.items() if groups}


def told(ahead: Ahead, ledger: str) -> list[str]:
    """One sentence a hop: what it shows, and what the ledger has had."""
    return [_sentence(hop, groups, ledger) for hop, groups in ahead.items()]


def _sentence(hop: str, groups: Mapping[Group, tuple[int, int | None]], ledger: str) -> str:
    shown = [
        f"id {head} of {'/'.join(group)}, {ledger} has had {'no such group' if known is None else f'only {known}'}"
        for group, (head, known) in sorted(groups.items())
    ]
    more = f"; and {len(shown) - NAMED_MAX} more groups" if len(shown) > NAMED_MAX else ""
    return f"{hop} shows {'; '.join(shown[:NAMED_MAX])}{more}: a foreign record, or the ledger began anew"


def heads_of(stack: Stack, archive: bool) -> dict[str, Mapping[Group, int]]:
    """The heads of every hop that answers, and on demand of the archive, which is dear to read."""
    hops = {**stack.hops, **({"archive": stack.archive} if archive and stack.archive is not None else {})}
    found: dict[str, Mapping[Group, int]] = {}
    for name, hop in hops.items():
        try:
            found[name] = hop.heads()
        except DriverError:
            continue
    return found

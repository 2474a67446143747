"""Asks a hop and its ledger what they hold of a window: for the runs, the night's end, and `gameday watch`. The callers
say how long an answer may take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from gameday.model import Digest, Evidence, Window
from gameday.ports import Derived, Hop, Ledger, Sums
from gameday.records import tallies
from gameday.stack.live import LiveStream

__all__ = ["Ask", "digest_of", "evidence_of", "held"]


class Ask(Protocol):
    """Asks a hop, which it names, for digests, with a bound."""

    def __call__(self, name: str, digest: Callable[[], Sequence[Digest]], /) -> Sequence[Digest]: ...


def digest_of(ledger: Hop, hop: Hop | Derived, window: Window, before: Sequence[Digest]) -> list[Digest]:
    """Return one hop's digests: by its sums alone where they equal those of the hops before it, else key by key."""
    if not isinstance(hop, Hop):
        return list(hop.derived(window, ledger))
    if isinstance(hop, Sums) and (proved := tallies.proved(hop.sums(window), before)) is not None:
        return proved
    return list(hop.digest(window))


def held(stack: str, live: LiveStream, name: str, window: Window, ask: Ask) -> Evidence:
    """Return the evidence of one hop in a window. The ledger's digest comes first."""
    ledger = live.stream.hops[0]
    hop: Hop | Derived = live.hops[name]
    if not isinstance(hop, Hop):
        return evidence_of(stack, live, window, ask(name, partial(hop.derived, window, live.ledger)))
    right = ask(ledger, partial(live.ledger.digest, window))[0]
    shown = ask(name, partial(digest_of, live.ledger, hop, window, [right]))
    return evidence_of(stack, live, window, [right, *(d for d in shown if d.stream == right.stream)])


def evidence_of(stack: str, live: LiveStream, window: Window, digests: Sequence[Digest]) -> Evidence:
    """Return evidence that the checks take. No id below 1 should exist, so none is expected there."""
    expected = Window({g: max(0, lo) for g, lo in window.lo.items()}, window.hi)
    stream = live.stream
    return Evidence(
        "history",
        {},
        stack,
        visible=stream.visible,
        ledger=stream.hops[0],
        knows=isinstance(live.ledger, Ledger),
        window=expected,
        stream=stream.name,
        gapless=stream.gapless,
        digests=tuple(digests),
    )

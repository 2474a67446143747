"""Looks at a stream's heads group by group, where its samples are of shards: in a shard's total one group that stands
still among many doesn't show."""

from __future__ import annotations

import time
from collections.abc import Mapping

from gameday.errors import TooLate
from gameday.model import Group, Look
from gameday.run import HEADS_WITHIN_S, Run
from gameday.system.asking import answer
from gameday.system.polling import until

__all__ = ["look", "sharded"]

LOOK_EVERY_S = 0.2
NAMED_MAX = 3
"""How many of the groups that are behind are named."""


def sharded(run: Run) -> list[str]:
    """Return the streams that are sampled by shards."""
    return [name for name, one in run.followed.items() if one.shards is not None]


def look(run: Run, stream: str, bound_s: float) -> Look:
    """Ask the ledger for every group's head, then ask the visible hop until it has all of them.

    Only groups count that there were when the run began. bound_s: how long to ask at most; a healthy group may be that
    far behind.
    """
    followed, live = run.followed[stream], run.stack.streams[stream]
    asked_ns = time.monotonic_ns()
    heads = answer(live.ledger.heads, HEADS_WITHIN_S, f"the heads of {followed.hops[0]}", run.lasts)
    expected = {group: heads[group] for group in followed.groups if group in heads}
    shown_ns = asked_ns
    shown: Mapping[Group, int] = {}

    def caught_up() -> bool:
        nonlocal shown_ns, shown
        run.doing = f"waiting for {followed.visible} to have every group of {stream}"
        shown_ns = time.monotonic_ns()
        shown = answer(live.visible.heads, HEADS_WITHIN_S, f"the heads of {followed.visible}", run.lasts)
        return all(group in shown and shown[group] >= head for group, head in expected.items())

    try:
        until(caught_up, within_s=bound_s, every_s=LOOK_EVERY_S, what=f"every group of {stream}")
        return Look(stream, asked_ns, time.monotonic_ns())
    except TooLate:
        behind = [group for group, head in expected.items() if group not in shown or shown[group] < head]
        before = run.healed.heads.get(followed.visible) if run.healed else None
        risen = {g for g, head in shown.items() if before is not None and (g not in before or head > before[g])}
        still = (set(behind) & set(followed.affected)) - risen
        return Look(stream, asked_ns, shown_ns, len(behind), len(still), tuple(sorted(behind)[:NAMED_MAX]))

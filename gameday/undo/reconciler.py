"""Heals what is still broken when both a run and its guardian are gone. It never touches a living run's faults.

The stack's supervisor runs `python -m gameday.undo.reconciler --config C --state S`. mending.py does the healing;
guardian.py does a living run's.
"""

from __future__ import annotations

import argparse
import math
import signal
from pathlib import Path

import structlog

from gameday.errors import Busy, GamedayError
from gameday.model import Act
from gameday.stack.live import open_stack
from gameday.state import State
from gameday.system import console
from gameday.system.polling import until
from gameday.undo import lease
from gameday.undo.journal import Entry, Journal
from gameday.undo.mending import mend, take_to_mend

__all__ = ["Reconciler", "main"]

TICK_S = 0.5
HEAL_WITHIN_S = 5.0
"""How long one look tries to heal. The next look tries again."""

log = structlog.get_logger()


class Reconciler:
    """Looks at the journal again and again. A living run's guardian has the lock; who can take it may heal."""

    def __init__(self, config: Path, state: State) -> None:
        self._config = config
        self._state = state
        self._spared: set[str] = set()

    def look(self) -> list[Act]:
        """Look once, and heal. Returns the acts that were healed.

        When only the guardian is dead, its run may heal until the next look.
        """
        entries = Journal(self._state.journal).open_entries()
        holder = lease.holder(self._state)
        if not entries or (holder is not None and not holder.orphaned):
            self._spared = set()
            return []
        if holder is not None and not holder.guardian.stopped and all(e.act.undone and not e.expired for e in entries):
            return []  # a dead run's guardian has undone all, and ends once everything serves, or soon
        fresh = {e.act.id for e in entries if e.owner.alive and not e.expired} - self._spared
        self._spared |= fresh
        if fresh:
            return []
        try:
            stack = open_stack(self._config, self._state)
            with take_to_mend(stack):
                mended = mend(stack, "the reconciler", _why(entries), HEAL_WITHIN_S)
        except Busy:
            return []  # a new run took the stack first, and heals before it begins; or another machine's run has it
        for act in mended.acts:
            log.info("healed", act=act.id, fault=act.fault, component=act.args.get("component"))
        for act, error in (*mended.failed, *mended.starting):
            log.error("not healed", act=act.id, fault=act.fault, error=error)
        return list(mended.acts)


def _why(entries: list[Entry]) -> str:
    """Say why no run could heal these acts any more."""
    if any(not e.owner.alive for e in entries):
        return "its run's process and its guardian were gone"
    return "its time to live ended" if any(e.expired for e in entries) else "its guardian was gone"


def main() -> None:
    """Look every TICK_S until SIGTERM or SIGINT. Goes on when its log can't be written."""
    console.tolerate()
    parser = argparse.ArgumentParser(prog="gameday.undo.reconciler", description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--state", type=Path, required=True)
    options = parser.parse_args()
    signals: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda n, _: signals.append(n))
    reconciler = Reconciler(options.config, State(options.state))

    def over() -> bool:
        try:
            reconciler.look()
        except GamedayError as e:
            log.error("can't look", error=str(e))
        return bool(signals)

    log.info("watching", journal=str(State(options.state).journal))
    until(over, math.inf, every_s=TICK_S, what="the end")


if __name__ == "__main__":
    main()

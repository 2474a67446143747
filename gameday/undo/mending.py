"""Mending: the undo of what the journal has open, by whoever holds the lock; and the look at what is left.

A guardian mends its run's faults with this; the reconciler and the command line what the dead have left.
"""

from __future__ import annotations

import contextlib
import math
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

from gameday.errors import Busy, GamedayError, NotUp, TooLate, masked
from gameday.model import Act
from gameday.ports import Held, Host, Isolate, Links, Pause, Settles, UntilServed
from gameday.stack.live import Stack
from gameday.stack.registry import fault_from
from gameday.state import State
from gameday.system.polling import until
from gameday.undo import lease
from gameday.undo.journal import Entry, Journal

__all__ = ["Mended", "abort", "heal_now", "heal_open", "is_held", "mend", "nothing_left", "take_to_mend", "unserved"]

HEAL_WITHIN_S = 30.0
"""How long a heal is tried again, at least; a guardian goes on until the time to live ends."""

ABORT_WITHIN_S = 45.0
"""Until a guardian that is told to abort has healed and ended. A second is usual, even if an act is under way."""

RETRY_FIRST_S, RETRY_MAX_S = 0.1, 2.0

LOOK_EVERY_S = 0.1
"""How often it is looked whether what was undone serves."""

NOTE_WITHIN_S = 5.0
"""How long the journal is tried again for what is healed already."""


@dataclass(frozen=True)
class Mended:
    """What was healed, and what could not be: act -> the last error. starting: act -> what it lacks, for what was
    undone and has not been seen to serve."""

    acts: tuple[Act, ...]
    failed: tuple[tuple[Act, str], ...]
    starting: tuple[tuple[Act, str], ...] = ()

    def check(self) -> tuple[Act, ...]:
        """The healed acts; a GamedayError naming what is still open."""
        return self._checked((*self.failed, *self.starting))

    def check_undone(self) -> tuple[Act, ...]:
        """The same, where what is undone may take its time to serve."""
        return self._checked(self.failed)

    def _checked(self, still_open: tuple[tuple[Act, str], ...]) -> tuple[Act, ...]:
        if still_open:
            rest = "; ".join(f"{a.fault} of {a.args.get('component')} (run {a.run}): {e}" for a, e in still_open)
            raise GamedayError(f"not healed: {rest}. Remedy: gameday up, then gameday heal")
        return self.acts


def mend(
    stack: Stack,
    by: str,
    why: str,
    within_s: float,
    wanted: Callable[[Entry], bool] = lambda _: True,
    serves_within_s: float = math.inf,
) -> Mended:
    """Heal every wanted open act of the journal, latest first, each again with backoff until within_s is over.

    All are undone before any is looked at. One is healed when what it struck serves; its time is the undo's. What is
    undone is given up after serves_within_s (at least one look), and stays open.
    Only for who holds the lock. A healing that can't be journalled (for NOTE_WITHIN_S) leaves its act open: whoever
    looks next repeats it, which does no harm.
    """
    journal = Journal(stack.state.journal)
    entries = reversed(journal.open_entries())
    pending = [_Pending(e.act, e.act.undone_ns if e.act.run == by else None) for e in entries if wanted(e)]
    healed: list[str] = []
    began_s = time.monotonic()

    def attempt() -> bool:
        now_s = time.monotonic()
        for p in pending:
            p.undo(stack, now_s)
        for p in list(pending):
            if p.look(stack, journal, by, why):
                pending.remove(p)
                healed.append(p.act.id)
        return all(p.given_up(began_s + serves_within_s) for p in pending)

    with contextlib.suppress(TooLate):
        until(attempt, within_s)
    known = {e.act.id: e.act for e in journal.entries()}
    return Mended(
        tuple(known[i] for i in healed),
        tuple((p.act, p.error) for p in pending if p.undone_ns is None or p.served_s is not None),
        tuple((replace(p.act, undone_ns=p.undone_ns), p.error) for p in pending if p.undone_ns and p.served_s is None),
    )


def heal_now(stack: Stack, act: Act) -> None:
    """Undo one act, whatever became of it, without noting it."""
    fault = fault_from(act.fault, act.args)
    if isinstance(fault, Settles) and act.done_ns is not None and fault.settled(stack, act.before):
        return
    fault.heal(stack, act.before)


def unserved(stack: Stack, act: Act) -> str | None:
    """What still keeps from serving what an undone act had struck, in words; None: it is mended."""
    fault = fault_from(act.fault, act.args)
    return fault.unserved(stack, act.before) if isinstance(fault, UntilServed) else None


@dataclass
class _Pending:
    """One heal that isn't done, seen or noted, yet. due_s: when it is undone again, look_s: when it is looked at again,
    served_s: when it was seen to serve, by time.monotonic."""

    act: Act
    undone_ns: int | None = None
    due_s: float = 0.0
    look_s: float = 0.0
    served_s: float | None = None
    noted: bool = False
    attempts: int = 0
    error: str = "never tried"

    def undo(self, stack: Stack, now_s: float) -> None:
        """Undo it, unless it serves; again now and then, for what was started may have ended."""
        if self.served_s is not None or now_s < self.due_s:
            return
        try:
            heal_now(stack, self.act)
        except Exception as e:  # noqa: BLE001 - whatever one heal raises, the others go on and this one is tried again
            self._put_off(e)
        else:
            self.undone_ns = self.undone_ns or time.monotonic_ns()
            self.due_s = time.monotonic() + RETRY_MAX_S

    def look(self, stack: Stack, journal: Journal, by: str, why: str) -> bool:
        """Whether it serves, and is noted as healed."""
        now_s = time.monotonic()
        if self.undone_ns is None or now_s < self.look_s:
            return False
        self.look_s = now_s + LOOK_EVERY_S
        try:
            if self.served_s is None:
                if lacks := unserved(stack, self.act):
                    self.error = lacks
                    self._note_undone(journal, by, why)
                    return False
                self.served_s = time.monotonic()
            journal.healed(self.act.id, self.undone_ns, by, why)
        except Exception as e:  # noqa: BLE001 - as above
            self._put_off(e)
            self.look_s = self.due_s
            return False
        return True

    def given_up(self, serves_until_s: float) -> bool:
        now_s = time.monotonic()
        if self.served_s is not None:
            return now_s > self.served_s + NOTE_WITHIN_S
        return self.undone_ns is not None and now_s >= serves_until_s

    def _note_undone(self, journal: Journal, by: str, why: str) -> None:
        """Once; where it can't be noted, whoever looks next undoes it again, which does no harm."""
        if not self.noted and self.act.undone_ns is None and self.undone_ns is not None:
            with contextlib.suppress(GamedayError):
                journal.undone(self.act.id, self.undone_ns, by, why)
                self.noted = True

    def _put_off(self, error: Exception) -> None:
        self.due_s = time.monotonic() + min(RETRY_FIRST_S * 2**self.attempts, RETRY_MAX_S)
        self.attempts += 1
        self.error = masked(str(error) or repr(error))


def abort(state: State) -> list[Act]:
    """End the run that holds the stack, from any process: its guardian heals everything and ends. What was healed.

    [] when no run holds the stack. Raises GamedayError when the guardian doesn't end, or left something open.
    """
    current = lease.holder(state)
    if current is None:
        return []
    journal = Journal(state.journal)
    before = {a.id for a in journal.open_acts()}
    current.guardian.send(signal.SIGTERM)
    current.guardian.send(signal.SIGCONT)  # a frozen one would sit on the signal
    try:
        until(lambda: not current.guardian.alive, ABORT_WITHIN_S, every_s=0.005, what="its guardian's end")
    except TooLate as e:
        raise GamedayError(
            f"run {current.run} was told to abort, but its guardian (pid {current.guardian.pid}) is still there after "
            f"{ABORT_WITHIN_S:g} s. Remedy: gameday heal"
        ) from e
    if rest := [a for a in journal.acts(current.run) if a.healed_ns is None]:
        names = ", ".join(f"{a.fault} of {a.args.get('component')}" for a in rest)
        raise GamedayError(f"run {current.run} is aborted, but not healed: {names}. Remedy: gameday up, gameday heal")
    return [e.act for e in journal.entries() if e.act.id in before and not e.open]


def take_to_mend(stack: Stack) -> lease.Lease:
    """Take the stack for a moment. Raises Busy also when a run on another machine holds it: what is open here is mended
    once that one is over. A Postgres that doesn't tell holds up no mending."""
    if stack.config.several_machines:
        from gameday.undo import claim  # which needs a client of Postgres

        with contextlib.suppress(NotUp):
            if owner := claim.elsewhere(stack.config.history.get_secret_value(), stack.name):
                raise Busy(owner)
    return lease.take_to_mend(stack.state)


def heal_open(stack: Stack, by: str, why: str) -> list[Act]:
    """Heal whatever the journal has open; a run that holds the stack is aborted first. What was healed.

    Raises GamedayError naming what could not be healed.
    """
    journal = Journal(stack.state.journal)
    before = {a.id for a in journal.open_acts()}
    current = lease.holder(stack.state)
    if current is not None:
        try:
            abort(stack.state)
        except GamedayError:
            current.guardian.send(signal.SIGKILL)
            until(lambda: not current.guardian.alive, ABORT_WITHIN_S, what="the guardian's end")
    if journal.open_acts():
        with take_to_mend(stack):
            mend(stack, by=by, why=why, within_s=HEAL_WITHIN_S).check()
    return [e.act for e in journal.entries() if e.act.id in before and not e.open]


def nothing_left(stack: Stack) -> list[str]:
    """What is stopped, paused, armed, cut or slowed though nothing should be, and what can't be told; []: all is well.

    A component that an open act struck once (killed, restarted) may be down: that is the platform's to repair.
    """
    journal = Journal(stack.state.journal)
    found = [
        f"line {n} of {stack.state.journal} is damaged: see what it held, and delete it" for n in journal.damaged()
    ]
    struck = {a.args.get("component") for a in journal.open_acts() if not is_held(a)}
    opted_in = [role for role, component in stack.config.components.items() if component.opt_in]
    looks = [
        *(partial(_of_component, stack, stack.host(role), role, role in struck) for role in opted_in),
        *(partial(_of_links, stack, name) for name in dict.fromkeys(link.host for link in stack.config.links.values())),
    ]
    with ThreadPoolExecutor(len(looks) or 1) as pool:  # side by side: who doesn't answer keeps nobody else waiting
        answers = [pool.submit(look) for look in looks]
    return found + [line for answer in answers for line in answer.result()]


def _of_component(stack: Stack, host: Host, role: str, struck: bool) -> list[str]:
    """What is wrong with a component. struck: it may be down."""
    found = []
    try:
        if isinstance(host, Pause) and host.paused(role):
            found.append(f"{role} is paused")
        elif not struck and host.identity(role) is None:
            found.append(f"{role} is not running")
        if isinstance(host, Isolate) and host.adrift(role):
            found.append(f"{role} is cut off from its network")
        if stack.component(role).points is not None:
            listed = stack.points(role).listed()
            found += [f"{role} has {n} armed: {p['term']}" for n, p in listed.items() if p["term"] is not None]
    except GamedayError as e:
        found.append(f"{role}: {e}")
    return found


def _of_links(stack: Stack, name: str) -> list[str]:
    """What is wrong with the links that gameday.toml puts on this host. What else it has is other people's."""
    host = stack.named_host(name)
    if not isinstance(host, Links):
        return []
    try:
        links = host.links()
    except GamedayError as e:
        return [f"links of {name}: {e}"]
    found = []
    for link in (link for link, config in stack.config.links.items() if config.host == name):
        state = links.get(link)
        if state is None:
            found.append(f"link {link} is not there: its host {name} has {', '.join(sorted(links)) or 'none'}")
            continue
        if not state["enabled"]:
            found.append(f"link {link} is cut")
        found += [f"link {link} has the toxic {toxic['name']}" for toxic in state["toxics"]]
    return found


def is_held(act: Act) -> bool:
    return isinstance(fault_from(act.fault, act.args), Held)

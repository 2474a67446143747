"""Undoes what the journal has open, for the process that holds the lock, and looks at what is still broken.

A guardian mends its own run's faults with this; the reconciler and the command line mend what dead runs left.
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
"""How long a heal is tried again, at least. A guardian goes on until its time to live ends."""

ABORT_WITHIN_S = 45.0
"""How long a guardian that is told to abort may take to heal and end. A second is usual, even during an act."""

RETRY_FIRST_S, RETRY_MAX_S = 0.1, 2.0

LOOK_EVERY_S = 0.1
"""How often a mending process asks whether what it undid serves."""

NOTE_WITHIN_S = 5.0
"""How long a mending process tries to journal an act that is healed already."""


@dataclass(frozen=True)
class Mended:
    """The acts that were healed, and those that were not.

    failed: act, last error. starting: acts that were undone and were not seen to serve; act, what still keeps it.
    """

    acts: tuple[Act, ...]
    failed: tuple[tuple[Act, str], ...]
    starting: tuple[tuple[Act, str], ...] = ()

    def check(self) -> tuple[Act, ...]:
        """Return the healed acts. Raises GamedayError when an act is still open, naming each."""
        return self._checked((*self.failed, *self.starting))

    def check_undone(self) -> tuple[Act, ...]:
        """Return the healed acts. Raises only for acts that could not be undone: the others may still be starting."""
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

    Args: by, why: what the journal says of each heal. wanted: which open acts. serves_within_s: how long to wait for
    what was undone to serve (at least one look); after that its act stays open.

    Undoes all acts before it looks at any. An act is healed when what it struck serves; its time is the undo's.
    Only the holder of the lock may call this. An act whose healing can't be journalled for NOTE_WITHIN_S stays open:
    the next process that looks heals it again, which does no harm.
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
    """Undo one act, done or not, without noting it in the journal."""
    fault = fault_from(act.fault, act.args)
    if isinstance(fault, Settles) and act.done_ns is not None and fault.settled(stack, act.before):
        return
    fault.heal(stack, act.before)


def unserved(stack: Stack, act: Act) -> str | None:
    """Say what still keeps the component of an undone act from serving. None: it serves."""
    fault = fault_from(act.fault, act.args)
    return fault.unserved(stack, act.before) if isinstance(fault, UntilServed) else None


@dataclass
class _Pending:
    """One act that is not undone, not seen to serve, or not noted yet.

    By time.monotonic: due_s: when to undo it again. look_s: when to look at it again. served_s: when it was seen to
    serve.
    """

    act: Act
    undone_ns: int | None = None
    due_s: float = 0.0
    look_s: float = 0.0
    served_s: float | None = None
    noted: bool = False
    attempts: int = 0
    error: str = "never tried"

    def undo(self, stack: Stack, now_s: float) -> None:
        """Undo it, unless it serves. Repeats that every RETRY_MAX_S, because what was started may have ended again."""
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
        """Look whether it serves, and note it as healed then. Says whether both are done."""
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
        """Note once that it is undone. If that fails, whoever looks next undoes it again, which does no harm."""
        if not self.noted and self.act.undone_ns is None and self.undone_ns is not None:
            with contextlib.suppress(GamedayError):
                journal.undone(self.act.id, self.undone_ns, by, why)
                self.noted = True

    def _put_off(self, error: Exception) -> None:
        self.due_s = time.monotonic() + min(RETRY_FIRST_S * 2**self.attempts, RETRY_MAX_S)
        self.attempts += 1
        self.error = masked(str(error) or repr(error))


def abort(state: State) -> list[Act]:
    """End the run that holds the stack, from any process: its guardian heals everything and ends.

    Returns the acts that were healed; [] when no run holds the stack. Raises GamedayError when the guardian doesn't
    end, or left an act open.
    """
    current = lease.holder(state)
    if current is None:
        return []
    journal = Journal(state.journal)
    before = {a.id for a in journal.open_acts()}
    current.guardian.send(signal.SIGTERM)
    current.guardian.send(signal.SIGCONT)  # a frozen process doesn't handle the other signal
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
    """Take the stack for a moment. Raises Busy also when a run on another machine holds it.

    What is open on this machine is mended once that run is over. When Postgres doesn't answer, mending goes on.
    """
    if stack.config.several_machines:
        from gameday.undo import claim  # imports a client of Postgres

        with contextlib.suppress(NotUp):
            if owner := claim.elsewhere(stack.config.history.get_secret_value(), stack.name):
                raise Busy(owner)
    return lease.take_to_mend(stack.state)


def heal_open(stack: Stack, by: str, why: str) -> list[Act]:
    """Heal every open act of the journal. Aborts the run that holds the stack first.

    Returns the acts that were healed. Raises GamedayError when an act could not be healed, naming each.
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
    """List what is stopped, paused, armed, cut or slowed and should not be, and what could not be asked.

    Returns one sentence each; [] when all is well. A component that an open act killed or restarted may be down: the
    platform has to repair that.
    """
    journal = Journal(stack.state.journal)
    damaged = [
        f"line {n} of {stack.state.journal} is damaged: see what it held, and delete it" for n in journal.damaged()
    ]
    struck = {a.args.get("component") for a in journal.open_acts() if not is_held(a)}
    opted_in = [role for role, component in stack.config.components.items() if component.opt_in]
    looks = [
        *(partial(_of_component, stack, stack.host(role), role, role in struck) for role in opted_in),
        *(partial(_of_links, stack, name) for name in dict.fromkeys(link.host for link in stack.config.links.values())),
    ]
    with ThreadPoolExecutor(len(looks) or 1) as pool:  # in parallel: a host that doesn't answer delays no other
        answers = [pool.submit(look) for look in looks]
    return damaged + [line for answer in answers for line in answer.result()]


def _of_component(stack: Stack, host: Host, role: str, struck: bool) -> list[str]:
    """List what is wrong with a component. struck: an open act killed or restarted it, so it may be down."""
    wrong = []
    try:
        if isinstance(host, Pause) and host.paused(role):
            wrong.append(f"{role} is paused")
        elif not struck and host.identity(role) is None:
            wrong.append(f"{role} is not running")
        if isinstance(host, Isolate) and host.adrift(role):
            wrong.append(f"{role} is cut off from its network")
        if stack.component(role).points is not None:
            listed = stack.points(role).listed()
            wrong += [f"{role} has {n} armed: {p['term']}" for n, p in listed.items() if p["term"] is not None]
    except GamedayError as e:
        wrong.append(f"{role}: {e}")
    return wrong


def _of_links(stack: Stack, name: str) -> list[str]:
    """List what is wrong with the links that gameday.toml puts on this host. Other links there are not gameday's."""
    host = stack.named_host(name)
    if not isinstance(host, Links):
        return []
    try:
        links = host.links()
    except GamedayError as e:
        return [f"links of {name}: {e}"]
    wrong = []
    for link in (link for link, config in stack.config.links.items() if config.host == name):
        state = links.get(link)
        if state is None:
            wrong.append(f"link {link} is not there: its host {name} has {', '.join(sorted(links)) or 'none'}")
            continue
        if not state["enabled"]:
            wrong.append(f"link {link} is cut")
        wrong += [f"link {link} has the toxic {toxic['name']}" for toxic in state["toxics"]]
    return wrong


def is_held(act: Act) -> bool:
    return isinstance(fault_from(act.fault, act.args), Held)

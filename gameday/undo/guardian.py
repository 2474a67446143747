"""Does every act and undo of one run, in a detached process, so that nothing stays broken when the run dies.

`python -m gameday.undo.guardian --config C --state S --run R --test T --ttl-s N --owner PID` holds the stack's lock for
as long as it lives. It reads one JSON order a line from stdin (inject, prove, heal, close) and answers on stdout. It
heals everything and ends when it is told to, when stdin closes, when its owner dies, at the end of its time to live,
and on SIGTERM, SIGINT or SIGQUIT. It heals first and logs afterwards. The faults are in faults/, the mending is in
mending.py. When a guardian dies too, reconciler.py mends.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import json
import math
import os
import queue
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, NoReturn

from gameday import errors
from gameday.errors import ConfigError, DriverError, GamedayError, TooLate, masked
from gameday.model import Act, Json
from gameday.ports import Fault, Held
from gameday.stack import stops
from gameday.stack.live import Stack, open_stack
from gameday.stack.registry import fault_from, fault_kind
from gameday.state import State
from gameday.system.polling import until
from gameday.system.process import Process, boot_ns
from gameday.undo import claim, lease
from gameday.undo.journal import Entry, Journal
from gameday.undo.mending import HEAL_WITHIN_S, LOOK_EVERY_S, Mended, heal_now, is_held, mend, take_to_mend, unserved

__all__ = ["ABORTED", "OUT_OF_TIME", "Guardian"]

START_WITHIN_S = 60.0
"""How long a guardian may take to be ready: it may have to kill a dead run's guardian, and mend what that left."""

ORDER_WITHIN_S = 60.0
"""How long an answer may take beyond the order's own bound. Longer than any host waits for its server."""

CLOSE_WITHIN_S = 45.0
"""How long a run waits for a guardian that it told to close. After that the guardian goes on without its run."""

ACT_PATIENCE_S = 1.0
"""How long `close` waits for an act under way. Then it heals anyway, and once more when the act has returned."""

ACT_HANGS_S = 30.0
"""How long `close` waits, after that first heal, for an act that hangs. The guardian's end then ends the act."""

TICK_S = 1.0
"""How often a guardian checks its time to live, at least. While a machine sleeps, waits stop but CLOCK_BOOTTIME goes
on."""

ORDER_HEALS_S = 10.0
"""How long a heal that the plan asks for is tried again before the run gives up. The guardian heals again later."""

SERVES_WITHIN_S = 20.0
"""How long a guardian that ends waits for what it undid to serve. Prefect gives a cancelled run 30 s, and the run waits
for its guardian, so this is less. What starts more slowly stays open, and the reconciler goes on."""

EXIT_WITHIN_S = 1.0
"""How long a guardian may live after it has closed its pipe."""

TAKE = b'{"op":"take"}\n'
"""The first order: before it a guardian does nothing."""

PIPE_BYTES = 1 << 16
LINE_BYTES_MAX = 1 << 20

ABORTED = "aborted"
"""Why a guardian ended: another process told it to."""

OUT_OF_TIME = "its time to live ended"
"""Why a guardian ended: its run took too long."""

DISPLACED = "the stack was taken over from another machine"

CLAIM_EVERY_S, CLAIM_OLD_S = 1.0, 3.0
"""How often a guardian asks whether the claim is still its own, and how old that answer may be at a heal."""

SOMEONE_ELSE = "someone else"
"""What the journal says, as `by`, of a lasting fault that was over before its run came to heal it."""


# ---- the run's side ----------------------------------------------------------------------------------------


class Guardian:
    """A run's handle on its guardian. Its methods raise GamedayError when the guardian is gone or refuses."""

    def __init__(self, stack: Stack, run_id: str, process: subprocess.Popen[bytes]) -> None:
        self._stack = stack
        self._run = run_id
        self._process = process
        self._lock = threading.RLock()
        self._silent = False
        self._unread = b""
        self._end: str | None = None
        self._closed = False

    @classmethod
    def start(cls, stack: Stack, run_id: str, test: str, ttl_s: float) -> Guardian:
        """Start a guardian for a run of this process, and take the stack: `launch`, then `take`."""
        guardian = cls.launch(stack, run_id, test, ttl_s)
        guardian.take()
        return guardian

    @classmethod
    def launch(cls, stack: Stack, run_id: str, test: str, ttl_s: float) -> Guardian:
        """Start the guardian's process and return at once. It needs a second to come up, and does nothing until `take`.

        ttl_s: the time to live, in seconds after `take`. At its end the guardian heals everything and the run is over.
        """
        log = stack.state.guardian_log(run_id)
        command = [sys.executable, "-m", "gameday.undo.guardian"]
        command += ["--config", str(stack.path), "--state", str(stack.state.root), "--run", run_id, "--test", test]
        command += ["--ttl-s", str(ttl_s), "--owner", str(os.getpid())]
        try:
            log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with log.open("ab") as out:
                process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=out, start_new_session=True
                )
        except OSError as e:
            raise GamedayError(
                f"no guardian for run {run_id}: {log}: {e.strerror}. Remedy: check space and rights of the state folder"
            ) from e
        return cls(stack, run_id, process)

    def take(self) -> None:
        """Have it take the stack and mend what earlier runs left. Raises Busy when another run holds the stack."""
        with self._lock, contextlib.suppress(BrokenPipeError):
            self._stdin.write(TAKE)
            self._stdin.flush()
        try:
            self._answer(START_WITHIN_S, "its start")
        except BaseException:
            self._kill()
            raise

    def dismiss(self) -> None:
        """End a guardian that was never told to take the stack."""
        self._closed = True
        self._kill()

    @property
    def alive(self) -> bool:
        """Whether it still holds the stack for this run. A frozen guardian can't undo anything: it counts as dead."""
        if self._closed or self._process.poll() is not None:
            return False
        process = Process.of(self._process.pid)
        return process is not None and not process.stopped

    @property
    def why(self) -> str:
        """What its end means for its run: "aborted", or "aborted: " and the reason."""
        return _aborted(self.end)

    @property
    def end(self) -> str | None:
        """Why it isn't alive: aborted, its time to live or its run ended, it died, it is frozen. None: it is alive."""
        if self.alive:
            return None
        try:
            self._process.wait(EXIT_WITHIN_S)
        except subprocess.TimeoutExpired:
            return "its guardian is frozen"
        if self._end is None and not self._stdout.closed:
            with self._lock:
                self._read(0.0)
        return self._end or f"its guardian died with exit code {self._process.returncode}"

    def inject(self, fault: Fault) -> Act:
        """Journal a fault, then do it. When this raises, an act that is in the journal then is healed like others."""
        args = dataclasses.asdict(fault)  # type: ignore[call-overload]  # a fault is a dataclass; no Protocol says so
        return Act(**self._order({"op": "inject", "kind": fault_kind(fault), "args": args}, 0.0)["act"])

    def prove(self, act_id: str, within_s: float) -> Act:
        """Wait for the fault's effect. Returns the act, with its proof if one was seen within within_s."""
        return Act(**self._order({"op": "prove", "id": act_id, "within_s": within_s}, within_s)["act"])

    def heal(self, act_ids: Sequence[str] | None, why: str) -> list[Act]:
        """Heal these acts, or (None) every act that lasts until it is healed.

        Acts that the undo of one of them undoes too have to be given together: one that is given later is taken for
        undone by someone else. A fault that strikes once (a kill, a restart) is not healed before `close` unless it is
        given: the platform has to repair it.
        """
        order = {"op": "heal", "ids": act_ids, "why": why, "mended": False}
        return [Act(**a) for a in self._order(order, HEAL_WITHIN_S)["acts"]]

    def settle(self, act_id: str, why: str) -> list[Act]:
        """Note that this run has just mended an act itself (a runbook's step did). Undoes what may be left of it."""
        order = {"op": "heal", "ids": [act_id], "why": why, "mended": True}
        return [Act(**a) for a in self._order(order, HEAL_WITHIN_S)["acts"]]

    def acts(self) -> tuple[Act, ...]:
        """This run's acts as the journal has them."""
        return Journal(self._stack.state.journal).acts(self._run)

    def close(self) -> list[Act]:
        """Have it heal what is open, and give the stack back. Idempotent.

        Heals in this process when the guardian is dead or frozen. Returns the acts that were healed here. Raises
        GamedayError when an act stays open, naming it.
        """
        if self._closed:
            return []
        before = {a.id for a in self.acts() if a.healed_ns is None}
        with self._lock, contextlib.suppress(BrokenPipeError):
            self._stdin.write(b'{"op":"close"}\n')
            self._stdin.close()
        self._closed = True
        self._await_end()
        still_open = [a for a in self.acts() if a.healed_ns is None]
        if self._end is not None and still_open and all(a.undone for a in still_open):
            lacks = "; ".join(f"{a.fault} of {a.args.get('component')}: {self._lacks(a)}" for a in still_open)
            raise GamedayError(f"undone, and open until it serves: {lacks}. Remedy: gameday status, gameday heal")
        if still_open:
            with take_to_mend(self._stack):
                mend(self._stack, by=self._run, why="its guardian was gone", within_s=HEAL_WITHIN_S).check()
        return [a for a in self.acts() if a.id in before and a.healed_ns is not None]

    def _lacks(self, act: Act) -> str:
        try:
            return unserved(self._stack, act) or "it has come to serve meanwhile"
        except GamedayError as e:
            return str(e)

    # ---- the pipe ----------------------------------------------------------------------------------------------

    @property
    def _stdin(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin

    @property
    def _stdout(self) -> IO[bytes]:
        assert self._process.stdout is not None
        return self._process.stdout

    def _order(self, order: Json, within_s: float) -> Json:
        with self._lock:
            if self._end is not None:
                raise GamedayError(_aborted(self._end))
            if self._silent or not self.alive:
                raise GamedayError(
                    f"aborted: the guardian of run {self._run} is gone: {self.end or 'frozen or silent'}"
                )
            self._silent = True  # until it has answered: a late answer would be taken for the next order's
            with contextlib.suppress(BrokenPipeError):  # the reason for its end is read below
                self._stdin.write(json.dumps(order).encode() + b"\n")
                self._stdin.flush()
            return self._answer(within_s + ORDER_WITHIN_S, str(order["op"]))

    def _answer(self, within_s: float, what: str) -> Json:
        """Read the next answer. Raises the guardian's own error where it refused the order."""
        answer = self._read(within_s)
        if answer is None and self._end is not None:
            raise GamedayError(_aborted(self._end))
        if answer is None:
            raise GamedayError(
                f"aborted: the guardian of run {self._run} did not answer {what!r}: "
                f"{self.end or f'silent for {within_s:g} s'}. Its log: {self._stack.state.guardian_log(self._run)}"
            )
        self._silent = False
        if "error" in answer:
            raise _as_error(answer)
        return answer

    def _read(self, within_s: float) -> Json | None:
        """Read the next answer. None when none came in time, or at the end, after noting the reason that it gave."""
        deadline = time.monotonic() + within_s
        poll = select.poll()
        poll.register(self._stdout, select.POLLIN)
        while True:
            line, newline, rest = self._unread.partition(b"\n")
            if newline:
                self._unread = rest
                answer = json.loads(line)
                if "end" not in answer:
                    return answer
                self._end = answer["end"]
            elif not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                return None
            elif data := os.read(self._stdout.fileno(), PIPE_BYTES):
                self._unread += data
            else:
                return None

    def _await_end(self) -> None:
        """Wait until it has ended, or is frozen; a frozen one is killed."""
        process = Process.of(self._process.pid)

        def ended() -> bool:
            return self._process.poll() is not None or (process is not None and process.stopped)

        try:
            until(ended, CLOSE_WITHIN_S, every_s=0.005, what="the guardian's end")
        except TooLate as e:
            rest = ", ".join(f"{a.fault} of {a.args.get('component')}" for a in self.acts() if a.healed_ns is None)
            raise GamedayError(
                f"run {self._run} is over, but its guardian (pid {self._process.pid}) is still trying to heal "
                f"{rest or 'nothing'}. Its log: {self._stack.state.guardian_log(self._run)}. "
                f"Remedy: gameday up, gameday heal"
            ) from e
        self._kill()

    def _kill(self) -> None:
        """End it, if it hasn't ended. It is our child and `wait` reaps it, so the pid can't be another process's."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if self._end is None:
            self._read(0.0)
        with contextlib.suppress(BrokenPipeError):
            self._stdin.close()
        self._stdout.close()


# ---- the guardian's side -----------------------------------------------------------------------------------


class _Keeper:
    """Serves a run's orders. One thread listens, and heals at the end; another one carries out orders."""

    def __init__(self, stack: Stack, holder: lease.Holder, tenure: _Tenure | None) -> None:
        self._stack = stack
        self._holder = holder
        self._tenure = tenure
        self._journal = Journal(stack.state.journal)
        self._orders: queue.SimpleQueue[Json] = queue.SimpleQueue()
        self._mutex = threading.Lock()
        self._idle = threading.Event()
        self._idle.set()
        self._closing = False
        self._acts = 0

    def serve(self, stop: _Stop) -> str:
        """Take orders until there is a reason to end. Returns the reason."""
        threading.Thread(target=self._work, name="orders", daemon=True).start()
        os.set_blocking(0, False)
        poll = select.poll()
        owner = self._watch_owner(poll)
        poll.register(0, select.POLLIN)
        poll.register(stop.descriptor, select.POLLIN)
        unread = b""
        while True:
            left_s = (self._holder.until_ns - boot_ns()) / 1e9
            if stop.why is not None:
                return stop.why
            if left_s <= 0:
                return OUT_OF_TIME
            ready = {descriptor for descriptor, _ in poll.poll(min(left_s, TICK_S) * 1000)}
            if 0 in ready:
                data = os.read(0, PIPE_BYTES)
                unread += data
                *lines, unread = unread.split(b"\n")
                for order in map(json.loads, lines):
                    if order["op"] == "close":
                        return "its run ended"
                    self._orders.put(order)
                if not data or len(unread) > LINE_BYTES_MAX:
                    return "its run's process let go of it"
            if owner in ready:
                return "its run's process died"

    def _watch_owner(self, poll: select.poll) -> int:
        """Watch the owner's process: a child of it may keep the pipe open after its death. Returns the descriptor."""
        try:
            owner = self._holder.owner.pidfd()
        except ProcessLookupError:
            return -1  # then the pipe is closed too
        poll.register(owner, select.POLLIN)
        return owner

    def close(self, why: str) -> Mended:
        """Heal everything. Waits for an act under way: ACT_PATIENCE_S, then ACT_HANGS_S after a first heal."""
        with self._mutex:
            self._closing = True
        if not self._idle.wait(ACT_PATIENCE_S):
            for act in reversed(self._journal.open_acts()):
                try:
                    heal_now(self._stack, act)
                except Exception as e:  # noqa: BLE001 - tried again below, when the act is over
                    _log("not healed yet", act=act.id, error=str(e))
            self._idle.wait(ACT_HANGS_S)
        left_s = (self._holder.until_ns - boot_ns()) / 1e9
        within_s = max(left_s, HEAL_WITHIN_S)
        return mend(self._stack, self._holder.run, why, within_s, serves_within_s=SERVES_WITHIN_S)

    @property
    def displaced(self) -> bool:
        """Whether another machine holds the stack by now: then this process must not even heal."""
        return self._tenure is not None and self._tenure.lost

    # ---- orders ------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            order = self._orders.get()
            with self._mutex:
                if self._closing:
                    return
                if order["op"] != "prove":  # a look changes nothing: no undo waits for it
                    self._idle.clear()
            try:
                answer = self._obey(order)
            except Exception as e:  # noqa: BLE001 - an order's failure is its answer; the guardian lives on to heal
                answer = _of_error(e)
                _log("refused", order=order, error=answer["error"])
            finally:
                self._idle.set()
            _reply(answer)

    def _obey(self, order: Json) -> Json:
        match order["op"]:
            case "inject":
                return {"act": dataclasses.asdict(self._inject(order["kind"], order["args"]))}
            case "prove":
                return {"act": dataclasses.asdict(self._prove(order["id"], order["within_s"]))}
            case "heal":
                healed = self._heal(order["ids"], order["why"], order["mended"])
                return {"acts": [dataclasses.asdict(a) for a in healed]}
        raise GamedayError(f"unknown order {order['op']!r}. Known: inject, prove, heal, close")

    def _inject(self, kind: str, args: Json) -> Act:
        fault = fault_from(kind, args)
        self._stack.permit(fault)
        if lacks := self._stack.lacks(fault):
            raise ConfigError(f"{kind}: {'; '.join(lacks)}")
        before = fault.before(self._stack)
        self._acts += 1
        run = self._holder.run
        act = Act(
            id=f"{run}-{self._acts}",
            run=run,
            at_ns=time.monotonic_ns(),
            at_us=time.time_ns() // 1000,
            kind="fault",
            fault=kind,
            args=args,
            before=before,
            by=f"guardian {os.getpid()}",
        )
        self._journal.begin(Entry(act, self._holder.owner, self._holder.guardian, self._holder.until_ns))
        if self._closing or boot_ns() > self._holder.until_ns:
            raise GamedayError(f"{kind} of {fault.component} was not done: the run is ending")
        if self._tenure is not None:
            self._tenure.check()
        fault.act(self._stack, before, act.id)
        self._journal.done(act.id, time.monotonic_ns())
        return self._find(act.id)

    def _prove(self, act_id: str, within_s: float) -> Act:
        act = self._find(act_id)
        fault = fault_from(act.fault, act.args)

        def seen() -> str | None:
            proof = fault.proof(self._stack, act.before)
            if self._closing:  # the effect may be the undo's
                raise GamedayError(f"{act_id} was not proved: the run is ending")
            return proof

        with contextlib.suppress(TooLate):
            self._journal.proved(act_id, until(seen, within_s, what="the fault's effect"))
        return self._find(act_id)

    def _heal(self, act_ids: Sequence[str] | None, why: str, mended: bool) -> list[Act]:
        """Undo these acts, or (None) all that last until they are healed. Returns them.

        An act that was proved and is no longer in effect was undone by someone else, unless `mended`: the run has
        mended it itself. This is asked of all acts before any of them is undone. This does not wait until what was
        undone serves: the run measures how long that takes.
        """
        if self.displaced:
            raise GamedayError(DISPLACED)
        wanted = [a for a in self._mine() if is_held(a)] if act_ids is None else [self._find(one) for one in act_ids]
        open_ = [a for a in wanted if not a.undone and a.proof is not None and not mended]
        gone = {a.id for a in open_ if self._is_gone(a)}
        rest = {a.id for a in wanted} - gone
        over = "no longer in effect when its run came to heal it"
        self._follow(mend(self._stack, SOMEONE_ELSE, over, 0.0, lambda e: e.act.id in gone), SOMEONE_ELSE, over)
        run = self._holder.run
        mended_now = mend(self._stack, run, why, ORDER_HEALS_S, lambda e: e.act.id in rest, serves_within_s=0.0)
        self._follow(mended_now, run, why)
        mended_now.check_undone()
        return [self._find(a.id) for a in wanted]

    def _follow(self, mended: Mended, by: str, why: str) -> None:
        """Note each undone act as healed once what it struck serves, in a thread of its own.

        `close` undoes again what doesn't serve at the run's end.
        """
        left = [act for act, _ in mended.starting]

        def over() -> bool:
            for act in list(left):
                with contextlib.suppress(Exception):  # a host that doesn't answer, a full disk: the next look
                    if not self._closing and unserved(self._stack, act) is None:
                        self._journal.healed(act.id, act.undone_ns or time.monotonic_ns(), by, why)
                        left.remove(act)
            return self._closing or not left

        if left:
            follow = functools.partial(until, over, math.inf, LOOK_EVERY_S, "what is undone to serve")
            threading.Thread(target=follow, name="serves", daemon=True).start()

    def _is_gone(self, act: Act) -> bool:
        fault = fault_from(act.fault, act.args)
        return isinstance(fault, Held) and not fault.holds(self._stack, act.before)

    def _mine(self) -> Sequence[Act]:
        return self._journal.acts(self._holder.run)

    def _find(self, act_id: str) -> Act:
        for act in self._mine():
            if act.id == act_id:
                return act
        raise GamedayError(f"run {self._holder.run} has no act {act_id!r}. It has {[a.id for a in self._mine()]}")


class _Tenure:
    """Asks again and again whether the claim (claim.py) is still this run's, so that a heal need not wait for it."""

    def __init__(self, own: claim.Claim) -> None:
        self.claim = own
        self._known = True
        self._asked_ns = boot_ns()

    @property
    def lost(self) -> bool:
        """Whether another machine has the stack. Asks only when the last answer is old, as after a machine's sleep.

        When Postgres doesn't answer, the claim counts as kept: to heal does less harm than not to.
        """
        if self._known and boot_ns() - self._asked_ns > CLAIM_OLD_S * 1e9:
            with contextlib.suppress(GamedayError):
                self.check()
        return not self._known

    def check(self) -> None:
        """Ask. Raises GamedayError unless the stack is certainly still this run's."""
        asked_ns = boot_ns()
        if self._known:
            self._known, self._asked_ns = self.claim.holds(), asked_ns
        if not self._known:
            raise GamedayError(DISPLACED)

    def watch(self, tell: Callable[[str], None]) -> None:
        """Ask every CLAIM_EVERY_S, in a thread of its own. Calls `tell` with the reason when the claim is lost."""

        def gone() -> bool:
            with contextlib.suppress(GamedayError):
                self.check()
            return not self._known

        def look() -> None:
            until(gone, math.inf, every_s=CLAIM_EVERY_S, what="the claim's end")
            tell(DISPLACED)

        threading.Thread(target=look, name="claim", daemon=True).start()


class _Stop:
    """Keeps the first reason to end before the run does. Its descriptor turns readable then.

    SIGTERM, SIGINT and SIGQUIT are such a reason; threads report others with `ask`.
    """

    def __init__(self) -> None:
        self.why: str | None = None
        self.descriptor, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, lambda *_: self.ask(ABORTED))
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def ask(self, why: str) -> None:
        if self.why is None:
            self.why = why
            with contextlib.suppress(BlockingIOError):
                os.write(self._write, b"!")


def _told_to_take(stop: _Stop) -> bool:
    """Wait for the order to take the stack. False: it won't come."""
    poll = select.poll()
    poll.register(0, select.POLLIN)
    poll.register(stop.descriptor, select.POLLIN)
    ready = {descriptor for descriptor, _ in poll.poll()}
    return stop.why is None and 0 in ready and os.read(0, len(TAKE)) == TAKE


def main() -> NoReturn:
    """Run the guardian's process: wait for the order, take the stack, mend what is left, serve, heal, end."""
    parser = argparse.ArgumentParser(prog="gameday.undo.guardian", description=__doc__.partition("\n")[0])
    for option, kind in (
        ("config", Path),
        ("state", Path),
        ("run", str),
        ("test", str),
        ("ttl-s", float),
        ("owner", int),
    ):
        parser.add_argument(f"--{option}", type=kind, required=True)
    options = parser.parse_args()
    stop = _Stop()
    os.set_blocking(1, False)
    if not _told_to_take(stop):
        sys.exit(0)  # its run ended before it needed a guardian
    try:
        owner = Process.of(options.owner)
        if owner is None or os.getppid() != options.owner:
            raise GamedayError(f"process {options.owner} started a guardian and is gone")
        stack = open_stack(options.config, State(options.state))
        lock, holder = lease.take(stack.state, options.run, options.test, owner, options.ttl_s)
        tenure = None
        if stack.config.several_machines:
            tenure = _Tenure(claim.take(stack.config.history.get_secret_value(), stack.name, holder))
        journal = Journal(stack.state.journal)
        left = mend(stack, by=options.run, why="left by an earlier run", within_s=HEAL_WITHIN_S).check()
        journal.rotate(stack.state.journal_old)
    except GamedayError as e:
        _reply(_of_error(e))
        _log("not started", error=str(e))
        sys.exit(e.exit_code)
    _reply({"acts": [dataclasses.asdict(a) for a in left]})
    stops.watch(stack.stops(), stop.ask)
    if tenure is not None:
        tenure.watch(stop.ask)
    keeper = _Keeper(stack, holder, tenure)
    try:
        why = keeper.serve(stop)
    except Exception as e:  # noqa: BLE001 - whatever goes wrong with listening, what is broken must be healed
        why = f"its guardian failed: {e!r}"
    mended = Mended((), ()) if keeper.displaced else keeper.close(why)
    if tenure is not None:
        with contextlib.suppress(GamedayError):  # then the next owner finds this process dead
            tenure.claim.release()
    lock.release()
    _reply({"end": why})
    rest = {a.id: e for a, e in (*mended.failed, *mended.starting)}
    _log("ended", why=why, healed=[a.id for a in mended.acts], not_healed=rest)
    os._exit(1 if rest else 0)  # an act that hangs in its thread must not go on


def _reply(answer: Json) -> None:
    """Write one line to the run. When the run is dead, or frozen with a full pipe, the line is lost; nothing waits."""
    with contextlib.suppress(OSError):
        os.write(1, json.dumps(answer).encode() + b"\n")


def _log(event: str, **fields: Json) -> None:
    """Write one JSON line to stderr. A full disk must not keep a guardian from healing."""
    shown = {name: masked(value) if isinstance(value, str) else value for name, value in fields.items()}
    line = json.dumps({"event": event, "timestamp": time.time(), "pid": os.getpid(), **shown}, default=str)
    with contextlib.suppress(OSError):
        os.write(2, line.encode() + b"\n")


def _of_error(error: Exception) -> Json:
    """Turn an error into an answer. `_as_error` turns it back."""
    return {
        "error": masked(str(error) or repr(error)),
        "type": type(error).__name__,
        "definite": error.definite if isinstance(error, DriverError) else None,
    }


def _aborted(end: str | None) -> str:
    return ABORTED if end == ABORTED else f"{ABORTED}: {end}"


def _as_error(answer: Json) -> GamedayError:
    kind = getattr(errors, answer["type"], GamedayError)
    if kind is DriverError:
        return DriverError(answer["error"], definite=answer["definite"])
    return kind(answer["error"])


if __name__ == "__main__":
    main()

"""One run: its folder, its processes (the guardian that holds the stack and injects faults, the sampler, the canary),
and what it has learned so far.

Run is a plain class because Prefect walks through every field of a dataclass that a task gets. tasks/run.py decides the
order of the steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TypeAlias
from uuid import uuid4

from gameday import codec
from gameday.errors import DriverError, GamedayError, masked
from gameday.faults.ask import Ask
from gameday.model import (
    INACTIVE,
    Act,
    Baseline,
    Columns,
    Commit,
    Compared,
    Digest,
    Evidence,
    Followed,
    Group,
    JobRun,
    Json,
    Kept,
    Look,
    Marks,
    Now,
    Shards,
    Step,
    Timed,
    Verdict,
)
from gameday.plan import Await, FailureTest, FiresWithin, Inject, OfRole
from gameday.ports import UNDER_WAY_MAX_S, Asks, Delivers, Forgets, Held, Job, Ledger, Retains, Trap
from gameday.runbooks.blocks import CARRY_OUT_S
from gameday.sampling import conditions, timings
from gameday.sampling.canary import Flight
from gameday.sampling.sampler import Sampler, Tail
from gameday.stack.live import ARCHIVE, Stack
from gameday.stack.registry import fault_from, fault_kind
from gameday.system import signals
from gameday.system.asking import answer
from gameday.telling.silence import Silence
from gameday.undo.guardian import OUT_OF_TIME, Guardian
from gameday.verdict import machine

__all__ = ["HEADS_WITHIN_S", "Halt", "Run", "in_the_way", "marks", "new_id", "places", "too_late", "ttl_s"]

TAIL_S = 15.0
"""How far back conditions look at least."""

JOB_OLD_S = 1.0
"""How old an orchestrator's answer may be. It needs 20 ms for one, and a plan looks five times a second."""

KEPT_OLD_S = 1.0
"""How old the answer about a log's retention may be. It takes several requests."""

DUE_SOON_S = 5.0
"""A job's run that is asked for this long before the next one is due runs alone: both need as long to start."""

SPARE_S = 120.0
"""The reserve in the time to live of a run's faults, beyond the bounds of its plan."""

HEADS_WITHIN_S = 30.0
"""How long a hop's heads, or a cursor's position, may take where nothing is measured by the answer. Every driver's own
bound is shorter."""

Span: TypeAlias = tuple[int, int]
"""From and to, in ns of the monotonic clock."""


class Halt(GamedayError):
    """The run can't go on. `verdict` is the run's verdict, the text its reason."""

    def __init__(self, verdict: Verdict, why: str) -> None:
        super().__init__(why)
        self.verdict = verdict


def new_id(name: str) -> str:
    """Make an id for a run or a night that sorts by time: 20261123T020000-broker_restart-1f2e."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{name}-{uuid4().hex[:4]}"


class Run:
    """One run of one failure test."""

    def __init__(
        self,
        stack: Stack,
        name: str,
        params: Mapping[str, Json],
        test: FailureTest,
        night: str,
        say: Callable[[str], None],
    ) -> None:
        self.id = new_id(name)
        self.night = night
        self.stack = stack
        self.name = name
        self.params = params
        self.test = stack.resolved(test)
        self.folder = stack.state.run(self.id)
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as e:
            raise GamedayError(
                f"{self.folder} can't be made: {e.strerror}. Nothing is broken without a place for the results. "
                f"Remedy: check space and rights there"
            ) from e
        self.begin()
        self.ahead: Sequence[tuple[str, FailureTest]] = ((name, self.test),)
        """(label, test) of what its night still has to run, this test first. People are told of them before anything
        is broken."""
        self.trusted = True
        """Whether the checks of its night caught every planted fault."""
        self.doing = "beginning"
        """What the run does now, in words that complete "while it was …"."""
        self.once_back: Callable[[], None] | None = None
        """Called once, when the run no longer measures the platform's recovery: it prepares the next run."""
        self.guardian: Guardian | None = None
        self.sampler: Sampler | None = None
        self.canary: Flight | None = None
        self.followed: dict[str, Followed] = {
            name: Followed(
                name,
                _hops(stack, name),
                live.stream.visible,
                gapless=live.stream.gapless,
                bound_s=timings.BOUND_BEFORE_BASELINE_S,
                still_s=timings.BOUND_BEFORE_BASELINE_S,
            )
            for name, live in stack.streams.items()
        }
        """The streams, by name."""
        self.shards: Mapping[str, Shards] = {}
        """The streams whose groups are sampled together."""
        self.stood: Mapping[str, Mapping[Group, int]] = {}
        self.stood_ns = 0
        """Stream -> the heads that its ledger had when the groups were noted, and when that was."""
        self.looks: list[Look] = []
        self.at_clock: Mapping[Group, int] = {}
        self.baseline: Baseline | None = None
        self.inject_ns: int | None = None
        self.clock_ns: int | None = None
        self.healed: Marks | None = None
        self.ends: Marks | None = None
        self.digests: tuple[Digest, ...] = ()
        self.states: tuple[Compared, ...] = ()
        self.arrived: dict[str, Mapping[Group, Columns]] = {}
        """Hop -> the canary's records of unknown outcome that this hop, or an earlier one, was seen to have."""
        self.symptoms: dict[str, Json] = {}
        self.commit: str | None = None
        self.commits: tuple[Commit, ...] = ()
        self.jobs: tuple[JobRun, ...] = ()
        self.recovered: bool | None = None
        self.steps: list[Step] = []
        self.gathered: Evidence | None = None
        self.disturbs_ns: Span | None = None
        """From when to when the run gathered its evidence, which makes everything else slower."""
        self.silence: Silence | None = None
        self._struck: tuple[JobRun, ...] = ()
        self._busy: tuple[JobRun, ...] | None = None
        self._busy_why = "nobody has been asked"
        self._job_s = -JOB_OLD_S
        self._kept: Mapping[str, Kept] = {}
        self._kept_s = -KEPT_OLD_S
        self._say = say
        self._tail: Tail | None = None
        self._coming: Guardian | None = None

    def begin(self, disturbed_ns: Span | None = None) -> None:
        """Begin the run: its time counts from now. Before that, only the sampler of a run made ahead works.

        disturbed_ns: from when to when the run before gathered its evidence. None: unknown, so what was sampled before
        now is no baseline.
        """
        self.started = datetime.now(UTC)
        self.began_ns = self.entered_ns = time.monotonic_ns()
        self.disturbed_ns: Span = disturbed_ns or (0, self.began_ns)

    def say(self, text: str) -> None:
        """Show one line to the user and write it to the run's log. An error in either does not stop the run."""
        text = masked(text)
        self.log(text)
        try:
            self._say(text)
        except signals.Stopped:
            raise
        except (Exception, SystemExit):  # noqa: BLE001 - SystemExit is how a console ends on a broken pipe
            self.log("(not shown: the output failed)")

    def enter(self, step: str) -> None:
        """Note in the run's log that this step begins."""
        self.doing, self.entered_ns = f"at the step {step!r}", time.monotonic_ns()
        self.log(f"step: {step}")

    def log(self, text: str) -> None:
        """Write a line to the run's log. Errors are ignored: a full disk must not stop a heal or a message."""
        with suppress(OSError), (self.folder / "run.log").open("a", encoding="utf-8", errors="backslashreplace") as log:
            log.write(f"{datetime.now(UTC).isoformat(timespec='milliseconds')} {text}\n")

    # ---- what the test says --------------------------------------------------------------------------------

    @property
    def component(self) -> str | None:
        """The component that the plan strikes last; its recovery is timed.

        Asking for a job's run strikes nobody, unless the plan does nothing else: then the run itself is the fault.
        """
        faults = [step.fault for step in reversed(self.test.plan) if isinstance(step, Inject)]
        harm = [fault for fault in faults if not isinstance(fault, Ask)] or faults
        return harm[0].component if harm else None

    @property
    def ttl_s(self) -> float:
        """How long this run's faults may live."""
        return ttl_s(self.test)

    @property
    def alert(self) -> tuple[str, str] | None:
        """(name, component) of the platform's alert that the test is about. None: it is about none, or the stack has no
        alerts."""
        demanded = None if isinstance(self.test.alert, OfRole) else self.test.alert
        component = self.component if demanded is None or demanded.component is None else demanded.component
        if demanded is None or component is None or self.stack.alerts is None:
            return None
        return demanded.alert, component

    @property
    def together(self) -> tuple[str, ...]:
        """The members that the plan strikes of the timed component's role, that component included. (): the role has no
        members."""
        role = self.stack.config.together(self.component or "")
        struck = {step.fault.component for step in self.test.plan if isinstance(step, Inject)}
        return () if role is None else tuple(one for one in self.stack.config.members(role) if one in struck)

    @property
    def spared(self) -> tuple[str, ...]:
        """The members of that role that are not struck, and could serve instead."""
        role = self.stack.config.together(self.component or "")
        return () if role is None else tuple(o for o in self.stack.config.members(role) if o not in self.together)

    @property
    def role(self) -> str:
        """The role of the struck component; "" if no component is struck."""
        return self.stack.config.kind(self.component) if self.component else ""

    def follow(self, heads: Mapping[str, Mapping[Group, int]]) -> None:
        """Note which groups each stream has, and which of them the struck component carries.

        heads: stream -> the heads of its ledger now.
        """
        self.stood, self.stood_ns = heads, time.monotonic_ns()
        role = self.stack.config.together(self.component or "")
        struck = [one for one in (self.component, role, *self.together) if one is not None]
        for name, live in self.stack.streams.items():
            groups = tuple(sorted(heads[name]))
            self.followed[name] = replace(
                self.followed[name],
                topics=live.topics,
                groups=groups,
                affected=live.affected(struck, groups),
                knows=isinstance(live.ledger, Ledger),
                shards=self.shards.get(name),
            )

    # ---- handles -------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Start the sampler, which works until `close`, and the guardian, which touches nothing before `take`.

        Each needs a second to start. If they were started already, ahead of the run, nothing happens.
        """
        if self.sampler is None:
            with suppress(GamedayError):  # preflight asks again, and reports the error
                self.shards = answer(self.stack.shards, HEADS_WITHIN_S, "the ledgers' heads")
            self.sampler = Sampler.launch(self.stack, self.id, self.test.archive, self.alert, self.shards)
        if self._coming is None:
            self._coming = Guardian.launch(self.stack, self.id, self.name, self.ttl_s)

    def take(self) -> None:
        """Take the stack, and mend what earlier runs left broken.

        Raises:
            Busy: another run holds the stack.
        """
        coming = self._coming or Guardian.launch(self.stack, self.id, self.name, self.ttl_s)
        self._coming = None
        coming.take()
        self.guardian = coming

    def let_fly(self) -> None:
        """Start the canary, if the stack has one, and wait until the platform has taken one of its records.

        The run must hold the stack: two canaries at once would see each other's records.

        Raises:
            Halt(unknown): the platform takes no record of it.
        """
        if self.stack.config.canary is None:
            return
        self.canary = Flight.launch(self.stack, self.id)
        try:
            self.canary.await_done()
        except GamedayError as e:
            raise Halt(Verdict.UNKNOWN, str(e)) from e

    def land(self) -> None:
        """End the canary and clean up its records. The evidence is complete then, and the run still holds the stack."""
        canary, self.canary = self.canary, None
        if canary is not None and (left := canary.stop(clean_up=True)):
            self.say(f"{self.name}: {left}")

    @property
    def prepared(self) -> bool:
        """Whether the run's sampler and its guardian are alive."""
        runs = (self.sampler, self._coming)
        return all(process is not None and process.alive for process in runs)

    def await_samples(self) -> None:
        """Wait until every probe has been asked once.

        Raises:
            GamedayError: the sampler does not start.
        """
        assert self.sampler is not None
        self.sampler.await_begun()
        self._tail = Tail(self.stack.state.samples(self.id))

    def hush(self) -> None:
        """Silence the platform's alert that the test is about.

        Raises:
            Halt(unknown): the silence can't be made, so the test would page people.
        """
        if self.alert is None or self.stack.alerts is None:
            return
        name, component = self.alert
        labels = self.stack.alert_labels(component)
        why = f"failure test {self.name}, run {self.id}; gameday abort ends it"
        try:
            self.silence = Silence(self.stack.alerts, self.stack.alert_name(name), labels, why)
        except DriverError as e:
            raise Halt(Verdict.UNKNOWN, f"nothing was broken, for it would page people: no silence: {e}") from e

    def held(self) -> Guardian:
        """Return the guardian, through which this run acts and heals.

        Raises:
            Halt(unknown): the run no longer holds the stack, because it was aborted or another run took over.
        """
        if self.guardian is None:
            raise Halt(Verdict.UNKNOWN, f"run {self.id} has not taken the stack")
        if not self.guardian.alive:
            raise Halt(Verdict.UNKNOWN, self._over(self.guardian))
        return self.guardian

    def _over(self, guardian: Guardian) -> str:
        """Return why this run no longer holds the stack. If its time was over, also what it was doing."""
        if guardian.end != OUT_OF_TIME:
            return guardian.why
        took_s = (time.monotonic_ns() - self.began_ns) / 1e9
        busy = self.busy(self.began_ns)
        return f"{guardian.why} after {took_s:.0f} s, while it was {self.doing}" + (
            f"; the machine was busy ({busy})" if busy else ""
        )

    def busy(self, since_ns: int) -> str | None:
        """Return how busy the machine was since then, in words. None: it was so for less than half of that time."""
        samples = codec.read_samples(self.stack.state.samples(self.id))
        return machine.busy(samples, Timed(since_ns, time.monotonic_ns()))

    def still_broken(self) -> None:
        """Make sure that the faults which this run holds are still in effect.

        If the run was aborted, or its time ended, its own guardian heals the fault. It then takes no order any more,
        and its error says why.

        Raises:
            Halt(unknown): someone else undid a fault, so nothing can be proved.
        """
        for act in self.acts:
            fault = fault_from(act.fault, act.args)
            if act.proof is None or act.undone or not isinstance(fault, Held):
                continue
            if not fault.holds(self.stack, act.before):
                self.held().prove(act.id, within_s=0.0)
                where = act.args.get("component")
                why = (
                    f"{act.fault} of {where} was undone by someone else while this run held it: its effect is not known"
                )
                raise Halt(Verdict.UNKNOWN, why)

    def fired(self) -> dict[str, int]:
        """Return failpoint -> how often it has fired since this run armed it.

        Where several components have a failpoint of that name, the lowest count is taken.
        """
        if not any(isinstance(step.fault, Trap) for step in self.test.plan if isinstance(step, Inject)):
            return {}  # as in most plans: saves reading the journal again and again
        times_fired: dict[str, int] = {}
        for act in self.acts:
            fault = fault_from(act.fault, act.args)
            if isinstance(fault, Trap):
                times = fault.fired(self.stack, act.before)
                times_fired[fault.point] = min(times, times_fired.get(fault.point, times))
        return times_fired

    def watching(self) -> None:
        """Make sure that the sampler and the canary work: without them nothing can be proved.

        Raises:
            Halt(unknown): the sampler or the canary died, or the sampler's file was removed or replaced.
        """
        if self._tail is not None and (gone := self._tail.gone()) is not None:
            removed = f"{gone} was removed, or another was put in its place, while it was written"
            raise Halt(Verdict.UNKNOWN, f"{removed}, so nothing can be measured")
        if self.sampler is not None and not self.sampler.alive:
            died = f"the sampler died ({self.sampler.end}), so nothing can be measured"
            raise Halt(Verdict.UNKNOWN, f"{died}. Its log: {self.folder / 'sampler.log'}")
        if self.canary is not None and not self.canary.alive:
            raise Halt(Verdict.UNKNOWN, f"the canary ended before the evidence was there: {self.canary.end}")

    def lasts(self) -> None:
        """Make sure that this run can still prove something.

        Raises:
            Halt(unknown): the run no longer holds the stack, or its sampler or canary died.
        """
        self.held()
        self.watching()

    def now(self, seconds: float | None = None, at_least_s: float = 0.0) -> Now:
        """Return what conditions look at.

        Args:
            seconds: how far back the samples go, at most the sampler's KEEP_S. None: longer than every present bound,
                and than at_least_s.
        """
        self.lasts()
        bound_s = max(one.bound_s for one in self.followed.values())
        seconds = max(TAIL_S, bound_s + conditions.BEYOND_S, at_least_s) if seconds is None else seconds
        samples = self._tail.recent(seconds) if self._tail else {}
        now = Now(
            at_ns=time.monotonic_ns(),
            samples=samples,
            component=self.component,
            together=self.together,
            affected=(),
            groups=(),
            visible="",
            ledger="",
            bound_s=bound_s,
            struck=self.struck(),
            busy=self._busy,
            busy_why=self._busy_why,
            fired=self.fired(),
            acted_ns=self.clock_ns,
            followed=tuple(self.followed.values()),
            kept=self.kept(),
        )
        return now.of(now.followed[0]) if len(self.followed) == 1 else now

    def kept(self) -> Mapping[str, Kept]:
        """Return what the log keeps for the consumer that the plan holds back, at most KEPT_OLD_S old.

        {}: the plan holds none back, or nothing is injected yet. The worst answer for each slot is noted as the symptom
        `retention`.
        """
        waits = (step.condition for step in self.test.plan if isinstance(step, Await))
        name = next((condition.cursor for condition in waits if hasattr(condition, "cursor")), None)
        if name is None or self.inject_ns is None or time.monotonic() - self._kept_s < KEPT_OLD_S:
            return self._kept
        cursor = self.stack.cursors[name]
        assert isinstance(cursor, Retains)  # Stack.misses has checked it
        with suppress(DriverError):  # the last answer stays; whoever waits for a newer one has a bound
            self._kept = answer(cursor.kept, HEADS_WITHIN_S, f"what the log keeps for {name}", self.lasts)
            worst = {**self.symptoms.get("retention", {}).get(name, {})}
            for slot, slot_kept in self._kept.items():
                seen = _retention(slot_kept)
                if slot not in worst or _badness(seen) > _badness(worst[slot]):
                    worst[slot] = seen
            self.symptoms["retention"] = {name: worst}
        self._kept_s = time.monotonic()
        return self._kept

    def struck(self) -> tuple[JobRun, ...]:
        """Return the job's runs that this test has asked for, as they were at most JOB_OLD_S ago."""
        self._look_at_job()
        return self._struck

    def _look_at_job(self) -> None:
        """Look at the job that the plan asks to run: at the runs asked for, or before that at those in their way."""
        planned = (step.fault for step in self.test.plan if isinstance(step, Inject))
        strike = next((fault for fault in planned if isinstance(fault, Asks)), None)
        if strike is None or time.monotonic() - self._job_s < JOB_OLD_S:
            return
        self._busy = None
        job, kind = self.stack.job(strike.job), fault_kind(strike)
        try:
            keys = [act.before["key"] for act in self.acts if act.fault == kind]
            if keys:
                runs = [job.find(key) for key in keys]
                self._struck = tuple(run for run in runs if run is not None)
            else:
                self._busy = in_the_way(job)
            self._job_s = time.monotonic()
        except DriverError as e:  # the last answer stays; whoever waits for a newer one has a bound
            self._busy_why = str(e)

    def clock_us(self) -> int:
        """Return the clock's start as wall clock time, which is what an orchestrator's times are."""
        if self.baseline is None or self.clock_ns is None:
            raise GamedayError(f"run {self.id} has injected nothing")
        return self.baseline.marks.at_us + (self.clock_ns - self.baseline.marks.at_ns) // 1000

    def note_at_clock(self) -> None:
        """Note the heads of the exported stream's ledger at the clock's start.

        Recovery waits only for what was there then, and samples of shards don't show it for each group.
        """
        if not self.test.archive:
            return
        live = self.stack.stream_of(ARCHIVE)
        if self.followed[live.name].shards is not None:
            self.at_clock = {}
            with suppress(DriverError):
                self.at_clock = answer(live.ledger.heads, HEADS_WITHIN_S, f"the heads of {live.stream.hops[0]}")

    def seen_back(self) -> None:
        """Call `once_back`, the first time."""
        begin, self.once_back = self.once_back, None
        if begin is not None:
            begin()

    def close(self) -> None:
        """Heal what is still open, give the stack back, stop sampling. Healing comes first, and the rest is done even
        if it fails."""
        try:
            if self.guardian is not None:
                self.guardian.close()
        finally:
            if self._coming is not None:
                self._coming.dismiss()
            if self.silence is not None:
                self._unhush(self.silence)
            if self.canary is not None:  # without clean-up: another run may have begun
                self.canary.stop(clean_up=False)
            if self.sampler is not None:
                self.sampler.stop()

    def _unhush(self, silence: Silence) -> None:
        """End the silence if the alert is seen to be over; else let it lapse, so that what is still broken pages."""
        if absent := self._silence_symptom():
            self.say(f"{self.name}: its silence was absent for up to {absent['silence.absent_s']:g} s: see the pager")
        samples = self._tail.recent(TAIL_S) if self._tail else {}
        if conditions.alert_state(samples, time.monotonic_ns()) == INACTIVE:
            silence.end()
        else:
            silence.lapse()

    def _silence_symptom(self) -> dict[str, Json]:
        """Return the symptom silence.absent_s: for how long, at most, the alert was not silenced."""
        absent_s = self.silence.absent_s if self.silence is not None else 0.0
        return {"silence.absent_s": round(absent_s, 2)} if absent_s else {}

    # ---- what it leaves ------------------------------------------------------------------------------------

    @property
    def acts(self) -> tuple[Act, ...]:
        """This run's acts, as the journal has them."""
        return self.guardian.acts() if self.guardian is not None else ()

    def evidence(self) -> Evidence:
        """Return all that is known now."""
        evidence = Evidence(
            test=self.name,
            params=self.params,
            stack=self.stack.name,
            component=self.component,
            together=self.together,
            spared=self.spared,
            role=self.role,
            visible="",
            ledger="",
            mttr_max_s=self.test.mttr_max_s,
            drain_max_s=self.test.drain_max_s,
            acts=self.acts,
            samples=codec.read_samples(self.stack.state.samples(self.id)),
            baseline=self.baseline,
            inject_ns=self.inject_ns,
            clock_ns=self.clock_ns,
            healed=self.healed,
            ends=self.ends,
            recovered=self.recovered,
            digests=self.digests,
            states=self.states,
            archive=ARCHIVE if self.test.archive else None,
            commits=self.commits,
            jobs=self.jobs,
            struck=self.struck(),
            alert=None if self.test.alert is None or isinstance(self.test.alert, OfRole) else self.test.alert.alert,
            alert_within_s=self.test.alert.within_s if isinstance(self.test.alert, FiresWithin) else None,
            symptoms={**self.symptoms, **self._silence_symptom()},
            followed=tuple(self.followed.values()),
            looks=tuple(self.looks),
            at_clock=self.at_clock,
        )
        evidence = evidence.of(evidence.followed[0]) if len(self.followed) == 1 else evidence
        return replace(evidence, measures=timings.measure(evidence))


def _retention(kept: Kept) -> dict[str, Json]:
    """Return what a log keeps of one slot, as a symptom."""
    return {
        "dropped": kept.dropped,
        "expired": max(0, kept.expired - max(kept.position, kept.start)),
        "waiting": kept.end - max(kept.position, kept.start),
        "unread_s": kept.unread_s,
        "retention_s": kept.retention_s,
    }


def _badness(seen: Mapping[str, Json]) -> tuple[int, float]:
    return seen["dropped"], seen["unread_s"] or 0.0


def _hops(stack: Stack, stream: str) -> tuple[str, ...]:
    """Return a stream's hops in order, with the archive at the end if the stream is exported."""
    exported = (ARCHIVE,) if stack.config.archived == stream else ()
    return (*stack.config.declared[stream].hops, *exported)


def ttl_s(test: FailureTest) -> float:
    """Return how long a test's faults may live: the bounds of its plan and runbook, its targets, and SPARE_S."""
    waits = sum(getattr(step, "within_s", 0.0) for step in test.plan)
    alert_s = test.alert.within_s if isinstance(test.alert, FiresWithin) else 0.0
    return waits + alert_s + CARRY_OUT_S + max(test.mttr_max_s, test.drain_max_s) + SPARE_S


def too_late(run: Run, verdict: Verdict, why: str, since_ns: int) -> Halt:
    """Make the Halt of a run that waited for a state in vain.

    Its verdict is the given one, or unknown if the machine was busy since since_ns: then the delay says nothing about
    the platform.
    """
    busy = run.busy(since_ns)
    return Halt(Verdict.UNKNOWN, f"the machine was busy ({busy}): {why}") if busy else Halt(verdict, why)


def marks(stack: Stack) -> Marks:
    """Ask where everything in the stack stands now. A hop or cursor that doesn't answer is left out, not zero."""
    at_ns, at_us = time.monotonic_ns(), time.time_ns() // 1000
    heads: dict[str, Mapping[Group, int]] = {}
    for name, hop in stack.hops.items():
        try:
            heads[name] = answer(hop.heads, HEADS_WITHIN_S, f"the heads of {name}")
        except DriverError:
            continue
    positions, ends = places(stack)
    delivered: dict[str, Mapping[str, int]] = {}
    for name, hop in stack.hops.items():
        if isinstance(hop, Delivers):
            with suppress(DriverError):
                delivered[name] = answer(hop.delivered, HEADS_WITHIN_S, f"what {name} has taken in")
    starts: dict[str, Mapping[str, int]] = {}
    for name, hop in stack.hops.items():
        if isinstance(hop, Forgets):
            with suppress(DriverError):
                starts[name] = answer(hop.starts, HEADS_WITHIN_S, f"what {name} has deleted")
    identities = {role: stack.host(role).identity(role) for role in stack.config.components}
    return Marks(at_ns, at_us, heads, positions, ends, identities, delivered, starts)


def places(stack: Stack) -> tuple[dict[str, Mapping[str, int]], dict[str, Mapping[str, int]]]:
    """Ask the cursors for (cursor -> slot -> committed position, cursor -> slot -> the log's end). A cursor that
    doesn't answer is left out."""
    positions: dict[str, Mapping[str, int]] = {}
    ends: dict[str, Mapping[str, int]] = {}
    for name, cursor in stack.cursors.items():
        try:
            positions[name] = answer(cursor.position, HEADS_WITHIN_S, f"the position of {name}")
            ends[name] = answer(cursor.end, HEADS_WITHIN_S, f"the end of {name}")
        except DriverError:
            continue
    return positions, ends


def in_the_way(job: Job) -> tuple[JobRun, ...]:
    """Return the job's runs that are under way, or due within DUE_SOON_S."""
    now_us = time.time_ns() // 1000
    runs = job.runs(now_us - int(UNDER_WAY_MAX_S * 1e6))
    return tuple(r for r in runs if r.ended_us is None and (r.due_us or now_us) < now_us + DUE_SOON_S * 1e6)

"""Arms failpoints in a running JVM through Byteman's agent, and reads what fired from its file of evidence.

gameday.toml declares the places; the program itself has none. The agent may accept a rule and fail to put it into the
code: it says so in its list of rules.
"""

from __future__ import annotations

import json
import re
import socket
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from failpoints.grammar import Chain, GrammarError, Term, parse_chain
from gameday.drivers import _evidence
from gameday.errors import ConfigError, DriverError, TooLate
from gameday.model import Json
from gameday.system.polling import until

__all__ = ["Place", "Points"]

ASK_WITHIN_S = 20.0
"""For one answer. Putting a rule into loaded classes takes the JVM 0.2 s, without a free core more than a second."""

ENDS_WITHIN_S = 2.0
"""A JVM that breaks off its answer because it is ending has closed its port within this time."""

ANSWER_MAX = 1 << 22
OK = b"OK\n"
OURS = "gameday "
"""The name of each of our rules begins with this; the point follows, and what `Rule` notes."""

BEYOND_US = "the code did not come by, or the JVM's log has a TypeException of the rule's, which its agent tells nobody"
"""Why a rule that is in the code has not fired."""

KILLED = 137
"""The exit code of a JVM that a rule halts, without its shutdown hooks: what SIGKILL would give."""

FILE = re.compile(r"^# File ", re.MULTILINE)
"""The agent's list has this before each rule."""

REFUSED = re.compile(r"^(?:ERROR|EXCEPTION)\b.*", re.MULTILINE)
RULE = re.compile(rf"^RULE {OURS}(?P<point>\S+) (?P<noted>\{{.*\}})$", re.MULTILINE)
THREW = re.compile(r"^threw (?P<why>.+?)\n(?:\s+at |org\.jboss)", re.MULTILINE | re.DOTALL)
EXCEPTION = re.compile(r"[A-Za-z_$][\w$]*(\.[A-Za-z_$][\w$]*)*")
FAILURE = "java.lang.RuntimeException"
FOR_EVER = (1 << 31) - 1


@dataclass(frozen=True)
class Place:
    """Where in the code a point is: at the entry or the exit of a method, named as in Byteman. A name without a
    signature means all methods of that name. about: what a fault there stands for."""

    type: str
    method: str
    about: str
    at: Literal["entry", "exit"] = "entry"

    def __post_init__(self) -> None:
        for name, text in (("type", self.type), ("method", self.method)):
            if len(text.split("\n")) != 1:
                raise ConfigError(f"declared: {name} is {text!r}, with a line's end. Remedy: the name alone")


@dataclass(frozen=True)
class Points:
    """host, port: where the agent listens. evidence: the file to which each firing appends a line; it outlives the JVM.
    declared: point -> its place."""

    port: int
    evidence: str
    declared: Mapping[str, Place]
    host: str = "127.0.0.1"

    def listed(self) -> Mapping[str, Json]:
        try:
            rules = self._rules()
        except _NobodyListens:
            return {}
        return {point: self._told(place, rules.get(point)) for point, place in self.declared.items()}

    def arm(self, point: str, term: str, ttl_s: float, run: str) -> None:
        rule = Rule(point, term, run, round((time.time() + ttl_s) * 1e3), uuid.uuid4().hex)
        text = rule.text(self._place(point), self.evidence)
        self.disarm(point)  # so that it is not armed twice
        try:
            self._ask(f"LOAD\nSCRIPT {point}\n{text}\nENDSCRIPT\nENDLOAD\n", changes=True)
            armed = self._rules().get(point)
        except DriverError:
            if self._since(rule):  # it has fired already, and ended the JVM before that answered
                return
            raise
        if armed is None or armed.arming != rule.arming:
            raise DriverError(
                f"the agent at {self.host}:{self.port} accepted a rule for {point} and doesn't list it", definite=True
            )
        if armed.threw:
            self.disarm(point)
            raise ConfigError(f"{point} can't be armed with {term!r}: {armed.why}")

    def disarm(self, point: str) -> None:
        place = self._place(point)
        try:
            if (armed := self._rules().get(point)) is not None:
                text = armed.text(place, self.evidence)
                self._ask(f"DELETE\nSCRIPT {point}\n{text}\nENDSCRIPT\nENDDELETE\n", changes=True)
        except _NobodyListens:
            return

    def wait(self, point: str, times: int, within_s: float) -> None:
        self._place(point)
        rule = self._rules().get(point)
        if rule is None:
            raise TooLate(f"{point} is not armed")
        try:
            until(lambda: self._since(rule) >= times, within_s, what=f"{point} to fire {times} times")
        except TooLate as e:
            now = self._rules().get(point, rule)
            raise TooLate(f"{e}: {now.why or BEYOND_US}") from e

    def firings(self, point: str) -> Sequence[Json]:
        return _evidence.firings(self.evidence, point)

    def _since(self, rule: Rule) -> int:
        """Return how often it has fired since it was armed."""
        return sum(one.get("arming") == rule.arming for one in self.firings(rule.point))

    def _place(self, point: str) -> Place:
        if point not in self.declared:
            raise ConfigError(f"no point {point!r} is declared. Declared are {', '.join(self.declared) or 'none'}")
        return self.declared[point]

    def _told(self, place: Place, rule: Rule | None) -> Json:
        if rule is None or rule.left_s <= 0:
            return {"about": place.about, "term": None, "left_s": None, "evaluated": None, "fired": 0, "run": None}
        about = place.about if rule.took else f"{place.about}; {rule.why}"
        return {
            "about": about,
            "term": rule.term,
            "left_s": round(rule.left_s, 3),
            "evaluated": None,  # the agent doesn't tell its counters
            "fired": self._since(rule),
            "run": rule.run,
        }

    def _rules(self) -> Mapping[str, Rule]:
        """Return our rules at the agent: point -> rule.

        A JVM that is ending breaks off its answer. Then ask again: nobody listens, or a new JVM does.
        """
        broken: list[_BrokenOff] = []

        def whole() -> str | None:
            try:
                return self._ask("LIST\n")
            except _BrokenOff as e:
                broken.append(e)
                return None

        try:
            answer = until(whole, ENDS_WITHIN_S, what="an answer")
        except TooLate:
            raise broken[-1] from None
        rules = [Rule.read(text) for text in FILE.split(answer)]
        return {rule.point: rule for rule in rules if rule is not None}

    def _ask(self, text: str, changes: bool = False) -> str:
        """Return the agent's answer. changes: without an answer it may have had an effect. Raises DriverError."""
        deadline, answer = time.monotonic() + ASK_WITHIN_S, b""
        where = f"the agent at {self.host}:{self.port}"
        try:
            with socket.create_connection((self.host, self.port), ASK_WITHIN_S) as agent:
                agent.sendall(text.encode())
                while not answer.endswith(OK) and len(answer) < ANSWER_MAX:
                    agent.settimeout(max(0.001, deadline - time.monotonic()))
                    if not (more := agent.recv(1 << 16)):
                        break
                    answer += more
        except ConnectionRefusedError as e:
            raise _NobodyListens(
                f"no JVM listens for failpoints at {self.host}:{self.port}. Remedy: start it with Byteman's agent, "
                f"-javaagent:byteman.jar=listener:true,port:{self.port},address:{self.host}",
                definite=True,
            ) from e
        except ConnectionResetError as e:
            raise _BrokenOff(f"{where}: {e}", definite=not changes) from e
        except OSError as e:
            raise DriverError(f"{where}: {e or repr(e)}", definite=not changes) from e
        told = answer.decode(errors="replace")
        if not answer.endswith(OK):
            kind = DriverError if len(answer) >= ANSWER_MAX else _BrokenOff
            raise kind(f"{where} answered {told[:200]!r}, not with an OK", definite=not changes)
        if refused := REFUSED.search(told):
            raise ConfigError(f"{where} refused the rule: {refused[0]}")
        return told


class _NobodyListens(DriverError):
    """No JVM listens, so nothing is armed there."""


class _BrokenOff(DriverError):
    """The connection ended before the answer did."""


@dataclass(frozen=True)
class Rule:
    """What is armed at a point. Its name at the agent holds all that is needed to report and to delete it, so any
    process can do that.

    until_ms: when it ends by itself, since 1970. arming: distinguishes it from earlier rules, in counters and evidence.
    took: whether it is in the code. threw: why the agent could not put it there.
    """

    point: str
    term: str
    run: str
    until_ms: int
    arming: str
    took: bool = False
    threw: str = ""

    @classmethod
    def read(cls, listed: str) -> Rule | None:
        """Read one rule of the agent's list; None: it is not ours."""
        name = RULE.search(listed)
        if name is None:
            return None
        told = THREW.search(listed)
        threw = " ".join(told["why"].replace(name[0].removeprefix("RULE "), "").split()) if told else ""
        took = not threw and "\nTransformed in:" in listed
        return cls(name["point"], **json.loads(name["noted"]), took=took, threw=threw)

    @property
    def why(self) -> str:
        """Say what keeps it out of the code; "": nothing."""
        if self.took:
            return ""
        return f"it did not take: {self.threw}" if self.threw else "no class that has this method is loaded so far"

    @property
    def left_s(self) -> float:
        return self.until_ms / 1e3 - time.time()

    def text(self, place: Place, evidence: str) -> str:
        """Return the rule in Byteman's language."""
        noted = {"term": self.term, "run": self.run, "until_ms": self.until_ms, "arming": self.arming}
        *passed, term = _chain(self.term)
        return "\n".join(
            (
                f"RULE {OURS}{self.point} {json.dumps(noted)}",
                f"CLASS {place.type}",
                f"METHOD {place.method}",
                f"AT {place.at.upper()}",
                f"BIND hit:int = incrementCounter({_text(self.arming)})",
                f"IF {' AND '.join(self._conditions(passed, term, evidence))}",
                f"DO {'; '.join((*self._noted(term), *ACTS[term.action](term)))}",
                "ENDRULE",
            )
        )

    def _conditions(self, passed: Sequence[Term], term: Term, evidence: str) -> Sequence[str]:
        """Return the conditions under which it fires, in the order of evaluation. The last two have side effects; a
        firing that can't be recorded doesn't happen."""
        first = sum(off.count or 0 for off in passed)
        hits = [f"hit >= {a}" if b is None else f"hit >= {a} AND hit <= {b}" for a, b in term.hits]
        return (
            f"hit > {first}",
            *([f"({' OR '.join(f'({one})' for one in hits)})"] if hits else []),
            *([f"java.lang.Math.random() * 100 < {float(term.percent)}"] if term.percent is not None else []),
            f'java.lang.System.currentTimeMillis() < java.lang.Long.parseLong("{self.until_ms}")',
            f"incrementCounter({_text(self._fired)}) <= {term.count or FOR_EVER}",
            f"openTrace({_text(self.arming)} + hit, {_text(evidence)})",
        )

    def _noted(self, term: Term) -> Sequence[str]:
        """Return the statements that write the line of evidence."""
        told = json.dumps({"point": self.point, "action": term.action, "run": self.run, "arming": self.arming})
        trace = f"{_text(self.arming)} + hit"
        line = " + ".join(
            (
                _text(told.removesuffix("}") + ', "hit": '),
                "hit",
                _text(', "fired": '),
                f"readCounter({_text(self._fired)})",
                _text(', "at_us": '),
                "java.lang.System.currentTimeMillis()",
                _text('000, "pid": '),
                "java.lang.ProcessHandle.current().pid()",
                _text("}"),
            )
        )
        return f"traceln({trace}, {line})", f"closeTrace({trace})"

    @property
    def _fired(self) -> str:
        return f"{self.arming}.fired"


def _thrown(term: Term) -> Sequence[str]:
    """Return the statement for raise(java.io.IOException: text), or raise(text)."""
    name, colon, text = (term.argument or "").partition(":")
    named = colon and "." in name and EXCEPTION.fullmatch(name)
    made, why = (name, text.strip()) if named else (FAILURE, term.argument or "failpoint")
    return (f"THROW new {made}({_text(why)})",)


ACTS: Mapping[str, Callable[[Term], Sequence[str]]] = {
    "kill": lambda _: (f"killJVM({KILLED})",),
    "exit": lambda term: (f"killJVM({term.argument or 1})",),
    "raise": _thrown,
    "sleep": lambda term: (f"delay({round(float(term.argument or 0))})",),
    "print": lambda _: (),
}
"""Action -> what the rule does after it has recorded its firing."""


def _chain(text: str) -> Chain:
    """Read a term, and before it how many hits pass: 2*off->1*kill. Raises ConfigError if a rule can't do that."""
    try:
        *passed, term = chain = parse_chain(text)
    except GrammarError as e:
        raise ConfigError(str(e)) from e
    counted = all(off.action == "off" and off.count and not off.hits and off.percent is None for off in passed)
    if not counted or term.action not in ACTS or term.everywhere:
        raise ConfigError(
            f"{text!r} can't be armed in a JVM. Remedy: one term with an action of {', '.join(ACTS)}, without "
            "[global], and before it nothing but n*off"
        )
    return chain


def _text(text: str) -> str:
    """Return a text constant in Byteman's language."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

"""Parses the text that arms points, and writes it. Parsing is strict, and an error shows the place. armed.py acts.

    entries  = entry *( ";" entry )
    entry    = name "=" chain
    chain    = term *( "->" term )
    term     = [ hits "@" ] [ percent "%" ] [ count "*" ] action [ "(" argument ")" ] [ "[global]" ]
    hits     = range *( "," range )        range = number | number "-" number | number "-"     ascending
    argument = any text; ( ) and \\ are written \\( \\) and \\\\

Spaces are allowed around entries, names and terms, not inside them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal

__all__ = ["ACTIONS", "NAME", "Chain", "GrammarError", "Term", "parse", "parse_chain", "render", "render_chain"]

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]*")
"""A point's name, such as storage::write, handler-binance.send."""

NUMBER = re.compile(r"[0-9]+")
PERCENT = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,9})?(?=%)")
MILLISECONDS = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,6})?")
BRACKETS = re.compile(r"[()\\]")
DIGITS_MAX = 9
"""A number with more digits is a typing error."""

EXIT_CODE_MAX = 255


class GrammarError(ValueError):
    """A text that is no term, chain or list of entries. position: where in the text, from 0."""

    def __init__(self, problem: str, text: str, position: int) -> None:
        super().__init__(f"{problem} at position {position} of {text!r}")
        self.problem = problem
        self.position = position


@dataclass(frozen=True)
class Term:
    """One step of a chain. hits: (first, last) pairs, last None for an open end; () is every hit. argument None: no
    brackets.
    """

    action: str
    argument: str | None = None
    hits: tuple[tuple[int, int | None], ...] = ()
    percent: Decimal | None = None
    count: int | None = None
    everywhere: bool = False
    """[global]: counted once for all processes that share a folder of claims."""

    def __str__(self) -> str:
        hits = ",".join(str(a) if a == b else f"{a}-{'' if b is None else b}" for a, b in self.hits)
        argument = "" if self.argument is None else f"({BRACKETS.sub(_escaped, self.argument)})"
        return (
            (f"{hits}@" if hits else "")
            + ("" if self.percent is None else f"{self.percent:f}%")
            + ("" if self.count is None else f"{self.count}*")
            + self.action
            + argument
            + ("[global]" if self.everywhere else "")
        )


Chain = tuple[Term, ...]


def _escaped(match: re.Match[str]) -> str:
    return "\\" + match[0]


# ---- what an action takes -------------------------------------------------------------------------------------------


def _nothing(argument: str | None) -> str | None:
    return None if argument is None else "takes nothing in brackets"


def _anything(_: str | None) -> str | None:
    return None


def _milliseconds(argument: str | None) -> str | None:
    return None if MILLISECONDS.fullmatch(argument or "") else "needs milliseconds in brackets, such as (100)"


def _code(argument: str | None) -> str | None:
    right = argument is None or (NUMBER.fullmatch(argument) and len(argument) <= 3 and int(argument) <= EXIT_CODE_MAX)
    return None if right else f"takes an exit code from 0 to {EXIT_CODE_MAX}"


def _something(argument: str | None) -> str | None:
    return None if argument else "needs a name in brackets"


ACTIONS: Mapping[str, Callable[[str | None], str | None]] = {
    "off": _nothing,
    "return": _anything,
    "raise": _anything,
    "panic": _anything,
    "sleep": _milliseconds,
    "delay": _milliseconds,
    "yield": _nothing,
    "pause": _nothing,
    "print": _anything,
    "exit": _code,
    "kill": _nothing,
    "call": _something,
}
"""Action -> a function that says what is wrong with its argument; None: nothing."""


# ---- parsing --------------------------------------------------------------------------------------------------------


def parse(text: str) -> dict[str, Chain]:
    """Return name -> chain. An empty text arms nothing; a name that comes twice is an error. Raises GrammarError.

    >>> {name: render_chain(chain) for name, chain in parse("a::b = 3,7@return ; c=1*sleep(5) -> 50%raise").items()}
    {'a::b': '3,7@return', 'c': '1*sleep(5)->50%raise'}
    """
    reader = _Reader(text)
    found: dict[str, Chain] = {}
    reader.space()
    while not reader.ended:
        start = reader.at
        name = reader.match(NAME)
        if name is None:
            raise reader.error("a point's name is missing")
        if name in found:
            raise reader.error(f"{name} comes twice", start)
        reader.space()
        if not reader.take("="):
            raise reader.error(f"no = after {name}")
        found[name] = _chain(reader)
        if not reader.ended and not reader.take(";"):
            raise reader.error("neither -> nor ; nor the end")
        reader.space()
    return found


def parse_chain(text: str) -> Chain:
    """Read the chain, the text after a point's name. Raises GrammarError.

    >>> parse_chain("1*sleep")
    Traceback (most recent call last):
    ...
    failpoints.grammar.GrammarError: sleep needs milliseconds in brackets, such as (100) at position 2 of '1*sleep'
    """
    reader = _Reader(text)
    chain = _chain(reader)
    if not reader.ended:
        raise reader.error("neither -> nor the end")
    return chain


def render_chain(chain: Chain) -> str:
    """Return the text of a chain: parsing it gives the same chain."""
    return "->".join(map(str, chain))


def render(entries: Mapping[str, Chain]) -> str:
    """Return the text of entries: parsing it gives the same entries."""
    return ";".join(f"{name}={render_chain(chain)}" for name, chain in entries.items())


class _Reader:
    """A place in a text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    @property
    def ended(self) -> bool:
        return self.at == len(self.text)

    def match(self, pattern: re.Pattern[str]) -> str | None:
        found = pattern.match(self.text, self.at)
        if found is None or not found[0]:
            return None
        self.at = found.end()
        return found[0]

    def take(self, token: str) -> bool:
        if not self.text.startswith(token, self.at):
            return False
        self.at += len(token)
        return True

    def space(self) -> None:
        while self.at < len(self.text) and self.text[self.at] in " \t\n":
            self.at += 1

    def number(self) -> int | None:
        start = self.at
        digits = self.match(NUMBER)
        if digits is None:
            return None
        if len(digits) > DIGITS_MAX:
            raise self.error("the number is too large", start)
        return int(digits)

    def error(self, problem: str, at: int | None = None) -> GrammarError:
        return GrammarError(problem, self.text, self.at if at is None else at)


def _chain(reader: _Reader) -> Chain:
    terms: list[Term] = []
    while not terms or reader.take("->"):
        reader.space()
        terms.append(_term(reader))
        reader.space()
    return tuple(terms)


def _term(reader: _Reader) -> Term:
    hits = _hits(reader)
    percent = _percent(reader)
    count = _count(reader)
    start = reader.at
    if reader.match(PERCENT) is not None:
        raise reader.error("p% stands once, before n*", start)
    if reader.number() is not None and reader.text[reader.at : reader.at + 1] in ("@", "*", ",", "-"):
        raise reader.error("hits@ stand first, then p%, then n*, each once", start)
    reader.at = start
    action = next((a for a in ACTIONS if reader.take(a)), None)
    if action is None or reader.text[reader.at : reader.at + 1].isalnum():
        raise reader.error(f"no action: one of {', '.join(ACTIONS)}", start)
    argument = _argument(reader)
    if problem := ACTIONS[action](argument):
        raise reader.error(f"{action} {problem}", start)
    everywhere = reader.take("[global]")
    if not everywhere and reader.take("["):
        raise reader.error("the only scope is [global]", reader.at - 1)
    if everywhere and action == "off":
        raise reader.error("off has no [global]: it does nothing that could be done once", start)
    return Term(action, argument, hits, percent, count, everywhere)


def _hits(reader: _Reader) -> tuple[tuple[int, int | None], ...]:
    """Read the hits. Nothing is read unless the numbers end in @, or can only be hits."""
    start = reader.at
    found: list[tuple[int, int | None]] = []
    while True:
        at = reader.at
        first = reader.number()
        if first is None:
            if found:
                raise reader.error("a hit's number is missing")
            return ()
        last: int | None = first
        if reader.take("-"):
            last = reader.number()
        elif not found and reader.text[reader.at : reader.at + 1] not in (",", "@"):
            reader.at = start
            return ()
        previous = found[-1][1] if found else 0
        if previous is None:
            raise reader.error("nothing comes after an open range", at)
        if first <= previous or (last is not None and last < first):
            raise reader.error("hits count from 1 and ascend", at)
        found.append((first, last))
        if reader.take("@"):
            return tuple(found)
        if not reader.take(","):
            raise reader.error("no @ after the hits")


def _percent(reader: _Reader) -> Decimal | None:
    start = reader.at
    digits = reader.match(PERCENT)
    if digits is None:
        return None
    reader.take("%")
    percent = Decimal(digits)
    if not 0 < percent <= 100:
        raise reader.error("p% is above 0 and at most 100", start)
    return percent


def _count(reader: _Reader) -> int | None:
    start = reader.at
    count = reader.number()
    if count is None:
        return None
    if not reader.take("*"):
        reader.at = start
        return None
    if count == 0:
        raise reader.error("0* would never act", start)
    return count


def _argument(reader: _Reader) -> str | None:
    start = reader.at
    if not reader.take("("):
        return None
    text: list[str] = []
    while not reader.ended:
        char = reader.text[reader.at]
        reader.at += 1
        if char == ")":
            return "".join(text)
        if char == "(":
            raise reader.error("a bracket inside brackets is written \\(", reader.at - 1)
        if char == "\\":
            if reader.text[reader.at : reader.at + 1] not in ("(", ")", "\\"):
                raise reader.error("after \\ comes ( or ) or \\")
            char = reader.text[reader.at]
            reader.at += 1
        text.append(char)
    raise reader.error("the bracket is not closed", start)

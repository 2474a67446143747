"""The text that arms points: what it means, what is refused and where, and that text and terms are one to one."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from failpoints.grammar import ACTIONS, Chain, GrammarError, Term, parse, parse_chain, render, render_chain


def argument(action: str) -> st.SearchStrategy[str | None]:
    """Arguments that the action takes."""
    if action in ("sleep", "delay"):
        return st.decimals(0, 10**6, places=3).map(lambda d: f"{d:f}")
    if action == "exit":
        return st.none() | st.integers(0, 255).map(str)
    if action == "call":
        return st.text(min_size=1)
    return st.none() if ACTIONS[action]("") else st.none() | st.text()


@st.composite
def hits(draw: st.DrawFn) -> tuple[tuple[int, int | None], ...]:
    """Ascending ranges, the last one perhaps open."""
    ends = sorted(draw(st.sets(st.integers(1, 10**8), max_size=6)))
    ranges: list[tuple[int, int | None]] = [(a, b) for a, b in zip(ends[::2], ends[1::2], strict=False)]
    if len(ends) % 2:
        ranges.append((ends[-1], draw(st.sampled_from([ends[-1], None]))))
    return tuple(ranges)


@st.composite
def terms(draw: st.DrawFn) -> Term:
    action = draw(st.sampled_from(sorted(ACTIONS)))
    return Term(
        action,
        draw(argument(action)),
        draw(hits()),
        draw(st.none() | st.decimals("0.001", 100, places=3)),
        draw(st.none() | st.integers(1, 10**8)),
        action != "off" and draw(st.booleans()),
    )


chains: st.SearchStrategy[Chain] = st.lists(terms(), min_size=1, max_size=4).map(tuple)
entries = st.dictionaries(st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,9}", fullmatch=True), chains, max_size=3)


@given(entries)
def test_what_is_printed_is_read_as_the_same(written: dict[str, Chain]) -> None:
    """Every entry has a text, whatever its arguments hold: brackets, arrows, semicolons, line ends."""
    assert parse(render(written)) == written


@given(st.text(max_size=40) | st.text(alphabet="a=3*50%,-@>()[];\\ offraisglobal", max_size=40))
@example("9" * 5000 + "*off")
def test_random_text_is_read_or_refused_with_its_place(text: str) -> None:
    """Nothing but GrammarError comes out, and its position lies in the text."""
    refused: GrammarError | None = None
    try:
        found = parse(text)
    except GrammarError as e:
        refused = e
    if refused is None:
        assert parse(render(found)) == found
    else:
        assert 0 <= refused.position <= len(text)
        assert f"at position {refused.position}" in str(refused)


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("off", (Term("off"),)),
        ("3,7,11@return", (Term("return", hits=((3, 3), (7, 7), (11, 11))),)),
        ("11-@raise", (Term("raise", hits=((11, None),)),)),
        ("2-4,9@50%3*kill[global]", (Term("kill", None, ((2, 4), (9, 9)), Decimal(50), 3, True),)),
        ("3*off->1*return", (Term("off", count=3), Term("return", count=1))),
        (" 0.5%sleep(2.5) -> print(a;b->c) ", (Term("sleep", "2.5", percent=Decimal("0.5")), Term("print", "a;b->c"))),
        (r"raise(OSError: a \(b\) \\)", (Term("raise", "OSError: a (b) \\"),)),
        ("return()", (Term("return", ""),)),
    ],
)
def test_a_chain_is_read(text: str, terms: Chain) -> None:
    """Hits, then percent, then count, then the action with its argument and scope."""
    assert parse_chain(text) == terms


@pytest.mark.parametrize(
    ("text", "problem", "position"),
    [
        ("", "no action", 0),
        ("3*", "no action", 2),
        ("3*0ff", "no action", 2),
        ("offer", "no action", 0),
        ("return(", "the bracket is not closed", 6),
        ("return(a(b)", "a bracket inside brackets", 8),
        (r"return(\n)", "after \\ comes", 8),
        ("3*50%return", "p% stands once, before n*", 2),
        ("50%3@return", "hits@ stand first", 3),
        ("0*return", "0* would never act", 0),
        ("0%return", "above 0 and at most 100", 0),
        ("101%return", "above 0 and at most 100", 0),
        ("0@return", "count from 1 and ascend", 0),
        ("7,3@return", "count from 1 and ascend", 2),
        ("7-3@return", "count from 1 and ascend", 0),
        ("7-,9@return", "nothing comes after an open range", 3),
        ("1,2return", "no @ after the hits", 3),
        ("1234567890*return", "the number is too large", 0),
        ("sleep", "needs milliseconds", 0),
        ("delay(1s)", "needs milliseconds", 0),
        ("exit(256)", "exit code", 0),
        ("call", "needs a name", 0),
        ("pause(1)", "takes nothing", 0),
        ("off[global]", "off has no [global]", 0),
        ("kill[local]", "the only scope is [global]", 4),
        ("off->", "no action", 5),
        ("off off", "neither -> nor the end", 4),
    ],
)
def test_a_slip_is_refused_with_its_place(text: str, problem: str, position: int) -> None:
    """The error says what is wrong, and where."""
    with pytest.raises(GrammarError, match=r"at position \d+ of") as refused:
        parse_chain(text)
    assert problem in str(refused.value)
    assert refused.value.position == position


@pytest.mark.parametrize(
    ("text", "problem", "position"),
    [
        ("a", "no = after a", 1),
        ("=off", "a point's name is missing", 0),
        ("a=off;a=off", "a comes twice", 6),
        ("a=off,b=off", "neither -> nor ; nor the end", 5),
        ("a=off;;b=off", "a point's name is missing", 6),
    ],
)
def test_a_slip_among_entries_is_refused_with_its_place(text: str, problem: str, position: int) -> None:
    """The same for what surrounds chains."""
    with pytest.raises(GrammarError) as refused:
        parse(text)
    assert (refused.value.problem, refused.value.position) == (problem, position)


def test_spaces_and_a_last_semicolon_are_allowed_around_entries() -> None:
    """As people write them in a file of settings."""
    found = parse(" a::b = 1*off ;\n c.d-e = kill ; ")
    assert {name: render_chain(chain) for name, chain in found.items()} == {"a::b": "1*off", "c.d-e": "kill"}
    assert parse("  ") == {}

"""What is known to be wrong: it begins once, changes seldom, and ends when a look can say so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from gameday.verdict.known import LAG, UNANSWERED, UNKNOWN, Event, Issue, Known, Trouble, text_of

LOST = Trouble("lost", "orders", "sink", ("north",), 2, ("7", "9"), against="log")
SILENT = Trouble(UNANSWERED, "orders", "sink", detail="connection refused")
HOPS = ("log", "sink")


class Watched:
    """Known, given one look after the other, a second apart."""

    def __init__(self) -> None:
        self.known = Known()
        self.at_s = 0

    def look(self, *troubles: Trouble, judged: Sequence[str] = HOPS, later_s: int = 1, during: str = "") -> list[Event]:
        self.at_s += later_s
        return self.known.look("orders", troubles, HOPS, judged, f"t{self.at_s}", float(self.at_s), during)


def test_an_issue_begins_once_and_ends_once() -> None:
    """With when it began, and which failure test ran then."""
    watched = Watched()
    (begins,) = watched.look(LOST, during="run-1 (crash)")
    assert (begins.event, begins.issue.since, begins.issue.during) == ("begins", "t1", "run-1 (crash)")
    assert watched.look(LOST) == []
    (ends,) = watched.look()
    assert (ends.event, ends.issue.since, ends.issue.seen) == ("ends", "t1", "t3")
    assert watched.known.listed == []
    assert watched.look() == []


def test_what_grows_is_told_at_times() -> None:
    """Not at each look; and not at all what keeps something from being judged, for that says other words each time."""
    watched = Watched()
    watched.look(LOST)
    assert watched.look(replace(LOST, count=3)) == []
    (changes,) = watched.look(replace(LOST, count=5), later_s=40)
    assert (changes.event, changes.issue.trouble.count, changes.issue.since) == ("changes", 5, "t1")
    assert watched.look(replace(LOST, count=5), later_s=40) == []
    watched.look(LOST, SILENT)
    assert watched.look(LOST, replace(SILENT, count=9, detail="timed out"), later_s=40) == []


def test_damage_of_a_hop_that_cant_be_asked_is_not_over() -> None:
    """Nothing is known of it then; that it can't be asked ends when it can."""
    watched = Watched()
    watched.look(LOST)
    (silent,) = watched.look(SILENT, judged=())
    assert silent.issue.trouble.kind == UNANSWERED
    assert [issue.trouble.kind for issue in watched.known.listed] == ["lost", UNANSWERED]
    assert [event.issue.trouble.kind for event in watched.look(LOST)] == [UNANSWERED]
    assert watched.known.of("orders", "sink") == watched.known.listed


def test_a_look_ends_nothing_beyond_its_scope() -> None:
    """Neither of another stream, nor of hops that another watcher of the stream looks at."""
    watched = Watched()
    watched.look(LOST)
    other = replace(LOST, stream="carts")
    watched.known.look("carts", [other], HOPS, HOPS, "t2", 2.0)
    assert watched.known.look("carts", [], ("copy",), ("copy",), "t3", 3.0) == []
    assert {issue.trouble.stream for issue in watched.known.listed} == {"orders", "carts"}


MANY = replace(LOST, kind="doubled", count=40, ids=tuple("12345"))
CHANGED = replace(LOST, kind="changed", count=1, ids=("7",), detail="price 1 became 2")


@pytest.mark.parametrize(
    ("trouble", "text"),
    [
        (LOST, "sink lacks 2 records of orders/north: id 7, 9"),
        (replace(LOST, count=1, first="bronze"), "sink lacks 1 record of orders/north: id 7, 9; seen at bronze first"),
        (MANY, "sink has 40 records of orders/north too many: id 1, 2, 3, …"),
        (CHANGED, "sink has 1 record of orders/north unlike log's: id 7; price 1 became 2"),
        (SILENT, "sink can't be asked, so nothing is known of it: connection refused"),
        (replace(SILENT, kind=LAG, detail="9 behind"), "sink is behind in orders: 9 behind. What is late is not lost"),
        (replace(SILENT, kind=UNKNOWN, detail="keys keep changing"), "sink can't be judged: keys keep changing"),
    ],
)
def test_each_kind_is_told_in_a_sentence(trouble: Trouble, text: str) -> None:
    """And with the failure test that ran when it began."""
    assert text_of(Issue(trouble, "t", "t")) == text
    assert text_of(Issue(trouble, "t", "t", "run-1 (crash)")) == f"{text} (during run-1 (crash), a failure test)"

"""What a log makes of its messages, which are in memory here; how they are read from a broker is a contract test's.

Records that have only a key: the first log says when each came, a later one stands where the first has it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gameday.drivers import _log
from gameday.drivers._log import Slot, Span
from gameday.drivers.kafka import log
from gameday.errors import ConfigError, DriverError
from gameday.model import Window
from gameday.records.declaration import Stream, stream

A, B = ("a",), ("b",)
START_US = 1_795_000_000_000_000
SECOND_US = 1_000_000


def requests() -> Stream:
    mistakes: list[str] = []
    places = {"hops": ["log", "results"], "visible": "results", "path": ["router"]}
    given = {"key": ["id"], "group": ["tenant"], "fields": {"id": "int", "note": "text"}}
    made = stream("requests", {**given, **places}, ["log", "results"], mistakes)
    assert made is not None, mistakes
    return made


REQUESTS = requests()


def orders() -> Stream:
    mistakes: list[str] = []
    given = {"key": ["id"], "version": "v", "time": "at", "fields": {"id": "int", "at": "time(us)"}}
    made = stream("orders", {**given, "hops": ["t"], "visible": "t", "path": ["web"]}, ["t"], mistakes)
    assert made is not None, mistakes
    return made


ORDERS = orders()


@dataclass
class Message:
    """As librdkafka hands it out."""

    place: int
    number: int
    stamp_us: int
    note: str = ""
    event: bytes | None = None
    """In place of a request."""
    empty: bool = False

    def topic(self) -> str:
        return "t"

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self.place

    def timestamp(self) -> tuple[int, int]:
        return 1, self.stamp_us // 1000

    def key(self) -> bytes:
        return json.dumps({"id": self.number}).encode()

    def headers(self) -> None:
        return None

    def value(self) -> bytes | None:
        if self.empty:
            return None
        if self.event is not None:
            return self.event
        return json.dumps({"id": self.number, "tenant": "ab"[self.number % 2], "note": self.note}).encode()


@dataclass
class Held(log.Hop):
    """A log of one partition whose messages are here. low: the first of them that it still has."""

    messages: list[Message] = field(default_factory=list)
    low: int = 0

    def put(self, *numbers: int, after_s: float = 0.0, note: str = "") -> None:
        """Records that were made at their number's second."""
        for number in numbers:
            stamp_us = START_US + int((number + after_s) * SECOND_US)
            self.messages.append(Message(len(self.messages), number, stamp_us, note))

    def _bounds(self) -> dict[Slot, Span]:
        return {("t", 0): (self.low, len(self.messages))}

    def _spans_since(self, since_us: int) -> dict[Slot, Span]:
        later = [message.place for message in self.messages if message.stamp_us >= since_us]
        return {("t", 0): (min(later, default=len(self.messages)), len(self.messages))}

    def _gathered(self, spans: Mapping[Slot, Span], parse: Callable[[Sequence[Any]], Any]) -> dict[Slot, list[Any]]:
        found = {slot: self.messages[start:stop] for slot, (start, stop) in spans.items()}
        return {slot: [parse(messages)] if messages else [] for slot, messages in found.items()}


def at(number: int) -> int:
    return START_US + number * SECOND_US


def pair(kind: str = "once") -> tuple[Held, Held]:
    first = Held("127.0.0.1:1", REQUESTS, ["t"], name="log")
    later = Held("127.0.0.1:1", REQUESTS, ["t"], kind=kind, name="results")
    later.arrivals = first
    first.put(*range(1, 101))
    return first, later


def test_a_later_log_stands_where_the_first_one_has_its_records() -> None:
    """Whenever it had them itself."""
    first, later = pair()
    later.put(*range(1, 91), after_s=3)
    assert (first.heads(), later.heads()) == ({A: at(100), B: at(99)}, {A: at(90), B: at(89)})
    later.put(*range(91, 101), after_s=30)
    assert later.heads() == first.heads()
    first.put(101)
    assert first.heads() == {A: at(100), B: at(101)}
    assert later.heads() == {A: at(100), B: at(99)}


@pytest.mark.parametrize(
    "wrong", ["nothing", "lost", "doubled", "changed", "foreign", "one again, and one from before"]
)
def test_what_a_window_has_is_what_came_to_the_first_log_in_it(wrong: str) -> None:
    """A key that was sent again is one record; one that the log never had is told with its group."""
    first, later = pair()
    window = Window({A: at(50), B: at(50)}, {A: at(100), B: at(100)})
    later.put(*(n for n in range(1, 101) if (wrong, n) != ("lost", 80) and (wrong, n) != ("changed", 80)), after_s=2)
    if wrong == "doubled":
        later.put(80, after_s=9)
    if wrong == "changed":
        later.put(80, after_s=2, note="other")
    if wrong == "foreign":
        later.put(700, after_s=-600)
    if wrong.startswith("one again"):
        first.put(80, 40)
        first.messages[-2].stamp_us, first.messages[-1].stamp_us = at(81), at(82)
    right, held = first.digest(window)[0], later.digest(window)[0]
    assert (right.view, held.view) == ("log", "final")
    mine, own = right.groups[A], held.groups[A]
    figures = (own.rows - mine.keys, own.keys - mine.keys, own.sum == mine.sum)
    assert (
        figures
        == {
            "nothing": (0, 0, True),
            "lost": (-1, -1, False),
            "doubled": (1, 0, True),
            "changed": (0, 0, False),
            "foreign": (1, 1, False),
            "one again, and one from before": (0, 0, True),
        }[wrong]
    )
    assert held.groups[B].sum == right.groups[B].sum
    assert mine.keys == (26 if wrong.startswith("one again") else 25)
    ids = sorted(later.rows(A, at(76), at(84))["id"].tolist())
    assert ids == {"lost": [78, 82, 84], "doubled": [78, 80, 80, 82, 84]}.get(wrong, ids)


def test_a_log_that_has_forgotten_its_beginning_calls_no_record_foreign() -> None:
    """It may have been there once."""
    first, later = pair()
    first.low = 10
    later.put(*range(1, 101), 700, after_s=2)
    window = Window({A: at(50), B: at(50)}, {A: at(100), B: at(100)})
    assert later.digest(window)[0].groups[A].keys == first.digest(window)[0].groups[A].keys == 25


def test_a_log_may_promise_each_record_once() -> None:
    """Or not."""
    _, later = pair("log")
    later.put(80, 80, after_s=2)
    window = Window({A: at(50)}, {A: at(100)})
    assert (later.digest(window)[0].view, later.digest(window)[0].groups[A].rows) == ("log", 2)
    with pytest.raises(ConfigError, match=r"hops.log.kind is 'state'. Remedy: one of log, once"):
        log.Hop("127.0.0.1:1", REQUESTS, ["t"], kind="state", name="log")


def test_a_change_event_that_deletes_needs_no_message_without_a_value_behind_it() -> None:
    """A connector may be told to write none (tombstones.on.delete)."""
    held = Held("127.0.0.1:1", ORDERS, ["t"], fields={"id": "$key.id"}, format="debezium", name="log")
    for place, (number, op) in enumerate([(1, "c"), (2, "c"), (1, "d")]):
        row = {"id": number, "v": place, "at": START_US}
        rows = {"before": row, "after": None} if op == "d" else {"before": None, "after": row}
        event = json.dumps({"op": op, **rows, "source": {"table": "orders"}}).encode()
        held.messages.append(Message(place, number, START_US, event=event))
    assert held.state().gone.tolist().count(True) == 1
    assert len(held.state()) == 2


@dataclass
class Counted(Held):
    """One that counts what is read of it, and hands it out in batches of so many."""

    batch: int = 2_000
    read: int = 0

    def _gathered(self, spans: Mapping[Slot, Span], parse: Callable[[Sequence[Any]], Any]) -> dict[Slot, list[Any]]:
        found = {slot: self.messages[start:stop] for slot, (start, stop) in spans.items()}
        self.read += sum(map(len, found.values()))
        return {
            slot: [parse(messages[at : at + self.batch]) for at in range(0, len(messages), self.batch)]
            for slot, messages in found.items()
        }


def changes(batch: int, sent: Sequence[bytes | None]) -> Counted:
    held = Counted("127.0.0.1:1", ORDERS, ["t"], fields={"id": "$key.id"}, format="debezium", name="log", batch=batch)
    for place, event in enumerate(sent):
        told = re.search(rb'"id":(\d)', event or b"")
        number = int(told[1]) if told else place % 5
        held.messages.append(Message(place, number, START_US + place * SECOND_US, event=event, empty=event is None))
    return held


def change(number: int, v: int, op: str = "u", schema: bytes = b'{"type":"struct"}', space: bytes = b"") -> bytes:
    row = {"id": number, "v": v, "at": START_US + v}
    rows = {"before": row, "after": None} if op == "d" else {"before": None, "after": row}
    return b'{"schema":%b,%b"payload":%b}' % (schema, space, orjson.dumps({"op": op, **rows}))


SENT = st.one_of(
    st.builds(
        change,
        st.integers(0, 4),
        st.integers(0, 9),
        st.sampled_from(["c", "u", "u", "d", "t"]),
        st.sampled_from([b"null", b'{"type":"struct"}', b'{"type":"struct","doc":",\\"payload\\":"}']),
        st.sampled_from([b"", b"", b" "]),
    ),
    st.none(),
    st.sampled_from([b"{", b"null", b'{"schema":null,"payload":null}']),
)


def told(held: Counted) -> Any:
    """All that a log says of its changes; or why it says nothing."""
    since_us = START_US + 7 * SECOND_US
    symptoms = held.symptoms(Window({}, {}), since_us, {})
    try:
        state = held.state()
    except DriverError as e:
        return symptoms, str(e)
    columns = (state.keys, state.rows, state.versions, state.gone, state.had)
    return symptoms, [column.tolist() for column in columns], held.heads()


@given(sent=st.lists(SENT, max_size=30))
def test_a_log_that_is_read_at_once_is_what_its_messages_are_one_by_one(sent: Sequence[bytes | None]) -> None:
    """Whatever is among them: schemas in turn, deletions, messages without a value, and such as can't be read."""
    assert told(changes(2_000, sent)) == told(changes(1, sent)) == told(changes(7, sent))


def test_each_message_is_read_once_for_all_evidence() -> None:
    """By the digest, the fold and the symptoms; later looks read what came since. Heads are always asked for anew."""
    held = changes(10, [change(number % 5, number) for number in range(100)])
    window = Window({(): START_US + 20}, {(): START_US + 99})
    digest = held.digest(window)
    assert (digest[0].groups[()].rows, held.read) == (79, 100)
    assert len(held.state()) == 5
    held.symptoms(window, START_US + 50 * SECOND_US, {})
    assert held.read == 100
    held.messages += changes(10, [change(7, 200)] * 3).messages
    for place, message in enumerate(held.messages):
        message.place = place
    assert len(held.state()) == 6
    assert held.read == 103
    held.symptoms(window, START_US + 55 * SECOND_US, {})  # which begins inside a batch
    assert held.read == 103 + 5
    assert held.heads()
    assert held.read == 103 + 5 + 103


def test_a_log_that_was_made_anew_is_read_anew() -> None:
    """It ends before what was read of it."""
    held = changes(10, [change(number % 5, number) for number in range(100)])
    before = held.state()
    held.messages = changes(10, [change(9, number) for number in range(50)]).messages
    assert (len(before), len(held.state())) == (5, 1)
    assert held.symptoms(Window({}, {}), START_US, {})["versions_back"]["changes"] == 50


def test_only_the_newest_messages_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is older is read again."""
    monkeypatch.setattr(_log, "KEPT_MESSAGES_MAX", 25)
    held = changes(10, [change(number % 5, number) for number in range(100)])
    held.state()
    held.digest(Window({(): START_US + 20}, {(): START_US + 99}))
    assert held.read == 100 + 80

"""A message as a record of the stream: where a platform has its fields, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gameday.drivers.kafka.log import Hop
from gameday.errors import ConfigError
from gameday.records.declaration import Stream, stream
from gameday.records.paths import Message, Record, reader
from gameday.records.types import Malformed
from tests.trades import TRADES

OURS = {
    "venue": "kraken",
    "symbol": "BTC/USD",
    "trade_id": 7,
    "price": "60000.25",
    "quantity": "0.5",
    "side": "sell",
    "exchange_us": 1_790_000_000_000_001,
}
VALUES = ("kraken", "BTC/USD", 7, 6_000_025_000_000, 50_000_000, "sell", 1_790_000_000_000_001)
FIELDS = {"exchange_time": "exchange_us"}


def message(value: Any, **changes: Any) -> Message:
    raw = value if isinstance(value, bytes) else orjson.dumps(value)
    return Message("topic.a", 3, 42, 1_790_000_000_000_000, b'{"id":"k"}', raw)._replace(**changes)


def read(value: Any, shape: Mapping[str, Any], of: Stream = TRADES, **changes: Any) -> Sequence[Record]:
    mistakes: list[str] = []
    made = reader(of, shape, "hops.broker", mistakes)
    assert mistakes == []
    return list(made.records(message(value, **changes)))


def declared(**given: Any) -> Stream:
    mistakes: list[str] = []
    places = {"hops": ["a", "b"], "visible": "b", "path": ["web"]}
    made = stream("events", {**places, **given}, ["a", "b"], mistakes)
    assert made is not None, mistakes
    return made


def test_a_message_of_the_reference_platform_is_a_record() -> None:
    """Its group, and its canonical values in the order of the declaration."""
    assert read(OURS, {"fields": FIELDS}) == [(("kraken", "BTC/USD"), VALUES)]


def test_a_platform_has_its_own_keys() -> None:
    """Milliseconds, an id as text, a venue that the topic alone tells."""
    theirs = {"s": "BTC/USD", "t": "7", "p": "60000.25", "q": "0.5", "S": "sell", "T": 1_790_000_000_000}
    keys = {"venue": "'kraken'", "symbol": "s", "trade_id": "t", "price": "p", "quantity": "q", "side": "S"}
    found = read(theirs, {"fields": {**keys, "exchange_time": "T as time(ms)"}})
    assert found == [(("kraken", "BTC/USD"), (*VALUES[:6], 1_790_000_000_000_000))]


def test_fields_lie_deep_in_the_key_in_headers_and_in_the_place() -> None:
    """JSON in a string is gone into; what is nowhere is NULL."""
    fields = {"op": "text", "n": "int", "who": "text", "offset": "int", "at": "time", "none": "json", "deep": "bool"}
    of = declared(key=["id"], group=["part"], sequence="n", fields={**fields, "part": "int"})
    body = {"payload": orjson.dumps({"after": {"n": 5, "flags": [False, True]}}).decode(), "op": "c"}
    shape = {
        "id": "$key.id",
        "part": "$partition",
        "n": "payload.after.n",
        "deep": "payload.after.flags.1",
        "who": "$headers.user",
        "offset": "$offset",
        "at": "$time",
        "none": "payload.before.x",
    }
    ((group, values),) = read(body, {"fields": shape}, of, headers=(("user", b"me"),))
    assert group == ("3",)
    assert dict(zip(of.types, values, strict=True)) == {
        "part": 3,
        "id": "k",
        "n": 5,
        "op": "c",
        "who": "me",
        "offset": 42,
        "at": 1_790_000_000_000_000,
        "none": None,
        "deep": 1,
    }


def test_one_message_may_hold_many_records_and_others_none() -> None:
    """`each` is the path of a list; `where` says what belongs to the stream."""
    of = declared(key=["n"], group=["host"], sequence="n")
    shape = {"each": "rows", "fields": {"host": "$message.host"}, "where": {"kind": ["a", "b"]}}
    rows = [{"n": 1, "kind": "a"}, {"n": 2, "kind": "c"}, {"n": 3, "kind": "b"}]
    found = read({"host": "h", "rows": rows}, shape, of)
    assert [(group, values[1]) for group, values in found] == [(("h",), 1), (("h",), 3)]
    with pytest.raises(Malformed, match="no list at the path `each`"):
        read({"host": "h"}, shape, of)


def test_a_message_without_json_is_read_by_its_place() -> None:
    """A log with nothing but offsets needs no parsing."""
    of = declared(key=["n"], group=["part"], sequence="n", fields={"raw": "bytes", "part": "int"})
    found = read(b"\xff\x00", {"fields": {"n": "$offset", "part": "$partition", "raw": "$value"}}, of)
    assert found == [(("3",), (3, 42, b"\xff\x00"))]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"trade_id": "7a"}, "trade_id: '7a' is no whole number"),
        ({"trade_id": 7.0}, "trade_id"),
        ({"trade_id": True}, "trade_id"),
        ({"trade_id": None}, "trade_id: is missing"),
        ({"venue": None}, "venue: is missing"),
        ({"exchange_us": "1x"}, "exchange_time"),
        ({"side": 1}, "side: 1 is no text"),
        ({"price": 1.5}, "price: 1.5 is a number that may have been rounded"),
    ],
    ids=str,
)
def test_what_would_have_to_be_guessed_is_no_record(change: dict[str, Any], why: str) -> None:
    """It is counted as malformed, with its field, value and reason."""
    with pytest.raises(Malformed, match=why):
        read({**OURS, **change}, {"fields": FIELDS})


@pytest.mark.parametrize("broken", [b"not json", b"\xff\xfe", b"[1, 2]", b"7"])
def test_what_is_no_object_is_no_record(broken: bytes) -> None:
    """Whatever else it is."""
    with pytest.raises(Malformed):
        read(broken, {"fields": FIELDS})


def test_all_mistakes_of_a_shape_are_told() -> None:
    """With key, value and remedy."""
    part = {"topics": ["a"], "fields": {"price": "a..b", "side": "$header.x", "quantity": "q as int"}, "key": "x"}
    with pytest.raises(ConfigError) as raised:
        Hop("127.0.0.1:1", TRADES, part=[part, {"fields": {}}])
    for told in (
        r"hops.broker.part has key. Known: topics, fields, each, where",
        r"hops.broker.part.fields.price is 'a..b'. Remedy: keys with a point between two",
        r"hops.broker.part.fields.side is '$header.x'. Remedy: a key, or one of $key",
        r"hops.broker.part.fields.quantity reads int, but the stream has decimal(8). Remedy: a type of the same name",
        r"hops.broker.part.topics is missing (part 2)",
    ):
        assert told in str(raised.value)


INT = st.one_of(st.integers(-(1 << 63), (1 << 63) - 1), st.integers(-5, 5).map(str))
ODD: st.SearchStrategy[Any] = st.sampled_from([None, True, 1.5, 1 << 63, "", "-", "1e3", "1\n2", "9" * 19, [], {}])
DECIMAL = st.one_of(
    st.integers(-(10**9), 10**9),
    st.decimals(-(10**9), 10**9, places=8).map(lambda number: f"{number:f}"),
    st.sampled_from(["0", "-0.5", "7.", ".5", "0.10000000000", "9999999999.99999999", "92233720368.54775807"]),
)
TIME = st.one_of(st.integers(-(10**15), 10**15), st.sampled_from(["2026-02-17T02:00:00Z", "1.5"]))
KINDS = {"venue": st.sampled_from("ab"), "trade_id": INT, "price": DECIMAL, "quantity": DECIMAL, "exchange_us": TIME}


def bodies(odd: bool) -> st.SearchStrategy[dict[str, Any]]:
    fields = {name: st.one_of(kind, ODD) if odd else kind for name, kind in KINDS.items()}
    return st.fixed_dictionaries({"symbol": st.text(), "side": st.sampled_from(["buy", "sell"]), **fields})


@pytest.mark.parametrize("shape", [{}, {"each": "rows"}, {"where": {"side": "buy"}}], ids=str)
@given(told=st.one_of(st.lists(bodies(odd=False)), st.lists(bodies(odd=True))))
def test_all_at_once_is_what_each_is_by_itself(told: list[dict[str, Any]], shape: dict[str, Any]) -> None:
    """The same records in the same order, unless one of the messages is malformed: then each is read by itself."""
    raw = [json.dumps({"rows": [one, one]} if "each" in shape else one).encode() for one in told]
    mistakes: list[str] = []
    made = reader(TRADES, {**shape, "fields": FIELDS}, "hops.broker", mistakes)
    try:
        each = [(n, record) for n, value in enumerate(raw) for record in made.records(message(value))]
    except Malformed:
        assert made.columns([None] * len(raw), raw) is None
        return
    table = made.columns([None] * len(raw), raw)
    assert table is not None
    of, columns = table
    values = list(zip(*(columns[name].tolist() for name in TRADES.types), strict=True))
    assert (list(of), values) == ([n for n, _ in each], [values for _, (_, values) in each])


@pytest.mark.parametrize(
    "raw",
    [
        [b'{"id":1,"of":[{"id":2}', b'{"id":3}]}', b'{"id":4},{"id":5}'],
        [b'{"id":1},null,{"id":2}', b'{"id":3', b'"of":4}'],
        [b'{"id":1}', b"", b'{"id":2},{"id":3}'],
        [b'{"id":1}', b' {"id":2} {"id":3}'],
    ],
)
def test_messages_that_are_whole_only_together_are_malformed(raw: list[bytes]) -> None:
    """They are parsed as one list; halves in two messages are no record because the list has as many items."""
    made = reader(declared(key=["id"], sequence="id"), {}, "hops.broker", [])
    assert made.columns([None] * len(raw), raw) is None


def test_messages_of_which_some_lack_a_key_are_read_at_once() -> None:
    """The field is absent there; the others have theirs."""
    made = reader(declared(key=["id"], sequence="id", fields={"of": "text"}), {}, "hops.broker", [])
    table = made.columns([None, None], [b'{"id":1,"of":"a"}', b'{"id":2}'])
    assert table is not None
    assert {name: column.tolist() for name, column in table[1].items()} == {"id": [1, 2], "of": ["a", None]}


ORDERS = declared(
    key=["id"],
    group=["shop"],
    version="v",
    time="at",
    fields={"id": "int", "total": "decimal(2)", "at": "time(ms)"},
)
ROW = {"id": 5, "shop": "a", "v": 3, "total": "1.50", "at": 1}
DEBEZIUM = {
    "fields": {"id": "$key.id", **{name: f"after.{name}" for name in ("shop", "v", "total", "at")}},
    "deleted": {"op": "d"},
}


def gone(value: Any, shape: Mapping[str, Any], **changes: Any) -> Sequence[Any]:
    """What a message deletes; and it is seen that all at once says the same."""
    mistakes: list[str] = []
    made = reader(ORDERS, shape, "hops.log", mistakes)
    assert mistakes == []
    one = message(value, **{"key": b'{"id":5}', **changes})
    one = one if value is not None else one._replace(value=None)
    bodies = [None] if value is None else made.bodies([one.value or b""])
    table = None if bodies is None else made.deletions_of([one] * 3, [*bodies] * 3)
    try:
        found = list(made.deletions(one))
    except Malformed:
        assert table is None
        raise
    if bodies is not None:
        assert table is not None
        of, columns = table
        assert list(of) == [number for number in range(3) for _ in found]
        versions = columns["v"].tolist()
        assert list(zip(zip(columns["id"].tolist(), strict=True), versions, strict=True)) == found * 3
    return found


@pytest.mark.parametrize(
    ("value", "shape", "told"),
    [
        (None, DEBEZIUM, [((5,), None)]),
        ({"op": "d", "after": None}, DEBEZIUM, [((5,), None)]),
        ({"op": "d", "after": {"v": 4}}, DEBEZIUM, [((5,), 4)]),
        ({"op": "u", "after": ROW}, DEBEZIUM, []),
        (b"{", DEBEZIUM, []),
        ({**ROW, "gone": True}, {"deleted": "gone"}, [((5,), 3)]),
        ({**ROW, "gone": "true"}, {"deleted": "gone"}, [((5,), 3)]),
        ({**ROW, "gone": 1}, {"deleted": "gone"}, [((5,), 3)]),
        ({**ROW, "gone": False}, {"deleted": "gone"}, []),
        ({**ROW, "kind": "refund", "gone": True}, {"deleted": "gone", "where": {"kind": "order"}}, []),
        (
            {"rows": [{**ROW, "gone": True}, ROW, {**ROW, "id": 6, "v": None, "gone": True}]},
            {"deleted": "gone", "each": "rows"},
            [((5,), 3), ((6,), None)],
        ),
    ],
    ids=str,
)
def test_what_a_message_deletes(value: Any, shape: Mapping[str, Any], told: Sequence[Any]) -> None:
    """Its key, and its version where it tells one; without a value it always deletes. What deletes is no record."""
    assert gone(value, shape) == told
    if value is not None and value != b"{":
        records = len(read(value, shape, ORDERS, key=b'{"id":5}'))
        assert records == (1 if not told or "each" in shape else 0) * ("where" not in shape)
        made = reader(ORDERS, shape, "hops.log", [])
        one = message(value, key=b'{"id":5}')
        assert one.value is not None
        table = made.columns([one if made.places else None], [one.value])
        assert table is not None
        assert len(table[0]) == records


def test_a_key_that_a_deletion_does_not_tell_is_malformed() -> None:
    """A message without a value has nothing but its own key; the remedy says so."""
    with pytest.raises(Malformed, match=r'id: is missing in a message that deletes. Remedy: .* as id = "\$key.id"'):
        gone(None, {})
    with pytest.raises(Malformed, match=r"id: 'x' is no whole number .*, in a message that deletes"):
        gone(None, DEBEZIUM, key=b'{"id":"x"}')


def test_a_condition_that_is_none_is_refused() -> None:
    """With what may stand there."""
    mistakes: list[str] = []
    reader(ORDERS, {"deleted": True}, "hops.log", mistakes)
    assert mistakes == [
        "hops.log.deleted is True. Remedy: a path where true stands in a message that deletes, or a table such as "
        '{ "payload.op" = "d" }'
    ]


@pytest.mark.parametrize(
    ("where", "kept"),
    [
        ({"id": "gameday-*"}, [True, False, False]),
        ({"not id": "gameday-*"}, [False, True, True]),
        ({"$key": "gameday-*"}, [True, False, False]),
        ({"not $key": ["gameday-*", "other"]}, [False, False, True]),
        ({"id": ["x", "gameday-*"]}, [True, True, False]),
        ({"$headers.by": "canary"}, [True, False, False]),
    ],
)
def test_where_takes_a_prefix_and_its_opposite(where: Mapping[str, Any], kept: list[bool]) -> None:
    """Whether messages are read one by one or all at once; a message without that field is not one of those."""
    mistakes: list[str] = []
    given = {"key": ["n"], "sequence": "n", "hops": ["log", "sink"], "visible": "sink", "path": ["consumer"]}
    of = stream("orders", given, given["hops"], mistakes)
    assert of is not None
    messages = [
        Message("t", 0, 0, None, b"gameday-1", b'{"id": "gameday-1", "n": 1}', [("by", b"canary")]),
        Message("t", 0, 1, None, b"other", b'{"id": "x", "n": 2}'),
        Message("t", 0, 2, None, None, b'{"n": 3}'),
    ]
    read = reader(of, {"where": where}, "hops.log", mistakes)
    assert not mistakes
    assert [bool(list(read.records(message))) for message in messages] == kept
    table = read.columns(messages, [message.value or b"" for message in messages])
    assert table is not None
    assert [number in table[0] for number in range(3)] == kept

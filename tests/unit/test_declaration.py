"""A stream as gameday.toml declares it: what it means, and that every mistake is told with key, value and remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gameday.errors import ConfigError
from gameday.model import Digest, Evidence, Tally, Verdict, Window
from gameday.records.declaration import Stream, hop_mistakes, stream
from gameday.records.hashing import row_hash
from gameday.records.tallies import proved, tally
from gameday.stack import reading
from gameday.verdict import checks
from tasks import survey
from tests.trades import TRADES

PLACES = {"hops": ["log", "table"], "visible": "table", "path": ["handler-{shop}", "web"]}
ORDERS = {
    "key": ["shop", "order"],
    "group": ["shop"],
    "sequence": "n",
    "fields": {"order": "uuid", "total": "decimal(2)"},
}


def declared(**given: Any) -> tuple[Stream | None, list[str]]:
    mistakes: list[str] = []
    return stream("orders", {**PLACES, **given}, ["log", "table"], mistakes), mistakes


def test_the_fields_of_key_and_group_need_no_type() -> None:
    """Text for them, int for the sequence; the key's own fields come first in the row hash."""
    found, mistakes = declared(**ORDERS)
    assert found is not None, mistakes
    assert {name: str(kind) for name, kind in found.types.items()} == {
        "shop": "text",
        "order": "uuid",
        "n": "int",
        "total": "decimal(2)",
    }
    assert (found.own, found.hashed) == (("order",), ("order", "n", "total"))
    assert found.roles(("berlin",)) == ("handler-berlin", "web")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"key": []}, "streams.orders.key is missing. Remedy: the fields that make two rows the same record"),
        ({"key": ["shop"]}, "streams.orders.key is ['shop'], all of it in group"),
        (
            {"sequence": None, "version": "v"},
            "streams.orders has a version, but neither sequence nor time, so nothing tells where it stands. Remedy:",
        ),
        ({"sequence": None, "time": "total"}, "streams.orders.time is 'total'. Remedy: a field that `fields` gives a"),
        ({"sequence": None, "gapless": True}, "streams.orders.gapless is true, but there is no sequence"),
        ({"sequence": "order"}, "streams.orders.sequence is 'order', of type uuid. Remedy: a field of type int"),
        ({"sequence": "shop", "fields": {"shop": "int"}}, "streams.orders.sequence is 'shop', which is in group"),
        ({"time": "total"}, "streams.orders.time is 'total'. Remedy: a field that `fields` gives a type time"),
        ({"group": ["total"]}, "streams.orders.group has 'total', of type decimal(2). Remedy: one of text, int, uuid"),
        ({"fields": {"x": "number"}}, "streams.orders.fields.x: 'number' is no type. Remedy: one of int, decimal(n)"),
        ({"fields": {"a b": "int"}}, "streams.orders has a field 'a b'. Remedy: letters, digits and _"),
        ({"hops": ["log", "lake"]}, "streams.orders.hops names 'lake', but there is no [hops.lake]. Known: log, table"),
        ({"visible": "lake"}, "streams.orders.visible is 'lake'. Remedy: one of log, table"),
        (
            {"version": "total"},
            "streams.orders.version is 'total', of type decimal(2). Remedy: a field of type int, or a time",
        ),
        (
            {"version": "order"},
            "streams.orders.version is 'order', which is in key or group. Remedy: leave it out there: rows with one",
        ),
        (
            {"key": [], "sequence": None, "version": "v"},
            "streams.orders.version is 'v', but there is no key. Remedy: streams.orders.key, whose rows it tells apart",
        ),
        ({"path": ["{city}"]}, "streams.orders.path has '{city}', but 'city' is not in streams.orders.group ['shop']"),
    ],
    ids=str,
)
def test_a_mistake_names_key_value_and_remedy(change: dict[str, Any], told: str) -> None:
    """And there is no stream."""
    found, mistakes = declared(**{**ORDERS, **change})
    assert found is None
    assert any(told in mistake for mistake in mistakes), mistakes


def test_records_with_nothing_but_a_key_have_the_time_that_the_log_gives_them() -> None:
    """It is no field: no other hop has it, no hash has it in it, and no hop says where it lies."""
    found, mistakes = declared(**{**ORDERS, "sequence": None})
    assert found is not None, mistakes
    assert (found.keyed, found.counted, found.sequence, found.time) == (True, False, "$time", "$time")
    assert (found.fields, found.hashed, found.by_key) == (
        ("shop", "order", "total"),
        ("order", "total"),
        ("shop", "order", "total"),
    )
    (told,) = hop_mistakes("table", {"fields": {"$time": "at"}}, found)
    assert "hops.table.fields has '$time', which the stream has not. Remedy: one of shop, order, total" in told


def test_each_version_is_a_record_and_each_key_one_of_a_state() -> None:
    """Where versions are kept they are told apart; where a table is overwritten its keys are. A state's hashes begin
    with the whole key, for a row may move to another group."""
    found, mistakes = declared(**{**ORDERS, "key": ["order"], "version": "v"})
    assert found is not None, mistakes
    assert (str(found.types["v"]), found.own) == ("int", ("order", "v"))
    assert set(found.needed) == {"shop", "order", "n", "v"}
    assert (found.of_keys.own, found.of_keys.counted) == (("order",), False)
    assert found.by_key == ("order", *(name for name in found.types if name != "order"))
    columns = {name: np.array([3, 4]) if kind.whole else np.array([None, None]) for name, kind in found.types.items()}
    columns["order"] = np.array([b"a" * 16, b"b" * 16], dtype=object)
    before = found.state_hashes(columns)
    after = found.state_hashes({**columns, "v": np.array([4, 5])})
    assert (before[0] == after[0]).all()
    assert (before[1] != after[1]).all()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            {"kind": "state"},
            "hops.silver.kind is 'state', but streams.trades has no version. Remedy: streams.trades.version, the field",
        ),
        ({"deleted": "gone"}, "hops.silver.deleted is 'gone', but streams.trades has no version. Remedy: streams.trad"),
        ({"part": [{"deleted": "gone"}]}, "hops.silver.deleted is 'gone', but streams.trades has no version"),
    ],
    ids=str,
)
def test_a_state_needs_a_version(given: dict[str, Any], told: str) -> None:
    """And so does what says that a row is deleted."""
    (mistake,) = hop_mistakes("silver", given, TRADES)
    assert told in mistake


def test_a_stream_without_a_number_goes_by_its_time() -> None:
    """Two records may have the same; their keys tell them apart."""
    fields = {"order": "uuid", "at": "time"}
    found, mistakes = declared(key=["order"], group=["shop"], time="at", fields=fields)
    assert found is not None, mistakes
    assert (found.sequence, found.counted, found.gapless) == ("at", False, False)
    moment = np.array([5, 5], dtype=np.int64)
    two = {"at": moment, "order": np.array([b"a" * 16, b"b" * 16], dtype=object), "shop": np.array(["x", "x"])}
    assert (found.tally(two).keys, len(set(found.told_apart(two).tolist()))) == (2, 2)


def test_a_stream_without_a_key_goes_by_its_place() -> None:
    """Topic and partition are its group, with those that it declares; the offset counts."""
    found, mistakes = declared(group=["shop"], fields={"total": "decimal(2)"})
    assert found is not None, mistakes
    assert (found.key, found.group) == (("topic", "partition", "offset"), ("shop", "topic", "partition"))
    assert (found.sequence, found.counted, found.placed) == ("offset", True, True)
    assert {name: str(kind) for name, kind in found.types.items()} == {
        "shop": "text",
        "topic": "text",
        "partition": "int",
        "offset": "int",
        "total": "decimal(2)",
    }


@pytest.mark.parametrize("key", ["columns", "keys", "venues", "view", "trades"])
def test_a_key_that_is_gone_names_the_new_one(key: str) -> None:
    """Each says what takes its place."""
    (mistake,) = hop_mistakes("silver", {key: "x"}, TRADES)
    assert mistake.startswith(f"hops.silver.{key} is gone. Remedy: ")


def test_a_field_that_the_stream_has_not_is_named() -> None:
    """With those that it has."""
    (mistake,) = hop_mistakes("silver", {"fields": {"prize": "p"}}, TRADES)
    assert "hops.silver.fields has 'prize', which the stream has not. Remedy: one of venue, symbol, trade_id" in mistake


def test_all_mistakes_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    """In the stream, in hops, in components, and in keys that are unknown."""
    text = """
name = "x"
history = "postgresql://127.0.0.1:1/x"
surplus = 1
[prefect]
api_url = "http://127.0.0.1:1/api"
[hosts.local]
[components.web]
probes.p = { driver = "disk", path = "/", rate_hz = 0 }
[streams.orders]
key = ["id"]
version = "version"
fields = { total = "money" }
hops = ["log", "lake"]
visible = "table"
path = ["web"]
[hops.log]
driver = "kafka"
keys = { id = "i" }
"""
    path = tmp_path / "gameday.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as raised:
        reading.load(path)
    for told in (
        "surplus",
        "components.web.probes.p.rate_hz",
        "streams.orders.fields.total: 'money' is no type",
        "streams.orders has a version, but neither sequence nor time",
        "streams.orders.hops names 'lake'",
        "streams.orders.visible is 'table'",
        "hops.log.keys is gone",
    ):
        assert told in str(raised.value)


def test_the_old_table_of_a_stream_is_told_what_takes_its_place(tmp_path: Path) -> None:
    """And nothing is said of what it would lack."""
    path = tmp_path / "gameday.toml"
    path.write_text('name = "x"\nhistory = "postgresql://127.0.0.1:1/x"\n[stream]\nfields = ["venue"]\n')
    with pytest.raises(ConfigError, match=r"\[stream\] is gone\. Remedy: \[streams\.NAME\] with key") as raised:
        reading.load(path)
    assert "streams is missing" not in str(raised.value)


# ---- what the sums prove ---------------------------------------------------------------------------------------------


def digest(hop: str, view: str, **groups: Tally) -> Digest:
    return Digest("orders", hop, view, {(name,): held for name, held in groups.items()})


def held(*ids: int) -> Tally:
    numbers = np.array(ids)
    return tally(numbers, row_hash([numbers, numbers * 7]))


def summed(*ids: int) -> Tally:
    """As an engine sums up without grouping by key."""
    exact = [held(i) for i in ids]
    mask = (1 << 64) - 1
    total, keys = (sum(getattr(t, name) or 0 for t in exact) & mask for name in ("sum", "key_sum"))
    return Tally(len(ids), len(ids), min(ids), max(ids), total, key_sum=keys)


def test_equal_sums_prove_equal_rows() -> None:
    """Of the stream's first digest, which has each once."""
    right = digest("log", "log", a=held(1, 2, 3))
    found = proved([digest("table", "final", a=summed(1, 2, 3))], [right])
    assert found is not None
    assert found[0].groups == {("a",): held(1, 2, 3)}


@pytest.mark.parametrize("ids", [(1, 3), (1, 2, 3, 3), (1, 1, 3), (1, 2, 4)], ids=str)
def test_other_rows_are_not_proved(ids: tuple[int, ...]) -> None:
    """One lost, one doubled, one doubled in place of another, one foreign: the exact digest has to tell."""
    right = digest("log", "log", a=held(1, 2, 3))
    assert proved([digest("table", "final", a=summed(*ids))], [right]) is None


def test_nothing_is_proved_without_a_reference_that_has_each_once() -> None:
    """A log that repeats one, a group too many, no digest before."""
    sums = digest("table", "final", a=summed(1, 2, 3))
    assert proved([sums], []) is None
    assert proved([sums], [digest("log", "log", a=held(1, 2, 3, 3))]) is None
    assert proved([sums], [digest("log", "log", a=held(1, 2, 3), b=held(1))]) is None


def test_a_foreign_record_in_place_of_a_lost_one_is_both() -> None:
    """As many keys, between the same lowest and highest: the sum of the key hashes tells that they aren't the same."""
    ids = np.arange(1, 6)
    keys = [np.array([10, 20, other, 40, 50], dtype=np.uint64) for other in (30, 31)]
    right, wrong = (tally(ids, row_hash([k]), keys=k) for k in keys)
    evidence = Evidence("t", {}, "s", digests=(digest("log", "log", a=right), digest("table", "final", a=wrong)))
    for check in (checks.no_loss, checks.no_duplicates):
        assert check(evidence).verdict is Verdict.FAIL
        assert check(evidence).why.startswith("table has 1 order")


def test_ids_with_gaps_are_not_expected_one_by_one() -> None:
    """The first hop is then the only reference."""
    first, second = digest("log", "log", a=held(2, 9)), digest("table", "final", a=held(2, 9))
    window = Window({("a",): 0}, {("a",): 9})
    verdicts = {
        gapless: checks.no_loss(Evidence("t", {}, "s", window=window, gapless=gapless, digests=(first, second))).verdict
        for gapless in (True, False)
    }
    assert verdicts == {True: Verdict.FAIL, False: Verdict.PASS}


def test_where_a_group_stands_is_told_in_its_own_terms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids and how many are missing; or times, and between which ages what lacks is: a group that seldom has anything
    is not behind by the time between two records."""
    assert survey._standing(TRADES, ("a", "b"), 9, 7) == {
        "stream": "trades",
        "group": "a/b",
        "ledger": 9,
        "visible": 7,
        "behind": 2,
    }
    timed, mistakes = declared(key=["order"], group=["shop"], time="at", fields={"order": "uuid", "at": "time"})
    assert timed is not None, mistakes
    monkeypatch.setattr("tasks.survey.time.time", lambda: 1_795_000_002.5)
    ledger, before = 1_795_000_001_500_000, 1_795_000_000_000_000
    told = [survey._standing(timed, ("x",), ledger, visible) for visible in (ledger, before, 0)]
    assert [one["ledger"] for one in told] == ["2026-11-18T11:06:41.500000Z"] * 3
    assert [one["behind"] for one in told] == ["0.0 s", "1.0 to 2.5 s", "1.0 s at least"]

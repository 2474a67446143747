"""A tape of changes as gameday's ledger."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from gameday import ports
from gameday.drivers.tape import Changes, Hop, Recent
from gameday.errors import ConfigError, DriverError
from gameday.model import Window
from gameday.ports import Ledger, States
from gameday.records.declaration import Stream, stream
from pipelines.cdc import tape as tapes
from pipelines.cdc.tape import SHARDS

FIELDS = {"id": "int", "shard": "int", "status": "text", "amount": "decimal(4)", "facts": "json", "at": "time"}


def tape() -> dict[str, Any]:
    shards = {shard: {"begun": 230, "segments": [[1, 1_790_000_000_000_000, 100_000]]} for shard in SHARDS}
    told: dict[str, Any] = {"seed": 1, "shards": shards, "bursts": [], "versions": [], "poison": []}
    return {**told, "heads": tapes.heads(told), "rows": tapes.existing(told)}


def declared(**more: Any) -> Stream:
    mistakes: list[str] = []
    given = {"key": ["table", "id"], "group": ["table", "shard"], "time": "at", "fields": FIELDS, "hops": ["tape"]}
    made = stream("rows", {**given, "visible": "tape", "path": [], **more}, ["tape"], mistakes)
    assert made is not None, mistakes
    return made


@pytest.fixture
def hop(monkeypatch: pytest.MonkeyPatch) -> Changes:
    rows = declared(version="change", sequence="change")
    made = Changes("http://127.0.0.1:1", "pipelines.cdc.tape:records", "pipelines.cdc.tape:state", rows, "rows")
    monkeypatch.setattr(made._tape, "_tape", tape)
    return made


def test_a_tape_whose_oldest_records_are_forgotten_is_no_ledger() -> None:
    """So no night holds a table that forgets against all that there ever was."""
    history = declared(sequence="change", gapless=True)
    told = ("http://127.0.0.1:1", "pipelines.cdc.tape:events", history)
    assert isinstance(Hop(*told), Ledger)
    assert not isinstance(Recent(*told), Ledger)
    assert isinstance(Recent(*told), ports.Hop)


def test_its_rows_are_those_of_any_number(hop: Changes) -> None:
    """Each with the number of its last change; those that are gone by then are not there."""
    assert isinstance(hop, Ledger)
    assert isinstance(hop, States)
    head = tape()["heads"]["orders"]["0"]
    for number in (1, 100, head):
        found = hop.state({"orders/0": number})
        assert sorted(found.versions.tolist()) == sorted(
            tapes.state(tape(), {("orders", "0"): number})["change"].tolist()
        )
        assert found.position == {"orders/0": number}
    assert hop.state().position == {f"{t}/{s}": n for t, of in tape()["heads"].items() for s, n in of.items()}


def test_rows_of_a_state_can_be_named(hop: Changes) -> None:
    """By their hashes, also where they are gone since."""
    found = hop.state({"orders/0": 5})
    named = hop.records(found.rows[:1])
    assert len(named["id"]) == 1
    assert hop.records(np.array([1], dtype=np.uint64))["id"].tolist() == []


def test_a_window_has_the_changes_that_leave_a_row(hop: Changes) -> None:
    """Deletions have numbers, and are no records: heads are those of records too."""
    group = ("items", "1")
    lo, hi = 700, hop.heads()[group]
    (digest,) = hop.digest(Window({group: lo}, {group: hi}))
    right: Mapping[str, Any] = tapes.records(tape(), group, lo, hi)
    assert digest.groups[group].rows == len(right["id"]) < hi - lo
    assert digest.groups[group].hi == hi == right["change"].max()


@pytest.mark.parametrize("place", [{"orders/0": 10**9}, {"orders/9": 1}])
def test_a_place_that_it_never_had_is_said(hop: Changes, place: dict[str, int]) -> None:
    """With what it has, and the remedy."""
    with pytest.raises(DriverError, match=r"Remedy: `position` of the table gives the group's fields, joined by /"):
        hop.state(place)


def test_what_the_tape_has_forgotten_is_said(hop: Changes, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no traceback, and nothing is made up."""
    late = tape()
    late["shards"]["0"]["segments"] = [[100, 1_790_000_000_000_000, 100_000]]
    monkeypatch.setattr(hop._tape, "_tape", lambda: late)
    for ask in (lambda: hop.state({"orders/0": 50}), lambda: hop.rows(("orders", "0"), 0, 10)):
        with pytest.raises(
            DriverError, match=r"hops\.tape: the tape has forgotten when transaction \d+ of shard 0 was"
        ):
            ask()


@pytest.mark.parametrize("more", [{"sequence": "change"}, {"version": "change"}], ids=["no version", "no sequence"])
def test_a_stream_whose_numbers_are_no_versions_is_a_mistake(more: dict[str, Any]) -> None:
    """With both keys, their values and the remedy."""
    with pytest.raises(ConfigError, match=r"hops\.tape\.driver is 'tape\.Changes', .* Remedy: both the field"):
        Changes("http://127.0.0.1:1", "m:f", "m:f", declared(**more))

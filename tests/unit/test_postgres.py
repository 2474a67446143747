"""The Postgres driver without a server: what its declaration may say, and what its SQL makes of any text."""

from __future__ import annotations

import hashlib
import struct
from typing import Any

import numpy as np
import pytest

from gameday.drivers.postgres import Cursor, Hop, Lag, Mirror
from gameday.drivers.postgres.session import Session, array, literal
from gameday.errors import ConfigError, DriverError
from gameday.model import EMPTY
from gameday.records import gathered
from gameday.records.gathered import Gathered
from gameday.records.in_postgres import END, Part, form, read
from gameday.records.tallies import add, tallied, tally
from gameday.records.types import NULL, Malformed, Type, word_of_bytes
from gameday.stack.registry import build, driver_class
from tests.trades import TRADES

DSN = "postgresql://user:secret@127.0.0.1:1/db"


def hop(**given: Any) -> Hop:
    return Hop(**{"dsn": DSN, "kind": "once", "stream": TRADES, "name": "silver", **given})


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "hops.silver has neither table nor query. Remedy: table = the name of one, or query = a SELECT"),
        ({"table": "t", "query": "SELECT 1"}, "hops.silver has both table and query. Remedy: "),
        ({"table": "t", "kind": "final"}, "hops.silver.kind is 'final'. Remedy: one of append, once, state"),
        ({"table": "t", "deleted": "gone"}, "hops.silver.deleted is 'gone', but its kind is 'once'. Remedy: kind = 's"),
        (
            {"part": [{"table": "t", "deleted": "gone"}]},
            "hops.silver.part.deleted is 'gone', but its kind is 'once'. Remedy: kind = 'state', or leave it out",
        ),
        ({"table": "t", "position": "SELECT 1"}, "hops.silver.position is 'SELECT 1', but its kind is 'once'. Remedy"),
        ({"table": "t", "kind": "state", "position": 7}, "hops.silver.position is 7. Remedy: a SELECT of slot and num"),
        (
            {"table": "Order Items"},
            "hops.silver.table is 'Order Items'. Remedy: its name as SQL has it, such as orders",
        ),
        ({"table": "(SELECT 1) AS x"}, "hops.silver.table is '(SELECT 1) AS x'. Remedy: its name as SQL has it"),
        ({"table": "t", "heads_table": "t; DROP"}, "hops.silver.heads_table is 't; DROP'. Remedy: its name"),
        ({"part": [{"fields": {}}]}, "hops.silver.part has neither table nor query"),
        ({"part": [{"table": "t", "topic": "x"}]}, "hops.silver.part has topic. Known: table, query, fields, where"),
        ({"part": [{"table": 7}]}, "hops.silver.part.table is 7. Remedy: a text"),
        ({"table": "t", "where": " "}, "hops.silver.where is ' '. Remedy: a text"),
    ],
    ids=str,
)
def test_a_mistake_names_key_value_and_remedy(given: dict[str, Any], told: str) -> None:
    """And never the password."""
    with pytest.raises(ConfigError) as caught:
        hop(**given)
    assert told in str(caught.value)
    assert "secret" not in str(caught.value)


def test_all_mistakes_are_told_at_once() -> None:
    """Of the hop and of each of its parts."""
    with pytest.raises(ConfigError) as caught:
        hop(kind="x", part=[{"table": "a b"}, {"query": "SELECT 1", "table": "t"}])
    assert [str(caught.value).count(part) for part in ("kind is 'x'", "table is 'a b'", "both table and query")] == [
        1,
        1,
        1,
    ]


@pytest.mark.parametrize("name", ["orders", "shop.orders", '"Orders"', 'shop."Order ""Items"', "größe.t_1$", "a.b.c"])
def test_a_table_is_named_as_sql_has_it(name: str) -> None:
    """Qualified and quoted or not."""
    assert hop(table=name).table == name


def test_gameday_toml_names_each_class() -> None:
    """The section's own, or one after a dot."""
    named = {"hops": ("postgres", "Hop", Hop), "cursors": ("postgres", "Cursor", Cursor)}
    for section, (driver, offers, made) in named.items():
        assert driver_class(driver, offers, section) is made
    assert driver_class("postgres.Lag", "Probe", "stops.lag") is Lag
    assert driver_class("postgres.Mirror", "Mirror", "archive.mirror") is Mirror
    with pytest.raises(ConfigError, match="slot missing"):
        build(Cursor, {"dsn": DSN}, "cursors.connector")


def test_an_address_that_libpq_refuses_is_an_error_without_its_password() -> None:
    """Before anything is contacted."""
    with pytest.raises(DriverError) as caught:
        Session("postgresql://user:secret@127.0.0.1:1/db?nonsense=1", 1.0)
    assert "nonsense" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_any_text_is_a_literal() -> None:
    """Whether or not the server takes a backslash for one."""
    assert literal("a'b\\c") == "E'a''b\\\\c'"
    assert array(['a"b\\', "{,}"], "text") == 'E\'{"a\\\\"b\\\\\\\\","{,}"}\'::text[]'
    assert array([], "int8") == "E'{}'::int8[]"


# ---- what comes by COPY ----------------------------------------------------------------------------------------------

HEAD = b"PGCOPY\n\xff\r\n\0" + bytes(8)
ROW = struct.pack(">hiqiq", 2, 8, 7, 8, -1)
INTS = [Part("a", "int"), Part("b", "int")]


@pytest.mark.parametrize("cut", [1, 19, 25, len(HEAD + ROW), 60])
def test_a_copy_is_read_however_it_is_cut(cut: int) -> None:
    """Pieces need not end with a row."""
    whole = HEAD + ROW * 3 + END
    found = [words for words in read([whole[:cut], whole[cut:]], INTS) if len(words[0])]
    assert [np.concatenate(column).view(np.int64).tolist() for column in zip(*found, strict=True)] == [
        [7] * 3,
        [-1] * 3,
    ]


def test_an_md5_is_the_word_of_its_bytes_and_a_missing_value_that_of_null() -> None:
    """As the server writes it: 32 digits, of which the first half counts."""
    words = [word_of_bytes(text) for text in (b"", b"buy")]
    digits = [hashlib.md5(text).hexdigest().encode() for text in (b"", b"buy")]
    missing = form(Type("text"), "note", "text").part.sql.split("'")[-2].encode()
    whole = HEAD + b"".join(struct.pack(">hi32s", 1, 32, one) for one in [*digits, missing]) + END
    (found,) = read([whole], [Part("a", "md5")])
    assert found[0].tolist() == [*words, NULL]


@pytest.mark.parametrize(
    "whole", [HEAD + ROW * 2, HEAD + ROW + ROW[:-3] + END, HEAD + struct.pack(">hiqi", 2, 8, 7, -1) + END, HEAD[:9]]
)
def test_a_copy_that_breaks_off_or_has_another_shape_is_an_error(whole: bytes) -> None:
    """No row is lost in silence."""
    with pytest.raises(Malformed):
        list(read([whole], INTS))


# ---- many groups at once ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("repeated", [True, False])
def test_many_groups_at_once_are_tallied_as_one_by_one(repeated: bool) -> None:
    """In any order: with repeats and conflicts among them; and with each key once in its group, but in several groups.
    A group without records is absent."""
    random = np.random.default_rng(1)
    size = 5_000
    groups = random.choice([0, 1, 2, 3, 5, 6, 90], size)
    keys = random.integers(0, 900, size).astype(np.uint64) << np.uint64(50)
    if not repeated:
        groups, keys = (
            np.repeat([0, 1, 2, 3, 5, 6, 90], 700),
            np.tile(np.arange(700, dtype=np.uint64) << np.uint64(54), 7),
        )
        order = random.permutation(len(keys))
        groups, keys, size = groups[order], keys[order], len(keys)
    hashes = keys * np.uint64(3) + random.integers(0, 2, size).astype(np.uint64)
    found = tallied(groups, keys, hashes)
    assert list(found) == [0, 1, 2, 3, 5, 6, 90]
    for group in found:
        mine = groups == group
        one = tally(keys[mine].view(np.int64), hashes[mine], keys=keys[mine])
        told = found[group]
        assert (told.rows, told.keys, told.sum, told.conflicts, told.key_sum) == (
            one.rows,
            one.keys,
            one.sum,
            one.conflicts,
            one.key_sum,
        )
        assert (one.conflicts > 10) is repeated
    assert tallied(groups[:0], keys[:0], hashes[:0]) == {}


def test_what_is_gathered_in_pieces_is_the_same_in_memory_and_in_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that comes again in a later piece is known; lo and hi are of all pieces."""
    ids = np.arange(-3, 400, dtype=np.int64)
    keys, hashes = ids.view(np.uint64) * np.uint64(7919), ids.view(np.uint64) * np.uint64(31)
    pieces = [slice(0, 250), slice(100, 300), slice(250, 403)]

    def told() -> dict[int, Any]:
        with Gathered(3) as held:
            for piece in pieces:
                held.add(ids[piece] % 2, ids[piece], keys[piece], hashes[piece])
            return held.tallies()

    in_memory = told()
    monkeypatch.setattr(gathered, "ROWS_HELD_MAX", 100)
    assert told() == in_memory
    assert [in_memory[n].key_sum for n in (0, 1)] == [t.key_sum for t in told().values()]
    assert (in_memory[0].rows, in_memory[0].keys, in_memory[0].lo, in_memory[0].hi) == (301, 201, -2, 398)
    assert add(EMPTY, in_memory[1]) == in_memory[1]

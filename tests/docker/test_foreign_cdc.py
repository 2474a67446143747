"""A platform that copies a table's changes, on a real engine, from `gameday init` to a verdict: Postgres, Debezium in
Kafka Connect, Kafka, a copier, Postgres. Healthy it passes, and a planted defect is found at its hop, by key."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from compose.engine import unavailable
from tests.docker.containers import on_an_engine
from tests.docker.foreign.cdc import Bookshop
from tests.docker.foreign.verdicts import NIGHT_WITHIN_S, begun, found_out, passes

pytestmark = [
    pytest.mark.suite("foreign-cdc"),
    pytest.mark.skipif(unavailable() is not None, reason=f"no engine here: {unavailable()}"),
    pytest.mark.timeout(NIGHT_WITHIN_S + 300),
]

KEEPS_DELETED = """
CREATE OR REPLACE FUNCTION planted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE OR REPLACE TRIGGER planted BEFORE DELETE ON orders FOR EACH ROW EXECUTE FUNCTION planted()"""
"""Of a copy that drops deletes."""

LOSES_ROWS = """
CREATE OR REPLACE FUNCTION planted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE OR REPLACE TRIGGER planted BEFORE INSERT ON orders FOR EACH ROW
    WHEN (hashtext(NEW.id::text) % 4 = 0) EXECUTE FUNCTION planted()"""
"""Of a copy that loses one new row in four."""

SOUND = "DROP FUNCTION IF EXISTS planted CASCADE"


@pytest.fixture(scope="module")
def bookshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bookshop]:
    """The platform, up."""
    with on_an_engine(Bookshop, tmp_path_factory.mktemp("books")) as stack:
        yield stack


def written(bookshop: Bookshop, name: str, *options: str) -> int:
    """How many lines a person has touched. The copier's container has the label that lets it be broken."""
    databases = [f"--postgres={bookshop.database(service)}" for service in ("shop-db", "reports-db")]
    return len(begun(bookshop, name, [*databases, *options], {}))


def test_init_and_one_line_are_a_night_that_passes(bookshop: Bookshop) -> None:
    """Rows are changed and deleted while the copier is killed, hung, restarted and held back; a person has said where
    gameday's own database is, and before that, by a label, what may be broken."""
    assert written(bookshop, "shop.toml") == 1
    passes(bookshop, "shop.toml", "copier", "crash", "hang", "restart", "lag")


def test_a_copy_that_drops_deletes_is_found_out(bookshop: Bookshop) -> None:
    """At its hop, with the UUID of a row that should be gone."""
    assert written(bookshop, "deletes.toml") == 1
    bookshop.run_sql(KEEPS_DELETED)
    try:
        found_out(bookshop, "deletes.toml", "copier", "no_duplicates", "orders", "doubled")
    finally:
        bookshop.run_sql(SOUND)


def test_the_same_with_the_canary_alone(bookshop: Bookshop) -> None:
    """No stream of the platform's is declared: gameday's rows come in by the shop's own database."""
    assert written(bookshop, "canary.toml", "--canary") == 1
    passes(bookshop, "canary.toml", "copier", "crash", "hang", "restart", "lag")


def test_the_canary_alone_finds_out_a_copy_that_loses_rows(bookshop: Bookshop) -> None:
    """At its hop, with the UUID of one of gameday's own records."""
    assert written(bookshop, "losses.toml", "--canary") == 1
    bookshop.run_sql(LOSES_ROWS)
    try:
        found_out(bookshop, "losses.toml", "copier", "no_loss", "orders", "lost")
    finally:
        bookshop.run_sql(SOUND)

"""A platform that nobody has described to gameday, on a real engine: what `gameday init` writes of it, a person's
answers in a few lines, and verdicts that hold: healthy it passes, and a planted defect is found at its hop, by key."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from compose.engine import unavailable
from tests.docker.containers import on_an_engine
from tests.docker.foreign.stack import Foreign
from tests.docker.foreign.verdicts import NIGHT_WITHIN_S, begun, found_out, passes

pytestmark = [
    pytest.mark.suite("foreign"),
    pytest.mark.skipif(unavailable() is not None, reason=f"no engine here: {unavailable()}"),
    pytest.mark.timeout(NIGHT_WITHIN_S + 300),
]

LOSSY = "WHERE cityHash64(event_id) % 8 != 0"
"""Of a view that loses one record in eight."""

TESTS = ("crash", "hang", "restart")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Foreign]:
    """The platform, up."""
    with on_an_engine(Foreign, tmp_path_factory.mktemp("shop")) as stack:
        yield stack


def written(shop: Foreign, name: str, struck: str, *options: str) -> int:
    """How many lines a person has touched. struck: the service that may be broken."""
    asked = ("--clickhouse", shop.warehouse, *options)
    return len(begun(shop, name, asked, {"allow = []": f'allow = ["shop-{struck}-1"]'}))


def loses(shop: Foreign, config: str, component: str) -> None:
    """A view that loses records: the table lacks them, and one is named."""
    shop.run_sql(f"ALTER TABLE analytics.activity_mv MODIFY QUERY {shop.view} {LOSSY}")
    try:
        found_out(shop, config, component, "no_loss", "activity", "lost")
    finally:
        shop.run_sql(f"ALTER TABLE analytics.activity_mv MODIFY QUERY {shop.view}")


def test_init_and_two_lines_are_a_night_that_passes(shop: Foreign) -> None:
    """Crash, hang and restart of the log; a person has said where gameday's own database is, and what may be broken."""
    assert written(shop, "shop.toml", "kafka") == 2
    passes(shop, "shop.toml", "broker", *TESTS)


def test_the_same_with_the_canary_alone(shop: Foreign) -> None:
    """No stream of the platform's is declared: gameday's own records are like its messages. The warehouse is broken."""
    assert written(shop, "canary.toml", "clickhouse", "--canary") == 2
    passes(shop, "canary.toml", "clickhouse", *TESTS)


def test_a_view_that_loses_records_is_found_out(shop: Foreign) -> None:
    """At its hop, with the UUID of a record."""
    loses(shop, "shop.toml", "broker")


def test_the_canary_alone_finds_it_out(shop: Foreign) -> None:
    """The same defect, by records that are all gameday's."""
    loses(shop, "canary.toml", "clickhouse")

"""History without its Postgres."""

from __future__ import annotations

import socket

import pytest

from gameday.errors import GamedayError
from gameday.past import database, history
from tests.unit import evidence


@pytest.mark.parametrize("dsn", ["postgresql://gameday:secret-word@127.0.0.1:{port}/gameday", "host={port} = ="])
def test_postgres_away_is_said_with_place_and_remedy(dsn: str) -> None:
    """When nothing listens, the error names the place and the remedy, and never the password."""
    with socket.socket() as taken:  # bound and not listening: a connection is refused, and nobody else gets the port
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(GamedayError, match="Remedy") as away:
            history.record(dsn.format(port=taken.getsockname()[1]), evidence.broker_restart()[0])
    assert "secret-word" not in str(away.value)


def test_migrations_are_numbered_without_gap() -> None:
    """The files apply in the order of their numbers, from 1, each number once."""
    numbers = [number for number, _ in database._migrations()]
    assert numbers == list(range(1, len(numbers) + 1))

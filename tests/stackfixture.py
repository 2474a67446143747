"""One running embedded stack for the session, shared by contract and end-to-end tests; started when first used."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from compose.servers import postgres
from compose.up import clean, down, up
from gameday import lease
from gameday.state import State


@pytest.fixture(scope="session")
def stack_state(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[State]:
    """The state folder of a stack that is up. Who breaks a part of it mends it; after failures its logs are kept."""
    state = State(tmp_path_factory.mktemp("stack"))
    up(state, print)
    lease.hold(state, None)  # no scheduled night starts in the middle of a test
    failed_before = request.session.testsfailed
    try:
        yield state
    finally:
        if request.session.testsfailed > failed_before:
            down(state)
            postgres.remove(state)  # outside of the folder that pytest clears away in time
        else:
            clean(state)

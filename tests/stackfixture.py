"""One embedded stack for the session, shared by contract and end-to-end tests; brought up by who uses it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from compose.servers import alertmanager, postgres, prometheus
from compose.up import clean, down, up
from gameday.errors import GamedayError
from gameday.stack.reading import read_env
from gameday.state import PLATFORM, State
from gameday.undo import lease

__all__ = ["drawn"]


def drawn(state: State, platform: str = PLATFORM) -> dict[str, str]:
    """A stack.env as `up` draws it, by an `up` that is refused right afterwards."""
    with pytest.raises(GamedayError, match="no process nobody"):
        up(state, print, {"nobody": ["/bin/true"]}, platform)
    return read_env(state.env)


@pytest.fixture(scope="module")
def stack_state(session_stack: State) -> State:
    """The state folder of a stack that is up. Who breaks a part of it mends it; who needs another takes it down."""
    up(session_stack, print)
    lease.hold(session_stack, None)  # no scheduled night starts in the middle of a test
    return session_stack


@pytest.fixture(scope="session")
def paging() -> None:
    """Prometheus and Alertmanager, without which the platform's alerts reach nobody."""
    if not (prometheus.get(print) and alertmanager.get(print)):
        pytest.skip("Debian's prometheus can't be had here")


@pytest.fixture(scope="session")
def session_stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[State]:
    """The state folder of the stack that all modules share, up or not; after failures its logs are kept."""
    state = State(tmp_path_factory.mktemp("stack"))
    failed_before = request.session.testsfailed
    try:
        yield state
    finally:
        if request.session.testsfailed > failed_before:
            down(state)
            postgres.remove(state)  # outside of the folder that pytest clears away in time
        else:
            clean(state)

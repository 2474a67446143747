"""One embedded stack for the session, shared by contract and end-to-end tests; brought up by who uses it."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from compose import own
from compose.servers import alertmanager, postgres, prometheus
from compose.up import clean, down, up
from gameday.errors import GamedayError
from gameday.stack.reading import read_env
from gameday.state import PLATFORM, State
from gameday.undo import lease

__all__ = ["brought_up", "drawn"]


def drawn(state: State, platform: str = PLATFORM) -> dict[str, str]:
    """A stack.env as `up` draws it, by an `up` that is refused right afterwards."""
    with pytest.raises(GamedayError, match="no process nobody"):
        up(state, print, {"nobody": ["/bin/true"]}, platform)
    return read_env(state.env)


@contextmanager
def brought_up(platform: str, folder: Path, defect: str = "", worse: Collection[str] = ()) -> Iterator[State]:
    """A platform of its own in this folder, up; no scheduled night starts there. defect: NAME=VALUE in the environment
    of the programs `worse`."""
    state = State(folder)
    replaced = {}
    if worse:
        services = own.processes(own.platform(platform), state, drawn(state, platform), {})
        replaced = {one.name: ("env", defect, *one.argv) for one in services if one.name in worse}
        assert replaced.keys() == set(worse)
    try:
        up(state, functools.partial(print, flush=True), replaced, platform)
        lease.hold(state, None)
        yield state
    finally:
        clean(state)


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

"""Whom root's Postgres runs as: a user id of its own, so that nobody else's processes may read or end it."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from compose.ports import free_ports
from compose.servers import postgres
from compose.service import Service
from gameday.state import State
from tests.contract.conftest import PASSWORD, serving

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a normal user's Postgres runs as that user")


def server(state: State) -> Service:
    postgres.get(state, lambda _: None)
    (port,) = free_ports(1)
    return postgres.process(state, "one-postgres", port, "tester", PASSWORD)


@pytest.fixture
def states(tmp_path: Path) -> Iterator[list[State]]:
    """Of two stacks, of root's both."""
    found = [State(tmp_path / name).ensure() for name in ("a", "b")]
    yield found
    for state in found:
        postgres.remove(state)


def owners(folder: Path) -> set[tuple[int, int]]:
    return {(path.lstat().st_uid, path.lstat().st_gid) for path in (folder, *folder.rglob("*"))}


def test_each_stack_s_server_has_a_user_id_that_nobody_else_has(states: list[State]) -> None:
    """Process, group and data, to the last file; no account has that id, not even `nobody`."""
    ids = set()
    with ExitStack() as running:
        for state in states:
            process = running.enter_context(serving(server(state)))
            status = Path(f"/proc/{process.pid}/status").read_text()
            uid, gid, groups = (
                next(line.split()[1:] for line in status.splitlines() if line.startswith(name))
                for name in ("Uid:", "Gid:", "Groups:")
            )
            assert len({*uid, *gid}) == 1
            assert groups == []
            assert owners(postgres.home(state) / "one-postgres") == {(int(uid[0]), int(gid[0]))}
            with pytest.raises(KeyError):
                pwd.getpwuid(int(uid[0]))
            ids.add(uid[0])
    assert len(ids) == 2


def test_data_that_were_nobody_s_become_its_own(states: list[State]) -> None:
    """A stack that an earlier version made goes on with what it had."""
    state = states[0]
    with serving(server(state)) as _:
        pass
    where = postgres.home(state) / "one-postgres"
    nobody = pwd.getpwnam("nobody").pw_uid
    for path in (where, *where.rglob("*")):
        os.chown(path, nobody, nobody, follow_symlinks=False)
    again = server(state)
    with serving(again), psycopg.connect(str(again.ready)) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert nobody not in {uid for uid, _ in owners(where)}

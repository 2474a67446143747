"""No secret of the stack shows up where people and programs look: not in what a run leaves, nor in what is told."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from gameday.stack.reading import load, read_env
from gameday.state import State
from gameday.system.address import encoded
from tests.e2e.command import gameday

SECRET_ENDS = ("_PASSWORD", "_SECRET", "_TOKEN", "_KEY")


@pytest.fixture(scope="module")
def secrets(stack_state: State) -> list[str]:
    """What `gameday up` has drawn."""
    found = [value for name, value in read_env(stack_state.env).items() if name.endswith(SECRET_ENDS)]
    assert len(found) >= 4
    return found


@pytest.fixture(scope="module")
def run(stack_state: State, secrets: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of what looks at the stack, once there are runs: those of the tests before, else one of its own."""
    folder = tmp_path_factory.mktemp("told")
    commands = [("status", "--json"), ("check", "--json"), ("history",)]
    if not any(stack_state.runs.glob("*/evidence.json")):
        commands.insert(0, ("run", "feed_handler_crash"))
    for number, command in enumerate(commands):
        done = gameday(stack_state, *command)
        (folder / f"output-{number}.txt").write_text(done.stdout + done.stderr)
    return folder


def below(folder: Path) -> Iterator[Path]:
    """What lies in a folder, or itself when it is none. Servers go on making and removing folders meanwhile."""
    if not folder.is_dir():
        yield folder
    for parent, _, names in os.walk(folder):
        yield from (Path(parent, name) for name in names)


def texts(*folders: Path) -> Iterator[tuple[Path, bytes]]:
    for path in (path for folder in folders for path in below(folder)):
        with contextlib.suppress(FileNotFoundError):
            if path.is_file() and not path.is_symlink():
                yield path, path.read_bytes()


def test_a_run_leaves_no_secret_in_any_file(stack_state: State, run: Path, secrets: list[str]) -> None:
    """Results, evidence, samples, logs, report, journal, messages, and what was printed."""
    told = [stack_state.runs, stack_state.nights, stack_state.outbox, stack_state.journal, run]
    found = [str(path) for path, data in texts(*told) for secret in secrets if secret.encode() in data]
    assert found == []


def test_no_server_logs_a_secret(stack_state: State, run: Path, secrets: list[str]) -> None:
    """Of all that the supervisor runs."""
    logs = list(stack_state.servers.glob("*/*.log"))
    assert logs
    found = [str(path) for path, data in texts(*logs) for secret in secrets if secret.encode() in data]
    assert found == []


def test_no_process_has_a_secret_among_its_arguments(stack_state: State, secrets: list[str]) -> None:
    """Every user of the machine can read them. Of all that runs, with what the stack's own processes have started."""
    told = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended
            told[path.parent.name] = path.read_bytes()
    assert sum(str(stack_state.root).encode() in line for line in told.values()) >= 5
    forms = {form.encode() for secret in secrets for form in (secret, encoded(secret))}
    found = [line.replace(b"\0", b" ")[:60] for line in told.values() if any(form in line for form in forms)]
    assert found == []


def test_prefect_keeps_no_secret(stack_state: State, run: Path, secrets: list[str]) -> None:
    """Not in logs, artifacts, parameters, states or events; the block that holds an address is encrypted by Prefect."""
    history = load(state=stack_state).history.get_secret_value()
    with psycopg.connect(history.rpartition("/")[0] + "/prefect") as connection:
        tables = [
            name
            for (name,) in connection.execute(
                "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' AND table_type = %s",
                ("BASE TABLE",),
            )
        ]
        assert "log" in tables
        for name in tables:
            query = f"SELECT count(*) FROM {name} AS t WHERE t::text LIKE ANY(%s)"
            count = connection.execute(query, ([f"%{secret}%" for secret in secrets],)).fetchone()
            assert count == (0,), name


def test_what_holds_secrets_is_its_owners_alone(stack_state: State, secrets: list[str]) -> None:
    """Files of the state folder in which a secret stands, and the folder itself."""
    assert stack_state.root.stat().st_mode & 0o077 == 0
    holding = [
        path for path, data in texts(stack_state.env, stack_state.servers) for s in secrets if s.encode() in data
    ]
    assert stack_state.env in holding
    assert stack_state.env.stat().st_mode & 0o077 == 0
    assert [str(p) for p in holding if p.stat().st_uid != os.geteuid() and p.stat().st_mode & 0o004] == []


def test_sockets_are_their_owners_alone(stack_state: State) -> None:
    """Whoever may connect may break things."""
    sockets = [path for path in below(stack_state.root) if path.is_socket()]
    assert sockets
    assert {path.name: oct(path.stat().st_mode & 0o077) for path in sockets if path.stat().st_mode & 0o077} == {}


def test_an_error_names_the_place_and_not_the_password(stack_state: State) -> None:
    """A history that can't be reached."""
    done = gameday(stack_state, "history", env={"GAMEDAY_PG_PORT": "1", "GAMEDAY_PG_PASSWORD": "not-for-people"})
    assert done.returncode == 3
    assert "127.0.0.1:1/gameday" in done.stderr
    assert "not-for-people" not in done.stdout + done.stderr

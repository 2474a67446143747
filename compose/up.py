"""Starts and stops the embedded stack: `up` gets, starts, awaits and prepares everything, `down` ends everything.

`python -m compose.up up|down|clean [--platform NAME] [--state DIR]`; `gameday up` and `gameday down` call these. own.py
and <platform>/processes.py define the processes; supervisor.py keeps them alive.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import functools
import json
import os
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from compose import own, supervisor
from compose.own import Platform
from compose.ports import free, free_ports, holder
from compose.servers import Report, postgres
from compose.service import Service
from compose.supervisor import tail, write_private
from gameday.errors import Busy, ConfigError, DriverError, GamedayError, TooLate
from gameday.stack.reading import read_env
from gameday.state import PLATFORM, State
from gameday.system.polling import until
from gameday.system.process import Process
from gameday.system.unix import alone

__all__ = ["clean", "down", "main", "up"]

START_S = 180.0
"""How long one process may take from its start until it serves; a busy machine needs most of a minute."""

RESTARTS_MAX = 6
"""A process that died this often before it ever served is given up."""

POLL_S = 0.05
STATUS_S = 15.0
HUNG_S = 5.0
"""A supervisor that doesn't return its status in this time is killed; it answers in milliseconds."""

LEFT_S = 10.0
"""How long processes and ports of a dead stack may take to vanish."""

PORTS_S = 5.0
DISK_MIN_BYTES = 2**30


def up(
    state: State,
    report: Report,
    replace: Mapping[str, Sequence[str]] = {},
    platform: str = PLATFORM,
    only: Collection[str] = (),
) -> None:
    """Bring the whole stack up and prepare it; return when every process serves. On a running stack it does nothing.

    replace: process -> another command line in place of its own. only: start only these of gameday's own processes,
    such as own.SERVERS. Raises GamedayError with the component that failed and the end of its log; what this call
    started is stopped again.
    """
    began = time.monotonic()
    stack = own.platform(platform)
    with _alone(state):
        _same(state, platform)
        if only:
            postgres.get(state, report)
        else:
            own.get(stack, state, report)
        _disk(state)
        running = _status(state)
        env = _environment(state, platform, running is not None)
        specs = own.processes(stack, state, env, replace, only) if running is None else _running(state)
        if running is None:
            _sweep(state)
            _await_ports(env)
            supervisor.launch(state, specs)
        elif replace:
            raise GamedayError("the stack is up already, with its own commands. Remedy: gameday down, then again")
        elif all(p["ready"] for p in running["processes"].values()):
            report(f"already up: {len(specs)} processes serve")
            return
        elif _in_use(state):
            raise Busy("a run holds the stack, and has taken a part of it down. Remedy: await it, or gameday abort")
        try:
            _bring_up(stack, state, env, specs, report)
        except BaseException:
            if running is None:
                _stop(state)
            raise
    report(f"up: {len(specs)} processes serve, after {time.monotonic() - began:.1f} s")


def down(state: State, report: Report = lambda _: None) -> None:
    """Stop everything of this stack, even of one half dead. Data, configuration and logs stay."""
    if not state.check().root.is_dir():
        report("nothing is up")
        return
    with _alone(state):
        was_up = _stop(state)
    report("down" if was_up else "nothing was up")


def clean(state: State, report: Report = lambda _: None) -> None:
    """Stop everything and remove all that the stack stored: state folder, and what root keeps for Postgres."""
    down(state, report)
    postgres.remove(state)
    kept = (state.env, state.lock, state.owner, state.hold, state.journal, state.journal_old)
    for path in (state.servers, state.runs, state.nights, state.metrics, state.prefect, state.outbox, *kept):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        state.root.rmdir()  # fails if other files are there: they aren't ours


# ---- starting --------------------------------------------------------------------------------------------------------


def _bring_up(stack: Platform, state: State, env: Mapping[str, str], specs: Sequence[Service], report: Report) -> None:
    """Start each process once those before it serve and are prepared; one poll loop watches all."""
    preparations = own.preparations(stack, state, env)
    started: dict[str, tuple[float, int]] = {}
    preparing: dict[str, Future[None]] = {}
    done: set[str] = set()
    with ThreadPoolExecutor(len(specs)) as pool:

        def advance() -> bool:
            status = supervisor.ask(state, op="status")["processes"]
            for spec in specs:
                name, now = spec.name, status[spec.name]
                if name not in started:
                    if done.issuperset(spec.after):
                        started[name] = (time.monotonic(), now["restarts"])
                        supervisor.ask(state, op="start", name=name)
                elif not now["ready"]:
                    _still_coming(spec, now, *started[name])
                elif name not in preparing:
                    preparing[name] = pool.submit(preparations.get(name, lambda: None))
                elif preparing[name].done() and name not in done:
                    preparing[name].result()
                    done.add(name)
                    report(f"[{len(done):2}/{len(specs)}] {name}: {time.monotonic() - started[name][0]:.1f} s")
            return len(done) == len(specs) and all(p["ready"] for p in status.values())

        until(advance, START_S * len(specs), POLL_S, "the stack")


def _still_coming(spec: Service, now: Mapping[str, Any], since: float, restarts: int) -> None:
    if now["restarts"] - restarts >= RESTARTS_MAX:
        why = f"died {RESTARTS_MAX} times"
    elif time.monotonic() - since > START_S:
        why = f"does not answer at {spec.ready and spec.ready.rpartition('@')[2]} after {START_S:g} s"
    else:
        return
    raise GamedayError(f"{spec.name} does not come up: it {why}. The end of {spec.log}:\n{tail(spec.log)}")


def _same(state: State, platform: str) -> None:
    """Raise if the state folder belongs to another platform: its servers' data are that platform's."""
    env = read_env(state.env)
    if env and _platform(env) != platform:
        raise ConfigError(
            f"the state folder {state.root} is of the platform {_platform(env)}, not of {platform}. Remedy: "
            f"gameday --platform {_platform(env)}, or another folder with --state"
        )


def _platform(env: Mapping[str, str]) -> str:
    """Return the platform of a stack.env."""
    return env.get("PLATFORM", PLATFORM)


def _ports(env: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names of the ports in a stack.env."""
    return tuple(name for name in (*own.PORTS, *own.platform(_platform(env)).PORTS) if name in env)


def _environment(state: State, platform: str, running: bool) -> dict[str, str]:
    """Read stack.env, or draw and write it; add names that are missing."""
    stack = own.platform(platform)
    env = read_env(state.env)
    if not env and supervisor.specification(state).exists():
        raise GamedayError(
            f"{state.env}, with the ports and passwords of the servers in {state.servers}, is gone. "
            "Remedy: put it back, or `make clean` and start with empty servers"
        )
    new = [name for name in (*own.PORTS, *stack.PORTS) if name not in env]
    drawn = free_ports(len(new), besides={int(v) for k, v in env.items() if k.endswith("_PORT")}) if new else []
    more = {name: str(port) for name, port in zip(new, drawn, strict=True)}
    more |= {name: secrets.token_urlsafe(18) for name in (*own.SECRETS, *stack.SECRETS) if name not in env}
    env |= more
    places = {
        "PLATFORM": platform,
        "SUPERVISOR_SOCKET": str(state.supervisor_socket),
        "STACK_FOLDER": str(state.servers),
    }
    optional = own.places(env)
    places |= {name: env.get(name, "") for name in optional} if running else optional
    if more or not places.items() <= env.items():
        env = {**env, **places}
        write_private(state.env, "".join(f"{name}={value}\n" for name, value in env.items()))
    return env


def _await_ports(env: Mapping[str, str]) -> None:
    """Wait until our ports are free: a killed process ends a little before its sockets do."""

    def taken() -> list[str]:
        return [name for name in _ports(env) if not free(int(env[name]))]

    try:
        until(lambda: not taken(), PORTS_S, POLL_S, "free ports")
    except TooLate as e:
        for name in taken():
            raise GamedayError(
                f"port {env[name]}, drawn as {name}, is taken by {holder(int(env[name]))}. "
                f"Remedy: end that process, or give {name} another value in stack.env"
            ) from e


def _disk(state: State) -> None:
    for folder in {state.servers, postgres.home(state)}:
        folder.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(folder).free < DISK_MIN_BYTES:
            raise GamedayError(
                f"less than {DISK_MIN_BYTES >> 20} MiB are free for {folder}: servers would fail at random. "
                "Remedy: make room, or choose another place with GAMEDAY_STATE"
            )


# ---- stopping --------------------------------------------------------------------------------------------------------


def _stop(state: State) -> bool:
    """Shut the supervisor down, by force if it doesn't answer; end what is left. Return whether anything was up."""
    pid = supervisor.pid_of(state)
    if pid is not None:
        process = Process.of(pid)
        with contextlib.suppress(DriverError):
            supervisor.ask(state, HUNG_S, op="status")
            supervisor.ask(state, op="shutdown")

        def gone() -> bool:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)  # it is our child when this process started it
            return process is None or not process.alive

        try:
            until(gone, LEFT_S, POLL_S, "the supervisor's end")
        except TooLate:
            if process:
                process.send(signal.SIGKILL)  # its children die with it
            until(gone, LEFT_S, POLL_S, f"the end of the supervisor, process {pid}")
    state.supervisor_socket.unlink(missing_ok=True)
    was_up = _sweep(state) or pid is not None
    if was_up:
        _await_ports(read_env(state.env))
    return was_up


def _sweep(state: State) -> bool:
    """End processes that a supervisor of this stack started and that outlived it. Return whether there were any."""
    found = False
    for stray in _strays(state):
        found = True
        stray.send(signal.SIGKILL)
    if found:
        until(lambda: not list(_strays(state)), LEFT_S, POLL_S, "the end of processes of an earlier stack")
    return found


def _strays(state: State) -> Iterator[Process]:
    """Yield live processes that have this stack's mark in their environment."""
    mark = f"{supervisor.MARK}={state.root}".encode()
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        with contextlib.suppress(OSError):
            found = Process.of(pid)
            if found and pid != os.getpid() and mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                yield found


# ---- small things ----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _alone(state: State) -> Iterator[None]:
    """Let only one `up` or `down` of a stack run at a time."""
    state.ensure()
    with alone(state.root, "another `gameday up` or `gameday down`"):
        yield


def _status(state: State) -> dict[str, Any] | None:
    """Return the supervisor's status; None: there is no supervisor. Raises when one doesn't answer."""
    try:
        return supervisor.ask(state, STATUS_S, op="status")
    except DriverError as e:
        if e.definite:
            return None
        raise GamedayError(f"{e}. Remedy: gameday down, then again") from e


def _in_use(state: State) -> bool:
    """Whether a run holds the stack's lock now."""
    try:
        with state.lock.open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _running(state: State) -> list[Service]:
    return [Service.from_json(p) for p in json.loads(supervisor.specification(state).read_text())]


def main() -> None:
    """Run the command line, for set-up and tests, which have no `gameday` command yet."""
    parser = argparse.ArgumentParser(prog="python -m compose.up", description=__doc__)
    parser.add_argument("what", choices=("up", "down", "clean"))
    parser.add_argument("--platform", default=PLATFORM)
    parser.add_argument("--state", type=lambda p: State(Path(p).resolve()))
    arguments = parser.parse_args()
    state = arguments.state or (State.default() if arguments.platform == PLATFORM else State.of(arguments.platform))
    start = functools.partial(up, platform=arguments.platform)
    commands: Mapping[str, Callable[[State, Report], None]] = {"up": start, "down": down, "clean": clean}
    try:
        commands[arguments.what](state, functools.partial(print, flush=True))
    except GamedayError as e:
        sys.exit(f"{e}")


if __name__ == "__main__":
    main()

"""Defines gameday's own servers, one set for every platform: its Postgres, Prefect's server and worker, the reconciler,
Toxiproxy, the inbox of messages to people, Prometheus and Alertmanager.

compose/<name>/processes.py defines a platform's other processes; supervisor.py keeps all of them alive.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace as changed
from pathlib import Path
from typing import Protocol, cast

from compose.servers import Report, alertmanager, postgres, prefect, prometheus, toxiproxy
from compose.service import Service, python
from gameday.errors import ConfigError, GamedayError
from gameday.stack.reading import platform_config
from gameday.state import ROOT, State

__all__ = [
    "ALERTS_QUICKENED",
    "PORTS",
    "SECRETS",
    "SERVERS",
    "Platform",
    "databases",
    "get",
    "places",
    "platform",
    "preparations",
    "processes",
    "run",
]

PORTS = (
    *("TOXIPROXY_PORT", "GAMEDAY_PG_PORT", "PREFECT_PORT", "PREFECT_WORKER_PORT"),
    *("PAGER_PORT", "PROMETHEUS_PORT", "ALERTMANAGER_PORT"),
)
SECRETS = ("GAMEDAY_PG_PASSWORD", "PREFECT_PASSWORD", "PAGER_TOKEN")
"""The secrets in stack.env, besides the platform's own. It also has PLATFORM, SUPERVISOR_SOCKET, STACK_FOLDER and
`places`."""

SERVERS = ("gameday-postgres", "prefect-server")
"""The servers that gameday needs for a platform from outside this checkout."""

ALERTS_QUICKENED = 8.0
"""How many times shorter `for` is here: two minutes are 15 s, longer than a restart, and short enough for a test."""

LATE_NICENESS = 5
"""The niceness of processes that may be late, so that the platform on the same cores is not."""

PREPARE_TIMEOUT_S = 180.0


class Platform(Protocol):
    """What compose/<name>/processes.py offers. port: every port of the stack by its name without _PORT."""

    CONFIG: Path
    """its gameday.toml"""
    RULES: Path
    """its alerts, with production's waits"""
    PORTS: tuple[str, ...]
    SECRETS: tuple[str, ...]

    def get(self, state: State, report: Report) -> None:
        """Get its servers. Idempotent; what an earlier, interrupted call got is kept."""

    def links(self, port: Mapping[str, int]) -> list[toxiproxy.Link]:
        """Return the links through Toxiproxy."""

    def targets(self, port: Mapping[str, int]) -> list[prometheus.Target]:
        """What Prometheus scrapes."""

    def processes(self, state: State, env: Mapping[str, str], port: Mapping[str, int]) -> list[Service]:
        """Write their configuration, return the platform's processes in dependency order."""

    def preparations(self, state: State, env: Mapping[str, str]) -> Mapping[str, Callable[[], None]]:
        """Return service -> what must be done once it serves, before those after it start. All idempotent."""


def platform(name: str) -> Platform:
    """Return the platform of that name. Raises ConfigError, which lists the known ones."""
    platform_config(name)
    return cast("Platform", importlib.import_module(f"compose.{name}.processes"))


def get(stack: Platform, state: State, report: Report) -> None:
    """Get every server, the platform's and gameday's own. Idempotent."""
    stack.get(state, report)
    toxiproxy.get(report)
    postgres.get(state, report)
    if prometheus.get(report):
        alertmanager.get(report)


def places(env: Mapping[str, str]) -> Mapping[str, str]:
    """Return the variables that follow from the others: addresses, which are empty if the server can't be had."""
    local = "http://127.0.0.1"
    return {
        "PROMETHEUS_URL": f"{local}:{env['PROMETHEUS_PORT']}" if prometheus.found() else "",
        "ALERTMANAGER_URL": f"{local}:{env['ALERTMANAGER_PORT']}" if _pages() else "",
    }


def _pages() -> bool:
    """Whether the platform's alerts reach the pager here. They are judged in any case."""
    return prometheus.found() and alertmanager.found()


def processes(
    stack: Platform,
    state: State,
    env: Mapping[str, str],
    replace: Mapping[str, Sequence[str]],
    only: Collection[str] = (),
) -> list[Service]:
    """Write their configuration, return all processes, or only some, in dependency order. replace: name -> other
    command line."""
    port = {name.removesuffix("_PORT"): int(env[name]) for name in (*PORTS, *stack.PORTS)}
    folder = state.servers
    home = folder / "prefect-server"
    server = prefect.server(
        home, port["PREFECT"], _history(env, "prefect"), env["PREFECT_PASSWORD"], after=("gameday-postgres",)
    )
    worker = prefect.worker(
        *("prefect-worker", folder / "prefect-worker", home),
        *(port["PREFECT"], env["PREFECT_PASSWORD"], port["PREFECT_WORKER"]),
        {**_flows_env(stack, state), "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"},
    )
    found = [
        postgres.process(state, "gameday-postgres", port["GAMEDAY_PG"], "gameday", env["GAMEDAY_PG_PASSWORD"]),
        changed(server, niceness=LATE_NICENESS),
        toxiproxy.process(folder / "toxiproxy", port["TOXIPROXY"], stack.links(port)),
        *stack.processes(state, env, port),
        _pager(folder / "pager", port["PAGER"]),
        _reconciler(folder / "reconciler", stack, state),
        changed(worker, niceness=LATE_NICENESS),
        *((_alertmanager(folder, port),) if _pages() else ()),
        *((_prometheus(folder, stack, port),) if prometheus.found() else ()),
    ]
    if unknown := set(replace) - {p.name for p in found}:
        raise ConfigError(f"no process {', '.join(sorted(unknown))}. Known: {', '.join(p.name for p in found)}")
    chosen = [p for p in found if not only or p.name in only]
    return [changed(p, argv=tuple(replace[p.name])) if p.name in replace else p for p in chosen]


def preparations(stack: Platform, state: State, env: Mapping[str, str]) -> Mapping[str, Callable[[], None]]:
    """Return service -> what must be done once it serves, before those after it start. All idempotent."""
    api = prefect.environment(state.servers / "prefect-server", int(env["PREFECT_PORT"]), env["PREFECT_PASSWORD"])
    return {
        "gameday-postgres": lambda: databases(_history(env, "postgres"), "gameday", "prefect"),
        "prefect-worker": lambda: run("deployments.register", env={**api, **_flows_env(stack, state)}),
        **stack.preparations(state, env),
    }


# ---- gameday's own processes -----------------------------------------------------------------------------------------


def _pager(folder: Path, port: int) -> Service:
    folder.mkdir(parents=True, exist_ok=True)
    arguments = ("-m", "pipelines.pager", "--port", str(port), "--file", str(folder / "alerts.jsonl"))
    return python("pager", folder, *arguments, ready=f"http://127.0.0.1:{port}/healthz")


def _reconciler(folder: Path, stack: Platform, state: State) -> Service:
    folder.mkdir(parents=True, exist_ok=True)
    arguments = ("-m", "gameday.undo.reconciler", "--config", str(stack.CONFIG), "--state", str(state.root))
    return python("reconciler", folder, *arguments)


def _alertmanager(folder: Path, port: Mapping[str, int]) -> Service:
    pager = f"http://127.0.0.1:{port['PAGER']}/alerts"
    return alertmanager.process(folder / "alertmanager", port["ALERTMANAGER"], pager)


def _prometheus(folder: Path, stack: Platform, port: Mapping[str, int]) -> Service:
    rules = prometheus.quickened(stack.RULES.read_text(), ALERTS_QUICKENED)
    manager = port["ALERTMANAGER"] if _pages() else None
    return prometheus.process(folder / "prometheus", port["PROMETHEUS"], stack.targets(port), rules, manager)


def _flows_env(stack: Platform, state: State) -> dict[str, str]:
    return {"GAMEDAY_STATE": str(state.root), "GAMEDAY_CONFIG": str(stack.CONFIG)}


def _history(env: Mapping[str, str], database: str) -> str:
    return postgres.url(int(env["GAMEDAY_PG_PORT"]), "gameday", env["GAMEDAY_PG_PASSWORD"], database)


# ---- preparing -------------------------------------------------------------------------------------------------------


def databases(server: str, *names: str) -> None:
    """Create what is missing of these databases; `server`: URL of any other one there."""
    for name in names:
        postgres.create_database(server, name)


def run(module: str, *arguments: str, env: Mapping[str, str]) -> None:
    """Run one of the checkout's modules to its end."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            env={**os.environ, **env, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PREPARE_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as e:
        raise GamedayError(f"python -m {module} did not end within {PREPARE_TIMEOUT_S:g} s") from e
    if done.returncode:
        text = (done.stdout + done.stderr).strip()[-2000:]
        raise GamedayError(f"python -m {module} ended with {done.returncode}:\n{text}")

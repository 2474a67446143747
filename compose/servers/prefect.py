"""Runs Prefect's server on gameday's own Postgres, gameday's worker, and the worker of the platform's own flows.

deployments/register.py and the pipelines deploy flows there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from compose.service import Service, python

__all__ = ["USER", "auth_string", "environment", "server", "worker"]

USER = "gameday"

GAMEDAYS_WORKER = (
    *("-m", "prefect", "worker", "start", "--pool", "gameday", "--type", "process", "--with-healthcheck"),
    *("--name", "gameday", "--install-policy", "never"),
)
"""This command creates the pool as well."""

WORKER_QUERY_S = 2
STOP_S = 5.0
"""The grace of a stop: the server may wait for its clients; its data are in Postgres."""


def auth_string(password: str) -> str:
    """Return the string that the server demands of its clients."""
    return f"{USER}:{password}"


def environment(folder: Path, port: int, password: str) -> dict[str, str]:
    """Return the environment that all Prefect processes of the stack share. folder: their PREFECT_HOME."""
    return {
        "PREFECT_HOME": str(folder),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_API_AUTH_STRING": auth_string(password),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_CLI_PROMPT": "false",
        "PREFECT_LOGGING_COLORS": "false",
    }


def server(folder: Path, port: int, database: str, password: str, after: tuple[str, ...]) -> Service:
    """database: URL of an existing, empty or Prefect's own database.

    A client that may make flow runs can have the workers run any command as their user. So on this machine every client
    needs the password, and no web page of another origin may read an answer.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        **environment(folder, port, password),
        "PREFECT_SERVER_API_AUTH_STRING": auth_string(password),
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"http://127.0.0.1:{port}",  # its own page's; the default is everybody's
        "PREFECT_API_DATABASE_CONNECTION_URL": database.replace("postgresql://", "postgresql+asyncpg://", 1),
        "PREFECT_SERVER_UI_API_URL": "/api",  # relative: the page works behind any forwarded port
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
        "PREFECT_LOGGING_SERVER_LEVEL": "WARNING",
        # In memory, the default, a restarted server would forget who holds which concurrency slot.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        # Each look costs a query for every run that was cancelled within a day: a third of the server, every 20 s.
        "PREFECT_SERVER_SERVICES_CANCELLATION_CLEANUP_LOOP_SECONDS": "300",
    }
    return python(
        "prefect-server",
        folder,
        *("-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)),
        env=settings,
        ready=f"http://127.0.0.1:{port}/api/health",
        grace_s=STOP_S,
        after=after,
    )


def worker(
    name: str,
    folder: Path,
    home: Path,
    port: int,
    password: str,
    health_port: int,
    env: Mapping[str, str],
    argv: Sequence[str] = GAMEDAYS_WORKER,
    after: tuple[str, ...] = ("prefect-server",),
) -> Service:
    """Return a process worker. env: further variables for the flows that it runs. argv: the command that serves its
    pool."""
    scratch = folder / "tmp"
    scratch.mkdir(parents=True, exist_ok=True)
    settings = {
        **environment(home, port, password),
        "TMPDIR": str(scratch),  # the worker's runner uses <tmp>/runner_storage, which another user's may own
        "PREFECT_WORKER_QUERY_SECONDS": str(WORKER_QUERY_S),
        "PREFECT_WORKER_WEBSERVER_HOST": "127.0.0.1",
        "PREFECT_WORKER_WEBSERVER_PORT": str(health_port),
        **env,
    }
    return python(name, folder, *argv, env=settings, ready=f"http://127.0.0.1:{health_port}/health", after=after)

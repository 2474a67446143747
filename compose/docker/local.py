"""Runs the stack in containers on gameday's own engine, with images made here: it pulls nothing, touches nothing else.

`python -m compose.docker.local up|down [--state DIR]`, as root. `up` starts the engine, makes the image, gets the
servers, draws ports and secrets, and returns when every container is healthy; `down` leaves nothing.
"""

from __future__ import annotations

import argparse
import functools
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from compose.docker import env
from compose.engine import Engine, host_image, install
from compose.servers import Report, alertmanager, kafka, prometheus, toxiproxy
from gameday.errors import GamedayError
from gameday.stack.reading import read_env
from gameday.state import ROOT, State

__all__ = ["Containers", "main"]

IMAGE = "gameday-local"
PACKAGES = {"haproxy": "haproxy"}
"""Program -> Debian's package, for what the override needs and no wheel has."""

FILES = tuple(str(ROOT / "compose" / name) for name in ("docker-compose.yml", "docker-compose.local.yml"))
OFFLOAD_INTERVAL_S = 30
"""As in the embedded stack: with fifteen minutes a test would wait for an hour."""

HEALTHY_WITHIN_S = 420
COMPOSE_WITHIN_S = HEALTHY_WITHIN_S + 180
LOG_LINES = 40


@dataclass(frozen=True)
class Containers:
    """The stack whose state is in this folder."""

    state: State

    @property
    def engine(self) -> Engine:
        return Engine(self.state.engine)

    @property
    def env(self) -> Mapping[str, str]:
        """The environment of gameday and Compose: names as in env.example, and this engine's address."""
        return {**read_env(self.state.env), **self.engine.env}

    def up(self, report: Report) -> None:
        """Start it. Raises GamedayError with the ends of the containers' logs; what was started stays, for a look."""
        kafka.get(report)
        toxiproxy.get(report)
        if not (prometheus.get(report) and alertmanager.get(report)):
            raise GamedayError("the compose file has a Prometheus and an Alertmanager, which can't be had here")
        self.engine.up(report)
        install(report, PACKAGES)
        host_image(self.engine, IMAGE)
        env.write(
            self.state.env,
            {
                "GAMEDAY_STATE": str(self.state.root),
                "ENGINE_SOCKET": str(self.engine.socket),
                "OFFLOAD_INTERVAL_S": str(OFFLOAD_INTERVAL_S),
            },
        )
        started = self.compose("up", "--detach", "--wait", "--wait-timeout", str(HEALTHY_WITHIN_S), "--quiet-pull")
        if started.returncode:
            raise GamedayError(f"the containers don't come up: {started.stderr[-2000:]}\n{self.logs()}")
        report(f"up: {len(self.compose('ps', '--quiet').stdout.split())} containers are healthy")

    def down(self, report: Report = lambda _: None) -> None:
        """Remove containers, networks, volumes and the engine's data; gameday's own state stays."""
        self.engine.clean(report)

    def compose(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`docker compose` with our files, run to its end."""
        files = [part for file in FILES for part in ("-f", file)]
        try:
            return subprocess.run(
                ["docker", "compose", "--progress", "plain", *files, *arguments],
                env={**os.environ, **self.env, "CHECKOUT": str(ROOT), "PYTHON_HOME": _python_home()},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=COMPOSE_WITHIN_S,
            )
        except subprocess.TimeoutExpired as e:
            raise GamedayError(f"docker compose {' '.join(arguments)} did not end within {COMPOSE_WITHIN_S} s") from e

    def logs(self) -> str:
        """Return each container's state, and the ends of the logs."""
        shown = self.compose("ps", "--all", "--format", "{{.Service}}: {{.Status}}").stdout
        return shown + self.compose("logs", "--no-color", "--tail", str(LOG_LINES)).stdout


def _python_home() -> str:
    """Return the Python under the virtual environment; /usr itself is mounted already, and can't be twice."""
    return "/usr/local" if sys.base_prefix == "/usr" else sys.base_prefix


def main() -> int:
    """Exit 130 after Ctrl-C, with everything taken down."""
    parser = argparse.ArgumentParser(prog="python -m compose.docker.local", description=__doc__)
    parser.add_argument("what", choices=("up", "down"))
    parser.add_argument("--state", type=lambda p: State(Path(p).resolve()), default=State(env.STATE))
    arguments = parser.parse_args()
    containers, say = Containers(arguments.state), functools.partial(print, flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        if arguments.what == "down":
            containers.down(say)
            return 0
        try:
            containers.up(say)
        except BaseException:
            containers.down(say)
            raise
    except GamedayError as e:
        print(e, file=sys.stderr)  # noqa: T201
        return e.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

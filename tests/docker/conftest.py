"""The stack in containers, up for the session on an engine of our own; down with it, also after Ctrl-C."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from compose.docker.local import Containers
from compose.engine import unavailable
from gameday.state import State
from gameday.undo import lease

ENDS_WITHIN_S = 240.0
WORKER_WITHIN_S = 240


@dataclass(frozen=True)
class Platform:
    """The running containers, and gameday beside them: where their published ports are."""

    containers: Containers

    @property
    def state(self) -> State:
        return self.containers.state

    @property
    def environment(self) -> Mapping[str, str]:
        return {**os.environ, **self.containers.env, "COLUMNS": "120"}

    def command(self, *arguments: str) -> list[str]:
        """That line of `gameday`, to be run with `environment`."""
        return self.containers.engine.at(str(Path(sys.executable).with_name("gameday")), *arguments)

    def gameday(self, *arguments: str, within_s: float = ENDS_WITHIN_S) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        return subprocess.run(
            self.command(*arguments),
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=within_s,
            check=False,
        )


@pytest.fixture(scope="session")
def platform(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """Every container is healthy. After failures their logs are shown."""
    if why := unavailable():
        pytest.fail(f"no engine can be started here: {why}")
    containers = Containers(State(tmp_path_factory.mktemp("d")).ensure())
    failed_before = request.session.testsfailed
    try:
        containers.up(print)
        yield Platform(containers)
        if request.session.testsfailed > failed_before:
            print(containers.logs())
    finally:
        containers.down(print)


@pytest.fixture(scope="session")
def nights(platform: Platform) -> Platform:
    """With the worker, the reconciler and the filter of the engine's socket that scheduled nights have; no night starts
    by itself."""
    lease.hold(platform.state, None)
    wait = ("--wait", "--wait-timeout", str(WORKER_WITHIN_S))
    started = platform.containers.compose("--profile", "nights", "up", "--detach", *wait)
    assert started.returncode == 0, started.stderr + platform.containers.logs()
    return platform

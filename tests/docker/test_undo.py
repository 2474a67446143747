"""Run and guardian are killed while a container is stopped: the reconciler starts it again."""

from __future__ import annotations

import signal
import subprocess
from typing import Any

import pytest

from gameday.stack.live import open_stack
from gameday.system.polling import until
from gameday.undo import lease
from gameday.undo.journal import Journal
from tests.docker.conftest import Platform

STARTS_WITHIN_S = 120.0
HEALS_WITHIN_S = 30.0

pytestmark = [pytest.mark.suite("docker"), pytest.mark.timeout(900)]


def test_a_stopped_container_comes_back_without_its_run(nights: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal tells what is open, whoever is gone; the reconciler is a container itself."""
    platform = nights
    for name, value in platform.containers.env.items():
        monkeypatch.setenv(name, value)
    stack = open_stack(state=platform.state)
    host, role, journal = stack.host("handler-binance"), "handler-binance", Journal(platform.state.journal)
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": platform.environment}
    with subprocess.Popen(platform.command("run", "feed_handler_crash"), **quiet) as run:
        try:
            until(
                lambda: journal.open_acts() and host.identity(role) is None, STARTS_WITHIN_S, what="the container's end"
            )
            holder = lease.holder(platform.state)
            assert holder is not None
            holder.guardian.send(signal.SIGKILL)
            holder.owner.send(signal.SIGKILL)
            until(lambda: not journal.open_acts(), HEALS_WITHIN_S, what="the reconciler")
            assert host.identity(role) is not None
            assert {act.healed_by for act in journal.acts(holder.run)} == {"the reconciler"}
        finally:
            run.kill()

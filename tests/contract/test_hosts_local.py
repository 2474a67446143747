"""The local host against the real supervisor, with processes that have children, ignore signals, or end at once."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from compose import supervisor
from compose.service import Service
from gameday.errors import DriverError
from gameday.faults.kill import Kill
from gameday.faults.pause import Pause
from gameday.faults.restart import Restart
from gameday.faults.stop import Stop
from gameday.hosts.local import Host
from gameday.model import Json
from gameday.polling import until
from gameday.process import Process, descendants
from gameday.stack import Stack, open_stack
from gameday.state import ROOT, State
from tests.fakes import write_config

FAMILY = (
    "import subprocess; subprocess.Popen(['sleep', '1000']); subprocess.run(['sh', '-c', 'sleep 1000 & sleep 1000'])"
)
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(1000)"
)

ROLES = ("web", "family", "stubborn")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack of its own, with a socket path that is too long for the kernel."""
    folder = tmp_path_factory.mktemp(
        "a-state-folder-whose-name-is-much-longer-than-a-socket-address-may-be-in-the-kernel"
    )
    state = State(folder)
    specs = {
        "web": ("sleep", "1000"),
        "family": (sys.executable, "-c", FAMILY),
        "stubborn": (sys.executable, "-c", STUBBORN),
    }
    state.servers.mkdir()
    text = [dataclasses.asdict(Service(name, argv, str(folder), grace_s=0.5)) for name, argv in specs.items()]
    supervisor.specification(state).write_text(json.dumps(text))
    opened = open_stack(write_config(folder, opted_in=ROLES, others=()), state)
    command = [sys.executable, "-m", "compose.supervisor", str(folder)]
    with (
        (folder / "supervisor.log").open("wb") as log,
        subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log) as it,
    ):
        until(lambda: supervisor.pid_of(state), within_s=15, what="the supervisor")
        yield opened
        it.terminate()
        it.wait(15)


@pytest.fixture
def host(stack: Stack) -> Iterator[Host]:
    """The host, every process running; and so again at the end."""
    made = stack.named_host("local")
    assert isinstance(made, Host)
    for role in ROLES:
        made.start(role)
        made.resume(role)
    yield made
    for role in ROLES:
        made.resume(role)
        made.start(role)


def identity(host: Host, role: str) -> Json:
    found = host.identity(role)
    assert found is not None
    return found


def test_identity_is_who_runs_now(host: Host) -> None:
    """The same as long as it lives, another after a restart, nobody while it is down."""
    first = identity(host, "web")
    assert identity(host, "web") == first
    assert Process.parse(first).alive
    host.stop("web", 5.0)
    assert host.identity("web") is None
    assert not Process.parse(first).alive
    host.start("web")
    second = identity(host, "web")
    assert second["pid"] != first["pid"]
    assert second["started_us"] > first["started_us"]


def test_start_and_stop_are_idempotent(host: Host) -> None:
    """Asking for what already is, is fine."""
    first = identity(host, "web")
    host.start("web")
    assert identity(host, "web") == first
    host.stop("web", 5.0)
    host.stop("web", 5.0)
    assert host.identity("web") is None


def test_a_stopped_component_stays_down(stack: Stack, host: Host) -> None:
    """Its autorestart is off until it is started: the proof of a held fault waits longer than a revival takes."""
    fault = Stop("web")
    before = fault.before(stack)
    fault.act(stack, before, "r1-1")
    assert fault.bit(stack, before)
    fault.heal(stack, before)
    assert host.identity("web") is not None


def test_a_stubborn_component_is_killed_after_its_grace(stack: Stack, host: Host) -> None:
    """A stop returns when the process is gone, whatever that takes."""
    log = stack.state.root / "stubborn.log"
    until(lambda: "deaf" in log.read_text(), within_s=10)
    host.stop("stubborn", 0.2)
    assert host.identity("stubborn") is None


def test_a_killed_component_is_revived_by_its_supervisor(stack: Stack, host: Host) -> None:
    """Kill leaves the revival to the platform: nobody starts it but its supervisor."""
    fault = Kill("web")
    before = fault.before(stack)
    fault.act(stack, before, "r1-1")
    assert until(lambda: fault.bit(stack, before), within_s=5)
    new = until(lambda: host.identity("web"), within_s=8, what="the revival")
    assert new != before["identity"]


def test_only_that_very_identity_is_killed(host: Host) -> None:
    """After a restart the old identity is refused, and the new process lives."""
    old = identity(host, "web")
    host.stop("web", 5.0)
    with pytest.raises(DriverError, match="nobody runs now") as failed:
        host.kill("web", old)
    assert failed.value.definite
    host.start("web")
    new = identity(host, "web")
    for wrong in (old, {**new, "start_ticks": new["start_ticks"] - 1}, {**new, "boot_id": "another"}):
        with pytest.raises(DriverError, match="not the process that was to be killed"):
            host.kill("web", wrong)
    assert identity(host, "web") == new


@pytest.mark.parametrize("how", ["graceful", "sigkill"])
def test_a_restart_is_proved_by_someone_new(stack: Stack, host: Host, how: str) -> None:
    """Both ways end with a new process, started once."""
    fault = Restart("web", how=how)
    before = fault.before(stack)
    assert fault.bit(stack, before) is None
    fault.act(stack, before, "r1-1")
    assert until(lambda: fault.bit(stack, before), within_s=5)


def test_pause_freezes_the_whole_family(stack: Stack, host: Host) -> None:
    """A process and all below it, in any session, stop and go on where they were."""
    fault = Pause("family")
    before = fault.before(stack)
    root = before["identity"]["pid"]
    until(lambda: len(descendants(root)) >= 4, within_s=10, what="the family")
    fault.act(stack, before, "r1-1")
    assert all(p.stopped for p in descendants(root))
    assert fault.bit(stack, before)
    assert host.paused("family")
    host.pause("family")
    fault.heal(stack, before)
    fault.heal(stack, before)
    assert not any(p.stopped for p in descendants(root))
    assert not host.paused("family")
    assert identity(host, "family") == before["identity"]


def test_a_pause_is_not_claimed_for_somebody_else(stack: Stack, host: Host) -> None:
    """A successor that runs is no proof, and what doesn't run can't be paused."""
    fault = Pause("web")
    before = fault.before(stack)
    fault.act(stack, before, "r1-1")
    host.stop("web", 1.0)
    assert fault.bit(stack, before) is None
    with pytest.raises(DriverError, match="does not run"):
        host.pause("web")
    assert not host.paused("web")
    host.resume("web")


def test_a_frozen_component_can_be_stopped(host: Host) -> None:
    """Healing in any order: a stop ends a paused process too."""
    host.pause("web")
    host.stop("web", 1.0)
    assert host.identity("web") is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_users_process_is_refused_with_a_remedy(tmp_path: Path) -> None:
    """Signals are sent only where they are permitted, and the error says what to do."""
    script = (
        "import os, sys\n"
        "from gameday.hosts.local import Host\n"
        "from gameday.process import Process\n"
        "import signal\n"
        "target = Process.of(int(sys.argv[1]))\n"
        "os.setuid(65534)\n"
        "Host('unused', {})._send('web', target, signal.SIGKILL)\n"
    )
    with subprocess.Popen(["sleep", "1000"]) as innocent:
        done = subprocess.run(
            [sys.executable, "-c", script, str(innocent.pid)], capture_output=True, text=True, check=False
        )
        assert innocent.poll() is None
        innocent.send_signal(signal.SIGKILL)
    assert "web: process" in done.stderr
    assert "belongs to another user: SIGKILL is not permitted. Remedy" in done.stderr

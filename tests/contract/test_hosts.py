"""One suite for every host: what a component can be made to do, and how that is undone, on real processes and real
containers alike. What only one kind of host has is in test_hosts_toxiproxy and test_hosts_docker.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gameday.errors import ConfigError, DriverError
from gameday.faults.kill import Kill
from gameday.faults.pause import Pause
from gameday.faults.restart import Restart
from gameday.faults.stop import Stop
from gameday.model import Json
from gameday.ports import Fault, Held, Holds, Lives
from gameday.system.polling import until
from gameday.system.process import Process, descendants
from gameday.undo import mending
from tests.hostrigs import BYSTANDER, RIGS, ROLES, Rig, frozen

GRACE_S = 3.0

FAULTS: dict[str, Callable[[Rig], Any]] = {
    "stop": lambda _: Stop("web", grace_s=GRACE_S),
    "stop sigkill": lambda _: Stop("web", how="sigkill"),
    "pause": lambda _: Pause("web"),
    "kill": lambda _: Kill("web"),
    "restart": lambda _: Restart("web", grace_s=GRACE_S),
    "restart sigkill": lambda _: Restart("web", how="sigkill"),
    "partition": lambda rig: rig.partition(),
}


@pytest.fixture(scope="module", params=RIGS)
def one_rig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with RIGS[request.param](tmp_path_factory) as made:
        yield made


@pytest.fixture
def rig(one_rig: Rig) -> Iterator[Rig]:
    """Every component running, and so again at the end."""
    _run_all(one_rig)
    until(one_rig.answered, 15, 0.05, "web to answer")
    yield one_rig
    _run_all(one_rig)


def _run_all(rig: Rig) -> None:
    for role in ROLES:
        host: Any = rig.stack.host(role)
        host.resume(role)
        host.start(role)
    until(rig.answered, 15, 0.05, "web to answer")
    assert mending.nothing_left(rig.stack) == []


@pytest.fixture
def host(rig: Rig) -> Any:
    return rig.stack.host("web")


def identity(host: Any, role: str) -> Json:
    found = host.identity(role)
    assert found is not None
    return found


@pytest.fixture(params=FAULTS)
def fault(request: pytest.FixtureRequest, rig: Rig) -> Any:
    return FAULTS[request.param](rig)


# ---- who runs, start, stop -------------------------------------------------------------------------------------------


def test_identity_is_who_runs_now(host: Any) -> None:
    """The same as long as it lives, another after a restart, nobody while it is down."""
    first = identity(host, "web")
    assert identity(host, "web") == first
    process = Process.of(first["pid"])
    assert process is not None
    host.stop("web", GRACE_S)
    assert host.identity("web") is None
    assert not process.alive
    host.start("web")
    second = identity(host, "web")
    assert second["pid"] != first["pid"]
    assert second["started_us"] > first["started_us"]


def test_start_and_stop_are_idempotent(host: Any) -> None:
    """Asking for what already is, is fine."""
    first = identity(host, "web")
    host.start("web")
    assert identity(host, "web") == first
    host.stop("web", GRACE_S)
    host.stop("web", GRACE_S)
    assert host.identity("web") is None


def test_a_stop_lets_it_end_by_itself(rig: Rig, host: Any) -> None:
    """Who obeys is not killed: the grace is not sat out."""
    fault = Stop("web", grace_s=60.0)
    before = fault.before(rig.stack)
    fault.act(rig.stack, before, "r1-1")
    assert host.identity("web") is None


def test_a_stopped_component_stays_down(rig: Rig, host: Any) -> None:
    """Nothing revives it until it is started: the proof of a held fault waits longer than a revival takes."""
    fault = Stop("web")
    before = fault.before(rig.stack)
    fault.act(rig.stack, before, "r1-1")
    assert fault.proof(rig.stack, before)
    assert mending.nothing_left(rig.stack) == ["web is not running"]
    fault.heal(rig.stack, before)
    assert host.identity("web") is not None


def test_a_stubborn_component_is_killed_after_its_grace(rig: Rig, host: Any) -> None:
    """A stop returns when the process is gone, whatever that takes."""
    until(lambda: "deaf" in rig.said("stubborn"), within_s=10)
    host.stop("stubborn", 0.2)
    assert host.identity("stubborn") is None


# ---- kill ------------------------------------------------------------------------------------------------------------


def test_a_killed_component_is_revived_by_whatever_revives(rig: Rig, host: Any) -> None:
    """Nobody starts it but its supervisor, or the engine's restart policy."""
    if not rig.revives:
        pytest.skip("nobody starts again what nobody supervises")
    fault = Kill("web")
    before = fault.before(rig.stack)
    fault.act(rig.stack, before, "r1-1")
    assert until(lambda: fault.proof(rig.stack, before), within_s=5)
    new = until(lambda: host.identity("web"), within_s=15, what="the revival")
    assert new != before["identity"]


def test_the_policy_is_in_force_after_a_stop_and_a_start(rig: Rig, host: Any) -> None:
    """Holding a component down suspends its revival; starting it ends that."""
    if not rig.revives:
        pytest.skip("nobody starts again what nobody supervises")
    host.stop("web", GRACE_S)
    host.start("web")
    old = identity(host, "web")
    host.kill("web", old)
    until(lambda: host.identity("web") not in (None, old), within_s=15, what="the revival")


def test_only_that_very_identity_is_killed(rig: Rig, host: Any) -> None:
    """After a restart the old identity is refused, and the new process lives."""
    old = identity(host, "web")
    host.stop("web", GRACE_S)
    with pytest.raises(DriverError, match="nobody runs now") as failed:
        host.kill("web", old)
    assert failed.value.definite
    host.start("web")
    new = identity(host, "web")
    for wrong in (old, *rig.mistaken(new)):
        with pytest.raises(DriverError, match="not the process that was to be killed"):
            host.kill("web", wrong)
    assert identity(host, "web") == new


@pytest.mark.parametrize("how", ["graceful", "sigkill"])
def test_a_restart_is_proved_by_someone_new(rig: Rig, host: Any, how: str) -> None:
    """Both ways end with a new process, started once."""
    fault = Restart("web", how=how)
    before = fault.before(rig.stack)
    assert fault.proof(rig.stack, before) is None
    fault.act(rig.stack, before, "r1-1")
    assert until(lambda: fault.proof(rig.stack, before), within_s=5)


def test_every_process_that_began_is_known_also_one_between_two_looks(rig: Rig, host: Any) -> None:
    """Oldest first, each once; none of before."""
    if not isinstance(rig.stack.host("web"), Lives):
        pytest.skip("nobody remembers a process that came and went")
    since_us = time.time_ns() // 1000
    assert host.lives("web", since_us) == []
    for _ in range(2):
        host.kill("web", identity(host, "web"))
        host.stop("web", 0.0)
        host.start("web")
    began = host.lives("web", since_us)
    started = [life["started_us"] for life in began]
    assert since_us < started[0] < started[-1]
    assert started == sorted(set(started))
    assert len(began) >= 2  # a killed one may have been revived before it was stopped
    assert abs(started[-1] - identity(host, "web")["started_us"]) < 1_000_000
    assert [life["started_us"] for life in host.lives("web", started[-2])] == started[-1:]


def test_who_holds_a_port_is_known(rig: Rig, host: Any) -> None:
    """Only the component, while it isn't frozen: nobody in its place. A port that another one holds while it runs, such
    as a proxy in front, is another matter."""
    if not isinstance(rig.stack.host("web"), Holds):
        pytest.skip("an engine tells no holder of a port; gameday check says so of each probe")
    port = rig.port
    assert host.holds("web", port) is True
    host.pause("web")
    assert host.holds("web", port) is False
    host.resume("web")
    assert host.holds("web", port) is True
    with socket.create_server(("127.0.0.1", 0)) as other:
        assert host.holds("web", other.getsockname()[1]) is None
    host.stop("web", GRACE_S)
    assert host.holds("web", port) is False
    with socket.create_server(("127.0.0.1", port)):
        assert host.holds("web", port) is False
    host.start("web")
    until(lambda: host.holds("web", port), within_s=10, what="web to hold its port again")


# ---- pause -----------------------------------------------------------------------------------------------------------


def test_pause_freezes_the_whole_family(rig: Rig, host: Any) -> None:
    """A process and all below it, in any session, stop and go on where they were."""
    fault = Pause("family")
    before = fault.before(rig.stack)
    root = before["identity"]["pid"]
    until(lambda: len(descendants(root)) >= 4, within_s=10, what="the family")
    fault.act(rig.stack, before, "r1-1")
    assert all(frozen(p) for p in descendants(root))
    assert fault.proof(rig.stack, before)
    assert host.paused("family")
    assert mending.nothing_left(rig.stack) == ["family is paused"]
    host.pause("family")
    fault.heal(rig.stack, before)
    fault.heal(rig.stack, before)
    assert not any(frozen(p) for p in descendants(root))
    assert not host.paused("family")
    assert identity(host, "family") == before["identity"]


def test_a_paused_component_answers_nobody(rig: Rig, host: Any) -> None:
    """Seen from its client; and answers again afterwards."""
    host.pause("web")
    assert not rig.answered()
    host.resume("web")
    assert until(rig.answered, 5)


def test_a_pause_is_not_claimed_for_somebody_else(rig: Rig, host: Any) -> None:
    """A successor that runs is no proof, and what doesn't run can't be paused."""
    fault = Pause("web")
    before = fault.before(rig.stack)
    fault.act(rig.stack, before, "r1-1")
    host.stop("web", 1.0)
    assert fault.proof(rig.stack, before) is None
    with pytest.raises(DriverError, match="does not run"):
        host.pause("web")
    assert not host.paused("web")
    host.resume("web")


def test_a_frozen_component_can_be_stopped(host: Any) -> None:
    """Healing in any order: a stop ends a paused process too."""
    host.pause("web")
    host.stop("web", 1.0)
    assert host.identity("web") is None


# ---- partition -------------------------------------------------------------------------------------------------------


def test_a_partition_is_proved_and_undone(rig: Rig, host: Any) -> None:
    """The client gets no answer while it holds, and by the same names afterwards; the process is the same."""
    fault = rig.partition()
    assert isinstance(fault, Held)
    assert rig.stack.lacks(fault) == []
    who = identity(host, "web")
    before = fault.before(rig.stack)
    assert not fault.holds(rig.stack, before)
    assert fault.proof(rig.stack, before) is None
    for _ in range(2):
        fault.act(rig.stack, before, "r1-1")
    try:
        assert fault.holds(rig.stack, before)
        assert fault.proof(rig.stack, before)
        assert not rig.answered()
        assert any("cut" in line for line in mending.nothing_left(rig.stack))
    finally:
        for _ in range(2):
            fault.heal(rig.stack, before)
    assert not fault.holds(rig.stack, before)
    assert fault.proof(rig.stack, before) is None
    assert until(rig.answered, 5)
    assert identity(host, "web") == who


# ---- undo ------------------------------------------------------------------------------------------------------------


def test_an_undo_is_right_whether_or_not_the_act_was_reached(rig: Rig, host: Any, fault: Any) -> None:
    """Before the act it changes nothing; after it, and once more, all is well."""
    assert isinstance(fault, Fault)
    before = fault.before(rig.stack)
    who = identity(host, "web")
    fault.heal(rig.stack, before)
    assert identity(host, "web") == who
    fault.act(rig.stack, before, "r1-1")
    for _ in range(2):
        fault.heal(rig.stack, before)
    until(rig.answered, 15, 0.05, "web to answer")
    assert mending.nothing_left(rig.stack) == []


def test_an_undo_is_right_after_the_component_was_made_anew(rig: Rig, host: Any, fault: Any) -> None:
    """Its creator doesn't know of gameday; the undo neither fails nor harms who runs now."""
    before = fault.before(rig.stack)
    fault.act(rig.stack, before, "r1-1")
    rig.recreate("web")
    new = identity(host, "web")
    for _ in range(2):
        fault.heal(rig.stack, before)
    assert identity(host, "web") == new
    until(rig.answered, 15, 0.05, "web to answer")
    assert mending.nothing_left(rig.stack) == []


# ---- who may be touched ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Stop, Kill, Pause, Restart])
def test_what_has_not_opted_in_is_refused_before_any_act(rig: Rig, kind: Any) -> None:
    """By the configuration or by the component's own label, with the remedy; and nothing happens to it."""
    if kind is Kill and not rig.revives:
        pytest.skip("it is refused to every component, for nobody would start it again")
    host: Any = rig.stack.host(BYSTANDER)
    who = identity(host, BYSTANDER)
    refusal = "; ".join(rig.stack.lacks(kind(BYSTANDER)))
    if not refusal:
        with pytest.raises(ConfigError) as refused:
            rig.stack.permit(kind(BYSTANDER))
        refusal = str(refused.value)
    assert "has not opted in. Remedy" in refusal
    assert identity(host, BYSTANDER) == who


def test_a_component_of_another_host_is_named(host: Any) -> None:
    """The configuration is wrong, not the platform."""
    with pytest.raises(ConfigError, match=r"no component 'api'. It has bystander, family, stubborn, web"):
        host.start("api")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_users_process_is_refused_with_a_remedy(tmp_path: Path) -> None:
    """Signals are sent only where they are permitted, and the error says what to do."""
    script = (
        "import os, sys\n"
        "from gameday.hosts.local import Host\n"
        "from gameday.system.process import Process\n"
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

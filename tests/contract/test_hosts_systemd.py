"""Units of a real systemd, of a manager for one user: what is theirs alone, and what each fault does to one."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from gameday import ports
from gameday.errors import ConfigError, DriverError
from gameday.faults.kill import Kill
from gameday.faults.pause import Pause
from gameday.faults.restart import Restart
from gameday.faults.stop import Stop
from gameday.hosts.systemd import Host
from gameday.ports import Desires, Held, Holds, Lives, Serves
from gameday.stack.live import Stack, open_stack
from gameday.state import State
from gameday.system.polling import until
from gameday.system.process import Process, descendants, listening, sockets
from gameday.undo import mending
from tasks.inventory.processes import processes
from tests.fakes import TOY

WITHIN_S = 10.0
GRACE_S = 3.0

UNITS: Mapping[str, str] = {
    "web.service": "[Service]\nExecStart=/bin/sleep 1000\nRestart=always\nRestartSec=50ms\n",
    "orphans.service": "[Service]\nExecStart=/bin/sh -c 'setsid -f sleep 1000; exec sleep 1001'\n",
    "stubborn.service": "[Service]\nExecStart=/bin/sh -c \"trap '' TERM; while :; do sleep 1; done\"\n",
    "unready.service": "[Service]\nExecStartPre=/bin/false\nExecStart=/bin/sleep 1000\n",
    "limited.service": (
        "[Unit]\nStartLimitIntervalSec=1000\nStartLimitBurst=2\n"
        "[Service]\nExecStart=/bin/sleep 1000\nRestart=always\nRestartSec=50ms\n"
    ),
    "waiting.service": "[Service]\nType=notify\nExecStart=/bin/sleep 1000\n",
    "listening.service": "[Service]\nExecStart=/usr/bin/env python3 -m http.server --bind 127.0.0.1 0\n",
}


USERS_MANAGER = """
for of in systemd unified .; do
    group=/sys/fs/cgroup/$of/{group}
    if [ -e /sys/fs/cgroup/$of/cgroup.procs ] && mkdir -p $group; then echo $$ > $group/cgroup.procs; fi
done
mount -t tmpfs none /run && mkdir -p /run/systemd/system
exec /lib/systemd/systemd --user
"""
"""systemd takes the folder for the sign that it has booted the machine; nobody else sees it. Its units are in a cgroup
of their own, where they leave those of the machine alone."""


def systemctl(manager: Mapping[str, str], *order: str) -> None:
    subprocess.run(["systemctl", "--user", *order], env={**os.environ, **manager}, check=True, capture_output=True)


@contextmanager
def users_manager(folder: Path, units: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
    """What systemctl needs in its environment to reach a manager of the test's own with these units: name -> text.
    Skipped, with the reason, where none can be started."""
    if os.geteuid() != 0 or not Path("/lib/systemd/systemd").exists():
        pytest.skip("no manager of systemd's can be started here: it takes root and Debian's package systemd")
    (folder / "units").mkdir()
    for name, text in units.items():
        (folder / "units" / name).write_text(text)
    group = f"gameday-tests-{os.getpid()}"
    with tempfile.TemporaryDirectory(prefix="sd") as runtime:  # short: it holds a socket
        manager = {"XDG_RUNTIME_DIR": runtime, "SYSTEMD_UNIT_PATH": f"{folder}/units:/usr/lib/systemd/user"}
        with (
            (folder / "manager.log").open("wb") as log,
            subprocess.Popen(
                ["unshare", "--mount", "--propagation", "private", "sh", "-c", USERS_MANAGER.format(group=group)],
                env={**os.environ, **manager, "HOME": str(folder)},
                stdout=log,
                stderr=log,
            ) as process,
        ):
            try:
                until(lambda: Path(runtime, "systemd", "private").exists(), 15, what="systemd's manager")
                yield manager
            finally:
                for name in units:
                    with suppress(subprocess.CalledProcessError):  # else it waits for those that are deaf to SIGTERM
                        systemctl(manager, "kill", "--signal=SIGKILL", name)
                process.terminate()
                process.wait()
                for top in ("systemd", "unified", "."):
                    _remove(Path("/sys/fs/cgroup", top, group))


def _remove(group: Path) -> None:
    """A cgroup and all below it, once they are empty."""
    for below in sorted((p for p in group.rglob("*") if p.is_dir()), reverse=True):
        below.rmdir()
    if group.exists():
        group.rmdir()


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    with users_manager(tmp_path_factory.mktemp("systemd"), UNITS) as made:
        yield made


@pytest.fixture
def host(manager: Mapping[str, str]) -> Host:
    names = {unit.removesuffix(".service"): unit for unit in UNITS}
    return Host({**names, "web": "web", "none": "nowhere"}, manager="user", runtime=manager["XDG_RUNTIME_DIR"])


def test_what_it_offers() -> None:
    """Of a process that came and went systemd tells nothing, so started_once can't be judged."""
    made = Host()
    assert all(isinstance(made, kind) for kind in (Desires, Holds, ports.Kill, ports.Pause, Serves))
    assert not isinstance(made, Lives)


def test_a_unit_is_its_main_process(host: Host) -> None:
    """By its pid and its start; a killed one is revived by systemd alone, as somebody else."""
    host.start("web")
    first = host.identity("web")
    assert first is not None
    assert host.identity("web") == first
    process = Process.of(first["pid"])
    assert process is not None
    assert process == Process.parse(first)
    with pytest.raises(DriverError, match="not the process that was to be killed"):
        host.kill("web", {**first, "start_ticks": first["start_ticks"] - 1})
    assert process.alive
    host.kill("web", first)
    until(lambda: found_other(host, first), WITHIN_S, what="the revival")
    second = host.identity("web")
    assert second is not None
    assert second["started_us"] > first["started_us"]
    host.stop("web", GRACE_S)
    assert host.identity("web") is None
    with pytest.raises(DriverError, match="nobody runs now"):
        host.kill("web", second)


def found_other(host: Host, than: object) -> bool:
    found = host.identity("web")
    return found is not None and found != than


def test_a_stopped_one_stays_down_and_is_known_to_be(host: Host) -> None:
    """Where systemd revives after any other end; of one that it wouldn't nobody can tell."""
    host.start("web")
    assert not host.stopped("web")
    host.stop("web", GRACE_S)
    assert host.stopped("web")
    host.start("orphans")
    host.stop("orphans", GRACE_S)
    assert not host.stopped("orphans")


def test_all_processes_of_a_unit_freeze_also_those_that_left_their_parent(host: Host) -> None:
    """The cgroup has them, whoever their parent is; and none is left after a stop."""
    host.start("orphans")
    main = host.identity("orphans")
    assert main is not None
    both = until(lambda: p if len(p := host._processes("orphans")) == 2 else None, WITHIN_S, what="the orphan")
    assert next(p for p in both if p.pid != main["pid"]) not in descendants(main["pid"])
    host.pause("orphans")
    assert host.paused("orphans")
    assert all(p.stopped for p in both)
    host.resume("orphans")
    assert not host.paused("orphans")
    assert not any(p.stopped for p in both)
    assert host.identity("orphans") == main
    host.pause("orphans")
    host.stop("orphans", GRACE_S)
    assert not any(p.alive for p in both)
    with pytest.raises(DriverError, match="does not run"):
        host.pause("orphans")
    host.resume("orphans")
    assert not host.paused("orphans")


def test_who_ignores_the_order_is_killed_after_its_grace(host: Host) -> None:
    """Long before the unit's own TimeoutStopSec of 90 s."""
    host.start("stubborn")
    (main,) = [p for p in host._processes("stubborn") if p.pid == (host.identity("stubborn") or {})["pid"]]
    until(lambda: _ignores(main, signal.SIGTERM), WITHIN_S, what="its trap")
    host.stop("stubborn", 0.2)
    assert host.identity("stubborn") is None
    assert not main.alive


def _ignores(process: Process, number: signal.Signals) -> bool:
    status = Path(f"/proc/{process.pid}/status").read_text()
    mask = int(next(line.split()[1] for line in status.splitlines() if line.startswith("SigIgn")), 16)
    return bool(mask >> (number - 1) & 1)


def test_a_unit_that_systemd_gave_up_is_started_all_the_same(host: Host) -> None:
    """An undo must not fail for its own starts having been too many."""
    for _ in range(4):
        host.start("limited")
        found = host.identity("limited")
        if found is None:
            continue
        host.kill("limited", found)
        until(lambda: host.identity("limited") != found, WITHIN_S)  # noqa: B023 - asked within the loop
    host.start("limited")
    assert host.identity("limited") is not None
    host.stop("limited", GRACE_S)


def test_one_that_does_not_start_is_told(host: Host) -> None:
    """With where its words are."""
    with pytest.raises(DriverError, match=r"unready\.service does not start\. Remedy: journalctl"):
        host.start("unready")


def test_one_that_is_not_ready_does_not_serve(host: Host) -> None:
    """By its own word, which systemd waits for; start doesn't."""
    host.start("waiting")
    assert host.identity("waiting") is not None
    assert "waiting.service is activating (start)" in (host.unserved("waiting") or "")
    host.stop("waiting", GRACE_S)
    host.start("web")
    assert host.unserved("web") is None
    host.stop("web", GRACE_S)


def test_init_finds_the_unit_of_who_holds_a_port(host: Host) -> None:
    """By its cgroup. This manager's units are in none of a user's, so they pass for the machine's own."""
    host.start("listening")
    (main,) = [p for p in host._processes("listening") if p.pid == (host.identity("listening") or {})["pid"]]
    (port,) = until(lambda: [n for n, own in listening().items() if own & sockets(main.pid)], WITHIN_S, what="its port")
    (found,) = processes([("connect", f"127.0.0.1:{port}")])
    assert (found.unit, found.manager, found.pid) == ("listening.service", "system", main.pid)
    host.stop("listening", GRACE_S)


@pytest.mark.parametrize("component", ["none", "api"])
def test_a_unit_that_is_not_there_is_named(host: Host, component: str) -> None:
    """The configuration is wrong, not the platform."""
    told = {"none": r"user manager of systemd has no unit nowhere\.service .*Remedy: components\.none\.name"}
    with pytest.raises(ConfigError, match=told.get(component, r"no component 'api'. It has limited, ")):
        host.identity(component)


def test_a_manager_that_is_not_there_is_told(tmp_path: Path) -> None:
    """Nothing was changed."""
    with pytest.raises(DriverError, match=r"Failed to connect to bus.*Remedy: hosts\.systemd\.manager") as raised:
        Host({"web": "web"}, manager="user", runtime=str(tmp_path)).start("web")
    assert raised.value.definite


# ---- what gameday does to it -----------------------------------------------------------------------------------------

CONFIG = (
    TOY
    + """
[hosts.systemd]
manager = "user"
runtime = "{runtime}"
[components.web]
host = "systemd"
opt_in = true
probes.health = {{ driver = "disk", path = "/" }}
"""
)

FAULTS: Mapping[str, Any] = {
    "stop": Stop("web", grace_s=GRACE_S),
    "stop sigkill": Stop("web", how="sigkill"),
    "pause": Pause("web"),
    "kill": Kill("web"),
    "restart": Restart("web", grace_s=GRACE_S),
    "restart sigkill": Restart("web", how="sigkill"),
}


@pytest.fixture
def stack(manager: Mapping[str, str], tmp_path: Path) -> Stack:
    path = tmp_path / "gameday.toml"
    path.write_text(CONFIG.format(runtime=manager["XDG_RUNTIME_DIR"]))
    made = open_stack(path, State(tmp_path))
    made.host("web").start("web")
    return made


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_proved_and_undone(stack: Stack, name: str) -> None:
    """Undone before the act it changes nothing; after it, and once more, all is well."""
    fault, host = FAULTS[name], stack.host("web")
    assert stack.lacks(fault) == []
    before, who = fault.before(stack), host.identity("web")
    fault.heal(stack, before)
    assert host.identity("web") == who
    assert fault.proof(stack, before) is None
    fault.act(stack, before, "r1-1")
    assert until(lambda: fault.proof(stack, before), WITHIN_S, what="the proof")
    assert mending.nothing_left(stack) != [] or not isinstance(fault, Held)
    for _ in range(2):
        fault.heal(stack, before)
    assert host.identity("web") is not None
    assert (host.identity("web") == who) == (name == "pause")
    assert mending.nothing_left(stack) == []


def test_a_stopped_one_is_not_revived_by_the_undo_of_a_kill(stack: Stack) -> None:
    """A person stopped it meanwhile, and it stays so."""
    fault, host = Kill("web"), stack.host("web")
    before = fault.before(stack)
    fault.act(stack, before, "r1-1")
    host.stop("web", GRACE_S)
    fault.heal(stack, before)
    assert host.identity("web") is None

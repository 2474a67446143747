"""What only containers have: fixed addresses, labels, names that may mean two, an engine that is gone or too old; and
the engine of our own that all this runs on.
"""

from __future__ import annotations

import json
import os
import signal
import socketserver
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from compose.engine import Engine
from gameday.errors import ConfigError, DriverError, GamedayError
from gameday.faults.isolate import Isolate
from gameday.faults.kill import Kill
from gameday.faults.stop import Stop
from gameday.hosts import docker as module
from gameday.hosts.docker import Host
from gameday.model import Json
from gameday.ports import Isolate as CanIsolate
from gameday.ports import Kill as CanKill
from gameday.system.polling import until
from gameday.system.process import Process
from gameday.undo import mending
from tests.contract.sockets import END_SEEN_S
from tests.hostrigs import ADDRESS, ALIASES, BYSTANDER, IMAGE, PROJECT, ROLES, Docker, docker


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    with docker(tmp_path_factory) as made:
        yield made


@pytest.fixture
def host(rig: Docker) -> Host:
    host = rig.stack.host("web")
    assert isinstance(host, Host)
    host.start("web")
    return host


def networks(rig: Docker) -> Json:
    """What the engine itself shows of web's networks, but for what changes with each connection."""
    (found,) = json.loads(rig.engine.docker("inspect", f"{PROJECT}-web"))
    shown = {}
    for name, one in found["NetworkSettings"]["Networks"].items():
        fixed = one["IPAMConfig"] or {}
        shown[name] = (sorted(one["Aliases"]), one["Links"], fixed.get("IPv4Address"), bool(one["IPAddress"]))
    return shown


# ---- cut off, and back -----------------------------------------------------------------------------------------------


def test_a_container_comes_back_to_its_networks_as_it_was(rig: Docker, host: Host) -> None:
    """Aliases, links and the fixed address on each, which the engine itself forgets when it disconnects."""
    before = networks(rig)
    assert before[f"{PROJECT}_front"][2] == ADDRESS
    attached = host.attached("web")
    host.isolate("web", attached)
    assert networks(rig) == {}
    assert host.adrift("web")
    host.rejoin("web", attached)
    assert networks(rig) == before
    assert {alias for one in attached["networks"] for alias in one["aliases"]} >= set(ALIASES.values())
    assert not host.adrift("web")


def test_a_container_is_cut_from_the_named_networks_only(rig: Docker, host: Host) -> None:
    """By the name in the Compose file, so that gameday's own way in stays; the proof still comes from inside."""
    part = Host(host.url, PROJECT, cut=("front",), names=host.names)
    attached = part.attached("web")
    assert [one["name"] for one in attached["networks"]] == [f"{PROJECT}_front"]
    assert attached["neighbours"].keys() <= {f"{PROJECT}-{role}" for role in ("client", *ROLES, BYSTANDER)}
    assert part.reached("web", attached)
    part.isolate("web", attached)
    try:
        assert list(networks(rig)) == [f"{PROJECT}_back"]
        assert part.reached("web", attached) == []
    finally:
        part.rejoin("web", attached)
    assert part.reached("web", attached)


def test_a_container_that_is_stopped_meanwhile_comes_back_whole(rig: Docker, host: Host) -> None:
    """The undo needs no running process, and the order of the undos does not matter."""
    before = networks(rig)
    attached = host.attached("web")
    host.isolate("web", attached)
    host.stop("web", 3.0)
    host.rejoin("web", attached)
    host.start("web")
    assert networks(rig) == before
    assert until(rig.answered, 10)


def test_who_reaches_nobody_is_not_cut(rig: Docker, host: Host) -> None:
    """A cut could not be told from what was there; and what is cut off already has no network to be cut from."""
    attached = host.attached("web")
    host.isolate("web", attached)
    try:
        with pytest.raises(GamedayError, match="reaches nobody"):
            Isolate("web").before(rig.stack)
        assert any("no network of its own" in why for why in rig.stack.lacks(Isolate("web")))
    finally:
        host.rejoin("web", attached)
    assert rig.stack.lacks(Isolate("web")) == []


def test_what_shares_the_machines_network_cannot_be_cut_off(rig: Docker) -> None:
    """It would be the machine that is cut."""
    rig.engine.docker(
        "run", "--detach", "--name", "shared", "--network", "host", "--volume", "/usr:/usr:ro", IMAGE, "sleep", "1000"
    )
    shares = Host(str(rig.engine.env["DOCKER_HOST"]), allow=("shared",), names={"shared": "shared"})
    try:
        assert "network_mode is 'host'" in str(shares.cannot("shared", CanIsolate))
        assert shares.cannot("shared", CanKill) is None
        assert not shares.adrift("shared")
    finally:
        rig.engine.docker("rm", "--force", "shared")


def test_the_ports_that_a_cut_takes_along_are_told(rig: Docker) -> None:
    """Where all its networks are cut; gameday loses its way in then too."""
    options = ("--detach", "--name", "open", "--publish", "127.0.0.1:18080:8080", "--volume", "/usr:/usr:ro")
    rig.engine.docker("run", *options, IMAGE, "sleep", "1000")
    open_ = Host(str(rig.engine.env["DOCKER_HOST"]), names={"open": "open"})
    try:
        assert open_.attached("open")["published"] == ["127.0.0.1:18080"]
        assert "the engine's machine" in open_.attached("open")["neighbours"]
    finally:
        rig.engine.docker("rm", "--force", "open")


def test_a_command_runs_inside_whoever_is_cut_off(host: Host) -> None:
    """Its end tells; one that fails is a DriverError with how it ended."""
    attached = host.attached("web")
    host.isolate("web", attached)
    try:
        host.run("web", ["true"], 10.0)
        with pytest.raises(DriverError, match="sh ended with 3"):
            host.run("web", ["sh", "-c", "exit 3"], 10.0)
    finally:
        host.rejoin("web", attached)


def test_a_command_inside_that_hangs_is_given_up(host: Host) -> None:
    """Within its bound."""
    with pytest.raises(DriverError, match=r"waited 0\.5 s in vain for sleep in web"):
        host.run("web", ["sleep", "5"], 0.5)


# ---- which container -------------------------------------------------------------------------------------------------


def test_another_container_of_the_same_name_is_another(rig: Docker, host: Host) -> None:
    """Made anew between the look and the act: neither killed nor cut, and the errors say so."""
    fault, cut = Kill("web"), Isolate("web")
    before, whole = fault.before(rig.stack), cut.before(rig.stack)
    rig.recreate("web")
    with pytest.raises(DriverError, match="not the process that was to be killed"):
        fault.act(rig.stack, before, "r1-1")
    with pytest.raises(DriverError, match="another container than the one that was to be cut off"):
        cut.act(rig.stack, whole, "r1-2")
    assert mending.nothing_left(rig.stack) == []


def test_a_container_that_is_gone_is_nobody(rig: Docker, host: Host) -> None:
    """Looks and undos take it for what it is; an act names it, the engine and the remedy."""
    attached = host.attached("web")
    rig.engine.docker("rm", "--force", f"{PROJECT}-web")
    try:
        assert host.identity("web") is None
        assert not host.paused("web")
        assert not host.isolated("web", attached)
        host.resume("web")
        host.rejoin("web", attached)
        host.stop("web", 1.0)
        for act in (host.start, host.pause, host.attached):
            with pytest.raises(DriverError, match=r"has no container 'web'\. Remedy: docker compose up -d"):
                act("web")
        assert rig.stack.lacks(Stop("web")) == [str(host.cannot("web", CanKill))]
    finally:
        rig.create("web")


def test_a_name_that_means_two_containers_is_refused(rig: Docker, host: Host) -> None:
    """A service of two replicas: which one, only the configuration can say."""
    rig.create("family", name=f"{PROJECT}-family-2")
    try:
        with pytest.raises(DriverError, match=r"2 containers of project rig are called 'family'\. Remedy: components"):
            host.identity("family")
        one = Host(host.url, PROJECT, names={"family": f"{PROJECT}-family-2"})
        assert one.identity("family") is not None
    finally:
        rig.engine.docker("rm", "--force", f"{PROJECT}-family-2")


def test_a_container_of_another_project_is_not_found(host: Host) -> None:
    """However it is called."""
    assert Host(host.url, "another", names={"web": f"{PROJECT}-web"}).identity("web") is None


def test_without_a_label_nothing_is_touched(rig: Docker, host: Host) -> None:
    """Not even when the configuration says opt_in: every act is refused, and the container runs on untouched."""
    who = host.identity(BYSTANDER)
    attached = host.attached(BYSTANDER)
    acts: tuple[Callable[[], None], ...] = (
        lambda: host.stop(BYSTANDER, 1.0),
        lambda: host.kill(BYSTANDER, who),
        lambda: host.pause(BYSTANDER),
        lambda: host.isolate(BYSTANDER, attached),
        lambda: host.run(BYSTANDER, ["true"], 5.0),
    )
    for act in acts:
        with pytest.raises(DriverError, match=r"rig-bystander \(bystander\) has not opted in\. Remedy") as refused:
            act()
        assert refused.value.definite
    assert host.identity(BYSTANDER) == who


def test_an_allow_list_opts_in_without_a_label(rig: Docker, host: Host) -> None:
    """For a stack whose Compose file isn't to be touched: by the container's own name."""
    allowed = Host(host.url, PROJECT, allow=(f"{PROJECT}-{BYSTANDER}",), names=host.names)
    assert allowed.cannot(BYSTANDER, CanKill) is None
    old = allowed.identity(BYSTANDER)
    allowed.stop(BYSTANDER, 0.0)
    assert allowed.identity(BYSTANDER) is None
    allowed.start(BYSTANDER)
    assert allowed.identity(BYSTANDER) != old


def test_one_that_waits_to_be_revived_runs_not_and_can_be_started(rig: Docker, host: Host) -> None:
    """The engine calls it running meanwhile; and it waits longer after each death."""
    options = ("--detach", "--name", "loop", "--restart", "always", "--volume", "/usr:/usr:ro")
    rig.engine.docker(
        "run", *options, IMAGE, "sh", "-c", "test -e /tmp/again && exec sleep 1000; touch /tmp/again; exit 1"
    )
    loop = Host(host.url, allow=("loop",), names={"loop": "loop"})
    try:
        loop.start("loop")
        assert until(lambda: loop.identity("loop"), 10)
    finally:
        rig.engine.docker("rm", "--force", "loop")


def test_a_process_that_is_not_the_containers_is_never_killed(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine's numbers may be another machine's: the kernel must show that the process is in the container."""
    really = Host._found
    with subprocess.Popen(["sleep", "1000"]) as innocent:

        def elsewhere(host: Host, api: Any, component: str) -> Json:
            found: Any = really(host, api, component)
            return {**found, "State": {**found["State"], "Pid": innocent.pid}}

        monkeypatch.setattr(Host, "_found", elsewhere)
        with pytest.raises(DriverError, match=r"is not seen from here\. Remedy"):
            host.kill("web", host.identity("web"))
        assert innocent.poll() is None
        innocent.kill()
    assert "is not seen from here" in str(host.cannot("web", CanKill))


# ---- the engine ------------------------------------------------------------------------------------------------------


def test_an_engine_that_is_gone_is_named_with_the_remedy(tmp_path: Path) -> None:
    """Nothing was asked of anyone, so the failure is definite."""
    gone = Host(f"unix://{tmp_path}/docker.sock", names={"web": "web"})
    with pytest.raises(DriverError, match=r"no Docker engine answers at unix://.*Remedy: start it") as failed:
        gone.stop("web", 1.0)
    assert failed.value.definite


@contextmanager
def engine_that_answers(folder: Path, answers: dict[str, Any]) -> Iterator[Host]:
    """A server on a unix socket: the end of a path -> its answer as JSON; None: it never answers."""
    over = threading.Event()

    class Api(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            answer = next((a for path, a in answers.items() if self.path.partition("?")[0].endswith(path)), None)
            if answer is None:
                over.wait(20)
                return
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def address_string(self) -> str:
            return "a client"

        def log_message(self, *_: object) -> None:
            return

    path = folder / "docker.sock"
    with socketserver.ThreadingUnixStreamServer(str(path), Api) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(END_SEEN_S,), daemon=True).start()
        try:
            yield Host(f"unix://{path}", names={"web": "web"})
        finally:
            over.set()
            server.shutdown()


def test_an_engine_that_is_too_old_is_told(tmp_path: Path) -> None:
    """Before anything is asked of it."""
    with (
        engine_that_answers(tmp_path, {"/version": {"ApiVersion": "1.12"}}) as old,
        pytest.raises(DriverError, match=r"is too old: .*1\.24.*Remedy: an engine with API 1\.24 or later") as failed,
    ):
        old.start("web")
    assert failed.value.definite


def test_an_engine_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every question has a bound."""
    monkeypatch.setattr(module, "ANSWER_S", 0.3)
    with (
        engine_that_answers(tmp_path, {"/version": {"ApiVersion": "1.41"}}) as hung,
        pytest.raises(DriverError, match=r"did not look at web within"),
    ):
        hung.identity("web")


@pytest.mark.parametrize(
    ("text", "us"),
    [
        ("2026-01-02T03:04:05.123456789Z", 1767323045123456),
        ("2026-01-02T03:04:05.1Z", 1767323045100000),
        ("2026-01-02T03:04:05Z", 1767323045000000),
    ],
)
def test_the_engines_times_are_read_to_the_microsecond(text: str, us: int) -> None:
    """It leaves out zeros at the end, and the dot with them."""
    assert module._us(text) == us


def test_the_engine_takes_everything_with_it(rig: Docker, tmp_path: Path) -> None:
    """Also when its keeper and itself are killed at once: the next `down` ends what they left; and `up` starts anew."""
    engine = rig.engine
    notes = json.loads((engine.folder / "processes.json").read_text())
    found = rig.stack.host("web").identity("web")
    assert found is not None
    web = Process.of(found["pid"])
    assert web is not None
    assert f"/{engine.cgroup}/" in Path(f"/proc/{web.pid}/cgroup").read_text()
    for who in ("keeper", "engine"):
        os.kill(notes[who]["pid"], signal.SIGKILL)
    engine.down()
    assert not web.alive
    assert engine.process is None
    assert engine.cgroups == []
    with pytest.raises(DriverError, match="no Docker engine answers"):
        rig.stack.host("web").identity("web")
    engine.up(print, plugins=False)
    engine.up(print, plugins=False)
    assert until(lambda: rig.stack.host("web").identity("web"), 15, what="the policy to start it again")


def test_an_engine_has_a_short_folder(tmp_path: Path) -> None:
    """A socket's path can't be long; that is told at once."""
    if os.geteuid() == 0:
        with pytest.raises(GamedayError, match="a shorter --folder"):
            Engine(tmp_path / ("a" * 100)).up(print)
    else:
        with pytest.raises(GamedayError, match="only root"):
            Engine(tmp_path).up(print)


def test_a_role_without_container_is_a_configuration_error(host: Host) -> None:
    """As with every host."""
    with pytest.raises(ConfigError, match="host docker runs no component 'api'"):
        host.identity("api")

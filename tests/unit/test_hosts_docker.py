"""What the host of containers makes of an engine's answers, without an engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from docker.errors import NotFound

from gameday.hosts.docker import Host
from gameday.ports import Desires, Serves

RUNNING = {"Running": True, "Restarting": False, "Paused": False, "Pid": 7, "StartedAt": "2026-01-02T03:04:05Z"}
ENDED = {**RUNNING, "Running": False, "Pid": 0}
NETWORK = {"id": "n1", "name": "data", "aliases": ["www"], "links": [], "ipv4_address": "", "ipv6_address": ""}
ATTACHED: Any = {"id": "c", "networks": [{**NETWORK, "link_local_ips": [], "driver_opt": {}}]}


class Engine:
    """An engine with one container and some networks."""

    def __init__(self, state: Mapping[str, Any], policy: str = "no", networks: tuple[str, ...] = ("n1",)) -> None:
        self.state, self.policy, self.networks = state, policy, networks
        self.connected: list[str] = []

    def containers(self, **_: Any) -> list[Any]:
        return [{"Id": "c", "Names": ["/web"], "Labels": {}}]

    def inspect_container(self, _: str) -> Any:
        host = {"RestartPolicy": {"Name": self.policy}, "NetworkMode": "data"}
        joined = {f"net-{one}": {"NetworkID": one} for one in self.connected}
        settings = {"NetworkSettings": {"Networks": joined}, "Config": {"Labels": {}}}
        return {"Id": "c", "Name": "/web", "State": self.state, "HostConfig": host, **settings}

    def inspect_network(self, network: str) -> Any:
        if network not in self.networks:
            raise NotFound("no such network")
        return {}

    def connect_container_to_network(self, _: str, network: str, **__: Any) -> None:
        self.connected.append(network)


def host_of(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Host:
    @contextmanager
    def reached(*_: Any, **__: Any) -> Iterator[Engine]:
        yield engine

    monkeypatch.setattr(Host, "_engine", reached)
    return Host(names={"web": "web"})


def test_it_tells_whether_a_component_serves_and_was_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked with isinstance, as who mends does."""
    host = host_of(Engine(RUNNING), monkeypatch)
    assert (isinstance(host, Serves), isinstance(host, Desires)) == (True, True)


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (RUNNING, None),
        ({**RUNNING, "Paused": True}, "its container is paused"),
        ({**RUNNING, "Health": {"Status": "unhealthy"}}, "its container's health check fails"),
        ({**RUNNING, "Health": {"Status": "starting"}}, None),
        ({**RUNNING, "Health": {"Status": "healthy"}}, None),
        ({**RUNNING, "Health": None}, None),
    ],
)
def test_what_speaks_against_a_container(
    monkeypatch: pytest.MonkeyPatch, state: Mapping[str, Any], told: str | None
) -> None:
    """A check that has not been asked yet speaks neither for nor against it: the probes decide."""
    assert host_of(Engine(state), monkeypatch).unserved("web") == told


@pytest.mark.parametrize(
    ("state", "policy", "stopped"),
    [
        (ENDED, "unless-stopped", True),
        (ENDED, "always", True),
        (ENDED, "no", False),  # it may have ended by itself
        (ENDED, "on-failure", False),
        ({**ENDED, "Restarting": True}, "always", False),  # the engine is about to revive it
        (RUNNING, "always", False),
    ],
)
def test_a_container_that_nobody_revives_was_stopped(
    monkeypatch: pytest.MonkeyPatch, state: Mapping[str, Any], policy: str, stopped: bool
) -> None:
    """Only where the engine would revive it else."""
    assert host_of(Engine(state, policy), monkeypatch).stopped("web") is stopped


def test_a_network_that_is_gone_holds_up_no_undo(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its remover knows why; the others are joined again, and nothing that is joined already."""
    two = {**ATTACHED, "networks": [*ATTACHED["networks"], {**ATTACHED["networks"][0], "id": "n2"}]}
    engine = Engine(RUNNING, networks=("n2",))
    host = host_of(engine, monkeypatch)
    for _ in range(2):
        host.rejoin("web", two)
    assert engine.connected == ["n2"]

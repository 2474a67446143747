"""Each reference platform: what its processes are started with, and whether its gameday.toml means these."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from compose import own
from compose.servers import postgres, prometheus
from compose.service import Service
from gameday.state import ROOT, State

PLATFORMS = sorted(path.parent.name for path in ROOT.glob("compose/*/processes.py"))
SECRET = "hunter2"


@pytest.fixture(params=PLATFORMS)
def platform(request: pytest.FixtureRequest) -> own.Platform:
    return own.platform(request.param)


@pytest.fixture
def services(platform: own.Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sequence[Service]:
    """All processes of a stack of the platform. No data are made for its databases, and no program is asked for."""

    def database(state: State, name: str, *_: object, **more: Any) -> Service:
        return Service(name, ("postgres", *more.get("settings", ())), str(tmp_path))

    monkeypatch.setattr(postgres, "process", database)
    monkeypatch.setattr(prometheus, "found", lambda: False)
    return own.processes(platform, State(tmp_path), drawn(platform), {})


def drawn(platform: own.Platform) -> Mapping[str, str]:
    """A stack.env."""
    names = (*own.PORTS, *platform.PORTS)
    ports = {name: str(20_000 + number) for number, name in enumerate(names)}
    return ports | dict.fromkeys((*own.SECRETS, *platform.SECRETS), SECRET)


def document(platform: own.Platform) -> Mapping[str, Any]:
    return tomllib.loads(platform.CONFIG.read_text())


def test_no_process_has_a_password_among_its_arguments(services: Sequence[Service]) -> None:
    """Those are for all of the machine's users to see."""
    assert len(services) > 10
    assert [service.name for service in services if SECRET in " ".join(service.argv)] == []


def test_each_process_starts_behind_what_there_is(services: Sequence[Service]) -> None:
    """In the order of the list, which is that of the start, and backwards that of the end."""
    before: set[str] = set()
    for service in services:
        assert set(service.after) <= {one.name for one in services}, service.name
        assert service.name not in before
        before.add(service.name)


def test_for_a_platform_of_ones_own_two_servers_are_enough(
    platform: own.Platform, services: Sequence[Service], tmp_path: Path
) -> None:
    """`gameday up --own`: what starts behind another is not without it."""
    chosen = own.processes(platform, State(tmp_path), drawn(platform), {}, own.SERVERS)
    assert tuple(service.name for service in chosen) == own.SERVERS
    assert {name for service in chosen for name in service.after} <= set(own.SERVERS)
    assert len(services) > len(chosen)


def test_names_of_ports_and_secrets_are_the_platform_s_alone(platform: own.Platform) -> None:
    """gameday's own servers have theirs."""
    for ours, theirs in ((own.PORTS, platform.PORTS), (own.SECRETS, platform.SECRETS)):
        assert len({*ours, *theirs}) == len(ours) + len(theirs)


def test_every_component_and_link_of_its_gameday_toml_is_there(
    platform: own.Platform, services: Sequence[Service]
) -> None:
    """Under the name that the supervisor, or Toxiproxy, knows."""
    components = document(platform)["components"]
    named = {given.get("name", role) for role, given in components.items() if "members" not in given}
    assert named <= {service.name for service in services}
    port = {name.removesuffix("_PORT"): int(value) for name, value in drawn(platform).items() if name.endswith("_PORT")}
    links = {link.name for link in platform.links(port)}
    assert document(platform)["links"].keys() <= links
    assert len({link.listen for link in platform.links(port)}) == len(links)


def test_what_its_gameday_toml_is_filled_in_with_is_drawn(platform: own.Platform) -> None:
    """A name that no stack.env has would be told only when the stack is up."""
    lines = (line.partition("# ")[0] for line in platform.CONFIG.read_text().splitlines())
    names = set(re.findall(r"\$\{([A-Z0-9_]+)\}", "\n".join(lines)))
    places = {"SUPERVISOR_SOCKET", "STACK_FOLDER", "PROMETHEUS_URL", "ALERTMANAGER_URL"}
    assert names <= {*drawn(platform), *places}

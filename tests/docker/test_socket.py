"""What the filter of the engine's socket lets through: all that gameday asks of an engine, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import docker
import pytest
from docker.errors import APIError

from gameday.hosts.docker import Host
from tests.docker.conftest import Platform

pytestmark = [pytest.mark.suite("docker"), pytest.mark.timeout(900)]
COMPONENT = "handler-kraken"


@pytest.fixture(scope="module")
def socket(nights: Platform) -> str:
    """URL of the filtered socket."""
    return f"unix://{nights.state.root}/stack/engine/docker.sock"


def test_gameday_does_its_work_through_it(platform: Platform, socket: str) -> None:
    """A component is looked at, stopped, started, paused and resumed."""
    host = Host(socket, platform.containers.env["GAMEDAY_PROJECT"], allow=(), names={COMPONENT: COMPONENT})
    before = host.identity(COMPONENT)
    assert before is not None
    host.pause(COMPONENT)
    assert host.paused(COMPONENT)
    host.resume(COMPONENT)
    host.stop(COMPONENT, 5.0)
    assert host.identity(COMPONENT) is None
    host.start(COMPONENT)
    assert host.identity(COMPONENT) not in (None, before)


def test_it_lets_nobody_become_root(platform: Platform, socket: str) -> None:
    """Nothing is created, run or copied: each of these would be the machine."""
    api = docker.APIClient(base_url=socket, version="1.41")
    name = f"{platform.containers.env['GAMEDAY_PROJECT']}-{COMPONENT}-1"
    asked: tuple[Callable[[], object], ...] = (
        lambda: api.create_container("gameday-local", ["sh"]),
        lambda: api.exec_create(name, ["sh"]),
        lambda: api.get_archive(name, "/etc/passwd"),
        lambda: api.remove_container(name),
        lambda: api.update_container(name, mem_limit="1g"),
        lambda: api.images(),
        lambda: api.info(),
    )
    for ask in asked:
        with pytest.raises(APIError) as refused:
            ask()
        assert refused.value.status_code == 403

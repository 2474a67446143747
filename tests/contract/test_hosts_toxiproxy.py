"""The links of a real Toxiproxy server."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from compose.ports import free_ports
from compose.servers import toxiproxy
from compose.service import answers
from gameday.hosts.toxiproxy import Host
from gameday.polling import until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, toxiproxy.Link]]:
    """Its address, and the one link that it has."""
    folder = tmp_path_factory.mktemp("toxiproxy")
    toxiproxy.get(print)
    port, listen, upstream = free_ports(3)
    link = toxiproxy.Link("exchange-binance", listen, upstream)
    service = toxiproxy.process(folder, port, [link])
    log = Path(service.folder) / "log"
    with log.open("wb") as out, subprocess.Popen(service.argv, cwd=folder, stdout=out, stderr=out) as running:
        until(lambda: answers(service.ready, 1.0), within_s=10, what="toxiproxy")
        yield f"http://127.0.0.1:{port}", link
        running.terminate()


def post(url: str, body: object) -> None:
    """One order to Toxiproxy's own API."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(url, json.dumps(body).encode(), method="POST"), timeout=5):
        return


def test_links_tell_where_they_lead_and_what_was_done_to_them(server: tuple[str, toxiproxy.Link]) -> None:
    """A whole link, a slowed one, a cut one."""
    url, link = server
    state = {
        "listen": f"127.0.0.1:{link.listen}",
        "upstream": f"127.0.0.1:{link.upstream}",
        "enabled": True,
        "toxics": [],
    }
    host = Host(url)
    assert host.links() == {link.name: state}
    toxic = {"name": "slow", "type": "latency", "attributes": {"latency": 10}}
    post(f"{url}/proxies/{link.name}/toxics", toxic)
    assert [t["name"] for t in host.links()[link.name]["toxics"]] == ["slow"]
    post(f"{url}/reset", {})
    post(f"{url}/proxies/{link.name}", {"enabled": False})
    assert host.links() == {link.name: {**state, "enabled": False}}

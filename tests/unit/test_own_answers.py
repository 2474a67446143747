"""Whose answer a probe takes for the component's, where its host can tell who holds a port."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from gameday.errors import DriverError
from gameday.stack.live import open_stack
from gameday.stack.probes import OfItsOwn
from tests.fakes import write_config


@dataclass
class Everybody:
    """A server that answers whatever it is asked, and a host that tells who holds its port."""

    own: bool | None = True

    def read(self) -> Mapping[str, float]:
        return {"": 1.0}

    def holds(self, component: str, port: int) -> bool | None:
        assert (component, port) == ("web", 80)
        return self.own


def probe(server: Everybody) -> OfItsOwn:
    return OfItsOwn(server, server, "web", 80)


@pytest.mark.parametrize("later", [False, None], ids=["nobody of it", "somebody else"])
def test_a_stranger_s_answer_is_none(later: bool | None) -> None:
    """The component held its port; then it died, froze, or another took the port: whatever answers, it does not."""
    server = Everybody()
    asked = probe(server)
    assert asked.read() == {"": 1.0}
    server.own = later
    with pytest.raises(DriverError, match="who answers at port 80 is not web"):
        asked.read()
    server.own = True
    assert asked.read() == {"": 1.0}


def test_a_component_that_does_not_run_answers_nothing_from_the_first_look_on() -> None:
    """Whoever looks for the first time while a stranger is in its place."""
    with pytest.raises(DriverError, match="is not web"):
        probe(Everybody(own=False)).read()


def test_where_nobody_can_tell_every_answer_counts_and_that_is_known() -> None:
    """A proxy has held the port from the first look on."""
    server = Everybody(own=None)
    asked = probe(server)
    assert asked.read() == {"": 1.0}
    assert asked.known is False
    server.own = False
    assert asked.read() == {"": 1.0}


@pytest.mark.parametrize(
    ("settings", "port"),
    [
        ('driver = "http", url = "http://127.0.0.1:81/ping"', 81),
        ('driver = "kafka", address = "127.0.0.1:9092"', 9092),
        ('driver = "postgres", dsn = "postgresql://u:p@[::1]:5432/d"', 5432),
        ('driver = "http", url = "http://127.0.0.1/ping"', None),
    ],
)
def test_the_port_is_the_probe_s_own(tmp_path: Path, settings: str, port: int | None) -> None:
    """Of whatever key holds its address; one that names no port can't be looked for."""
    path = write_config(tmp_path, opted_in=("web",))
    with path.open("a") as config:
        config.write(f"[components.asked]\nprobes.it = {{ {settings} }}\n")
    spec = next(s for s in open_stack(path).probes() if s.series == "component/asked/it")
    assert getattr(spec.probe, "port", None) == port

"""A probe whose component is asked from inside when it can't be reached, and what its host can't do to a component."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gameday.errors import DriverError
from gameday.faults.stop import Stop
from gameday.stack.live import Stack, open_stack
from gameday.stack.probes import INSIDE_EVERY_S, ProbeSpec
from tests.fakes import MemoryHost, write_config


@dataclass
class Container(MemoryHost):
    """A host that can run commands, and says what it can't do."""

    asked: list[tuple[str, ...]] = field(default_factory=list)
    well: bool = True
    why: str | None = None

    def run(self, component: str, command: Sequence[str], timeout_s: float) -> None:
        self.asked.append((component, *command))
        if not self.well:
            raise DriverError("it ended with 1", definite=True)

    def cannot(self, component: str, need: type) -> str | None:
        return self.why


@dataclass
class Outside:
    """The probe's own way to the component."""

    open: bool = True

    def read(self) -> Mapping[str, float]:
        if not self.open:
            raise DriverError("connection refused", definite=True)
        return {"": 1.0}


@pytest.fixture
def host() -> Container:
    return Container()


@pytest.fixture
def stack(tmp_path: Path, host: Container) -> Stack:
    path = write_config(tmp_path)
    path.write_text(path.read_text().replace('path = "/" }', 'path = "/", inside = ["ask", "it"] }', 1))
    made = open_stack(path)
    made._hosts["local"] = host
    return made


@pytest.fixture
def probe(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Any:
    spec: ProbeSpec = next(s for s in stack.probes() if s.series == "component/web/health")
    spec.probe.probe = Outside()  # type: ignore[attr-defined]
    return spec.probe


def test_nobody_is_asked_inside_while_the_probe_answers(probe: Any, host: Container) -> None:
    """The component's own way comes first, and costs no command."""
    assert probe.read() == {"": 1.0}
    assert host.asked == []


def test_an_answer_from_inside_is_a_series_of_its_own(probe: Any, host: Container) -> None:
    """It never counts as the probe's answer: who is cut off serves nobody."""
    probe.probe.open = False
    assert probe.read() == {".inside": 1.0}
    assert host.asked == [("web", "ask", "it")]


def test_inside_is_asked_rarely(probe: Any, host: Container, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the probe's own rate: in between the reading has no answer; also after a command that failed."""
    now = [100.0]
    monkeypatch.setattr("gameday.stack.probes.time.monotonic", lambda: now[0])
    probe.probe.open = False
    host.well = False
    for _ in range(3):
        with pytest.raises(DriverError):
            probe.read()
    assert len(host.asked) == 1
    now[0] += INSIDE_EVERY_S
    host.well = True
    assert probe.read() == {".inside": 1.0}
    with pytest.raises(DriverError, match="connection refused"):
        probe.read()
    assert len(host.asked) == 2


def test_what_a_host_cannot_do_to_a_component_is_lacking(stack: Stack, host: Container) -> None:
    """In the host's own words, once, though the fault needs two things of it."""
    assert stack.lacks(Stop("web")) == []
    host.why = "web is not to be reached. Remedy: root"
    assert stack.lacks(Stop("web")) == ["web is not to be reached. Remedy: root"]

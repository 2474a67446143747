"""The look at a stack: everything is asked once and side by side, and what doesn't answer is said within its bound."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from gameday.model import Json
from gameday.stack.live import Stack, open_stack
from gameday.state import State
from tasks.survey import survey
from tests.contract.sockets import meeting, silent
from tests.fakes import TOY

PROBE_S = 1.0
PATIENT_S = 20.0
"""For who is waited for until all the others have asked: no machine is so busy that it takes as long."""

ROLES = ("web", "two", "three", "four", "five")

COMPONENT = """
[components.{role}]
opt_in = true
probes.health = {{ driver = "http", url = "http://127.0.0.1:{port}/", timeout_s = {timeout_s} }}
"""


def stack_at(folder: Path, port: int, timeout_s: float) -> Stack:
    """Five components and both ends of a stream behind one port, and a host whose supervisor is not there."""
    hops = {"tape": 'records = "m:f"', "clickhouse": 'kind = "once"\ntable = "t"'}
    text = TOY
    for driver, settings in hops.items():
        text = text.replace(f'driver = "{driver}"', f'driver = "{driver}"\nurl = "http://127.0.0.1:{port}"\n{settings}')
    text += f'[hosts.local]\nsocket = "{folder}/nobody.sock"\n'
    text += "".join(COMPONENT.format(role=role, port=port, timeout_s=timeout_s) for role in ROLES)
    path = folder / "gameday.toml"
    path.write_text(text)
    return open_stack(path, State(folder))


def test_a_look_asks_all_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So it takes as long as the slowest answer: the server lets go of nobody before all seven are there."""
    monkeypatch.setattr("gameday.drivers.tape.ASK_WITHIN_S", PATIENT_S)
    for bound in ("queries.CONNECT_WITHIN_S", "hop.HEADS_WITHIN_S"):
        monkeypatch.setattr(f"gameday.drivers.clickhouse.{bound}", PATIENT_S)
    with meeting(len(ROLES) + 2) as (port, met):
        stack = stack_at(tmp_path, port, PATIENT_S)
        assert all(stack.hops.values())  # their clients are imported before anybody waits for who is late
        survey(stack)
        assert met.is_set()


def test_who_says_nothing_is_named_with_its_time_out(tmp_path: Path) -> None:
    """Five components, both ends of the stream and the proxy accept and never say a word."""
    with silent() as port:
        seen = survey(stack_at(tmp_path, port, PROBE_S))
    assert not seen["well"]
    assert all("timed out" in component["answers"] for component in seen["components"])
    assert all("no supervisor answers" in component["runs"] for component in seen["components"])
    assert any(note.startswith("streams: ") for note in seen["notes"])
    assert [cause["name"] for cause in seen["diagnosis"]] == ["network"]


class Choosy:
    """A host that lets only `web` be touched."""

    def identity(self, component: str) -> Mapping[str, Json] | None:
        return None

    def cannot(self, component: str, need: type) -> str | None:
        return None if component == "web" else f"{component} has not opted in"


def test_what_a_host_does_not_let_be_broken_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though gameday.toml does: nothing would be done to it."""
    monkeypatch.setattr(Stack, "host", lambda self, role: Choosy())
    with silent() as port:
        told = (COMPONENT.format(role=role, port=port, timeout_s=0.2) for role in ("web", "two"))
        path = tmp_path / "gameday.toml"
        path.write_text("".join([TOY, f'[hosts.local]\nsocket = "{tmp_path}/nobody.sock"\n', *told]))
        seen = survey(open_stack(path, State(tmp_path)))
    may = {component["name"]: component["opt_in"] for component in seen["components"]}
    assert (may["web"], may["two"]) == (True, False)

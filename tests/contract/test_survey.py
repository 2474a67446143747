"""The look at a stack: everything is asked once and side by side, and what doesn't answer is said within its bound."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from gameday.model import Json
from gameday.stack.live import Stack, open_stack
from gameday.state import State
from tasks.survey import survey
from tests.contract.sockets import silent
from tests.fakes import TOY

PROBE_S = 1.0
SLACK_S = 0.9
"""For the rest of a busy machine. One after the other the silent ones would take five times as long."""

COMPONENT = """
[components.{role}]
opt_in = true
probes.health = {{ driver = "http", url = "http://127.0.0.1:{port}/", timeout_s = {timeout_s} }}
"""


def test_one_look_is_bounded_by_the_slowest_answer(tmp_path: Path) -> None:
    """Five components, both ends of the stream and the proxy accept and never say a word: each is named."""
    roles = ("web", "two", "three", "four", "five")
    with silent() as port:
        hops = {"tape": 'records = "m:f"', "clickhouse": 'kind = "once"\ntable = "t"'}
        text = TOY
        for driver, settings in hops.items():
            text = text.replace(
                f'driver = "{driver}"', f'driver = "{driver}"\nurl = "http://127.0.0.1:{port}"\n{settings}'
            )
        text += f'[hosts.local]\nsocket = "{tmp_path}/nobody.sock"\n'
        text += "".join(COMPONENT.format(role=role, port=port, timeout_s=PROBE_S) for role in roles)
        path = tmp_path / "gameday.toml"
        path.write_text(text)
        stack = open_stack(path, State(tmp_path))
        began_s = time.monotonic()
        seen = survey(stack)
        took_s = time.monotonic() - began_s
    assert took_s < PROBE_S + SLACK_S
    assert not seen["well"]
    assert all("timed out" in component["answers"] for component in seen["components"])
    assert all("no supervisor answers" in component["runs"] for component in seen["components"])
    assert any(note.startswith("streams: ") for note in seen["notes"])


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

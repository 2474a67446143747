"""The look at a stack: everything is asked once and side by side, and what doesn't answer is said within its bound."""

from __future__ import annotations

import time
from pathlib import Path

from gameday.stack.live import open_stack
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

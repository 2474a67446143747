"""What `check` and `status` print for people: one row a test, keys of gameday.toml, and nothing swallowed."""

from __future__ import annotations

import io
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from rich.console import Console

from flows import definitions
from gameday.cli import looking, shared
from gameday.errors import GamedayError, NotUp
from gameday.reports.found import down, found
from gameday.stack import registry
from gameday.stack.live import Stack
from gameday.stack.reading import load
from gameday.state import State
from tasks.look import look
from tasks.survey import requirements


def printed(rows: list[dict[str, Any]]) -> list[str]:
    """The table's lines, as a pipe gets them."""
    text = io.StringIO()
    Console(file=text, width=200, highlight=False, markup=False).print(found(rows))
    return [line.rstrip() for line in text.getvalue().splitlines()]


def test_a_test_is_one_row_with_its_parameter_sets_in_it() -> None:
    """Those of one outcome together; where some can run, it says how many. What none of several tests can judge is said
    once, and not of a test that can't run."""
    rows = [
        {"what": "test crash", "ok": True, "note": "component=a: can run"},
        {"what": "test crash", "ok": True, "note": "component=b, how=kill: can run"},
        {"what": "test crash", "ok": False, "note": "component=c: c has not opted in"},
        {"what": "checks of crash", "ok": True, "note": "can't be judged here: order"},
        {"what": "test export", "ok": False, "note": ": the stack has no [archive]"},
        {"what": "checks of export", "ok": True, "note": "can't be judged here: order"},
        {"what": "test hang", "ok": True, "note": "component=a: can run"},
        {"what": "checks of hang", "ok": True, "note": "can't be judged here: order"},
        {"what": "look at log", "ok": True, "note": "10 records"},
    ]
    head, first, second, third, hang, look_, last = printed(rows)
    assert head.split() == ["what", "found", "note"]
    assert first.startswith("test crash")
    assert "2 of 3" in first
    assert first.endswith("component=a | component=b, how=kill: can run")
    assert second.strip() == "component=c: c has not opted in"
    assert third.startswith("test export")
    assert third.endswith("the stack has no [archive]")
    assert hang.startswith("test hang")
    assert look_.startswith("look at log")
    assert last.split(None, 1) == ["checks", "of crash, hang: can't be judged here: order"]


def test_rows_have_the_names_that_their_keys_have_in_gameday_toml() -> None:
    """So that one knows where to mend them."""
    rows = [
        {"what": f"{kind} x", "ok": True, "note": ""}
        for kind in ("component", "hop", "cursor", "stop", "channel", "host")
    ]
    whats = [line.split()[0] for line in printed(rows)[1:]]
    assert whats == ["components.x", "hops.x", "cursors.x", "stops.x", "channels.x", "hosts.x"]


@pytest.mark.parametrize("text", ["[archive]", "[red]x[/red]", ":warning:", "[/]", "a\\[b]"])
def test_no_text_is_taken_for_markup_anywhere(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In no table and no line of any command, whatever a server or a file says."""
    seen = io.StringIO()
    for console in (shared.out, shared.err):
        monkeypatch.setattr(console, "_file", seen)  # `file` would stay what it was here
    components = [{"name": text, "runs": text, "answers": text, "ok": False, "opt_in": True}]
    streams = [{"stream": "s", "group": text, "ledger": 1, "visible": 1, "behind": 0}]
    links = [{"name": text, "trouble": text}]
    cause = {"name": text, "cause": text, "seen": text, "step": text, "runbook": text}
    looking._print_status(
        {"components": components, "streams": streams, "links": links, "notes": [text], "diagnosis": [cause]}
    )
    assert seen.getvalue().count(text) == 11
    shared.out.print(found([{"what": text, "ok": False, "note": text}]))
    shared.say(text)
    shared.explain(NotUp(text))
    assert seen.getvalue().count(text) == 15


def test_no_text_steers_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """In no line of any command, such as what a server of something else answers to `gameday init`."""
    seen = io.StringIO()
    for console in (shared.out, shared.err):
        monkeypatch.setattr(console, "_file", seen)
    shared.say("a\x1b[2Jb")
    shared.explain(NotUp("c\x1b]0;d\x07e"))
    assert "a[2Jb" in seen.getvalue()
    assert "\x1b" not in seen.getvalue()
    assert "\x07" not in seen.getvalue()


def seen_down(**changes: Any) -> dict[str, Any]:
    one = {"name": "broker", "runs": "no", "answers": "protocol: refused", "ok": False, "opt_in": True}
    other = {**one, "name": "store"}
    return {
        "stack": "shop",
        "components": [one, {**other, **changes}],
        "notes": ["no run holds the stack", "open: kill of a"],
    }


def test_a_stack_that_is_down_is_one_line_with_what_is_open() -> None:
    """One that answers, or runs and doesn't answer, is shown as it is."""
    assert down(seen_down()) == (
        "stack shop is down: none of its 2 components runs or answers (broker: protocol: refused); open: kill of a"
    )
    assert down(seen_down(ok=True)) is None
    told = down({**seen_down(), "components": [{**seen_down()["components"][0], "runs": "unknown: no x. Remedy: y"}]})
    assert (
        told
        == "stack shop is down: its one component neither runs nor answers (broker: unknown: no x); open: kill of a"
    )
    assert down(seen_down(runs="pid 7 for 3 s")) is None


def test_all_names_without_a_value_are_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the keys that need them, and what to export."""
    path = tmp_path / "gameday.toml"
    path.write_text(
        'name = "x"\nhistory = "postgresql://${A}@h/d"\n[prefect]\napi_url = "${B}"\n[hops.l]\nurl = "${A}"'
    )
    with pytest.raises(NotUp) as told:
        load(path, State(tmp_path))
    assert str(told.value) == (
        f"{path}: history needs ${{A}}, prefect.api_url needs ${{B}}, which are not set. Remedy: gameday up (embedded "
        "stack), or export A=… B=…"
    )


def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stack:
    """A stack of which a host, a hop, a cursor, a stop and a probe need a package that is not there."""
    path = tmp_path / "gameday.toml"
    path.write_text(
        """
name = "x"
history = "postgresql://127.0.0.1:1/none"
prefect.api_url = "http://127.0.0.1:1/api"
hosts.docker = {}
cursors.c = { driver = "kafka", brokers = "b:1", group = "g", topics = ["t"] }
stops.s = { driver = "kafka.Lag", max = 1, brokers = "b:1", group = "g", topics = ["t"] }
[components.web]
host = "docker"
probes.protocol = { driver = "kafka", address = "b:1" }
[components.other]
host = "docker"
probes.disk = { driver = "disk", path = "/" }
[streams.r]
key = ["id"]
time = "at"
fields = { at = "time" }
hops = ["log", "sink"]
visible = "sink"
path = ["web"]
[hops.log]
driver = "kafka"
brokers = "b:1"
topics = ["t"]
[hops.sink]
driver = "clickhouse"
url = "http://127.0.0.1:1"
table = "t"
kind = "once"
"""
    )
    importing = registry._module

    def module(kind: str, name: str) -> ModuleType:
        if name in ("docker", "kafka"):
            raise GamedayError(f"gameday/{kind}/{name}.py needs the package 'x'. Remedy: pip install x")
        return importing(kind, name)

    monkeypatch.setattr(registry, "_module", module)
    return Stack(load(path, State(tmp_path)), State(tmp_path), path)


def test_what_can_t_be_made_is_a_row_and_not_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them, in one look; what can be asked is asked all the same."""
    stack = broken(tmp_path, monkeypatch)
    rows = {row["what"]: row for row in requirements(stack, definitions())}
    for what in ("host docker", "hop log", "cursor c", "stop s", "component web"):
        assert not rows[what]["ok"], what
        assert "needs the package 'x'. Remedy: pip install x" in rows[what]["note"], what
    assert "ClickHouse at 127.0.0.1:1" in rows["hop sink"]["note"]
    assert rows["component other"]["ok"]
    looks = look(stack)
    assert [(row["what"], row["ok"]) for row in looks] == [("look at log", False), ("look at sink", False)]
    assert "needs the package" in looks[0]["note"]

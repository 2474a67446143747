"""When people are told, from the steps of a run and from its night, over real channels: once, at once, or not."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gameday import codec
from gameday.faults.stop import Stop
from gameday.model import Evidence, RunResult, Verdict
from gameday.plan import FailureTest, Heal, Inject
from gameday.run import Run
from gameday.stack.live import Stack, open_stack
from gameday.state import State
from gameday.telling import courier, messages
from tasks import telling
from tasks.announce import announce
from tasks.night import Night
from tasks.notify import notify
from tasks.survey import requirements, survey
from tests.contract.chat import Chat, hanging
from tests.contract.sockets import nobody
from tests.fakes import Supervisor, write_config
from tests.unit.test_messages import FAILED, PASSED, PLACES

TOKEN = "xoxb-this-must-be-nowhere"
TEST = FailureTest(plan=(Inject(Stop("broker")), Heal()), mttr_max_s=60, checks=())
NIGHT = "20260101T020000-night-0000"

CHANNELS = """
[channels.ops]
driver = "slack"
token = "{token}"
channel = "C0123"
base_url = "{url}/api"
[channels.pager]
driver = "pagerduty"
routing_key = "{token}"
base_url = "{url}"
[public]
reports_url = "https://reports.example/nights"
runbooks_url = "https://reports.example/runbooks/"
"""


@pytest.fixture
def chat(monkeypatch: pytest.MonkeyPatch) -> Iterator[Chat]:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    with Chat(TOKEN) as serving:
        yield serving


@pytest.fixture
def stack(tmp_path: Path, chat: Chat) -> Stack:
    path = write_config(tmp_path)
    path.write_text(path.read_text() + CHANNELS.format(url=chat.url, token=TOKEN))
    return open_stack(path, State(tmp_path))


class Told:
    """A run as its steps see it, and what it said."""

    def __init__(self, stack: Stack, **more: Any) -> None:
        self.said: list[str] = []
        run: Any = Run(stack, "broker_restart", {}, TEST, NIGHT, self.said.append)
        for name, value in more.items():
            setattr(run, name, value)
        self.run = run


def slack(chat: Chat) -> list[str]:
    return [body["text"] for path, body in chat.taken if path == "/api/chat.postMessage"]


def pager(chat: Chat) -> list[tuple[str, str]]:
    return [(body["event_action"], body["dedup_key"]) for path, body in chat.taken if path == "/v2/enqueue"]


def test_a_night_is_announced_once(stack: Stack, chat: Chat) -> None:
    """By its first run that gets so far, with all that is still to come."""
    for _ in range(2):
        announce.fn(Told(stack, ahead=[("broker_restart", TEST), ("clickhouse_restart", TEST)]).run)
    (text,) = slack(chat)
    assert text == "toy will be broken on purpose: 2 failure tests begin now."
    shown = json.dumps(chat.taken[0][1]["blocks"])
    assert "clickhouse_restart: stop of broker" in shown
    assert "gameday abort" in shown


def test_a_fail_is_told_at_once_and_the_like_of_it_not_again(stack: Stack, chat: Chat) -> None:
    """Slack hears of it once; each test with its parameters has an incident of its own."""
    told = Told(stack)
    notify.fn(told.run, replace(FAILED, night=NIGHT))
    notify.fn(told.run, replace(FAILED, night=NIGHT, id="run-9", params={"how": "graceful"}))
    assert len(slack(chat)) == 1
    assert [action for action, _ in pager(chat)] == ["trigger", "trigger"]
    assert len({key for _, key in pager(chat)}) == 2
    assert "https://reports.example/nights/20260101T020000-night-0000/report.html" in json.dumps(chat.taken)
    assert "https://reports.example/runbooks/broker_restart.md" in json.dumps(chat.taken)


def test_telling_a_second_time_after_a_prefect_that_was_away_tells_nobody_twice(stack: Stack, chat: Chat) -> None:
    """The interpreter runs the step again by itself then."""
    told = Told(stack)
    for _ in range(2):
        notify.fn(told.run, replace(FAILED, night=NIGHT))
    assert len(slack(chat)) == len(pager(chat)) == 1


def test_a_pass_quiets_the_pager_and_nobody_else(stack: Stack, chat: Chat) -> None:
    """People read of it in the night's message."""
    notify.fn(Told(stack).run, replace(PASSED, night=NIGHT))
    assert slack(chat) == []
    assert [action for action, _ in pager(chat)] == ["resolve"]


def test_a_night_whose_checks_missed_a_planted_fault_wakes_and_quiets_nobody(stack: Stack, chat: Chat) -> None:
    """Its verdicts mean nothing."""
    for result in (FAILED, PASSED):
        notify.fn(Told(stack, trusted=False).run, replace(result, night=NIGHT))
    assert chat.taken == []


def test_a_chat_that_hangs_delays_a_run_by_its_bound_alone(
    stack: Stack, chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the step returns as if nothing were: it is said, and kept."""
    monkeypatch.setattr(telling.tell, "__defaults__", (2.0,))
    chat.always = hanging(chat.over)
    told = Told(stack)
    began = time.monotonic()
    notify.fn(told.run, replace(FAILED, night=NIGHT))
    assert time.monotonic() - began < 4.0
    assert sum("not delivered, and tried again at the next run" in line for line in told.said) == 2
    assert all(parcel.pending for parcel in courier.parcels(stack.state))


def test_what_nobody_foresaw_in_a_channel_is_said_and_ends_nothing(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the error only its kind: it may quote a secret."""

    def broken(*_: object) -> None:
        raise RuntimeError(TOKEN)

    monkeypatch.setattr(courier.Courier, "post", broken)
    told = Told(stack)
    notify.fn(told.run, replace(FAILED, night=NIGHT))
    assert told.said[-1] == "nobody was told: RuntimeError"
    assert TOKEN not in "".join(told.said)


# ---- the night's end ---------------------------------------------------------------------------------------


@pytest.fixture
def ended(stack: Stack) -> Night:
    """A night of one pass and one fail, as its runs have left it."""
    results = [replace(FAILED, night=NIGHT), replace(PASSED, night=NIGHT)]
    for result in results:
        leave(stack, result)
    return Night(NIGHT, results=results)


def leave(stack: Stack, result: RunResult) -> None:
    codec.save_evidence(stack.state.run(result.id), Evidence(result.test, result.params, result.stack))


def test_a_night_ends_with_one_message_and_its_runs_in_the_thread(stack: Stack, chat: Chat, ended: Night) -> None:
    """After its report is written: the link leads somewhere."""
    ended.close(stack)
    root, *replies = [body for path, body in chat.taken if path == "/api/chat.postMessage"]
    assert root["text"] == "FAIL: a night of toy: 1 fail, 1 pass"
    assert [reply["thread_ts"] for reply in replies] == ["1700000000.000000"] * 2
    assert (stack.state.night(NIGHT) / "report.html").exists()


def test_a_lone_run_that_was_told_at_once_is_not_told_twice(stack: Stack, chat: Chat) -> None:
    """Its fail was the night's message."""
    alone = replace(FAILED, night=NIGHT)
    leave(stack, alone)
    notify.fn(Told(stack).run, alone)
    Night(NIGHT, results=[alone]).close(stack)
    assert len(slack(chat)) == 1


def test_what_was_not_delivered_is_in_the_report_and_changes_no_verdict(
    stack: Stack, chat: Chat, ended: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a finding that is shown and never merged; the next night delivers it."""
    monkeypatch.setattr(telling, "NIGHT_DELIVER_S", 1.0)
    ended.results = [r for r in ended.results if r.verdict is Verdict.PASS]
    chat.always = hanging(chat.over)
    ended.close(stack)
    written = json.loads((stack.state.night(NIGHT) / "results.json").read_text())
    (finding,) = written["findings"]
    assert (finding["check"], finding["verdict"]) == ("channels", "skipped")
    assert "channel ops: 2 messages not delivered" in finding["why"]
    assert ended.verdict is Verdict.PASS
    assert "not delivered" in (stack.state.night(NIGHT) / "report.html").read_text()
    chat.always = None
    notify.fn(Told(stack, night="20260102T020000-night-0000").run, replace(PASSED, night="20260102T020000-night-0000"))
    assert slack(chat)[0].startswith("PASS: toy")


def test_a_stack_without_channels_tells_nobody_and_leaves_no_outbox(tmp_path: Path) -> None:
    """Nothing is configured, nothing happens."""
    stack = open_stack(write_config(tmp_path), State(tmp_path))
    told = Told(stack)
    announce.fn(told.run)
    notify.fn(told.run, FAILED)
    assert not (tmp_path / "outbox").exists()
    assert len(told.said) == 1


def test_status_shows_what_was_not_delivered(tmp_path: Path) -> None:
    """Beside what else is open; it doesn't make the stack unwell. check says that the settings are complete."""
    with Supervisor(tmp_path) as supervisor, nobody() as port:
        path = supervisor.stack.path
        away = f'url = "http://127.0.0.1:{port}"'
        hops = {"tape": f'{away}\nrecords = "m:f"', "clickhouse": f'{away}\nkind = "once"\ntable = "t"'}
        text = path.read_text() + CHANNELS.format(url=f"http://127.0.0.1:{port}", token=TOKEN)
        for driver, settings in hops.items():
            text = text.replace(f'driver = "{driver}"', f'driver = "{driver}"\n{settings}')
        path.write_text(text)
        stack = open_stack(path, State(tmp_path))
        assert not any("channel" in note for note in survey(stack)["notes"])
        telling.tell(
            stack, print, NIGHT, lambda _: [messages.night(NIGHT, "toy", [PASSED], (), PLACES, telling.now())], 0.5
        )
        (note,) = [note for note in survey(stack)["notes"] if "channel" in note]
        assert note.startswith("channel ops: 1 message not delivered")
        rows = {row["what"]: row for row in requirements(stack, {})}
    assert rows["channel ops"] == {
        "what": "channel ops", "ok": True, "note": "slack: its settings are complete; nothing was sent",
    }  # fmt: skip


def test_where_the_rest_stands(stack: Stack) -> None:
    """Addresses where the configuration has them, else paths."""
    places = telling.places(stack, "n", "broker_restart")
    assert places.report == "https://reports.example/nights/n/report.html"
    config = stack.config.model_copy(update={"public": type(stack.config.public)()})
    bare = SimpleNamespace(config=config, state=stack.state, runbooks_shown=stack.runbooks_shown)
    found = telling.places(bare, "n", "broker_restart")  # type: ignore[arg-type]
    assert found.report == str(stack.state.night("n") / "report.html")
    assert found.runbook == "runbooks/trades/broker_restart.md"
    assert found.prefect is None
